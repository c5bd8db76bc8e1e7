"""What the drawings of this family share: canvas, distances, coverage, paint, noise and colour.

A figure is drawn by its distance. `pixel_centres` says where the pixels are, a distance function how far each of them
lies from the figure, `coverage` turns the distance into the part of the pixel that is covered, `over` lays the colour
on, and `stroke_coverage` does the first three for many strokes at once.

Lengths are in pixels, x to the right and y downwards: the pixel in row j and column i is the unit square around
(i + 1/2, j + 1/2), and points are (..., 2) arrays of (x, y). Each function computes on the library of its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinygen import backend
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import check_range, equation
from tinygen.random import Stream

TINY = 1e-30  # keeps 0 / 0 out of the projection on a segment without length

# ---------------------------------------------------------------- options and images


def check_canvas(owner: str, size: int, channels: int) -> None:
    """Raise UsageError unless images of this size and number of channels can be drawn."""
    check_range(owner, "size", size, 8, 2048)
    if channels not in (1, 3):
        raise UsageError(f"{owner}: channels must be 1 (grey) or 3 (colour), got {channels}", "set --channels 1 or 3")


def canvas_shape(owner: str, size: int, channels: int, data: DataSpec | None) -> tuple[int, int, int]:
    """(c, h, w) of the images to draw: the data's where there is data, else that of the options."""
    if data is None:
        return channels, size, size
    check_canvas(f"{owner} on data {data.name}", min(data.height, data.width), data.channels)
    return data.shape


def draw_images(n: int, random: Stream, draw: Callable[[Stream], Array]) -> Tensor:
    """n images (n, c, h, w), image i drawn from `random.child("image i")`.

    So image i depends on the stream and i alone: the sample of one is the first image of the sample of many.
    """
    if n < 1:
        raise UsageError(f"sample: the number of images must be at least 1, got {n}", "ask for one image or more")
    images = [draw(random.child(f"image {i}")) for i in range(n)]
    return tensor(backend.of(images[0]).xp.stack(images))


# ---------------------------------------------------------------- distances


def pixel_centres(xp: Any, height: int, width: int) -> Array:
    """(h, w, 2) float32: the centre (i + 1/2, j + 1/2) of the pixel in row j and column i."""
    x = xp.arange(width, dtype="float32") + 0.5
    y = xp.arange(height, dtype="float32") + 0.5
    return xp.stack(xp.meshgrid(x, y), axis=-1)


@equation(
    r"d(p, ab) = \left\| p - a - u\,(b - a) \right\|, \quad"
    r" u = \operatorname{clip}\!\left(\frac{(p - a) \cdot (b - a)}{\|b - a\|^2}, 0, 1\right)",
    source="Euclid: the foot of the perpendicular, or the nearer end where it falls outside",
)
def segment_distance(points: Array, start: Array, end: Array) -> Array:
    """Distance of points to segments; a segment without length is a point.

    points, start, end: (..., 2), broadcast against each other. Returns (...).
    """
    xp = backend.of(points).xp
    edge = end - start
    x, y = points[..., 0] - start[..., 0], points[..., 1] - start[..., 1]
    edge_x, edge_y = edge[..., 0], edge[..., 1]
    u = (x * edge_x + y * edge_y) / xp.maximum(edge_x * edge_x + edge_y * edge_y, TINY)
    u = xp.clip(u, 0.0, 1.0)
    x, y = x - u * edge_x, y - u * edge_y
    return xp.sqrt(x * x + y * y)


@equation(
    r"d(p) = \pm \min_k d(p, v_k v_{k+1}), \quad - \text{ where } \sum_k w_k(p) \neq 0",
    source="winding number: w_k is ±1 where the edge crosses the ray to the right, + where y grows along it, else 0",
)
def polygon_distance(points: Array, vertices: Array) -> Array:
    """Signed distance of points to the outline of a closed polygon, negative inside.

    points: (..., 2). vertices: (m, 2) in order around, either way. Returns (...).
    """
    xp = backend.of(points).xp
    start = vertices.reshape(-1, *[1] * (points.ndim - 1), 2)  # (m, 1, …, 2): the edges come first
    end = xp.roll(start, -1, axis=0)
    edge = end - start
    x, y = points[..., 0] - start[..., 0], points[..., 1] - start[..., 1]
    side = edge[..., 0] * y - edge[..., 1] * x  # which side of the edge's line the point is on
    past_start, past_end = y >= 0, points[..., 1] >= end[..., 1]
    rising, falling = past_start & ~past_end & (side > 0), ~past_start & past_end & (side < 0)
    winding = xp.sum(rising, axis=0) - xp.sum(falling, axis=0)
    distance = xp.min(segment_distance(points, start, end), axis=0)
    return xp.where(winding != 0, -distance, distance)


