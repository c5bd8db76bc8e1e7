"""Tests of the host do not reach each other; `suite` is a suite of its own."""

import sys

import pytest

from tests.host.suites import EQUATIONS


@pytest.fixture(autouse=True)
def _apart(monkeypatch):
    """Environment variables and plugins' modules of one test do not reach the next."""
    monkeypatch.delenv("TINYGEN_PLUGINS_DIR", raising=False)
    monkeypatch.delenv("TINYGEN_DISABLE", raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("tinygen_plugin_", "toy_", "found_")):
            del sys.modules[name]


@pytest.fixture
def suite(pytester, monkeypatch):
    """An empty folder for a suite of its own, with equations to verify."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=":")  # for the processes of xdist
    monkeypatch.syspath_prepend(pytester.path)
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(toy_equations=EQUATIONS)
    return pytester
