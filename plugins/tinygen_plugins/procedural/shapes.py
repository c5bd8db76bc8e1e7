"""The data set `shapes`: one figure on a soft ground, by chance in kind, place, size, turn and colours.

Six kinds, the labels: disc, square, triangle, star, ring, cross. Image i of a split depends on the seed, the split and
i alone, is drawn when it is first asked for, and is as good at any size. Drawn on the host, where data sets live.

Read `draw_shape`, from top to bottom; above it stand the figures, as signed distances of radius 1 around the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from tinygen import backend
from tinygen.backend import Array
from tinygen.data import DataRequest, Dataset, DrawnImages
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import (
    check_canvas,
    coverage,
    oklch_to_srgb,
    over,
    pixel_centres,
    polygon_distance,
)

Outline = list[tuple[float, float]]

COUNTS = {"train": 20_000, "valid": 2_000, "test": 2_000}
SIZE = 32

# ---------------------------------------------------------------- the figures
# Points are (..., 2) and distances (...), negative inside; every figure just fits into the circle of radius 1.


def disc_distance(points: Array) -> Array:
    """‖p‖ − 1."""
    x, y = points[..., 0], points[..., 1]
    return backend.of(points).xp.sqrt(x * x + y * y) - 1


def ring_distance(points: Array, width: float = 0.5) -> Array:
    """|‖p‖ − (1 − w/2)| − w/2: within half the width w of the circle in the ring's middle."""
    return backend.of(points).xp.abs(disc_distance(points) + width / 2) - width / 2


def regular_vertices(sides: int) -> Outline:
    """The corners of a regular polygon."""
    return [(math.cos(2 * math.pi * k / sides), math.sin(2 * math.pi * k / sides)) for k in range(sides)]


def star_vertices(points: int, inner: float) -> Outline:
    """The corners of a star: points on the circle of radius 1, and between them notches on that of radius `inner`."""
    outer = regular_vertices(2 * points)
    return [(x, y) if k % 2 == 0 else (inner * x, inner * y) for k, (x, y) in enumerate(outer)]


def cross_vertices(half: float) -> Outline:
    """The corners of a cross of two bars that are 2 · half wide."""
    end = math.sqrt(1 - half * half)  # puts the bars' corners on the circle
    arm = [(end, -half), (end, half), (half, half)]  # one arm and the notch after it
    corners: Outline = []
    for _ in range(4):
        corners += arm
        arm = [(-y, x) for x, y in arm]  # the next arm, a quarter turn on
    return corners


def _polygon(outline: Outline) -> Callable[[Array], Array]:
    return partial(polygon_distance, vertices=backend.NUMPY.xp.array(outline, "float32"))


FIGURES: dict[str, Callable[[Array], Array]] = {
    "disc": disc_distance,
    "square": _polygon(regular_vertices(4)),
    "triangle": _polygon(regular_vertices(3)),
    "star": _polygon(star_vertices(5, 0.45)),
    "ring": ring_distance,
    "cross": _polygon(cross_vertices(0.32)),
}
CLASSES = tuple(FIGURES)

# ---------------------------------------------------------------- the pictures


def draw_shape(index: int, *, seed: int, split: str, pixels: Array, channels: int) -> tuple[Array, int]:
    """Picture `index` of a split, (c, h, w) uint8, and its label; the labels take turns, so that all are equally many.

    pixels: (h, w, 2), the centres of the pixels of a square canvas.
    """
    size = len(pixels)
    xp = backend.NUMPY.xp
    random = Stream(seed, f"shapes/{split}/{index}", backend.NUMPY)
    large, across, down, turn, slope = random.uniform(5).tolist()
    ground, further_ground, figure = _colours(random, channels)

    # The ground: from one colour to the other across the canvas, in any direction.
    centred = pixels - size / 2
    angle = 2 * math.pi * slope
    ramp = 0.5 + (math.cos(angle) * centred[..., 0] + math.sin(angle) * centred[..., 1]) / (math.sqrt(2) * size)
    canvas = over(ground[:, None, None], further_ground, ramp)

    # The figure, wholly inside: its distance is asked for where the pixels are as seen from it.
    radius = size * (0.2 + 0.17 * large)
    room = size / 2 - radius - 1  # a pixel's width between the figure and the edge
    place = xp.array([room * (2 * across - 1), room * (2 * down - 1)], "float32")
    cosine, sine = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    rotation = xp.array([[cosine, -sine], [sine, cosine]], "float32")
    label = index % len(CLASSES)
    distance = radius * FIGURES[CLASSES[label]]((centred - place) @ rotation / radius)
    canvas = over(canvas, figure, coverage(distance, 0.0))
    return xp.round(255 * canvas).astype("uint8"), label


def _colours(random: Stream, channels: int) -> tuple[Array, Array, Array]:
    """Two colours of the ground and the figure's, (c,) each: a light figure on dark or a dark one on light."""
    xp = backend.NUMPY.xp
    night, ground_light, figure_light, ground_hue, figure_hue = random.uniform(5).tolist()
    if night < 0.5:
        ground, figure = 0.24 + 0.12 * ground_light, 0.72 + 0.18 * figure_light
    else:
        ground, figure = 0.84 + 0.10 * ground_light, 0.38 + 0.17 * figure_light
    lightness = xp.array([ground - 0.05, ground + 0.05, figure], "float32")
    hue = xp.array([ground_hue, ground_hue + 0.1, figure_hue], "float32") * (2 * math.pi)
    chroma = xp.array([0.06, 0.06, 0.15], "float32") if channels == 3 else 0.0
    colours = oklch_to_srgb(lightness, chroma, hue)[:, :channels]
    return colours[0], colours[1], colours[2]


def shapes(request: DataRequest) -> Dataset:
    """The data set: 20,000 / 2,000 / 2,000 pictures, 32 × 32 in colour unless the request says otherwise."""
    size, channels = request.size or SIZE, 1 if request.grey else 3
    check_canvas("shapes", size, channels)
    pixels = pixel_centres(backend.NUMPY.xp, size, size)

    def split(name: str, count: int) -> DrawnImages:
        draw = partial(draw_shape, seed=request.seed, split=name, pixels=pixels, channels=channels)
        return DrawnImages(count, (channels, size, size), draw)

    splits = {name: split(name, count) for name, count in COUNTS.items()}
    return Dataset("shapes", splits, (channels, size, size), CLASSES)
