"""Module: parameters, buffers and submodules by name, found by looking at the attributes in the order of assignment.

    class Perceptron(Module):
        def __init__(self, random):
            super().__init__()
            self.hidden = Linear(784, 128, random=random.child("hidden"))
            self.out = Linear(128, 10, random=random.child("out"))

        def forward(self, x):
            return self.out(F.relu(self.hidden(x)))

`state_dict()` gives {"hidden.weight": array, …} on the host, the names that PyTorch gives to the same layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.backend import Array


class Parameter(Tensor):
    """A tensor that a module learns: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Array | Tensor, requires_grad: bool = True) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data, requires_grad)


class Buffer(Tensor):
    """A tensor that is part of a module's state but is not learnt, such as a running mean."""

    __slots__ = ()

    def __init__(self, data: Array | Tensor) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data)


class Module:
    """Base of all layers and networks."""

    training: bool

    def __init__(self) -> None:
        self.training = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    # ------------------------------------------------------------------ what it holds

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The submodules of this module itself, in the order of assignment."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def _own(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers of this module itself."""
        for name, value in vars(self).items():
            if isinstance(value, (Parameter, Buffer)):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; its own name is the prefix."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        for _, module in self.named_modules():
            yield module

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()  # a module or parameter used in two places is one
        for path, module in self.named_modules():
            for name, value in module._own():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name."""
        return self._named(Parameter)

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer once, with its dotted name."""
        return self._named(Buffer)

    def parameters(self) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters():
            yield parameter

    def buffers(self) -> Iterator[Buffer]:
        for _, buffer in self.named_buffers():
            yield buffer

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Let all parameters collect gradients, or none."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    # ------------------------------------------------------------------ mode

    def train(self, mode: bool = True) -> Module:
        """Training mode (dropout drops, batch norm uses the batch), or with False evaluation mode."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode."""
        return self.train(False)

    # ------------------------------------------------------------------ state

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, value in module._own():
                yield (f"{path}.{name}" if path else name), value

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by dotted name, as copies on the host."""
        return {name: value.numpy() for name, value in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the arrays of `state`, in the dtype that each parameter has.

        Raises ValueError that names every missing, unexpected and wrong-shaped entry; then nothing was changed.
        strict=False lets entries be missing or unexpected, but never of a wrong shape.
        """
        own = dict(self._named_state())
        problems = [f"missing {name} {own[name].shape}" for name in own if strict and name not in state]
        problems += [f"unexpected {name} {np.shape(state[name])}" for name in state if strict and name not in own]
        problems += [
            f"{name} is {np.shape(state[name])}, the module has {value.shape}"
            for name, value in own.items()
            if name in state and np.shape(state[name]) != value.shape
        ]
        if problems:
            raise ValueError(f"load_state_dict of {type(self).__name__}: " + "; ".join(problems))
        for name, value in own.items():
            if name in state:
                value.data = value.backend.from_host(np.array(state[name], value.dtype))

    # ------------------------------------------------------------------ how it looks

    def extra_repr(self) -> str:
        """What a layer tells of itself within the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(lines) + "\n)" if lines else ")")


class Sequential(Module):
    """Modules applied one after the other."""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            setattr(self, str(index), module)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def __len__(self) -> int:
        return len(list(self.named_children()))

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]
