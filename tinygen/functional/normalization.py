"""Normalization by the mean and variance of a set of elements, and dropout.

Why a double backward is tested here with such care: the mean and variance are functions of x. Holding them constant in
the gradient gives the right first derivative by a closed formula and a silently wrong second one.
"""

from __future__ import annotations

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import sqrt
from tinygen.functional.shape import reshape
from tinygen.random import Stream


class Standardize(Function):
    """x̂ = (x − μ)/√(σ² + ε) over `dims`, together with s = 1/√(σ² + ε).

    Both results are saved and are part of the graph, so that the gradient below, written in x̂ and s, can itself be
    differentiated with nothing held constant:
        gx = s (g − mean(g) − x̂ mean(g x̂)) − gs s² x̂ / N,     as ds/dx = −s² x̂ / N.
    """

    saves_outputs = (0, 1)
    fills_zeros = False
    mean: Array  # μ and σ² as they were taken, for running statistics: 1/s² − ε would lose the digits of a small σ²
    variance: Array

    def __init__(self, dims: tuple[int, ...], eps: float) -> None:
        self.dims, self.eps = dims, eps

    def forward(self, x: Array) -> tuple[Array, Array]:
        self.mean = x.mean(axis=self.dims, keepdims=True)
        centred = x - self.mean
        self.variance = (centred * centred).mean(axis=self.dims, keepdims=True)
        s = 1 / of(x).xp.sqrt(self.variance + self.eps)
        centred *= s
        return centred, s

    def backward(self, g: Tensor | None, gs: Tensor | None) -> Tensor | None:
        xhat, s = self.saved
        count = xhat.numel() // s.numel()
        gx = None
        if g is not None:
            along = (g * xhat).mean(self.dims, keepdim=True)
            gx = s * (g - g.mean(self.dims, keepdim=True) - xhat * along)
        if gs is not None:
            part = gs * (s * s) * xhat * (-1 / count)
            gx = part if gx is None else gx + part
        return gx


def standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """x̂ = (x − μ)/√(σ² + ε) with mean and (biased) variance over `dims`, and 1/√(σ² + ε) with those sizes 1."""
    return Standardize(dims, eps)(x)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = γ (x − μ)/√(σ² + ε) + β per channel, over the batch and all positions (Ioffe and Szegedy 2015).

    x (n, c, …); the other tensors (c,).  training: μ and σ² are the batch's (biased), and the running ones move
    towards them, r ← (1 − momentum) r + momentum · batch, with the unbiased variance. Otherwise the running ones are
    used. ValueError where a batch has one value per channel, as its variance says nothing.
    """
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected x of (n, c, …), got {x.shape}")
    channels = x.shape[1]
    for name, given in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if given is not None and given.shape != (channels,):
            raise ValueError(
                f"batch_norm: {name} must be ({channels},) as x {x.shape} has that many channels, got {given.shape}"
            )
    dims = (0, *range(2, x.ndim))
    count = x.numel() // max(channels, 1)
    column = (1, channels) + (1,) * (x.ndim - 2)
    if training or running_mean is None or running_var is None:
        if count < 2:
            raise ValueError(f"batch_norm: training needs more than one value per channel, got x {x.shape}")
        node = Standardize(dims, eps)
        y, _ = node(x)
        unbiased = node.variance * (count / (count - 1))
        for running, batch in ((running_mean, node.mean), (running_var, unbiased)):
            if training and running is not None:
                moved = (1 - momentum) * running.data + momentum * batch.reshape(channels)
                running.data = moved.astype(running.dtype, copy=False)
    else:
        y = (x - reshape(running_mean, column)) / sqrt(reshape(running_var, column) + eps)
    if weight is not None:
        y = y * reshape(weight, column)
    return y if bias is None else y + reshape(bias, column)


def dropout(x: Tensor, p: float = 0.5, training: bool = True, random: Stream | None = None) -> Tensor:
    """y = x · m / (1 − p) with m ~ Bernoulli(1 − p) per element, so that E y = x; y = x where not training.

    random: the stream that draws m; needed in training. Source: Srivastava et al. 2014 (in its inverted form).
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p must be in [0, 1), got {p}")
    if not training or p == 0:
        return x
    if random is None:
        raise ValueError("dropout: training needs a random stream; pass random=")
    keep = random.bernoulli(1 - p, x.shape).astype(x.dtype)
    return x * Tensor(keep * (1 / (1 - p)))
