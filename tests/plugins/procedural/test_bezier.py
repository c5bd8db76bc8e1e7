"""Bézier curves, meshes and strokes against SciPy, complex numbers and brute force, and the pictures made of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BPoly, LinearNDInterpolator
from scipy.spatial import ConvexHull, Delaunay
from scipy.stats import binom, kstest

from tinygen import backend
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.procedural import bezier

from .reference import complex_numbers, device, segment_distance

polygons = st.integers(1, 6).flatmap(lambda degree: reals((degree + 1, 2)))  # control polygons (n + 1, 2)
sheaves = st.tuples(st.integers(1, 3), st.integers(1, 6)).flatmap(lambda kn: reals((kn[0], kn[1] + 1, 2)))
parameters = reals((7,), 0.0, 1.0)
triangles = reals((5, 3, 2)).filter(lambda corners: np.all(np.abs(doubled_area(corners)) > 0.3))


def scipy_curve(control, t):
    """Points of curves (..., n + 1, 2) at t (s,), by SciPy's piecewise polynomials: (..., s, 2)."""
    coefficients = np.moveaxis(control, -2, 0)[:, None]  # (n + 1, one interval, ..., 2)
    return np.moveaxis(BPoly(coefficients, [0.0, 1.0])(t), 0, -2)


def doubled_area(corners):
    a, b, c = np.moveaxis(complex_numbers(corners), -1, 0)
    return ((b - a).conjugate() * (c - a)).imag


# ---------------------------------------------------------------- curves


@verifies(bezier.bernstein_basis)
@given(degree=st.integers(0, 8), t=parameters)
def test_basis_is_the_binomial_law_and_sums_to_one(degree, t):
    basis = host(bezier.bernstein_basis(degree, device(t)))
    close(basis, binom.pmf(np.arange(degree + 1), degree, t[:, None]), rtol=1e-10, atol=1e-12)
    close(basis.sum(axis=-1), np.ones(len(t)))


@verifies(bezier.bezier_point)
@given(control=sheaves, t=parameters)
def test_bernstein_form_is_scipy_s_polynomial(control, t):
    close(bezier.bezier_point(device(control), device(t)), scipy_curve(control, t), atol=1e-11)


@verifies(bezier.de_casteljau)
@given(control=polygons, t=st.floats(0, 1))
def test_every_point_of_de_casteljau_s_triangle_is_a_curve_s_point(control, t):
    # P_i^(r) is the point at t of the curve that the points i … i + r control.
    for r, level in enumerate(bezier.de_casteljau(device(control), t)):
        expected = [scipy_curve(control[i : i + r + 1], np.array([t])) for i in range(len(control) - r)]
        close(level, np.concatenate(expected), atol=1e-11)


@verifies(bezier.bezier_point, bezier.bezier_derivative)
@given(control=polygons, t=parameters, matrix=reals((2, 2)), shift=reals((2,)))
def test_an_affine_map_of_the_control_points_maps_the_curve(control, t, matrix, shift):
    mapped, t = device(control @ matrix + shift), device(t)
    close(bezier.bezier_point(mapped, t), host(bezier.bezier_point(device(control), t)) @ matrix + shift, atol=1e-10)
    close(bezier.bezier_derivative(mapped, t), host(bezier.bezier_derivative(device(control), t)) @ matrix, atol=1e-10)


@verifies(bezier.bezier_point, bezier.bezier_derivative)
@given(control=polygons)
def test_a_curve_begins_and_ends_at_its_outer_points_towards_their_neighbours(control):
    ends, degree = device(np.array([0.0, 1.0])), len(control) - 1
    close(bezier.bezier_point(device(control), ends), control[[0, -1]])
    tangents = degree * np.stack([control[1] - control[0], control[-1] - control[-2]])
    close(bezier.bezier_derivative(device(control), ends), tangents, atol=1e-11)


