"""Random meshes under veils of Bézier curves.

A picture is a mesh and some veils. The mesh: a lattice of vertices, each moved at random, joined to triangles by
Delaunay's rule and filled with the colours of its vertices. A veil: two Bézier curves whose control points are
vertices of the mesh, and a sheaf of strands that pass from the one to the other, each drawn with a broad nib.

Read it from `Bezier._draw` at the end; above it stand the equations, in the order in which a picture uses them.
The few hundred numbers of a picture are planned on the host, where the triangulation is; every pixel is painted on
the backend in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.spatial import Delaunay

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.host import Sampler, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import (
    canvas_shape,
    check_canvas,
    coverage,
    draw_images,
    oklch_to_srgb,
    over,
    pixel_centres,
    stroke_coverage,
)

# Hues of the veils as seen from the hue of the ground, in degrees.
HARMONIES = {"complementary": (180, 150, 25), "triadic": (120, -120, 25), "analogous": (45, 80, -45)}


@dataclass(frozen=True)
class Config:
    """The options of `bezier`."""

    size: int = 128
    """height and width of the images in pixels"""
    channels: int = 3
    """3 for colour, 1 for grey"""
    cells: int = 6
    """mesh cells along a side"""
    curves: int = 5
    """veils in a picture"""
    strands: int = 16
    """curves in a veil"""
    degree: int = 4
    """highest degree of the curves"""
    radius: float = 0.006
    """mean radius of a stroke, as a part of the image's side"""
    fill: bool = True
    """fill the cells of the mesh; otherwise the ground is plain"""
    palette: Literal["random", "complementary", "triadic", "analogous"] = "random"
    """how the hues of the veils stand to the hue of the ground"""
    light: Literal["random", "day", "night"] = "random"
    """dark veils on a light ground, or light veils on a dark one"""

    def __post_init__(self) -> None:
        check_canvas("bezier", self.size, self.channels)
        for name, low, high in (("cells", 1, 64), ("curves", 0, 100), ("strands", 1, 100), ("degree", 1, 12)):
            check_range("bezier", name, getattr(self, name), low, high)
        check_range("bezier", "radius", self.radius, 0.0, 0.2)
        check_choice("bezier", "palette", self.palette, ["random", *HARMONIES])
        check_choice("bezier", "light", self.light, ["random", "day", "night"])


# ---------------------------------------------------------------- the mesh


@equation(
    r"v_{ij} = h\,(i, j) + \tfrac{h}{2} \sqrt{u_{ij}}\,(\cos 2\pi w_{ij}, \sin 2\pi w_{ij})",
    source="jittered lattice (Cook 1986, Stochastic sampling in computer graphics), uniform in the disc |δ| < h/2",
)
def mesh_vertices(uniform: Array, spacing: float) -> Array:
    """Vertices of a lattice, each moved to a random place less than half the spacing away.

    uniform: (rows, columns, 2) numbers (u, w) from [0, 1); the root makes the disc evenly likely, not its centre.
    spacing: h. Returns (rows, columns, 2), the (x, y) of the vertex in row j and column i.
    """
    xp = backend.of(uniform).xp
    rows, columns, _ = uniform.shape
    lattice = xp.stack(xp.meshgrid(xp.arange(columns), xp.arange(rows)), axis=-1).astype(uniform.dtype)
    length, angle = 0.5 * xp.sqrt(uniform[..., 0]), 2 * math.pi * uniform[..., 1]
    return spacing * (lattice + xp.stack([length * xp.cos(angle), length * xp.sin(angle)], axis=-1))


@equation(
    r"\forall\, abc:\; \mathcal{V} \cap \operatorname{int} \bigcirc abc = \varnothing",
    source="Delaunay 1934, Sur la sphère vide",
)
def delaunay_cells(vertices: Array, points: Array) -> tuple[Array, Array]:
    """The triangles between vertices whose circumcircles hold no other vertex. SciPy on the host, the one such place.

    vertices: (n, 2). points: (..., 2). Returns the cells (m, 3), three numbers of vertices each, and for each of the
    points the number of the cell that it lies in (...), -1 outside the hull.
    """
    where = backend.of(vertices)
    mesh = Delaunay(where.to_host(vertices))
    return where.from_host(mesh.simplices), where.from_host(mesh.find_simplex(where.to_host(points)))


