"""Tensors made from nothing, on the backend in use; float32 unless told otherwise."""

from __future__ import annotations

from typing import Any

from tinygen.autograd.tensor import Tensor
from tinygen.backend import current

Shape = int | tuple[int, ...]


def zeros(shape: Shape, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """All 0."""
    return Tensor(current().xp.zeros(shape, dtype), requires_grad)


def ones(shape: Shape, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """All 1."""
    return Tensor(current().xp.ones(shape, dtype), requires_grad)


def full(shape: Shape, value: float, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """All `value`."""
    return Tensor(current().xp.full(shape, value, dtype), requires_grad)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Tensor:
    """start, start + step, … up to but without stop (one argument: from 0 to it); whole numbers stay int64."""
    first, last = (0, start) if stop is None else (start, stop)
    whole = all(isinstance(v, int) for v in (first, last, step))
    return Tensor(current().xp.arange(first, last, step, dtype or ("int64" if whole else "float32")))


def zeros_like(x: Tensor) -> Tensor:
    """Zeros of x's shape and dtype, on its backend."""
    return Tensor(x.backend.xp.zeros(x.shape, x.dtype))


def ones_like(x: Tensor) -> Tensor:
    """Ones of x's shape and dtype, on its backend."""
    return Tensor(x.backend.xp.ones(x.shape, x.dtype))
