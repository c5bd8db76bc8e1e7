"""Homographies: from pairs of points, from pairs of which many are wrong, and what projective maps keep."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from tinygen import backend
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.composition import _homography, _register

from .reference import device, projected

SQUARE = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0], [0.0, 100.0]])


def a_homography(seed):
    """A map of the square [0, 100]² that keeps it before the horizon: turned, sheared, moved and tilted."""
    random = np.random.default_rng(seed)
    linear = np.eye(2) + random.uniform(-0.4, 0.4, (2, 2))
    homography = np.eye(3)
    homography[:2, :2], homography[:2, 2] = linear, random.uniform(-50, 50, 2)
    homography[2, :2] = random.uniform(-2e-3, 2e-3, 2)
    return homography


homographies = seeds().map(a_homography)


def unit(homography):
    """The matrix of norm 1 with a positive corner that means the same map."""
    h = host(homography)
    return h / np.linalg.norm(h) * np.sign(h[2, 2])


# ---------------------------------------------------------------- maps


@verifies(_homography.project)
@given(homography=homographies, points=reals((5, 2), 0.0, 100.0), factor=st.floats(0.1, 10) | st.floats(-10, -0.1))
def test_projecting_is_by_homogeneous_coordinates_and_ignores_a_factor(homography, points, factor):
    close(_homography.project(device(homography), device(points)), projected(homography, points))
    close(_homography.project(device(factor * homography), device(points)), projected(homography, points))


@verifies(_homography.project)
@given(homography=homographies, points=reals((5, 2), 0.0, 100.0))
def test_the_inverse_brings_points_back(homography, points):
    there = _homography.project(device(homography), device(points))
    close(_homography.project(device(np.linalg.inv(homography)), there), points, atol=1e-9)


@verifies(_homography.project)
@given(homography=homographies, ends=reals((2, 2), 0.0, 100.0), along=reals((4,), 0.0, 1.0))
def test_points_in_line_stay_so_and_keep_their_cross_ratio(homography, ends, along):
    along = np.sort(along) + np.arange(4)  # apart from each other
    line = ends[0] + along[:, None] * (ends[1] - ends[0]) / 4
    a, b, c, d = host(_homography.project(device(homography), device(line))) @ np.array([1, 1j])
    scale = abs(d - a)
    assert abs(((b - a) * (d - a).conjugate()).imag) < 1e-9 * scale**2 + 1e-12
    ratio = ((c - a) * (d - b)) / ((c - b) * (d - a))
    p, q, r, s = along
    close(ratio.real, (r - p) * (s - q) / ((r - q) * (s - p)), rtol=1e-6)


@verifies(_homography.transfer_error)
@given(homography=homographies, points=reals((5, 2), 0.0, 100.0), images=reals((5, 2), 0.0, 100.0))
def test_the_transfer_error_is_a_distance_in_pixels(homography, points, images):
    expected = [math.dist(p, q) for p, q in zip(projected(homography, points), images)]
    close(_homography.transfer_error(device(homography), device(points), device(images)), np.array(expected))


# ---------------------------------------------------------------- from pairs of points


@verifies(_homography.normalization)
@given(points=reals((6, 2), -500.0, 500.0))
def test_normalised_points_have_centroid_zero_and_mean_distance_root_two(points):
    matrix = host(_homography.normalization(device(points)))
    moved = projected(matrix, points)
    close(moved.mean(axis=0), np.zeros(2), atol=1e-10)
    close(np.linalg.norm(moved, axis=1).mean(), math.sqrt(2))
    assert matrix[0, 0] == matrix[1, 1] > 0 and matrix[0, 1] == matrix[1, 0] == 0


@verifies(_homography.dlt_matrix)
@given(homography=homographies, points=reals((5, 2), 0.0, 100.0), images=reals((5, 2), 0.0, 100.0))
def test_the_system_says_that_an_image_is_parallel_to_what_the_map_gives(homography, points, images):
    product = host(_homography.dlt_matrix(device(points), device(images))) @ homography.ravel()
    for k, (point, image) in enumerate(zip(points, images)):
        cross = np.cross([*image, 1.0], homography @ [*point, 1.0])
        close(product[k], -cross[1], atol=1e-7)
        close(product[5 + k], cross[0], atol=1e-7)


corners = seeds().map(lambda seed: SQUARE + np.random.default_rng(seed).uniform(-25, 25, (4, 2)))


@verifies(_homography.dlt)
@given(homography=homographies, points=corners)
def test_four_pairs_determine_the_map_exactly(homography, points):
    found = _homography.dlt(device(points), device(projected(homography, points)))
    close(unit(found), unit(homography), rtol=0, atol=1e-9)
    close(np.linalg.norm(host(found)), 1.0)


@verifies(_homography.dlt)
@given(points=corners, images=corners)
def test_four_pairs_are_the_solution_of_eight_linear_equations(points, images):
    rows, right = [], []
    for (x, y), (u, v) in zip(points, images):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    solved = np.append(np.linalg.solve(np.array(rows), right), 1.0).reshape(3, 3)
    close(unit(_homography.dlt(device(points), device(images))), unit(solved), rtol=0, atol=1e-7)


@verifies(_homography.dlt)
@given(homography=homographies, seed=seeds(), count=st.integers(5, 12))
def test_many_pairs_are_fitted_and_a_batch_is_its_members(homography, seed, count):
    random = np.random.default_rng(seed)
    points = random.uniform(0, 100, (2, count, 2))
    images = np.stack([projected(homography, each) for each in points]) + random.normal(0, 1e-3, points.shape)
    found = host(_homography.dlt(device(points), device(images)))
    for k in range(2):
        # Fewer than ten loose pairs leave much open outside of them, so the pairs themselves are asked.
        assert np.linalg.norm(projected(found[k], points[k]) - images[k], axis=1).max() < 0.05
        close(unit(found[k]), unit(_homography.dlt(device(points[k]), device(images[k]))), rtol=0, atol=1e-7)


@verifies(_homography.dlt)
@given(homography=homographies, seed=seeds())
def test_no_neighbouring_map_has_a_smaller_algebraic_error(homography, seed):
    random = np.random.default_rng(seed)
    points = random.uniform(0, 100, (8, 2))
    images = projected(homography, points) + random.normal(0, 0.5, (8, 2))
    here, there = (host(_homography.normalization(device(each))) for each in (points, images))
    system = host(_homography.dlt_matrix(device(projected(here, points)), device(projected(there, images))))
    fitted = there @ host(_homography.dlt(device(points), device(images))) @ np.linalg.inv(here)
    fitted = fitted.ravel() / np.linalg.norm(fitted)
    direction = random.standard_normal(9)

    def error(step):
        moved = fitted + step * direction
        return np.linalg.norm(system @ moved) / np.linalg.norm(moved)

    assert error(0.0) <= minimize_scalar(error, bounds=(-0.5, 0.5), method="bounded").fun + 1e-9


@verifies(_homography.determination)
@given(homography=homographies, points=corners, t=reals((4,), 0.0, 1.0))
def test_points_in_line_determine_nothing(homography, points, t):
    good = host(_homography.determination(device(points), device(projected(homography, points))))
    line = points[0] + t[:, None] * (points[1] - points[0])
    bad = host(_homography.determination(device(line), device(projected(homography, line))))
    assert good > 1e-4 and bad < 1e-9


@verifies(_homography.determination)
@given(points=corners, images=corners)
def test_the_determination_is_the_ratio_of_two_singular_values(points, images):
    here, there = (host(_homography.normalization(device(each))) for each in (points, images))
    x, u = projected(here, points), projected(there, images)
    rows = []
    for (a, b), (c, d) in zip(x, u):
        rows += [[-a, -b, -1, 0, 0, 0, c * a, c * b, c], [0, 0, 0, -a, -b, -1, d * a, d * b, d]]
    squares = np.linalg.eigvalsh(np.array(rows).T @ np.array(rows))
    expected = math.sqrt(max(squares[1], 0) / squares[-1])
    close(_homography.determination(device(points), device(images)), np.asarray(expected), rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- from pairs of which many are wrong


@verifies(_homography.ransac_trials)
@given(share=st.floats(0.05, 0.95), confidence=st.floats(0.5, 0.9999), sample=st.integers(1, 5))
def test_after_so_many_trials_some_sample_was_good_with_the_wanted_probability(share, confidence, sample):
    trials = _homography.ransac_trials(share, confidence, sample)
    at_least_one = binom.sf(0, math.ceil(trials), share**sample)
    assert at_least_one >= confidence - 1e-9
    if trials > 1:
        assert binom.sf(0, math.ceil(trials) - 1, share**sample) <= confidence + 1e-9


def test_no_right_pairs_need_for_ever_and_no_wrong_ones_one_trial():
    assert _homography.ransac_trials(0.0, 0.99) == math.inf
    assert _homography.ransac_trials(1.0, 0.99) == 1.0


@pytest.mark.parametrize("share", [0.4, 0.5])
@settings(max_examples=8)
@given(homography=homographies, seed=seeds())
def test_ransac_finds_the_planted_map_among_wrong_pairs(share, homography, seed):
    random, count = np.random.default_rng(seed), 100
    points = random.uniform(0, 100, (count, 2))
    images = projected(homography, points) + random.normal(0, 0.2, (count, 2))
    wrong = np.arange(count) < share * count
    images[wrong] = random.uniform(images.min(), images.max(), (wrong.sum(), 2))
    found, agree = _homography.ransac(points, images, Stream(seed, "", backend.NUMPY), threshold=1.0)
    grid = np.stack(np.meshgrid(np.linspace(10, 90, 5), np.linspace(10, 90, 5)), axis=-1).reshape(-1, 2)
    error = np.linalg.norm(projected(found, grid) - projected(homography, grid), axis=1)
    assert error.mean() < 0.25 and error.max() < 0.5
    assert agree[~wrong].mean() > 0.95 and agree[wrong].mean() < 0.1
    again, _ = _homography.ransac(points, images, Stream(seed, "", backend.NUMPY), threshold=1.0)
    assert np.array_equal(found, again)


def test_ransac_on_points_in_one_place_comes_to_an_end():
    points = np.zeros((6, 2))
    _, agree = _homography.ransac(points, points + 1.0, Stream(0, "", backend.NUMPY))
    assert agree.shape == (6,)


# ---------------------------------------------------------------- belief


@verifies(_register.is_overlap)
@given(matches=st.integers(5, 2000))
def test_belief_begins_where_bayes_rule_gives_odds_of_a_thousand_to_one(matches):
    # Right pairs agree with probability 0.6 if the images match and 0.1 if not; one pair of images in a million does.
    agreeing = np.arange(matches + 1)
    odds = binom.logpmf(agreeing, matches, 0.6) - binom.logpmf(agreeing, matches, 0.1)
    enough = odds + math.log(1e-6 / (1 - 1e-6)) > math.log(0.999 / 0.001)
    believed = np.array([_register.is_overlap(int(n), matches) for n in agreeing])
    differ = np.flatnonzero(enough != believed)
    slack = 0.02 * matches + 1  # the paper rounds 7.96 + 0.3116 n to 8.0 + 0.3 n
    assert len(differ) <= slack
    assert not believed.all() and (not enough.any() or believed[-1] or matches < 14)


@given(homography=homographies)
def test_a_plain_map_is_plausible_and_one_that_flips_folds_or_shrinks_is_not(homography):
    assert _register.is_plausible(np.eye(3), (100, 100)) and _register.is_plausible(-np.eye(3), (100, 100))
    assert not _register.is_plausible(np.diag([-1.0, 1.0, 1.0]), (100, 100))
    assert not _register.is_plausible(np.array([[1.0, 0, 0], [0, 1, 0], [-0.02, 0, 1]]), (100, 100))
    assert not _register.is_plausible(np.diag([0.2, 0.2, 1.0]), (100, 100))
    linear = homography.copy()
    linear[2, :2] = 0.0
    area = np.linalg.det(linear)
    assert _register.is_plausible(linear, (100, 100)) == (1 / 16 < area < 16)
