"""What kind of thing a value is, as the walk of `state` sees it, and what a value that is not walked may hold.

Functions, classes and frozen dataclasses are constants: a checkpoint leaves them out, as the code makes them
anew. That is right only while nothing that they hold can change, which `mutable_in` looks after: a bound method, a
closure, a `functools.partial` or a frozen dataclass may hide an array or a list.
"""

from __future__ import annotations

import dataclasses
import dis
import enum
import functools
import types
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from tinygen import backend
from tinygen.backend import Backend
from tinygen.nn import Module

_METHODS = (types.MethodType, types.BuiltinFunctionType)
_ATOMS = (type, types.ModuleType, np.dtype, np.ufunc, Backend)  # constants that hold nothing
_CONSTANT = (*_ATOMS, *_METHODS, types.FunctionType, functools.partial)
_PLAIN_VALUES = (types.NoneType, bool, int, float, complex, str, bytes, range, enum.Enum, np.generic, PurePath)


def is_constant(value: Any) -> bool:
    """True for what is part of the code: functions, classes, modules, frozen dataclasses."""
    return isinstance(value, _CONSTANT) or _is_frozen(value)


def is_array(value: Any) -> bool:
    return isinstance(value, tuple(backend.array_types))


def has_state(value: Any) -> bool:
    """True for what saves itself. A Module is walked instead: its layers may hold streams, which are no parameters."""
    return hasattr(value, "load_state_dict") and not isinstance(value, Module)


class _Plain:
    """An object of this class has its attributes and nothing else."""


def is_plain_object(value: Any) -> bool:
    """True where the attributes are all there is.

    A deque, an open file or a generator of random numbers keeps something that its attributes do not show; instances
    of such classes are larger than those of a class that is written in Python alone. So do __slots__. The attributes
    of a frozen dataclass cannot be given back.
    """
    kind = type(value)
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    larger = kind.__basicsize__ != _Plain.__basicsize__
    return hasattr(value, "__dict__") and not (slots or larger or _is_frozen(value))


def _is_frozen(value: Any) -> bool:
    settings = getattr(value, "__dataclass_params__", None)
    return settings is not None and settings.frozen and not isinstance(value, type)


# ---------------------------------------------------------------- what a constant holds


def mutable_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What may change within a constant, each with the way to it: (".vertices", array). Nothing for most constants."""
    seen: dict[int, Any] = {}

    def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if id(value) in seen or isinstance(value, (*_ATOMS, *_PLAIN_VALUES)):
            return
        seen[id(value)] = value  # a function may hold itself
        held = _held(value)
        if held is None:
            yield name, value
            return
        for below, item in held:
            yield from walk(f"{name}{below}", item)

    return walk(name, value)


def _held(value: Any) -> list[tuple[str, Any]] | None:
    """What a value holds that cannot change itself, with the way to each; None for a value that can."""
    if _is_frozen(value):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, _METHODS):
        return [(".__self__", value.__self__)]
    if isinstance(value, types.FunctionType):
        return _held_by_function(value)
    if isinstance(value, functools.partial):
        named = [(f"({key}=)", item) for key, item in value.keywords.items()]
        return [(".func", value.func), *((f"({place})", item) for place, item in enumerate(value.args)), *named]
    if isinstance(value, (tuple, frozenset)):
        return [(f"[{place}]", item) for place, item in enumerate(value)]
    return None


def _held_by_function(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Its closure's variables (one that it rebinds, as the cell), its defaults and its attributes."""
    rebound = {step.argval for step in dis.get_instructions(function) if step.opname in ("STORE_DEREF", "DELETE_DEREF")}
    held: list[tuple[str, Any]] = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        if name in rebound:
            held.append((f", variable {name}", cell))
        elif cell != types.CellType():  # an empty cell: the variable has no value yet
            held.append((f", variable {name}", cell.cell_contents))
    named = {**(function.__kwdefaults__ or {}), **vars(function)}
    held += [(f", default {place}", item) for place, item in enumerate(function.__defaults__ or ())]
    return held + [(f", {name}", item) for name, item in named.items()]
