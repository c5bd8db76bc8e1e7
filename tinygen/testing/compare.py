"""Two-sided comparison with a reference, which tells the ledger how far off it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.backend import array_types, of
from tinygen.testing.ledger import observe


def host(value: Any) -> np.ndarray:
    """A tensor, an array of any backend or a number, as a NumPy array."""
    if isinstance(value, Tensor):
        return value.numpy()
    return of(value).to_host(value) if type(value) in array_types else np.asarray(value)


def close(actual: Any, expected: Any, rtol: float = 1e-9, atol: float = 1e-12, what: str = "") -> None:
    """Assert |actual − expected| ≤ atol + rtol·|expected| in every element, with equal shapes, and NaN nowhere.

    Raises AssertionError that names the worst element. The largest error is reported to the ledger of equations.
    """
    a, e = host(actual), host(expected)
    label = f"{what}: " if what else ""
    assert a.shape == e.shape, f"{label}shape {a.shape}, expected {e.shape}"
    if not a.size:
        return
    same = a == e  # also equal infinities
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a.astype(np.float64) - e.astype(np.float64)))
        excess = error - (atol + rtol * np.abs(e))
    excess = np.where(same, -1.0, np.where(np.isnan(excess), np.inf, excess))
    worst = np.unravel_index(int(np.argmax(excess)), a.shape)
    assert excess[worst] <= 0, f"{label}at index {tuple(map(int, worst))} got {a[worst]!r}, expected {e[worst]!r}"
    observe(float(error.max()))
