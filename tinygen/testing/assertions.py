"""What a test says in one line: that a function's derivatives are right, and that it is what a reference says it is.

assert_gradients(generator_loss, logits)
assert_matches(F.softplus, lambda x: np.logaddexp(0, x), one())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st

from tinygen.autograd import Tensor, gradcheck
from tinygen.testing.operations import Row, check, check_empty, tensors


def assert_gradients(
    function: Callable[..., Any], *inputs: Any, order: int = 2, rtol: float = 1e-5, atol: float = 1e-7
) -> None:
    """Assert that the derivatives of `function` up to `order` are those that finite differences measure.

    inputs: tensors, taken as they are; or arrays, lists and numbers, of which the real ones become float64 tensors that
    require a gradient, on the current backend. Inputs that require none are held fixed.
    rtol, atol: as those of `gradcheck`, which does the work.
    Raises GradientError, an AssertionError that names order, input (among those that are not fixed) and index.
    """
    name = getattr(function, "__name__", "function")
    gradcheck(function, [_leaf(x) for x in inputs], order=order, rtol=rtol, atol=atol, name=name)


def _leaf(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    real = array.dtype.kind == "f"
    return tensors([array], "float64" if real else array.dtype.name, requires_grad=real)[0]


def assert_matches(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: st.SearchStrategy,
    *,
    rtol: float = 1e-9,
    rtol32: float = 2e-5,
    order: int = 2,
    empty: int | None = 0,
) -> None:
    """Assert that `function` on tensors is `reference` on NumPy arrays, with all that a Row promises, for any inputs.

    inputs: strategy of an array, or of the tuple of arrays, in float64.
    rtol, rtol32, order, empty: those of the Row; more than 1e-9 for a reference that is approximate, as a quadrature.
    Raises AssertionError for the simplest inputs found that differ.
    """
    row = Row(getattr(function, "__name__", "function"), function, reference, inputs, order, rtol32, empty, rtol)

    @hypothesis.settings(deadline=None)
    @hypothesis.given(inputs)
    def holds(drawn: Any) -> None:
        arrays = drawn if isinstance(drawn, tuple) else (drawn,)
        check(row, arrays)
        check_empty(row, arrays)

    holds()
