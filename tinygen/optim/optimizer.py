"""What all optimizers share: the parameters they move, and a state that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.backend import Array


class Optimizer:
    """Moves parameters against their gradients. A parameter without a gradient stays as it is.

    lr may be assigned between steps, which is what a schedule does.
    """

    slots: tuple[str, ...] = ()  # the names of the arrays it keeps for each parameter

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{type(self).__name__}: got no parameters")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{type(self).__name__}: a parameter is given twice")
        if not lr >= 0:
            raise ValueError(f"{type(self).__name__}: lr must be 0 or more, got {lr}")
        self.lr = lr
        self.steps = [0] * len(self.parameters)
        self.state: list[dict[str, Array]] = [{} for _ in self.parameters]

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for index, p in enumerate(self.parameters):
            if p.grad is not None:
                state = self.state[index]
                if not state:
                    state.update({name: p.backend.xp.zeros(p.shape, p.dtype) for name in self.slots})
                self.steps[index] += 1
                self.update(p, p.grad.data, state, self.steps[index])
                p.written()

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        """Move one parameter, in place; `step` counts its updates from 1."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """The learning rate, and for parameter i its count of steps and its arrays as "i.name", on the host."""
        out = {"lr": np.array(self.lr), "steps": np.array(self.steps, np.int64)}
        for index, (p, state) in enumerate(zip(self.parameters, self.state)):
            out.update({f"{index}.{name}": np.array(p.backend.to_host(a)) for name, a in state.items()})
        return out

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` left off. Raises ValueError where it belongs to other parameters."""
        steps = [int(s) for s in state["steps"]]
        if len(steps) != len(self.parameters):
            raise ValueError(f"{type(self).__name__}: state of {len(steps)} parameters for {len(self.parameters)}")
        arrays: list[dict[str, Array]] = []
        for index, p in enumerate(self.parameters):
            names = [name for name in self.slots if f"{index}.{name}" in state]
            for name in names:
                if np.shape(state[f"{index}.{name}"]) != p.shape:
                    raise ValueError(
                        f"{type(self).__name__}: {name} of parameter {index} is {np.shape(state[f'{index}.{name}'])}, "
                        f"the parameter is {p.shape}"
                    )
            arrays.append({name: p.backend.from_host(np.array(state[f"{index}.{name}"], p.dtype)) for name in names})
        self.lr, self.steps, self.state = float(state["lr"]), steps, arrays
