"""What a checkpoint holds of an algorithm, found by walking the object; nobody writes save code in a plugin.

`capture` walks the attributes and gives arrays by name beside a table, fit for JSON, that says what stands under each
name. `restore` walks a freshly built algorithm along that table and puts everything back. Names read as in Python:
`generator.0.weight`, `history[3]`, `table['a']`.

    value                                   kept as
    None, bool, int, float, str             itself, in the table
    array, NumPy scalar, Tensor             an array, and in the table which of the three
    member of an Enum                       its name
    optimizer, Stream                       the entries of its `state_dict()`
    list, tuple, dict                       its length or its keys; the items under names of their own
    Module, any other object                the names of its attributes; the attributes under names of their own
    something met before                    the name under which it was met
    functions, classes, frozen dataclasses  nothing: they are constants, see `kinds`

Tensors, modules, optimizers, lists, dicts and objects are filled in place, so that an optimizer goes on to hold the
parameters that it was built with. Arrays keep the order of their axes in memory: sums depend on it in the last bit.
A tensor's `grad` is not kept: what an update needs is worked out before its `yield`.

Two things that are one come back as one. What would not come back is refused: a constant that holds what can change,
unless that is kept under a name of its own, and two arrays that share a part of their memory.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Backend
from tinygen.errors import CheckpointError, PluginError, TinygenError
from tinygen.run.kinds import has_state, is_array, is_constant, is_plain_object, mutable_in

Arrays = dict[str, np.ndarray]
Table = dict[str, Any]

# What the table says of a value that it does not hold itself, by kind: the fields and their types.
_ENTRIES: dict[str, dict[str, type]] = {
    "same": {"as": str}, "constant": {}, "tensor": {"requires_grad": bool}, "array": {"on_host": bool}, "number": {},
    "member": {"name": str}, "state": {"keys": list}, "list": {"length": int}, "tuple": {"length": int},
    "dict": {"keys": list}, "object": {"attributes": list},
}  # fmt: skip
_NUMBER_KINDS = "biuf"  # bool, whole numbers, floating point: what a safetensors file holds


def capture(algorithm: Any) -> tuple[Arrays, Table]:
    """Everything that training changes in `algorithm`: arrays on the host, by name, and the table of the rest.

    The arrays may share memory with the algorithm: write or copy them before it goes on.
    Raises PluginError, with the attribute's name and type, for a value that cannot be kept.
    """
    walk = _Capture()
    walk.put("", algorithm)
    walk.require_nothing_hidden()
    walk.require_own_memory()
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


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object that are kept."""
    return {name: item for name, item in vars(value).items() if not is_constant(item)}


def _below(path: str, attribute: str) -> str:
    return f"{path}.{attribute}" if path else attribute


# ---------------------------------------------------------------- the walk that saves


class _Capture:
    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.table: Table = {}
        # By id, with the name; the object stands beside its name so that it stays alive.
        self._met: dict[int, tuple[str, Any]] = {}
        self._memory: dict[int, tuple[str, Any]] = {}  # arrays, those of tensors too
        self._hidden: list[tuple[str, Any, str, Any]] = []  # a constant, and what it holds that can change

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
        elif is_array(value):
            on_host = isinstance(value, np.ndarray) and backend.current().name != "numpy"
            self._put_array(path, value, {"kind": "array", "on_host": on_host})
        elif isinstance(value, enum.Enum) and value.name in type(value).__members__:
            self.table[path] = {"kind": "member", "name": value.name}
        elif has_state(value):
            self._put_state(path, value)
        elif type(value) in (list, tuple):
            self.table[path] = {"kind": type(value).__name__, "length": len(value)}
            for index, item in enumerate(value):
                self._put_item(f"{path}[{index}]", item)
        elif type(value) is dict:
            self._put_dict(path, value)
        elif is_plain_object(value):
            kept = _attributes(value)
            self.table[path] = {"kind": "object", "attributes": list(kept)}
            for name, item in vars(value).items():
                if name in kept:
                    self.put(_below(path, name), item)
                else:
                    self._look_into(_below(path, name), item)
        else:
            _refuse(path, value)

    def _put_array(self, path: str, array: Any, entry: dict[str, Any]) -> None:
        self.table[path] = entry
        if id(array) in self._memory:
            entry["as"] = self._memory[id(array)][0]
            return
        self._memory[id(array)] = path, array
        host = backend.of(array).to_host(array)
        if host.dtype.kind not in _NUMBER_KINDS or host.dtype.itemsize > 8:
            _refuse(path, host)
        axes = backend.memory_order(host)
        longer = [axis for axis in axes if host.shape[axis] != 1]  # the others lie anywhere
        if not host.flags.c_contiguous and longer != sorted(longer):
            entry["axes"], host = axes, host.transpose(axes)
        self.arrays[path] = np.asarray(host, order="C")

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
        if is_constant(value):
            self.table[path] = {"kind": "constant"}
            self._look_into(path, value)
        else:
            self.put(path, value)

    # ------------------------------------------------------------ what would not come back

    def _look_into(self, path: str, constant: Any) -> None:
        self._hidden += [(path, constant, name, item) for name, item in mutable_in(constant, path)]

    def require_nothing_hidden(self) -> None:
        """Raise PluginError where a constant holds what can change, unless that is filled in place elsewhere."""
        for path, constant, name, item in self._hidden:
            if id(item) not in self._met or not _is_filled_in_place(item):
                raise PluginError(
                    f"{path}: this {type(constant).__name__} holds a {type(item).__name__} ({name}), "
                    "which a checkpoint would lose",
                    "make that an attribute of the algorithm; beside state may stand plain functions, classes, enums, "
                    "and frozen dataclasses of immutable values",
                )

    def require_own_memory(self) -> None:
        """Raise PluginError where two arrays overlap: they would come back apart."""
        found = list(self._memory.values())
        for path, view in found:
            if view.flags.owndata:  # of two that overlap, one at least does not own its memory
                continue
            for other_path, other in found:
                if other is not view and _overlap(view, other):
                    raise PluginError(
                        f"{path} and {other_path} share memory, and would come back apart",
                        "make one of them a copy, or take the view where it is used",
                    )


