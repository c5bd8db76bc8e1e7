"""Modules that hold modules, by number or by name, and leave it to their owner how to apply them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from tinygen.nn.module import Module


class ModuleList(Module):
    """A list of modules, whose names in the state are their places: "0.weight", "1.weight", …

    Indexed, sliced, extended and cut like a list; a slice is a ModuleList that counts from 0 again.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _place(self, modules: Iterable[Module]) -> None:
        """Hold these and no others."""
        held = [_checked(type(self).__name__, str(index), module) for index, module in enumerate(modules)]
        for name, _ in list(self._children()):
            delattr(self, name)
        for index, module in enumerate(held):
            setattr(self, str(index), module)

    def _all(self) -> list[Module]:
        return [child for _, child in self._children()]

    def append(self, module: Module) -> ModuleList:
        return self.extend([module])

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        self._place([*self._all(), *modules])
        return self

    def insert(self, index: int, module: Module) -> None:
        """As list.insert: before the one that stands at `index`."""
        held = self._all()
        held.insert(index, module)
        self._place(held)

    def pop(self, index: int = -1) -> Module:
        module = self[index]
        del self[index]
        return module

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._all())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> ModuleList:
        return self.extend(other)

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    def __getitem__(self, index: int | slice) -> Module:
        held = self._all()
        if isinstance(index, slice):
            return ModuleList(held[index])
        return held[self._checked_index(index, len(held))]

    def __setitem__(self, index: int, module: Module) -> None:
        held = self._all()
        held[self._checked_index(index, len(held))] = module
        self._place(held)

    def __delitem__(self, index: int | slice) -> None:
        held = self._all()
        del held[index if isinstance(index, slice) else self._checked_index(index, len(held))]
        self._place(held)

    def _checked_index(self, index: int, count: int) -> int:
        if not -count <= index < count:
            raise IndexError(f"ModuleList: index {index} is out of range for {count} modules")
        return index


class ModuleDict(Module):
    """A dictionary of modules in the order of insertion, whose names in the state are their keys.

    modules: a mapping or pairs. ValueError for a key that is empty, holds a dot, or is an attribute of modules, such
    as "training" or "forward".
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        for key, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[key] = module

    def keys(self) -> list[str]:
        return [name for name, _ in self._children()]

    def values(self) -> list[Module]:
        return [child for _, child in self._children()]

    def items(self) -> list[tuple[str, Module]]:
        return list(self._children())

    def pop(self, key: str) -> Module:
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        for key in self.keys():
            del self[key]

    def __len__(self) -> int:
        return len(list(self._children()))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __getitem__(self, key: str) -> Module:
        if key not in self:
            raise KeyError(f"ModuleDict: no module {key!r}; there are {', '.join(self.keys()) or 'none'}")
        return vars(self)[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if not isinstance(key, str):
            raise TypeError(f"ModuleDict: expected names as keys, got {key!r}")
        if key not in self and (not key or "." in key or hasattr(self, key)):
            raise ValueError(
                f"ModuleDict: the key must be a name without dots that modules do not use themselves, got {key!r}"
            )
        setattr(self, key, _checked("ModuleDict", key, module))

    def __delitem__(self, key: str) -> None:
        self[key]  # or KeyError
        delattr(self, key)


def _checked(kind: str, name: str, module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"{kind}: expected modules, {name} is of type {type(module).__name__}")
    return module
