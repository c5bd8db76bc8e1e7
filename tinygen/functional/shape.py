"""Operations that move elements and compute nothing: their derivatives move them back.

`reshape`, `permute`, `expand` and basic slices give views of the same memory where the backend can.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from tinygen.autograd.function import Function, plain_number
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of

Dims = int | Sequence[int] | None


def whole(name: str, argument: str, value: Any) -> int:
    """A Python int of any kind of whole number; TypeError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {argument} must be a whole number, got {value!r:.60}") from None


def _sizes(name: str, given: tuple) -> tuple[int, ...]:
    """Sizes given as f(2, 3) or f((2, 3)), as a tuple."""
    sizes = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return tuple([s if type(s) is int else whole(name, "a size", s) for s in sizes])


def normalize_dim(name: str, dim: int, ndim: int) -> int:
    """A dimension counted from the front; IndexError where there is none such."""
    at = whole(name, "dim", dim)
    if not -ndim <= at < ndim:
        raise IndexError(f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions")
    return at % ndim


def normalize_dims(name: str, dim: Dims, ndim: int) -> tuple[int, ...]:
    """Dimensions counted from the front, in order; None means all."""
    if dim is None:
        return tuple(range(ndim))
    several = dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple([normalize_dim(name, d, ndim) for d in several])
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
    is_view = True

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
        before = (slice(None),) * self.dim
        ends = accumulate(self.sizes)
        return tuple([x[(*before, slice(end - size, end))] for size, end in zip(self.sizes, ends)])

    def backward(self, *gys: Tensor) -> Tensor:
        return cat(gys, self.dim)


_HOLE = object()  # where in an index an array goes; the arrays are inputs, so that a write into them is noticed


def _filled(index: tuple, arrays: Sequence[Array]) -> tuple:
    """The index with the arrays in its holes."""
    rest = iter(arrays)
    return tuple([next(rest) if i is _HOLE else i for i in index])


class GetItem(Function):
    def __init__(self, index: tuple) -> None:
        self.index = index
        plain = (int, slice, type(None), type(Ellipsis))
        self.is_view = all(isinstance(i, plain) and not isinstance(i, bool) for i in index)

    def forward(self, x: Array, *arrays: Array) -> Array:
        self.before = x.shape
        return x[_filled(self.index, arrays)]

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        return range(1, len(needs)), ()

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        arrays = self.saved
        return PutItem(self.index, self.before, self.is_view)(gy, *arrays), *[None] * len(arrays)


class PutItem(Function):
    """Zeros of a shape with the input added at an index: the adjoint of GetItem, as GetItem is its own."""

    def __init__(self, index: tuple, shape: tuple[int, ...], once: bool) -> None:
        self.index, self.shape, self.once = index, shape, once

    def forward(self, y: Array, *arrays: Array) -> Array:
        owner = of(y)
        x = owner.xp.zeros(self.shape, y.dtype)
        index = _filled(self.index, arrays)
        if self.once:  # slices name each element once, and assignment is faster than addition
            x[index] = y
        else:
            owner.scatter_add(x, index, y)
        return x

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        return range(1, len(needs)), ()

    def backward(self, gx: Tensor) -> tuple[Tensor | None, ...]:
        arrays = self.saved
        return GetItem(self.index)(gx, *arrays), *[None] * len(arrays)


# ---------------------------------------------------------------- the public functions


def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in row-major order under another shape; one −1 is worked out.  gx = gy reshaped back.

    ValueError where the number of elements differs.
    """
    target = _sizes("reshape", shape)
    size, free = x.numel(), target.count(-1)
    known = math.prod([s for s in target if s != -1])
    if min(target, default=0) < -1 or free > 1:
        raise ValueError(f"reshape: sizes must be ≥ 0, and at most one of them −1, got {target}")
    if free and not known:
        raise ValueError(f"reshape: the −1 of {target} could be any size, as {x.shape} has {size} elements")
    if size % known if free else size != known:
        raise ValueError(f"reshape: {x.shape} has {size} elements, which do not fill {target}")
    return Reshape(target)(x)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim … end_dim as one.  gx = gy in the old shape."""
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = (normalize_dim("flatten", d, x.ndim) for d in (start_dim, end_dim))
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return reshape(x, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def unflatten(x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Dimension `dim` as several of the given sizes: the inverse of flatten.  gx = gy in the old shape."""
    at = normalize_dim("unflatten", dim, x.ndim)
    return reshape(x, *x.shape[:at], *sizes, *x.shape[at + 1 :])


def permute(x: Tensor, *dims: Any) -> Tensor:
    """The dimensions in another order: y.shape[i] = x.shape[dims[i]].  gx = gy in the old order."""
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    normal = normalize_dims("permute", order, x.ndim)
    if len(normal) != x.ndim:
        raise ValueError(f"permute: {order} does not name the {x.ndim} dimensions of {x.shape} once each")
    return Permute(normal)(x)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged.  gx = gy with the same two exchanged."""
    order = list(range(x.ndim))
    a, b = normalize_dim("transpose", dim0, x.ndim), normalize_dim("transpose", dim1, x.ndim)
    order[a], order[b] = order[b], order[a]
    return Permute(tuple(order))(x)


def expand(x: Tensor, *shape: Any) -> Tensor:
    """Dimensions of size 1 repeated, and new ones in front, without a copy; −1 keeps a size.  gx = gy summed over them.

    ValueError where a size that is not 1 would have to change.
    """
    target = _sizes("expand", shape)
    new = len(target) - x.ndim
    if new < 0:
        raise ValueError(f"expand: {x.shape} has more dimensions than {target}")
    sizes = tuple(x.shape[i - new] if s == -1 and i >= new else s for i, s in enumerate(target))
    if any(s < 0 for s in sizes):
        raise ValueError(f"expand: sizes must be ≥ 0, or −1 for one that {x.shape} has, got {target}")
    if any(s not in (1, t) for s, t in zip(x.shape, sizes[new:])):
        raise ValueError(f"expand: {x.shape} does not expand to {target}; only sizes of 1 are repeated")
    return Expand(sizes)(x)


def squeeze(x: Tensor, dim: Dims = None) -> Tensor:
    """Without the dimensions of size 1 (all of them, or those of `dim` that are).  gx = gy in the old shape."""
    dims = normalize_dims("squeeze", dim, x.ndim)
    return reshape(x, tuple(s for i, s in enumerate(x.shape) if s != 1 or i not in dims))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a dimension of size 1 put in at `dim`.  gx = gy without it."""
    at = normalize_dim("unsqueeze", dim, x.ndim + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def flip(x: Tensor, *dims: Any) -> Tensor:
    """The order of elements reversed along `dims`, given as flip(x, 0, 1) or flip(x, (0, 1)).  gx = gy reversed."""
    named = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return Flip(normalize_dims("flip", named, x.ndim))(x)


def roll(x: Tensor, shifts: int | Sequence[int], dims: Dims = None) -> Tensor:
    """Elements shifted along `dims`, those that fall off coming in again.  gx = gy shifted back.

    Without `dims` the elements are shifted in row-major order.
    """
    if dims is None:
        return reshape(roll(flatten(x), shifts, 0), x.shape)
    shifts_ = _sizes("roll", (shifts,))
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
    """Tensors of one shape joined along a new dimension `dim`.  Each gets its slice of gy."""
    if not tensors:
        raise ValueError("stack: expected at least one tensor")
    if any(t.shape != tensors[0].shape for t in tensors):
        raise ValueError(f"stack: shapes differ: {', '.join(str(t.shape) for t in tensors)}")
    return cat([unsqueeze(t, dim) for t in tensors], dim)


def split(x: Tensor, size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of the given size (the last may be smaller), or of the given sizes, along `dim`.  gx joins their gy."""
    at = normalize_dim("split", dim, x.ndim)
    total = x.shape[at]
    if isinstance(size, (tuple, list)):
        sizes = list(_sizes("split", (size,)))
        if any(s < 0 for s in sizes) or sum(sizes) != total:
            raise ValueError(
                f"split: sizes {sizes} must be ≥ 0 and add up to {total}, the size of dim {dim} of {x.shape}"
            )
        return Split(sizes, at)(x)
    step = whole("split", "size", size)
    if step < 0 or (step == 0 and total):
        raise ValueError(f"split: size must be positive, got {step} for dim {dim} of {x.shape}")
    return Split([min(step, total - i) for i in range(0, total, step or 1)] or [0], at)(x)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` equal pieces along `dim`, the last one smaller where it does not divide.  gx joins their gy."""
    at, count = normalize_dim("chunk", dim, x.ndim), whole("chunk", "chunks", chunks)
    if count < 1:
        raise ValueError(f"chunk: chunks must be at least 1, got {count}")
    if not x.shape[at]:
        return split(x, [0] * count, at)
    return split(x, -(-x.shape[at] // count), at)


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] as NumPy has it: whole numbers, slices, None, …, arrays of whole numbers, masks, and their mixtures.

    gx is zero but for gy added at the index, once for each time an element was named.
    """
    items = [_plain_index(x, i) for i in (index if isinstance(index, tuple) else (index,))]
    arrays = [i for i in items if hasattr(i, "dtype")]
    holes = tuple([_HOLE if hasattr(i, "dtype") else i for i in items])
    if not arrays and not any(i is Ellipsis for i in items):
        holes = (*holes, Ellipsis)  # or NumPy would give a copy where an element is named, instead of a view
    return GetItem(holes)(x, *arrays)


def _plain_index(x: Tensor, item: Any) -> Any:
    """A tensor or an array as it is, a list as an array beside x, a NumPy scalar as a number."""
    if isinstance(item, (list, tuple)):
        item = x.backend.asarray(item)
    item = plain_number(item)
    if hasattr(item, "dtype") and item.dtype.kind not in "iub":
        raise IndexError(f"index: expected whole numbers or a mask, got an array of {item.dtype}")
    return item


class ValuesIndices(NamedTuple):
    """Extreme values along a dimension, and where they stand."""

    values: Tensor
    indices: Tensor
