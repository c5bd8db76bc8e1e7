"""Tensors made from nothing, on the backend in use; float32 unless told otherwise."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from tinygen.autograd.tensor import Tensor
from tinygen.backend import current


def zeros(*size: Any, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """All 0; zeros(2, 3) and zeros((2, 3)) are the same."""
    return Tensor(current().xp.zeros(_shape(size), dtype), requires_grad)


def ones(*size: Any, dtype: Any = "float32", requires_grad: bool = False) -> Tensor:
    """All 1; ones(2, 3) and ones((2, 3)) are the same."""
    return Tensor(current().xp.ones(_shape(size), dtype), requires_grad)


def full(size: Any, fill_value: float, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """All `fill_value`: float32 for a real number, int64 for a whole one, bool for a truth value."""
    return Tensor(current().xp.full(_shape((size,)), fill_value, dtype or _dtype(fill_value)), requires_grad)


def arange(
    start: float, end: float | None = None, step: float = 1, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, … up to but without end (one argument: from 0 to it); whole numbers give int64."""
    first, last = (0, start) if end is None else (start, end)
    whole = all(isinstance(v, Integral) for v in (first, last, step))
    return Tensor(current().xp.arange(first, last, step, dtype or ("int64" if whole else "float32")), requires_grad)


def zeros_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape and dtype, on its backend."""
    return Tensor(x.backend.xp.zeros(x.shape, dtype or x.dtype), requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape and dtype, on its backend."""
    return Tensor(x.backend.xp.ones(x.shape, dtype or x.dtype), requires_grad)


def _shape(size: tuple) -> tuple:
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size


def _dtype(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "int64" if isinstance(value, Integral) else "float32"
