"""Optimizers: the fast path against the formula, against closed forms, and resumed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import backend, optim
from tinygen.backend import CHUNK, AdamRule, SGDRule
from tinygen.nn import Parameter
from tinygen.optim.adam import adam_formula
from tinygen.optim.sgd import sgd_formula
from tinygen.testing import close

MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, 0.1),
    "momentum": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: optim.Adam(ps, 0.05, (0.8, 0.95), weight_decay=0.02),
    "adamw": lambda ps: optim.AdamW(ps, 0.05, weight_decay=0.1),
}


def parameter(values):
    return Parameter(backend.current().from_host(np.array(values)))


def run(optimizer, p, gradients):
    for g in gradients:
        p.grad = tinygen.tensor(g)
        optimizer.step()
        optimizer.zero_grad()
    return p.numpy()


def by_formula(maker, p, gradients):
    """The same path by the readable formula, in NumPy float64."""
    o = MAKERS[maker]([parameter(p)])
    u, m, v = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        if isinstance(o, optim.Adam):
            p, m, v = adam_formula(p, g, m, v, AdamRule(o.lr, *o.betas, o.eps, o.weight_decay, o.decoupled, t), t)
        else:
            rule = SGDRule(o.lr, o.momentum, o.dampening, o.weight_decay, o.nesterov, t == 1)
            p, u = sgd_formula(p, g, u, rule)
    return p


@pytest.mark.parametrize("maker", MAKERS)
@given(seed=st.integers(0, 1000))
def test_fast_step_equals_the_formula(maker, seed):
    random = np.random.default_rng(seed)
    start, gradients = random.normal(size=(3, 2)), random.normal(size=(5, 3, 2))
    p = parameter(start)
    close(run(MAKERS[maker]([p]), p, gradients), by_formula(maker, start, gradients), rtol=1e-10)


@pytest.mark.parametrize("maker", MAKERS)
def test_parameters_larger_than_a_chunk_and_gradients_of_any_layout(maker):
    random = np.random.default_rng(0)
    rows = CHUNK // 100 + 7
    start, gradients = random.normal(size=(rows, 130)), random.normal(size=(2, 130, rows)).transpose(0, 2, 1)
    p = parameter(start)
    close(run(MAKERS[maker]([p]), p, gradients), by_formula(maker, start, gradients), rtol=1e-9)


@given(lr=st.floats(0.01, 0.5), steps=st.integers(1, 10))
def test_sgd_on_a_quadratic_is_a_power(lr, steps):
    """f(p) = ½ Σ h p²: each step multiplies p by 1 − lr·h."""
    h = np.array([0.5, 2.0])
    p = parameter([1.0, -3.0])
    o = optim.SGD([p], lr)
    for _ in range(steps):
        (0.5 * tinygen.tensor(h) * p * p).sum().backward()
        o.step()
        o.zero_grad()
    close(p, np.array([1.0, -3.0]) * (1 - lr * h) ** steps, rtol=1e-9)


@given(scale=st.floats(1e-2, 1e4))
def test_adams_first_step_is_lr_whatever_the_gradient(scale):
    p = parameter([0.0, 0.0])
    run(optim.Adam([p], 0.01, eps=0.0), p, [np.array([scale, -3 * scale])])
    close(p, np.array([-0.01, 0.01]), rtol=1e-9)


@pytest.mark.parametrize("maker", MAKERS)
def test_state_resumes_bit_for_bit(maker):
    random = np.random.default_rng(1)
    start, gradients = random.normal(size=7).astype(np.float32), random.normal(size=(6, 7)).astype(np.float32)
    whole = parameter(start)
    run(MAKERS[maker]([whole]), whole, gradients)
    first = parameter(start)
    before = MAKERS[maker]([first])
    run(before, first, gradients[:3])
    second = parameter(first.numpy())
    after = MAKERS[maker]([second])
    after.lr = 99.0
    after.load_state_dict(before.state_dict())
    run(after, second, gradients[3:])
    assert np.array_equal(whole.numpy(), second.numpy())
    assert second.dtype == np.float32


def test_a_step_is_a_write_that_the_tape_sees():
    p = parameter([1.0, 2.0])
    loss = (p * p).sum()
    run(optim.SGD([p], 0.1), p, [np.array([1.0, 1.0])])
    with pytest.raises(RuntimeError, match="was written to after the forward pass"):
        loss.backward()


def test_parameters_without_gradient_stay():
    p, q = parameter([1.0]), parameter([1.0])
    o = optim.Adam([p, q])
    p.grad = tinygen.tensor(np.array([1.0]))
    o.step()
    assert q.item() == 1.0 and p.item() != 1.0
    assert o.steps == [1, 0]


def test_refusals():
    p = parameter([1.0, 2.0])
    for make, message in (
        (lambda: optim.Adam([]), "Adam: got no parameters"),
        (lambda: optim.SGD([p, p], 0.1), "given twice"),
        (lambda: optim.SGD([p], -1), "lr must be 0 or more, got -1"),
        (lambda: optim.SGD([p], float("nan")), "lr must be 0 or more"),
        (lambda: optim.Adam([p], betas=(0.9, 1.0)), "betas must be in"),
        (lambda: optim.SGD([p], 0.1, nesterov=True), "nesterov needs a momentum"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    other = optim.Adam([parameter([1.0]), parameter([2.0])])
    with pytest.raises(ValueError, match="state of 2 parameters for 1"):
        optim.Adam([p]).load_state_dict(other.state_dict())
    wrong = optim.Adam([parameter([1.0, 2.0, 3.0])])
    run(wrong, wrong.parameters[0], [np.ones(3)])
    with pytest.raises(ValueError, match=r"m of parameter 0 is \(3,\), the parameter is \(2,\)"):
        optim.Adam([p]).load_state_dict(wrong.state_dict())


@given(decay=st.floats(0, 0.99), n=st.integers(1, 6), seed=st.integers(0, 1000))
def test_ema_is_its_closed_form(decay, n, seed):
    values = np.random.default_rng(seed).normal(size=(n + 1, 4))
    source, averaged = tinygen.nn.Module(), tinygen.nn.Module()
    source.w, averaged.w = parameter(values[0]), parameter(np.zeros(4))
    source.seen, averaged.seen = (tinygen.nn.Buffer(parameter(np.zeros(1))) for _ in range(2))
    ema = optim.EMA(averaged, source, decay)
    for value in values[1:]:
        source.w.data = source.w.backend.from_host(value)
        source.seen.data = source.seen.data + 1
        ema.update()
    weights = [(1 - decay) * decay ** (n - k) for k in range(1, n + 1)]
    close(averaged.w, decay**n * values[0] + np.tensordot(weights, values[1:], 1), rtol=1e-9)
    close(averaged.seen, np.array([float(n)]))
    assert not averaged.w.requires_grad
    with pytest.raises(ValueError, match="decay must be in"):
        optim.EMA(averaged, source, 1.0)
