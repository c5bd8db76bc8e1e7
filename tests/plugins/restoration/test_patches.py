"""Polynomial patches against np.polynomial, np.linalg.lstsq and a plain loop over patches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import _patches

from .reference import device

degrees = st.integers(0, 4)


def powers(degree):
    """The exponents of u and v, in the order of the basis."""
    return [(total - j, j) for total in range(degree + 1) for j in range(total + 1)]


@verifies(_patches.monomials)
@given(points=reals((2, 7), -1.0, 1.0), degree=degrees)
def test_the_basis_is_numpy_s_of_total_degree(points, degree):
    u, v = points
    everything = np.polynomial.polynomial.polyvander2d(u, v, [degree, degree]).reshape(7, degree + 1, degree + 1)
    expected = np.stack([everything[:, i, j] for i, j in powers(degree)], axis=1)
    assert expected.shape[1] == (degree + 1) * (degree + 2) // 2
    close(_patches.monomials(device(u), device(v), degree), expected, rtol=1e-9, atol=1e-12)


@verifies(_patches.ridge_fit)
@given(
    basis=reals((12, 4)), values=reals((3, 12, 2)), weights=reals((3, 12), 0.0, 2.0),
    ridge=st.lists(st.floats(1e-4, 10), min_size=3, max_size=3),
)  # fmt: skip
def test_the_fit_is_that_of_lstsq_with_a_row_for_each_penalty(basis, values, weights, ridge):
    found = host(
        _patches.ridge_fit(device(basis), device(values), device(weights), device(np.reshape(ridge, (3, 1, 1))))
    )
    for k in range(3):
        root = np.sqrt(weights[k])[:, None]
        rows = np.vstack([root * basis, np.sqrt(ridge[k]) * np.eye(4)])
        close(found[k], np.linalg.lstsq(rows, np.vstack([root * values[k], np.zeros((4, 2))]))[0], rtol=1e-7, atol=1e-9)
        residual = values[k] - basis @ found[k]  # the normal equations
        close(basis.T @ (weights[k][:, None] * residual), ridge[k] * found[k], rtol=1e-6, atol=1e-8)


@verifies(_patches.ridge_fit)
@given(basis=reals((3, 5)), values=reals((1, 3, 2)))
def test_a_great_ridge_gives_zero_and_a_small_one_the_least_norm(basis, values):
    ones = device(np.ones((1, 3)))
    close(_patches.ridge_fit(device(basis), device(values), ones, 1e12), np.zeros((1, 5, 2)), atol=1e-9)
    least = np.linalg.pinv(basis) @ values[0]
    smallest = np.linalg.svd(basis, compute_uv=False)[-1]
    # of a fit with ridge μ, the part along a singular value s is s² / (s² + μ) of the whole
    bound = 1e-9 / (smallest**2 + 1e-9) * np.linalg.norm(least, 2) * 10 + 1e-5
    close(_patches.ridge_fit(device(basis), device(values), ones, 1e-9)[0], least, rtol=0, atol=bound)


@verifies(_patches.blending_window)
@given(half=st.integers(1, 20))
def test_windows_half_a_size_apart_weigh_one_together_and_are_scipy_s(half):
    from tinygen import backend

    window = host(_patches.blending_window(backend.current().xp, 2 * half))
    quarters = window[:half, :half] + window[half:, :half] + window[:half, half:] + window[half:, half:]
    close(quarters, np.ones((half, half)), rtol=1e-12)
    angles = 2 * np.pi * (np.arange(2 * half) + 0.5) / (2 * half)
    close(window, np.outer((1 - np.cos(angles)) / 2, (1 - np.cos(angles)) / 2), rtol=1e-9, atol=1e-12)


def by_loop(image, known, size, degree):
    """The blend of one size of patches, one patch after the other; NaN where no patch could be used."""
    channels, height, width = image.shape
    step = size // 2
    along = (np.arange(size) + 0.5) / step - 1
    basis = np.stack([np.outer(along**j, along**i).ravel() for i, j in powers(degree)], axis=1)
    rise = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    window = np.outer(rise, rise)
    total, weight = np.zeros(image.shape), np.zeros((height, width))
    for top in range(-step, height, step):
        for left in range(-step, width, step):
            places = [
                (y, x)
                for y in range(max(0, top), min(height, top + size))
                for x in range(max(0, left), min(width, left + size))
            ]
            told = [(y, x) for y, x in places if known[y, x]]
            if not places or len(told) < max(1, basis.shape[1]):
                continue
            w = np.array([window[y - top, x - left] for y, x in told])
            v = basis[[(y - top) * size + x - left for y, x in told]]
            values = np.array([image[:, y, x] for y, x in told])
            level = np.average(values, axis=0, weights=w)
            root, mu = np.sqrt(w)[:, None], _patches.RIDGE * w.sum()
            rows = np.vstack([root * v, np.sqrt(mu) * np.eye(basis.shape[1])])
            right = np.vstack([root * (values - level), np.zeros((basis.shape[1], channels))])
            c = np.linalg.lstsq(rows, right)[0]
            surface = basis @ c + level
            for y, x in places:
                omega = window[y - top, x - left]
                total[:, y, x] += omega * surface[(y - top) * size + x - left]
                weight[y, x] += omega
    with np.errstate(invalid="ignore"):
        return np.where(weight > 1e-3, total / weight, np.nan)


@verifies(_patches.polynomial_fill)
@settings(max_examples=20)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(7, 15), st.integers(7, 15)), half=st.integers(2, 3),
    degree=st.integers(0, 2), seed=seeds(),
)  # fmt: skip
def test_the_fill_is_that_of_a_loop_over_the_patches(shape, half, degree, seed):
    random = np.random.default_rng(seed)
    image, known = random.random(shape), random.random(shape[1:]) < 0.6
    known[0, 0] = True
    expected = by_loop(image, known, 2 * half, degree)
    found = host(_patches.polynomial_fill(device(np.where(known, image, np.nan)), device(known), 2 * half, degree))
    assert np.isfinite(found).all()
    reached = np.isfinite(expected)
    close(found[reached], expected[reached], rtol=1e-6, atol=1e-7)


@verifies(_patches.polynomial_fill)
@settings(max_examples=15)
@given(coefficients=reals((10,), -0.3, 0.3), size=st.sampled_from([0, 8, 12]), seed=seeds())
def test_a_polynomial_comes_back_from_some_of_its_pixels(coefficients, size, seed):
    v, u = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 30), indexing="ij")
    surface = sum(c * u**i * v**j for c, (i, j) in zip(coefficients[:6], powers(2)))[None]
    known = np.random.default_rng(seed).random((24, 30)) < 0.6
    found = host(_patches.polynomial_fill(device(surface), device(known), size, 2, 1e-10))
    close(found, surface, rtol=0, atol=1e-5)


@pytest.mark.parametrize("known", ["one", "a line", "a corner"])
def test_few_known_pixels_are_enough_for_something_finite(known):
    mask = np.zeros((20, 26), bool)
    {"one": mask[3:4, 5:6], "a line": mask[4], "a corner": mask[:4, :4]}[known][...] = True
    image = np.random.default_rng(0).random((3, 20, 26))
    found = host(_patches.polynomial_fill(device(image), device(mask), 6, 2))
    assert np.isfinite(found).all() and found.shape == image.shape
