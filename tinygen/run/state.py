"""What a checkpoint holds of an algorithm, found by walking the object; nobody writes save code in a plugin.

`capture` walks the attributes and gives arrays by name beside a table, fit for JSON, that says what stands under each
name. `restore` walks a freshly built algorithm along that table and puts everything back. Names read as in Python:
`generator.0.weight`, `history[3]`, `table['a']`.

    value                                   kept as
    None, bool, int, float, str             itself, in the table
    array, NumPy scalar, Tensor             an array, and in the table which of the three
    optimizer, Stream                       the entries of its `state_dict()`
    list, tuple, dict                       its length or its keys; the items under names of their own
    Module, any other object                the names of its attributes; the attributes under names of their own
    something met before                    the name under which it was met
    functions, classes, frozen dataclasses  nothing: training does not change them

Tensors, modules, optimizers, lists, dicts and objects are filled in place, so that an optimizer goes on to hold the
parameters that it was built with. Arrays keep the order of their axes in memory: sums depend on it in the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from tinygen import backend
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Backend
from tinygen.errors import CheckpointError, PluginError, TinygenError
from tinygen.nn import Module

Arrays = dict[str, np.ndarray]
Table = dict[str, Any]

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, np.ufunc)
_CONSTANT = (type, types.ModuleType, np.dtype, Backend, *_FUNCTIONS)
_NUMBER_KINDS = "biuf"  # bool, whole numbers, floating point: what a safetensors file holds


def capture(algorithm: Any) -> tuple[Arrays, Table]:
    """Everything that training changes in `algorithm`: arrays on the host, by name, and the table of the rest.

    The arrays may share memory with the algorithm: write or copy them before it goes on.
    Raises PluginError, with the attribute's name and type, for a value that cannot be kept.
    """
    walk = _Capture()
    walk.put("", algorithm)
    return walk.arrays, walk.table


def restore(algorithm: Any, arrays: Mapping[str, np.ndarray], table: Mapping[str, Any]) -> None:
    """Put what `capture` gave into an algorithm built in the same way, in place.

    Raises CheckpointError naming every entry that is missing, not expected, or of another shape or dtype; the
    algorithm is then half filled and of no use.
    """
    walk = _Restore(arrays, table)
    walk.value("", algorithm)
    if walk.problems:
        raise CheckpointError(
            f"the saved state does not fit {type(algorithm).__name__}: {'; '.join(walk.problems)}",
            "use the version of the plugin and the options that the run was made with",
        )


# ---------------------------------------------------------------- what kind of thing a value is


def _is_constant(value: Any) -> bool:
    """True for what training cannot change: functions, classes, modules, frozen dataclasses of plain values."""
    if _is_frozen(value):
        return not any(_holds_state(getattr(value, field.name)) for field in dataclasses.fields(value))
    return isinstance(value, _CONSTANT)


def _is_frozen(value: Any) -> bool:
    settings = getattr(value, "__dataclass_params__", None)
    return settings is not None and settings.frozen and not isinstance(value, type)


def _holds_state(value: Any) -> bool:
    return isinstance(value, Tensor) or _is_array(value) or hasattr(value, "load_state_dict")


def _is_array(value: Any) -> bool:
    return isinstance(value, tuple(backend.array_types))


def _has_state(value: Any) -> bool:
    """True for what saves itself. A Module is walked instead: its layers may hold streams, which are no parameters."""
    return hasattr(value, "load_state_dict") and not isinstance(value, Module)


class _Plain:
    """An object of this class has its attributes and nothing else."""


def _is_plain_object(value: Any) -> bool:
    """True where the attributes are all there is.

    A deque, an open file or a generator of random numbers keeps something that its attributes do not show; instances
    of such classes are larger than those of a class that is written in Python alone. So do __slots__. The attributes
    of a frozen dataclass cannot be given back.
    """
    kind = type(value)
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    larger = kind.__basicsize__ != _Plain.__basicsize__
    return hasattr(value, "__dict__") and not (slots or larger or _is_frozen(value))


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object that are kept."""
    return {name: item for name, item in vars(value).items() if not _is_constant(item)}


def _below(path: str, attribute: str) -> str:
    return f"{path}.{attribute}" if path else attribute


# ---------------------------------------------------------------- the walk that saves


