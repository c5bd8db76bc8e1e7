"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.autograd import Tensor
from tinygen.backend import Array, of
from tinygen.optim.optimizer import Optimizer


class Adagrad(Optimizer):
    """The gradient divided by the root of the sum of all squares so far (Duchi, Hazan and Singer 2011):

    s ← s + g²;  p ← p − lr/(1 + (t − 1) lr_decay) · g / (√s + ε), with s = initial_accumulator_value before step t = 1.
    weight_decay λ adds λp to g. As PyTorch's.
    """

    slots = ("total",)

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self._refuse_negative(
            lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, eps=eps
        )
        self.lr_decay, self.weight_decay, self.eps = lr_decay, weight_decay, eps
        self.initial_accumulator_value = initial_accumulator_value

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        if step == 1:
            state["total"] += self.initial_accumulator_value
        rate = self.lr / (1 + (step - 1) * self.lr_decay)

        def update(p: Array, s: Array, g: Array) -> None:
            xp = of(p).xp
            if self.weight_decay:
                g = g + self.weight_decay * p
            t = g * g
            s += t
            xp.sqrt(s, out=t)
            t += self.eps
            xp.divide(g, t, out=t)
            t *= rate
            p -= t

        p.backend.in_chunks(update, (p.data, state["total"]), gradient)
