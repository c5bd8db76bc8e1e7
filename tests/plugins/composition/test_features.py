"""Corners, descriptions, matches and seams, against SciPy's filters and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d, gaussian_filter, map_coordinates

from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.composition import _features, _seam

from .reference import cloudy, device

pictures = seeds().map(lambda seed: cloudy(seed, (1, 48, 56))[0])


def slopes(image):
    """Sobel's filter to the right and down, by SciPy."""
    difference, mean = [-1, 0, 1], [1, 2, 1]
    right = correlate1d(correlate1d(image, difference, axis=1), mean, axis=0)
    return right, correlate1d(correlate1d(image, difference, axis=0), mean, axis=1)


def sampled(image, points):
    """Bilinear samples at (x, y) whose pixel (0, 0) has its centre at (½, ½), by SciPy."""
    return map_coordinates(image, [points[..., 1] - 0.5, points[..., 0] - 0.5], order=1, mode="nearest")


# ---------------------------------------------------------------- corners


@verifies(_features.harris)
@settings(max_examples=10)
@given(image=pictures)
def test_cornerness_is_that_of_the_structure_tensor_s_eigenvalues(image):
    right, down = slopes(gaussian_filter(image, 1.0))
    tensor = [[gaussian_filter(a * b / 64, 2.0) for a in (right, down)] for b in (right, down)]
    values = np.linalg.eigvalsh(np.moveaxis(np.array(tensor), (0, 1), (-2, -1)))
    expected = values.prod(axis=-1) - 0.05 * values.sum(axis=-1) ** 2
    close(_features.harris(device(image)), expected, rtol=1e-7, atol=1e-12)


def test_cornerness_is_positive_at_a_corner_negative_at_an_edge_and_zero_on_the_plain():
    image = np.zeros((40, 40))
    image[20:, 20:] = 1.0
    response = host(_features.harris(device(image)))
    assert response[20, 20] > 0 > response[35, 20] and response[5, 5] == 0
    close(host(_features.corners(device(image), 10)), np.array([[20.0, 20.0]]), atol=1.6)  # the window draws it inwards


@verifies(_features.suppression_radii)
@given(points=reals((12, 2), 0.0, 50.0), strength=reals((12,), 0.0, 1.0))
def test_radii_are_distances_to_the_nearest_clearly_stronger_corner(points, strength):
    radii = host(_features.suppression_radii(device(points), device(strength)))
    for i in range(12):
        stronger = [np.hypot(*(points[i] - points[j])) for j in range(12) if strength[i] < 0.9 * strength[j]]
        close(radii[i], min(stronger, default=np.inf))


@verifies(_features.peak_offset)
@given(seed=seeds(), top=reals((2,), -0.45, 0.45))
def test_the_offset_of_a_parabola_is_where_its_top_is(seed, top):
    random = np.random.default_rng(seed)
    root = random.uniform(-1, 1, (2, 2))
    bend = root @ root.T + 0.2 * np.eye(2)
    y, x = np.mgrid[-2.0:3.0, -2.0:3.0]
    away = np.stack([x - top[0], y - top[1]], axis=-1)
    response = 3.0 - 0.5 * np.einsum("yxa,ab,yxb->yx", away, bend, away)
    two = np.array([2])
    close(_features.peak_offset(device(response), device(two), device(two)), top[None], atol=1e-9)
    close(_features.peak_offset(device(0 * response), device(two), device(two)), np.zeros((1, 2)))


def test_corners_are_spread_and_as_many_as_asked_for():
    image = cloudy(3, (1, 120, 160))[0]
    few, many = (host(_features.corners(device(image), count)) for count in (20, 10_000))
    assert len(few) == 20 < len(many) and len(host(_features.corners(device(np.zeros((50, 50))), 9))) == 0
    assert (few >= 0).all() and (few <= [160, 120]).all()
    gaps = np.linalg.norm(few[:, None] - few, axis=-1) + 1e9 * np.eye(20)
    closest = np.linalg.norm(many[:, None] - many, axis=-1) + 1e9 * np.eye(len(many))
    assert np.median(gaps.min(axis=0)) > 2 * np.median(closest.min(axis=0))


# ---------------------------------------------------------------- descriptions

places = reals((6, 2), 5.0, 43.0)


@verifies(_features.orientations)
@settings(max_examples=10)
@given(image=pictures, points=places)
def test_orientation_is_the_unit_vector_of_the_blurred_slope(image, points):
    right, down = (sampled(slope, points) for slope in slopes(gaussian_filter(image, 4.5)))
    directions = host(_features.orientations(device(image), device(points)))
    angles = np.arctan2(down, right)
    close(directions, np.stack([np.cos(angles), np.sin(angles)], axis=-1), rtol=1e-7, atol=1e-9)


@verifies(_features.describe)
@settings(max_examples=10)
@given(image=pictures, points=places, angles=reals((6,), -3.0, 3.0))
def test_a_description_is_the_normalised_patch_that_the_direction_turns(image, points, angles):
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    found = host(_features.describe(device(image), device(points), device(directions)))
    blurred = gaussian_filter(image, 2.0)
    for point, angle, description in zip(points, angles, found):
        i, j = np.mgrid[:8, :8]
        offset = np.exp(1j * angle) * 5 * ((j - 3.5) + 1j * (i - 3.5))
        patch = sampled(blurred, np.stack([point[0] + offset.real, point[1] + offset.imag], axis=-1))
        close(description, ((patch - patch.mean()) / patch.std()).ravel(), rtol=1e-6, atol=1e-7)


