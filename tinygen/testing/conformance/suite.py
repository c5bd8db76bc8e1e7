"""The checks as tests of a suite, and what a name or a path on the command line stands for."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinygen import backend
from tinygen.errors import PluginError, UsageError
from tinygen.host import Registry
from tinygen.host.providers import find_providers
from tinygen.testing.conformance.kit import CHECKS, Check, Result, run_check
from tinygen.testing.conformance.subject import Subject


def conformance_tests(
    name_or_path: str, options: Mapping[str, Any] | None = None, *, without: Sequence[str] = ("mathematics.tests",)
) -> Callable[..., None]:
    """A pytest test with one item for each check of each algorithm that a name or a path stands for.

    options: go over those in Checks.small. without: ids of checks to leave out; the tests that verify equations are
    part of the suite already.
    """
    import pytest

    subjects = find_subjects(name_or_path, options=options)
    items = [
        pytest.param(subject, each, id=f"{subject.spec.name}-{each.id}")
        for subject in subjects
        for each in CHECKS.values()
        if each.concerns(subject.spec) and each.id not in without
    ]

    @pytest.mark.parametrize(("subject", "each"), items)
    def test_conformance(subject: Subject, each: Check) -> None:
        require(subject, each)

    return test_conformance


def require(subject: Subject, each: Check) -> None:
    """Assert what a check asks; skip where there is nothing to ask, or where what it needs has failed."""
    import pytest

    result = ask(subject, each)
    if result.status in ("skipped", "absent"):
        pytest.skip(result.message)
    if result.status == "expected":
        pytest.xfail(result.message)
    assert result.status == "passed", f"{each.id}: {result.message}\n{each.title}.\nTo mend it: {each.mend}"


def ask(subject: Subject, each: Check) -> Result:
    """The result of a check, after those that it needs; each is asked once of a subject on a backend."""
    return _ask(subject, each.id, backend.current().name)


@functools.cache
def _ask(subject: Subject, identity: str, on: str) -> Result:
    each = CHECKS[identity]
    needed = [CHECKS[need] for need in each.needs if CHECKS[need].concerns(subject.spec)]
    return run_check(subject, each, {need.id: ask(subject, need) for need in needed})


# ---------------------------------------------------------------- what to check


def find_subjects(
    name_or_path: str, registry: Registry | None = None, options: Mapping[str, Any] | None = None
) -> list[Subject]:
    """The algorithms that a word stands for: one by its name, or all of a plugin by its name or its path.

    A path is a plugin's file, its package folder, or a project's folder whose pyproject.toml names its plugins. Any
    other folder does not stand in the way of an algorithm of its name.
    Raises PluginError for a plugin that is broken, UsageError for a word that stands for nothing.
    """
    path = Path(name_or_path).expanduser()
    registry = registry or Registry.discover()
    is_known = any(name_or_path in (row.name, row.provider) for row in registry.rows)
    if path.exists() and (path.suffix == ".py" or path.is_dir()) and (_is_plugin(path) or not is_known):
        return [subject for file in _plugins_in(path) for subject in _subjects_of_file(file, options)]
    if "/" in name_or_path or path.suffix == ".py":
        raise UsageError(f"{name_or_path}: no such file or folder", "name a plugin's file, or an algorithm")
    brought = [row for row in registry.rows if row.provider == name_or_path and row.status != "broken"]
    if brought and not any(row.name == name_or_path for row in brought):
        return [Subject(registry, f"{row.provider}:{row.name}", options) for row in brought]
    return [Subject(registry, name_or_path, options)]


def _subjects_of_file(path: Path, options: Mapping[str, Any] | None) -> list[Subject]:
    registry = Registry.discover([str(path)])
    provider = next(each.name for each in find_providers([str(path)]) if each.root == str(path.resolve()))
    rows = [row for row in registry.rows if row.provider == provider]
    for row in rows:
        if row.status == "broken":
            raise PluginError(f"plugin {row.provider} is broken: {row.reason}", row.hint)
    if not rows:
        raise PluginError(f"{path} brings no algorithm", "return an AlgorithmSpec from tinygen_algorithms()")
    return [Subject(registry, f"{row.provider}:{row.name}", options) for row in rows]


def _is_plugin(path: Path) -> bool:
    """Whether a path is a plugin's file, its package folder, or a project's folder."""
    return path.is_file() or any((path / name).is_file() for name in ("__init__.py", "pyproject.toml"))


def _plugins_in(path: Path) -> list[Path]:
    """The plugin that a path is, or those that a project's pyproject.toml names."""
    if path.is_file() or (path / "__init__.py").is_file():
        return [path]
    project = path / "pyproject.toml"
    if not project.is_file():
        raise UsageError(f"{path}: neither a plugin nor a project", "name the .py file, or the folder of the package")
    try:
        points = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]["tinygen"]
        modules = [value.partition(":")[0] for value in points.values()]
    except KeyError:
        modules = []
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{project}: cannot be read: {error}", "look for what is no TOML, or no table") from error
    found = []
    for module in modules:
        top = module.partition(".")[0]
        places = [path / top, path / "src" / top, path / f"{top}.py", path / "src" / f"{top}.py"]
        found += [place for place in places if place.exists()][:1]
    if not found:
        raise UsageError(f"{project}: names no plugin here", 'write [project.entry-points.tinygen] name = "module"')
    return found
