"""The kit for tests: comparisons that feed the ledger of equations, strategies, the declarative row of an operation,
gradient checks, and the strict backend that stands in for a GPU. Rows and strategies need hypothesis
(`pip install tinygen[test]`) and are imported when first used, so that the strict backend does without."""

from typing import TYPE_CHECKING, Any

from tinygen.autograd.check import GradientError, gradcheck
from tinygen.testing.compare import close, host

if TYPE_CHECKING:
    from tinygen.testing.operations import Row, check, tensors

__all__ = ["GradientError", "Row", "check", "close", "gradcheck", "host", "tensors"]


def __getattr__(name: str) -> Any:
    if name in ("Row", "check", "tensors"):
        from tinygen.testing import operations

        return getattr(operations, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