@verifies(bezier.bezier_derivative)
@given(control=sheaves, t=reals((7,), 0.01, 0.99))
def test_the_derivative_is_scipy_s_and_the_difference_quotient(control, t):
    derivative = bezier.bezier_derivative(device(control), device(t))
    coefficients = np.moveaxis(control, -2, 0)[:, None]
    exact = np.moveaxis(BPoly(coefficients, [0.0, 1.0]).derivative()(t), 0, -2)
    close(derivative, exact, atol=1e-10)
    step = 1e-6
    after, before = (host(bezier.bezier_point(device(control), device(t + sign * step))) for sign in (1, -1))
    close(derivative, (after - before) / (2 * step), rtol=1e-5, atol=1e-6)


@verifies(bezier.elevate_degree)
@given(control=sheaves, t=parameters)
def test_degree_elevation_leaves_the_curve_as_it_is(control, t):
    elevated = host(bezier.elevate_degree(device(control)))
    assert elevated.shape[-2] == control.shape[-2] + 1
    close(scipy_curve(elevated, t), scipy_curve(control, t), atol=1e-11)


@verifies(bezier.subdivide)
@given(control=sheaves, cut=st.floats(0.01, 0.99), t=parameters)
def test_the_two_parts_of_a_curve_run_through_it_before_and_after_the_cut(control, cut, t):
    before, after = bezier.subdivide(device(control), cut)
    close(scipy_curve(host(before), t), scipy_curve(control, cut * t), atol=1e-10)
    close(scipy_curve(host(after), t), scipy_curve(control, cut + (1 - cut) * t), atol=1e-10)


@verifies(bezier.subdivide)
@given(control=reals((3, 5, 2)), cuts=reals((3,), 0.0, 1.0), t=parameters)
def test_each_of_many_curves_is_cut_at_its_own_place(control, cuts, t):
    before, _ = bezier.subdivide(device(control), device(cuts[:, None, None]))
    close(before, np.stack([scipy_before(c, cut) for c, cut in zip(control, cuts)]), atol=1e-10)


def scipy_before(control, cut):
    """Control points of the part before the cut: the polynomial restricted to [0, cut], in Bernstein form again."""
    t = np.linspace(0, 1, len(control))
    basis = binom.pmf(np.arange(len(control)), len(control) - 1, t[:, None])
    return np.linalg.solve(basis, scipy_curve(control, cut * t))


@verifies(bezier.bezier_point)
@given(control=polygons, t=parameters)
def test_the_reversed_polygon_controls_the_reversed_curve(control, t):
    reversed_curve = bezier.bezier_point(device(control[::-1].copy()), device(t))
    close(reversed_curve, host(bezier.bezier_point(device(control), device(1 - t))), atol=1e-11)


@verifies(bezier.bezier_point)
@given(control=st.integers(2, 6).flatmap(lambda degree: reals((degree + 1, 2))))
def test_a_curve_stays_in_its_hull_and_is_no_longer_than_its_polygon(control):
    points = host(bezier.bezier_point(device(control), device(np.linspace(0, 1, 300))))
    hull = ConvexHull(control).equations  # normals and offsets: ≤ 0 inside
    assert (points @ hull[:, :2].T + hull[:, 2]).max() <= 1e-10
    length, longest = (np.abs(np.diff(complex_numbers(line))).sum() for line in (points, control))
    shortest = abs(np.diff(complex_numbers(control[[0, -1]]))[0])
    assert shortest - 1e-10 <= length <= longest + 1e-10


# ---------------------------------------------------------------- mesh

meshes = st.tuples(st.integers(3, 6), st.integers(3, 6), seeds()).map(
    lambda case: np.random.default_rng(case[2]).random((case[0], case[1], 2))
)


@verifies(bezier.mesh_vertices)
@given(uniform=meshes, spacing=st.floats(0.5, 30))
def test_vertices_stay_within_half_the_spacing_of_the_lattice(uniform, spacing):
    vertices = host(bezier.mesh_vertices(device(uniform), spacing))
    for (row, column), vertex in np.ndenumerate(complex_numbers(vertices)):
        moved = vertex / spacing - (column + 1j * row)
        assert abs(moved) < 0.5
        close((2 * abs(moved)) ** 2, uniform[row, column, 0], atol=1e-10)
        close(np.angle(moved) / (2 * math.pi) % 1, uniform[row, column, 1], rtol=1e-8, atol=1e-8)


