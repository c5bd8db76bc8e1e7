"""How much of a step are products: matrix products and convolutions, in seconds and in floating-point operations."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

from tinygen.backend import NUMPY
from tinygen.functional.linear import Linear, MatMul

# for each product, where it is found: the multiplications of a call, told from its result and its arguments
MULTIPLICATIONS: dict[tuple[Any, str], Callable[..., int]] = {
    (MatMul, "forward"): lambda y, node, a, b: y.size * a.shape[-2 if node.turn_a else -1],
    (Linear, "forward"): lambda y, _, x, w, *b: y.size * w.shape[1],
    (NUMPY, "convolve"): lambda y, x, w, *_: y.size * math.prod(w.shape[1:]),
    (NUMPY, "convolve_input"): lambda x, y, w, *_: y.size * math.prod(w.shape[1:]),
    (NUMPY, "convolve_weight"): lambda w, x, y, *_: y.size * math.prod(w.shape[1:]),
}


class Products:
    """Inside, products are counted and timed."""

    def __enter__(self) -> Products:
        self.seconds, self.operations = 0.0, 0
        self._before = [getattr(owner, name) for owner, name in MULTIPLICATIONS]
        for ((owner, name), count), method in zip(MULTIPLICATIONS.items(), self._before):
            setattr(owner, name, self._counted(method, count))
        return self

    def __exit__(self, *_: object) -> None:
        for (owner, name), method in zip(MULTIPLICATIONS, self._before):
            setattr(owner, name, method)

    def _counted(self, method: Callable, count: Callable[..., int]) -> Callable:
        @functools.wraps(method)
        def counted(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = method(*arguments)
            self.seconds += time.perf_counter() - start
            self.operations += 2 * count(result, *arguments)
            return result

        return counted
