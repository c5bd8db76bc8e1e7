"""Losses. `reduction` is "mean", "sum" or "none" over all elements (over the batch, for the class losses)."""

from __future__ import annotations

from tinygen.autograd.tensor import Tensor
from tinygen.functional.elementwise import clamp, log, softplus
from tinygen.functional.index import gather
from tinygen.functional.reduction import log_softmax
from tinygen.functional.shape import squeeze, unsqueeze


def _reduce(name: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f'{name}: reduction must be "mean", "sum" or "none", got {reduction!r}')


def _same_shape(name: str, x: Tensor, target: Tensor) -> None:
    if x.shape != target.shape:
        raise ValueError(f"{name}: input {x.shape} and target {target.shape} differ; broadcasting would hide a mistake")


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x − t)²."""
    _same_shape("mse_loss", x, target)
    difference = x - target
    return _reduce("mse_loss", difference * difference, reduction)


def binary_cross_entropy_with_logits(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(x) − t x: finite for every finite x."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    return _reduce("binary_cross_entropy_with_logits", softplus(x) - target * x, reduction)


def binary_cross_entropy(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """−t log x − (1 − t) log(1 − x) for probabilities x, each log at least −100 as in PyTorch."""
    _same_shape("binary_cross_entropy", x, target)
    # e⁻¹⁰⁰ underflows the clamp of x itself in float32, hence the clamp of the logarithm
    log_x, log_rest = clamp(log(x), min=-100.0), clamp(log(1 - x), min=-100.0)
    return _reduce("binary_cross_entropy", -(target * log_x + (1 - target) * log_rest), reduction)


def nll_loss(log_probabilities: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """−log p_t for log-probabilities (n, classes, …) and classes t (n, …) as whole numbers."""
    x = log_probabilities
    if x.ndim < 2 or target.shape != (x.shape[0], *x.shape[2:]):
        raise ValueError(
            f"nll_loss: for input {x.shape} the target must be {(x.shape[0], *x.shape[2:])}, got {target.shape}"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"nll_loss: target must hold classes as whole numbers, got {target.dtype}")
    return _reduce("nll_loss", -squeeze(gather(x, 1, unsqueeze(target, 1)), 1), reduction)


def cross_entropy(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """−log softmax(logits)_t for logits (n, classes, …).  Its gradient is (softmax − one-hot of t) / n.

    target: classes (n, …) as whole numbers, or probabilities of the logits' shape (then −Σ_k t_k log softmax_k).
    """
    log_p = log_softmax(logits, 1)
    if target.dtype.kind == "f":
        _same_shape("cross_entropy", logits, target)
        return _reduce("cross_entropy", -(target * log_p).sum(1), reduction)
    return nll_loss(log_p, target, reduction)