@verifies(bezier.mesh_vertices)
@settings(max_examples=5)
@given(seed=seeds())
def test_vertices_are_uniform_in_their_discs(seed):
    vertices = host(bezier.mesh_vertices(Stream(seed).uniform((40, 40, 2)), 1.0)).astype("float64")
    moved = complex_numbers(vertices) - (np.arange(40) + 1j * np.arange(40)[:, None])
    assert kstest((4 * np.abs(moved) ** 2).ravel(), "uniform").pvalue > 1e-6  # area, not radius
    assert kstest((np.angle(moved) / (2 * math.pi) % 1).ravel(), "uniform").pvalue > 1e-6
    assert kstest((2 * moved.real).ravel(), "semicircular").pvalue > 1e-6


@verifies(bezier.delaunay_cells)
@given(uniform=meshes)
def test_triangulation_fills_the_hull_obeys_euler_and_has_empty_circles(uniform):
    vertices = host(bezier.mesh_vertices(device(uniform), 1.0)).reshape(-1, 2)
    cells, _ = bezier.delaunay_cells(device(vertices), device(vertices))
    cells = host(cells)
    corners = vertices[cells]
    close(np.abs(doubled_area(corners)).sum() / 2, ConvexHull(vertices).volume)

    sides = {frozenset(pair) for a, b, c in cells.tolist() for pair in ((a, b), (b, c), (c, a))}
    assert len(vertices) - len(sides) + (len(cells) + 1) == 2  # the plane outside is a face, too

    for cell, (a, b, c) in zip(cells, complex_numbers(corners)):
        centre = circumcentre(a, b, c)
        others = np.delete(complex_numbers(vertices), cell)
        assert np.abs(others - centre).min() >= abs(a - centre) * (1 - 1e-9)


def circumcentre(a, b, c):
    """The point as far from a as from b and c: two linear equations."""
    rows = np.array([[(b - a).real, (b - a).imag], [(c - a).real, (c - a).imag]])
    x, y = np.linalg.solve(rows, [abs(b - a) ** 2 / 2, abs(c - a) ** 2 / 2])
    return a + x + 1j * y


@verifies(bezier.delaunay_cells)
@given(uniform=meshes, points=reals((20, 2), -1.0, 6.0, layouts=False))
def test_every_point_is_told_the_cell_that_it_lies_in(uniform, points):
    vertices = host(bezier.mesh_vertices(device(uniform), 1.0)).reshape(-1, 2)
    cells, owner = (host(a) for a in bezier.delaunay_cells(device(vertices), device(points)))
    hull = ConvexHull(vertices).equations
    for point, number in zip(points, owner):
        inside = (hull[:, :2] @ point + hull[:, 2]).max() <= 0
        assert (number >= 0) == inside
        if inside:
            assert weights_by_solving(point, vertices[cells[number]]).min() >= -1e-9


def weights_by_solving(point, corners):
    """Σ λ_k corner_k = point and Σ λ_k = 1, as three linear equations."""
    return np.linalg.solve(np.vstack([corners.T, np.ones(3)]), [*point, 1.0])


@verifies(bezier.barycentric)
@given(corners=triangles, points=reals((5, 2)))
def test_barycentric_weights_solve_their_equations(corners, points):
    expected = np.stack([weights_by_solving(p, c) for p, c in zip(points, corners)])
    close(bezier.barycentric(device(points), device(corners)), expected, rtol=1e-9, atol=1e-9)


@verifies(bezier.barycentric, bezier.barycentric_colour)
@given(uniform=meshes, seed=seeds())
def test_the_filled_mesh_is_scipy_s_linear_interpolation(uniform, seed):
    random = np.random.default_rng(seed)
    vertices = host(bezier.mesh_vertices(device(uniform), 1.0)).reshape(-1, 2)
    colours = random.random((len(vertices), 3))
    points = random.uniform(0.5, 1.5, (12, 2))  # inside any hull of these meshes
    cells, owner = bezier.delaunay_cells(device(vertices), device(points))
    weights = bezier.barycentric(device(points), device(vertices)[cells][owner])
    filled = bezier.barycentric_colour(weights, device(colours)[cells][owner])
    close(filled, LinearNDInterpolator(Delaunay(vertices), colours)(points), rtol=1e-8, atol=1e-9)


