"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable

from tinygen.autograd import Tensor
from tinygen.backend import Array, of
from tinygen.optim.optimizer import Optimizer


class RMSprop(Optimizer):
    """The gradient divided by its running root mean square (Tieleman and Hinton 2012), in PyTorch's arrangement:

    s ← α s + (1 − α) g²;  d = g / (√s + ε);  p ← p − lr · d.
    centered: √(s − m²) in the place of √s, with m ← α m + (1 − α) g (Graves 2013); rounding below 0 counts as 0.
    momentum μ: u ← μu + d takes the place of d. weight_decay λ adds λp to g.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self._refuse_negative(alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        if not alpha <= 1:
            raise ValueError(f"RMSprop: alpha must be in [0, 1], got {alpha}")
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.slots = ("square", *(["mean"] if centered else []), *(["velocity"] if momentum else []))

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        p.backend.in_chunks(self._update, (p.data, *state.values()), gradient)

    def _update(self, p: Array, s: Array, *rest: Array) -> None:
        """The formula of the class, in place; rest: m if centered, u if there is momentum, g."""
        xp = of(p).xp
        *state, g = rest
        if self.weight_decay:
            g = g + self.weight_decay * p
        t = g * g
        t -= s
        t *= 1 - self.alpha
        s += t  # s ← s + (1 − α)(g² − s)
        if self.centered:
            m = state[0]
            m += (1 - self.alpha) * (g - m)
            t = xp.maximum(s - m * m, 0)
            xp.sqrt(t, out=t)
        else:
            xp.sqrt(s, out=t)
        t += self.eps
        xp.divide(g, t, out=t)
        if self.momentum:
            u = state[-1]
            u *= self.momentum
            u += t
            xp.multiply(u, self.lr, out=t)
        else:
            t *= self.lr
        p -= t
