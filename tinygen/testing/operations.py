"""The declarative row: one line tells an operation, its reference and its domain; `check` proves all the rest.

    Row("tanh", F.tanh, np.tanh, one())

For drawn inputs on the current backend: the value against the reference in float64 and float32, first and second
derivatives against finite differences, float32 kept in value and gradient, permuted memory and broadcasting (where the
strategy draws them), and inputs left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygen.autograd import Tensor, gradcheck
from tinygen.backend import current
from tinygen.testing.compare import close


@dataclass(frozen=True)
class Row:
    """An operation under test.

    function: takes tensors, returns a tensor or a tuple of them.
    reference: the same on NumPy arrays, by other means.
    inputs: strategy of the tuple of float64 arrays.
    order: up to which derivative it is checked; 0 for an operation without one.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: st.SearchStrategy
    order: int = 2
    rtol32: float = 2e-5


def tensors(arrays: Sequence[np.ndarray], dtype: str = "float64", requires_grad: bool = True) -> list[Tensor]:
    """Arrays on the current backend in the memory layout that they have."""
    owner = current()
    return [Tensor(owner.from_host(a.astype(dtype, order="K")), requires_grad) for a in arrays]


def check(row: Row, arrays: tuple[np.ndarray, ...]) -> None:
    """All that a row promises, for these inputs."""
    expected = _listed(row.reference(*arrays))
    for dtype, rtol in (("float64", 1e-9), ("float32", row.rtol32)):
        inputs = tensors(arrays, dtype, requires_grad=row.order > 0)
        before = [x.numpy() for x in inputs]
        results = _listed(row.function(*inputs))
        assert len(results) == len(expected), f"{row.name}: {len(results)} results, expected {len(expected)}"
        for y, e in zip(results, expected):
            scale = float(np.max(np.abs(e), initial=1.0)) if dtype == "float32" else 1.0
            close(y, np.asarray(e), rtol, 1e-10 if dtype == "float64" else rtol * scale, f"{row.name} in {dtype}")
            assert row.order == 0 or y.dtype == dtype, f"{row.name}: {dtype} became {y.dtype}"
        _check_backward(row, inputs, results, dtype)
        for x, b in zip(inputs, before):
            assert np.array_equal(x.numpy(), b), f"{row.name}: an input was changed"
    if row.order:
        gradcheck(row.function, tensors(arrays), order=row.order, name=row.name)


def _check_backward(row: Row, inputs: list[Tensor], results: list[Tensor], dtype: str) -> None:
    for y in results:
        if y.requires_grad:
            y.backward(Tensor(y.backend.xp.ones(y.shape, y.dtype)), retain_graph=True)
    for x in inputs:
        if x.grad is not None:
            assert x.grad.dtype == dtype, f"{row.name}: the gradient of a {dtype} input is {x.grad.dtype}"
            assert x.grad.shape == x.shape, f"{row.name}: the gradient of a {x.shape} input is {x.grad.shape}"


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]