class _Capture:
    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.table: Table = {}
        self._met: dict[int, tuple[str, Any]] = {}  # by id; the object stands beside its name so that it stays alive

    def put(self, path: str, value: Any) -> None:
        """Enter `value` and all beneath it under `path`."""
        if value is None or type(value) in (bool, int, float, str):
            self.table[path] = value
        elif id(value) in self._met:
            self.table[path] = {"kind": "same", "as": self._met[id(value)][0]}
        else:
            self._met[id(value)] = path, value
            self._put_new(path, value)

    def _put_new(self, path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            leaf = value.requires_grad and value.node is None
            self._put_array(path, value.data, {"kind": "tensor", "requires_grad": leaf})
        elif isinstance(value, np.generic):
            self._put_array(path, np.asarray(value), {"kind": "number"})
        elif _is_array(value):
            on_host = isinstance(value, np.ndarray) and backend.current().name != "numpy"
            self._put_array(path, value, {"kind": "array", "on_host": on_host})
        elif _has_state(value):
            self._put_state(path, value)
        elif type(value) in (list, tuple):
            self.table[path] = {"kind": type(value).__name__, "length": len(value)}
            for index, item in enumerate(value):
                self._put_item(f"{path}[{index}]", item)
        elif type(value) is dict:
            self._put_dict(path, value)
        elif _is_plain_object(value):
            kept = _attributes(value)
            self.table[path] = {"kind": "object", "attributes": list(kept)}
            for name, item in kept.items():
                self.put(_below(path, name), item)
        else:
            _refuse(path, value)

    def _put_array(self, path: str, array: Any, entry: dict[str, Any]) -> None:
        host = backend.of(array).to_host(array)
        if host.dtype.kind not in _NUMBER_KINDS or host.dtype.itemsize > 8:
            _refuse(path, host)
        axes = sorted(range(host.ndim), key=lambda axis: -abs(host.strides[axis]))  # in memory, the slowest first
        if not host.flags.c_contiguous and axes != sorted(axes):
            entry["axes"], host = axes, host.transpose(axes)
        self.arrays[path] = np.asarray(host, order="C")
        self.table[path] = entry

    def _put_state(self, path: str, value: Any) -> None:
        state = value.state_dict()
        self.table[path] = {"kind": "state", "keys": list(state)}
        for key, item in state.items():
            self._put_item(_below(path, key), item)

    def _put_dict(self, path: str, value: dict) -> None:
        for key in value:
            if type(key) not in (str, int):
                _refuse(f"{path}[{key!r}]", key)
        self.table[path] = {"kind": "dict", "keys": list(value)}
        for key, item in value.items():
            self._put_item(f"{path}[{key!r}]", item)

    def _put_item(self, path: str, value: Any) -> None:
        """An item of a container. Unlike an attribute that does not change, it keeps its place."""
        if _is_constant(value):
            self.table[path] = {"kind": "constant"}
        else:
            self.put(path, value)


def _refuse(path: str, value: Any) -> NoReturn:
    what = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise PluginError(
        f"{path or 'the algorithm'}: a checkpoint cannot keep this {what}",
        "hold state in numbers, strings, arrays, Tensors, Modules, optimizers, Streams, or lists, tuples and dicts "
        "of these; what never changes belongs into the Config",
    )


# ---------------------------------------------------------------- the walk that puts back

_NOTHING = object()  # what stands where the fresh algorithm has nothing


class _Restore:
    def __init__(self, arrays: Mapping[str, np.ndarray], table: Mapping[str, Any]) -> None:
        self._arrays, self._table = arrays, table
        self._made: dict[str, Any] = {}  # by name, for what was met under a name before
        self.problems: list[str] = []

    def value(self, path: str, here: Any) -> Any:
        """The value to stand under `path`: `here`, filled, where it can be filled in place, else a new one."""
        entry = self._table.get(path, _NOTHING)
        if entry is _NOTHING:
            return self._problem(path, "missing")
        if not isinstance(entry, dict):
            return entry
        if entry["kind"] == "same":
            return self._made.get(entry["as"])
        put_back = getattr(self, f"_{entry['kind']}")  # a method below for each kind that `capture` writes
        self._made[path] = value = put_back(path, entry, here)
        return value

    def _problem(self, path: str, what: str) -> None:
        self.problems.append(f"{path or 'the algorithm'}: {what}")

    # ------------------------------------------------------------ arrays

    def _host(self, path: str, entry: Mapping[str, Any], here: Any) -> np.ndarray:
        """The array under `path`, its axes in memory as they were; held against the array that stands there."""
        if path not in self._arrays:
            self._problem(path, "its array is missing")
            return np.zeros(())
        array = self._arrays[path]
        if "axes" in entry:
            array = array.transpose(np.argsort(entry["axes"]))
        if isinstance(here, (Tensor, np.generic)) or _is_array(here):
            if array.shape != here.shape:
                self._problem(path, f"saved with shape {array.shape}, expected {here.shape}")
            elif array.dtype != here.dtype:
                self._problem(path, f"saved as {array.dtype}, expected {here.dtype}")
        return np.array(array)  # a copy of its own, with the same order in memory

    def _tensor(self, path: str, entry: Mapping[str, Any], here: Any) -> Tensor:
        host = self._host(path, entry, here)
        if not isinstance(here, Tensor) or here.node is not None:
            return tensor(host, requires_grad=entry["requires_grad"])
        here.data = here.backend.from_host(host)
        return here.requires_grad_(entry["requires_grad"])

    def _array(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        host = self._host(path, entry, here)
        return host if entry["on_host"] else backend.current().from_host(host)

    def _number(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        return self._host(path, entry, here)[()]

    # ------------------------------------------------------------ containers and objects

    def _list(self, path: str, entry: Mapping[str, Any], here: Any) -> list:
        items = self._made[path] = here if type(here) is list else []
        before = dict(enumerate(items))
        items.clear()  # in place, and by appending: an item may hold this very list
        for index in range(entry["length"]):
            items.append(self.value(f"{path}[{index}]", before.get(index, _NOTHING)))
        return items

    def _tuple(self, path: str, entry: Mapping[str, Any], here: Any) -> tuple:
        before = dict(enumerate(here)) if type(here) is tuple else {}
        return tuple(self.value(f"{path}[{i}]", before.get(i, _NOTHING)) for i in range(entry["length"]))

    def _dict(self, path: str, entry: Mapping[str, Any], here: Any) -> dict:
        items = self._made[path] = here if type(here) is dict else {}
        before = dict(items)
        items.clear()
        for key in entry["keys"]:
            items[key] = self.value(f"{path}[{key!r}]", before.get(key, _NOTHING))
        return items

    def _constant(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        return self._problem(path, "missing here") if here is _NOTHING else here

    def _object(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        if not _is_plain_object(here):
            return self._misfit(path, here, "an object")
        self._made[path] = here
        self._fill(path, here, entry["attributes"], _attributes(here))
        return here

    def _state(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        if not _has_state(here):
            return self._misfit(path, here, "an optimizer or Stream")
        self._made[path] = here
        fresh, found = here.state_dict(), len(self.problems)
        state = {key: self._state_item(_below(path, key), fresh.get(key, _NOTHING)) for key in entry["keys"]}
        if len(self.problems) == found:
            self._load_state(path, here, state)
        return here

    def _state_item(self, path: str, here: Any) -> Any:
        """An entry of a `state_dict`: its arrays are on the host, whatever the backend."""
        entry = self._table.get(path)
        if isinstance(entry, dict) and entry["kind"] == "array":
            return self._host(path, entry, here)
        return self.value(path, here)

    def _load_state(self, path: str, here: Any, state: Mapping[str, Any]) -> None:
        try:
            here.load_state_dict(state)
        except (TinygenError, ValueError, TypeError, LookupError) as error:
            self._problem(path, " ".join(str(error).split()))

    def _misfit(self, path: str, here: Any, saved: str) -> None:
        found = "nothing" if here is _NOTHING else f"a {type(here).__name__}"
        self._problem(path, f"saved from {saved}, here is {found}")

    def _fill(self, path: str, owner: Any, saved: list[str], fresh: Mapping[str, Any]) -> None:
        """Give the attributes of an object their saved values; both sides must have the same ones."""
        for name in saved:
            if name not in fresh:
                self._problem(_below(path, name), "not expected")
                continue
            value = self.value(_below(path, name), fresh[name])
            if value is not fresh[name]:
                setattr(owner, name, value)
        for name in fresh:
            if name not in saved:
                self._problem(_below(path, name), "missing")
