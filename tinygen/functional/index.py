"""Picking elements by whole numbers or masks that are data, not part of the program (slices are in shape.py)."""

from __future__ import annotations

from typing import Any

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import where
from tinygen.functional.shape import getitem, normalize_dim


class Gather(Function):
    def __init__(self, dim: int, index: Array) -> None:
        self.dim, self.index = dim, index

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return of(x).xp.take_along_axis(x, self.index, self.dim)

    def backward(self, gy: Tensor) -> Tensor:
        return ScatterAdd(self.dim, self.index, self.before)(gy)


class ScatterAdd(Function):
    """Zeros with the input added where `index` says along `dim`: the adjoint of Gather."""

    def __init__(self, dim: int, index: Array, shape: tuple[int, ...]) -> None:
        self.dim, self.index, self.shape = dim, index, shape

    def forward(self, y: Array) -> Array:
        owner = of(y)
        xp = owner.xp
        x = xp.zeros(self.shape, y.dtype)
        places = list(xp.meshgrid(*(xp.arange(s) for s in y.shape), indexing="ij"))
        places[self.dim] = self.index
        owner.scatter_add(x, tuple(places), y)
        return x

    def backward(self, gx: Tensor) -> Tensor:
        return Gather(self.dim, self.index)(gx)


def _whole_numbers(name: str, index: Any) -> Array:
    array = index.data if isinstance(index, Tensor) else index
    if array.dtype.kind not in "iu":
        raise IndexError(f"{name}: index must hold whole numbers, got {array.dtype}")
    return array


def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i, …, j, …] = x[i, …, index[i, …, j, …], …] along `dim`.  gx adds gy up where it was taken from.

    index has x's number of dimensions; beside `dim` its sizes must equal x's.
    """
    at = normalize_dim("gather", dim, x.ndim)
    array = _whole_numbers("gather", index)
    if array.ndim != x.ndim or any(i != at and a != b for i, (a, b) in enumerate(zip(array.shape, x.shape))):
        raise ValueError(f"gather: index {array.shape} must agree with x {x.shape} in all but dim {dim}")
    return Gather(at, array)(x)


def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along `dim` that `index` (1-d) names, in its order.  gx adds each slice's gy up."""
    at = normalize_dim("index_select", dim, x.ndim)
    array = _whole_numbers("index_select", index)
    if array.ndim != 1:
        raise ValueError(f"index_select: index must have one dimension, got {array.shape}")
    return getitem(x, (slice(None),) * at + (array,))


def masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    """`value` where the mask holds, else x.  gx = gy where it does not, else 0."""
    return where(mask, value, x)
