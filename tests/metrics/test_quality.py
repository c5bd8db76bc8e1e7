"""MSE, PSNR and SSIM against loops over pixels and windows, SciPy's Gaussian filter, and what noise must give."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from tinygen import backend
from tinygen.metrics import global_ssim, mse, psnr, ssim
from tinygen.testing import close, host
from tinygen.testing.strategies import in_any_layout, reals, seeds

FIGURES = [mse, psnr, ssim, global_ssim]


def device(array):
    return backend.current().from_host(np.asarray(array))


def pairs(*shape, low=0.0, high=1.0):
    """Two images that are neither equal nor unrelated."""
    return reals((2, *shape), low, high).map(lambda both: (both[0], both[0] + 0.3 * (both[1] - both[0])))


# ---------------------------------------------------------------- mean squared error and PSNR


@given(images=pairs(2, 3, 4, 5))
def test_mse_is_the_mean_over_the_pixels_one_by_one(images):
    x, y = images
    expected = np.zeros(2)
    for n, c, i, j in np.ndindex(*x.shape):
        expected[n] += (float(x[n, c, i, j]) - float(y[n, c, i, j])) ** 2 / 60
    close(mse(device(x), device(y)), expected, rtol=1e-12)


@given(images=pairs(2, 1, 4, 5), peak=st.floats(0.1, 1000))
def test_psnr_is_twenty_log_of_peak_over_the_deviation(images, peak):
    x, y = images
    deviation = [np.linalg.norm(x[k] - y[k]) / math.sqrt(20) for k in range(2)]
    expected = np.array([20 * math.log10(peak / each) for each in deviation])
    close(psnr(device(x), device(y), peak), expected, rtol=1e-10, atol=1e-9)
    close(psnr(device(y), device(x), peak), expected, rtol=1e-10, atol=1e-9)


def test_a_difference_of_one_level_is_48_decibels():
    x = np.full((3, 4, 4), 100, np.uint8)
    close(psnr(device(x), device(x + 1), 255), np.array(20 * math.log10(255)), rtol=1e-12)
    close(mse(device(x), device(x + 1)), np.array(1.0))


@settings(max_examples=8)
@given(seed=seeds(), sigma=st.floats(0.005, 0.5))
def test_noise_that_is_not_clipped_has_the_psnr_of_its_deviation(seed, sigma):
    """Property 1b: PSNR → −20 log₁₀ σ."""
    random = np.random.default_rng(seed)
    x = random.random((3, 96, 96))
    noisy = x + sigma * random.standard_normal(x.shape)
    decibels = float(host(psnr(device(x), device(noisy))))
    # the sample variance has the standard error σ²√(2/N), which is 10/ln 10 · √(2/N) decibels: six of them
    assert abs(decibels + 20 * math.log10(sigma)) < 6 * 10 / math.log(10) * math.sqrt(2 / x.size)


def test_the_noise_that_papers_use_is_20_17_decibels():
    x = np.zeros((1, 2, 2))
    close(psnr(device(x), device(x + 25 / 255)), np.array(20.172003435238352), rtol=1e-12)


@settings(max_examples=8)
@given(seed=seeds(), copies=st.integers(2, 40))
def test_averaging_copies_raises_the_psnr_by_ten_log_of_their_number(seed, copies):
    """Property 1d."""
    random = np.random.default_rng(seed)
    x = random.random((1, 64, 64))
    noisy = x + 0.1 * random.standard_normal((copies, *x.shape))
    one, many = (float(host(psnr(device(x), device(image)))) for image in (noisy[0], noisy.mean(axis=0)))
    assert abs(many - one - 10 * math.log10(copies)) < 12 * 10 / math.log(10) * math.sqrt(2 / x.size)


# ---------------------------------------------------------------- structural similarity


def bell():
    """The 11 × 11 window of Wang et al. as their Matlab code makes it: a bell over the plane, scaled to sum 1."""
    j, i = np.mgrid[-5:6, -5:6]
    window = np.exp(-(i**2 + j**2) / (2 * 1.5**2))
    return window / window.sum()


def similarity_of(x, y, weights, peak):
    """The formula for one window, moments by definition."""
    mu, nu = (weights * x).sum(), (weights * y).sum()
    a, b = x - mu, y - nu
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    numerator = (2 * mu * nu + c1) * (2 * (weights * a * b).sum() + c2)
    return numerator / ((mu**2 + nu**2 + c1) * ((weights * a**2).sum() + (weights * b**2).sum() + c2))


@settings(max_examples=12)
@given(images=pairs(2, 2, 12, 14), peak=st.floats(0.2, 300))
def test_ssim_is_the_mean_over_the_windows_one_by_one(images, peak):
    x, y = images
    window, expected = bell(), np.zeros(2)
    for n, c, i, j in np.ndindex(2, 2, 2, 4):
        inside = (n, c, slice(i, i + 11), slice(j, j + 11))
        expected[n] += similarity_of(x[inside], y[inside], window, peak) / 16
    close(ssim(device(x), device(y), peak), expected, rtol=1e-9)


@settings(max_examples=8)
@given(images=pairs(1, 31, 23))
def test_ssim_is_that_of_scipys_gaussian_filter(images):
    x, y = images[0][0], images[1][0]

    def blur(image):
        return gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]  # 11 taps; the rim has no whole window

    mu, nu, c1, c2 = blur(x), blur(y), 0.01**2, 0.03**2
    covariance = blur(x * y) - mu * nu
    variances = blur(x * x) - mu**2 + blur(y * y) - nu**2
    expected = np.mean((2 * mu * nu + c1) * (2 * covariance + c2) / ((mu**2 + nu**2 + c1) * (variances + c2)))
    close(ssim(device(images[0]), device(images[1])), np.array(expected), rtol=1e-9)


@given(images=pairs(3, 2, 5, 4), peak=st.floats(0.2, 300))
def test_global_ssim_has_one_even_window(images, peak):
    x, y = images
    expected = np.zeros(3)
    for n, c in np.ndindex(3, 2):
        expected[n] += similarity_of(x[n, c], y[n, c], np.full((5, 4), 1 / 20), peak) / 2
    close(global_ssim(device(x), device(y), peak), expected, rtol=1e-9)


@pytest.mark.parametrize("figure", [ssim, global_ssim])
@settings(max_examples=12)
@given(images=pairs(2, 1, 13, 12, low=-1.0))
def test_similarity_is_symmetric_and_one_for_equals_alone(figure, images):
    """Property 1d."""
    x, y = map(device, images)
    there = host(figure(x, y))
    close(figure(y, x), there, rtol=1e-12)
    close(figure(x, x), np.ones(2), rtol=1e-12)
    assert (there < 1 - 1e-6).all() and (there >= -1).all()


def test_the_negative_of_a_pattern_is_unlike_it():
    pattern = np.random.default_rng(0).random((1, 20, 20))
    assert float(host(ssim(device(pattern), device(1 - pattern)))) < -0.8


def test_ssim_of_two_flat_images_compares_their_brightness():
    x, y = np.full((1, 11, 11), 0.2), np.full((1, 11, 11), 0.6)
    expected = np.array((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))
    close(ssim(device(x), device(y)), expected, rtol=1e-9)
    close(global_ssim(device(x), device(y)), expected, rtol=1e-9)


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("figure", FIGURES)
@settings(max_examples=8)
@given(images=st.tuples(*[in_any_layout(reals((2, 3, 11, 12), 0.0, 1.0))] * 2), leading=st.sampled_from([(), (2,)]))
def test_each_image_has_its_figure_in_float64(figure, images, leading):
    x, y = images if leading else (image[0] for image in images)
    together = figure(device(x), device(y))
    assert together.shape == leading and together.dtype == np.float64
    single = figure(device(x.astype("float32")), device(y.astype("float32")))
    assert single.dtype == np.float64
    close(single, host(together), rtol=1e-4)
    for k in range(len(x)) if leading else ():
        close(figure(device(x[k]), device(y[k])), host(together)[k], rtol=1e-12)


@pytest.mark.parametrize("figure", FIGURES)
@given(images=st.tuples(*[hnp.arrays(np.uint8, (1, 11, 11))] * 2))
def test_bytes_do_not_wrap_around(figure, images):
    x, y = images
    peak = () if figure is mse else (255,)
    expected = host(figure(device(x.astype("float64")), device(y.astype("float64")), *peak))
    close(figure(device(x), device(y), *peak), expected, rtol=1e-12)


def test_equal_images_are_infinitely_near():
    x = np.random.default_rng(0).random((2, 1, 3, 3), np.float32)
    assert np.isposinf(host(psnr(device(x), device(x)))).all()
    assert np.isposinf(host(psnr(device(x[0]), device(x[0]))))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    ("x", "y"), [((1, 12, 12), (1, 12, 13)), ((3, 12, 12), (1, 12, 12)), ((12, 12), (12, 12)), ((1, 0, 12), (1, 0, 12))]
)
def test_what_cannot_be_compared_is_refused(figure, x, y):
    with pytest.raises(ValueError, match=rf"{figure.__name__}: x and y must be images") as caught:
        figure(device(np.zeros(x)), device(np.zeros(y)))
    assert str(x) in str(caught.value) and str(y) in str(caught.value)


@pytest.mark.parametrize("figure", FIGURES[1:])
@pytest.mark.parametrize("peak", [0, -1.0, float("nan"), float("inf")])
def test_a_peak_must_be_positive(figure, peak):
    image = device(np.zeros((1, 12, 12)))
    with pytest.raises(ValueError, match=f"{figure.__name__}: peak must be positive, got {peak}"):
        figure(image, image, peak)


def test_an_image_smaller_than_the_window_is_refused():
    image = device(np.zeros((1, 10, 40)))
    with pytest.raises(ValueError, match=r"ssim: images must be 11 × 11 pixels or more, got \(1, 10, 40\)"):
        ssim(image, image)
