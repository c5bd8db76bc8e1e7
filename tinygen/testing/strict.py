"""The strict backend: NumPy in the role of a device, which refuses what CuPy refuses.

It keeps its arrays apart from the host's (a host array is no operand, and np.asarray of one of its arrays fails),
offers only the names and keywords that CuPy has, keeps results without dimensions on the device, and counts transfers
and synchronisations. A suite that passes on it meets no surprise of these kinds on a GPU.

    with backend.using("strict"), counting() as counts:
        step()
    assert counts.to_host == 0
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.backend import NUMPY, AdamRule, Backend, SGDRule, register
from tinygen.testing.cupy_names import MODULES, known

_NUMBERS = (bool, int, float, complex, np.generic)


@dataclass
class Counts:
    """How often data crossed, and how often the host waited."""

    from_host: int = 0
    to_host: int = 0
    synchronizations: int = 0


_counts = Counts()


@contextlib.contextmanager
def counting() -> Iterator[Counts]:
    """Counts from zero for the length of a with block."""
    global _counts
    before, _counts = _counts, Counts()
    try:
        yield _counts
    finally:
        _counts = before


def _waits() -> None:
    _counts.synchronizations += 1
    _counts.to_host += 1


@contextlib.contextmanager
def _own_checks_first() -> Iterator[None]:
    """Where NumPy meets an index out of range, CuPy goes on with some element: the program's own check tells of it."""
    try:
        yield
    except IndexError:
        STRICT._ask()
        raise


