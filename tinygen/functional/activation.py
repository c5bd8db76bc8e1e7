"""Activations that are more than one line of the table in elementwise.py.

Each returns a second result from its node, the costly part that its slope is written in (σ, Φ or tanh), so that the
gradient does not compute it again and can itself be differentiated.
"""

from __future__ import annotations

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import exp

ROOT_HALF = 0.7071067811865476  # 1/√2
DENSITY = 0.3989422804014327  # 1/√(2π), the normal density at 0
TANH_SLOPE, TANH_CUBE = 0.7978845608028654, 0.044715  # √(2/π), and what makes tanh follow Φ


class Elu(Function):
    saves_inputs, saves_outputs = (0,), (0,)

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def forward(self, x: Array) -> Array:
        xp = of(x).xp
        y = xp.empty_like(x)
        xp.expm1(xp.minimum(x, 0, out=y), out=y)
        if self.alpha != 1:
            y *= self.alpha
        y += xp.maximum(x, 0)
        return y

    def backward(self, gy: Tensor) -> Tensor:
        x, y = self.saved
        low = Tensor((x.data <= 0).astype(x.dtype))
        return gy * (low * (y + (self.alpha - 1)) + 1)  # 1, and where x ≤ 0: α eˣ = y + α


class Silu(Function):
    """(y, s) with s = σ(x) and y = x s.  dy/dx = s + y (1 − s), ds/dx = s (1 − s)."""

    saves_outputs = (0, 1)
    fills_zeros = False

    def forward(self, x: Array) -> tuple[Array, Array]:
        owner, xp = of(x), of(x).xp
        s = xp.empty_like(x)
        with owner.quiet():
            xp.exp(xp.negative(x, out=s), out=s)
            s += 1
            return x * xp.divide(1, s, out=s), s

    def backward(self, gy: Tensor | None, gs: Tensor | None) -> Tensor | None:
        y, s = self.saved
        rest = 1 - s
        gx = None if gy is None else gy * (s + y * rest)
        if gs is None:
            return gx
        part = gs * (s * rest)
        return part if gx is None else gx + part


class Gelu(Function):
    """(y, Φ) with the normal distribution's Φ(x) and y = x Φ.  dy/dx = Φ + x φ, dΦ/dx = φ = e^(−x²/2)/√(2π)."""

    saves_inputs, saves_outputs = (0,), (1,)
    fills_zeros = False

    def forward(self, x: Array) -> tuple[Array, Array]:
        below = of(x).erf(x * ROOT_HALF).astype(x.dtype, copy=False)
        below += 1
        below *= 0.5
        return x * below, below

    def backward(self, gy: Tensor | None, gbelow: Tensor | None) -> Tensor:
        x, below = self.saved
        density = exp(x * x * -0.5) * DENSITY
        if gy is None:
            return gbelow * density
        gx = gy * (below + x * density)
        return gx if gbelow is None else gx + gbelow * density


class GeluTanh(Function):
    """(y, t) with t = tanh u, u = √(2/π) (x + 0.044715 x³) and y = x (1 + t)/2.

    dy/dx = (1 + t)/2 + x t'/2, dt/dx = t' = (1 − t²) u'.
    """

    saves_inputs, saves_outputs = (0,), (1,)
    fills_zeros = False

    def forward(self, x: Array) -> tuple[Array, Array]:
        xp = of(x).xp
        t = xp.empty_like(x)
        xp.multiply(x, x, out=t)
        t *= TANH_SLOPE * TANH_CUBE
        t += TANH_SLOPE
        t *= x
        xp.tanh(t, out=t)
        y = t + 1
        y *= x
        y *= 0.5
        return y, t

    def backward(self, gy: Tensor | None, gt: Tensor | None) -> Tensor:
        x, t = self.saved
        slope = (1 - t * t) * (x * x * (3 * TANH_SLOPE * TANH_CUBE) + TANH_SLOPE)
        if gy is None:
            return gt * slope
        gx = gy * ((x * slope + t + 1) * 0.5)
        return gx if gt is None else gx + gt * slope


# ---------------------------------------------------------------- public


def _require_real(name: str, x: Tensor) -> None:
    if x.dtype.kind != "f":
        raise TypeError(f'{name}: expected real numbers, got {x.dtype}; convert them with .to("float32")')


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """y = x where x > 0, else α (eˣ − 1).  gx = gy, or gy α eˣ (that one at x = 0).

    Source: Clevert et al. 2016.
    """
    _require_real("elu", x)
    return Elu(alpha)(x)


def silu(x: Tensor) -> Tensor:
    """y = x σ(x).  gx = gy (σ + y (1 − σ)).

    Source: Elfwing et al. 2018.
    """
    _require_real("silu", x)
    return Silu()(x)[0]


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """y = x Φ(x), with the normal distribution's Φ(x) = (1 + erf(x/√2))/2.  gx = gy (Φ + x φ).

    approximate: "tanh" computes x (1 + tanh(√(2/π) (x + 0.044715 x³)))/2 instead, which is off by 5e-4 at most, and
    the gradient of that. Source: Hendrycks and Gimpel 2016.
    """
    _require_real("gelu", x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')
    return (Gelu() if approximate == "none" else GeluTanh())(x)[0]
