"""Figures against the points of their outlines and their areas, smooth noise against SciPy, and palettes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import fourier_gaussian

from tinygen import backend
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals
from tinygen_plugins.procedural import _figures, _raster

from .reference import complex_numbers, device

points = reals((30, 2), -4.0, 4.0)


def from_outline(points, outline, inside):
    """Signed distances (n,) by brute force: to the nearest of many points (m,) of an outline, complex numbers."""
    distance = np.abs(complex_numbers(points)[:, None] - outline).min(axis=1)
    return np.where(inside, -distance, distance)


def circle(radius):
    return radius * np.exp(2j * math.pi * np.linspace(0, 1, 20_000))


# ---------------------------------------------------------------- the figures


@verifies(_figures.seen_from)
@given(points=points, centre=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), turn=st.floats(-7, 7))
def test_a_turned_figure_sees_points_turned_back(points, centre, turn):
    expected = (complex_numbers(points) - complex(*centre)) * np.exp(-1j * turn)
    expected = np.stack([expected.real, expected.imag], axis=-1)
    close(_figures.seen_from(device(points), centre, turn), expected, atol=1e-12)


@verifies(_figures.disc_distance)
@given(points=points, radius=st.floats(0.2, 4))
def test_distance_to_a_disc_is_that_to_its_outline(points, radius):
    expected = from_outline(points, circle(radius), np.abs(complex_numbers(points)) < radius)
    close(_figures.disc_distance(device(points), radius), expected, rtol=0, atol=1e-3)


@verifies(_figures.ring_distance)
@given(points=points, radius=st.floats(0.5, 4), part=st.floats(0.05, 0.95))
def test_distance_to_a_ring_is_that_to_the_nearer_of_its_circles(points, radius, part):
    width, away = part * radius, np.abs(complex_numbers(points))
    outline = np.concatenate([circle(radius), circle(radius - width)])
    expected = from_outline(points, outline, (away < radius) & (away > radius - width))
    close(_figures.ring_distance(device(points), radius, width), expected, rtol=0, atol=1e-3)


@verifies(_figures.rectangle_distance)
@given(points=points, a=st.floats(0.2, 3), b=st.floats(0.2, 3))
def test_distance_to_a_rectangle_is_that_to_its_outline(points, a, b):
    along = np.linspace(-1, 1, 10_000)
    outline = np.concatenate([a * along + 1j * b, a * along - 1j * b, a + 1j * b * along, -a + 1j * b * along])
    expected = from_outline(points, outline, (np.abs(points[:, 0]) < a) & (np.abs(points[:, 1]) < b))
    close(_figures.rectangle_distance(device(points), (a, b)), expected, rtol=0, atol=1e-3)


@verifies(_figures.stripes_distance)
@given(points=points, period=st.floats(0.3, 3), part=st.floats(0.05, 0.95))
def test_distance_to_stripes_is_that_to_the_nearest_edge(points, period, part):
    x, centres = points[:, :1], period * np.arange(-30, 31)
    edges = np.concatenate([centres - part * period / 2, centres + part * period / 2])
    inside = (np.abs(x - centres) < part * period / 2).any(axis=1)
    distance = np.abs(x - edges).min(axis=1)
    close(_figures.stripes_distance(device(points), period, part * period), np.where(inside, -distance, distance))


@pytest.mark.parametrize(
    ("figure", "form", "area"),
    [
        ("disc", 0.0, math.pi),
        ("rectangle", 0.0, 4 * 0.06),
        ("rectangle", 0.5, 4 * (0.06 + 0.74 / 4)),
        ("ring", 0.0, math.pi * (1 - 0.95**2)),
        ("polygon", 0.0, 3 * math.sqrt(3) / 4),
        ("polygon", 0.3, 2.0),
        ("polygon", 0.99, 3 * math.sqrt(3) / 2),
        ("stripes", 0.0, 1.6 * (0.3 + 2 * (0.8 - (2 / 3 - 0.15)))),  # one in the middle, and two cut by the square
    ],
)
def test_a_template_covers_its_area_wherever_it_is(figure, form, area):
    sheet = _figures.Sheet(figure, (101.3, 98.6), 60.0, 0.7, form)
    covered = host(sheet.mask(_raster.pixel_centres(backend.current().xp, 200, 200))).sum() / 60**2
    close(covered, np.asarray(area, "float32"), rtol=4e-3)


# ---------------------------------------------------------------- noise and palettes


@verifies(_raster.smooth_noise)
@given(white=st.tuples(st.integers(4, 9), st.integers(4, 9)).flatmap(reals), length=st.floats(0.2, 3))
def test_smooth_noise_is_scipy_s_gaussian_filter_over_the_norm_of_its_impulse_response(white, length):
    def smooth(image):
        return np.fft.ifft2(fourier_gaussian(np.fft.fft2(image), length)).real

    impulse = np.zeros(white.shape)
    impulse[0, 0] = 1.0
    norm = math.sqrt((smooth(impulse) ** 2).sum())  # Σ g²: the variance that white noise keeps
    close(_raster.smooth_noise(device(white), length), smooth(white) / norm, rtol=1e-8, atol=1e-9)


def test_palettes_are_light_or_dark_grey_or_in_colour():
    for seed in range(20):
        random = Stream(seed, "", backend.NUMPY)
        day, night = (_raster.draw_palette(random, 3, light) for light in ("day", "night"))
        assert day.ground.mean() > 0.85 and night.ground.mean() < 0.15 and not day.night and night.night
        assert np.ptp(day.inks, axis=1).max() > 0.1
        grey = _raster.draw_palette(random, 1)
        assert grey.ground.shape == (1,) and grey.inks.shape == (5, 1) and (np.diff(grey.inks[:, 0]) > 0).all()
