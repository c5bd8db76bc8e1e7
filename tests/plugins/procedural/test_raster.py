"""Distances, coverage, paint and colour against complex numbers, brute force, the shoelace formula and the way back."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from tinygen import backend
from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.procedural import _raster

from .reference import complex_numbers, device, segment_distance


def shoelace(vertices):
    x, y = vertices.T
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def outline(vertices, steps=20_000):
    """Points along a closed polygon, near enough to each other to measure distances by."""
    part = np.linspace(0, 1, steps // len(vertices), endpoint=False)[:, None, None]
    return ((1 - part) * vertices + part * np.roll(vertices, -1, axis=0)).reshape(-1, 2)


def brute_force(points, vertices):
    """Signed distances by the nearest point of the outline, the sign by Matplotlib."""
    distance = np.linalg.norm(points[:, None] - outline(vertices), axis=-1).min(axis=1)
    return np.where(Path(vertices).contains_points(points), -distance, distance)


@st.composite
def star_shaped(draw, low=1.0, high=3.0):
    """Polygons without self-intersections, corners in order of their angle about the origin, either way around."""
    random = np.random.default_rng(draw(seeds()))
    count = draw(st.integers(3, 8))
    angles = (np.arange(count) + random.uniform(0, 0.7, count)) * 2 * math.pi / count
    vertices = random.uniform(low, high, count)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return vertices if draw(st.booleans()) else vertices[::-1].copy()


# ---------------------------------------------------------------- distances


@verifies(_raster.segment_distance)
@given(points=reals((6, 1, 2)), ends=reals((2, 5, 2)), same=st.booleans())
def test_distance_to_segments_is_that_of_the_complex_plane(points, ends, same):
    start, end = ends[0], ends[0] if same else ends[1]
    distance = _raster.segment_distance(device(points), device(start), device(end))
    p, a, b = complex_numbers(points)[:, 0], complex_numbers(start), complex_numbers(end)
    expected = [[segment_distance(p[i], a[j], b[j]) for j in range(5)] for i in range(6)]
    close(distance, np.array(expected), rtol=1e-9, atol=1e-12)


@verifies(_raster.polygon_distance)
@given(vertices=star_shaped(), points=reals((15, 2), -4.0, 4.0, layouts=False))
def test_distance_to_a_polygon_is_that_to_the_nearest_point_of_its_outline(vertices, points):
    actual = _raster.polygon_distance(device(points), device(vertices))
    close(actual, brute_force(points, vertices), rtol=0, atol=2e-3)


@verifies(_raster.polygon_distance)
@given(vertices=star_shaped(), seed=seeds())
def test_points_of_the_outline_have_distance_zero(vertices, seed):
    points = np.random.default_rng(seed).permutation(outline(vertices))[:20]
    close(_raster.polygon_distance(device(points), device(vertices)), np.zeros(20), atol=1e-12)


@verifies(_raster.coverage)
@given(distance=reals((30,), -3.0, 3.0), radius=st.floats(0, 3))
def test_coverage_is_the_part_of_the_pixel_within_the_radius(distance, radius):
    pixel = np.linspace(-0.5, 0.5, 2001)[:-1] + 0.5 / 2000  # places along the normal through the pixel's centre
    expected = (distance[:, None] + pixel <= radius).mean(axis=1)
    close(_raster.coverage(device(distance), radius), expected, rtol=0, atol=1e-3)


@verifies(_raster.coverage, _raster.polygon_distance)
@settings(max_examples=10)
@given(vertices=star_shaped(2.0, 3.0), shift=reals((2,), 3.5, 4.5))
def test_the_area_of_an_anti_aliased_polygon_converges_to_the_shoelace_formula(vertices, shift):
    # An edge is anti-aliased without bias and a corner is off by a part of a pixel, which counts less and less.
    for scale in (4, 8, 16):
        figure = scale * (vertices + shift)
        pixels = _raster.pixel_centres(backend.current().xp, 8 * scale, 8 * scale)
        area = host(_raster.coverage(_raster.polygon_distance(pixels, device(figure)), 0.0)).sum()
        close(area / scale**2, abs(shoelace(figure)) / scale**2, rtol=0, atol=0.4 * len(vertices) / scale**2)


# ---------------------------------------------------------------- strokes and paint


def test_pixel_centres_are_halves_x_before_y():
    centres = host(_raster.pixel_centres(backend.current().xp, 2, 3))
    assert centres.tolist() == [[[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]], [[0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]]


@verifies(_raster.stroke_coverage)
@given(size=st.sampled_from([(1, 1), (3, 4)]), seed=seeds())
def test_strokes_cover_what_all_segments_cover_of_all_pixels(size, seed):
    # A single segment has a window that just holds it, several share the window of the largest.
    random = np.random.default_rng(seed)
    strokes, segments = size
    points, radius = random.uniform(-6, 18, (strokes, segments + 1, 2)), random.uniform(0, 3, size)
    height, width = 9, 13
    expected = np.zeros((strokes, height, width))
    for stroke, row, column in np.ndindex(expected.shape):
        centre = complex(column + 0.5, row + 0.5)
        line = complex_numbers(points[stroke])
        for a, b, r in zip(line, line[1:], radius[stroke]):
            beyond = segment_distance(centre, a, b) - r
            if r < 0.5:  # a pixel wide, and fainter
                beyond = segment_distance(centre, a, b) - 0.5
            covered = min(1.0, 2 * r) * min(max(0.5 - beyond, 0.0), 1.0)
            expected[stroke, row, column] = max(expected[stroke, row, column], covered)
    close(_raster.stroke_coverage(device(points), device(radius), height, width), expected, atol=1e-9)


@verifies(_raster.stroke_coverage)
@given(y=st.floats(6, 10), radius=st.floats(0.01, 4))
def test_a_straight_stroke_leaves_as_much_ink_as_it_is_wide(y, radius):
    line = np.array([[[-9.0, y], [3.0, y], [25.0, y]]])
    ink = host(_raster.stroke_coverage(device(line), device(np.full((1, 2), radius)), 16, 16)).sum(axis=1)
    close(ink, np.full((1, 16), 2 * radius), rtol=1e-9, atol=1e-9)  # every column across the line


@verifies(_raster.over)
@given(canvas=reals((3, 4, 5), 0.0, 1.0), colour=reals((3,), 0.0, 1.0), alpha=reals((4, 5), 0.0, 1.0))
def test_paint_over_a_canvas_is_the_weighted_mean_of_both(canvas, colour, alpha):
    expected = np.empty_like(canvas)
    for c, y, x in np.ndindex(canvas.shape):
        expected[c, y, x] = np.average([canvas[c, y, x], colour[c]], weights=[1 - alpha[y, x], alpha[y, x]])
    close(_raster.over(device(canvas), device(colour), device(alpha)), expected, atol=1e-12)


# ---------------------------------------------------------------- colour


def oklch(rgb):
    """sRGB to lightness, chroma and hue: the way there, with Ottosson's matrices for it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    lightness, a, b = np.array(to_lab) @ np.cbrt(np.array(to_cones) @ linear.T)
    return lightness, np.hypot(a, b), np.arctan2(b, a)


@verifies(_raster.oklch_to_srgb)
@given(rgb=reals((20, 3), 0.0, 1.0))
def test_colours_come_back_from_lightness_chroma_and_hue(rgb):
    close(_raster.oklch_to_srgb(*(device(part) for part in oklch(rgb))), rgb, rtol=0, atol=1e-5)


@verifies(_raster.oklch_to_srgb)
@given(lightness=reals((9,), 0.0, 1.0), hue=reals((9,), -7.0, 7.0))
def test_colours_without_chroma_are_grey_and_all_are_within_the_screen_s(lightness, hue):
    grey = host(_raster.oklch_to_srgb(device(lightness), 0.0, device(hue)))
    linear = lightness**3
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    close(grey, np.repeat(expected[:, None], 3, axis=1), rtol=0, atol=1e-5)
    vivid = host(_raster.oklch_to_srgb(device(lightness), 0.4, device(hue)))
    assert vivid.min() >= 0 and vivid.max() <= 1