def doubled_area(a: Array, b: Array, c: Array) -> Array:
    """(b − a) × (c − a): twice the signed area of the triangle abc; a, b, c (..., 2)."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


@equation(
    r"\lambda = \frac{([pbc], [apc], [abp])}{[abc]}", source="Möbius 1827, Der barycentrische Calcul; [·] is area"
)
def barycentric(points: Array, triangles: Array) -> Array:
    """The weights of a triangle's corners whose centre of mass is the point: they sum to 1, and are ≥ 0 inside.

    points: (..., 2). triangles: (..., 3, 2). Returns (..., 3).
    """
    xp = backend.of(points).xp
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    parts = [doubled_area(points, b, c), doubled_area(a, points, c), doubled_area(a, b, points)]
    return xp.stack(parts, axis=-1) / doubled_area(a, b, c)[..., None]


@equation(r"c(p) = \sum_k \lambda_k(p)\, c_k", source="Möbius 1827; Gouraud 1971 for colours")
def barycentric_colour(weights: Array, colours: Array) -> Array:
    """The colour at a point of a triangle between the colours of its corners.

    weights: (..., 3). colours: (..., 3, channels). Returns (..., channels).
    """
    return backend.of(weights).xp.sum(weights[..., None] * colours, axis=-2)


@equation(
    r"d(p) = \min_k \lambda_k \frac{2\,[abc]}{\|e_k\|}",
    source="λ_k is the distance to the side e_k over the height on it",
)
def side_distance(weights: Array, triangles: Array) -> Array:
    """Distance from a point inside a triangle to the nearest of its sides.

    weights: (..., 3) barycentric. triangles: (..., 3, 2). Returns (...).
    """
    xp = backend.of(weights).xp
    a, b, c = triangles[..., 0, :], triangles[..., 1, :], triangles[..., 2, :]
    sides = xp.stack([c - b, a - c, b - a], axis=-2)  # side k lies opposite corner k
    heights = xp.abs(doubled_area(a, b, c))[..., None] / xp.sqrt(xp.sum(sides * sides, axis=-1))
    return xp.min(weights * heights, axis=-1)


# ---------------------------------------------------------------- the curves


@equation(r"b_{i,n}(t) = \binom{n}{i}\, t^i (1 - t)^{n - i}", source="Bernstein 1912")
def bernstein_basis(degree: int, t: Array) -> Array:
    """The Bernstein polynomials of a degree n: t (s,) gives (s, n + 1)."""
    xp = backend.of(t).xp
    return xp.stack([math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)], axis=-1)


@equation(r"B(t) = \sum_{i=0}^n b_{i,n}(t)\, P_i", source="Farin, Curves and Surfaces for CAGD: Bernstein form")
def bezier_point(control: Array, t: Array) -> Array:
    """Points of Bézier curves: control (..., n + 1, 2) and t (s,) give (..., s, 2)."""
    return bernstein_basis(control.shape[-2] - 1, t) @ control  # (..., s, 2) = (s, n + 1) @ (..., n + 1, 2)


@equation(r"B'(t) = n \sum_{i=0}^{n-1} b_{i,n-1}(t)\, (P_{i+1} - P_i)", source="Farin, Curves and Surfaces for CAGD")
def bezier_derivative(control: Array, t: Array) -> Array:
    """Velocities on Bézier curves: control (..., n + 1, 2) and t (s,) give (..., s, 2)."""
    degree = control.shape[-2] - 1
    return degree * bezier_point(control[..., 1:, :] - control[..., :-1, :], t)


@equation(
    r"P_i^{(r)} = (1 - t)\, P_i^{(r-1)} + t\, P_{i+1}^{(r-1)}, \quad B(t) = P_0^{(n)}", source="de Casteljau 1959"
)
def de_casteljau(control: Array, t: Array | float) -> list[Array]:
    """The triangle of points between which a curve at t is found: P^(0), …, P^(n), of (..., n + 1 - r, 2) each.

    control: (..., n + 1, 2). t: a number, or (..., 1, 1) with one for each curve.
    """
    levels = [control]
    while levels[-1].shape[-2] > 1:
        points = levels[-1]
        levels.append((1 - t) * points[..., :-1, :] + t * points[..., 1:, :])
    return levels


@equation(r"L_r = P_0^{(r)}, \quad R_r = P_r^{(n-r)}", source="de Casteljau 1959: the two sides of his triangle")
def subdivide(control: Array, t: Array | float) -> tuple[Array, Array]:
    """Control points of the parts of a curve before and after t: arguments as for `de_casteljau`."""
    xp = backend.of(control).xp
    levels = de_casteljau(control, t)
    before = xp.stack([points[..., 0, :] for points in levels], axis=-2)
    after = xp.stack([points[..., -1, :] for points in reversed(levels)], axis=-2)
    return before, after


@equation(
    r"\hat P_i = \tfrac{i}{n+1} P_{i-1} + \left(1 - \tfrac{i}{n+1}\right) P_i, \quad i = 0, \dots, n + 1",
    source="Farin, Curves and Surfaces for CAGD: degree elevation",
)
def elevate_degree(control: Array) -> Array:
    """The same curve with one control point more: (..., n + 1, 2) gives (..., n + 2, 2)."""
    xp = backend.of(control).xp
    count = control.shape[-2]  # n + 1
    inner = (xp.arange(1, count, dtype=control.dtype) / count)[:, None]
    between = inner * control[..., :-1, :] + (1 - inner) * control[..., 1:, :]
    return xp.concatenate([control[..., :1, :], between, control[..., -1:, :]], axis=-2)


@equation(
    r"r(t) = r\,(4\,t\,(1 - t))^{2/5}\,(\rho + (1 - \rho)\,|\sin(\theta(t) - \varphi)|)",
    source="Knuth 1986, The METAFONTbook, for the broad nib; the first factor presses the pen down and lifts it",
)
def pen_radius(tangent: Array, t: Array, nib: float, radius: float, thin: float = 0.25) -> Array:
    """Half the width that a pen with a broad nib leaves: `radius` across the nib, `thin` of it along the nib.

    tangent: (..., s, 2), the direction θ of the stroke at t, of any length. t: (s,) in [0, 1]. nib: its angle φ.
    Returns (..., s).
    """
    xp = backend.of(tangent).xp
    pressure = (4 * t * (1 - t)) ** 0.4
    angle = xp.arctan2(tangent[..., 1], tangent[..., 0]) - nib
    return radius * pressure * (thin + (1 - thin) * xp.abs(xp.sin(angle)))


# ---------------------------------------------------------------- the picture


@dataclass(frozen=True)
class Palette:
    """The decisions on colour of one picture: hues in radians; no chroma makes it grey."""

    night: bool
    hue: float
    accents: tuple[float, ...]
    chroma: float


def choose_palette(random: Stream, config: Config, chroma: float) -> Palette:
    """A hue for the ground, three for the veils, and whether it is day. A host stream."""
    names = list(HARMONIES)
    drawn = names[int(random.integers(0, len(names), ()))]
    night = bool(random.bernoulli(0.6, ())) if config.light == "random" else config.light == "night"
    # Dark yellow and green look muddy: a night's ground is from teal over blue and violet to crimson.
    hue = math.radians(float(random.uniform((), 160, 390) if night else random.uniform((), 0, 360)))
    offsets = HARMONIES[drawn if config.palette == "random" else config.palette]
    return Palette(night, hue, tuple(hue + math.radians(offset) for offset in offsets), chroma)


def _step(random: Stream, count: int) -> Array:
    """Steps to a neighbour in the mesh, from -2, -1, 1 and 2."""
    return random.integers(1, 3, count) * (2 * random.integers(0, 2, count) - 1)


class Bezier(Sampler):
    """Pictures of random meshes and Bézier curves."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.channels, self.height, self.width = canvas_shape("bezier", config.size, config.channels, data)
        self.side = min(self.height, self.width)

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1]; image i is the same in a sample of any length."""
        return draw_images(n, random, self._draw)

    def _draw(self, random: Stream) -> Array:
        """One picture (c, h, w): the ground, and veil upon veil laid over it."""
        plan = Stream(random.seed, random.name, backend.NUMPY)
        palette = choose_palette(plan.child("palette"), self.config, chroma=1.0 if self.channels == 3 else 0.0)
        vertices = self._vertices(plan.child("mesh"))
        canvas = self._ground(plan.child("ground"), vertices, palette)
        for number in range(self.config.curves):
            canvas = self._veil(plan.child(f"veil {number}"), number, vertices, palette, canvas)
        return backend.of(canvas).xp.clip(canvas[: self.channels], 0.0, 1.0)

    def _vertices(self, plan: Stream) -> Array:
        """Vertices (rows, columns, 2) of a mesh one spacing wider than the canvas, whose hull therefore covers it."""
        spacing = self.side / self.config.cells
        rows, columns = (-(-self.config.cells * length // self.side) + 3 for length in (self.height, self.width))
        return mesh_vertices(plan.uniform((rows, columns, 2)), spacing) - spacing

    def _ground(self, plan: Stream, vertices: Array, palette: Palette) -> Array:
        """The mesh (3, h, w): cells filled between the colours of their vertices, sides drawn as hairlines."""
        to_device = backend.current().from_host
        xp = backend.of(vertices).xp
        pixels = pixel_centres(xp, self.height, self.width)
        vertices = vertices.reshape(-1, 2)
        cells, cell = delaunay_cells(vertices, pixels)  # (m, 3), (h, w)
        colours = self._ground_colours(plan, vertices, palette)

        pixels, cell, cells = to_device(pixels), to_device(cell), to_device(cells)
        triangles = to_device(vertices)[cells][cell]  # (h, w, 3, 2)
        weights = barycentric(pixels, triangles)  # (h, w, 3)
        canvas = barycentric_colour(weights, to_device(colours)[cells][cell]).transpose(2, 0, 1)  # (3, h, w)
        hairline = coverage(side_distance(weights, triangles), 0.0025 * self.side) * (0.16 if palette.night else 0.4)
        white = to_device(xp.ones(3, "float32"))
        return over(canvas, white, hairline)

    def _ground_colours(self, plan: Stream, vertices: Array, palette: Palette) -> Array:
        """A colour (m, 3) for each vertex (m, 2): light and hue change along a direction, and a little at random."""
        angle = float(plan.uniform((), 0, 2 * math.pi))
        along = vertices[:, 0] * math.cos(angle) + vertices[:, 1] * math.sin(angle)
        ramp = (along - along.mean()) / self.side + plan.normal(len(vertices), std=0.15)
        if not self.config.fill:
            ramp = 0.0 * ramp  # the same colour everywhere
        lightness, chroma = (0.30 + 0.16 * ramp, 0.08) if palette.night else (0.90 + 0.07 * ramp, 0.06)
        return oklch_to_srgb(lightness, chroma * palette.chroma, palette.hue + 1.1 * ramp)

    def _veil(self, plan: Stream, number: int, vertices: Array, palette: Palette, canvas: Array) -> Array:
        """The canvas with one veil laid over it, strand by strand."""
        to_device = backend.current().from_host
        control = to_device(self._strands(plan.child("strands"), number, vertices))
        colours, opacity = map(to_device, self._veil_colours(plan.child("colours"), number, palette))
        nib, thickness = float(plan.uniform((), 0, math.pi)), float(plan.uniform((), 0.5, 1.5))

        # A chord misses its arc by up to ‖B″‖ / 8s², and ‖B″‖ grows with the side and the degree: so many segments
        # keep the chords within about a tenth of a pixel, at any size.
        segments = math.ceil((4 + self.config.degree) * math.sqrt(self.side / 2))
        t = backend.of(control).xp.arange(segments + 1, dtype="float32") / segments
        middle = t[:-1] + 0.5 / segments
        radius = thickness * self.config.radius * self.side
        radii = pen_radius(bezier_derivative(control, middle), middle, nib, radius)  # (strands, segments)
        alpha = stroke_coverage(bezier_point(control, t), radii, self.height, self.width)  # (strands, h, w)
        alpha = opacity[:, None, None] * alpha
        for strand in range(self.config.strands):
            canvas = over(canvas, colours[strand], alpha[strand])
        return canvas

    def _strands(self, plan: Stream, number: int, vertices: Array) -> Array:
        """Control points (strands, degree + 1, 2) of a veil's strands.

        Its first strand follows vertices sorted along a random direction, so that it sweeps and does not knot; its
        last strand follows neighbours of these; blends of the control points are the curves between. The pen is lifted
        the earlier the later the strand, which gives the veil a slanted edge.
        """
        xp = backend.of(vertices).xp
        rows, columns, _ = vertices.shape
        degrees = range(min(2, self.config.degree), self.config.degree + 1)
        count = degrees[number % len(degrees)] + 1

        row, column = plan.integers(0, rows, count), plan.integers(0, columns, count)
        angle = float(plan.uniform((), 0, 2 * math.pi))
        order = xp.argsort(vertices[row, column] @ xp.array([math.cos(angle), math.sin(angle)]))
        row, column = row[order], column[order]
        row_beside = xp.clip(row + _step(plan, count), 0, rows - 1)
        column_beside = xp.clip(column + _step(plan, count), 0, columns - 1)

        across = self._across()[:, None, None]
        first, last = vertices[row, column], vertices[row_beside, column_beside]
        control = (1 - across) * first + across * last
        for _ in range(self.config.degree + 1 - count):
            control = elevate_degree(control)  # one degree for all veils: one shape for every array of strands
        return subdivide(control, 1 - float(plan.uniform((), 0, 0.3)) * across)[0]

    def _across(self) -> Array:
        """Where each strand stands between the edges of its veil: 0 … 1."""
        return backend.NUMPY.xp.linspace(0.0, 1.0, self.config.strands, dtype="float32")

    def _veil_colours(self, plan: Stream, number: int, palette: Palette) -> tuple[Array, Array]:
        """Colour (strands, 3) and opacity (strands,) from the first strand to the last, which is nearly clear."""
        across = self._across()
        accent = palette.accents[number % len(palette.accents)] + float(plan.normal((), std=0.2))
        hue = accent + float(plan.normal((), std=0.8)) * across
        light, change = (0.62, 0.12) if palette.night else (0.42, -0.08)
        lightness = light + float(plan.uniform((), 0, 0.22)) + change * across
        chroma = float(plan.uniform((), 0.10, 0.16)) * palette.chroma
        opacity = float(plan.uniform((), 0.55, 0.95)) * (1 - 0.8 * across)
        return oklch_to_srgb(lightness, chroma, hue), opacity
