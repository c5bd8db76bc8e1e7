"""Filters, edges, texture and colour, against SciPy and counting by hand."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from tinygen import backend as backends
from tinygen.data import features
from tinygen.testing import close, host
from tinygen.testing.strategies import pairs, reals, seeds


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """The fixture `backend` of the pytest plugin, without asking for it in each test."""


def device(array):
    return backends.current().from_host(np.asarray(array))


def images(low=1, high=8):
    return pairs(low, high).flatmap(lambda size: reals((2, *size), 0.0, 1.0))


# ---------------------------------------------------------------- filters


@given(image=images(), sigma=st.floats(0.2, 3.0), truncate=st.sampled_from([4.0, 2.5]))
def test_the_gaussian_filter_is_scipy_s(image, sigma, truncate):
    expected = [ndimage.gaussian_filter(plane, sigma, truncate=truncate) for plane in image]
    close(features.gaussian(device(image), sigma, truncate), np.array(expected), atol=1e-12)


@given(image=images())
def test_sobel_and_laplace_are_scipy_s(image):
    x = device(image)
    right, down = (np.array([ndimage.sobel(plane, axis) for plane in image]) for axis in (1, 0))
    slope_x, slope_y = features.sobel(x)
    close(slope_x, right, atol=1e-12)
    close(slope_y, down, atol=1e-12)
    close(features.sobel_magnitude(x), np.sqrt(right**2 + down**2), atol=1e-12)
    close(features.laplacian(x), np.array([ndimage.laplace(plane) for plane in image]), atol=1e-12)


@given(slopes=reals((3,)))
def test_a_ramp_has_constant_slopes_no_curvature_and_is_not_blurred(slopes):
    y, x = np.indices((24, 24))
    ramp = device(slopes[0] * x + slopes[1] * y + slopes[2])
    inside = (slice(10, 14), slice(10, 14))
    for result, expected in (
        (features.sobel(ramp)[0], np.full((4, 4), 8 * slopes[0])),
        (features.sobel(ramp)[1], np.full((4, 4), 8 * slopes[1])),
        (features.laplacian(ramp), np.zeros((4, 4))),
        (features.gaussian(ramp, 2.0), host(ramp)[inside]),
    ):
        close(host(result)[inside], expected, atol=1e-10)


@given(image=images(), sigma=st.floats(0.3, 3.0))
def test_a_blur_keeps_the_mean(image, sigma):
    # The mirrored edges lose nothing and add nothing.
    blurred = host(features.gaussian(device(image), sigma))
    close(blurred.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-9)


# ---------------------------------------------------------------- edges


def scipy_canny(image, sigma, low, high):
    """Canny's edges, pixel by pixel and with SciPy's labels."""
    blurred = ndimage.gaussian_filter(image, sigma)
    slope = ndimage.sobel(blurred, 1) + 1j * ndimage.sobel(blurred, 0)
    strength = np.abs(slope) / 4
    ridge = np.zeros(image.shape, bool)
    for j, i in itertools.product(range(1, image.shape[0] - 1), range(1, image.shape[1] - 1)):
        eighth = (
            round(math.degrees(np.angle(slope[j, i])) / 45) % 4
        )  # 0 right, 1 right and down, 2 down, 3 left and down
        down, right = ((0, 1), (1, 1), (1, 0), (1, -1))[eighth]
        ridge[j, i] = strength[j - down, i - right] < strength[j, i] >= strength[j + down, i + right]
    names, _ = ndimage.label(ridge & (strength >= low), np.ones((3, 3)))
    return ridge & (strength >= low) & np.isin(names, np.unique(names[ridge & (strength >= high)]))


@settings(max_examples=15)
@given(seed=seeds(), sigma=st.sampled_from([0.7, 1.0, 2.0]), low=st.floats(0.02, 0.2), more=st.floats(0, 0.2))
def test_canny_s_edges_are_those_found_pixel_by_pixel(seed, sigma, low, more):
    image = ndimage.gaussian_filter(np.random.default_rng(seed).random((24, 31)), 1.0) * 3
    edges = host(features.canny(device(image), sigma, low, low + more))
    assert edges.dtype == bool
    assert np.array_equal(edges, scipy_canny(image, sigma, low, low + more))


def test_a_disc_has_a_closed_edge_where_it_ends():
    y, x = np.indices((64, 64)) - 31.5
    disc = np.clip(20.5 - np.hypot(x, y), 0, 1)
    edges = host(features.canny(device(disc)))
    radius = np.hypot(x, y)[edges]
    assert radius.min() > 19 and radius.max() < 21.5
    assert ndimage.label(edges, np.ones((3, 3)))[1] == 1
    assert ndimage.label(~edges)[1] == 2  # within and without


@given(height=st.floats(0.05, 1.0))
def test_a_step_is_found_once_if_it_is_high_enough(height):
    step = np.zeros((12, 16))
    step[:, 8:] = height
    edges = host(features.canny(device(step), sigma=0.5, low=0.2, high=0.4))
    strength = features.sobel_magnitude(features.gaussian(device(step), 0.5))
    assert edges[1:-1].sum(axis=1).tolist() == [int(host(strength).max() / 4 >= 0.4)] * 10


# ---------------------------------------------------------------- texture

offsets = st.tuples(st.integers(-2, 2), st.integers(-2, 2))


@given(image=pairs(3, 7).flatmap(lambda size: reals(size, 0.0, 1.0)), offset=offsets, levels=st.integers(1, 6))
def test_the_co_occurrence_matrix_is_that_of_counting_pairs(image, offset, levels):
    pairs_of_levels = np.zeros((levels, levels))
    for j, i in np.ndindex(image.shape):
        other = j + offset[0], i + offset[1]
        if 0 <= other[0] < image.shape[0] and 0 <= other[1] < image.shape[1]:
            a, b = (min(int(image[p] * levels), levels - 1) for p in ((j, i), other))
            pairs_of_levels[a, b] += 1
    expected = pairs_of_levels / pairs_of_levels.sum()
    close(features.co_occurrence(device(image), offset, levels), expected)
    both = host(features.co_occurrence(device(image), offset, levels, symmetric=True))
    close(both, (expected + expected.T) / 2)
    assert np.array_equal(both, both.T)
    close(both.sum(), np.array(1.0))


@given(counts=st.integers(1, 5).flatmap(lambda n: reals((n, n), 0.0, 1.0)))
def test_contrast_energy_and_homogeneity_are_their_sums(counts):
    matrix = counts / counts.sum()
    cells = [(i, j, matrix[i, j]) for i, j in np.ndindex(matrix.shape)]
    close(features.contrast(device(matrix)), np.array(sum((i - j) ** 2 * p for i, j, p in cells)))
    close(features.energy(device(matrix)), np.array(sum(p**2 for _, _, p in cells)))
    close(features.homogeneity(device(matrix)), np.array(sum(p / (1 + abs(i - j)) for i, j, p in cells)))


@given(value=st.floats(0, 1), offset=offsets, levels=st.integers(1, 9))
def test_a_plain_image_has_energy_one_and_contrast_zero(value, offset, levels):
    matrix = features.co_occurrence(device(np.full((4, 5), value)), offset, levels)
    figures = [host(f(matrix)).item() for f in (features.energy, features.contrast, features.homogeneity)]
    assert figures == [1, 0, 1]


@given(image=images(3, 7))
def test_binary_patterns_are_those_of_comparing_neighbours(image):
    image = np.round(4 * image) / 4  # so that equal neighbours are common
    patterns = host(features.local_binary_patterns(device(image)))
    assert patterns.dtype == np.uint8 and patterns.shape == (2, image.shape[1] - 2, image.shape[2] - 2)
    for plane, j, i in np.ndindex(patterns.shape):
        code = 0
        for k in range(8):  # counter-clockwise as one looks at it, from the right on
            down, right = -round(math.sin(k * math.pi / 4)), round(math.cos(k * math.pi / 4))
            code += 2**k * (image[plane, j + 1 + down, i + 1 + right] >= image[plane, j + 1, i + 1])
        assert patterns[plane, j, i] == code


@given(image=images(3, 7), power=st.floats(0.3, 3.0), scale=st.floats(0.1, 10.0), shift=st.floats(-5, 5))
def test_binary_patterns_do_not_see_increasing_maps_of_brightness(image, power, scale, shift):
    image = np.round(8 * image) / 8
    before = features.local_binary_patterns(device(image))
    after = features.local_binary_patterns(device(scale * image**power + shift))
    assert np.array_equal(host(before), host(after))


# ---------------------------------------------------------------- colour


@given(channels=st.integers(1, 3), size=pairs(1, 6), bins=st.integers(1, 5), seed=seeds())
def test_the_histogram_counts_each_pixel_once_whatever_their_order(channels, size, bins, seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 8, (channels, *size)) / 7  # 0 and 1 among them
    histogram = host(features.colour_histogram(device(image), bins))
    pixels = image.reshape(channels, -1).T
    expected, _ = np.histogramdd(pixels, bins=bins, range=[(0, 1)] * channels)
    edge = np.isclose(image * bins, np.round(image * bins)) & (image < 1)  # where rounding decides
    if not edge[image > 0].any():
        close(histogram, expected)
    assert histogram.shape == (bins,) * channels and histogram.sum() == size[0] * size[1]
    shuffled = random.permutation(pixels).T.reshape(image.shape)
    assert np.array_equal(features.colour_histogram(device(shuffled), bins).tolist(), histogram.tolist())


def test_the_histogram_s_axes_are_the_channels():
    image = device(np.array([0.1, 0.5, 0.9])[:, None, None])
    histogram = host(features.colour_histogram(image, 4))
    assert np.argwhere(histogram).tolist() == [[0, 2, 3]]


@given(image=images(2, 7))
def test_moments_are_scipy_s(image):
    moments = host(features.colour_moments(device(image)))
    pixels = image.reshape(2, -1)
    expected = [pixels.mean(axis=1), pixels.std(axis=1), np.cbrt(stats.moment(pixels, 3, axis=1))]
    close(moments, np.stack(expected, axis=-1), atol=1e-5)  # a cube root of a rounding error
    skew = moments[:, 2] ** 3 / moments[:, 1] ** 3
    close(skew, stats.skew(pixels, axis=1), rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------- all

FLOATS = {
    "gaussian": lambda x: features.gaussian(x, 1.5),
    "sobel": lambda x: features.sobel(x)[1],
    "sobel_magnitude": features.sobel_magnitude,
    "laplacian": features.laplacian,
    "moments": features.colour_moments,
}


@pytest.mark.parametrize("function", FLOATS.values(), ids=FLOATS)
def test_float32_stays_and_the_image_is_left_as_it_was(function):
    image = np.random.default_rng(0).random((2, 3, 9, 11)).astype("float32")
    x = device(image.copy())
    together = host(function(x))
    assert together.dtype == np.float32 and np.array_equal(host(x), image)
    for index in np.ndindex(2, 3):
        close(together[index], function(device(image[index])), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3)])
def test_small_images_have_edges_too(size):
    assert not host(features.canny(device(np.ones(size)))).any()


WRONG = {
    "levels": (lambda x: features.gaussian(device(np.ones((4, 4), "uint8")), 1.0), ("gaussian", "float", "uint8")),
    "sigma": (lambda x: features.gaussian(x, 0.0), ("sigma must be positive", "0.0")),
    "low": (lambda x: features.canny(x, low=0.3, high=0.2), ("0 < low ≤ high", "0.3")),
    "flat": (lambda x: features.sobel(x[0, 0]), ("sobel", "(…, h, w)", "(5,)")),
    "offset": (lambda x: features.co_occurrence(x[0], (0, 5)), ("offset (0, 5)", "(4, 5)")),
    "planes": (lambda x: features.co_occurrence(x, (0, 1)), ("expected an image (h, w)", "(3, 4, 5)")),
    "patterns": (lambda x: features.local_binary_patterns(x[:, :2]), ("3 × 3", "(3, 2, 5)")),
    "histogram": (lambda x: features.colour_histogram(x[0]), ("(c, h, w)", "(4, 5)")),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_told_in_one_line(call, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        call(device(np.zeros((3, 4, 5))))
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message
