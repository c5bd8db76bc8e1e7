"""Hypothesis strategies for arrays as operations meet them: float64, within bounds, in any memory layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@st.composite
def in_any_layout(draw: Callable, arrays: st.SearchStrategy[np.ndarray]) -> np.ndarray:
    """The drawn array with its axes in any order in memory, as a transpose or a channels-last image has them."""
    values = draw(arrays)
    order = draw(st.permutations(range(values.ndim)))
    return values.transpose(order).copy(order="C").transpose(np.argsort(order))


def dtypes() -> st.SearchStrategy[str]:
    """The dtypes of real numbers that operations keep."""
    return st.sampled_from(["float32", "float64"])


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


@dataclass(frozen=True)
class Windows:
    """Where a kernel goes over an image; each is (h, w)."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def output(self) -> tuple[int, ...]:
        """How many places there are, by counting those where the kernel fits and not by the formula."""
        return tuple(
            sum(1 for start in range(0, n + 2 * p, s) if start + d * (k - 1) < n + 2 * p)
            for n, k, s, p, d in zip(self.size, self.kernel, self.stride, self.padding, self.dilation)
        )


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    """(h, w) with both in low … high."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def geometries(
    max_size: int = 7, max_kernel: int = 4, max_stride: int = 3, max_padding: int = 3, max_dilation: int = 2
) -> st.SearchStrategy[Windows]:
    """Sizes of image and kernel, strides, paddings and dilations of convolutions, with at least one place."""
    sides = pairs(1, max_size), pairs(1, max_kernel), pairs(1, max_stride)
    return st.builds(Windows, *sides, pairs(0, max_padding), pairs(1, max_dilation)).filter(lambda w: min(w.output) > 0)
