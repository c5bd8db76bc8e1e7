"""The kit's assertions hold for what is right, name what is wrong, and do what docs/testing.md shows."""

import numpy as np
import pytest
import scipy.integrate  # noqa: F401 - pytester forgets what is imported first while it runs the guide
from hypothesis import given
from hypothesis import strategies as st

import tinygen
import tinygen.distributions
import tinygen.testing.strict
from tests.documents import blocks
from tests.host.suites import PLUGIN
from tinygen import functional as F
from tinygen.autograd import Function
from tinygen.backend import current
from tinygen.testing import GradientError, assert_gradients, assert_matches, operations
from tinygen.testing.strategies import dtypes, geometries, in_any_layout, of_shapes, one, reals, shapes

GUIDE = "docs/testing.md"


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """The fixture `backend` of the pytest plugin, without asking for it in each test."""


class Cube(Function):
    """x³ with a wrong derivative: 3 x² times `factor`, or with x² held constant."""

    saves_inputs = (0,)

    def __init__(self, factor=1.0, constant=False):
        self.factor, self.constant = factor, constant

    def forward(self, x):
        return x * x * x

    def backward(self, gy):
        (x,) = self.saved
        x = x.detach() if self.constant else x
        return gy * 3 * x * x * self.factor


X = np.array([0.5, 1.0, -2.0])


def test_right_gradients_pass():
    assert_gradients(lambda x: Cube()(x), X, order=3)
    assert_gradients(lambda x, k: x ** k.to("float64"), [0.5, 1.5], np.array([2, 3]))  # whole numbers are held fixed
    assert_gradients(F.tanh, 0.3)
    x = tinygen.tensor(X, requires_grad=True)
    assert_gradients(lambda a, b: a * b, x, x.detach())
    assert current().name == x.backend.name


def test_wrong_gradients_are_told():
    with pytest.raises(GradientError, match="derivative of order 1 by input 0"):
        assert_gradients(lambda x: Cube(0.999)(x), X)
    with pytest.raises(GradientError, match="derivative of order 2 by input 0"):
        assert_gradients(lambda x: Cube(constant=True)(x), X)
    assert_gradients(lambda x: Cube(constant=True)(x), X, order=1)
    assert_gradients(lambda x: Cube(0.999)(x), X, rtol=1e-2, order=1)
    with pytest.raises(TypeError, match="there is nothing to check"):
        assert_gradients(F.tanh, np.array([1, 2]))


def test_a_match_holds_for_all_that_a_row_promises(monkeypatch):
    rows = []
    call = operations.check
    monkeypatch.setattr("tinygen.testing.assertions.check", lambda row, x: rows.append((row, x)) or call(row, x))
    assert_matches(F.tanh, np.tanh, one(), rtol32=1e-4, order=3, empty=None)
    assert len(rows) > 5 and {type(x) for _, x in rows} == {tuple}
    row, _ = rows[0]
    assert (row.name, row.rtol, row.rtol32, row.order, row.empty) == ("tanh", 1e-9, 1e-4, 3, None)
    assert_matches(F.tanh, np.tanh, reals((2, 3)))  # a strategy of an array instead of a tuple
    assert_matches(F.matmul, np.matmul, of_shapes((2, 3), (3, 4)))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: x**2, {}, "expected"),
        (lambda x: Cube(2.0)(x), {}, "derivative of order 1"),
        (lambda x: Cube(constant=True)(x), {}, "derivative of order 2"),
        (lambda x: Cube()(x.to("float64")), {}, "float32 became float64"),
        (lambda x: x**3 * (1 + 1e-7), {}, "in float64"),
        (lambda x: x**3 + (0 if x.numel() else 1), {"empty": None}, "of nothing"),
    ],
)
def test_what_does_not_match_is_told(function, options, message):
    reference = (lambda x: (x**3).sum()) if options else (lambda x: x**3)
    made = (lambda x: function(x).sum() if x.numel() else function(x).sum() + 1) if options else function
    with pytest.raises(AssertionError, match=message):
        assert_matches(made, reference, st.just(np.linspace(0.5, 2, 6).reshape(2, 3)), **options)


def test_a_reference_may_be_approximate():
    def rough(x):
        return x**3 * (1 + 1e-7)

    assert_matches(lambda x: x**3, rough, of_shapes((2, 3), low=0.5), rtol=1e-6)
    assert_matches(lambda x: x**3, lambda x: x**3 * (1 + 1e-3), of_shapes((2, 3), low=0.5), rtol=1e-2)


# ---------------------------------------------------------------- strategies


@given(geometries(), geometries(2, 2, 1, 0, 1))
def test_geometries_have_a_place_for_the_kernel(windows, small):
    y = F.conv2d(
        tinygen.ones(1, 1, *windows.size), tinygen.ones(1, 1, *windows.kernel), None, windows.stride, windows.padding,
        windows.dilation,
    )  # fmt: skip
    assert y.shape[2:] == windows.output
    assert max(small.size) <= 2 and small.stride == small.dilation == (1, 1) and small.padding == (0, 0)


def test_layouts_and_dtypes_are_all_drawn():
    orders, kinds = set(), set()

    @given(in_any_layout(st.just(np.arange(24.0).reshape(2, 3, 4))), dtypes(), shapes(1, 2))
    def draw(x, dtype, shape):
        assert np.array_equal(x, np.arange(24.0).reshape(2, 3, 4)) and 1 <= len(shape) <= 2
        orders.add(x.strides)
        kinds.add(dtype)

    draw()
    assert len(orders) > 3 and kinds == {"float32", "float64"}


# ---------------------------------------------------------------- the guide


def test_the_guide_runs(pytester):
    """Its blocks, one after the other, are a test file that passes."""
    pytester.makepyfile("\n\n".join(blocks(GUIDE, "python")))
    result = pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", "--backend", current().name)
    result.assert_outcomes(passed=7)
