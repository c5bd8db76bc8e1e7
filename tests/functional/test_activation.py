"""Activations against SciPy, far out, and at their kinks."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given

import tinygen
from tinygen import functional as F
from tinygen.autograd import gradcheck
from tinygen.testing import Row, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import one, reals, shapes


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


ROWS = [
    Row("elu", F.elu, lambda x: np.where(x > 0, x, np.expm1(x)), one(-9, 9)),
    Row("elu, alpha = 0.3", lambda x: F.elu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * np.expm1(x)), one()),
    Row("elu, alpha = 0", lambda x: F.elu(x, 0.0), lambda x: np.maximum(x, 0), one()),
    Row("elu, alpha = −2", lambda x: F.elu(x, -2.0), lambda x: np.where(x > 0, x, -2 * np.expm1(x)), one()),
    Row("silu", F.silu, lambda x: x * scipy.special.expit(x), one(-9, 9)),
    Row("gelu", F.gelu, lambda x: x * scipy.stats.norm.cdf(x), one(-5, 5)),
    Row("gelu tanh", lambda x: F.gelu(x, "tanh"), gelu_tanh, one(-5, 5)),
]

test_operation = row_test(ROWS)


@given(reals(shapes(1, 2)))
def test_third_derivatives(x):
    for function in (F.elu, F.silu, F.gelu, lambda x: F.gelu(x, "tanh")):
        gradcheck(function, tensors((x,)), order=3)


def test_far_out_they_are_the_line_and_its_limit():
    x = tinygen.tensor(np.array([-np.inf, -1e4, 0.0, 1e4, np.inf], np.float32), requires_grad=True)
    close(F.elu(x, 0.5), np.array([-0.5, -0.5, 0.0, 1e4, np.inf], np.float32))
    for function in (F.silu, F.gelu, lambda x: F.gelu(x, "tanh")):
        finite = x[1:4]
        y = function(finite)
        close(y, np.array([0.0, 0.0, 1e4], np.float32))
        close(tinygen.grad(y.sum(), finite), np.array([0.0, 0.5, 1.0], np.float32))


def test_elu_at_zero_takes_the_slope_from_below():
    x = tinygen.tensor(np.zeros(2), requires_grad=True)
    close(tinygen.grad(F.elu(x, 0.3).sum(), x), np.full(2, 0.3))
    close(tinygen.grad(F.elu(x).sum(), x), np.ones(2))


@given(reals((40,), -6, 6))
def test_the_approximation_of_gelu_is_as_close_as_it_says(x):
    (t,) = tensors((x,))
    assert np.abs(F.gelu(t, "tanh").numpy() - F.gelu(t).numpy()).max() < 5e-4


def test_what_has_no_activation_is_refused():
    x = tinygen.arange(3)
    for name in ("elu", "silu", "gelu"):
        with pytest.raises(TypeError, match=rf'{name}: expected real numbers, got int64; convert them with .to\("fl'):
            getattr(F, name)(x)
    with pytest.raises(ValueError, match='gelu: approximate must be "none" or "tanh", got True'):
        F.gelu(tinygen.ones(2), True)
