"""The pytest plugin of tinygen, for its own suite and for any suite that tests a plugin.

    --backend numpy,strict    the backends that tests with the fixture `backend` run on
    --slow                    run the tests marked slow, too
    --equations               print the ledger of verified equations and write it into the plugin's package;
                              an equation that no property test verifies fails the run

pytest loads this file wherever tinygen is installed: it imports nothing of tinygen until a test needs it, and lets a
suite alone that does not use tinygen. An option that another plugin has already stays that plugin's. A conftest.py
comes too late for that, as pytest finds it by the command line: a suite whose own conftest.py adds one of these
options, and is told by pytest that there is one, writes `-p no:tinygen` into its addopts.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tinygen.backend import Backend
    from tinygen.testing.ledger import Verification

VERIFIES = "__tinygen_verifies__"  # tinygen.host.equation.VERIFIES: the ids that @verifies leaves on a test
PROPERTY = "tinygen_verification"  # the name under which a report carries what a test has verified


def pytest_addoption(parser: pytest.Parser) -> None:
    options: dict[str, dict[str, Any]] = {
        "--backend": {
            "metavar": "NAMES",
            "help": "backends for tests with the fixture `backend`: some of numpy,strict,cupy; "
            "default: numpy,strict, and cupy where there is a device",
        },
        "--slow": {"action": "store_true", "help": "run the tests marked slow, too"},
        "--equations": {"action": "store_true", "help": "print and write the ledger of verified equations"},
        "--equations-collect": {"metavar": "FILE", "help": argparse.SUPPRESS},  # for tinygen.testing.ledger
    }
    group = parser.getgroup("tinygen")
    for name, settings in options.items():
        if _is_free(parser, name):
            group.addoption(name, dest=_dest(name), **settings)


def _is_free(parser: pytest.Parser, option: str) -> bool:
    """Whether no other plugin has this option: then the parser hands it back."""
    try:
        return option in parser.parse_known_and_unknown_args([option])[1]
    except pytest.UsageError:  # it is known, and expects a value
        return False


def _dest(option: str) -> str:
    """Where the value of an option of ours is kept, apart from that of another plugin's option of the same name."""
    return "tinygen_" + option.removeprefix("--").replace("-", "_")


