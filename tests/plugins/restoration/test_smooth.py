"""Tikhonov and harmonic filling against dense least squares, and Tweedie's formula against quadrature."""

import numpy as np
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import _smooth

from .reference import device, matrix

orders = st.sampled_from([1, 2])
sizes = st.tuples(st.integers(1, 2), st.integers(3, 6), st.integers(3, 6))
images = sizes.flatmap(lambda shape: reals(shape, 0.0, 1.0))
EXACT = 1e-13


def some_known(shape, seed):
    """About a third of the pixels, and three corners, which span a plane."""
    known = np.random.default_rng(seed).random(shape) < 0.3
    known[0, 0] = known[0, -1] = known[-1, 0] = True
    return known


def everywhere(image):
    return np.ones(image.shape[1:], bool)


@verifies(_smooth.tikhonov)
@given(image=images, strength=st.floats(0.01, 10), order=orders, seed=seeds())
def test_tikhonov_is_the_least_squares_solution_of_data_and_derivatives_together(image, strength, order, seed):
    known = some_known(image.shape[1:], seed)
    channels, height, width = image.shape
    rows = np.vstack([np.diag(known.ravel().astype(float)), np.sqrt(strength) * matrix(height, width, order)])
    flat = np.where(known, image, 0).reshape(channels, -1)
    right = np.concatenate([flat, np.zeros((channels, len(rows) - flat.shape[1]))], axis=1)
    expected = np.linalg.lstsq(rows, right.T)[0].T.reshape(image.shape)
    hidden = np.where(known, image, np.nan)  # what stands in a hole means nothing
    found = _smooth.tikhonov(device(hidden), device(known), strength, order, EXACT)
    close(found, expected, rtol=1e-6, atol=1e-8)


@verifies(_smooth.tikhonov)
@given(image=images, strength=st.floats(0.01, 10), order=orders)
def test_tikhonov_keeps_the_mean_stays_at_zero_strength_and_has_no_slope_at_its_minimum(image, strength, order):
    known = device(everywhere(image))
    found = host(_smooth.tikhonov(device(image), known, strength, order, EXACT))
    close(found.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-8, atol=1e-9)
    close(_smooth.tikhonov(device(image), known, 0.0, order, EXACT), image, rtol=1e-9, atol=1e-10)

    dense = matrix(*image.shape[1:], order)

    def energy(x):
        return 0.5 * ((x - image) ** 2).sum() + 0.5 * strength * ((x.reshape(len(x), -1) @ dense.T) ** 2).sum()

    direction = np.random.default_rng(0).normal(size=image.shape)
    slope = (energy(found + 1e-4 * direction) - energy(found - 1e-4 * direction)) / 2e-4
    close(np.asarray(slope), np.zeros(()), atol=1e-6)


@verifies(_smooth.tikhonov)
@given(image=images)
def test_tikhonov_of_great_strength_is_the_mean_or_the_regression_plane(image):
    known = device(everywhere(image))
    flat = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    close(_smooth.tikhonov(device(image), known, 1e7, 1, EXACT), flat, rtol=1e-5, atol=1e-5)
    y, x = np.mgrid[: image.shape[1], : image.shape[2]]
    plane = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=1)
    fitted = plane @ np.linalg.lstsq(plane, image.reshape(len(image), -1).T)[0]
    close(_smooth.tikhonov(device(image), known, 1e7, 2, EXACT), fitted.T.reshape(image.shape), rtol=1e-4, atol=1e-4)


@verifies(_smooth.tikhonov, _smooth.harmonic)
@given(shape=sizes, order=orders, factors=reals((2,)), seed=seeds())
def test_what_is_filled_is_linear_in_the_image(shape, order, factors, seed):
    first, second = np.random.default_rng(seed).random((2, *shape))
    known = device(some_known(shape[1:], seed))
    for fill in (
        lambda x: host(_smooth.tikhonov(device(x), known, 0.5, order, EXACT)),
        lambda x: host(_smooth.harmonic(device(x), known, order, EXACT)),
    ):
        mixed = fill(factors[0] * first + factors[1] * second)
        close(mixed, factors[0] * fill(first) + factors[1] * fill(second), rtol=1e-6, atol=1e-7)


@verifies(_smooth.harmonic)
@given(image=images, order=orders, seed=seeds())
def test_a_membrane_or_plate_is_the_least_squares_solution_with_the_known_pixels_held(image, order, seed):
    known = some_known(image.shape[1:], seed)
    if known.all():
        known[1, 1] = False
    channels, height, width = image.shape
    dense = matrix(height, width, order)
    hole, flat = ~known.ravel(), image.reshape(channels, -1)
    expected = flat.copy()
    expected[:, hole] = np.linalg.lstsq(dense[:, hole], -dense[:, ~hole] @ flat[:, ~hole].T)[0].T
    hidden = np.where(known, image, np.nan)
    found = host(_smooth.harmonic(device(hidden), device(known), order, EXACT))
    close(found, expected.reshape(image.shape), rtol=1e-6, atol=1e-8)
    assert np.array_equal(found[:, known], image[:, known])


