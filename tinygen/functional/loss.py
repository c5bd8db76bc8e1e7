"""Losses. `reduction` is "mean", "sum" or "none" over all elements (over the batch, for the class losses)."""

from __future__ import annotations

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import clamp, log, softplus, where
from tinygen.functional.index import gather
from tinygen.functional.reduction import log_softmax
from tinygen.functional.shape import reshape, squeeze, unsqueeze


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


def mse_loss(x: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − t)²."""
    _same_shape("mse_loss", x, target)
    difference = x - target
    return _reduce("mse_loss", difference * difference, reduction)


def binary_cross_entropy_with_logits(x: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(x) − t x: finite for every finite x."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    return _reduce("binary_cross_entropy_with_logits", softplus(x) - target * x, reduction)


LOWEST_LOG = -100.0  # PyTorch's: what stands for log 0 in the cross-entropy of probabilities


class BinaryCrossEntropy(Function):
    """−t log x − (1 − t) log(1 − x), each log at least −100."""

    saves_inputs = (0, 1)

    def forward(self, x: Array, t: Array) -> Array:
        owner = of(x)
        with owner.quiet():
            log_x = owner.xp.maximum(owner.xp.log(x), LOWEST_LOG)
            log_rest = owner.xp.maximum(owner.xp.log1p(-x), LOWEST_LOG)
        return (t - 1) * log_rest - t * log_x

    def backward(self, gy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, t = self.saved
        gx = gt = None
        if self.needs[0]:
            gx = gy * (x - t) / clamp(x * (1 - x), min=1e-12)
        if self.needs[1]:
            gt = gy * (_bounded_log(1 - x) - _bounded_log(x))
        return gx, gt


def _bounded_log(x: Tensor) -> Tensor:
    """max(log x, −100), with the gradient 0 where x = 0."""
    positive = x.data > 0
    return where(positive, clamp(log(where(positive, x, 1.0)), min=LOWEST_LOG), LOWEST_LOG)


def binary_cross_entropy(x: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """−t log x − (1 − t) log(1 − x) for probabilities x, each log at least −100 as in PyTorch.

    gx = gy (x − t) / (x (1 − x)), the denominator at least 1e-12: finite at x = 0 and 1 as well.
    """
    _same_shape("binary_cross_entropy", x, target)
    return _reduce("binary_cross_entropy", BinaryCrossEntropy()(x, target), reduction)


def nll_loss(
    log_probabilities: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """−w_t log p_t for log-probabilities (n, classes, …) and classes t (n, …) as whole numbers.

    weight (classes,): w, else 1. Where t is `ignore_index` the loss is 0. "mean" divides by the sum of the w_t that
    count, and is NaN where none does. ValueError for a class out of range.
    """
    losses, weights = _class_losses("nll_loss", log_probabilities, target, weight, ignore_index)
    if reduction != "mean":
        return _reduce("nll_loss", losses, reduction)
    return losses.sum() / weights.sum()


def _class_losses(
    name: str, log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """−w_t log p_t for each t, and w_t: 0 where t is ignored."""
    if log_p.ndim < 2:
        raise ValueError(f"{name}: expected input of (n, classes, …), got {log_p.shape}")
    expected = (log_p.shape[0], *log_p.shape[2:])
    if target.shape != expected:
        raise ValueError(f"{name}: for input {log_p.shape} the target must be {expected}, got {target.shape}")
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: target must hold classes as whole numbers, got {target.dtype}")
    classes = log_p.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight must be ({classes},), one a class of input {log_p.shape}, got {weight.shape}")
    at, kept = _classes(name, target, classes, ignore_index)
    losses = -squeeze(gather(log_p, 1, unsqueeze(at, 1)), 1)
    weights = Tensor(kept.astype(log_p.dtype)) if weight is None else where(kept, weight[at], 0.0)
    return where(kept, losses, 0.0) * weights, weights


def _classes(name: str, target: Tensor, classes: int, ignore_index: int) -> tuple[Tensor, Array]:
    """The target with class 0 in the place of what is ignored, and where it counts."""
    t, owner = target.data, target.backend
    inside = (t >= 0) & (t < classes)
    kept = t != ignore_index
    owner.require((inside | ~kept).all(), lambda: _class_error(name, target, classes, ignore_index))
    return Tensor(owner.xp.where(inside & kept, t, 0)), kept


def _class_error(name: str, target: Tensor, classes: int, ignore_index: int) -> ValueError:
    t = target.numpy()
    wrong = t[((t < 0) | (t >= classes)) & (t != ignore_index)]
    return ValueError(
        f"{name}: classes must be in 0 … {classes - 1}, or ignore_index {ignore_index}, got {int(wrong[0])}"
    )


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """−log softmax(logits)_t for logits (n, classes, …).  Its gradient is (softmax − one-hot of t) / n.

    target: classes (n, …) as whole numbers, for which weight and ignore_index are those of `nll_loss`; or
    probabilities of the logits' shape, then −Σ_k w_k t_k log softmax_k and "mean" divides by the number of targets.
    label_smoothing: ε moves the target to (1 − ε) t + ε / classes (Szegedy et al. 2016).
    """
    if logits.ndim < 2:
        raise ValueError(f"cross_entropy: expected logits of (n, classes, …), got {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    log_p = log_softmax(logits, 1)
    classes = logits.shape[1]
    column = None if weight is None else reshape(weight, 1, -1, *[1] * (logits.ndim - 2))
    if target.dtype.kind == "f":
        _same_shape("cross_entropy", logits, target)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / classes
        every = target * log_p
        return _reduce("cross_entropy", -(every if column is None else every * column).sum(1), reduction)
    losses, weights = _class_losses("cross_entropy", log_p, target, weight, ignore_index)
    if label_smoothing:
        even = -(log_p if column is None else log_p * column).sum(1) / classes  # against the even distribution
        even = where(target.data != ignore_index, even, 0.0)
        losses = losses * (1 - label_smoothing) + even * label_smoothing
    if reduction != "mean":
        return _reduce("cross_entropy", losses, reduction)
    return losses.sum() / weights.sum()
