"""Normalization layers and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.backend import current
from tinygen.nn.module import Buffer, Module, Parameter
from tinygen.random import Stream


def _ones(shape: Any) -> Parameter:
    return Parameter(current().xp.ones(shape, "float32"))


def _zeros(shape: Any) -> Parameter:
    return Parameter(current().xp.zeros(shape, "float32"))


class _Running(Module):
    """What batch and instance norm hold: weight γ = 1 and bias β = 0 (if affine); buffers running_mean = 0,
    running_var = 1 and the count of batches seen (if track_running_stats). `shapes` are the inputs' by number of
    dimensions."""

    shapes: dict[int, str]

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"{type(self).__name__}: num_features must be at least 1, got {num_features}")
        xp = current().xp
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = _ones(num_features) if affine else None
        self.bias = _zeros(num_features) if affine else None
        self.running_mean = Buffer(xp.zeros(num_features, "float32")) if track_running_stats else None
        self.running_var = Buffer(xp.ones(num_features, "float32")) if track_running_stats else None
        self.num_batches_tracked = Buffer(xp.zeros((), "int64")) if track_running_stats else None

    def _require_shape(self, x: Tensor) -> None:
        if x.ndim not in self.shapes:
            raise ValueError(f"{type(self).__name__}: expected x of {' or '.join(self.shapes.values())}, got {x.shape}")

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
        return f"{text}, affine={self.affine}, track_running_stats={self.track_running_stats}"


class _BatchNorm(_Running):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Tensor) -> Tensor:
        self._require_shape(x)
        momentum: Any = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.data = (self.num_batches_tracked + 1).data
            if self.momentum is None:
                momentum = 1 / self.num_batches_tracked.data.astype("float32")
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization of (n, c) or (n, c, length): see functional.batch_norm.

    Parameters weight γ = 1 and bias β = 0 (if affine); buffers running_mean = 0, running_var = 1 and the count of
    batches seen (if track_running_stats, else evaluation uses the batch's statistics as well).
    momentum: the weight of a new batch in the running statistics; None gives every batch so far the same weight.
    """

    shapes = {2: "(n, c)", 3: "(n, c, length)"}  # noqa: RUF012 - read only


class BatchNorm2d(_BatchNorm):
    """Batch normalization of (n, c, h, w): see BatchNorm1d and functional.batch_norm."""

    shapes = {4: "(n, c, h, w)"}  # noqa: RUF012


class _InstanceNorm(_Running):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Tensor) -> Tensor:
        self._require_shape(x)
        alone = x.ndim == min(self.shapes)  # one image without a batch
        y = F.instance_norm(
            F.unsqueeze(x, 0) if alone else x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, self.momentum or 0.0, self.eps,
        )  # fmt: skip
        return F.squeeze(y, 0) if alone else y


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of (n, c, length) or (c, length): see functional.instance_norm.

    Parameters weight γ = 1 and bias β = 0 only if affine; buffers as BatchNorm1d's only if track_running_stats, and
    then evaluation uses them.
    """

    shapes = {3: "(n, c, length)", 2: "(c, length)"}  # noqa: RUF012


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of (n, c, h, w) or (c, h, w): see InstanceNorm1d and functional.instance_norm."""

    shapes = {4: "(n, c, h, w)", 3: "(c, h, w)"}  # noqa: RUF012


class LayerNorm(Module):
    """Layer normalization of (…, *normalized_shape): see functional.layer_norm.

    Parameters weight γ = 1 and bias β = 0, both of normalized_shape (if elementwise_affine; bias=False omits β).
    """

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        if not shape or min(shape) < 1:
            raise ValueError(f"LayerNorm: normalized_shape must hold sizes of at least 1, got {normalized_shape}")
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = _ones(shape) if elementwise_affine else None
        self.bias = _zeros(shape) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Group normalization of (n, num_channels, …): see functional.group_norm.

    Parameters weight γ = 1 and bias β = 0, both (num_channels,) (if affine).
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups must divide num_channels, got {num_groups} and {num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = _ones(num_channels) if affine else None
        self.bias = _zeros(num_channels) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"GroupNorm: expected x of (n, {self.num_channels}, …), got {x.shape}")
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


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
