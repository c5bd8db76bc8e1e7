"""Losses. `reduction` is "mean", "sum" or "none" over all elements (over the batch, for the class losses)."""

from __future__ import annotations

import math

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import abs, clamp, exp, log, softplus, where
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


def _weighted(name: str, loss: Tensor, argument: str, weight: Tensor | None) -> Tensor:
    """loss · weight, where the weight fits into the loss's shape."""
    return loss if weight is None else loss * _fitting(name, argument, weight, loss.shape)


def _fitting(name: str, argument: str, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The weight, unless multiplying by it would make more elements than `shape` has."""
    new = len(shape) - weight.ndim
    if new < 0 or any(w not in (1, s) for w, s in zip(weight.shape, shape[new:])):
        raise ValueError(f"{name}: {argument} must broadcast to input {shape}, got {weight.shape}")
    return weight


def mse_loss(x: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """(x − t)².  gx = 2 gy (x − t), gt = −gx."""
    _same_shape("mse_loss", x, target)
    difference = x - target
    return _reduce("mse_loss", difference * difference, reduction)


def l1_loss(x: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """|x − t|.  gx = gy · sign(x − t), and 0 where x = t; gt = −gx."""
    _same_shape("l1_loss", x, target)
    return _reduce("l1_loss", abs(x - target), reduction)


class Huber(Function):
    """d²/2 where |d| ≤ δ, else δ (|d| − δ/2): with m = min(|d|, δ) it is m (|d| − m/2) on both sides."""

    saves_inputs = (0,)

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def forward(self, d: Array) -> Array:
        xp = of(d).xp
        y = xp.abs(d)
        half = xp.minimum(y, self.delta)
        half *= 0.5
        y -= half
        y *= half
        y *= 2
        return y

    def backward(self, gy: Tensor) -> Tensor:
        (d,) = self.saved
        return gy * clamp(d, -self.delta, self.delta)


def huber_loss(x: Tensor, target: Tensor, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d²/2 where d = x − t is at most δ in size, else δ (|d| − δ/2): the tail grows as |d| does.

    gx = gy · (d held within [−δ, δ]), gt = −gx; the gradient has a kink at |d| = δ, where its slope is taken as 1.
    ValueError unless δ > 0.  Source: Huber 1964.
    """
    _same_shape("huber_loss", x, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be > 0, got {delta}")
    return _reduce("huber_loss", Huber(delta)(x - target), reduction)


def kl_div(x: Tensor, target: Tensor, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (log t − x), the terms of KL(t ‖ eˣ), for log-probabilities x and probabilities t.

    gx = −t gy, gt = (log t + 1 − x) gy; at t = 0 the term is 0 and gt = −x gy.
    log_target: target holds log t =: l, and the term is eˡ (l − x).
    reduction: also "batchmean", the sum divided by the size of the first dimension, which is the divergence itself.
    """
    _same_shape("kl_div", x, target)
    if log_target:
        terms = exp(target) * (target - x)
    else:
        terms = target * (log(where(target.data == 0, 1.0, target)) - x)
    if reduction != "batchmean":
        return _reduce("kl_div", terms, reduction)
    if not x.ndim:
        raise ValueError('kl_div: reduction "batchmean" needs a batch dimension, got input ()')
    return terms.sum() / x.shape[0]


def gaussian_nll_loss(
    x: Tensor, target: Tensor, var: Tensor | float, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """−log N(t; x, v) = ½ (log v + (x − t)²/v), and ½ log 2π more if `full`.

    gx = gy (x − t)/v, gt = −gx, gv = ½ gy (1 − (x − t)²/v)/v.
    var: v, of x's shape, or with 1 or nothing in the place of the last dimension (one variance for all of it), or a
    number. Where v < ε, ε is computed with, and the gradient is the one at ε: a small v learns to grow.
    ValueError for a negative v, a shape that does not fit, or ε ≤ 0.
    """
    name = "gaussian_nll_loss"
    _same_shape(name, x, target)
    if not eps > 0:
        raise ValueError(f"{name}: eps must be > 0, got {eps}")
    given = var if isinstance(var, Tensor) else Tensor(x.backend.asarray(var, x.dtype))
    x.backend.require(
        ~(given.data < 0).any(), lambda: ValueError(f"{name}: var must be ≥ 0, got {given.numpy().min()}")
    )
    v = given + Tensor(x.backend.asarray(x.backend.xp.maximum(eps - given.data, 0)))
    if isinstance(var, Tensor) and v.shape != x.shape:
        if v.shape == x.shape[:-1]:
            v = unsqueeze(v, -1)
        elif v.ndim != x.ndim or sum(a != b for a, b in zip(v.shape, x.shape)) != 1:
            raise ValueError(f"{name}: var must be {x.shape} as input, or with 1 for one dimension, got {v.shape}")
        v = _fitting(name, "var", v, x.shape)
    difference = x - target
    loss = 0.5 * (log(v) + difference * difference / v)
    return _reduce(name, loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """−t log σ(x) − (1 − t) log(1 − σ(x)) = softplus(x) − t x: finite for every finite x.

    gx = gy (σ(x) − t), gt = −gy x.
    weight: factors of the losses. pos_weight: factors p of the first term, usually one a class; then the loss is
    (1 − t) x + (1 + (p − 1) t) softplus(−x). Both broadcast to x's shape.
    """
    name = "binary_cross_entropy_with_logits"
    _same_shape(name, x, target)
    if pos_weight is None:
        loss = softplus(x) - target * x
    else:
        p = _fitting(name, "pos_weight", pos_weight, x.shape)
        loss = (1 - target) * x + (1 + (p - 1) * target) * softplus(-x)
    return _reduce(name, _weighted(name, loss, "weight", weight), reduction)


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


def binary_cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean") -> Tensor:
    """−t log x − (1 − t) log(1 − x) for probabilities x, each log at least −100 as in PyTorch.

    gx = gy (x − t) / (x (1 − x)), the denominator at least 1e-12: finite at x = 0 and 1 as well.
    weight: factors of the losses, which broadcast to x's shape. ValueError for an x outside [0, 1].
    """
    name = "binary_cross_entropy"
    _same_shape(name, x, target)

    def error() -> ValueError:
        p = x.numpy()
        return ValueError(f"{name}: input must hold probabilities, in [0, 1], got {p[(p < 0) | (p > 1)][0]}")

    x.backend.require(~((x.data < 0) | (x.data > 1)).any(), error)
    return _reduce(name, _weighted(name, BinaryCrossEntropy()(x, target), "weight", weight), reduction)


def nll_loss(
    log_probabilities: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """−w_t log p_t for log-probabilities (n, classes, …) and classes t (n, …) as whole numbers.

    gx_t = −w_t gy, and 0 for the other classes.

    weight (classes,): w, else 1. Where t is `ignore_index` the loss is 0. "mean" divides by the sum of the w_t that
    count, and is NaN where none does. ValueError for a class out of range.
    """
    at, kept, weights = _targets("nll_loss", log_probabilities, target, weight, ignore_index)
    losses = where(kept, -squeeze(gather(log_probabilities, 1, unsqueeze(at, 1)), 1), 0.0) * weights
    if reduction != "mean":
        return _reduce("nll_loss", losses, reduction)
    return losses.sum() / weights.sum()


def _targets(
    name: str, x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Array, Tensor]:
    """The classes, 0 for those ignored; where they count; and their weights, 0 where not."""
    if x.ndim < 2:
        raise ValueError(f"{name}: expected input of (n, classes, …), got {x.shape}")
    expected = (x.shape[0], *x.shape[2:])
    if target.shape != expected:
        raise ValueError(f"{name}: for input {x.shape} the target must be {expected}, got {target.shape}")
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: target must hold classes as whole numbers, got {target.dtype}")
    classes = x.shape[1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(f"{name}: weight must be ({classes},), one a class of input {x.shape}, got {weight.shape}")
    at, kept = _classes(name, target, classes, ignore_index)
    return at, kept, Tensor(kept.astype(x.dtype)) if weight is None else where(kept, weight[at], 0.0)


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


class CrossEntropy(Function):
    """−log p_t, together with p = softmax(x) along dimension 1.

    p is saved and part of the graph, so that the gradient by x, g (p − one-hot of t), can be differentiated.
    """

    saves_inputs, saves_outputs = (1,), (1,)
    fills_zeros = False

    def forward(self, x: Array, t: Array) -> tuple[Array, Array]:
        xp = of(x).xp
        p = x - x.max(axis=1, keepdims=True)
        picked = xp.take_along_axis(p, t[:, None], 1)[:, 0]
        p = xp.exp(p)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        return xp.log(total[:, 0]) - picked, p

    def backward(self, g: Tensor | None, gp: Tensor | None) -> tuple[Tensor | None, None]:
        t, p = self.saved
        gx = None if g is None else Surplus()(p, g, t)
        if gp is not None:
            weighted = gp * p
            part = weighted - p * weighted.sum(1, keepdim=True)
            gx = part if gx is None else gx + part
        return gx, None


class Surplus(Function):
    """g (p − one-hot of t) along dimension 1."""

    saves_inputs = (0, 1, 2)

    def forward(self, p: Array, g: Array, t: Array) -> Array:
        xp, at, factor = of(p).xp, t[:, None], g[:, None]
        y = p * factor
        xp.put_along_axis(y, at, xp.take_along_axis(y, at, 1) - factor, 1)
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        p, g, t = self.saved
        gp = gy * unsqueeze(g, 1) if self.needs[0] else None
        gg = (gy * p).sum(1) - squeeze(gather(gy, 1, unsqueeze(t, 1)), 1) if self.needs[1] else None
        return gp, gg, None


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
    classes = logits.shape[1]
    column = None if weight is None else reshape(weight, 1, -1, *[1] * (logits.ndim - 2))
    if target.dtype.kind == "f":
        _same_shape("cross_entropy", logits, target)
        if label_smoothing:
            target = target * (1 - label_smoothing) + label_smoothing / classes
        every = target * log_softmax(logits, 1)
        return _reduce("cross_entropy", -(every if column is None else every * column).sum(1), reduction)
    at, kept, weights = _targets("cross_entropy", logits, target, weight, ignore_index)
    losses = where(kept, CrossEntropy()(logits, at)[0], 0.0) * weights
    if label_smoothing:
        log_p = log_softmax(logits, 1)
        even = -(log_p if column is None else log_p * column).sum(1) / classes  # against the even distribution
        losses = losses * (1 - label_smoothing) + where(kept, even, 0.0) * label_smoothing
    if reduction != "mean":
        return _reduce("cross_entropy", losses, reduction)
    return losses.sum() / weights.sum()
