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

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

import numpy as np

from tinygen.autograd import Tensor
from tinygen.backend import Array, array_types, of


class _State(Tensor):
    """A leaf on the memory of `data`. With a tensor it shares the count of writes, too, as `detach` does, so that a
    graph which saved the tensor notices an optimizer's step."""

    __slots__ = ()

    def __init__(self, data: Array | Tensor, requires_grad: bool) -> None:
        array = data.data if isinstance(data, Tensor) else data
        if not isinstance(array, tuple(array_types)):
            kind = type(self).__name__
            raise TypeError(f"{kind}: expected an array or a tensor, got {type(data).__name__}; use tensor()")
        super().__init__(array, requires_grad)
        if isinstance(data, Tensor):
            self._version = data._version


class Parameter(_State):
    """A tensor that a module learns: a leaf that requires a gradient. It shares the memory of `data`."""

    __slots__ = ()

    def __init__(self, data: Array | Tensor, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Buffer(_State):
    """A tensor that is part of a module's state but is not learnt, such as a running mean. It shares the memory of
    `data`."""

    __slots__ = ()

    def __init__(self, data: Array | Tensor) -> None:
        super().__init__(data, False)


class Module:
    """Base of all layers and networks."""

    training: bool

    def __init__(self) -> None:
        self.training = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        """TypeError where a plain tensor would take the place of a parameter or buffer: `state_dict` and the optimizer
        would lose it. None takes it away."""
        here = vars(self).get(name)
        if isinstance(here, _State) and isinstance(value, Tensor) and not isinstance(value, _State):
            raise TypeError(
                f"{type(self).__name__}: {name} is a {type(here).__name__}, got a plain tensor; "
                f"assign to {name}.data, or a new {type(here).__name__}"
            )
        super().__setattr__(name, value)

    # ------------------------------------------------------------------ what it holds

    def _children(self) -> Iterator[tuple[str, Module]]:
        """The submodules of this module itself; one that has two names comes twice."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def _own(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers of this module itself."""
        for name, value in vars(self).items():
            if isinstance(value, _State):
                yield name, value

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The submodules of this module itself, each once, in the order of assignment."""
        return _once(self._children())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names; its own name is the prefix. A module that is used in two
        places comes once, under its first name, unless remove_duplicate=False."""
        found = self._below(prefix)
        return _once(found) if remove_duplicate else found

    def _below(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """As `named_modules`, and what is used in two places comes twice."""
        yield prefix, self
        for name, child in self._children():
            yield from child._below(_join(prefix, name))

    def modules(self) -> Iterator[Module]:
        for _, module in self.named_modules():
            yield module

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        return _once((name, value) for name, value in self._named_state() if isinstance(value, kind))

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
        for path, module in self._below(""):
            for name, value in module._own():
                yield _join(path, name), value

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameters and buffers by dotted name, as copies on the host."""
        return {name: value.numpy() for name, value in self._named_state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy the arrays of `state` into the parameters and buffers, in place, each in the dtype that it has here.

        Raises ValueError that names every entry that is missing, unexpected, of a wrong shape, or of a kind that this
        dtype does not hold (complex or text for real, real for whole numbers); then nothing was changed.
        strict=False lets entries be missing or unexpected, but never wrong.
        """
        own = dict(self._named_state())
        given = {name: _on_host(value) for name, value in state.items()}
        problems = [f"missing {name} {own[name].shape}" for name in own if strict and name not in given]
        problems += [f"unexpected {name} {given[name].shape}" for name in given if strict and name not in own]
        pairs = [(name, own[name], given[name]) for name in own if name in given]
        for name, value, array in pairs:
            if array.shape != value.shape:
                problems.append(f"{name} is {array.shape}, the module has {value.shape}")
            elif not np.can_cast(array.dtype, value.dtype, "same_kind"):
                problems.append(f"{name} is {array.dtype}, the module has {value.dtype}")
        if problems:
            raise ValueError(f"load_state_dict of {type(self).__name__}: " + "; ".join(problems))
        for _, value, array in pairs:
            value.data[...] = value.backend.from_host(array.astype(value.dtype))
            value.written()

    # ------------------------------------------------------------------ how it looks

    def extra_repr(self) -> str:
        """What a layer tells of itself within the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ("\n" + "\n".join(lines) + "\n)" if lines else ")")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _once(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each object under its first name: a module or parameter used in two places is one."""
    seen: set[int] = set()
    for name, value in named:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _on_host(value: Any) -> np.ndarray:
    """A tensor, an array of any backend or a nested list, as a NumPy array."""
    if isinstance(value, Tensor):
        return value.numpy()
    return of(value).to_host(value) if isinstance(value, tuple(array_types)) else np.asarray(value)


class Sequential(Module):
    """Modules applied one after the other.

    net[i] is a module, net[i:j] a Sequential of the same modules under the names that they have here.
    """

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for index, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: expected modules, argument {index} is of type {type(module).__name__}; "
                    "unpack a list with *"
                )
            setattr(self, str(index), module)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self._children())

    def __len__(self) -> int:
        return len(list(self._children()))

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Module:
        children = list(self._children())
        if isinstance(index, slice):
            part = Sequential()
            for name, module in children[index]:
                setattr(part, name, module)
            return part
        if not -len(children) <= index < len(children):
            raise IndexError(f"Sequential: index {index} is out of range for {len(children)} modules")
        return children[index][1]
