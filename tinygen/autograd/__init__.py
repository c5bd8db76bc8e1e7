"""The tape: tensors, operations as nodes, and the loop that walks back. See engine.py for the whole of it."""

from tinygen.autograd.check import gradcheck
from tinygen.autograd.engine import grad
from tinygen.autograd.function import Function
from tinygen.autograd.mode import detect_anomaly, enable_grad, is_grad_enabled, no_grad
from tinygen.autograd.tensor import Tensor, tensor

__all__ = [
    "Function",
    "Tensor",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "is_grad_enabled",
    "no_grad",
    "tensor",
]