@verifies(bezier.barycentric_colour)
@given(corners=triangles, points=reals((5, 2)), matrix=reals((2, 3)), shift=reals((3,)))
def test_barycentric_colour_reproduces_affine_functions(corners, points, matrix, shift):
    weights = bezier.barycentric(device(points), device(corners))
    colour = bezier.barycentric_colour(weights, device(corners @ matrix + shift))
    close(colour, points @ matrix + shift, rtol=1e-9, atol=1e-9)


@verifies(bezier.side_distance)
@given(corners=triangles, weights=reals((5, 3), 0.01, 1.0))
def test_distance_to_the_sides_from_inside_is_that_of_the_segments(corners, weights):
    weights = weights / weights.sum(axis=-1, keepdims=True)
    points = complex_numbers(np.einsum("tk,tkx->tx", weights, corners))
    expected = [
        min(segment_distance(p, c[k], c[(k + 1) % 3]) for k in range(3))
        for p, c in zip(points, complex_numbers(corners))
    ]
    close(bezier.side_distance(device(weights), device(corners)), np.array(expected), rtol=1e-9, atol=1e-11)


# ---------------------------------------------------------------- the pen


@verifies(bezier.pen_radius)
@given(
    tangent=reals((4, 6, 2)), t=reals((6,), 0.0, 1.0), nib=st.floats(-4, 4), radius=st.floats(0.1, 9),
    thin=st.floats(0, 1),
)  # fmt: skip
def test_a_pen_s_stroke_is_as_wide_as_the_nib_looks_from_the_direction_it_moves_in(tangent, t, nib, radius, thin):
    directions = complex_numbers(tangent) / np.abs(complex_numbers(tangent))
    across = np.abs((np.exp(1j * nib) / directions).imag)  # the nib's extent across the stroke
    pressure = (1 - (2 * t - 1) ** 2) ** 0.4
    expected = radius * pressure * (thin + (1 - thin) * across)
    close(bezier.pen_radius(device(tangent), device(t), nib, radius, thin), expected, rtol=1e-7, atol=1e-7)


# ---------------------------------------------------------------- pictures


def make(**options):
    return bezier.Bezier(bezier.Config(**{"size": 24, "curves": 2, "strands": 4} | options), None, Stream(0))


@settings(max_examples=5)
@given(seed=seeds())
def test_a_sample_is_its_seed_s_and_each_image_its_own(seed):
    model = make()
    images = model.sample(3, Stream(seed)).numpy()
    assert images.shape == (3, 3, 24, 24) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, model.sample(3, Stream(seed)).numpy())
    assert np.array_equal(images[:1], model.sample(1, Stream(seed)).numpy())
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images, model.sample(3, Stream(seed + 1)).numpy())
    with backend.using("numpy"):
        close(images, model.sample(3, Stream(seed)).numpy(), rtol=0, atol=1e-5)


def test_a_picture_waits_for_the_device_once_a_veil():
    with backend.using("strict"), counting() as counts:
        make(curves=3).sample(2, Stream(0))
    assert counts.synchronizations == 2 * 3


@settings(max_examples=8)
@given(seed=seeds())
def test_a_strand_is_painted_along_its_curve_and_nowhere_else(seed):
    options = {"size": 48, "strands": 1, "radius": 0.02}
    model, empty = make(curves=1, **options), make(curves=0, **options)
    image, ground = (each.sample(1, Stream(seed)).numpy()[0] for each in (model, empty))
    changed = np.abs(image - ground).max(axis=0) > 1e-3

    plan = Stream(seed, "/image 0", backend.NUMPY)
    vertices = model._vertices(plan.child("mesh"))
    control = model._strands(plan.child("veil 0").child("strands"), 0, vertices)[0].astype("float64")
    curve = complex_numbers(scipy_curve(control, np.linspace(0, 1, 500)))
    centres = complex_numbers(np.stack(np.meshgrid(np.arange(48) + 0.5, np.arange(48) + 0.5), axis=-1))
    away = np.abs(centres[..., None] - curve)
    assert not changed[away.min(axis=-1) > 2.2].any()  # the radius is at most 1.44, its edge half a pixel wide
    assert changed[away[..., 50:-50].min(axis=-1) < 0.5].all()


