"""Particles that a velocity field carries over a canvas, where they leave ink: dx = v(x) dt + √(2D) dW.

A picture is painted in a few layers. In each, brushes are set down all over the canvas, a brush being a row of
bristles across the flow, and every bristle is a particle: it drifts with the field, trembles a little, and leaves ink
wherever it passes. When all have run their course, the layer lies over the ones before it.

Read it from `Particles._paint` at the end; above it stand the equations: the fields, the step in time, the ink.
The few thousand numbers that a layer starts from are drawn on the host; the particles run on the backend in use.
Lengths are in pixels, and a unit of time is what a particle of mean speed takes for one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import Animator, Sampler, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import (
    Palette,
    canvas_shape,
    check_canvas,
    draw_images,
    draw_palette,
    over_premultiplied,
    smooth_noise,
)

Velocity = Callable[[Array], Array]  # points (n, 2) to velocities (n, 2)
TINY = 1e-6  # ink below this is no ink, and keeps 0 / 0 out of its mean colour


@dataclass(frozen=True)
class Config:
    """The options of `particles`."""

    size: int = 256
    """height and width of the images in pixels"""
    channels: int = 3
    """3 for colour, 1 for grey"""
    field: Literal["random", "curl", "rotation", "shear", "source", "sink", "image"] = "random"
    """what moves the particles; "image" is the gradient of a smooth random image's brightness"""
    particles: int = 12000
    """bristles of all brushes of all layers"""
    layers: int = 4
    """layers of paint, broad brushes first"""
    length: float = 0.3
    """length of a stroke at mean speed, as a part of the image's side"""
    step: float = 0.8
    """time step Δt: the pixels that a particle of mean speed moves at once"""
    diffusion: float = 0.01
    """D, in squares of pixels for each unit of time: how much the particles tremble"""
    turbulence: float = 0.35
    """part of curl noise in the other fields"""
    scheme: Literal["midpoint", "euler"] = "midpoint"
    """how a step is taken: with the velocity half-way, or with that at its beginning"""
    colour: Literal["random", "palette", "age", "speed"] = "random"
    """what the colour of the ink depends on: the brush alone, or also how old or how fast a particle is"""
    ink: float = 0.9
    """ink that a particle leaves on a pixel of its way"""
    fade: float = 0.0
    """part of the ink that pales in a unit of time"""
    light: Literal["random", "day", "night"] = "random"
    """a light ground, or a dark one"""

    def __post_init__(self) -> None:
        check_canvas("particles", self.size, self.channels)
        check_choice("particles", "field", self.field, ["random", *FIELDS])
        check_range("particles", "particles", self.particles, 1, 1_000_000)
        check_range("particles", "layers", self.layers, 1, 100)
        check_range("particles", "length", self.length, 0.01, 10.0)
        check_range("particles", "step", self.step, 0.05, 10.0)
        check_range("particles", "diffusion", self.diffusion, 0.0, 10.0)
        check_range("particles", "turbulence", self.turbulence, 0.0, 1.0)
        check_choice("particles", "scheme", self.scheme, ["midpoint", "euler"])
        check_choice("particles", "colour", self.colour, ["random", *COLOURS])
        check_range("particles", "ink", self.ink, 0.01, 100.0)
        check_range("particles", "fade", self.fade, 0.0, 0.5)
        check_choice("particles", "light", self.light, ["random", "day", "night"])


FIELDS = ["curl", "rotation", "shear", "source", "sink", "image"]
COLOURS = ["palette", "age", "speed"]

# ---------------------------------------------------------------- the fields
# A velocity is (x, y), to the right and downwards: (n, 2) at points (n, 2), and (2, h, w) on all pixels of a canvas,
# where it goes on across the edges.


@equation(
    r"v(x) = A\,(x - m)", source="linear: A = -Aᵀ turns, A = ±I is a source or sink, one entry off the diagonal shears"
)
def linear_velocity(points: Array, matrix: tuple[float, float, float, float], centre: tuple[float, float]) -> Array:
    """Velocities (..., 2) at points (..., 2) of the linear field about `centre` with A = ((a, b), (c, d))."""
    xp = backend.of(points).xp
    a, b, c, d = matrix
    x, y = points[..., 0] - centre[0], points[..., 1] - centre[1]
    return xp.stack([a * x + b * y, c * x + d * y], axis=-1)


def _differences(image: Array, axis: int) -> Array:
    """Half the difference of the two neighbours along an axis: the slope, exact for parabolas."""
    xp = backend.of(image).xp
    return 0.5 * (xp.roll(image, -1, axis=axis) - xp.roll(image, 1, axis=axis))


