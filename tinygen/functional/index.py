"""Picking elements by whole numbers or masks that are data, not part of the program (slices are in shape.py)."""

from __future__ import annotations

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import where
from tinygen.functional.shape import getitem, normalize_dim


class Gather(Function):
    saves_inputs = (1,)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, x: Array, index: Array) -> Array:
        self.before = x.shape
        return of(x).xp.take_along_axis(x, index, self.dim)

    def backward(self, gy: Tensor) -> tuple[Tensor, None]:
        (index,) = self.saved
        return ScatterAdd(self.dim, self.before)(gy, index), None


class ScatterAdd(Function):
    """Zeros with the input added where `index` says along `dim`: the adjoint of Gather."""

    saves_inputs = (1,)

    def __init__(self, dim: int, shape: tuple[int, ...]) -> None:
        self.dim, self.shape = dim, shape

    def forward(self, y: Array, index: Array) -> Array:
        owner = of(y)
        xp = owner.xp
        x = xp.zeros(self.shape, y.dtype)
        if index.shape[self.dim] == 1:  # each element is named once at most
            xp.put_along_axis(x, index, y, self.dim)
            return x
        places = list(xp.meshgrid(*(xp.arange(s) for s in y.shape), indexing="ij"))
        places[self.dim] = index
        owner.scatter_add(x, tuple(places), y)
        return x

    def backward(self, gx: Tensor) -> tuple[Tensor, None]:
        (index,) = self.saved
        return Gather(self.dim)(gx, index), None


def expect_indices(name: str, index: Tensor, size: int) -> None:
    """IndexError unless `index` holds whole numbers in [0, size), on a device when it is asked next."""
    if index.dtype.kind not in "iu":
        raise IndexError(f"{name}: index must hold whole numbers, got {index.dtype}")
    i = index.data

    def error() -> IndexError:
        numbers = index.numpy()
        wrong = numbers[(numbers < 0) | (numbers >= size)]
        return IndexError(f"{name}: indices must be in 0 … {size - 1}, got {int(wrong[0])}")

    index.backend.require(((i >= 0) & (i < size)).all(), error)


def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, …, j, …] = x[i, …, index[i, …, j, …], …] along `dim`.  gx adds gy up where it was taken from.

    index has x's number of dimensions; beside `dim` its sizes must equal x's.
    """
    at = normalize_dim("gather", dim, x.ndim)
    expect_indices("gather", index, x.shape[at])
    if index.ndim != x.ndim or any(i != at and a != b for i, (a, b) in enumerate(zip(index.shape, x.shape))):
        raise ValueError(f"gather: index {index.shape} must agree with x {x.shape} in all but dim {dim}")
    return Gather(at)(x, index)


def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along `dim` that `index` (1-d) names, in its order.  gx adds each slice's gy up."""
    at = normalize_dim("index_select", dim, x.ndim)
    expect_indices("index_select", index, x.shape[at])
    if index.ndim != 1:
        raise ValueError(f"index_select: index must have one dimension, got {index.shape}")
    return getitem(x, (slice(None),) * at + (index,))


def masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """`value` where the mask holds, else x.  gx = gy where it does not, else 0."""
    return where(mask, value, x)
