"""Where plugins come from, and whose fault an error is.

A Provider is a place that may hold a plugin: it has a name and can be loaded. Finding providers imports none of them,
so that a disabled plugin is never run. Read `find_providers` first: it lists the places in their order.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from traceback import walk_tb
from types import ModuleType

from tinygen.errors import PluginError, TinygenError, UsageError

FIRST_PARTY = "tinygen_plugins"  # the package whose modules are plugin families
GROUP = "tinygen"  # the entry-point group of installed third-party plugins
FOLDERS_VARIABLE = "TINYGEN_PLUGINS_DIR"  # folders, separated as in PATH
LONGEST_REASON = 300  # characters of an error's message that fit on "one line"


@dataclass(frozen=True, slots=True)
class Provider:
    """A place that may hold a plugin."""

    name: str  # "procedural", an entry point's name, a file's stem; unique after `find_providers`
    identity: str  # the module's name or the file's path: the same plugin found twice is one provider
    root: str  # the file or folder that holds its code; "" where that is not known
    load: Callable[[], object]
    stem: str = ""  # the name by which a file's own specs may refer to it: "my_plugin:Model"


def find_providers(plugins: Sequence[str] = (), folders: Sequence[str] = ()) -> list[Provider]:
    """Every provider in the order in which names are given away: the first to bring a name keeps it.

    The core, the first-party families, installed entry points, `plugins` (files, package folders or dotted modules),
    `folders`, and the folders in $TINYGEN_PLUGINS_DIR. Of two providers with one name the later gets "-2".
    Raises UsageError for a path in `plugins` or `folders` that is not there.
    """
    found = itertools.chain(
        [_module_provider("core", "tinygen.host.builtin")],
        _first_party(),
        _entry_points(),
        map(_named_plugin, plugins),
        *map(_in_folder, folders),
        *map(_in_folder_of_environment, filter(None, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep))),
    )
    unique: dict[str, Provider] = {}
    names: set[str] = set()
    for provider in found:
        if provider.identity not in unique:
            name = _free_name(provider.name, "-", names.__contains__)
            names.add(name)
            unique[provider.identity] = replace(provider, name=name)
    return list(unique.values())


# ---------------------------------------------------------------- the places


def _module_provider(name: str, module: str) -> Provider:
    return Provider(name, module, module_root(module), lambda: importlib.import_module(module))


def _first_party() -> Iterator[Provider]:
    spec = importlib.util.find_spec(FIRST_PARTY)
    if spec is not None and spec.submodule_search_locations:
        for info in pkgutil.iter_modules(spec.submodule_search_locations):
            if not info.name.startswith("_"):
                yield _module_provider(info.name, f"{FIRST_PARTY}.{info.name}")


def _entry_points() -> Iterator[Provider]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        yield Provider(point.name, point.value, module_root(point.module), point.load)


def _named_plugin(text: str) -> Provider:
    """What `-p` names: a file, a package folder or a dotted module."""
    path = Path(text).expanduser()
    if _is_plugin_path(path):
        return _path_provider(path)
    if path.exists():
        raise UsageError(f"-p {text}: expected a .py file or a folder with __init__.py", "name the plugin's own file")
    if path.suffix == ".py" or os.sep in text or not module_root(text):
        raise UsageError(f"-p {text}: no such file or module", "name a file with its .py, a module as it is imported")
    return _module_provider(text, text)


def _in_folder(text: str) -> Iterator[Provider]:
    """Each plugin in a folder: files and packages whose names begin with neither _ nor a dot."""
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise UsageError(f"--plugins-dir {text}: no such folder", "check the path")
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(("_", ".")) and _is_plugin_path(path):
            yield _path_provider(path)


def _in_folder_of_environment(text: str) -> Iterator[Provider]:
    """As `_in_folder`; a folder that is not there must not stop every command, and becomes a broken plugin."""
    try:
        yield from _in_folder(text)
    except UsageError:

        def load() -> object:
            raise PluginError(f"{FOLDERS_VARIABLE} names {text}: no such folder", f"mend or unset {FOLDERS_VARIABLE}")

        yield Provider(Path(text).name, text, "", load)


def _is_plugin_path(path: Path) -> bool:
    return (path.suffix == ".py" and path.is_file()) or (path / "__init__.py").is_file()


def _path_provider(path: Path) -> Provider:
    path = path.resolve()
    return Provider(path.stem, str(path), str(path), lambda: _load_path(path), path.stem)


# ---------------------------------------------------------------- loading a file


def _load_path(path: Path) -> ModuleType:
    """Import a file or a package folder as `tinygen_plugin_<stem>`, a name that shadows no other module."""
    file = path / "__init__.py" if path.is_dir() else path

    def is_another(name: str) -> bool:
        return name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file)

    name = _free_name("tinygen_plugin_" + re.sub(r"\W", "_", path.stem), "_", is_another)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, f"{file} has the suffix of a Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[loaded]
        raise
    return module


def _free_name(name: str, joint: str, is_taken: Callable[[str], bool]) -> str:
    """`name`, or the first of name-2, name-3, … that is not taken."""
    candidates = itertools.chain([name], (f"{name}{joint}{i}" for i in itertools.count(2)))
    return next(candidate for candidate in candidates if not is_taken(candidate))


# ---------------------------------------------------------------- whose fault


def module_root(module: str) -> str:
    """The file or folder of a module's top-level package, found without importing it; "" where there is none."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    if spec is None:
        return ""
    return next(iter(spec.submodule_search_locations or ()), spec.origin or "")


def location(error: BaseException, roots: Iterable[str] | None = None) -> str:
    """`file:line` of the innermost place of an error that lies in one of `roots`; "" where none does.

    Without `roots`, the innermost place of all. A syntax error's place is where the syntax is wrong.
    """
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 1))
    if roots is not None:
        prefixes = tuple(root for root in roots if root)
        places = [place for place in places if _is_below(place[0], prefixes)]
    return "{}:{}".format(*places[-1]) if places else ""


def _is_below(file: str, roots: Iterable[str]) -> bool:
    return any(file == root or file.startswith(root + os.sep) for root in roots)


def describe(error: BaseException, where: str) -> str:
    """One line: `TypeName: message (file:line)`; an error of tinygen's own stands without its type."""
    if isinstance(error, TinygenError):
        text = error.message
    elif isinstance(error, SyntaxError):  # its str() would repeat the place
        text = f"{type(error).__name__}: {error.msg}"
    else:
        text = f"{type(error).__name__}: {error}"
    line = shorten(text, width=LONGEST_REASON, placeholder=" …").removesuffix(":")
    return f"{line} ({where})" if where else line
