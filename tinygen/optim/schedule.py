"""Learning rates that change from step to step.

    optimizer = SGD(model.parameters(), lr=0.1)
    schedule = CosineAnnealingLR(optimizer, 1000)
    for batch in batches:
        ...
        optimizer.step()
        schedule.step()

Each schedule is a function of the number of its steps, lr(k), with lr₀ the rate that the optimizer came with; k counts
what the user lets it count, updates or epochs. One optimizer has one schedule: a LambdaLR can be any product of others.
A checkpoint keeps the counts alone, so an algorithm holds the optimizer beside its schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygen.optim.optimizer import Optimizer


class Schedule:
    """Sets the optimizer's lr to `rate(k)`: at once for k = 0, and after each `step`."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimizer, got {type(optimizer).__name__}")
        self.optimizer, self.base_lr, self.steps = optimizer, optimizer.lr, 0
        optimizer.lr = self.rate(0)

    def rate(self, k: int) -> float:
        """lr(k)."""
        raise NotImplementedError

    def step(self) -> None:
        self.steps += 1
        self.optimizer.lr = self.rate(self.steps)

    def get_last_lr(self) -> list[float]:
        """The rate now, in a list as PyTorch gives it."""
        return [self.optimizer.lr]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"base_lr": np.array(self.base_lr, np.float64), "steps": np.array(self.steps, np.int64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` left off; the rate now is part of the optimizer's state.

        Raises ValueError that names every entry that is missing, unexpected, or of a wrong shape or dtype.
        """
        given, own = {key: np.asarray(value) for key, value in state.items()}, self.state_dict()
        problems = [f"{key} is missing" for key in own if key not in given]
        problems += [f"{key} is unexpected" for key in given if key not in own]
        problems += [
            f"{key} is {given[key].dtype} {given[key].shape}, expected {own[key].dtype} ()"
            for key in own
            if key in given and (given[key].shape != () or given[key].dtype != own[key].dtype)
        ]
        problems = problems or [f"{key} must be 0 or more, got {a}" for key, a in given.items() if not a >= 0]
        if problems:
            raise ValueError(f"{type(self).__name__}: " + "; ".join(problems))
        self.base_lr, self.steps = float(given["base_lr"]), int(given["steps"])


class LambdaLR(Schedule):
    """lr(k) = lr₀ · lr_lambda(k)."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, k: int) -> float:
        return self.base_lr * self.lr_lambda(k)


class StepLR(Schedule):
    """lr(k) = lr₀ · gamma^⌊k / step_size⌋."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _at_least_one("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, k: int) -> float:
        return self.base_lr * self.gamma ** (k // self.step_size)


class LinearLR(Schedule):
    """lr(k) = lr₀ · (start_factor + (end_factor − start_factor) · min(k / total_iters, 1)): a warm-up."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ValueError(
                "LinearLR: start_factor must be in (0, 1] and end_factor in [0, 1], "
                f"got {start_factor} and {end_factor}"
            )
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _at_least_one("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, k: int) -> float:
        done = min(k / self.total_iters, 1.0)
        return self.base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(Schedule):
    """lr(k) = eta_min + (lr₀ − eta_min) · (1 + cos(π k / T_max)) / 2 (Loshchilov and Hutter 2017, eq. 5).

    At k = T_max it is eta_min; beyond, it rises again, as PyTorch's does.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _at_least_one("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer)

    def rate(self, k: int) -> float:
        return self.eta_min + (self.base_lr - self.eta_min) * (1 + math.cos(math.pi * k / self.T_max)) / 2


def _at_least_one(name: str, argument: str, value: int) -> int:
    if not value >= 1:
        raise ValueError(f"{name}: {argument} must be at least 1, got {value}")
    return value