@verifies(_features.describe, _features.orientations)
@settings(max_examples=10)
@given(image=pictures, points=reals((5, 2), 22.0, 26.0), gain=st.floats(0.3, 2), level=st.floats(-0.2, 0.2))
def test_descriptions_ignore_brightness_contrast_and_quarter_turns(image, points, gain, level):
    square = image[:48, :48]

    def seen(picture, at):
        picture, at = device(picture), device(at)
        return host(_features.describe(picture, at, _features.orientations(picture, at)))

    close(seen(gain * square + level, points), seen(square, points), rtol=1e-6, atol=1e-7)
    turned = np.stack([points[:, 1], 48 - points[:, 0]], axis=-1)  # np.rot90 takes (x, y) there
    close(seen(np.rot90(square).copy(), turned), seen(square, points), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("octaves", [1, 2])
def test_features_of_a_shifted_picture_are_the_shifted_features(octaves):
    scene = cloudy(1, (1, 140, 180))[0]
    points, descriptions = _features.features(device(scene[:, :160]), 200, octaves)
    moved, others = _features.features(device(scene[:, 16:176]), 200, octaves)
    pairs = _features.ratio_matches(descriptions, others, 0.8)
    shift = points[pairs[:, 0]] - moved[pairs[:, 1]]
    right = np.abs(shift - [16.0, 0.0]).max(axis=1) < 0.6
    assert len(pairs) > 30 and right.mean() > 0.8


def test_a_blob_is_found_in_its_middle_at_both_scales():
    y, x = np.mgrid[:100, :120] + 0.5
    image = np.exp(-((x - 61.3) ** 2 + (y - 47.8) ** 2) / (2 * 2.0**2))
    for octaves in (1, 2):
        points, _ = _features.features(device(image), 1, octaves)
        close(points, np.array([[61.3, 47.8]] * octaves), rtol=0, atol=0.25)


@verifies(_features.ratio_matches)
@given(first=reals((7, 5)), second=reals((9, 5)), ratio=st.floats(0.3, 1.0))
def test_matches_are_the_clear_nearest_neighbours_by_brute_force(first, second, ratio):
    distance = np.linalg.norm(first[:, None] - second, axis=-1)
    order = distance.argsort(axis=1)
    expected = [(i, order[i, 0]) for i in range(7) if distance[i, order[i, 0]] < ratio * distance[i, order[i, 1]]]
    found = _features.ratio_matches(first, second, ratio)
    assert [tuple(pair) for pair in found.tolist()] == expected


def test_nothing_matches_where_there_is_nothing_to_choose_from():
    assert _features.ratio_matches(np.zeros((0, 4)), np.zeros((3, 4)), 0.8).shape == (0, 2)
    assert _features.ratio_matches(np.zeros((3, 4)), np.zeros((1, 4)), 0.8).shape == (0, 2)


# ---------------------------------------------------------------- seams


def all_paths(height, width):
    """Every path from top to bottom, a step aside at most."""
    paths = [(j,) for j in range(width)]
    for _ in range(height - 1):
        paths = [(*p, j) for p in paths for j in (p[-1] - 1, p[-1], p[-1] + 1) if 0 <= j < width]
    return paths


@verifies(_seam.path_costs)
@given(size=st.tuples(st.integers(1, 5), st.integers(1, 5)), seed=seeds())
def test_the_cheapest_path_is_the_cheapest_of_all(size, seed):
    costs = np.random.default_rng(seed).random(size)
    sums = {path: sum(costs[i, j] for i, j in enumerate(path)) for path in all_paths(*size)}
    total = host(_seam.path_costs(device(costs)))
    for column in range(size[1]):
        close(total[-1, column], min(value for path, value in sums.items() if path[-1] == column))
    assert tuple(_seam.cheapest_path(device(costs))) == min(sums, key=sums.get)


@pytest.mark.parametrize("turned", [False, True])
def test_a_seam_goes_where_two_images_agree_and_each_keeps_what_it_alone_has(turned):
    random = np.random.default_rng(0)
    first = random.random((3, 30, 40))
    second = 1 - first
    where = 18 + np.round(3 * np.sin(np.arange(30) / 5)).astype(int)
    second[:, np.arange(30), where] = first[:, np.arange(30), where]  # they agree along a wave
    left, right = (np.zeros((30, 40), bool) for _ in range(2))
    left[:, :28], right[:, 10:] = True, True
    arrays = [first, second, left, right]
    if turned:
        arrays = [np.swapaxes(each, -1, -2).copy() for each in arrays]
    taken = host(_seam.seam_mask(*map(device, arrays)))
    expected = right & ((np.arange(40) >= where[:, None]) | ~left)
    assert np.array_equal(taken, expected.T if turned else expected)
    swapped = host(_seam.seam_mask(*(device(arrays[k]) for k in (1, 0, 3, 2))))
    alone = arrays[2] != arrays[3]
    assert np.array_equal(swapped[alone], arrays[2][alone])


@given(size=st.tuples(st.integers(1, 7), st.integers(1, 7)), seed=seeds())
def test_the_largest_rectangle_is_the_largest_of_all(size, seed):
    covered = np.random.default_rng(seed).random(size) < 0.7
    best = max(
        (h * w for t in range(size[0]) for left in range(size[1]) for h in range(1, size[0] - t + 1)
         for w in range(1, size[1] - left + 1) if covered[t : t + h, left : left + w].all()),
        default=0,
    )  # fmt: skip
    top, left, height, width = _seam.largest_rectangle(device(covered))
    assert height * width == best and covered[top : top + height, left : left + width].all()


def test_a_large_rectangle_is_found_by_blocks():
    covered = np.zeros((700, 1100), bool)
    covered[31:640, 52:1001] = True
    top, left, height, width = _seam.largest_rectangle(device(covered))
    assert covered[top : top + height, left : left + width].all() and height >= 609 - 5 and width >= 949 - 5
