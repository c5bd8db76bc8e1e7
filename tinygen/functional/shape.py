"""Operations that move elements and compute nothing: their derivatives move them back.

`reshape`, `permute`, `expand` and basic slices give views of the same memory where the backend can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, array_types, of

Dims = int | Sequence[int] | None


def normalize_dim(name: str, dim: int, ndim: int) -> int:
    """A dimension counted from the front; IndexError where there is none such."""
    if not -ndim <= dim < ndim:
        raise IndexError(f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions")
    return dim % ndim


def normalize_dims(name: str, dim: Dims, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front, in order; None means all."""
    if dim is None:
        return tuple(range(ndim))
    dims = tuple(normalize_dim(name, d, ndim) for d in ((dim,) if isinstance(dim, int) else dim))
    if len(set(dims)) < len(dims):
        raise ValueError(f"{name}: dim {dim} names a dimension twice")
    return dims


class Reshape(Function):
    is_view = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return x.reshape(self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return reshape(gy, self.before)


class Permute(Function):
    is_view = True

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, x: Array) -> Array:
        return x.transpose(self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return permute(gy, tuple(sorted(range(len(self.dims)), key=self.dims.__getitem__)))


class Expand(Function):
    is_view = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return of(x).xp.broadcast_to(x, self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.sum_to(self.before)


class Flip(Function):
    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, x: Array) -> Array:
        return of(x).xp.flip(x, self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return flip(gy, self.dims)


class Roll(Function):
    def __init__(self, shifts: tuple[int, ...], dims: tuple[int, ...]) -> None:
        self.shifts, self.dims = shifts, dims

    def forward(self, x: Array) -> Array:
        return of(x).xp.roll(x, self.shifts, self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return roll(gy, tuple(-s for s in self.shifts), self.dims)


class Cast(Function):
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, x: Array) -> Array:
        self.before = x.dtype
        return x.astype(self.dtype)

    def backward(self, gy: Tensor) -> Tensor:
        return to(gy, self.before)


class Cat(Function):
    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, *xs: Array) -> Array:
        self.sizes = [x.shape[self.dim] for x in xs]
        return of(xs[0]).xp.concatenate(xs, axis=self.dim)

    def backward(self, gy: Tensor) -> tuple[Tensor, ...]:
        return split(gy, self.sizes, self.dim)


class Split(Function):
    is_view = True

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        self.sizes, self.dim = sizes, dim

    def forward(self, x: Array) -> tuple[Array, ...]:
        ends = [sum(self.sizes[: i + 1]) for i in range(len(self.sizes))]
        before = (slice(None),) * self.dim
        return tuple(x[(*before, slice(end - size, end))] for size, end in zip(self.sizes, ends))

    def backward(self, *gys: Tensor) -> Tensor:
        return cat(gys, self.dim)


class GetItem(Function):
    def __init__(self, index: Any) -> None:
        self.index = index
        items = index if isinstance(index, tuple) else (index,)
        self.is_view = all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in items)

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return x[self.index]

    def backward(self, gy: Tensor) -> Tensor:
        return PutItem(self.index, self.before, self.is_view)(gy)


class PutItem(Function):
    """Zeros of a shape with the input added at an index: the adjoint of GetItem, as GetItem is its own."""

    def __init__(self, index: Any, shape: tuple[int, ...], once: bool) -> None:
        self.index, self.shape, self.once = index, shape, once

    def forward(self, y: Array) -> Array:
        owner = of(y)
        x = owner.xp.zeros(self.shape, y.dtype)
        if self.once:  # slices name each element once, and assignment is faster than addition
            x[self.index] = y
        else:
            owner.scatter_add(x, self.index, y)
        return x

    def backward(self, gx: Tensor) -> Tensor:
        return GetItem(self.index)(gx)


