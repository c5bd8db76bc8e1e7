"""Images moved, cut, resized and recoloured: plain functions on arrays (…, c, h, w) of any backend.

Lengths are in pixels, x to the right and y downwards. The pixel in row j and column i is the unit square around
(i + 1/2, j + 1/2), so that an image reaches from (0, 0) to (w, h) whatever its size, and points are (…, 2) arrays of
(x, y).

Geometry reads backwards: `warp` asks for each pixel of the result where it comes from, and `bilinear` what stands
there; `rotate` is one line on top. `resize` weighs whole rows and columns instead, so that it can shrink without
aliases. Then colours: grey in two meanings, and hue, saturation and value.

The results keep the dtype of the image. Nothing here has a gradient; `functional` has `grid_sample` and `interpolate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.backend import Array, of

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what red, green and blue give to brightness


def _check(owner: str, image: Array, channels: tuple[int, ...] = ()) -> None:
    """Raise ValueError unless `image` is (…, c, h, w) of real numbers with one pixel or more and as many channels."""
    if image.ndim < 3 or not image.shape[-1] or not image.shape[-2]:
        raise ValueError(f"{owner}: an image is (…, c, h, w) with one pixel or more, got {image.shape}")
    if image.dtype.kind != "f":
        raise ValueError(f"{owner}: an image has values in [0, 1] of a float type, got {image.dtype}; divide by 255")
    if channels and image.shape[-3] not in channels:
        count = " or ".join(str(c) for c in channels)
        raise ValueError(f"{owner}: expected {count} channels, got {image.shape[-3]}: image {image.shape}")


# ---------------------------------------------------------------- other places


def bilinear(image: Array, points: Array, fill: float | None = 0.0) -> Array:
    """What stands at given points, between the four pixels around each of them:

        y(p) = Σ_ij Λ(p_x − i − 1/2) Λ(p_y − j − 1/2) x[j, i],    Λ(t) = max(0, 1 − |t|).

    image: (…, c, h, w). points: (…', 2) of (x, y) in pixels, on the image's backend. Returns (…, c, …').
    fill: the value of all pixels outside the image, and of points that are NaN; None repeats its outermost ones.
    Raises ValueError for arrays of other shapes, and for an image of whole numbers.
    """
    _check("bilinear", image)
    if not points.ndim or points.shape[-1] != 2:
        raise ValueError(f"bilinear: points must be (…, 2), got {points.shape}")
    xp = of(image).xp
    height, width = image.shape[-2:]
    # with a rim of what lies outside, every point stands between four pixels
    rim = [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)]
    around = xp.pad(image, rim, mode="edge") if fill is None else xp.pad(image, rim, constant_values=fill)
    column, right = _place(points[..., 0], width, fill is None, image.dtype)
    row, down = _place(points[..., 1], height, fill is None, image.dtype)
    pixels = around.reshape(*image.shape[:-2], -1)
    place = row * (width + 2) + column  # (…',)
    upper, upper_right, lower, lower_right = (
        pixels.take(place + step, axis=-1) for step in (0, 1, width + 2, width + 3)
    )  # (…, c, …') each
    above = upper + right * (upper_right - upper)
    below = lower + right * (lower_right - lower)
    return above + down * (below - above)


def _place(position: Array, size: int, inside: bool, dtype: Any) -> tuple[Array, Array]:
    """Along one axis of an image with a rim: the last pixel whose centre does not lie behind a position, and how far
    the position is from it on the way to the next, in [0, 1]. What is farther out than the rim is brought to it, and
    with `inside` to the outermost pixel; so is what is no number."""
    xp = of(position).xp
    at = position + 0.5  # the first pixel's centre stands at 1
    at = xp.where(at == at, at, 0.0)
    at = xp.clip(at, 1, size) if inside else xp.clip(at, 0, size + 1)
    pixel = xp.minimum(xp.floor(at), size)
    return pixel.astype("int64"), (at - pixel).astype(dtype)


def warp(image: Array, matrix: Any, size: tuple[int, int] | None = None, fill: float | None = 0.0) -> Array:
    """The image under the map p ↦ M p of its points, read backwards: y(q) = x(M⁻¹ q) at every pixel centre q.

    image: (…, c, h, w). matrix: on the host, (2, 3) for an affine map, q = A p + t with M = (A | t), or (3, 3) for a
    projective one, (q, 1) ~ M (p, 1). size: (h', w') of the result, None for the image's own; it reaches from (0, 0)
    to (w', h'). fill: as for `bilinear`; what lies behind the horizon of a projective map is far outside.
    Returns (…, c, h', w'). Raises ValueError for a matrix of another shape or without an inverse.
    Source: Hartley and Zisserman 2004, section 2.3.
    """
    _check("warp", image)
    forward = np.asarray(matrix, np.float64)
    if forward.shape == (2, 3):
        forward = np.vstack([forward, [0.0, 0.0, 1.0]])
    if forward.shape != (3, 3):
        raise ValueError(f"warp: matrix must be (2, 3) or (3, 3), got {forward.shape}")
    if not np.isfinite(forward).all() or np.linalg.matrix_rank(forward) < 3:
        raise ValueError(f"warp: the matrix has no inverse: {forward.tolist()}")
    height, width = image.shape[-2:] if size is None else _size("warp", size)
    # A map and its multiples are one; of these, take one that has the image's middle in front of the horizon.
    sign = np.sign(forward[2] @ [image.shape[-1] / 2, image.shape[-2] / 2, 1.0]) or 1.0
    back = np.linalg.inv(sign * forward).tolist()

    xp = of(image).xp
    x, y = xp.arange(width) + 0.5, (xp.arange(height) + 0.5)[:, None]
    along_x, along_y, depth = (row[0] * x + row[1] * y + row[2] for row in back)  # (h', w') each
    in_front = depth > 0
    depth = xp.where(in_front, depth, 1.0)
    far = -2.0 * max(image.shape)
    points = [xp.where(in_front, along / depth, far) for along in (along_x, along_y)]
    return bilinear(image, xp.stack(points, axis=-1), fill)


def rotate(image: Array, degrees: float, scale: float = 1.0, fill: float | None = 0.0) -> Array:
    """The image turned about its centre c, counter-clockwise as one looks at it, and made `scale` times larger:

        q = s R (p − c) + c,    R = ((cos θ, sin θ), (−sin θ, cos θ)), as y points downwards.

    image: (…, c, h, w), of the same size afterwards. degrees: θ. fill: as for `bilinear`.
    A quarter turn of a square image is exact. Raises ValueError unless scale > 0.
    """
    if not scale > 0:
        raise ValueError(f"rotate: scale must be positive, got {scale}")
    # Fifteen digits are what a float has; rounding to them makes the cosine of 90° the 0 that it is.
    cosine, sine = (scale * round(f(math.radians(degrees % 360)), 15) for f in (math.cos, math.sin))
    linear = np.array([[cosine, sine], [-sine, cosine]])
    centre = np.array([image.shape[-1] / 2, image.shape[-2] / 2])
    return warp(image, np.column_stack([linear, centre - linear @ centre]), fill=fill)


def flip_left_right(image: Array) -> Array:
    """y[j, i] = x[j, w − 1 − i]; a view of (…, h, w)."""
    return image[..., ::-1]


def flip_up_down(image: Array) -> Array:
    """y[j, i] = x[h − 1 − j, i]; a view of (…, h, w)."""
    return image[..., ::-1, :]


def crop(image: Array, top: int, left: int, height: int, width: int) -> Array:
    """The rows top … top + height − 1 and the columns left … left + width − 1; a view of (…, h, w).

    Raises ValueError for a part that is empty or not wholly inside.
    """
    h, w = image.shape[-2:]
    if not (0 <= top < top + height <= h and 0 <= left < left + width <= w):
        raise ValueError(f"crop: {height} × {width} from row {top} and column {left} on is not within {h} × {w}")
    return image[..., top : top + height, left : left + width]


def pad(image: Array, top: int, left: int, bottom: int, right: int, fill: float | None = 0.0) -> Array:
    """The image with so many rows and columns around it: (…, h, w) gives (…, top + h + bottom, left + w + right).

    fill: the value there; None repeats the outermost pixels. Raises ValueError for a margin below 0.
    """
    if min(top, left, bottom, right) < 0:
        raise ValueError(f"pad: margins must be 0 or more, got {(top, left, bottom, right)}; crop takes pixels away")
    xp = of(image).xp
    margins = [(0, 0)] * (image.ndim - 2) + [(top, bottom), (left, right)]
    if fill is None:
        return xp.pad(image, margins, mode="edge")
    return xp.pad(image, margins, mode="constant", constant_values=fill)


# ---------------------------------------------------------------- other sizes


def resize(image: Array, size: tuple[int, int], antialias: bool = True) -> Array:
    """The image in another size, rows and columns each weighed by the hat function:

        y = R x Cᵀ,    R[j, a] = Λ((a + 1/2 − (j + 1/2) h/h') / s) / Σ_a (the same),    C likewise,

    with s = max(1, h/h'), so that a pixel of a smaller image is a mean over all that it covers; without antialias
    s = 1, and it is what stands at its centre.

    image: (…, c, h, w). size: (h', w'). Returns (…, c, h', w'). Raises ValueError for a size below 1.
    Source: Heckbert 1989, Fundamentals of texture mapping and image warping, section 3.
    """
    _check("resize", image)
    rows, columns = (
        _hats(of(image).xp, before, after, antialias).astype(image.dtype)
        for before, after in zip(image.shape[-2:], _size("resize", size))
    )
    return rows @ image @ columns.T  # (…, h', w') = (h', h) @ (…, h, w) @ (w, w')


def _hats(xp: Any, before: int, after: int, antialias: bool) -> Array:
    """(after, before): the weights of `resize` along one axis; each row sums to 1."""
    step = before / after
    spread = max(1.0, step) if antialias else 1.0
    away = (xp.arange(before) + 0.5) - (xp.arange(after)[:, None] + 0.5) * step
    weights = xp.maximum(0.0, 1 - xp.abs(away) / spread)
    return weights / weights.sum(axis=1, keepdims=True)


def resize_nearest(image: Array, size: tuple[int, int]) -> Array:
    """y[j, i] = x[⌊(j + 1/2) h/h'⌋, ⌊(i + 1/2) w/w'⌋]: the pixel in which the centre of the new one lies.

    image: (…, h, w) of any dtype. size: (h', w'). Raises ValueError for a size below 1.
    """
    xp = of(image).xp
    rows, columns = (
        (2 * xp.arange(after) + 1) * before // (2 * after)  # in whole numbers, which do not round
        for before, after in zip(image.shape[-2:], _size("resize_nearest", size))
    )
    return image[..., rows[:, None], columns]


def _size(owner: str, size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"{owner}: size must be (height, width), each at least 1, got {tuple(size)}")
    return int(size[0]), int(size[1])


# ---------------------------------------------------------------- other colours


def grey(image: Array) -> Array:
    """The plain mean of the channels: (…, c, h, w) gives (…, 1, h, w)."""
    _check("grey", image)
    return image.mean(axis=-3, keepdims=True)


def luma(image: Array) -> Array:
    """Y = 0.299 R + 0.587 G + 0.114 B, grey as bright as the eye finds the colour; a grey image stays as it is.

    (…, 3, h, w) or (…, 1, h, w) gives (…, 1, h, w). Source: ITU-R BT.601, section 2.5.1.
    """
    _check("luma", image, (1, 3))
    if image.shape[-3] == 1:
        return image
    red, green, blue = _channels(image)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[..., None, :, :]


def rgb_to_hsv(image: Array) -> Array:
    """Hue, saturation and value of colours, (…, 3, h, w) in [0, 1] each; with M and m the largest and least channel

        V = M,    S = (M − m)/M,
        6 H = (G − B)/(M − m) where M = R,  2 + (B − R)/(M − m) where M = G,  4 + (R − G)/(M − m) where M = B,

    modulo 6: the hue is in turns, 0 red, 1/3 green, 2/3 blue. Grey has H = S = 0.
    Source: Smith 1978, Color gamut transform pairs.
    """
    _check("rgb_to_hsv", image, (3,))
    xp = of(image).xp
    red, green, blue = _channels(image)
    largest = image.max(axis=-3)
    range_ = largest - image.min(axis=-3)
    divisor = xp.where(range_ > 0, range_, 1.0)
    sixth = xp.where(
        largest == red,
        (green - blue) / divisor,
        xp.where(largest == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = sixth / 6
    return xp.stack([hue - xp.floor(hue), range_ / xp.where(largest > 0, largest, 1.0), largest], axis=-3)


def hsv_to_rgb(image: Array) -> Array:
    """The way back from `rgb_to_hsv`:

        R, G, B = V − V S max(0, min(k, 4 − k, 1)),    k = (n + 6 H) mod 6,    n = 5, 3, 1.

    (…, 3, h, w) gives (…, 3, h, w). Source: Smith 1978; the piecewise linear channels written as one formula.
    """
    _check("hsv_to_rgb", image, (3,))
    xp = of(image).xp
    hue, saturation, value = _channels(image)
    channels = []
    for start in (5, 3, 1):
        k = (start + 6 * hue) % 6
        channels.append(value - value * saturation * xp.clip(xp.minimum(k, 4 - k), 0.0, 1.0))
    return xp.stack(channels, axis=-3)


def _channels(image: Array) -> tuple[Array, Array, Array]:
    return image[..., 0, :, :], image[..., 1, :, :], image[..., 2, :, :]
