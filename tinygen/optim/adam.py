"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.autograd import Tensor
from tinygen.backend import AdamRule, Array
from tinygen.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1, in PyTorch's arrangement of ε:

    m ← β1 m + (1 − β1) g;  v ← β2 v + (1 − β2) g²;  p ← p − lr/(1 − β1ᵗ) · m / (√v/√(1 − β2ᵗ) + ε).
    weight_decay λ adds λp to g.
    """

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self._refuse_negative(eps=eps, weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{type(self).__name__}: betas must be two numbers in [0, 1), got {betas}")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        rule = AdamRule(self.lr, *self.betas, self.eps, self.weight_decay, self.decoupled, step)
        p.backend.adam_step(p.data, gradient, state["m"], state["v"], rule)


class AdamW(Adam):
    """Adam with the weight decay apart from the gradient: p ← (1 − lr λ) p first (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 1e-2,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, betas, eps, weight_decay)


def adam_formula(p: Array, g: Array, m: Array, v: Array, rule: AdamRule, step: int) -> tuple[Array, Array, Array]:
    """(p, m, v) after one step, as the formula is read; the oracle of the fast path."""
    if rule.decoupled:
        p = p - rule.lr * rule.weight_decay * p
    else:
        g = g + rule.weight_decay * p
    m = rule.beta1 * m + (1 - rule.beta1) * g
    v = rule.beta2 * v + (1 - rule.beta2) * g * g
    m_hat, v_hat = m / (1 - rule.beta1**step), v / (1 - rule.beta2**step)
    return p - rule.lr * m_hat / (v_hat**0.5 + rule.eps), m, v