@equation(
    r"v = \left(\frac{\partial \psi}{\partial y}, -\frac{\partial \psi}{\partial x}\right)",
    source="Bridson et al. 2007, Curl-noise for procedural fluid flow: no divergence, and motion along the lines of ψ",
)
def curl(potential: Array) -> Array:
    """Velocities (2, h, w) on the pixels from a stream function ψ (h, w), by central differences."""
    return backend.of(potential).xp.stack([_differences(potential, 0), -_differences(potential, 1)])


@equation(r"v = \nabla I", source="the way of steepest ascent")
def ascent(image: Array) -> Array:
    """Velocities (2, h, w) on the pixels towards brighter ones of an image (h, w), by central differences."""
    return backend.of(image).xp.stack([_differences(image, 1), _differences(image, 0)])


def _corners(points: Array) -> Iterator[tuple[Array, Array, Array]]:
    """The four pixels whose centres surround each of the points (n, 2): column, row and bilinear weight, (n,) each.

    The weight of a centre q is (1 − |p_x − q_x|)(1 − |p_y − q_y|); the four of a point sum to 1.
    """
    xp = backend.of(points).xp
    from_centre = points.T - 0.5  # (2, n)
    first = xp.floor(from_centre)
    right, down = from_centre - first  # how far the point is on its way to the next centre
    column, row = first.astype("int64")
    yield column, row, (1 - right) * (1 - down)
    yield column + 1, row, right * (1 - down)
    yield column, row + 1, (1 - right) * down
    yield column + 1, row + 1, right * down


@equation(
    r"v(p) = \sum_q v_q\, w(p - q), \quad w(u) = \max(0, 1 - |u_x|) \max(0, 1 - |u_y|)",
    source="bilinear interpolation between the pixels' centres q",
)
def interpolated(field: Array, points: Array) -> Array:
    """A field (c, h, w) between its pixels, at points (n, 2): (n, c)."""
    xp = backend.of(field).xp
    c, h, w = field.shape
    flat = field.reshape(c, h * w)
    parts = [weight * xp.take(flat, row % h * w + column % w, axis=1) for column, row, weight in _corners(points)]
    return (parts[0] + parts[1] + parts[2] + parts[3]).T  # (n, c)


# ---------------------------------------------------------------- the step in time


@equation(
    r"x_{k+1} = x_k + v(x_k)\,\Delta t + \sqrt{2 D \Delta t}\; \xi_k, \quad \xi_k \sim N(0, I)",
    source="Maruyama 1955; order 1 in Δt where D = 0",
)
def euler_maruyama(points: Array, velocity: Velocity, dt: float, diffusion: float, noise: Array | float) -> Array:
    """Where particles at points (n, 2) are after dt. noise: ξ (n, 2); any number will do where D = 0."""
    return points + dt * velocity(points) + math.sqrt(2 * diffusion * dt) * noise


@equation(
    r"x_{k+1} = x_k + v\!\left(x_k + \tfrac{\Delta t}{2} v(x_k)\right) \Delta t + \sqrt{2 D \Delta t}\; \xi_k",
    source="the midpoint rule (Runge 1895), order 2 in Δt where D = 0, with Maruyama's noise",
)
def midpoint(points: Array, velocity: Velocity, dt: float, diffusion: float, noise: Array | float) -> Array:
    """Where particles at points (n, 2) are after dt, by the velocity half-way. Arguments as for `euler_maruyama`."""
    half_way = points + 0.5 * dt * velocity(points)
    return points + dt * velocity(half_way) + math.sqrt(2 * diffusion * dt) * noise


# ---------------------------------------------------------------- the ink


@equation(
    r"I(q) \mathrel{+}= \sum_k a_k\, w(q - x_k), \quad w(u) = \max(0, 1 - |u_x|) \max(0, 1 - |u_y|)",
    source="bilinear splatting: the transpose of bilinear interpolation, so that no ink is lost",
)
def splat(canvas: Array, points: Array, ink: Array) -> None:
    """Leave ink (c, n) at points (n, 2) of a canvas (c, h, w), in place. What falls beside the canvas is gone.

    Raises ValueError for a canvas that is not contiguous.
    """
    where, (c, h, w) = backend.of(canvas), canvas.shape
    if not canvas.flags.c_contiguous:
        raise ValueError("splat: the canvas must be contiguous, as it is painted on through a flat view")
    xp = where.xp
    plane = h * w * xp.arange(c)[:, None]  # (c, 1)
    flat = canvas.reshape(-1)  # a view
    for column, row, weight in _corners(points):
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        place = plane + xp.where(inside, row * w + column, 0)  # (c, n)
        where.scatter_add(flat, place.reshape(-1), (ink * (weight * inside)).reshape(-1))


