"""Derivatives, their adjoint and their matrix against np.diff; the noise of an image against the noise put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import backend
from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import _operators

from .reference import device, differences, matrix

orders = st.sampled_from([1, 2])
sizes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
images = sizes.flatmap(reals)


@verifies(_operators.derivatives)
@given(image=images, order=orders)
def test_derivatives_are_differences_and_zero_where_there_are_none(image, order):
    field = host(_operators.derivatives(device(image), order))
    expected = np.zeros((order + 1, *image.shape))
    for part, difference in zip(expected, differences(image, order)):
        part[:, : difference.shape[1], : difference.shape[2]] = difference
    close(field, expected)


@verifies(_operators.derivatives)
@given(slope=reals((2, 1, 1)), height=st.integers(1, 7), width=st.integers(1, 7))
def test_a_constant_has_no_slope_and_a_ramp_no_bend(slope, height, width):
    y, x = np.mgrid[:height, :width]
    ramp = (slope[0] * x + slope[1] * y)[None] + 0.3
    close(_operators.derivatives(device(ramp), 2), np.zeros((3, 1, height, width)), atol=1e-12)
    close(_operators.derivatives(device(np.full((1, height, width), 0.7)), 1), np.zeros((2, 1, height, width)))


@verifies(_operators.adjoint)
@given(image=images, order=orders, seed=seeds())
def test_the_adjoint_is_the_transposed_matrix(image, order, seed):
    channels, height, width = image.shape
    dense = matrix(height, width, order)
    field = np.zeros((order + 1, *image.shape))
    drawn = [np.random.default_rng(seed).normal(size=part.shape) for part in differences(image, order)]
    for part, values in zip(field, drawn):
        part[:, : values.shape[1], : values.shape[2]] = values
    flat = np.concatenate([values.reshape(channels, -1) for values in drawn], axis=1)
    close(_operators.adjoint(device(field), order), (flat @ dense).reshape(image.shape), rtol=1e-9, atol=1e-11)


@verifies(_operators.squared_derivatives)
@given(height=st.integers(1, 6), width=st.integers(1, 6), order=orders, seed=seeds())
def test_the_matrix_is_the_product_of_the_dense_ones(height, width, order, seed):
    kept = np.random.default_rng(seed).random((height, width)) < 0.7
    kept[0, 0] = True
    rows, columns, values = (host(a) for a in _operators.squared_derivatives(device(kept), order))
    count = int(kept.sum())
    found = np.zeros((count, count))
    np.add.at(found, (rows, columns), values)
    dense = matrix(height, width, order)
    close(found, (dense.T @ dense)[np.ix_(kept.ravel(), kept.ravel())], rtol=1e-9, atol=1e-11)


@given(image=images, order=orders)
def test_no_image_has_longer_derivatives_than_the_norm_allows(image, order):
    length = np.linalg.norm(host(_operators.derivatives(device(image), order)))
    assert length <= _operators.NORM[order] * np.linalg.norm(image) + 1e-12
    checks = (-1.0) ** np.add.outer(np.arange(16), np.arange(16))[None]  # nearly attained by a chessboard
    length = np.linalg.norm(host(_operators.derivatives(device(checks), order)))
    assert length > 0.9 * _operators.NORM[order] * np.linalg.norm(checks)


@verifies(_operators.noise_level)
@settings(max_examples=10)
@given(sigma=st.floats(0.01, 0.3), slope=reals((2,), -0.01, 0.01), seed=seeds(), odd=st.booleans())
def test_noise_on_a_ramp_is_told_within_three_hundredths(sigma, slope, seed, odd):
    y, x = np.mgrid[: 120 + odd, : 110 + odd]
    ramp = (slope[0] * x + slope[1] * y)[None].repeat(3, axis=0)
    noisy = ramp + sigma * np.random.default_rng(seed).normal(size=ramp.shape)
    # a median of 9,900 normal lengths: its standard error is 1.17 σ / √9,900
    close(_operators.noise_level(device(noisy)), np.asarray(sigma), rtol=6 * 1.17 / np.sqrt(9900))


@pytest.mark.parametrize("order", [1, 2])
def test_float32_stays_float32(order):
    image = device(np.ones((1, 4, 5), "float32"))
    field = _operators.derivatives(image, order)
    assert field.dtype == _operators.adjoint(field, order).dtype == np.float32
    assert backend.of(image).to_host(_operators.noise_level(image)).dtype == np.float32
