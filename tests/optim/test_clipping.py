"""Clipping of gradients, against loops over their elements."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tests.optim.test_optim import parameter
from tinygen import optim
from tinygen.testing import close


def graded(gradients, dtype=np.float64):
    ps = [parameter(np.zeros(np.shape(g), dtype)) for g in gradients]
    for p, g in zip(ps, gradients):
        p.grad = tinygen.tensor(np.asarray(g, dtype))
    return ps


def drawn(seed):
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) for shape in ((2, 3), (), (4,), (0, 2))]


@given(st.integers(0, 999), st.floats(0, 10), st.sampled_from([1.0, 2.0, 3.5, math.inf]))
def test_clip_grad_norm(seed, max_norm, order):
    gradients = drawn(seed)
    ps = [*graded(gradients), parameter([1.0])]
    numbers = [abs(float(x)) for g in gradients for x in g.ravel()]
    norm = max(numbers) if order == math.inf else sum(x**order for x in numbers) ** (1 / order)
    found = optim.clip_grad_norm_(ps, max_norm, order)
    close(found, np.array(norm), 1e-10)
    factor = min(1.0, max_norm / (norm + 1e-6))
    for p, g in zip(ps, gradients):
        close(p.grad, g * factor, 1e-10)
    assert ps[-1].grad is None


@given(st.integers(0, 999), st.floats(0, 2))
def test_clip_grad_value(seed, bound):
    gradients = drawn(seed)
    ps = [*graded(gradients), parameter([1.0])]
    optim.clip_grad_value_(ps, bound)
    for p, g in zip(ps, gradients):
        expected = [min(max(x, -bound), bound) for x in g.ravel().tolist()]
        close(p.grad, np.reshape(expected, g.shape), 0, 0)


def test_one_tensor_float32_and_nothing():
    (p,) = graded([np.array([3.0, 4.0])], np.float32)
    memory = p.grad.data
    assert optim.clip_grad_norm_(p, 1.0).item() == 5.0 and p.grad.dtype == np.float32 and p.grad.data is memory
    close(p.grad, np.array([0.6, 0.8]), 1e-5)
    optim.clip_grad_value_(p, 0.7)
    close(p.grad, np.array([0.6, 0.7]), 1e-5)
    assert optim.clip_grad_norm_([], 1.0).item() == 0.0
    assert optim.clip_grad_norm_([parameter([1.0])], 1.0).item() == 0.0


def test_what_is_not_finite():
    (p,) = graded([np.array([math.nan, 4.0])])
    with pytest.raises(RuntimeError, match="clip_grad_norm_: the norm of the gradients is nan"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert math.isnan(optim.clip_grad_norm_(p, 1.0).item())


def test_clipping_is_a_write_that_the_tape_sees_and_the_host_does_not_wait(backend):
    (p,) = graded([np.array([3.0, 4.0])])
    g = p.grad.requires_grad_()
    loss = (g * g).sum()
    g.requires_grad_(False)
    if backend.name == "strict":
        from tinygen.testing.strict import counting

        with counting() as counts:
            optim.clip_grad_norm_([p], 1.0)
            optim.clip_grad_value_([p], 1.0)
        assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)
    optim.clip_grad_norm_([p], 0.5)
    with pytest.raises(RuntimeError, match="was written to after the forward pass"):
        loss.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: optim.clip_grad_norm_(p, -1.0), "clip_grad_norm_: max_norm must be 0 or more, got -1.0"),
        (lambda p: optim.clip_grad_norm_(p, 1.0, 0.0), "clip_grad_norm_: norm_type must be above 0, got 0.0"),
        (lambda p: optim.clip_grad_value_(p, math.nan), "clip_grad_value_: clip_value must be 0 or more, got nan"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(parameter([1.0]))
