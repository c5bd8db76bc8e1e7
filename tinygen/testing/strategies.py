"""Hypothesis strategies for arrays as operations meet them: float64, within bounds, in any memory layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Arrays = st.SearchStrategy[tuple[np.ndarray, ...]]


@st.composite
def reals(
    draw: Callable, shape: tuple[int, ...] | st.SearchStrategy, low: float = -3.0, high: float = 3.0,
    layouts: bool = True,
) -> np.ndarray:  # fmt: skip
    """A float64 array with entries in [low, high], in general position (drawn by a seeded generator, not digit by
    digit: a derivative is not more interesting at round numbers), and with its axes permuted in memory."""
    sizes = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.permutations(range(len(sizes)))) if layouts else range(len(sizes))
    values = random.uniform(low, high, [sizes[axis] for axis in order])
    return values.transpose(np.argsort(order))


def shapes(min_dims: int = 0, max_dims: int = 3, max_side: int = 4, min_side: int = 1) -> st.SearchStrategy:
    """Shapes of small arrays."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


@st.composite
def one(draw: Callable, low: float = -3.0, high: float = 3.0, min_dims: int = 0, max_dims: int = 3) -> tuple:
    """A single array."""
    return (draw(reals(shapes(min_dims, max_dims), low, high)),)


@st.composite
def broadcastable(draw: Callable, *bounds: tuple[float, float]) -> tuple:
    """As many arrays as there are bounds, whose shapes broadcast with each other."""
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(bounds), max_dims=3, max_side=3))
    return tuple(draw(reals(shape, *bound)) for shape, bound in zip(found.input_shapes, bounds))


@st.composite
def of_shapes(draw: Callable, *sizes: tuple[int, ...], low: float = -3.0, high: float = 3.0) -> tuple:
    """Arrays of fixed shapes."""
    return tuple(draw(reals(shape, low, high)) for shape in sizes)


def seeds() -> Any:
    """Seeds for random streams."""
    return st.integers(0, 2**31 - 1)
