"""Sources of small suites that verify equations, and a function that runs them with the pytest plugin of tinygen."""

import json
from importlib.metadata import entry_points

EQUATIONS = """
from tinygen.host import equation

@equation(r"y = x^2", source="Nobody 1900, eq. 1")
def square(x):
    return x * x

@equation(r"y = 2x", source="Nobody 1900, eq. 2")
def double(x):
    return x + x
"""

VERIFYING_BOTH = """
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tinygen.host import verifies
from tinygen.testing.ledger import observe
import toy_equations as toy

quick = dict(database=None, derandomize=True, deadline=None)

@verifies(toy.square)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], **quick)
@given(x=st.integers(-9, 9))
def test_square(backend, x):
    observe(1e-7)
    observe(1e-9)
    assert toy.square(x) == abs(x) ** 2

class TestDouble:
    @settings(max_examples=10, **quick)
    @given(x=st.integers(-9, 9))
    @verifies(toy.double)
    def test_double(self, x):
        assert toy.double(x) == 2 * x

    @verifies(toy.double)
    @pytest.mark.parametrize("x", [1, 2])
    def test_double_of_some(self, x):
        assert toy.double(x) == 2 * x
"""


PLUGIN = () if entry_points(group="pytest11", name="tinygen") else ("-p", "_tinygen_pytest")


def run(suite, *arguments, backend="numpy"):
    """Run the suite as `pytest` does, in this process."""
    return suite.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", "--backend", backend, *arguments)


def ledger(suite, name="toy_equations.ledger.json"):
    path = suite.path / name
    return json.loads(path.read_text(encoding="utf-8"))["equations"] if path.exists() else None
