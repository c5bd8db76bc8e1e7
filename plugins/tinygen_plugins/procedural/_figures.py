"""Figures as signed distances, and a figure in its place on the canvas: the templates of `template`.

A figure of radius r is told by how far a point lies from its outline, negative inside. Read `Sheet.mask`, which turns
this into what the figure covers of each pixel; above it stand the figures.

Points are (..., 2), in pixels from the middle of the figure; distances are (...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation
from tinygen_plugins.procedural._raster import coverage, polygon_distance


@equation(r"q = R_{-\theta}\,(p - m)", source="a figure at m, turned by θ, seen from its own axes")
def seen_from(points: Array, centre: tuple[float, float], turn: float) -> Array:
    """Where points (..., 2) are as seen from a figure at `centre`, turned by `turn` radians from x towards y."""
    xp = backend.of(points).xp
    x, y = points[..., 0] - centre[0], points[..., 1] - centre[1]
    cosine, sine = math.cos(turn), math.sin(turn)
    return xp.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1)


@equation(r"d(p) = \|p\| - r", source="Euclid: the circle")
def disc_distance(points: Array, radius: float) -> Array:
    """Signed distance to a circle."""
    x, y = points[..., 0], points[..., 1]
    return backend.of(points).xp.sqrt(x * x + y * y) - radius


@equation(r"d(p) = \bigl|\|p\| - r + \tfrac{w}{2}\bigr| - \tfrac{w}{2}", source="within w/2 of the ring's middle line")
def ring_distance(points: Array, radius: float, width: float) -> Array:
    """Signed distance to a ring of outer radius r that is w = `width` ≤ r wide."""
    return backend.of(points).xp.abs(disc_distance(points, radius - width / 2)) - width / 2


@equation(
    r"d(p) = \|\max(q, 0)\| + \min(\max(q_x, q_y), 0), \quad q = |p| - (a, b)",
    source="outside the nearest corner or side decides, inside the nearest side",
)
def rectangle_distance(points: Array, half: tuple[float, float]) -> Array:
    """Signed distance to a rectangle along the axes whose sides are 2a and 2b long, `half` = (a, b)."""
    xp = backend.of(points).xp
    x, y = xp.abs(points[..., 0]) - half[0], xp.abs(points[..., 1]) - half[1]
    beyond_x, beyond_y = xp.maximum(x, 0.0), xp.maximum(y, 0.0)
    return xp.sqrt(beyond_x * beyond_x + beyond_y * beyond_y) + xp.minimum(xp.maximum(x, y), 0.0)


@equation(
    r"d(p) = \left| p_x - P \left\lfloor \tfrac{p_x}{P} + \tfrac{1}{2} \right\rfloor \right| - \tfrac{w}{2}",
    source="stripes along y around every multiple of the period P",
)
def stripes_distance(points: Array, period: float, width: float) -> Array:
    """Signed distance to endless stripes of a width w ≤ P, one in every period P."""
    xp = backend.of(points).xp
    x = points[..., 0]
    return xp.abs(x - period * xp.floor(x / period + 0.5)) - width / 2


def _rectangle(points: Array, radius: float, form: float) -> Array:
    """From a beam to a block."""
    return rectangle_distance(points, (radius, radius * (0.06 + 0.74 * form * form)))


def _disc(points: Array, radius: float, form: float) -> Array:
    return disc_distance(points, radius)


def _ring(points: Array, radius: float, form: float) -> Array:
    """From a hoop to a target."""
    return ring_distance(points, radius, radius * (0.05 + 0.5 * form * form))


def _polygon(points: Array, radius: float, form: float) -> Array:
    """Regular, of 3 to 6 corners."""
    corners = 3 + int(4 * form)
    angles = [2 * math.pi * k / corners for k in range(corners)]
    vertices = backend.of(points).asarray([[radius * math.cos(a), radius * math.sin(a)] for a in angles], points.dtype)
    return polygon_distance(points, vertices)


def _stripes(points: Array, radius: float, form: float) -> Array:
    """Three to nine stripes in a square or in a disc; the outline of both is the larger of the two distances."""
    period = 2 * radius / (3 + int(7 * form))
    frame = disc_distance(points, radius) if form > 0.5 else rectangle_distance(points, (0.8 * radius, 0.8 * radius))
    return backend.of(points).xp.maximum(frame, stripes_distance(points, period, 0.45 * period))


# Each takes points, radius and form; `form` in [0, 1) chooses among the figures of a kind.
FIGURES: dict[str, Callable[[Array, float, float], Array]] = {
    "rectangle": _rectangle,
    "disc": _disc,
    "ring": _ring,
    "polygon": _polygon,
    "stripes": _stripes,
}


@dataclass(frozen=True)
class Sheet:
    """A template in its place."""

    figure: str
    centre: tuple[float, float]
    radius: float
    turn: float
    form: float  # in [0, 1): which figure of its kind

    def mask(self, points: Array, blur: float = 1.0) -> Array:
        """What the template covers of the pixels with these centres (h, w, 2): (h, w) in [0, 1].

        blur: the width of its edge in pixels; 1 is an anti-aliased edge.
        """
        seen = seen_from(points, self.centre, self.turn)
        return coverage(FIGURES[self.figure](seen, self.radius, self.form) / blur, 0.0)