@pytest.mark.parametrize(
    ("options", "channels"),
    [({"channels": 1}, 1), ({"fill": False}, 3), ({"degree": 1, "cells": 1, "strands": 1}, 3), ({"degree": 12}, 3)],
)
def test_options_make_pictures_that_are_not_blank(options, channels):
    images = make(**options).sample(2, Stream(3)).numpy()
    assert images.shape[1] == channels and np.isfinite(images).all()
    assert (images.max(axis=(1, 2, 3)) - images.min(axis=(1, 2, 3)) > 0.05).all()


def test_without_curves_and_fill_there_are_hairlines_on_a_plain_ground():
    image = make(curves=0, fill=False, size=128).sample(1, Stream(0)).numpy()[0]
    colours, counts = np.unique(image.reshape(3, -1).round(3), axis=1, return_counts=True)
    plain = colours[:, counts.argmax()]
    assert counts.max() > image[0].size / 2  # most of it has one colour
    assert (image - plain[:, None, None]).min() >= -2e-3  # and the hairlines are whiter


def test_the_ground_is_dark_at_night_and_light_by_day():
    night, day = (make(light=light, curves=0).sample(4, Stream(1)).numpy() for light in ("night", "day"))
    assert night.mean(axis=(1, 2, 3)).max() < 0.4 and day.mean(axis=(1, 2, 3)).min() > 0.7


@pytest.mark.parametrize("palette", ["complementary", "triadic", "analogous"])
def test_a_palette_fixes_how_the_veils_stand_to_the_ground(palette):
    chosen = bezier.choose_palette(Stream(0, "", backend.NUMPY), bezier.Config(palette=palette), 1.0)
    turned = np.degrees(np.array(chosen.accents) - chosen.hue)
    close(turned, np.array(bezier.HARMONIES[palette], float), atol=1e-9)


def test_grey_pictures_have_no_colour_in_them():
    chosen = bezier.choose_palette(Stream(0, "", backend.NUMPY), bezier.Config(), 0.0)
    vertices = np.random.default_rng(0).uniform(0, 24, (20, 2)).astype("float32")
    colours = make()._ground_colours(Stream(0, "", backend.NUMPY), vertices, chosen)
    assert np.ptp(colours, axis=-1).max() < 1e-3


def test_pictures_have_the_shape_of_the_data():
    data = DataSpec(name="wide", channels=1, height=20, width=37, count=1)
    images = bezier.Bezier(bezier.Config(), data, Stream(0)).sample(2, Stream(0)).numpy()
    assert images.shape == (2, 1, 20, 37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "8", "7")),
        ({"channels": 2}, ("channels", "1", "3", "2")),
        ({"cells": 0}, ("cells", "1", "0")),
        ({"strands": 0}, ("strands", "1", "0")),
        ({"curves": -1}, ("curves", "0", "-1")),
        ({"degree": 13}, ("degree", "12", "13")),
        ({"radius": math.nan}, ("radius", "0.2", "nan")),
        ({"palette": "triad"}, ("palette", "triadic", "triad")),
        ({"light": "dusk"}, ("light", "day", "dusk")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        bezier.Config(**options)
    assert all(word in caught.value.message for word in ("bezier", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@settings(max_examples=8)
@given(seed=seeds(), cells=st.integers(1, 6), height=st.integers(8, 40), width=st.integers(8, 40))
def test_the_mesh_covers_the_canvas(seed, cells, height, width):
    data = DataSpec(name="any", channels=3, height=height, width=width, count=1)
    model = bezier.Bezier(bezier.Config(cells=cells), data, Stream(0))
    hull = ConvexHull(model._vertices(Stream(seed, "", backend.NUMPY)).reshape(-1, 2)).equations
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    assert (corners @ hull[:, :2].T + hull[:, 2]).max() <= 0


def test_data_of_two_channels_and_samples_of_none_are_refused():
    with pytest.raises(UsageError, match="data odd"):
        bezier.Bezier(bezier.Config(), DataSpec(name="odd", channels=2, height=9, width=9, count=1), Stream(0))
    with pytest.raises(UsageError, match="at least 1, got 0"):
        make().sample(0, Stream(0))
