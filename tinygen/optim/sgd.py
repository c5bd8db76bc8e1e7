"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.autograd import Tensor
from tinygen.backend import Array, SGDRule
from tinygen.optim.optimizer import Optimizer


class SGD(Optimizer):
    """p ← p − lr · d, with d the gradient, its running sum under momentum, or Nesterov's look-ahead of it.

    momentum μ, dampening τ, weight_decay λ:  g ← g + λp;  u ← μu + (1 − τ)g (u = g at first);
    d = g without momentum, u with, g + μu with nesterov. As PyTorch's.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self._refuse_negative(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(f"SGD: nesterov needs a momentum above 0 and dampening 0, got {momentum} and {dampening}")
        self.momentum, self.dampening, self.weight_decay, self.nesterov = momentum, dampening, weight_decay, nesterov
        self.slots = ("velocity",) if momentum else ()

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        rule = SGDRule(self.lr, self.momentum, self.dampening, self.weight_decay, self.nesterov, step == 1)
        p.backend.sgd_step(p.data, gradient, state.get("velocity"), rule)


def sgd_formula(p: Array, g: Array, u: Array, rule: SGDRule) -> tuple[Array, Array]:
    """(p, u) after one step, as the formula is read; the oracle of the fast path."""
    g = g + rule.weight_decay * p
    u = g if rule.first else rule.momentum * u + (1 - rule.dampening) * g
    d = g + rule.momentum * u if rule.nesterov else u if rule.momentum else g
    return p - rule.lr * d, u
