"""Normalization layers and dropout."""

from __future__ import annotations

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.backend import current
from tinygen.nn.module import Buffer, Module, Parameter
from tinygen.random import Stream


class BatchNorm1d(Module):
    """Batch normalization of (n, c) or (n, c, length): see functional.batch_norm.

    Parameters weight γ = 1 and bias β = 0 (if affine); buffers running_mean = 0, running_var = 1 and the count of
    batches seen.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        xp = current().xp
        self.eps, self.momentum = eps, momentum
        self.weight = Parameter(xp.ones(num_features, "float32")) if affine else None
        self.bias = Parameter(xp.zeros(num_features, "float32")) if affine else None
        self.running_mean = Buffer(xp.zeros(num_features, "float32"))
        self.running_var = Buffer(xp.ones(num_features, "float32"))
        self.num_batches_tracked = Buffer(xp.zeros((), "int64"))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (2, 3):
            raise ValueError(f"BatchNorm1d: expected x of (n, c) or (n, c, length), got {x.shape}")
        if self.training:
            self.num_batches_tracked.data = (self.num_batches_tracked + 1).data
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        return f"{self.running_mean.shape[0]}, eps={self.eps}, momentum={self.momentum}"


class Dropout(Module):
    """In training, each element is 0 with probability p and else divided by 1 − p; see functional.dropout."""

    def __init__(self, p: float = 0.5, *, random: Stream) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p}")
        self.p, self.random = p, random

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training, self.random)

    def extra_repr(self) -> str:
        return f"p={self.p}"
