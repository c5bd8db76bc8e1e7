"""Normalization by the mean and variance of a set of elements, and dropout.

Why a double backward is tested here with such care: the mean and variance are functions of x. Holding them constant in
the gradient gives the right first derivative by a closed formula and a silently wrong second one.

All the norms are one operation and an affine map, as x̂ γ + β = c (s γ) + β:
    Centre         x → c = x − μ and s = 1/√(σ² + ε), the statistics being those over `dims`
    ScaleShift     c, a, b → c a + b, where a and b have size 1 in some of the dimensions
and what is left is which dimensions these are: for x (n, c, h, w)
    batch norm (0, 2, 3), instance norm (2, 3), layer norm (1, 2, 3), group norm (2, 3, 4) of x as (n, g, c/g, h, w)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, memory_order, of
from tinygen.functional.elementwise import clamp, sqrt
from tinygen.functional.reduction import SumTo, memory_block, norm, total
from tinygen.functional.shape import Dims, normalize_dims, reshape
from tinygen.random import Stream

# ---------------------------------------------------------------- factors that go along with the memory


def _beside(p: Array, x: Array) -> Array:
    """p, ready to be combined with x: repeated over a block of x's memory, of which it has one part only, so that the
    loop goes over the block and not over the part."""
    block = memory_block(x)
    if p.ndim != x.ndim or all(p.shape[i] == x.shape[i] for i in block) or all(p.shape[i] == 1 for i in block):
        return p
    shape = [x.shape[i] if i in block else n for i, n in enumerate(p.shape)]
    if 4 * math.prod(shape) > x.size:
        return p
    order = memory_order(x)
    wide = of(x).xp.empty([shape[i] for i in order], p.dtype).transpose([order.index(i) for i in range(x.ndim)])
    wide[...] = p
    return wide


def _count(x: Array, dims: Sequence[int]) -> int:
    return max(1, math.prod(x.shape[d] for d in dims))


# ---------------------------------------------------------------- the operations


class Centre(Function):
    """c = x − μ and s = 1/√(σ² + ε), with mean and (biased) variance over `dims`.

    Both results are saved and are part of the graph, so that the gradient below, written in c and s, can itself be
    differentiated with nothing held constant:
        gx = gc − mean(gc) − gs s³ c / N,     as ds/dx = −s³ c / N.
    """

    saves_outputs = (0, 1)
    fills_zeros = False
    mean: Array  # μ and σ² as they were taken, for running statistics: 1/s² − ε would lose the digits of a small σ²
    variance: Array

    def __init__(self, dims: tuple[int, ...], eps: float) -> None:
        self.dims, self.eps = dims, eps

    def forward(self, x: Array) -> tuple[Array, Array]:
        self.count = count = _count(x, self.dims)
        self.mean = total(self.dims, x) / count
        c = x - _beside(self.mean, x)
        self.variance = total(self.dims, c, c) / count
        return c, 1 / of(x).xp.sqrt(self.variance + self.eps)

    def backward(self, gc: Tensor | None, gs: Tensor | None) -> Tensor | None:
        c, s = self.saved
        if gs is None:
            return None if gc is None else Recentre(self.dims)(gc)
        k = gs * (s * s * s) * (1 / self.count)
        return -(c * k) if gc is None else Recentre(self.dims)(gc, c, k)


class Recentre(Function):
    """g − mean(g) − c k, in few passes: g and c alike, k with size 1 in `dims`; or g − mean(g)."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, g: Array, c: Array | None = None, k: Array | None = None) -> Array:
        mean = total(self.dims, g) / _count(g, self.dims)
        if c is None:
            return g - _beside(mean, g)
        y = c * _beside(k, c)
        y += _beside(mean, y)
        return of(g).xp.subtract(g, y, out=y)

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        return range(1, len(needs)), ()

    def backward(self, u: Tensor) -> tuple[Tensor | None, ...] | Tensor:
        if len(self.needs) == 1:
            return Recentre(self.dims)(u)
        c, k = self.saved
        gg = Recentre(self.dims)(u) if self.needs[0] else None
        gc = -ScaleShift()(u, k) if self.needs[1] else None
        gk = -SumProduct(k.shape)(u, c) if self.needs[2] else None
        return gg, gc, gk