# ---------------------------------------------------------------- coverage and paint


@equation(r"\alpha = \operatorname{clip}(r + \tfrac{1}{2} - d, 0, 1)", source="the box of one pixel along the normal")
def coverage(distance: Array, radius: Array | float) -> Array:
    """The part of a pixel that a figure covers whose outline lies `radius` beyond distance 0: an anti-aliased edge.

    Exact for a straight outline along an axis of the pixels, if the figure is at least a pixel thick.
    distance, radius: in pixels, broadcast against each other.
    """
    return backend.of(distance).xp.clip(radius + 0.5 - distance, 0.0, 1.0)


@equation(
    r"\alpha_k(p) = \max_s\, \min(1, 2 r_{ks})\,"
    r" \operatorname{clip}\!\left(\max(r_{ks}, \tfrac{1}{2}) + \tfrac{1}{2} - d(p, b_{ks} b_{k,s+1}), 0, 1\right)",
    source="coverage of a union: the nearest segment decides; what is under a pixel wide is drawn wider and fainter",
)
def stroke_coverage(points: Array, radius: Array, height: int, width: int) -> Array:
    """What each of k strokes covers of each pixel. A stroke is a broken line, each segment as thick as it likes.

    points: (k, s + 1, 2). radius: (k, s). Returns (k, h, w) in [0, 1].

    A segment is asked for its distance at the m pixels of a square window alone, which holds all that it can touch:
    s · m distances for a stroke in place of s · h · w. A pixel keeps the largest coverage that a window gives it.
    """
    where = backend.of(points)
    xp = where.xp
    start, end, radius = points[:, :-1], points[:, 1:], radius[..., None]  # (k, s, 2), (k, s, 2), (k, s, 1)
    reach = xp.maximum(radius, 0.5)
    low, high = xp.minimum(start, end) - reach, xp.maximum(start, end) + reach
    # A pixel i is touched where low - 1/2 < i + 1/2 < high + 1/2: from floor(low) on, one more than the extent at most.
    side = math.ceil(where.scalar(xp.max(high - low))) + 1
    window = pixel_centres(xp, side, side).reshape(-1, 2)  # (m, 2)
    pixel = xp.floor(low)[:, :, None] + window  # (k, s, m, 2)
    distance = segment_distance(pixel, start[:, :, None], end[:, :, None])  # (k, s, m)
    alpha = xp.minimum(2 * radius, 1.0) * coverage(distance, reach)
    return _largest(pixel, alpha, height, width)


def _largest(pixel: Array, alpha: Array, height: int, width: int) -> Array:
    """Layers (k, h, w) with the largest alpha (k, s, m) that stands at each pixel; pixel holds centres (k, s, m, 2)."""
    xp = backend.of(alpha).xp
    strokes, segments, _ = alpha.shape
    cell = xp.floor(pixel).astype("int64")
    column, row = cell[..., 0], cell[..., 1]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    stroke = xp.arange(strokes)[:, None, None]
    outside = strokes * height * width  # one place past the layers takes what falls off the canvas
    place = xp.where(inside, (stroke * height + row) * width + column, outside)
    layers = xp.zeros(outside + 1, alpha.dtype)
    # One segment after another: a window holds no pixel of the canvas twice, so that no two writes meet.
    for s in range(segments):
        at = place[:, s]
        layers[at] = xp.maximum(layers[at], alpha[:, s])
    return layers[:-1].reshape(strokes, height, width)


@equation(r"I' = (1 - \alpha)\, I + \alpha\, c", source="Porter and Duff 1984: over, on an opaque ground")
def over(canvas: Array, colour: Array, alpha: Array) -> Array:
    """The canvas with a colour laid over it.

    canvas: (c, h, w). colour: (c,). alpha: (h, w) in [0, 1]. Returns (c, h, w).
    """
    return canvas + alpha * (colour[:, None, None] - canvas)


@equation(
    r"C_o = C_a + (1 - \alpha_a)\, C_b, \quad \alpha_o = \alpha_a + (1 - \alpha_a)\, \alpha_b",
    source="Porter and Duff 1984, Compositing digital images: over, colours premultiplied by what they cover",
)
def over_premultiplied(above: Array, below: Array) -> Array:
    """One layer of paint over another: a layer (c + 1, h, w) is its colours C times what they cover, and that, α.

    Associative, so that a picture may be laid from the top or from the bottom; not commutative.
    Returns (c + 1, h, w). Colours and coverage obey the same rule, which is what the premultiplied form is for.
    """
    return above + (1 - above[-1:]) * below