def _overlap(a: Any, b: Any) -> bool:
    if type(a) is not type(b) or not a.size or not b.size:
        return False
    xp = backend.of(a).xp
    return bool(xp.may_share_memory(a, b)) and bool(xp.shares_memory(a, b))


def _is_filled_in_place(value: Any) -> bool:
    return isinstance(value, Tensor) or has_state(value) or type(value) in (list, dict) or is_plain_object(value)


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
        self._memory: dict[str, Any] = {}  # the arrays, those of tensors too
        self.problems: list[str] = []

    def value(self, path: str, here: Any) -> Any:
        """The value to stand under `path`: `here`, filled, where it can be filled in place, else a new one."""
        entry = self._table.get(path, _NOTHING)
        if entry is _NOTHING:
            return self._problem(path, "missing")
        if entry is None or isinstance(entry, (bool, int, float, str)):
            return entry
        if not self._is_whole(entry):
            return self._problem(path, f"kept as {entry!r:.60}, which means nothing")
        if entry["kind"] == "same":
            return self._made[entry["as"]]
        put_back = getattr(self, f"_{entry['kind']}")  # a method below for each kind that `capture` writes
        self._made[path] = value = put_back(path, entry, here)
        return value

    def _is_whole(self, entry: Any) -> bool:
        """Whether an entry says what `capture` says of a value of its kind."""
        fields = _ENTRIES.get(str(entry.get("kind"))) if isinstance(entry, dict) else None
        if fields is None or any(type(entry.get(name)) is not kind for name, kind in fields.items()):
            return False
        if not isinstance(entry.get("axes", []), list) or not isinstance(entry.get("as", ""), str):
            return False
        names = [name for field in ("keys", "attributes", "axes") for name in entry.get(field, ())]
        return (
            all(type(name) in (str, int) for name in names)
            and 0 <= entry.get("length", 0) <= len(self._table)
            and (entry["kind"] != "same" or entry["as"] in self._made)
        )

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
            if len(entry["axes"]) != array.ndim or set(entry["axes"]) != set(range(array.ndim)):
                self._problem(path, f"its axes in memory are {entry['axes']}, it has {array.ndim}")
                return array
            array = array.transpose(np.argsort(entry["axes"]))
        if isinstance(here, (Tensor, np.generic)) or is_array(here):
            if array.shape != here.shape:
                self._problem(path, f"saved with shape {array.shape}, expected {here.shape}")
            elif array.dtype != here.dtype:
                self._problem(path, f"saved as {array.dtype}, expected {here.dtype}")
        return np.array(array)  # a copy of its own, with the same order in memory

    def _tensor(self, path: str, entry: Mapping[str, Any], here: Any) -> Tensor:
        owner = here.backend if isinstance(here, Tensor) else backend.current()
        found = len(self.problems)
        array = self._device(path, entry, here, owner)
        if entry["requires_grad"] and array.dtype.kind != "f":
            self._problem(path, f"{array.dtype} that requires a gradient")
        if len(self.problems) > found:
            return here
        if not isinstance(here, Tensor) or here.node is not None:
            return Tensor(array, requires_grad=entry["requires_grad"])
        here.data = array
        return here.requires_grad_(entry["requires_grad"])

    def _array(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        return self._device(path, entry, here, backend.NUMPY if entry["on_host"] else backend.current())

    def _device(self, path: str, entry: Mapping[str, Any], here: Any, owner: Backend) -> Any:
        """The array under `path` where it belongs; the same one as before, where it was one."""
        if entry.get("as") in self._memory:
            self._memory[path] = self._memory[entry["as"]]
        else:
            self._memory[path] = owner.from_host(self._host(path, entry, here))
        return self._memory[path]

    def _number(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        return self._host(path, entry, here)[()]

    def _member(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        if not isinstance(here, enum.Enum) or entry["name"] not in type(here).__members__:
            return self._misfit(path, here, f"the member {entry['name']} of an Enum")
        return type(here)[entry["name"]]

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
        if not is_plain_object(here):
            return self._misfit(path, here, "an object")
        self._made[path] = here
        self._fill(path, here, entry["attributes"], _attributes(here))
        return here

    def _state(self, path: str, entry: Mapping[str, Any], here: Any) -> Any:
        if not has_state(here):
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
