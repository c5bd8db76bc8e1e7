"""Operations that make fewer numbers out of many. `dim` is one dimension or several, negative ones counted from the
end; None means all. `keepdim` leaves a size of 1 in the place of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, memory_order, of
from tinygen.functional import elementwise
from tinygen.functional.elementwise import abs, exp, sqrt, where
from tinygen.functional.shape import Dims, ValuesIndices, flip, normalize_dim, normalize_dims, reshape

# ---------------------------------------------------------------- sums that go along with the memory

FEW = 4096  # elements up to which the library's own sum is the fastest
INNER = 256  # elements that lie together from which a loop over them is worth its start


def memory_block(x: Array) -> list[int]:
    """The last dimensions in memory, a block of about INNER elements: in channels-last memory w and c."""
    block: list[int] = []
    size = 1
    for axis in reversed(memory_order(x)):
        if size >= INNER or (block and size * x.shape[axis] > 32 * INNER):
            break
        block.append(axis)
        size *= x.shape[axis]
    return block


def total(dims: Sequence[int], *factors: Array) -> Array:
    """Σ x, or Σ x y, over `dims`, left as size 1: five to ten times as fast as x.sum for the channels of an image.

    Where the dimensions come first in memory, Σ x is a product with ones. Else whole blocks of memory are added up
    before what is left within a block; the sums are shorter then, hence closer, and no array holds all the products.
    """
    x = factors[0]
    if len(factors) == 1 and (x.size < FEW or x.dtype.kind != "f"):
        return x.sum(axis=tuple(dims), keepdims=True)
    order = memory_order(x)
    summed = sorted(dims, key=order.index)
    kept = [axis for axis in order if axis not in summed]
    if len(factors) == 1:
        laid = x.transpose([*summed, *kept])  # where this is how it lies
        if laid.flags.c_contiguous:
            if all(x.shape[axis] == 1 for axis in kept):
                return _sum_of_all(x, laid.reshape(-1)).reshape([1] * x.ndim)
            rows = laid.reshape(math.prod(x.shape[d] for d in dims), -1)  # (Π dims, the rest)
            sums = of(x).sum_rows(rows).reshape([x.shape[axis] for axis in kept])
            sums = sums.transpose([kept.index(axis) for axis in sorted(kept)])
            return sums.reshape([1 if i in dims else n for i, n in enumerate(x.shape)])
    block = memory_block(x)
    first = block if set(block) <= set(dims) else [d for d in dims if d not in block]
    letters = "abcdefghijklmnopqrstuvwxyz"[: x.ndim]
    left = "".join([letter for i, letter in enumerate(letters) if i not in first])
    part = of(x).xp.einsum(f"{','.join([letters] * len(factors))}->{left}", *factors)
    part = part.reshape([1 if i in first else n for i, n in enumerate(x.shape)])
    return part.sum(axis=tuple(dims), keepdims=True)


def _sum_of_all(x: Array, flat: Array) -> Array:
    """Σ of all elements, which lie one after the other: of rows of INNER by a product with ones, then of those sums."""
    whole = flat.size // INNER * INNER
    return of(x).sum_rows(flat[:whole].reshape(-1, INNER)).sum() + flat[whole:].sum()


# ---------------------------------------------------------------- the operations


def _kept(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with a 1 in the place of each reduced dimension."""
    return tuple(1 if i in dims else s for i, s in enumerate(shape))


class _Reduction(Function):
    """Common: which dimensions, and the way back to the shape before."""

    before: tuple[int, ...]

    def __init__(self, dims: tuple[int, ...], keepdim: bool) -> None:
        self.dims, self.keepdim = dims, keepdim

    def spread(self, y: Tensor) -> Tensor:
        """A tensor of the result's shape with the reduced dimensions put back as 1, ready to broadcast."""
        return y if self.keepdim else reshape(y, _kept(self.before, self.dims))


