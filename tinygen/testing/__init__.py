"""The kit for tests: comparisons that feed the ledger of equations, strategies, the declarative row of an operation,
gradient checks, and the strict backend that stands in for a GPU. Needs hypothesis (`pip install tinygen[test]`)."""

from tinygen.autograd.check import GradientError, gradcheck
from tinygen.testing.compare import close, host
from tinygen.testing.operations import Row, check, tensors

__all__ = ["GradientError", "Row", "check", "close", "gradcheck", "host", "tensors"]