# ---------------------------------------------------------------- the public functions


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; one −1 is worked out.  gx = gy reshaped back.

    ValueError where the number of elements differs.
    """
    target = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    known = math.prod(s for s in target if s != -1)
    size = x.numel()
    if target.count(-1) > 1 or (size % known if -1 in target and known else -1 in target or size != known):
        raise ValueError(f"reshape: {x.shape} has {size} elements, which do not fill {target}")
    return Reshape(target)(x)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim … end_dim as one."""
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = (normalize_dim("flatten", d, x.ndim) for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return reshape(x, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` as several of the given sizes: the inverse of flatten."""
    at = normalize_dim("unflatten", dim, x.ndim)
    return reshape(x, *x.shape[:at], *sizes, *x.shape[at + 1 :])


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order: y.shape[i] = x.shape[dims[i]].  gx = gy in the old order."""
    order = tuple(dims[0]) if len(dims) == 1 and not isinstance(dims[0], int) else dims
    normal = normalize_dims("permute", order, x.ndim)
    if len(normal) != x.ndim:
        raise ValueError(f"permute: {order} does not name the {x.ndim} dimensions of {x.shape} once each")
    return Permute(normal)(x)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged."""
    order = list(range(x.ndim))
    a, b = normalize_dim("transpose", dim0, x.ndim), normalize_dim("transpose", dim1, x.ndim)
    order[a], order[b] = order[b], order[a]
    return Permute(tuple(order))(x)


def expand(x: Tensor, *shape: Any) -> Tensor:
    """Dimensions of size 1 repeated, and new ones in front, without a copy; −1 keeps a size.  gx = gy summed over them.

    ValueError where a size that is not 1 would have to change.
    """
    target = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    new = len(target) - x.ndim
    if new < 0:
        raise ValueError(f"expand: {x.shape} has more dimensions than {target}")
    sizes = tuple(x.shape[i - new] if s == -1 and i >= new else s for i, s in enumerate(target))
    if any(s not in (1, t) for s, t in zip(x.shape, sizes[new:])):
        raise ValueError(f"expand: {x.shape} does not expand to {target}; only sizes of 1 are repeated")
    return Expand(sizes)(x)


def squeeze(x: Tensor, dim: Dims = None) -> Tensor:
    """Without the dimensions of size 1 (all of them, or those of `dim` that are)."""
    dims = normalize_dims("squeeze", dim, x.ndim)
    return reshape(x, tuple(s for i, s in enumerate(x.shape) if s != 1 or i not in dims))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a dimension of size 1 put in at `dim`."""
    at = normalize_dim("unsqueeze", dim, x.ndim + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def flip(x: Tensor, dims: int | Sequence[int]) -> Tensor:
    """The order of elements reversed along `dims`.  gx = gy reversed."""
    return Flip(normalize_dims("flip", dims, x.ndim))(x)


def roll(x: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Tensor:
    """Elements shifted along `dims`, those that fall off coming in again.  gx = gy shifted back."""
    shifts_ = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims_ = normalize_dims("roll", dims, x.ndim)
    if len(shifts_) != len(dims_):
        raise ValueError(f"roll: {len(shifts_)} shifts for {len(dims_)} dims")
    return Roll(shifts_, dims_)(x)


def to(x: Tensor, dtype: Any) -> Tensor:
    """The elements in another dtype; x itself where it has it.  gx = gy in the old dtype."""
    return x if x.dtype == dtype else Cast(dtype)(x)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors joined along `dim`; all other sizes must agree.  Each gets its part of gy."""
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    at = normalize_dim("cat", dim, tensors[0].ndim)
    rest = [(*t.shape[:at], *t.shape[at + 1 :]) for t in tensors]
    if any(r != rest[0] for r in rest):
        raise ValueError(f"cat: shapes differ beside dim {dim}: {', '.join(str(t.shape) for t in tensors)}")
    return Cat(at)(*tensors)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `dim`."""
    if any(t.shape != tensors[0].shape for t in tensors):
        raise ValueError(f"stack: shapes differ: {', '.join(str(t.shape) for t in tensors)}")
    return cat([unsqueeze(t, dim) for t in tensors], dim)


def split(x: Tensor, size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of the given size (the last may be smaller), or of the given sizes, along `dim`."""
    at = normalize_dim("split", dim, x.ndim)
    total = x.shape[at]
    sizes = [min(size, total - i) for i in range(0, total, size)] if isinstance(size, int) else list(size)
    if sum(sizes) != total:
        raise ValueError(f"split: sizes {sizes} do not add up to {total}, the size of dim {dim} of {x.shape}")
    return Split(sizes, at)(x)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size along `dim`, the last one smaller where it does not divide."""
    return split(x, -(-x.shape[dim] // chunks), dim)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as NumPy has it: whole numbers, slices, None, …, arrays of whole numbers, masks, and their mixtures.

    gx is zero but for gy added at the index, once for each time an element was named.
    """
    items = index if isinstance(index, tuple) else (index,)
    plain = tuple(_plain_index(i) for i in items)
    return GetItem(plain if isinstance(index, tuple) else plain[0])(x)


def _plain_index(item: Any) -> Any:
    if isinstance(item, Tensor):
        item = item.data
    if isinstance(item, list):
        from tinygen.backend import current

        item = current().xp.asarray(item)
    if type(item) in array_types and item.dtype.kind not in "iub":
        raise IndexError(f"index: expected whole numbers or a mask, got an array of {item.dtype}")
    return item


class ValuesIndices(NamedTuple):
    """Extreme values along a dimension, and where they stand."""

    values: Tensor
    indices: Tensor
