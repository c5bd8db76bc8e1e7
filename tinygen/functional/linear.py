"""Matrix products. All of them end in the library's 2-D (or stacked 2-D) product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array
from tinygen.functional.reduction import SumTo
from tinygen.functional.shape import reshape, unsqueeze


class Bilinear(Function):
    """Linear in each of its first two inputs, so that the gradient of one needs the other and nothing else."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]  # of the two
    kept: Sequence[int]

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        self.kept = (0, 1) if needs[0] and needs[1] else (1,) if needs[0] else (0,) if needs[1] else ()
        return self.kept, ()

    def factors(self) -> list[Any]:
        """The two inputs; one that no gradient needs was not kept, and is None."""
        saved = self.saved
        return saved if len(saved) == 2 else [saved[0] if i in self.kept else None for i in (0, 1)]


def _fitted(a: Array, b: Array) -> tuple[Array, Array]:
    """Whole numbers take the dtype of the real ones beside them."""
    if a.dtype is b.dtype or (a.dtype.kind == "f") == (b.dtype.kind == "f"):
        return a, b
    return (a, b.astype(a.dtype)) if a.dtype.kind == "f" else (a.astype(b.dtype), b)


class MatMul(Bilinear):
    """Stacks of matrices, which broadcast: y = a b, or with one or both of them transposed.

    The gradients are products of the same kind, so that no transpose is a step of its own:
        y = a b:  ga = gy bᵀ, gb = aᵀ gy       y = a bᵀ:   ga = gy b, gb = gyᵀ a
        y = aᵀ b: ga = b gyᵀ, gb = a gy        y = aᵀ bᵀ:  ga = bᵀ gyᵀ, gb = gyᵀ aᵀ
    """

    def __init__(self, turn_a: bool = False, turn_b: bool = False) -> None:
        self.turn_a, self.turn_b = turn_a, turn_b

    def forward(self, a: Array, b: Array) -> Array:
        a, b = _fitted(a, b)
        # (…, n, m) = (…, n, k) @ (…, k, m)
        return (a.swapaxes(-1, -2) if self.turn_a else a) @ (b.swapaxes(-1, -2) if self.turn_b else b)

    def backward(self, gy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (a, b), ga, gb = self.factors(), None, None
        if self.needs[0]:
            ga = MatMul(self.turn_b, True)(b, gy) if self.turn_a else MatMul(False, not self.turn_b)(gy, b)
        if self.needs[1]:
            gb = MatMul(True, self.turn_a)(gy, a) if self.turn_b else MatMul(not self.turn_a, False)(a, gy)
        return ga, gb


class Linear(Bilinear):
    """y = x wᵀ + b for x (…, i), w (o, i), b (o): one product and one addition in place."""

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        self.shapes = x.shape, w.shape
        x, w = _fitted(x, w)
        y = (x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])) @ w.T  # (n, o) = (n, i) @ (i, o)
        if b is not None and b.dtype == y.dtype:
            y += b
        elif b is not None:
            y = y + b
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], w.shape[0])

    def backward(self, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, w = self.factors()
        shape, (outputs, inputs) = self.shapes
        if len(shape) != 2:
            rows = math.prod(shape[:-1])
            gy, x = reshape(gy, rows, outputs), reshape(x, rows, inputs) if x is not None else None  # (n, o), (n, i)
        gx = MatMul()(gy, w) if self.needs[0] else None  # (n, i) = (n, o) @ (o, i)
        gw = MatMul(True)(gy, x) if self.needs[1] else None  # (o, i) = (o, n) @ (n, i)
        if gx is not None and len(shape) != 2:
            gx = reshape(gx, shape)
        if len(self.needs) == 2:
            return gx, gw
        return gx, gw, SumTo((outputs,))(gy) if self.needs[2] else None


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """y = a b.  ga = gy bᵀ, gb = aᵀ gy.

    Shapes as in NumPy: vectors are rows on the left and columns on the right; stacks of matrices broadcast.
    """
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: both need at least one dimension, got {a.shape} and {b.shape}")
    rows, columns = a.ndim == 1, b.ndim == 1
    inner = a.shape[-1], b.shape[-1 if columns else -2]
    if inner[0] != inner[1]:
        raise ValueError(f"matmul: inner sizes differ, {inner[0]} and {inner[1]}: {a.shape} @ {b.shape}")
    if rows or columns:
        y = MatMul()(unsqueeze(a, 0) if rows else a, unsqueeze(b, 1) if columns else b)
        kept = (*y.shape[: y.ndim - 2], *y.shape[y.ndim - 2 + rows : y.ndim - columns])
        return reshape(y, kept)
    return MatMul()(a, b)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x wᵀ + b.  gx = gy w, gw = gyᵀ x, gb = Σ gy.

    x (…, i), weight (o, i), bias (o) or None; y (…, o).
    """
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            f"linear: weight expects {weight.shape[-1]} input features, x has {x.shape[-1] if x.ndim else 'none'}: "
            f"x {x.shape}, weight {weight.shape}"
        )
    if bias is None:
        return Linear()(x, weight)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias must be ({weight.shape[0]},) as weight {weight.shape} asks, got {bias.shape}")
    return Linear()(x, weight, bias)
