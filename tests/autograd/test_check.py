"""gradcheck: what it looks at, what it refuses, and how near is near enough."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import Function, gradcheck
from tinygen.testing import GradientError


def leaf(values):
    return tinygen.tensor(np.asarray(values, "float64"), requires_grad=True)


class Scaled(Function):
    """y = x with the gradient `factor` · gy."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return x * 1.0

    def backward(self, gy):
        return gy * self.factor


def _scaled(factor, x):
    return Scaled(factor)(x)


@pytest.mark.parametrize("kind", [tuple, list])
def test_every_tensor_of_a_sequence_is_checked(kind):
    x = leaf([1.0, 2.0])
    gradcheck(lambda x: kind([F.exp(x), x.argmax(), 3]), [x], order=2)
    with pytest.raises(GradientError, match="derivative of order 1 by input 0"):
        gradcheck(lambda x: kind([F.exp(x), Scaled(1.5)(x)]), [x])


def test_nothing_to_check_is_an_error():
    x = leaf([1.0, 2.0])
    for function in (lambda x: x.argmax(), lambda x: None, lambda x: [], lambda x: x > 0):
        with pytest.raises(TypeError, match=r"^gradcheck: f returns no floating-point tensor"):
            gradcheck(function, [x], name="f")
    with pytest.raises(TypeError, match=r"^gradcheck: no input of f requires a gradient"):
        gradcheck(F.exp, [x.detach()], name="f")


def test_a_gradient_that_is_not_a_number_is_reported():
    for factor, told in ((np.nan, "nan"), (np.inf, "-?inf")):
        with pytest.raises(GradientError, match=rf"f: .* at index \(0,\): expected -?\d.*, received {told}"):
            gradcheck(partial(_scaled, factor), [leaf([1.0, 2.0])], name="f")
        with pytest.raises(GradientError, match=rf"received {told}"):
            gradcheck(partial(_scaled, factor), [leaf([1.0])])

    class Half(Function):
        """Only the second element's gradient is wrong."""

        saves_inputs = (0,)

        def forward(self, x):
            return x * x

        def backward(self, gy):
            (x,) = self.saved
            return gy * x * tinygen.Tensor(x.backend.from_host(np.array([2.0, np.nan])))

    with pytest.raises(GradientError, match=r"index \(1,\): expected -?\d.*, received nan"):
        gradcheck(lambda x: Half()(x), [leaf([1.0, 2.0])])
    with pytest.raises(GradientError, match="received nan"):  # at a kink as well
        gradcheck(lambda x: F.where(x.data == 0, Scaled(np.nan)(x), F.abs(x)), [leaf([0.0])])


@given(st.floats(1e-3, 0.5), st.sampled_from([-1, 1]), st.floats(0.1, 100))
def test_tolerances_are_two_sided(off, sign, magnitude):
    wrong = [lambda x: Scaled(1 + sign * off)(x) * magnitude, [leaf([0.5, -1.5])]]
    with pytest.raises(GradientError):
        gradcheck(*wrong)
    with pytest.raises(GradientError):
        gradcheck(*wrong, rtol=0.0)
    assert gradcheck(*wrong, rtol=off) > 1e-6  # scale is at least |slope|
    assert gradcheck(*wrong, rtol=0.0, atol=1e4) > 0