def _said(config: pytest.Config, option: str) -> Any:
    """What was said for an option of ours; None where another plugin has it."""
    return config.getoption(_dest(option), None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with --slow")
    if _said(config, "--backend"):
        _require_backends(config)
    if _said(config, "--equations") and not config.option.collectonly and not hasattr(config, "workerinput"):
        config.pluginmanager.register(LedgerKeeper(config.rootpath), "tinygen-ledger")


# ---------------------------------------------------------------- backends


@pytest.fixture
def backend(tinygen_backend_name: str) -> Iterator[Backend]:
    """The backend in use for the length of the test; the test runs once on each of `--backend`."""
    from tinygen import backend as library

    with library.using(tinygen_backend_name) as chosen:
        yield chosen


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # The name of the argument is ours alone, so that another suite's fixture called `backend` is left as it is.
    if "tinygen_backend_name" in metafunc.fixturenames:
        metafunc.parametrize("tinygen_backend_name", _backend_names(metafunc.config))


def _backend_names(config: pytest.Config) -> list[str]:
    chosen = _said(config, "--backend")
    if chosen:
        return chosen.split(",")
    return ["numpy", "strict", *(["cupy"] if _cupy_available() else [])]


@functools.cache
def _cupy_available() -> bool:
    from tinygen.backend import cupy_available

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns as it looks for a CUDA that is not there
        return cupy_available()


def _require_backends(config: pytest.Config) -> None:
    from tinygen import backend as library
    from tinygen.errors import BackendError

    for name in _backend_names(config):
        try:
            library.get(name)
        except BackendError as error:
            raise pytest.UsageError(f"--backend: {error}") from error


# ---------------------------------------------------------------- slow tests


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "tinygen" not in sys.modules or _said(config, "--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


# ---------------------------------------------------------------- what a test verifies


def _equations(item: pytest.Item) -> tuple[str, ...]:
    """The ids of the equations that a test verifies; none for a slow test, see tinygen.testing.ledger."""
    test = getattr(item, "obj", None)
    if not isinstance(item, pytest.Function) or item.get_closest_marker("slow"):
        return ()
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", None)  # where @verifies stands below @given
    found = {*getattr(test, VERIFIES, ()), *getattr(inner, VERIFIES, ())}
    # An equation that the test file itself declares is an example of one, and no plugin's.
    return tuple(sorted(identity for identity in found if identity.partition(":")[0] != item.module.__name__))


def _test_id(item: pytest.Function) -> str:
    """The id without parameters: one test, on all backends."""
    assert item.parent is not None
    return f"{item.parent.nodeid}::{item.originalname}"


def _is_property(item: pytest.Function) -> bool:
    return getattr(item.obj, "is_hypothesis_test", False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """With --equations, let the report of a verifying test carry what it has verified, as xdist does too."""
    if not _said(item.config, "--equations") or not (identities := _equations(item)):
        return (yield)
    from tinygen.backend import current
    from tinygen.testing import ledger

    assert isinstance(item, pytest.Function)
    ledger.take()
    with _counted_examples(item) as passed:
        try:
            return (yield)
        finally:
            verification = {
                "test": _test_id(item),
                "equations": identities,
                "by_property": _is_property(item),
                "examples": passed[0] if _is_property(item) else 1,
                "largest_error": ledger.take(),
                "backend": current().name,
            }
            item.user_properties.append((PROPERTY, verification))


@contextmanager
def _counted_examples(item: pytest.Function) -> Iterator[list[int]]:
    """Count the examples of a hypothesis test that pass. The test is put back as it was: it runs again elsewhere."""
    passed = [0]
    if not _is_property(item):
        yield passed
        return
    handle: Any = item.obj.hypothesis
    inner_test = handle.inner_test

    @functools.wraps(inner_test)
    def counting(*args: Any, **kwargs: Any) -> Any:
        result = inner_test(*args, **kwargs)
        passed[0] += 1
        return result

    handle.inner_test = counting
    try:
        yield passed
    finally:
        handle.inner_test = inner_test


def pytest_collection_finish(session: pytest.Session) -> None:
    file = _said(session.config, "--equations-collect")
    if not file:
        return
    rows = {
        _test_id(item): {"test": _test_id(item), "equations": identities, "by_property": _is_property(item)}
        for item in session.items
        if (identities := _equations(item)) and isinstance(item, pytest.Function)
    }
    Path(file).write_text(json.dumps(list(rows.values())), encoding="utf-8")


# ---------------------------------------------------------------- the ledger


class LedgerKeeper:
    """Gathers what the reports tell (those of xdist's workers too), judges it, prints and writes the ledger."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verifications: list[Verification] = []
        self._findings: list[str] = []
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        from tinygen.testing.ledger import Verification

        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, dict):
                if report.passed:
                    self._verifications.append(Verification(**{**value, "equations": tuple(value["equations"])}))
                else:
                    self._findings.append(f"{value['test']} on {value['backend']} did not pass")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._findings.append("the run did not come to its end")
        for package in self._packages():
            try:
                self._judge(package)
            except Exception as error:  # a module of the plugin that cannot be imported
                self._findings.append(f"{package} cannot be read: {type(error).__name__}: {error}")
        if self._findings:
            session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED

    def _packages(self) -> list[str]:
        """The packages to judge: those with a verified equation, and the plugins that the suite's root holds."""
        from tinygen.host.providers import FIRST_PARTY, GROUP
        from tinygen.testing.ledger import package_of

        verified = {package_of(identity) for each in self._verifications for identity in each.equations}
        plugins = {FIRST_PARTY, *(point.module.partition(".")[0] for point in entry_points(group=GROUP))}
        return sorted(verified | {name for name in plugins if self._is_ours(name)})

    def _is_ours(self, package: str) -> bool:
        """True for a package whose source lies in the suite's root, and not in an environment installed there."""
        from tinygen.host.providers import module_root

        place = Path(module_root(package))
        return place.is_relative_to(self._root) and "site-packages" not in place.parts

    def _judge(self, package: str) -> None:
        from tinygen.testing import ledger

        document = ledger.build(package, self._verifications)
        missing = ledger.unverified(package, self._verifications)
        self._findings += [f"{identity}: no property test verifies it" for identity in missing]
        self._lines += _table(document)
        if self._findings:
            self._lines.append(f"the ledger of {package} is left as it was")
        else:
            self._lines.append(f"written: {ledger.write(package, document)}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("equations")
        for line in self._lines:
            terminalreporter.write_line(line)
        for finding in self._findings:
            terminalreporter.write_line(f"NOT VERIFIED  {finding}", red=True)


def _table(document: dict[str, Any]) -> list[str]:
    """A line an equation: name, source, tests, examples tried, largest error, backends."""
    rows = [("equation", "source", "tests", "examples", "largest error", "backends")]
    for identity, entry in document["equations"].items():
        tests = entry["tests"].values()
        errors = [test["largest_error"] for test in tests if test["largest_error"] is not None]
        rows.append(
            (
                identity,
                shorten(entry["source"], 60, placeholder=" …"),
                str(len(tests)),
                str(sum(test["examples"] for test in tests)),
                f"{max(errors):.1e}" if errors else "-",
                ",".join(sorted({name for test in tests for name in test["backends"]})) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
