"""What all optimizers share: the parameters they move, and a state that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.backend import Array

Entry = tuple[str, tuple[int, ...], Any]  # of a state: its name in messages, its shape and dtype


class Optimizer:
    """Moves parameters against their gradients. A parameter without a gradient stays as it is.

    lr may be assigned between steps, which is what a schedule does; the other numbers hold for the optimizer's life.
    """

    slots: tuple[str, ...] = ()  # the names of the arrays it keeps for each parameter

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.parameters = _checked(type(self).__name__, parameters)
        self._refuse_negative(lr=lr)
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
                state = self.state[index] or {name: p.backend.xp.zeros_like(p.data) for name in self.slots}
                self._refuse_misfits(index, p, {"the gradient": p.grad.data, **state})
                self.state[index] = state
                self.steps[index] += 1
                self.update(p, p.grad.data, state, self.steps[index])
                p.written()

    def update(self, p: Tensor, gradient: Array, state: dict[str, Array], step: int) -> None:
        """Move one parameter, in place; `step` counts its updates from 1."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """The learning rate, and for parameter i its count of steps and its arrays as "i.name", on the host."""
        out = {"lr": np.array(self.lr, np.float64), "steps": np.array(self.steps, np.int64)}
        for index, (p, state) in enumerate(zip(self.parameters, self.state)):
            out.update({f"{index}.{name}": np.array(p.backend.to_host(a)) for name, a in state.items()})
        return out

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` left off.

        Raises ValueError that names every entry that is missing, unexpected, or of a wrong shape or dtype, as where
        the state belongs to other parameters; then nothing was changed.
        """
        given = {key: np.asarray(value) for key, value in state.items()}
        expected: dict[str, Entry] = {
            "lr": ("lr", (), np.float64),
            "steps": ("steps", (len(self.parameters),), np.int64),
        }
        self._refuse_entries({key: given[key] for key in expected if key in given}, expected)
        self._refuse_negative(lr=given["lr"], steps=given["steps"].min())
        for index, p in enumerate(self.parameters):
            if given["steps"][index]:  # a parameter that was never moved has no arrays
                expected |= {f"{index}.{n}": (f"{n} of parameter {index}", p.shape, p.dtype) for n in self.slots}
        self._refuse_entries(given, expected)
        self.lr, self.steps = float(given["lr"]), given["steps"].tolist()
        for index, p in enumerate(self.parameters):
            self.state[index] = {}
            for name in self.slots if self.steps[index] else ():
                self.state[index][name] = array = p.backend.xp.empty_like(p.data)
                array[...] = p.backend.from_host(given[f"{index}.{name}"])

    # ------------------------------------------------------------------ refusals

    def _refuse_negative(self, **numbers: Any) -> None:
        for name, value in numbers.items():
            if not value >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must be 0 or more, got {value}")

    def _refuse_misfits(self, index: int, p: Tensor, arrays: Mapping[str, Array]) -> None:
        for name, a in arrays.items():
            if a.shape != p.shape or a.dtype != p.dtype:
                raise ValueError(
                    f"{type(self).__name__}: {name} of parameter {index} is {a.dtype} {a.shape}, the parameter is now "
                    f"{p.dtype} {p.shape}; make a new optimizer where a parameter was given other data"
                )

    def _refuse_entries(self, given: Mapping[str, np.ndarray], expected: Mapping[str, Entry]) -> None:
        problems = [f"{name} is missing" for key, (name, _, _) in expected.items() if key not in given]
        problems += [f"{key} is unexpected" for key in given if key not in expected]
        problems += [
            f"{name} is {given[key].dtype} {given[key].shape}, expected {np.dtype(dtype)} {shape}"
            for key, (name, shape, dtype) in expected.items()
            if key in given and (given[key].shape != shape or given[key].dtype != dtype)
        ]
        if problems:
            raise ValueError(f"{type(self).__name__}: " + "; ".join(problems))


def _checked(kind: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list; TypeError or ValueError for what an optimizer cannot move."""
    if isinstance(parameters, Tensor):
        raise TypeError(f"{kind}: expected an iterable of parameters, got one tensor; put it into a list")
    out = list(parameters)
    if not out:
        raise ValueError(f"{kind}: got no parameters")
    for index, p in enumerate(out):
        if not isinstance(p, Tensor):
            raise TypeError(f"{kind}: parameter {index} is of type {type(p).__name__}, expected a tensor")
        if p.node is not None:
            raise ValueError(f"{kind}: parameter {index} is a result of {p.node.name}, not a leaf; detach() it")
        if p.dtype.kind != "f":
            raise ValueError(f"{kind}: parameter {index} is {p.dtype}, expected floating point")
    if len({id(p) for p in out}) < len(out):
        raise ValueError(f"{kind}: a parameter is given twice")
    return out