class StrictArray:
    """An array of the fake device."""

    __slots__ = ("_host",)
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion of a device array to a NumPy array; use backend.to_host(array)")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: StrictArray(self._host.T))

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[StrictArray]:
        return iter([StrictArray(np.asarray(row)) for row in self._host])

    def __getitem__(self, index: Any) -> StrictArray:
        with _own_checks_first():
            return _wrap(self._host[_index(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[_index(index)] = _unwrap("setitem", value)

    def __bool__(self) -> bool:
        _waits()
        return bool(self._host)

    def __int__(self) -> int:
        _waits()
        return int(self._host)

    def __float__(self) -> float:
        _waits()
        return float(self._host)

    __index__ = __int__

    def item(self) -> Any:
        _waits()
        return self._host.item()

    def tolist(self) -> Any:
        _waits()
        return self._host.tolist()

    def get(self) -> np.ndarray:
        _waits()
        return self._host.copy()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in known()["array"]:
            raise AttributeError(f"cupy.ndarray has no attribute {name}")
        if not callable(getattr(self._host, name)):
            return _wrap(getattr(self._host, name))
        parameters = known()["array"][name]

        def method(*arguments: Any, **keywords: Any) -> Any:
            if parameters is not None:
                _require_taken(name, parameters, arguments, keywords)
            with np.errstate(all="ignore"):
                return _wrap(getattr(self._host, name)(*_unwrap(name, arguments), **_unwrap(name, keywords)))

        return method

    def __repr__(self) -> str:
        return f"strict{np.array2string(self._host)}"


def _require_taken(name: str, parameters: list[str], arguments: tuple, keywords: dict[str, Any]) -> None:
    """Raise TypeError for arguments that a method of CuPy's arrays does not take, though NumPy's may."""
    unknown = [keyword for keyword in keywords if keyword not in parameters]
    if unknown:
        raise TypeError(f"cupy.ndarray.{name} takes no {unknown[0]}")
    if len(arguments) > len(parameters) and not any(each.startswith("*") for each in parameters):
        raise TypeError(f"cupy.ndarray.{name} takes {len(parameters)} arguments, got {len(arguments)}")


def _index(index: Any) -> Any:
    """An index as NumPy takes it, for reading and writing alike. CuPy moves a list to the device, which is counted."""
    items = index if isinstance(index, tuple) else (index,)
    plain = tuple(_index_item(item) for item in items)
    return plain if isinstance(index, tuple) else plain[0]


def _index_item(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        raise TypeError("index: ndarray is on the host; move it with backend.from_host")
    if isinstance(item, list):
        _counts.from_host += 1
        item = StrictArray(np.array(item, None if item else np.int32))
    if not isinstance(item, StrictArray):
        return item
    if item.dtype == bool:
        _counts.synchronizations += 1  # the device must count the true ones before a result has a shape
    return item._host


def _unwrap(name: str, value: Any) -> Any:
    """Device arrays as what they stand on; a host array among the operands is refused."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"{name}: a NumPy array among device arrays; move it with backend.from_host")
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(name, v) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(name, v) for k, v in value.items()}
    return value


def _wrap(value: Any) -> Any:
    """Arrays, and the scalars that NumPy makes of results without dimensions, as device arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(value))
    if isinstance(value, (tuple, list)):
        wrapped = [_wrap(v) for v in value]
        return type(value)(*wrapped) if hasattr(value, "_fields") else type(value)(wrapped)
    return value


def _binary(function: Callable, reflected: bool) -> Callable:
    def method(self: StrictArray, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            raise TypeError(f"{function.__name__}: a NumPy array and a device array; move it with backend.from_host")
        if not isinstance(other, (StrictArray, *_NUMBERS)):
            return NotImplemented
        theirs = other._host if isinstance(other, StrictArray) else other
        with np.errstate(all="ignore"):
            return _wrap(function(theirs, self._host) if reflected else function(self._host, theirs))

    return method


def _unary(function: Callable) -> Callable:
    return lambda self: _wrap(function(self._host))


def _in_place(function: Callable) -> Callable:
    def method(self: StrictArray, other: Any) -> StrictArray:
        with np.errstate(all="ignore"):
            self._host = function(self._host, _unwrap(function.__name__, other))
        return self

    return method


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
):
    _function = getattr(operator, _name + "_" if _name in ("and", "or") else _name)
    setattr(StrictArray, f"__{_name}__", _binary(_function, False))
    setattr(StrictArray, f"__r{_name}__", _binary(_function, True))
    setattr(StrictArray, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(StrictArray, f"__{_name}__", _binary(getattr(operator, _name), False))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(StrictArray, f"__{_name}__", _unary(getattr(operator, _name)))


class StrictModule:
    """The library `xp` of the fake device: numpy, as far as cupy has it."""

    def __init__(self, module: Any = np, prefix: str = "") -> None:
        self._module, self._prefix = module, prefix

    def __getattr__(self, name: str) -> Any:
        full = self._prefix + name
        if any(f"{module}.".startswith(f"{full}.") for module in MODULES):
            return StrictModule(getattr(self._module, name), f"{full}.")
        functions = known()["functions"]
        if full not in functions:
            raise AttributeError(f"cupy has no {full}")
        if name == "ndarray":
            return StrictArray
        value, parameters = getattr(self._module, name), functions[full]
        if not callable(value) or isinstance(value, type):
            return value

        def function(*arguments: Any, **keywords: Any) -> Any:
            unknown = [
                k for k in keywords if parameters is not None and k not in parameters and "kwargs" not in parameters
            ]
            if unknown:
                raise TypeError(f"cupy.{full} takes no keyword {unknown[0]}")
            if full == "where" and not (arguments and isinstance(arguments[0], StrictArray)):
                raise TypeError("cupy.where takes an array as its condition")
            if full in ("asarray", "array", "ascontiguousarray") and isinstance(arguments[0], (np.ndarray, np.generic)):
                _counts.from_host += 1
                arguments = (StrictArray(np.array(arguments[0])), *arguments[1:])
            with np.errstate(all="ignore"), _own_checks_first():
                result = value(*_unwrap(full, arguments), **_unwrap(full, keywords))
            if full in ("may_share_memory", "shares_memory"):
                return result  # CuPy compares addresses on the host, too
            return _wrap(np.asarray(result) if isinstance(result, bool) else result)

        return function


class StrictBackend(Backend):
    """NumPy that behaves as a GPU does towards the program."""

    name = "strict"
    xp = StrictModule()
    array_type = StrictArray

    def asarray(self, value: Any, dtype: Any = None) -> StrictArray:
        return self.xp.asarray(value, dtype=dtype)

    def from_host(self, array: np.ndarray) -> StrictArray:
        if isinstance(array, StrictArray):
            raise TypeError("from_host: this array is on the device already")
        _counts.from_host += 1
        return StrictArray(np.array(array))

    def to_host(self, array: StrictArray) -> np.ndarray:
        if not isinstance(array, StrictArray):
            raise TypeError(f"to_host: expected a device array, got {type(array).__name__}")
        self._ask()
        _waits()
        return array._host.copy()

    def synchronize(self) -> None:
        _counts.synchronizations += 1

    def scatter_add(self, target: StrictArray, index: Any, values: StrictArray) -> None:
        NUMPY.scatter_add(target._host, _index(index), values._host)

    def solve_sparse(
        self,
        rows: StrictArray,
        columns: StrictArray,
        values: StrictArray,
        right: StrictArray,
        tolerance: float = 1e-10,
    ) -> StrictArray:
        _counts.synchronizations += 1
        return _wrap(NUMPY.solve_sparse(rows._host, columns._host, values._host, right._host, tolerance))

    def erf(self, x: StrictArray) -> StrictArray:
        return _wrap(NUMPY.erf(x._host))

    def sgd_step(self, p: StrictArray, g: StrictArray, velocity: StrictArray | None, rule: SGDRule) -> None:
        NUMPY.sgd_step(p._host, g._host, velocity._host if velocity is not None else None, rule)

    def adam_step(self, p: StrictArray, g: StrictArray, m: StrictArray, v: StrictArray, rule: AdamRule) -> None:
        NUMPY.adam_step(p._host, g._host, m._host, v._host, rule)


STRICT = register(StrictBackend())
