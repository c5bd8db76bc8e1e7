"""tinygen: read the algorithm in code.

    import tinygen
    x = tinygen.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                   # tensor([2., 4.])

Names are imported when first used, so that `tinygen list` needs no array library.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenBLAS's threads wait for the next product in a loop, and take a core from our own threads meanwhile: 2²⁰ clock
# ticks of it instead of 2²⁶ are enough between the products of a network. Read where NumPy is imported after this.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

_FROM = {
    "tinygen.autograd": ("Tensor", "tensor", "grad", "no_grad", "enable_grad", "detect_anomaly"),
    "tinygen.functional": ("cat", "stack", "where", "maximum", "minimum", "matmul", "einsum"),
    "tinygen.create": ("zeros", "ones", "full", "arange", "zeros_like", "ones_like"),
}
_HOME = {name: module for module, names in _FROM.items() for name in names}
_MODULES = (
    "autograd",
    "backend",
    "data",
    "distributions",
    "errors",
    "functional",
    "host",
    "metrics",
    "nn",
    "optim",
    "plot",
    "random",
    "testing",
)

if TYPE_CHECKING:
    from tinygen.autograd import Tensor, detect_anomaly, enable_grad, grad, no_grad, tensor  # type: ignore[no-redef]
    from tinygen.create import arange, full, ones, ones_like, zeros, zeros_like
    from tinygen.functional import cat, einsum, matmul, maximum, minimum, stack, where

__all__ = [
    "Tensor",
    "arange",
    "cat",
    "detect_anomaly",
    "einsum",
    "enable_grad",
    "full",
    "grad",
    "matmul",
    "maximum",
    "minimum",
    "no_grad",
    "ones",
    "ones_like",
    "stack",
    "tensor",
    "where",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _HOME:
        importlib.import_module("tinygen.functional")  # gives Tensor its operators
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"tinygen.{name}")
    raise AttributeError(f"module tinygen has no attribute {name}")
