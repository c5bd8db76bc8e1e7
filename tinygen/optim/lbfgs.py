"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, enable_grad
from tinygen.backend import Array
from tinygen.optim.line_search import Point, strong_wolfe
from tinygen.optim.optimizer import Entry, Optimizer


class LBFGS(Optimizer):
    """Quasi-Newton steps with the curvature of the last few: p ← p + t d, d = −H g, where H is never formed.

        s = t d and y = g' − g of a step give, where sᵀy > 10⁻¹⁰, a pair of the history, of which the newest
        history_size are kept; d comes from them by the two-loop recursion, beginning at H₀ = sᵀy / yᵀy.

    line_search_fn: None takes t = lr (at the very first step lr · min(1, 1/‖g‖₁)), "strong_wolfe" searches from there.
    One `step` makes up to max_iter iterations, with up to max_eval (by default 1.25 max_iter) calls of the closure, and
    ends earlier where max |g| ≤ tolerance_grad, or max |t d| or the loss moves by no more than tolerance_change.
    A parameter without a gradient counts as one with gradient 0. All parameters have one dtype.
    Source: Nocedal and Wright 2006, algorithms 7.4 and 7.5; defaults, tolerances and order of the tests are PyTorch's.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1.0, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr)
        self._refuse_negative(tolerance_grad=tolerance_grad, tolerance_change=tolerance_change)
        if max_iter < 1 or history_size < 1:
            raise ValueError(f"LBFGS: max_iter and history_size must be at least 1, got {max_iter} and {history_size}")
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f'LBFGS: line_search_fn must be None or "strong_wolfe", got {line_search_fn!r}')
        dtypes = sorted({str(p.dtype) for p in self.parameters})
        if len(dtypes) > 1:
            raise ValueError(f"LBFGS: the parameters must have one dtype, got {' and '.join(dtypes)}")
        self.max_iter, self.history_size, self.line_search_fn = max_iter, history_size, line_search_fn
        self.max_eval = max_iter * 5 // 4 if max_eval is None else max_eval
        self.tolerance_grad, self.tolerance_change = tolerance_grad, tolerance_change
        self.iterations = self.evaluations = 0
        self.moves: list[Array] = []  # s, the oldest first
        self.bends: list[Array] = []  # y
        self.last: list[Array] = []  # the last t d, and the gradient before it

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Minimize; the loss at the beginning is returned.

        closure: clears the gradients, computes the loss, calls backward and returns the loss. It is called again
        wherever the loss is asked for.
        """
        first, gradient = self._evaluate(closure)
        loss, evaluations = float(first), 1
        if self._largest(gradient) <= self.tolerance_grad:
            self.evaluations += 1
            return first
        for left in range(self.max_iter, 0, -1):
            self._remember(gradient)
            d, t = self._direction(gradient), self.lr
            if not self.iterations:
                t *= min(1.0, 1.0 / self._number(abs(gradient).sum()))
            slope = self._dot(gradient, d)
            self.iterations += 1
            if slope > -self.tolerance_change:
                self.last = [d * 0.0, gradient]
                break
            before, old = loss, gradient
            if self.line_search_fn:
                start, origin = Point(0.0, loss, slope, gradient), [p.data.copy() for p in self.parameters]
                at = partial(self._point, closure, origin, d)
                limit = self.max_eval - evaluations
                found, calls = strong_wolfe(at, t, start, self._largest(d), self.tolerance_change, limit)
                t, loss, gradient = found.t, found.loss, found.gradient
                self._move(origin, t, d)
                evaluations += calls
            else:
                self._move([p.data for p in self.parameters], t, d)
                if left > 1:  # after the last move, the loss is the next step's affair
                    now, gradient = self._evaluate(closure)
                    loss, evaluations = float(now), evaluations + 1
            self.last = [d * t, old]
            if (
                evaluations >= self.max_eval
                or self._largest(gradient) <= self.tolerance_grad
                or self._largest(self.last[0]) <= self.tolerance_change
                or abs(loss - before) < self.tolerance_change
            ):
                break
        self.evaluations += evaluations
        return first

    # ------------------------------------------------------------------ the direction

    def _remember(self, gradient: Array) -> None:
        """Take the last move into the history, if it went up the slope's way."""
        if not self.last:
            return
        move, before = self.last
        bend = gradient - before
        if self._dot(bend, move) > 1e-10:
            self.moves, self.bends = [*self.moves, move], [*self.bends, bend]
            del self.moves[: -self.history_size], self.bends[: -self.history_size]

    def _direction(self, gradient: Array) -> Array:
        """−H g by the two-loop recursion (algorithm 7.4)."""
        q, factors = -gradient, []
        curvatures = [self._dot(s, y) for s, y in zip(self.moves, self.bends)]  # 1/ρ
        for s, y, curvature in reversed(list(zip(self.moves, self.bends, curvatures))):
            factors.append(self._dot(s, q) / curvature)
            q = q - factors[-1] * y
        if self.moves:
            q = q * (curvatures[-1] / self._dot(self.bends[-1], self.bends[-1]))
        for s, y, curvature, factor in zip(self.moves, self.bends, curvatures, reversed(factors)):
            q = q + (factor - self._dot(y, q) / curvature) * s
        return q

    def _number(self, array: Array) -> float:
        return float(self.parameters[0].backend.scalar(array))

    def _dot(self, a: Array, b: Array) -> float:
        return self._number((a * b).sum())

    def _largest(self, a: Array) -> float:
        return self._number(abs(a).max()) if a.size else 0.0

    # ------------------------------------------------------------------ all parameters as one vector

    def _evaluate(self, closure: Callable[[], Tensor]) -> tuple[Tensor, Array]:
        """The loss, and the gradients in one row."""
        with enable_grad():
            loss = closure()
        xp = self.parameters[0].backend.xp
        rows = []
        for index, p in enumerate(self.parameters):
            if p.grad is not None:
                self._refuse_misfits(index, p, {"the gradient": p.grad.data})
            rows.append(xp.zeros_like(p.data).reshape(-1) if p.grad is None else p.grad.data.reshape(-1))
        return loss, xp.concatenate(rows)

    def _point(self, closure: Callable[[], Tensor], origin: list[Array], d: Array, t: float) -> Point:
        self._move(origin, t, d)
        loss, gradient = self._evaluate(closure)
        return Point(t, float(loss), self._dot(gradient, d), gradient)

    def _move(self, origin: list[Array], t: float, d: Array) -> None:
        """p ← origin + t d, in p's memory."""
        end = 0
        for p, x in zip(self.parameters, origin):
            begin, end = end, end + p.numel()
            p.data[...] = x + t * d[begin:end].reshape(p.shape)
            p.written()

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, np.ndarray]:
        """lr, the counts, and where there are any the history's pairs (k, numbers) and the last move (2, numbers)."""
        out = {
            "lr": np.array(self.lr, np.float64),
            "iterations": np.array(self.iterations, np.int64),
            "evaluations": np.array(self.evaluations, np.int64),
        }
        host = self.parameters[0].backend.to_host
        for name in ("moves", "bends", "last"):
            if getattr(self, name):
                out[name] = np.stack([host(a) for a in getattr(self, name)])
        return out

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` left off; as strict as that of the other optimizers."""
        given = {key: np.asarray(value) for key, value in state.items()}
        numbers, dtype = sum(p.numel() for p in self.parameters), self.parameters[0].dtype
        counts = {name: (name, (), np.int64) for name in ("iterations", "evaluations")}
        expected: dict[str, Entry] = {"lr": ("lr", (), np.float64), **counts}
        if "last" in given or given.get("iterations", np.zeros(())).any():
            expected["last"] = ("last", (2, numbers), dtype)
        if "moves" in given or "bends" in given:
            pairs = min(len(given.get("moves", ((),))), self.history_size)
            expected |= {name: (name, (pairs, numbers), dtype) for name in ("moves", "bends")}
        self._refuse_entries(given, expected)
        self._refuse_negative(**{name: given[name] for name in ("lr", "iterations", "evaluations")})
        self.lr = float(given["lr"])
        self.iterations, self.evaluations = int(given["iterations"]), int(given["evaluations"])
        place = self.parameters[0].backend.from_host
        self.moves, self.bends, self.last = (
            [place(np.array(row)) for row in given.get(name, ())] for name in ("moves", "bends", "last")
        )
