"""The declarative row: one line tells an operation, its reference and its domain; `check` proves all the rest.

    Row("tanh", F.tanh, np.tanh, one())

For drawn inputs on the current backend: the value against the reference in float64 and float32, first and second
derivatives against finite differences, the float32 gradients against the float64 ones, float32 kept in value and
gradient, permuted memory and broadcasting (where the strategy draws them), and inputs left as they were.
`check_empty` gives the operation no elements: where the reference has a result for that, the operation has the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given
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
    rtol32: how far a float32 result may be off, as a part of the largest element.
    rtol: how far a float64 result may be off; more than 1e-9 for a reference that is itself approximate.
    empty: how many of the inputs, from the first one, `check_empty` empties; None for all, 0 for an operation that
        refuses what the reference computes.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: st.SearchStrategy
    order: int = 2
    rtol32: float = 2e-5
    empty: int | None = None
    rtol: float = 1e-9


def tensors(arrays: Sequence[np.ndarray], dtype: str = "float64", requires_grad: bool = True) -> list[Tensor]:
    """Arrays on the current backend in the memory layout that they have."""
    owner = current()
    return [Tensor(owner.from_host(a.astype(dtype, order="K")), requires_grad) for a in arrays]


FLOOR32 = 1e-6  # sums of numbers around 1 that cancel are off by some units of 1e-7, whatever is left of them


def check(row: Row, arrays: tuple[np.ndarray, ...]) -> None:
    """All that a row promises, for these inputs."""
    arrays = tuple(a.astype(np.float32, order="K").astype(np.float64, order="K") for a in arrays)  # exact in either
    expected = [np.asarray(e) for e in _listed(row.reference(*arrays))]
    gradients = []
    for dtype, rtol in (("float64", row.rtol), ("float32", max(row.rtol32, row.rtol))):
        inputs = tensors(arrays, dtype, requires_grad=row.order > 0)
        before = [x.numpy() for x in inputs]
        results = _listed(row.function(*inputs))
        assert len(results) == len(expected), f"{row.name}: {len(results)} results, expected {len(expected)}"
        for y, e in zip(results, expected):
            close(y, e, rtol, _floor(e, dtype, rtol), f"{row.name} in {dtype}")
            assert row.order == 0 or y.dtype == dtype, f"{row.name}: {dtype} became {y.dtype}"
        gradients.append(_gradients(row, inputs, results, dtype))
        for x, b in zip(inputs, before):
            assert np.array_equal(x.numpy(), b), f"{row.name}: an input was changed"
    for position, (g64, g32) in enumerate(zip(*gradients)):
        if g64 is not None:
            floor = _floor(g64, "float32", row.rtol32)
            close(g32, g64, row.rtol32, floor, f"{row.name}: float32 gradient of input {position}")
    if row.order:
        gradcheck(row.function, tensors(arrays), order=row.order, name=row.name)


def check_empty(row: Row, arrays: tuple[np.ndarray, ...]) -> bool:
    """The row with the inputs' first dimension emptied; False where the reference has no result for that."""
    count = len(arrays) if row.empty is None else row.empty
    if not count or not all(a.ndim for a in arrays[:count]):
        return False
    nothing = (*(a[:0] for a in arrays[:count]), *arrays[count:])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of the mean of nothing
            expected = [np.asarray(e) for e in _listed(row.reference(*nothing))]
    except (ValueError, IndexError):
        return False
    for dtype in ("float64", "float32"):
        inputs = tensors(nothing, dtype, requires_grad=row.order > 0)
        results = _listed(row.function(*inputs))
        for y, e in zip(results, expected):
            assert np.array_equal(y.numpy(), e, equal_nan=e.dtype.kind == "f"), f"{row.name} of nothing: {y}, not {e}"
            assert row.order == 0 or y.dtype == dtype, f"{row.name} of nothing: {dtype} became {y.dtype}"
        _gradients(row, inputs, results, dtype)
    return True


def row_test(rows: Sequence[Row]) -> Callable[..., None]:
    """The test of a theme's rows, one for each:  test_operation = row_test(ROWS)."""
    import pytest

    @pytest.mark.parametrize("row", rows, ids=lambda row: row.name)
    @given(data=st.data())
    def test(row: Row, data: st.DataObject) -> None:
        arrays = data.draw(row.inputs)
        check(row, arrays)
        check_empty(row, arrays)

    return test


def _floor(expected: np.ndarray, dtype: str, rtol: float) -> float:
    """What an element may be off whatever its own size: a part of the largest one."""
    return 1e-10 if dtype == "float64" else FLOOR32 + rtol * float(np.max(np.abs(expected), initial=0.0))


def _gradients(row: Row, inputs: list[Tensor], results: list[Tensor], dtype: str) -> list[np.ndarray | None]:
    for y in results:
        if y.requires_grad:
            cotangent = np.cos(np.arange(y.numel())).reshape(y.shape)  # with equal ones, softmax's gradient would be 0
            y.backward(tensors([cotangent], dtype, requires_grad=False)[0], retain_graph=True)
    for x in inputs:
        if x.grad is not None:
            assert x.grad.dtype == dtype, f"{row.name}: the gradient of a {dtype} input is {x.grad.dtype}"
            assert x.grad.shape == x.shape, f"{row.name}: the gradient of a {x.shape} input is {x.grad.shape}"
    return [None if x.grad is None else x.grad.numpy() for x in inputs]


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]