@equation(
    r"\alpha = 1 - e^{-A}, \quad C = \alpha \frac{\sum_k a_k c_k}{A}, \quad A = \sum_k a_k",
    source="Beer and Lambert: what covers e^{-a} and then e^{-b} covers e^{-(a + b)}; the colour is the inks' mean",
)
def ink_layer(ink: Array) -> Array:
    """The premultiplied layer (c + 1, h, w) that inks make. ink: (c + 1, h, w), Σ a_k c_k in each channel, and A."""
    xp, amount = backend.of(ink).xp, ink[-1:]
    alpha = -xp.expm1(-amount)
    return xp.concatenate([alpha * ink[:-1] / xp.maximum(amount, TINY), alpha])


@equation(
    r"a(s) = a\,(4 s (1 - s))^{2/5} \text{ for } s \in [0, 1], \text{ else } 0", source="a brush set down and lifted"
)
def pressure(age: Array, ink: float) -> Array:
    """The ink that a bristle leaves at an age s, as a part of its stroke: (n,) to (n,)."""
    return ink * backend.of(age).xp.maximum(4 * age * (1 - age), 0.0) ** 0.4


# ---------------------------------------------------------------- the picture


@dataclass(frozen=True)
class Brushes:
    """The bristles that a layer starts with, on the backend in use."""

    points: Array  # (n, 2)
    colours: Array  # (2, c, n): at the beginning of a stroke, and at its end or at great speed
    span: Array  # (n,), how much of the layer's time each bristle paints

    def mixed(self, colouring: str, age: Array, velocity: Array) -> Array:
        """The colours (c, n) of the bristles at their age (n,) and velocity (n, 2)."""
        xp = backend.of(age).xp
        first, second = self.colours
        if colouring == "palette":
            return first
        speed = xp.sqrt(xp.sum(velocity * velocity, axis=-1))
        part = xp.clip(age if colouring == "age" else 0.5 * speed, 0.0, 1.0)
        return first + part * (second - first)