# ---------------------------------------------------------------- noise


@equation(
    r"n = \frac{F^{-1}[H \cdot F w]}{\sqrt{\tfrac{1}{hw} \sum_f H(f)^2}}, \quad H(f) = e^{-2 \pi^2 \sigma^2 \|f\|^2}",
    source="white noise through a Gaussian filter, in Fourier's space; divided by the norm of H it keeps its variance",
)
def smooth_noise(white: Array, length: float) -> Array:
    """Noise that changes over about `length` = σ pixels, and that goes on across the edges, right to left.

    white: (..., h, w), independent N(0, 1). Returns (..., h, w), each value N(0, 1), near ones alike.
    """
    xp = backend.of(white).xp
    h, w = white.shape[-2:]
    scale = -2 * (math.pi * length) ** 2
    down = xp.exp(scale * xp.fft.fftfreq(h).astype(white.dtype) ** 2)  # H = down · across, as ‖f‖² is a sum
    across = xp.exp(scale * xp.fft.fftfreq(w).astype(white.dtype) ** 2)
    norm = xp.sqrt(xp.mean(down * down) * xp.mean(across * across))
    spectrum = xp.fft.rfft2(white) * down[:, None] * across[: w // 2 + 1]
    return xp.fft.irfft2(spectrum, s=(h, w)) / norm


# ---------------------------------------------------------------- colour


@equation(
    r"\begin{aligned} (l', m', s') &= M_2^{-1} (L, C \cos h, C \sin h), \quad"
    r" (R, G, B) = M_1^{-1} (l'^3, m'^3, s'^3), \\"
    r" \mathrm{sRGB} &= 12.92\,x \text{ for } x \le 0.0031308, \text{ else } 1.055\,x^{1/2.4} - 0.055 \end{aligned}",
    source="Ottosson 2020, A perceptual color space for image processing; IEC 61966-2-1 for the transfer curve",
)
def oklch_to_srgb(lightness: Array, chroma: Array | float, hue: Array) -> Array:
    """The colours of given lightness, chroma and hue, equal steps of which look equal to the eye.

    lightness: (...) in [0, 1]. chroma: 0 (grey) to about 0.3. hue: radians. Returns (..., 3) in [0, 1]; colours that
    a screen cannot show are clipped to the nearest value in each channel.
    """
    xp = backend.of(lightness).xp
    a, b = chroma * xp.cos(hue), chroma * xp.sin(hue)
    l, m, s = (  # noqa: E741 - the names of the cone responses
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    )
    l, m, s = l * l * l, m * m * m, s * s * s  # noqa: E741
    linear = xp.stack(
        [
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ],
        axis=-1,
    )
    linear = xp.clip(linear, 0.0, 1.0)
    return xp.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# Schemes of five inks: how their hues stand to the first one's, in degrees.
SCHEMES = ((0, 25, 195, -30, 50), (0, 180, 20, 205, -25), (0, 120, -120, 20, 140), (0, 40, 75, -35, 170))


@dataclass(frozen=True)
class Palette:
    """The colours of one picture, on the host."""

    night: bool
    ground: Array  # (c,)
    inks: Array  # (5, c), from the darkest to the lightest


def draw_palette(plan: Stream, channels: int, light: str = "random") -> Palette:
    """A ground and five inks that agree: a scheme of hues, turned at random, on a ladder of lightness.

    plan: a stream of the host. channels: 1 leaves the ladder alone, in greys. light: "day" for a light ground, "night"
    for a dark one, "random" for either.
    """
    xp = backend.NUMPY.xp
    dark, turn, scheme, tint = plan.uniform(4).tolist()
    night = dark < 0.45 if light == "random" else light == "night"
    offsets = SCHEMES[int(len(SCHEMES) * scheme)]
    degrees = 360 * turn + xp.array(offsets, "float32")
    degrees = degrees[plan.permutation(5)]  # which of the hues is the dark one
    ladder = [0.48, 0.58, 0.68, 0.78, 0.90] if night else [0.32, 0.46, 0.58, 0.70, 0.82]
    vivid = [0.13, 0.15, 0.14, 0.12, 0.06] if night else [0.07, 0.13, 0.16, 0.14, 0.09]
    hue = xp.concatenate([xp.array([250 + 60 * tint if night else 60 + 50 * tint], "float32"), degrees])
    lightness = xp.array([0.20 if night else 0.95, *ladder], "float32")
    chroma = xp.array([0.03 if night else 0.015, *vivid], "float32") if channels == 3 else 0.0
    colours = oklch_to_srgb(lightness, chroma, hue * (math.pi / 180))[:, :channels]
    return Palette(night, colours[0], colours[1:])
