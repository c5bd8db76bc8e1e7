"""The ledger: which test verifies which equation, over how many examples, with what largest error.

`pytest --equations` runs the tests and writes the ledger into the plugin's package, where `tinygen show` reads it:

    {"equations": {"package.module:function": {
        "name": …, "latex": …, "source": …,
        "tests": {"tests/test_x.py::test_y": {"examples": 200, "largest_error": 1.2e-07, "backends": ["numpy"]}}}}}

A suite that holds its ledger up to date has one more test: `assert not stale("my_package", ["tests"])`.
Tests marked slow stay out of the ledger: what verifies an equation runs with every suite.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tinygen.host.equation import Equation, equations_in, ledger_path

_largest_error: float | None = None


def observe(error: float) -> None:
    """Tell the ledger of an error that the running test has measured and found small enough."""
    global _largest_error
    _largest_error = float(error) if _largest_error is None else max(_largest_error, float(error))


def take() -> float | None:
    """The largest error observed since the last call, None where there was none."""
    global _largest_error
    largest, _largest_error = _largest_error, None
    return largest


# ---------------------------------------------------------------- the document


@dataclass(frozen=True, slots=True)
class Verification:
    """One run of one test that verifies equations."""

    test: str  # "tests/plugins/adversarial/test_gan.py::test_x", without parameters
    equations: tuple[str, ...]  # ids
    by_property: bool  # a hypothesis test
    examples: int = 0  # that passed
    largest_error: float | None = None
    backend: str = ""


def equations_of(package: str) -> dict[str, Equation]:
    """Every equation that a package (or single module) declares, by id. Imports all of its modules."""
    top = importlib.import_module(package)
    found = pkgutil.walk_packages(getattr(top, "__path__", ()), f"{package}.")
    names = [package, *(info.name for info in found if not info.name.endswith("__main__"))]
    equations = (equation for name in names for equation in equations_in(importlib.import_module(name)))
    return {equation.id: equation for equation in equations if package_of(equation.id) == package}


def package_of(identity: str) -> str:
    """The top-level package of an equation's id."""
    return identity.partition(":")[0].partition(".")[0]


def build(package: str, verifications: Iterable[Verification]) -> dict[str, Any]:
    """The ledger of a package: all of its equations, each with the tests that verify it, in the order of their ids."""
    verifications = list(verifications)
    return {
        "equations": {
            identity: {
                "name": equation.name,
                "latex": equation.latex,
                "source": equation.source,
                "tests": _tests_of([each for each in verifications if identity in each.equations]),
            }
            for identity, equation in sorted(equations_of(package).items())
        }
    }


def _tests_of(runs: list[Verification]) -> dict[str, Any]:
    return {test: _summary([run for run in runs if run.test == test]) for test in sorted({run.test for run in runs})}


def _summary(runs: list[Verification]) -> dict[str, Any]:
    errors = [run.largest_error for run in runs if run.largest_error is not None]
    return {
        "examples": sum(run.examples for run in runs),
        "largest_error": float(f"{max(errors):.1e}") if errors else None,
        "backends": sorted({run.backend for run in runs}),
    }


def unverified(package: str, verifications: Iterable[Verification]) -> list[str]:
    """The ids of the equations of a package that no property test verifies."""
    verified = {identity for each in verifications if each.by_property for identity in each.equations}
    return sorted(set(equations_of(package)) - verified)


def write(package: str, document: dict[str, Any]) -> Path:
    """Write a package's ledger, whole or not at all. Returns its path."""
    path = ledger_path(importlib.import_module(package))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


# ---------------------------------------------------------------- is it up to date?


def stale(package: str, tests: Sequence[str], root: str | Path = ".") -> list[str]:
    """In what the shipped ledger of a package differs from its equations and from the tests that verify them.

    package: the top-level package. tests: files or folders as pytest takes them, from the suite's folder `root`.
    Returns one line a difference; the empty list means that the ledger is true. Examples and errors may differ.
    """
    return differences(package, collect(tests, root))


def differences(package: str, verifications: Sequence[Verification]) -> list[str]:
    """As `stale`, for tests that were collected already."""
    path = ledger_path(importlib.import_module(package))
    if not path.is_file():
        return [f"{path} is missing: write it with pytest --equations"]
    shipped = json.loads(path.read_text(encoding="utf-8"))["equations"]
    actual = build(package, verifications)["equations"]
    lines = [f"{identity}: no property test verifies it" for identity in unverified(package, verifications)]
    lines += [f"{identity}: it is not in the ledger" for identity in sorted(actual.keys() - shipped.keys())]
    lines += [f"{identity}: it is in the ledger alone" for identity in sorted(shipped.keys() - actual.keys())]
    for identity in sorted(shipped.keys() & actual.keys()):
        before, now = _claims(shipped[identity]), _claims(actual[identity])
        lines += [
            f"{identity}: {claim}: {before[claim]!r} → {now[claim]!r}" for claim in now if before[claim] != now[claim]
        ]
    return lines


def _claims(entry: dict[str, Any]) -> dict[str, Any]:
    """What of an equation must not differ."""
    return {"latex": entry["latex"], "source": entry["source"], "tests": sorted(entry["tests"])}


def collect(tests: Sequence[str], root: str | Path = ".") -> list[Verification]:
    """The tests below `tests` that verify equations, as pytest finds them in a process of its own (none is run)."""
    installed = entry_points(group="pytest11", name="tinygen")
    plugin = [] if installed else ["-p", "_tinygen_pytest"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "collected.json")
        options = ["--collect-only", "-q", "-p", "no:cacheprovider", *plugin, "--backend", "numpy"]
        command = [sys.executable, "-m", "pytest", *options, "--equations-collect", str(file), *tests]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if not file.is_file() or done.returncode:
            raise RuntimeError(f"pytest could not collect {' '.join(tests)}:\n{done.stdout}{done.stderr}")
        rows = json.loads(file.read_text(encoding="utf-8"))
    return [Verification(row["test"], tuple(row["equations"]), row["by_property"]) for row in rows]
