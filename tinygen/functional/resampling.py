"""Images on another grid: interpolation, adaptive pooling, pixel shuffling, and sampling at given points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, Geometry, of
from tinygen.functional.convolution import Size, pair
from tinygen.functional.elementwise import clamp
from tinygen.functional.linear import matmul
from tinygen.functional.pooling import SpreadWindows, avg_pool2d, check_images
from tinygen.functional.shape import cat, getitem, reshape, transpose, whole

Pair = tuple[int, int]


class Separable(Function):
    """y = R x Cᵀ for each image and channel: a linear map of the rows, and one of the columns."""

    def __init__(self, rows: Array, columns: Array) -> None:
        self.rows, self.columns = rows, columns  # R (h', h), C (w', w)

    def forward(self, x: Array) -> Array:
        n, c, h, w = x.shape
        (more_h, _), (more_w, _) = self.rows.shape, self.columns.shape
        last = x.transpose(0, 2, 3, 1)
        if last.flags.c_contiguous and c > 1:  # (n, h, w, c) in memory
            y = self.columns @ last.reshape(n * h, w, c)  # (n h, w', c) = (w', w) @ (n h, w, c)
            y = self.rows @ y.reshape(n, h, more_w * c)  # (n, h', w' c) = (h', h) @ (n, h, w' c)
            return y.reshape(n, more_h, more_w, c).transpose(0, 3, 1, 2)
        y = x.reshape(n * c * h, w) @ self.columns.T  # (n c h, w') = (n c h, w) @ (w, w')
        y = self.rows @ y.reshape(n * c, h, more_w)  # (n c, h', w') = (h', h) @ (n c, h, w')
        return y.reshape(n, c, more_h, more_w)

    def backward(self, gy: Tensor) -> Tensor:
        return Separable(self.rows.T, self.columns.T)(gy)


class Nearest(Function):
    """y[i, j] = x[rows[i], columns[j]] for each image and channel."""

    def __init__(self, rows: Array, columns: Array) -> None:
        self.rows, self.columns = rows, columns

    def forward(self, x: Array) -> Array:
        self.before = x.shape[2:]
        return x[:, :, self.rows][:, :, :, self.columns]

    def backward(self, gy: Tensor) -> Tensor:
        xp = gy.backend.xp
        rows, columns = (  # (h, h') and (w, w'): 1 where the pixel is shown
            (xp.arange(n)[:, None] == places).astype(gy.dtype)
            for n, places in zip(self.before, (self.rows, self.columns))
        )
        return Separable(rows, columns)(gy)


class PixelShuffle(Function):
    """(…, c r r, h, w) to (…, c, h r, w r)."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def forward(self, x: Array) -> Array:
        r, (*front, c, h, w) = self.factor, x.shape
        y = of(x).xp.empty_like(x, shape=(*front, c // r**2, h * r, w * r))
        _blocks(y, r)[...] = x.reshape(*front, c // r**2, r, r, h, w)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return PixelUnshuffle(self.factor)(gy)


class PixelUnshuffle(Function):
    """(…, c, h r, w r) to (…, c r r, h, w)."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def forward(self, x: Array) -> Array:
        r, (*front, c, h, w) = self.factor, x.shape
        y = of(x).xp.empty_like(x, shape=(*front, c * r**2, h // r, w // r))
        y.reshape(*front, c, r, r, h // r, w // r)[...] = _blocks(x, r)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return PixelShuffle(self.factor)(gy)


def _blocks(x: Array, r: int) -> Array:
    """(…, h r, w r) read as (…, r, r, h, w): where in its block of r × r an element lies, and which block it is."""
    *front, h, w = x.shape
    d = len(front)
    return x.reshape(*front, h // r, r, w // r, r).transpose(*range(d), d + 1, d + 3, d, d + 2)


class _Points(Function):
    """The form Σ_{k, p} w[k, p] ⟨x[places[k, p]], y[p]⟩ of x (r, c), w (k, p), y (p, c), and its derivatives:

    Sample    (x, w) → y      by x: Place(gy, w)      by w: Match(x, gy)
    Place     (y, w) → x      by y: Sample(gx, w)     by w: Match(gx, y)
    Match     (x, y) → w      by x: Place(y, gw)      by y: Sample(x, gw)
    """

    saves_inputs = (0, 1)

    def __init__(self, places: Array, rows: int) -> None:
        self.places, self.rows = places, rows  # (k, p), and how many rows x has


class Sample(_Points):
    """y[p] = Σ_k w[k, p] x[places[k, p]]."""

    def forward(self, x: Array, w: Array) -> Array:
        y = x.take(self.places[0], axis=0) * w[0][:, None]
        for k in range(1, len(self.places)):
            y += x.take(self.places[k], axis=0) * w[k][:, None]
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = self.saved
        gx = Place(self.places, self.rows)(gy, w) if self.needs[0] else None
        gw = Match(self.places, self.rows)(x, gy) if self.needs[1] else None
        return gx, gw


class Place(_Points):
    """x[r] = Σ w[k, p] y[p] over all places[k, p] = r."""

    def forward(self, y: Array, w: Array) -> Array:
        owner = of(y)
        x = owner.xp.zeros((self.rows, y.shape[1]), y.dtype)
        for k in range(len(self.places)):
            owner.scatter_add(x, self.places[k], y * w[k][:, None])
        return x

    def backward(self, gx: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y, w = self.saved
        gy = Sample(self.places, self.rows)(gx, w) if self.needs[0] else None
        gw = Match(self.places, self.rows)(gx, y) if self.needs[1] else None
        return gy, gw


class Match(_Points):
    """w[k, p] = ⟨x[places[k, p]], y[p]⟩."""

    def forward(self, x: Array, y: Array) -> Array:
        xp = of(x).xp
        products = [xp.einsum("pc,pc->p", x.take(places, axis=0), y) for places in self.places]
        return xp.stack(products)

    def backward(self, gw: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = self.saved
        gx = Place(self.places, self.rows)(y, gw) if self.needs[0] else None
        gy = Sample(self.places, self.rows)(x, gw) if self.needs[1] else None
        return gx, gy


# ---------------------------------------------------------------- public: other sizes


def interpolate(
    x: Tensor, size: Size | None = None, scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """An image in another size: y[i, j] is x at the place (u(i), v(j)), per channel.

        nearest:    u(i) = ⌊i h/h'⌋                              y = x[u, v]
        bilinear:   u(i) = (i + ½) h/h' − ½, within the image    y = Σ_{a, b} Λ(u − a) Λ(v − b) x[a, b]
                    u(i) = i (h − 1)/(h' − 1)                    with align_corners: the corners' centres stay corners

    with the hat function Λ(t) = max(0, 1 − |t|).

    Linear in x: gx is the adjoint. x (n, c, h, w); y (n, c, h', w') of `size`, a number or (h', w'), or of
    ⌊h · scale_factor⌋, and then h/h' above is 1/scale_factor.
    A bilinear result is not finite in all the rows and columns where x is not: 0 · ∞ is no number.
    ValueError unless exactly one of size and scale_factor is given, and for align_corners with "nearest".
    """
    check_images("interpolate", x)
    if mode not in ("nearest", "bilinear"):
        raise ValueError(f'interpolate: mode must be "nearest" or "bilinear", got {mode!r}')
    if mode == "nearest" and align_corners is not None:
        raise ValueError('interpolate: align_corners is for mode "bilinear", got it with "nearest"; leave it None')
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give size or scale_factor, got {size} and {scale_factor}")
    before = x.shape[2:]
    if size is not None:
        after = pair("interpolate", "size", size, 1)
        steps = [n / m for n, m in zip(before, after)]
    else:
        factors = _factors(scale_factor)
        after = math.floor(before[0] * factors[0]), math.floor(before[1] * factors[1])
        steps = [1 / f for f in factors]
    if min(*before, *after) < 1:
        raise ValueError(f"interpolate: both images need at least one element, got {before} and {after}: x {x.shape}")
    if mode == "nearest":
        return _nearest(x, after, steps)
    rows, columns = (_hats(x, n, m, step, bool(align_corners)) for n, m, step in zip(before, after, steps))
    return Separable(rows, columns)(x)


def _factors(given: Any) -> list[float]:
    factors = [float(f) for f in given] if isinstance(given, Sequence) else [float(given)] * 2
    if len(factors) != 2 or not all(0 < f < math.inf for f in factors):
        raise ValueError(f"interpolate: scale_factor must be a number > 0 or two of them (h, w), got {given!r}")
    return factors


def _nearest(x: Tensor, after: Pair, steps: Sequence[float]) -> Tensor:
    before = x.shape[2:]
    kernel = after[0] // before[0], after[1] // before[1]
    if all(n * k == m and abs(step * k - 1) < 1e-9 for n, k, m, step in zip(before, kernel, after, steps)):
        # each element becomes a block
        return SpreadWindows(kernel, Geometry(kernel, (0, 0), (1, 1)), after)(x)
    xp = x.backend.xp
    rows, columns = (  # a product of floats may miss a whole number by the last digit
        xp.clip(xp.floor(xp.arange(m) * step + 1e-9), 0, n - 1).astype("int64")
        for n, m, step in zip(before, after, steps)
    )
    return Nearest(rows, columns)(x)


def _hats(x: Tensor, before: int, after: int, step: float, align_corners: bool) -> Array:
    """(after, before): the weights Λ(u(i) − a) of linear interpolation."""
    xp = x.backend.xp
    if align_corners:
        places = xp.arange(after) * ((before - 1) / max(after - 1, 1))
    else:
        places = xp.clip((xp.arange(after) + 0.5) * step - 0.5, 0, before - 1)
    return xp.maximum(0, 1 - xp.abs(places[:, None] - xp.arange(before))).astype(x.dtype)


def adaptive_avg_pool2d(x: Tensor, output_size: Size | Sequence[int | None] | None) -> Tensor:
    """y[n, c, i, j] = the mean of x over rows ⌊i h/h'⌋ … ⌈(i + 1) h/h'⌉ − 1 and the columns likewise.

    Linear in x: gx is the adjoint. x (n, c, h, w); output_size a number or (h', w'), None for a size that stays.
    """
    check_images("adaptive_avg_pool2d", x)
    before = x.shape[2:]
    given = list(output_size) if isinstance(output_size, Sequence) else [output_size, output_size]
    kept = [n if m is None else m for m, n in zip(given, before)] if len(given) == 2 else given
    after = pair("adaptive_avg_pool2d", "output_size", kept, 1)  # type: ignore[arg-type]
    if min(before) < 1:
        raise ValueError(f"adaptive_avg_pool2d: the image needs at least one element, got x {x.shape}")
    if after == (1, 1):
        return x.mean((2, 3), keepdim=True)
    if not (before[0] % after[0] or before[1] % after[1]):
        return avg_pool2d(x, (before[0] // after[0], before[1] // after[1]))
    rows, columns = (_means(x, n, m) for n, m in zip(before, after))
    return Separable(rows, columns)(x)


def _means(x: Tensor, before: int, after: int) -> Array:
    """(after, before): row i holds 1/N at the N places that it is the mean of."""
    xp = x.backend.xp
    i, a = xp.arange(after)[:, None], xp.arange(before)
    begin, end = i * before // after, -(-(i + 1) * before // after)
    return (((a >= begin) & (a < end)) / (end - begin)).astype(x.dtype)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """y[…, c, i r + k, j r + l] = x[…, c r² + k r + l, i, j]: channels become blocks of r × r.  gx = gy put back.

    x (…, c r², h, w); y (…, c, h r, w r). Source: Shi et al. 2016.
    """
    r = _block_size("pixel_shuffle", "upscale_factor", x, upscale_factor)
    if x.shape[-3] % r**2:
        raise ValueError(f"pixel_shuffle: channels must divide by {r}² = {r**2}, got {x.shape[-3]}: x {x.shape}")
    return PixelShuffle(r)(x)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of pixel_shuffle: blocks of r × r become channels.  gx = gy put back.

    x (…, c, h r, w r); y (…, c r², h, w).
    """
    r = _block_size("pixel_unshuffle", "downscale_factor", x, downscale_factor)
    if x.shape[-2] % r or x.shape[-1] % r:
        raise ValueError(f"pixel_unshuffle: height and width must divide by {r}, got x {x.shape}")
    return PixelUnshuffle(r)(x)


def _block_size(name: str, argument: str, x: Tensor, value: int) -> int:
    r = whole(name, argument, value)
    if x.ndim < 3 or r < 1:
        raise ValueError(f"{name}: expected x (…, c, h, w) and {argument} ≥ 1, got x {x.shape} and {r}")
    return r


# ---------------------------------------------------------------- public: sampling at points


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Points of a grid, moved: y[n, i, j] = theta[n] (v_j, u_i, 1)ᵀ, for grid_sample.

    u and v run over the image from −1 to 1, at its pixels' centres: v_j = (2 j + 1)/w − 1, or 2 j/(w − 1) − 1 with
    align_corners (and 0 where w = 1). gtheta = Σ_{i, j} gy (v_j, u_i, 1).

    theta (n, 2, 3); size (n, c, h, w), of which c says nothing; y (n, h, w, 2), the horizontal coordinate first.
    Source: Jaderberg et al. 2015, eq. 1.
    """
    sizes = tuple([whole("affine_grid", "a size", s) for s in size])
    if len(sizes) != 4 or min(sizes) < 1:
        raise ValueError(f"affine_grid: size must be (n, c, h, w), each at least 1, got {tuple(size)}")
    if theta.shape != (sizes[0], 2, 3):
        raise ValueError(f"affine_grid: theta must be ({sizes[0]}, 2, 3) for size {sizes}, got {theta.shape}")
    h, w = sizes[2:]
    xp = theta.backend.xp
    u, v = (_centres(xp, m, align_corners) for m in (h, w))
    base = xp.stack([xp.broadcast_to(v, (h, w)), xp.broadcast_to(u[:, None], (h, w)), xp.ones((h, w))], axis=-1)
    points = Tensor(base.reshape(h * w, 3).astype(theta.dtype))
    return reshape(matmul(points, transpose(theta, 1, 2)), sizes[0], h, w, 2)  # (n, h w, 2) = (h w, 3) @ (n, 3, 2)


def _centres(xp: Any, size: int, align_corners: bool) -> Array:
    if align_corners:
        return (2 * xp.arange(size) - (size - 1)) / max(size - 1, 1)
    return (2 * xp.arange(size) + 1) / size - 1


def grid_sample(
    x: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool = False
) -> Tensor:
    """The image at the points of a grid: y[n, c, i, j] = Σ_{a, b} Λ(u − a) Λ(v − b) x[n, c, a, b].

    Λ(t) = max(0, 1 − |t|), and (v, u) = grid[n, i, j] with −1 … 1 stretched over the image: between the outer edges of
    its first and last pixels, u ↦ (u + 1) h/2 − ½, or with align_corners between their centres, u ↦ (u + 1) (h − 1)/2.
    mode "nearest": x at the nearest pixel, of two the even one.
    padding_mode, for points outside: x = 0 there ("zeros"), the nearest point of the image ("border"), or the image
    mirrored at its edges ("reflection").

    gx adds gy up with the same weights; ggrid is the slope of the interpolation, 0 for "nearest" and where the point
    was moved to the border. Singular points: between four other pixels the slope changes, and at a pixel's centre it is
    that of the side to its right and below; at the image's border it is the inner one or 0.

    x (n, c, h, w); grid (n, h', w', 2), the horizontal coordinate first; y (n, c, h', w').
    Source: Jaderberg et al. 2015, eq. 5.
    """
    check_images("grid_sample", x)
    if grid.ndim != 4 or grid.shape[-1] != 2 or grid.shape[0] != x.shape[0]:
        raise ValueError(f"grid_sample: grid must be ({x.shape[0]}, h, w, 2) for x {x.shape}, got {grid.shape}")
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f'grid_sample: mode must be "bilinear" or "nearest", got {mode!r}')
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f'grid_sample: padding_mode must be "zeros", "border" or "reflection", got {padding_mode!r}')
    n, c, h, w = x.shape
    if min(h, w) < 1:
        raise ValueError(f"grid_sample: the image needs at least one element, got x {x.shape}")
    xp, size = x.backend.xp, grid.shape[1:3]
    (rows, u), (columns, v) = (
        _axis(reshape(getitem(grid, (..., 1 - dim)), -1), m, mode, padding_mode, align_corners)
        for dim, m in enumerate((h, w))
    )
    first = (xp.arange(n) * (h * w)).repeat(math.prod(size))
    places = [first + row * w + column for row in rows for column in columns]
    weights = cat([reshape(a * b, 1, -1) for a in u for b in v])
    pixels = reshape(x.permute(0, 2, 3, 1), n * h * w, c)
    y = Sample(xp.stack(places), n * h * w)(pixels, weights)
    return reshape(y, n, *size, c).permute(0, 3, 1, 2)


def _axis(u: Tensor, size: int, mode: str, padding_mode: str, align_corners: bool) -> tuple[list[Array], list[Tensor]]:
    """Along one dimension, for points u: which pixels each of them sees, and with which weights."""
    xp = u.backend.xp
    at = (u + 1) * ((size - 1) / 2) if align_corners else (u + 1) * (size / 2) - 0.5
    if padding_mode == "reflection":
        at = _mirrored(at, 0.0 if align_corners else -0.5, size - 1 if align_corners else size)
    if padding_mode == "zeros":
        at = clamp(at, -1, size)  # as far as a pixel reaches; there are zeros from there on
    else:
        at = clamp(at, 0, size - 1)
    if mode == "nearest":
        lower = xp.rint(at.data)
        pixels, weights = [lower], [Tensor(xp.ones_like(lower))]
    else:
        lower = xp.floor(at.data)
        part = at - Tensor(lower)
        pixels, weights = [lower, lower + 1], [1 - part, part]
    if padding_mode == "zeros":
        weights = [weight * Tensor(((p >= 0) & (p < size)).astype(u.dtype)) for p, weight in zip(pixels, weights)]
    with u.backend.quiet():  # a point that is NaN has the weight NaN, wherever it is read
        return [xp.clip(p, 0, size - 1).astype("int64").clip(0, size - 1) for p in pixels], weights


def _mirrored(at: Tensor, low: float, span: int) -> Tensor:
    """Points mirrored at low and low + span until they lie between them: at ↦ ± at + constant."""
    if span == 0:
        return at * 0.0
    xp = at.backend.xp
    turns = xp.floor((at.data - low) / span)
    odd = turns - 2 * xp.floor(turns / 2)  # 1 where the image is seen from behind
    # at − turns · span in an image seen from the front, else 2 low + (turns + 1) span − at
    return at * Tensor(1 - 2 * odd) + Tensor(odd * (2 * low + (turns + 1) * span) - (1 - odd) * turns * span)