class ScaleShift(Function):
    """y = x a + b, or x a.  gx = gy a, ga = Σ gy x, gb = Σ gy over the dimensions in which a and b have size 1."""

    saves_inputs = (0, 1)

    def forward(self, x: Array, a: Array, b: Array | None = None) -> Array:
        self.shift = b.shape if b is not None else ()
        y = x * _beside(a, x)
        if b is not None and b.dtype == y.dtype:
            y += _beside(b, y)
        elif b is not None:
            y = y + b
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, a = self.saved
        gx = ScaleShift()(gy, a) if self.needs[0] else None
        ga = SumProduct(a.shape)(gy, x) if self.needs[1] else None
        if len(self.needs) == 2:
            return gx, ga
        return gx, ga, SumTo(self.shift)(gy) if self.needs[2] else None


class SumProduct(Function):
    """Σ x y over the dimensions in which `shape` has size 1."""

    saves_inputs = (0, 1)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array, y: Array) -> Array:
        return total([i for i, n in enumerate(self.shape) if n == 1], x, y)

    def backward(self, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = self.saved
        gx = ScaleShift()(y, g) if self.needs[0] else None
        return gx, ScaleShift()(x, g) if self.needs[1] else None


def _affine(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """x · scale + shift, of which either may be None."""
    if scale is None:
        return x if shift is None else x + shift
    return ScaleShift()(x, scale) if shift is None else ScaleShift()(x, scale, shift)


def standardize(x: Tensor, dims: Dims, eps: float) -> tuple[Tensor, Tensor]:
    """x̂ = (x − μ)/√(σ² + ε) with mean and (biased) variance over `dims`, and s = 1/√(σ² + ε) with those sizes 1.

    gx = s (gy − mean(gy) − x̂ mean(gy x̂)).
    """
    c, s = Centre(normalize_dims("standardize", dims, x.ndim), eps)(x)
    return ScaleShift()(c, s), s


# ---------------------------------------------------------------- public


def _per_channel(name: str, x: Tensor, **tensors: Tensor | None) -> tuple[int, ...]:
    """(1, c, 1, …), the shape in which tensors (c,) stand beside x (n, c, …); ValueError where one is not (c,)."""
    if x.ndim < 2:
        raise ValueError(f"{name}: expected x of (n, c, …), got {x.shape}")
    channels = x.shape[1]
    for argument, given in tensors.items():
        if given is not None and given.shape != (channels,):
            raise ValueError(
                f"{name}: {argument} must be ({channels},) as x {x.shape} has that many channels, got {given.shape}"
            )
    return (1, channels) + (1,) * (x.ndim - 2)


def _shaped(t: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    return None if t is None else reshape(t, shape)


def _times(s: Tensor, weight: Tensor | None) -> Tensor:
    return s if weight is None else s * weight


def _move(running: Tensor | None, batch: Array, momentum: float | Array) -> None:
    """r ← (1 − momentum) r + momentum · batch."""
    if running is not None:
        moved = (1 - momentum) * running.data + momentum * batch.reshape(running.shape)
        running.data = moved.astype(running.dtype, copy=False)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Array = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β per channel, over the batch and all positions (Ioffe and Szegedy 2015).

    gx = γ s (gy − mean(gy) − x̂ mean(gy x̂)), gγ = Σ gy x̂, gβ = Σ gy, with s = 1/√(σ² + ε), x̂ = s (x − μ).

    x (n, c, …); the other tensors (c,).  training: μ and σ² are the batch's (biased), and the running ones move
    towards them, r ← (1 − momentum) r + momentum · batch, with the unbiased variance. Otherwise the running ones are
    used. ValueError where a batch has one value per channel, as its variance says nothing.
    """
    column = _per_channel("batch_norm", x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    weight, bias = _shaped(weight, column), _shaped(bias, column)
    if not training and running_mean is not None and running_var is not None:
        scale = _times(1 / sqrt(reshape(running_var, column) + eps), weight)
        shift = -reshape(running_mean, column) * scale
        return _affine(x, scale, shift if bias is None else shift + bias)
    count = x.numel() // max(x.shape[1], 1)
    if count < 2:
        raise ValueError(f"batch_norm: training needs more than one value per channel, got x {x.shape}")
    node = Centre((0, *range(2, x.ndim)), eps)
    c, s = node(x)
    if training:
        _move(running_mean, node.mean, momentum)
        _move(running_var, node.variance * (count / (count - 1)), momentum)
    return _affine(c, _times(s, weight), bias)


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β per image and channel, over all positions (Ulyanov et al. 2016).

    gx as for batch_norm, the means taken over the positions of one image.

    x (n, c, positions …); the other tensors (c,).  use_input_stats: μ and σ² are those of each image (biased), and the
    running ones, where given, move towards the mean over the batch of μ and of the unbiased σ². Otherwise the running
    ones are used. ValueError where a channel has a single position, as its variance says nothing.
    """
    name = "instance_norm"
    column = _per_channel(name, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if x.ndim < 3:
        raise ValueError(f"{name}: expected x of (n, c, positions …), got {x.shape}")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError(f"{name}: use_input_stats=False needs running_mean and running_var")
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(x.shape[2:])
    if count < 2:
        raise ValueError(f"{name}: needs more than one position per channel, got x {x.shape}")
    node = Centre(tuple(range(2, x.ndim)), eps)
    c, s = node(x)
    if len(x):
        _move(running_mean, node.mean.mean(axis=0), momentum)
        _move(running_var, node.variance.mean(axis=0) * (count / (count - 1)), momentum)
    return _affine(c, _times(s, _shaped(weight, column)), _shaped(bias, column))


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β per image, over the positions and the channels of each group (Wu and He 2018).

    With h = γ gy: gx = s (h − mean(h) − x̂ mean(h x̂)); gγ = Σ gy x̂, gβ = Σ gy.

    x (n, c, …), c a multiple of num_groups; weight and bias (c,) or None.
    """
    _per_channel("group_norm", x, weight=weight, bias=bias)
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"group_norm: num_groups must divide the {channels} channels of x {x.shape}, got {num_groups}")
    grouped = reshape(x, x.shape[0], num_groups, channels // num_groups, *x.shape[2:])
    column = (1, *grouped.shape[1:3], *[1] * (x.ndim - 2))
    c, s = Centre(tuple(range(2, grouped.ndim)), eps)(grouped)
    return reshape(_affine(c, _times(s, _shaped(weight, column)), _shaped(bias, column)), x.shape)


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β over the last dimensions, which `normalized_shape` tells (Ba et al. 2016).

    With h = γ gy: gx = s (h − mean(h) − x̂ mean(h x̂)); gγ = Σ gy x̂, gβ = Σ gy.

    x (…, *normalized_shape); weight and bias (*normalized_shape) or None: an element each.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: x must end in normalized_shape {shape}, got {x.shape}")
    for argument, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape:
            raise ValueError(f"layer_norm: {argument} must be {shape} as normalized_shape, got {given.shape}")
    front = x.ndim - len(shape)
    row = (1,) * front + shape
    standardized, _ = standardize(x, tuple(range(front, x.ndim)), eps)
    return _affine(standardized, _shaped(weight, row), _shaped(bias, row))


def normalize(x: Tensor, p: float = 2.0, dim: Dims = 1, eps: float = 1e-12) -> Tensor:
    """y = x / max(‖x‖ₚ, ε) along `dim`.  For p = 2: gx = (gy − y Σ gy y) / ‖x‖.

    Singular points: where ‖x‖ < ε the divisor is the constant ε, so that gx = gy / ε; at 0 too.
    """
    return x / clamp(norm(x, p, dim, keepdim=True), min=eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """y = Σ x1 x2 / (max(‖x1‖, ε) max(‖x2‖, ε)) along `dim`.  gx1 = gy (x2/‖x2‖ − y x1/‖x1‖) / ‖x1‖.

    x1 and x2 broadcast; `dim` is one of the result's before the sum.
    Singular points: where ‖x‖ < ε the divisor is the constant ε, as in `normalize`.
    """
    ndim = max(x1.ndim, x2.ndim)
    (at,) = normalize_dims("cosine_similarity", (dim,), ndim)
    x1, x2 = (reshape(x, (1,) * (ndim - x.ndim) + x.shape) for x in (x1, x2))
    if x1.shape[at] != x2.shape[at]:  # a size of 1 is repeated before its norm is taken
        size = x2.shape[at] if x1.shape[at] == 1 else x1.shape[at]
        x1, x2 = (x.expand(*x.shape[:at], size, *x.shape[at + 1 :]) for x in (x1, x2))
    lengths = [clamp(norm(x, 2, at), min=eps) for x in (x1, x2)]
    return (x1 * x2).sum(at) / (lengths[0] * lengths[1])


def dropout(x: Tensor, p: float = 0.5, training: bool = True, random: Stream | None = None) -> Tensor:
    """y = x · m / (1 − p) with m ~ Bernoulli(1 − p) per element, so that E y = x; y = x where not training.

    gx = gy · m / (1 − p).
    random: the stream that draws m; needed in training. Source: Srivastava et al. 2014 (in its inverted form).
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), got {p}")
    if not training or p == 0:
        return x
    if random is None:
        raise ValueError("dropout: training needs a random stream; pass random=")
    keep = random.bernoulli(1 - p, x.shape)
    return x * Tensor(x.backend.xp.multiply(keep, 1 / (1 - p), dtype=x.dtype))
