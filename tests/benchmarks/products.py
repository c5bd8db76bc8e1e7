"""How much of a step are products: matrix products and convolutions, in seconds and in floating-point operations."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

from tinygen.backend import NUMPY

# for each method of the backend: the multiplications of a call, told from its arguments and its result
MULTIPLICATIONS: dict[str, Callable[..., int]] = {
    "matmul": lambda y, a, b: y.size * a.shape[-1],
    "convolve": lambda y, x, w, *_: y.size * math.prod(w.shape[1:]),
    "convolve_input": lambda x, y, w, *_: y.size * math.prod(w.shape[1:]),
    "convolve_weight": lambda w, x, y, *_: y.size * math.prod(w.shape[1:]),
}


class Products:
    """Inside, the NumPy backend's products are counted and timed."""

    def __enter__(self) -> Products:
        self.seconds, self.operations = 0.0, 0
        for name, count in MULTIPLICATIONS.items():
            setattr(NUMPY, name, self._counted(getattr(NUMPY, name), count))
        return self

    def __exit__(self, *_: object) -> None:
        for name in MULTIPLICATIONS:
            delattr(NUMPY, name)

    def _counted(self, method: Callable, count: Callable[..., int]) -> Callable:
        @functools.wraps(method)
        def counted(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = method(*arguments)
            self.seconds += time.perf_counter() - start
            self.operations += 2 * count(result, *arguments)
            return result

        return counted
