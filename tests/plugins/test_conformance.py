"""What the host asks of every first-party algorithm: a new one is tested here as soon as its spec is there.

What is asked are the checks of `tinygen check`, see docs/checks.md. An algorithm that would take long in its full size
says in its spec what is small: `checks=Checks(small={…})`.
"""

import functools

import pytest

from tinygen.host import Registry
from tinygen.testing.conformance import CHECKS, GROUPS, Subject
from tinygen.testing.conformance.suite import ask

REGISTRY = Registry.discover(disabled=["_"])
OURS = {row.name: REGISTRY.algorithm(row.name) for row in REGISTRY.rows if row.status == "ok"}
# The suite itself runs the tests of the equations, and holds the ledger against them.
ELSEWHERE = ("mathematics.tests", "mathematics.verified")


@functools.cache
def subject(name):
    return Subject(REGISTRY, name)


def findings(name, checks):
    """What these checks find in an algorithm, a line each."""
    results = [ask(subject(name), each) for each in checks if each.concerns(OURS[name]) and each.id not in ELSEWHERE]
    return [f"{each.check.id}: {each.message}" for each in results if each.status in ("failed", "skipped")]


@pytest.fixture(autouse=True)
def _on_each_backend():
    """In the place of the folder's: some checks go to the backends by themselves."""


@pytest.mark.parametrize("name", sorted(OURS))
def test_it_does_what_it_promises_on_each_backend(backend, name):
    assert not findings(name, [each for each in CHECKS.values() if each.each_backend])


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", sorted(OURS))
def test_nothing_is_found(name, group):
    assert not findings(name, [each for each in CHECKS.values() if each.group == group])
