"""The kit for tests: comparisons that feed the ledger of equations, strategies, the declarative row of an operation,
gradient checks, the checks of plugins, and the strict backend that stands in for a GPU. Rows and strategies need
hypothesis (`pip install tinygen[test]`) and are imported when first used, so that the strict backend does without."""

import importlib
from typing import TYPE_CHECKING, Any

from tinygen.autograd.check import GradientError, gradcheck
from tinygen.testing.compare import close, host

if TYPE_CHECKING:
    from tinygen.testing.assertions import assert_gradients, assert_matches
    from tinygen.testing.conformance import conformance_tests
    from tinygen.testing.operations import Row, check, row_test, tensors

__all__ = [
    "GradientError",
    "Row",
    "assert_gradients",
    "assert_matches",
    "check",
    "close",
    "conformance_tests",
    "gradcheck",
    "host",
    "row_test",
    "tensors",
]
_LATE = {
    "assertions": ("assert_gradients", "assert_matches"),
    "conformance": ("conformance_tests",),
    "operations": ("Row", "check", "row_test", "tensors"),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(f"tinygen.testing.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
