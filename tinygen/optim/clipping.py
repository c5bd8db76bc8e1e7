"""Gradients held within bounds before a step, against the steep walls in the loss of deep and recurrent networks."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinygen.autograd import Tensor
from tinygen.backend import Array, current, of


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients, in place, by min(1, max_norm / (‖g‖ + 10⁻⁶)), and return ‖g‖ as it was before.

    ‖g‖ is the norm of all gradients as one vector, (Σ |g|^norm_type)^(1/norm_type), with norm_type math.inf the
    largest |g|. A parameter without a gradient is left out; where none has one, the norm is 0.
    error_if_nonfinite: raise RuntimeError where ‖g‖ is infinite or NaN, for which the host waits for the device.
    Source: Pascanu, Mikolov and Bengio 2013, algorithm 1.
    """
    _refuse("clip_grad_norm_", "max_norm", max_norm)
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be above 0, got {norm_type}")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    gradients = [p.grad for p in given if p.grad is not None]
    if not gradients:
        return Tensor((given[0].backend if given else current()).asarray(0.0, "float32"))
    norm = _norm([g.data for g in gradients], norm_type)
    if error_if_nonfinite and not math.isfinite(gradients[0].backend.scalar(norm)):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {gradients[0].backend.scalar(norm)}")
    factor = (max_norm / (norm + 1e-6)).clip(None, 1.0)
    for g in gradients:
        g.data[...] = g.data * factor.astype(g.dtype)
        g.written()
    return Tensor(gradients[0].backend.asarray(norm))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring each element of the gradients into [−clip_value, clip_value], in place."""
    _refuse("clip_grad_value_", "clip_value", clip_value)
    for p in [parameters] if isinstance(parameters, Tensor) else parameters:
        if p.grad is not None:
            p.grad.data[...] = p.grad.data.clip(-clip_value, clip_value)
            p.grad.written()


def _norm(arrays: list[Array], norm_type: float) -> Array:
    """Of all elements of all arrays."""
    xp = of(arrays[0]).xp
    arrays = [a for a in arrays if a.size] or [xp.zeros(1, arrays[0].dtype)]
    if norm_type == math.inf:
        return xp.stack([abs(a).max() for a in arrays]).max()
    if norm_type == 2:
        return xp.sqrt(xp.stack([(a * a).sum() for a in arrays]).sum())
    return xp.stack([(abs(a) ** norm_type).sum() for a in arrays]).sum() ** (1 / norm_type)


def _refuse(name: str, argument: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name}: {argument} must be 0 or more, got {value}")
