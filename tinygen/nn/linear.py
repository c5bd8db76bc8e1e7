"""Affine layers."""

from __future__ import annotations

from tinygen.autograd import Tensor
from tinygen.functional import linear
from tinygen.nn.init import kaiming_uniform
from tinygen.nn.module import Module, Parameter
from tinygen.random import Stream


class Linear(Module):
    """y = x Wᵀ + b, for x (…, in_features).

    weight (out_features, in_features) and bias (out_features) start uniform in ±1/√in_features.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, random: Stream) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear: features must be at least 1, got {in_features} and {out_features}")
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(kaiming_uniform((out_features, in_features), in_features, random))
        self.bias = Parameter(kaiming_uniform((out_features,), in_features, random)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
