"""Elementwise operations: the table of derivative rules, then the public functions.

A rule reads  name: y = forward(x0, …), and for each input a derivative `lambda gy, …: gx`.  The derivative's further
arguments (x0, x1 the inputs, y the result) are what the tape keeps, and it keeps nothing else. All operands broadcast;
a gradient is summed back to its input's shape. A number takes the dtype of the tensor beside it; where whole numbers
become real ones they become float32. Singular points give what IEEE arithmetic gives, without a warning.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tinygen.autograd.function import Function, plain_number
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, Backend, of

Operand = Tensor | Array | float | int | bool


class Elementwise(Function):
    """A function of the table: y_i = f(x0_i, x1_i, …)."""

    plans: dict[tuple[bool, ...], Any]  # by which inputs need a gradient: what to keep, and whom to call with what

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        from_inputs, from_outputs, self.calls = self.plans[tuple(needs)]
        return from_inputs, from_outputs

    def backward(self, gy: Tensor) -> tuple:
        saved = (self._saved or self._made) and self.saved
        return tuple([call(gy, saved) if need and call else None for call, need in zip(self.calls, self.needs)])


def _caller(derivative: Callable | None, keep: list[int]) -> Callable | None:
    """`derivative` as a function of (gy, all that is saved); the short cases are spelled out because each of them is
    called once for every operation of a program."""
    if derivative is None or not keep:
        return derivative and (lambda gy, saved: derivative(gy))
    if len(keep) == 1:
        (i,) = keep
        return lambda gy, saved: derivative(gy, saved[i])
    return lambda gy, saved: derivative(gy, *[saved[i] for i in keep])


def _rule(name: str, forward: Callable, *derivatives: Callable | None) -> type[Elementwise]:
    """The Function of one line of the table."""
    keeps = [list(inspect.signature(d).parameters)[1:] if d else [] for d in derivatives]
    plans = {}
    for bits in range(1, 2 ** len(derivatives)):
        needs = tuple(bool(bits >> i & 1) for i in range(len(derivatives)))
        names = sorted({n for need, keep in zip(needs, keeps) if need for n in keep})  # x0 < x1 < y
        plans[needs] = (
            tuple(int(n[1:]) for n in names if n != "y"),
            (0,) if "y" in names else (),
            [
                _caller(d, [names.index(n) for n in keep]) if need else None
                for d, keep, need in zip(derivatives, keeps, needs)
            ],
        )
    return type(name, (Elementwise,), {"forward": staticmethod(forward), "plans": plans, "__doc__": None})


def _xp(x: Array) -> Any:
    return of(x).xp


def _owner(x0: Any, x1: Any) -> Backend:
    """The backend of two operands, of which one may be a number."""
    return of(x1 if isinstance(x0, (int, float)) else x0)


def _real(function: Callable) -> Callable:
    """The forward x ↦ function(xp, x) of a rule for real x: whole numbers come as float32."""

    def forward(x: Any) -> Array:
        owner = of(x)
        if isinstance(x, (int, float)):
            x = owner.asarray(x, "float32")
        elif x.dtype.kind != "f":
            x = x.astype("float32")
        with owner.quiet():
            return function(owner.xp, x)

    return forward


def _fitted(function: Callable) -> Callable:
    """The forward (x0, x1) ↦ function(x0, x1) of a rule, in the dtype of its operands."""

    def forward(x0: Any, x1: Any) -> Array:
        y = function(x0, x1)
        return y if y.dtype.char != "d" else _not_wider(y, x0, x1)

    return forward


def _quiet(function: Callable) -> Callable:
    """`_fitted`, and singular points without a warning."""

    def forward(x0: Any, x1: Any) -> Array:
        with _owner(x0, x1).quiet():
            y = function(x0, x1)
        return y if y.dtype.char != "d" else _not_wider(y, x0, x1)

    return forward


def _not_wider(y: Array, *operands: Any) -> Array:
    """A float64 result in the widest real dtype among the operands' arrays, or float32 where all are whole numbers:
    NumPy makes float64 of int64 · 0.5 and of int64 · float32."""
    real = [x.dtype for x in operands if hasattr(x, "dtype") and x.dtype.kind == "f"]
    return y if y.dtype in real else y.astype(max(real, key=lambda d: d.itemsize, default="float32"))


# ---------------------------------------------------------------- the table
# fmt: off
Add = _rule("Add", _fitted(operator.add), lambda gy: gy, lambda gy: gy)
Subtract = _rule("Subtract", _fitted(operator.sub), lambda gy: gy, lambda gy: -gy)
Multiply = _rule("Multiply", _fitted(operator.mul), lambda gy, x1: gy * x1, lambda gy, x0: gy * x0)
Divide = _rule("Divide", _quiet(operator.truediv), lambda gy, x1: gy / x1, lambda gy, x1, y: -gy * y / x1)
Negative = _rule("Negative", operator.neg, lambda gy: -gy)
Power = _rule("Power", _quiet(lambda x0, x1: _power(x0, x1)),
              lambda gy, x0, x1: gy * _power_slope(x0, x1), lambda gy, x0, y: gy * y * _safe_log(x0))
Exp = _rule("Exp", _real(lambda xp, x: xp.exp(x)), lambda gy, y: gy * y)
Log = _rule("Log", _real(lambda xp, x: xp.log(x)), lambda gy, x0: gy / x0)
Sqrt = _rule("Sqrt", _real(lambda xp, x: xp.sqrt(x)), lambda gy, y: gy / (2 * y))
Sin = _rule("Sin", _real(lambda xp, x: xp.sin(x)), lambda gy, x0: gy * cos(x0))
Cos = _rule("Cos", _real(lambda xp, x: xp.cos(x)), lambda gy, x0: -gy * sin(x0))
Tanh = _rule("Tanh", _real(lambda xp, x: xp.tanh(x)), lambda gy, y: gy * (1 - y * y))
# σ(x) = 1/(1 + e⁻ˣ) is exact to rounding on both sides: where e⁻ˣ overflows, σ(x) is below the smallest normal number
Sigmoid = _rule("Sigmoid", _real(lambda xp, x: 1 / (1 + xp.exp(-x))), lambda gy, y: gy * (y * (1 - y)))
Softplus = _rule("Softplus", _real(lambda xp, x: _softplus(xp, x)), lambda gy, x0: gy * sigmoid(x0))
Erf = _rule("Erf", _real(lambda xp, x: of(x).erf(x).astype(x.dtype, copy=False)),
            lambda gy, x0: gy * exp(-(x0 * x0)) * 1.1283791670955126)  # 2/√π
Abs = _rule("Abs", lambda x: _xp(x).abs(x), lambda gy, x0: gy * _sign(x0))
Relu = _rule("Relu", lambda x: _relu(x), lambda gy, y: gy * (y > 0))
LeakyRelu = _rule("LeakyRelu", _fitted(lambda x, slope: _leaky(x, slope)),
                  lambda gy, x0, x1: gy * _leaky_slope(x0, x1), None)
Maximum = _rule("Maximum", _fitted(lambda x0, x1: _owner(x0, x1).xp.maximum(x0, x1)),
                lambda gy, x0, x1: gy * _share(x0, x1), lambda gy, x0, x1: gy * _share(x1, x0))
Minimum = _rule("Minimum", _fitted(lambda x0, x1: _owner(x0, x1).xp.minimum(x0, x1)),
                lambda gy, x0, x1: gy * _share(x1, x0), lambda gy, x0, x1: gy * _share(x0, x1))
Where = _rule("Where", lambda c, x0, x1: _where(c, x0, x1),
              None, lambda gy, x0: where(x0, gy, 0.0), lambda gy, x0: where(x0, 0.0, gy))
# fmt: on
# ---------------------------------------------------------------- what the table calls: values on raw arrays …


def _power(x: Any, p: Any) -> Any:
    """x ** p, with products for the small whole exponents (many times faster than the general power)."""
    if isinstance(p, (int, float)) and p in (2, 3, 4) and not isinstance(x, (int, float)):
        square = x * x
        return square if p == 2 else square * x if p == 3 else square * square
    return x**p


def _where(c: Array, x0: Any, x1: Any) -> Array:
    y = _xp(c).where(c, x0, x1)
    return y if y.dtype.char != "d" else _not_wider(y, x0, x1)


def _softplus(xp: Any, x: Array) -> Array:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|): exact to rounding for every x."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _relu(x: Array) -> Array:
    # NumPy clips to two bounds in a third of the time that it takes for maximum(x, 0)
    is_real = isinstance(x, float) or (not isinstance(x, int) and x.dtype.kind == "f")
    return _xp(x).clip(x, 0.0, math.inf) if is_real else _xp(x).maximum(x, 0)


def _leaky(x: Array, slope: float) -> Array:
    if slope == 0:
        return _relu(x)  # 0 · ∞ has no place here
    if 0 < slope <= 1:
        return _xp(x).maximum(x, slope * x)  # one branch-free pass; where() is ten times slower on random signs
    return _xp(x).where(x > 0, x, slope * x)


# … and factors that are constants of the derivative (piecewise constant, hence their own derivative is 0)


def _power_slope(x: Any, p: Any) -> Any:
    """d xᵖ / dx = p xᵖ⁻¹, and 0 for p = 0 also at x = 0."""
    if isinstance(p, (int, float)):
        return 0.0 * x if p == 0 else p * x ** (p - 1) if p != 1 else 1.0
    return p * where(p.data == 0, 1.0, x) ** (p - 1)


def _safe_log(x: Any) -> Any:
    """log x where x ≠ 0, and 0 there: xᵖ log x → 0 for p > 0."""
    if isinstance(x, (int, float)):
        return math.log(x) if x > 0 else 0.0 if x == 0 else math.nan
    return log(where(x.data == 0, 1.0, x))


def _sign(x: Tensor) -> Tensor:
    return Tensor(_xp(x.data).sign(x.data))


def _leaky_slope(x: Tensor, slope: float) -> Tensor:
    factor = (x.data > 0).astype(x.dtype)
    factor *= 1 - slope
    factor += slope
    return Tensor(factor)


def _share(x0: Any, x1: Any) -> Tensor:
    """What x0 gets of the gradient of max(x0, x1): all, nothing, or one half of it at a tie."""
    a, b = (x.data if isinstance(x, Tensor) else x for x in (x0, x1))
    dtype = (x0 if isinstance(x0, Tensor) else x1).dtype
    return Tensor(0.5 * ((a > b).astype(dtype) + (a >= b).astype(dtype)))


class Clamp(Function):
    """The bounds belong to the operation and are no operands, as either may be None."""

    saves_inputs = (0,)

    def __init__(self, low: float | None, high: float | None) -> None:
        self.low, self.high = low, high

    def forward(self, x: Array) -> Array:
        y = _xp(x).clip(x, self.low, self.high)
        return y if y.dtype.char != "d" else _not_wider(y, x)

    def backward(self, gy: Tensor) -> Tensor:
        (x,) = self.saved
        inside: Any = True
        if self.low is not None:
            inside = x.data >= self.low
        if self.high is not None:
            inside = (x.data <= self.high) & inside
        return gy * Tensor(inside.astype(x.dtype))


# ---------------------------------------------------------------- the public functions


def add(x0: Operand, x1: Operand) -> Tensor:
    """y = x0 + x1.  gx0 = gy, gx1 = gy."""
    return Add()(x0, x1)


def subtract(x0: Operand, x1: Operand) -> Tensor:
    """y = x0 − x1.  gx0 = gy, gx1 = −gy."""
    return Subtract()(x0, x1)


def multiply(x0: Operand, x1: Operand) -> Tensor:
    """y = x0 · x1.  gx0 = gy · x1, gx1 = gy · x0."""
    return Multiply()(x0, x1)


def divide(x0: Operand, x1: Operand) -> Tensor:
    """y = x0 / x1.  gx0 = gy / x1, gx1 = −gy · y / x1."""
    return Divide()(x0, x1)


def negative(x: Operand) -> Tensor:
    """y = −x.  gx = −gy."""
    return Negative()(x)


def power(x: Operand, exponent: Operand) -> Tensor:
    """y = xᵖ.  gx = gy · p · xᵖ⁻¹, gp = gy · y · log x.

    Singular points: p = 0 gives gx = 0 also at x = 0; at x = 0 the gradient of p is 0. A negative x with a
    fractional p is NaN.
    """
    return Power()(x, exponent)


def exp(x: Operand) -> Tensor:
    """y = eˣ.  gx = gy · y."""
    return Exp()(x)


def log(x: Operand) -> Tensor:
    """y = ln x.  gx = gy / x.  At x = 0: −∞, with an infinite gradient."""
    return Log()(x)


def sqrt(x: Operand) -> Tensor:
    """y = √x.  gx = gy / 2y.  At x = 0 the gradient is infinite, as the slope is; `norm` has a rule for 0."""
    return Sqrt()(x)


def sin(x: Operand) -> Tensor:
    """y = sin x.  gx = gy · cos x."""
    return Sin()(x)


def cos(x: Operand) -> Tensor:
    """y = cos x.  gx = −gy · sin x."""
    return Cos()(x)


def tanh(x: Operand) -> Tensor:
    """y = tanh x.  gx = gy · (1 − y²)."""
    return Tanh()(x)


def sigmoid(x: Operand) -> Tensor:
    """y = 1 / (1 + e⁻ˣ).  gx = gy · y · (1 − y)."""
    return Sigmoid()(x)


def softplus(x: Operand) -> Tensor:
    """y = log(1 + eˣ), without overflow.  gx = gy · σ(x)."""
    return Softplus()(x)


def logsigmoid(x: Operand) -> Tensor:
    """y = log σ(x) = −softplus(−x), without overflow.  gx = gy · σ(−x)."""
    return -softplus(-x)


def erf(x: Operand) -> Tensor:
    """y = 2/√π ∫₀ˣ e^(−t²) dt.  gx = gy · 2/√π · e^(−x²)."""
    return Erf()(x)


def abs(x: Operand) -> Tensor:
    """y = |x|.  gx = gy · sign x, and 0 at x = 0."""
    return Abs()(x)


def relu(x: Operand) -> Tensor:
    """y = max(x, 0).  gx = gy where x > 0, else 0 (0 at x = 0 as well)."""
    return Relu()(x)


def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Tensor:
    """y = x where x > 0, else a·x.  gx = gy or a·gy (a·gy at x = 0)."""
    return LeakyRelu()(x, negative_slope)


def maximum(x0: Operand, x1: Operand) -> Tensor:
    """y = max(x0, x1).  The larger gets gy; at a tie each gets one half of it."""
    return Maximum()(x0, x1)


def minimum(x0: Operand, x1: Operand) -> Tensor:
    """y = min(x0, x1).  The smaller gets gy; at a tie each gets one half of it."""
    return Minimum()(x0, x1)


def clamp(x: Operand, min: float | None = None, max: float | None = None) -> Tensor:
    """y = x held within [min, max].  gx = gy where min ≤ x ≤ max, else 0."""
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    return Clamp(_bound("min", min), _bound("max", max))(x)


def _bound(name: str, bound: Any) -> float | None:
    number = plain_number(bound)
    if not (number is None or isinstance(number, (int, float))):
        raise TypeError(f"clamp: {name} must be a number, got {type(bound).__name__}; maximum() takes tensors")
    return number


def where(condition: Tensor | Array, x0: Operand, x1: Operand) -> Tensor:
    """y = x0 where the condition holds, else x1.  Each gets gy where it was taken, else exactly 0 (never 0 · ∞)."""
    return Where()(condition, x0, x1)