class Particles(Sampler, Animator):
    """Paintings by particles."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.channels, self.height, self.width = canvas_shape("particles", config.size, config.channels, data)
        self.side = min(self.height, self.width)
        self.steps = max(1, round(config.length * self.side / config.step))  # of a layer

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1]; image i is the same in a sample of any length."""
        return draw_images(n, random, lambda image: self._frames(image, 1)[0])

    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n films (n, t, c, h, w) of pictures being painted; the last frame of film i is image i of a sample."""
        if frames < 1:
            raise UsageError(f"particles: a film must have 1 frame or more, got {frames}", "set --frames 1 or more")
        return draw_images(n, random, lambda image: self._frames(image, frames))

    def _frames(self, random: Stream, frames: int) -> Array:
        """The picture (t, c, h, w) at t moments, equally far from each other in time; the last is the end."""
        total = self.config.layers * self.steps
        moments = [total * (frame + 1) // frames for frame in range(frames)]
        shown = [canvas for moment, canvas in self._paint(random, set(moments)) for _ in range(moments.count(moment))]
        return backend.of(shown[0]).xp.stack(shown)

    def _paint(self, random: Stream, moments: set[int]) -> Iterator[tuple[int, Array]]:
        """Paint a picture, and show it (c, h, w) at some of its moments, counted in time steps."""
        plan = Stream(random.seed, random.name, backend.NUMPY)
        palette = draw_palette(plan.child("palette"), self.channels, self.config.light)
        velocity = self._velocity(plan.child("field"))
        tones = smooth_noise(plan.child("tones").normal((self.height, self.width)), 0.16 * self.side)
        tones = 0.5 + 0.5 * backend.NUMPY.xp.tanh(0.9 * tones)  # (h, w): from dark to light, where on the canvas
        colouring: str = self.config.colour
        if colouring == "random":
            colouring = COLOURS[int(plan.integers(0, len(COLOURS), ()))]
        advance = {"midpoint": midpoint, "euler": euler_maruyama}[self.config.scheme]
        dt, diffusion = self.config.step, self.config.diffusion
        kept = math.exp(-self.config.fade * dt)

        canvas = ground = self._ground(palette, tones)
        xp, moment = backend.of(canvas).xp, 0
        if moment in moments:
            yield moment, canvas[:-1]
        for layer in range(self.config.layers):
            brushes = self._brushes(plan.child(f"layer {layer}"), layer, palette, tones, velocity)
            tremble = random.child(f"tremble {layer}")
            points, ink = brushes.points, xp.zeros(canvas.shape, canvas.dtype)
            for step in range(self.steps):
                noise = tremble.normal(points.shape) if diffusion else 0.0
                moved = advance(points, velocity, dt, diffusion, noise)
                age = (step + 0.5) / self.steps / brushes.span
                colours = brushes.mixed(colouring, age, (moved - points) / dt)
                amount = pressure(age, self.config.ink * dt)
                splat(ink, 0.5 * (points + moved), xp.concatenate([colours * amount, amount[None]]))
                points = moved
                if kept < 1:
                    ink, canvas = kept * ink, ground + kept * (canvas - ground)
                moment += 1
                if moment in moments:
                    yield moment, xp.clip(over_premultiplied(ink_layer(ink), canvas)[:-1], 0.0, 1.0)
            canvas = over_premultiplied(ink_layer(ink), canvas)

    def _ground(self, palette: Palette, tones: Array) -> Array:
        """The opaque layer (c + 1, h, w) to paint on: the ground, washed with the inks to come there."""
        xp = backend.NUMPY.xp
        ladder = xp.linspace(0.1, 0.9, len(palette.inks))
        wash = xp.stack([xp.interp(tones, ladder, ink) for ink in palette.inks.T])  # (c, h, w)
        ground = palette.ground[:, None, None] + 0.75 * (wash - palette.ground[:, None, None])
        return backend.current().from_host(xp.concatenate([ground, xp.ones((1, *tones.shape))]).astype("float32"))

    def _velocity(self, plan: Stream) -> Velocity:
        """The field that carries the particles: about 1 fast, in the root of the mean square over the canvas."""
        kind: str = self.config.field
        if kind == "random":
            kind = FIELDS[int(plan.integers(0, len(FIELDS), ()))]
        length = self.side * float(plan.uniform((), 0.06, 0.15))
        part = 0.0 if kind == "curl" else 1 - self.config.turbulence  # of the field, beside the eddies
        eddies = (1 - part) * _of_speed_one(curl(self._noise(plan.child("eddies"), length)))
        if kind == "image":
            eddies = eddies + part * _of_speed_one(ascent(self._noise(plan.child("image"), length)))
        if kind in ("curl", "image"):
            return lambda points: interpolated(eddies, points)
        sign = 1.0 if kind == "source" or (kind != "sink" and bool(plan.bernoulli(0.5, ()))) else -1.0
        a = part * sign / (0.4 * self.side)
        matrix = {"rotation": (0.0, -a, a, 0.0), "shear": (0.0, a, 0.0, 0.0)}.get(kind, (a, 0.0, 0.0, a))
        x, y = plan.uniform(2, 0.3, 0.7).tolist()
        centre = (x * self.width, y * self.height)
        return lambda points: linear_velocity(points, matrix, centre) + interpolated(eddies, points)

    def _noise(self, plan: Stream, length: float) -> Array:
        """Smooth noise (h, w) on the backend in use."""
        return smooth_noise(backend.current().from_host(plan.normal((self.height, self.width))), length)

    def _brushes(self, plan: Stream, layer: int, palette: Palette, tones: Array, velocity: Velocity) -> Brushes:
        """The brushes of a layer: each a row of bristles across the flow, in an ink that depends on where it is."""
        xp, to_device = backend.NUMPY.xp, backend.current().from_host
        count = max(1, self.config.particles // self.config.layers)
        width = 0.06 * self.side * 0.6**layer
        brushes = max(1, round(count / max(1.0, 1.3 * width)))
        brush = xp.arange(count) * brushes // count  # which brush a bristle belongs to

        margin = 0.1 * self.side
        low = xp.array([-margin, -margin], "float32")
        extent = xp.array([self.width + 2 * margin, self.height + 2 * margin], "float32")
        places = low + extent * plan.uniform((brushes, 2))
        at = xp.clip(places.astype("int64"), 0, xp.array([self.width - 1, self.height - 1]))
        middle = to_device(places[brush])
        flow = velocity(middle)
        across = to_device(width * (plan.uniform((count, 1)) - 0.5))
        device = backend.of(flow).xp
        normal = device.stack([-flow[:, 1], flow[:, 0]], axis=-1)
        points = middle + across * normal / (device.sqrt(device.sum(flow * flow, axis=-1, keepdims=True)) + TINY)

        span = plan.uniform(brushes, 0.4, 1.0)[brush] * plan.uniform(count, 0.8, 1.0)
        tone = xp.clip(tones[at[:, 1], at[:, 0]] + 0.16 * plan.normal(brushes), 0.0, 0.999)
        ink = (len(palette.inks) * tone).astype("int64")
        shade = 1 + 0.12 * plan.normal((count, 1))
        colours = xp.stack(
            [palette.inks[ink][brush] * shade, palette.inks[(ink + 1) % len(palette.inks)][brush] * shade]
        )
        return Brushes(points, to_device(xp.clip(colours, 0.0, 1.0).transpose(0, 2, 1)), to_device(span))


def _of_speed_one(field: Array) -> Array:
    """The field (2, h, w), its root mean square speed made 1."""
    xp = backend.of(field).xp
    return field / xp.sqrt(xp.mean(xp.sum(field * field, axis=0)) + 1e-30)