class Sum(_Reduction):
    def forward(self, x: Array) -> Array:
        self.before = x.shape
        if len(self.dims) == x.ndim and x.size < FEW:
            return x.sum(keepdims=self.keepdim)
        y = total(self.dims, x)
        return y if self.keepdim else y.squeeze(self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return self.spread(gy).expand(self.before)


class SumTo(Function):
    """Sum over what broadcasting repeated: the adjoint of Expand."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        new = x.ndim - len(self.shape)
        dims = tuple(range(new)) + tuple(i + new for i, s in enumerate(self.shape) if s == 1 and x.shape[i + new] != 1)
        return total(dims, x).reshape(self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.expand(self.before)


class Amax(_Reduction):
    """The largest; `sign` −1 makes it the smallest."""

    saves_inputs, saves_outputs = (0,), (0,)

    def __init__(self, dims: tuple[int, ...], keepdim: bool, sign: int = 1) -> None:
        super().__init__(dims, keepdim)
        self.sign = sign

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        reduce = x.max if self.sign > 0 else x.min
        return reduce(axis=self.dims, keepdims=self.keepdim)

    def backward(self, gy: Tensor) -> Tensor:
        x, y = self.saved
        tied = (x.data == self.spread(y).data).astype(x.dtype)
        return self.spread(gy) * Tensor(tied / tied.sum(axis=self.dims, keepdims=True))


class Norm(_Reduction):
    """(Σ |x|ᵖ)^(1/p)."""

    saves_inputs, saves_outputs = (0,), (0,)

    def __init__(self, p: float, dims: tuple[int, ...], keepdim: bool) -> None:
        super().__init__(dims, keepdim)
        self.p = p

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        xp = of(x).xp
        if self.p == 2:
            return xp.sqrt((x * x).sum(axis=self.dims, keepdims=self.keepdim))
        return (xp.abs(x) ** self.p).sum(axis=self.dims, keepdims=self.keepdim) ** (1 / self.p)

    def backward(self, gy: Tensor) -> Tensor:
        x, y = self.saved
        zero = y.data == 0  # the slope of a cone's tip: any vector up to length 1 would do, and 0 is the shortest
        gy, y = where(zero, 0.0, gy), where(zero, 1.0, y)
        if self.p == 2:
            return self.spread(gy / y) * x
        share = where(x.data == 0, 1.0, abs(x)) / self.spread(y)
        return self.spread(gy) * Tensor(x.backend.xp.sign(x.data)) * share ** (self.p - 1)


class LogSumExp(_Reduction):
    saves_inputs, saves_outputs = (0,), (0,)

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        xp = of(x).xp
        top = x.max(axis=self.dims, keepdims=True) if x.size else xp.zeros(_kept(x.shape, self.dims), x.dtype)
        top = xp.where(xp.isfinite(top), top, 0)  # all −∞ gives −∞, not NaN
        with of(x).quiet():
            y = xp.log(xp.exp(x - top).sum(axis=self.dims, keepdims=True)) + top
        return y if self.keepdim else y.reshape([s for i, s in enumerate(x.shape) if i not in self.dims])

    def backward(self, gy: Tensor) -> Tensor:
        x, y = self.saved
        return self.spread(gy) * exp(x - self.spread(where(y.data == -math.inf, 0.0, y)))


class Softmax(Function):
    saves_outputs = (0,)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        xp = of(x).xp
        e = xp.exp(x - x.max(axis=self.dim, keepdims=True))
        return e / e.sum(axis=self.dim, keepdims=True)

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        weighted = gy * y
        return weighted - y * weighted.sum(self.dim, keepdim=True)


class LogSoftmax(Function):
    saves_outputs = (0,)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        xp = of(x).xp
        shifted = x - x.max(axis=self.dim, keepdims=True)
        return shifted - xp.log(xp.exp(shifted).sum(axis=self.dim, keepdims=True))

    def backward(self, gy: Tensor) -> Tensor:
        (y,) = self.saved
        return gy - exp(y) * gy.sum(self.dim, keepdim=True)


class Cumsum(Function):
    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array) -> Array:
        return of(x).xp.cumsum(x, axis=self.dim)

    def backward(self, gy: Tensor) -> Tensor:
        return flip(cumsum(flip(gy, self.dim), self.dim), self.dim)


# ---------------------------------------------------------------- the public functions


def sum(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """y = Σ x over `dim`.  gx = gy, repeated."""
    return Sum(normalize_dims("sum", dim, x.ndim), keepdim)(x)


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum over the dimensions that broadcasting from `shape` to x's would repeat.  gx = gy, expanded."""
    return x if x.shape == shape else SumTo(shape)(x)


def _require_real(name: str, x: Tensor) -> None:
    if x.dtype.kind != "f":
        raise TypeError(f'{name}: expected real numbers, got {x.dtype}; convert them with .to("float32")')


def _count(x: Tensor, dims: tuple[int, ...]) -> int:
    return math.prod(x.shape[d] for d in dims)


def mean(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """y = (1/N) Σ x over the N elements of `dim`.  gx = gy / N, repeated.  NaN where N = 0."""
    _require_real("mean", x)
    dims = normalize_dims("mean", dim, x.ndim)
    return Sum(dims, keepdim)(x) / _count(x, dims)


def var(x: Tensor, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Tensor:
    """y = Σ (x − x̄)² / (N − correction): unbiased by default, as in PyTorch.  gx = 2 gy (x − x̄) / (N − correction).

    ValueError where N ≤ correction: so few elements have no variance (PyTorch gives NaN).
    """
    _require_real("var", x)
    dims = normalize_dims("var", dim, x.ndim)
    count = _count(x, dims)
    if count <= correction:
        raise ValueError(f"var: {count} elements with correction {correction} have no variance; use correction=0")
    centred = x - mean(x, dims, keepdim=True)
    return sum(centred * centred, dims, keepdim) / (count - correction)


def std(x: Tensor, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Tensor:
    """y = √var.  gx = gy (x − x̄) / (y (N − correction)), and 0 where y = 0: there, as for a norm, 0 is the shortest
    of the slopes between which the kink turns."""
    variance = var(x, dim, correction=correction, keepdim=keepdim)
    zero = variance.data == 0
    return where(zero, 0.0, sqrt(where(zero, 1.0, variance)))


def amax(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest element over `dim`.  It gets gy; k that tie get gy / k each."""
    return Amax(normalize_dims("amax", dim, x.ndim), keepdim)(x)


def amin(x: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`.  It gets gy; k that tie get gy / k each."""
    return Amax(normalize_dims("amin", dim, x.ndim), keepdim, -1)(x)


def max(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Without `dim` the largest element; with one, (values, indices) along it. Gradient as `amax`.

    max(x, other), with a tensor, is `maximum`.
    """
    if isinstance(dim, Tensor):
        return elementwise.maximum(x, dim)
    if dim is None:
        return amax(x)
    return ValuesIndices(amax(x, dim, keepdim), argmax(x, dim, keepdim))


def min(x: Tensor, dim: Any = None, keepdim: bool = False) -> Any:
    """Without `dim` the smallest element; with one, (values, indices) along it. Gradient as `amin`.

    min(x, other), with a tensor, is `minimum`.
    """
    if isinstance(dim, Tensor):
        return elementwise.minimum(x, dim)
    if dim is None:
        return amin(x)
    return ValuesIndices(amin(x, dim, keepdim), argmin(x, dim, keepdim))


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest element stands (the first, at a tie); has no gradient."""
    return _argument("argmax", x, dim, keepdim)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest element stands (the first, at a tie); has no gradient."""
    return _argument("argmin", x, dim, keepdim)


def _argument(name: str, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    owner = x.backend
    at = None if dim is None else normalize_dim(name, dim, x.ndim)
    found = owner.asarray(getattr(x.data, name)(axis=at))
    return Tensor(found if not keepdim or at is None else owner.xp.expand_dims(found, at))


def norm(x: Tensor, p: float = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """y = (Σ |x|ᵖ)^(1/p) for a real p > 0, and max |x| for p = ∞.  gx = gy · sign x · (|x| / y)ᵖ⁻¹.

    Singular points: gx = 0 where y = 0, and at each x = 0. For p = ∞, elements that tie share gy.
    """
    _require_real("norm", x)
    if isinstance(p, (str, tuple, list)) or not p > 0:
        raise ValueError(f"norm: p must be a real number > 0 or inf, got {p!r}; dimensions are given as dim=")
    dims = normalize_dims("norm", dim, x.ndim)
    if p == math.inf:
        return amax(abs(x), dims, keepdim)
    return sum(abs(x), dims, keepdim) if p == 1 else Norm(float(p), dims, keepdim)(x)


def logsumexp(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """y = log Σ eˣ, without overflow.  gx = gy · e^(x − y), the softmax."""
    _require_real("logsumexp", x)
    return LogSumExp(normalize_dims("logsumexp", dim, x.ndim), keepdim)(x)


def softmax(x: Tensor, dim: int) -> Tensor:
    """y = eˣ / Σ eˣ along `dim`.  gx = y · (gy − Σ gy·y)."""
    _require_real("softmax", x)
    return Softmax(normalize_dim("softmax", dim, x.ndim))(x)


def log_softmax(x: Tensor, dim: int) -> Tensor:
    """y = x − log Σ eˣ along `dim`.  gx = gy − eʸ · Σ gy."""
    _require_real("log_softmax", x)
    return LogSoftmax(normalize_dim("log_softmax", dim, x.ndim))(x)


def cumsum(x: Tensor, dim: int) -> Tensor:
    """y_i = x_0 + … + x_i along `dim`.  gx_i = gy_i + … + gy_N."""
    return Cumsum(normalize_dim("cumsum", dim, x.ndim))(x)
