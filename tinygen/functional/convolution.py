"""Convolution and its transpose, in two dimensions.

One bilinear form has three products, and each is the derivative of the other two, so that a derivative of any order is
again one of the three:  with y = x ⋆ w,

    Conv2d         (x, w) → y           by x: Conv2dInput(gy, w)      by w: Conv2dWeight(x, gy)
    Conv2dInput    (y, w) → x           by y: Conv2d(gx, w)           by w: Conv2dWeight(gx, y)
    Conv2dWeight   (x, y) → w           by x: Conv2dInput(y, gw)      by y: Conv2d(x, gw)

Conv2dInput is the transposed convolution. How each is computed stands in tinygen/im2col.py; `conv2d_formula` below says
it in four lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, Geometry, of
from tinygen.functional.linear import Bilinear
from tinygen.functional.shape import cat, chunk

Pair = tuple[int, int]
Size = int | Sequence[int]


class _Convolution(Bilinear):
    def __init__(self, geometry: Geometry, size: Sequence[int]) -> None:
        self.geometry = geometry
        self.size = size  # height and width of what is made: with a stride, several sizes fit the inputs


class Conv2d(_Convolution):
    """y (n, o, h', w') from x (n, c, h, w), w (o, c, kh, kw), and b (o); `size` is (h', w')."""

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.shapes = x.shape, w.shape
        return of(x).convolve(x, w, self.geometry, self.size, b)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = self.factors()
        gx = Conv2dInput(self.geometry, self.shapes[0][2:])(gy, w) if self.needs[0] else None
        gw = Conv2dWeight(self.geometry, self.shapes[1][2:])(x, gy) if self.needs[1] else None
        if len(self.needs) == 2:
            return gx, gw
        return gx, gw, gy.sum((0, 2, 3)) if self.needs[2] else None


class Conv2dInput(_Convolution):
    """x (n, c, h, w) from y (n, o, h', w') and w (o, c, kh, kw); `size` is (h, w)."""

    def forward(self, y: Array, w: Array) -> Array:
        self.shapes = y.shape, w.shape
        return of(y).convolve_input(y, w, self.geometry, self.size)

    def backward(self, gx: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y, w = self.factors()
        gy = Conv2d(self.geometry, self.shapes[0][2:])(gx, w) if self.needs[0] else None
        gw = Conv2dWeight(self.geometry, self.shapes[1][2:])(gx, y) if self.needs[1] else None
        return gy, gw


class Conv2dWeight(_Convolution):
    """w (o, c, kh, kw) from x (n, c, h, w) and y (n, o, h', w'); `size` is (kh, kw)."""

    def forward(self, x: Array, y: Array) -> Array:
        self.shapes = x.shape, y.shape
        return of(x).convolve_weight(x, y, self.geometry, self.size)

    def backward(self, gw: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = self.factors()
        gx = Conv2dInput(self.geometry, self.shapes[0][2:])(y, gw) if self.needs[0] else None
        gy = Conv2d(self.geometry, self.shapes[1][2:])(x, gw) if self.needs[1] else None
        return gx, gy


def conv2d_formula(x: Array, w: Array, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """The definition, tap by tap; the oracle of the fast paths.  x (n, c, h, w), w (o, c, kh, kw)."""
    (sh, sw), (ph, pw), (dh, dw), (kh, kw) = stride, padding, dilation, w.shape[2:]
    xp, (ho, wo) = of(x).xp, Geometry(stride, padding, dilation).output_size(x.shape[2:], (kh, kw))
    x, y = xp.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))), 0.0
    for k in range(kh):
        for l in range(kw):  # noqa: E741 - the formula's letter
            rows, columns = slice(dh * k, dh * k + sh * ho, sh), slice(dw * l, dw * l + sw * wo, sw)
            y = y + xp.einsum("nchw,oc->nohw", x[:, :, rows, columns], w[:, :, k, l])
    return y


# ---------------------------------------------------------------- public


def pair(name: str, argument: str, value: Size, least: int) -> tuple[int, int]:
    """(h, w) of an argument given as one number or two, each at least `least`."""
    given = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(given) != 2 or any(not isinstance(v, int) or isinstance(v, bool) or v < least for v in given):
        raise ValueError(f"{name}: {argument} must be a whole number ≥ {least} or two of them (h, w), got {value!r}")
    return given


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of an image with a kernel, which the field calls convolution.

        y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, s i + d k − p, s j + d l − p],  x = 0 outside

    gx is the transposed convolution of gy, gw the correlation of x with gy, gb = Σ_{n, i, j} gy.

    x (n, c, h, w); weight (o, c/groups, kh, kw); bias (o,) or None; y (n, o, h', w') with
    h' = ⌊(h + 2p − d(kh − 1) − 1)/s⌋ + 1. stride, padding and dilation are a number or (h, w).
    padding: also "valid", which is 0, and "same", which keeps h and w (stride 1; an odd zero goes below and right).
    groups: x and the output are cut into that many groups of channels, each with a part of the weight.
    Source: LeCun et al. 1989; geometry as in Dumoulin and Visin 2016, relationships 6 and 15.
    """
    _check_images("conv2d", x, weight, weight.shape[1:2], groups, 1)
    stride, dilation = pair("conv2d", "stride", stride, 1), pair("conv2d", "dilation", dilation, 1)
    if isinstance(padding, str):
        x, padding = _named_padding(x, weight, stride, padding, dilation)
    geometry = Geometry(stride, pair("conv2d", "padding", padding, 0), dilation)
    size = geometry.output_size(x.shape[2:], weight.shape[2:])
    if min(size) < 1:
        raise ValueError(
            f"conv2d: the kernel is larger than the padded image: x {x.shape}, weight {weight.shape}, "
            f"padding {geometry.padding}, dilation {dilation}"
        )
    _check_bias("conv2d", bias, weight.shape[0], weight)
    if groups == 1:
        return Conv2d(geometry, size)(x, weight) if bias is None else Conv2d(geometry, size)(x, weight, bias)
    y = cat([Conv2d(geometry, size)(xs, ws) for xs, ws in zip(chunk(x, groups, 1), chunk(weight, groups, 0))], 1)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The transpose of the convolution with this geometry: ⟨conv2d(u, w), x⟩ = ⟨u, conv_transpose2d(x, w)⟩ for all u.

        y[n, c, a, b] = bias[c] + Σ w[o, c, k, l] · x[n, o, i, j]  over all  s i + d k − p = a,  s j + d l − p = b

    gx is the convolution of gy, gw the correlation of gy with x, gb = Σ_{n, a, b} gy.

    x (n, o, h, w); weight (o, c/groups, kh, kw); bias (c,) or None; y (n, c, h', w') with
    h' = (h − 1) s − 2p + d (kh − 1) + 1 + output_padding. Several image sizes have the same size after a convolution
    with a stride: output_padding, less than the stride or the dilation, says which of them is meant.
    Source: Dumoulin and Visin 2016, chapter 4.
    """
    name = "conv_transpose2d"
    _check_images(name, x, weight, weight.shape[:1], groups, 0)
    geometry = Geometry(
        pair(name, "stride", stride, 1), pair(name, "padding", padding, 0), pair(name, "dilation", dilation, 1)
    )
    extra = pair(name, "output_padding", output_padding, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, geometry.stride, geometry.dilation)):
        raise ValueError(
            f"{name}: output_padding must be less than the stride or the dilation, got {extra} "
            f"for stride {geometry.stride} and dilation {geometry.dilation}"
        )
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, k, s, p, d, e in zip(x.shape[2:], weight.shape[2:], *geometry, extra)
    ]
    if min(size) < 1:
        raise ValueError(
            f"{name}: the padding {geometry.padding} leaves nothing of the image: x {x.shape}, weight {weight.shape}"
        )
    _check_bias(name, bias, weight.shape[1] * groups, weight)
    if groups == 1:
        y = Conv2dInput(geometry, size)(x, weight)
    else:
        parts = zip(chunk(x, groups, 1), chunk(weight, groups, 0))
        y = cat([Conv2dInput(geometry, size)(xs, ws) for xs, ws in parts], 1)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _check_images(name: str, x: Tensor, weight: Tensor, expects: Sequence[int], groups: int, of_weight: int) -> None:
    if x.dtype != weight.dtype or x.dtype.kind != "f":
        raise TypeError(f"{name}: x and weight must be of one floating-point dtype, got {x.dtype} and {weight.dtype}")
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"{name}: expected x (n, c, h, w) and weight of 4 dimensions, got {x.shape} and {weight.shape}"
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(f"{name}: groups must divide the weight's {weight.shape[0]} channels, got {groups}")
    channels = expects[0] * (groups if of_weight else 1)
    if x.shape[1] != channels:
        raise ValueError(
            f"{name}: weight expects {channels} input channels{f' in {groups} groups' if groups > 1 else ''}, "
            f"x has {x.shape[1]}: x {x.shape}, weight {weight.shape}"
        )


def _check_bias(name: str, bias: Tensor | None, channels: int, weight: Tensor) -> None:
    if bias is not None and bias.dtype != weight.dtype:
        raise TypeError(f"{name}: bias must be {weight.dtype} as weight is, got {bias.dtype}")
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"{name}: bias must be ({channels},) as weight {weight.shape} asks, got {bias.shape}")


def _named_padding(
    x: Tensor, weight: Tensor, stride: tuple[int, int], padding: str, dilation: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """x and the zeros around it for "valid" and "same"."""
    if padding == "valid":
        return x, (0, 0)
    if padding != "same":
        raise ValueError(f'conv2d: padding must be numbers, "valid" or "same", got {padding!r}')
    if stride != (1, 1):
        raise ValueError(f'conv2d: padding "same" needs stride 1, got {stride}')
    total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
    for dim, zeros in zip((2, 3), total):
        if zeros % 2:  # the odd zero goes to the end
            edge = x.backend.xp.zeros((*x.shape[:dim], 1, *x.shape[dim + 1 :]), x.dtype)
            x = cat([x, Tensor(edge)], dim)
    return x, (total[0] // 2, total[1] // 2)