@verifies(_smooth.held_out_errors)
@given(image=images, seed=seeds())
def test_errors_at_pixels_held_out_are_those_of_the_least_squares_solutions(image, seed):
    known = some_known(image.shape[1:], seed)
    known[1, 1] = True
    tested = np.zeros_like(known)
    tested[1, 1] = True
    tested |= known & (np.random.default_rng(seed + 1).random(known.shape) < 0.2)
    tested[[0, 0, -1], [0, -1, 0]] = False
    channels, height, width = image.shape
    hole, flat, expected = ~(known & ~tested).ravel(), image.reshape(channels, -1), []
    for order in (1, 2):
        dense = matrix(height, width, order)
        filled = np.linalg.lstsq(dense[:, hole], -dense[:, ~hole] @ flat[:, ~hole].T)[0].T
        missed = (filled - flat[:, hole])[:, tested.ravel()[hole]]
        expected.append((missed**2).mean())
    found = _smooth.held_out_errors(device(image), device(known), device(tested), EXACT)
    close(found, np.array(expected), rtol=1e-5, atol=1e-8)


@verifies(_smooth.harmonic)
@given(image=images, seed=seeds())
def test_a_membrane_stays_within_its_rim(image, seed):
    known = some_known(image.shape[1:], seed)
    found = host(_smooth.harmonic(device(image), device(known), 1, EXACT))
    for channel, given_channel in zip(found, image):
        assert channel.min() >= given_channel[known].min() - 1e-9
        assert channel.max() <= given_channel[known].max() + 1e-9


@verifies(_smooth.harmonic)
@given(slope=reals((2,)), size=st.tuples(st.integers(4, 9), st.integers(4, 9)), seed=seeds())
def test_ramps_come_back_from_their_rim_by_membranes_and_from_any_three_pixels_by_plates(slope, size, seed):
    y, x = np.mgrid[: size[0], : size[1]]
    ramp = (slope[0] * x + slope[1] * y)[None]
    rim = np.ones(size, bool)
    rim[1:-1, 1:-1] = False
    close(_smooth.harmonic(device(ramp), device(rim), 1, EXACT), ramp, rtol=1e-8, atol=1e-8)
    known = some_known(size, seed)
    close(_smooth.harmonic(device(ramp), device(known), 2, EXACT), ramp, rtol=1e-5, atol=1e-5)


@verifies(_smooth.tikhonov_strength, _smooth.tikhonov)
@given(noisy=images, sigma=st.floats(0.05, 0.5), gamma=st.floats(0.05, 0.5), order=orders)
def test_of_that_strength_the_image_is_the_mean_of_the_normal_posterior(noisy, sigma, gamma, order):
    dense = matrix(*noisy.shape[1:], order)
    precision = np.eye(dense.shape[1]) / sigma**2 + dense.T @ dense / gamma**2
    expected = np.linalg.inv(precision) @ (noisy.reshape(len(noisy), -1).T / sigma**2)
    strength = _smooth.tikhonov_strength(sigma, gamma)
    found = _smooth.tikhonov(device(noisy), device(everywhere(noisy)), strength, order, EXACT)
    close(found, expected.T.reshape(noisy.shape), rtol=1e-6, atol=1e-8)


@verifies(_smooth.tweedie)
@given(y=reals((4,)), sigma=st.floats(0.2, 1.5), means=reals((2,)), spread=st.floats(0.2, 1), share=st.floats(0.1, 0.9))
def test_tweedie_is_the_posterior_mean_of_a_mixture_by_quadrature(y, sigma, means, spread, share):
    weights = np.array([share, 1 - share])

    def prior(x):
        return weights @ scipy.stats.norm.pdf(x, means[:, None], spread)

    def log_density(value):  # of noisy numbers: the same mixture, wider
        return np.log(weights @ scipy.stats.norm.pdf(value, means[:, None], np.hypot(spread, sigma)))

    score = (log_density(y + 1e-5) - log_density(y - 1e-5)) / 2e-5
    x = np.linspace(-20, 20, 8001)  # sums of normal densities on an even grid are as good as integrals
    joint = prior(x) * scipy.stats.norm.pdf(y[:, None], x, sigma)
    expected = (joint * x).sum(axis=1) / joint.sum(axis=1)
    close(_smooth.tweedie(device(y), device(score), sigma), expected, rtol=1e-5, atol=1e-6)


@verifies(_smooth.tweedie)
@given(y=reals((5,)), sigma=st.floats(0.1, 2), spread=st.floats(0.1, 2))
def test_tweedie_of_a_normal_prior_is_wiener_s_shrinkage(y, sigma, spread):
    score = -y / (spread**2 + sigma**2)
    close(_smooth.tweedie(device(y), device(score), sigma), y * spread**2 / (spread**2 + sigma**2), rtol=1e-9)
