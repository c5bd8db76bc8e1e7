"""Optimizers: against the published rules, the fast path against its readable twin, closed forms, and resumed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tests.optim import reference
from tinygen import backend, optim
from tinygen.backend import AdamRule, SGDRule
from tinygen.nn import Parameter
from tinygen.optim.adam import adam_formula
from tinygen.optim.sgd import sgd_formula
from tinygen.parallel import CHUNK
from tinygen.testing import close

MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, 0.1),
    "momentum": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda ps: optim.Adam(ps, 0.05, (0.8, 0.95), weight_decay=0.02),
    "adamw": lambda ps: optim.AdamW(ps, 0.05, weight_decay=0.1),
    "rmsprop": lambda ps: optim.RMSprop(ps, 0.05, 0.9, weight_decay=0.02),
    "centered": lambda ps: optim.RMSprop(ps, 0.05, 0.9, 1e-3, momentum=0.8, centered=True),
    "adagrad": lambda ps: optim.Adagrad(ps, 0.05, 0.1, 0.02, 0.5),
}
# The published rules with the same numbers, which they do not take from the optimizers.
PUBLISHED = {
    "sgd": reference.sgd,
    "momentum": lambda *path: reference.sgd(*path, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda *path: reference.sgd(*path, momentum=0.9, nesterov=True),
    "adam": lambda *path: reference.adam(*path, beta1=0.8, beta2=0.95, eps=1e-8, weight_decay=0.02),
    "adamw": lambda *path: reference.adamw(*path, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1),
    "rmsprop": lambda *path: reference.rmsprop(*path, alpha=0.9, eps=1e-8, weight_decay=0.02),
    "centered": lambda *path: reference.rmsprop(*path, alpha=0.9, eps=1e-3, momentum=0.8, centered=True),
    "adagrad": lambda *path: reference.adagrad(*path, eps=1e-10, lr_decay=0.1, weight_decay=0.02, initial=0.5),
}
RATE = dict.fromkeys(MAKERS, 0.05) | dict.fromkeys(("sgd", "momentum", "nesterov"), 0.1)

fractions = st.floats(0, 0.99)
decays = st.sampled_from([0.0, 0.01, 0.5])
paths = st.tuples(st.integers(0, 2**31 - 1), st.lists(st.floats(0, 0.3), min_size=1, max_size=6))


def parameter(values):
    return Parameter(place(np.array(values)))


def place(array):
    return backend.current().from_host(array)


def run(optimizer, p, gradients, rates=None):
    for t, g in enumerate(gradients):
        if rates is not None:
            optimizer.lr = rates[t]
        p.grad = tinygen.tensor(np.asarray(g))
        optimizer.step()
        optimizer.zero_grad()
    return p.numpy()


def drawn(seed, steps, shape=(3, 2)):
    random = np.random.default_rng(seed)
    return np.asarray(random.normal(size=shape)), random.normal(size=(steps, *shape))


def by_rule(rule, start, gradients, *arguments, **numbers):
    """A published rule on arrays of any shape."""
    values = rule(start.ravel().tolist(), [g.ravel().tolist() for g in gradients], *arguments, **numbers)
    return np.reshape(values, start.shape)


@given(paths, fractions, st.floats(-0.5, 1), decays)
def test_sgd_is_the_published_rule_also_where_lr_changes(path, momentum, dampening, weight_decay):
    seed, rates = path
    start, gradients = drawn(seed, len(rates))
    numbers = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
    p = parameter(start)
    after = run(optim.SGD([p], 1.0, momentum, dampening, weight_decay), p, gradients, rates)
    close(after, by_rule(reference.sgd, start, gradients, rates, **numbers), rtol=1e-10)


@given(paths, st.floats(0.01, 0.99), decays)
def test_nesterov_is_the_published_rule_also_where_lr_changes(path, momentum, weight_decay):
    seed, rates = path
    start, gradients = drawn(seed, len(rates))
    numbers = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": True}
    p = parameter(start)
    after = run(optim.SGD([p], 1.0, momentum, 0.0, weight_decay, True), p, gradients, rates)
    close(after, by_rule(reference.sgd, start, gradients, rates, **numbers), rtol=1e-10)


@pytest.mark.parametrize(("make", "rule"), [(optim.Adam, reference.adam), (optim.AdamW, reference.adamw)])
@given(paths, fractions, fractions, st.sampled_from([1e-8, 0.1]), decays)
def test_adam_and_adamw_are_the_published_rules_also_where_lr_changes(make, rule, path, beta1, beta2, eps, decay):
    seed, rates = path
    start, gradients = drawn(seed, len(rates))
    p = parameter(start)
    after = run(make([p], 1.0, (beta1, beta2), eps, decay), p, gradients, rates)
    expected = by_rule(rule, start, gradients, rates, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay)
    close(after, expected, rtol=1e-8, atol=1e-10)


@given(paths, fractions, st.sampled_from([1e-3, 0.1]), decays, st.sampled_from([0.0, 0.9]), st.booleans())
def test_rmsprop_is_the_published_rule_also_where_lr_changes(path, alpha, eps, decay, momentum, centered):
    seed, rates = path
    start, gradients = drawn(seed, len(rates))
    p = parameter(start)
    numbers = {"alpha": alpha, "eps": eps, "weight_decay": decay, "momentum": momentum, "centered": centered}
    after = run(optim.RMSprop([p], 1.0, **numbers), p, gradients, rates)
    close(after, by_rule(reference.rmsprop, start, gradients, rates, **numbers), rtol=1e-7, atol=1e-8)


@given(paths, fractions, decays, st.sampled_from([0.0, 2.0]), st.sampled_from([1e-10, 0.1]))
def test_adagrad_is_the_published_rule_also_where_lr_changes(path, lr_decay, weight_decay, initial, eps):
    seed, rates = path
    start, gradients = drawn(seed, len(rates))
    p = parameter(start)
    after = run(optim.Adagrad([p], 1.0, lr_decay, weight_decay, initial, eps), p, gradients, rates)
    numbers = {"lr_decay": lr_decay, "weight_decay": weight_decay, "initial": initial, "eps": eps}
    close(after, by_rule(reference.adagrad, start, gradients, rates, **numbers), rtol=1e-10)


def test_a_gradient_that_never_changes_has_no_variance_and_makes_no_nan():
    gradient = np.random.default_rng(0).normal(size=500).astype(np.float32)  # rounding takes some of them below 0
    p = parameter(np.zeros(500, np.float32))
    assert np.isfinite(run(optim.RMSprop([p], 1e-3, alpha=0.5, centered=True), p, [gradient] * 60)).all()


def test_defaults_are_pytorchs():
    start, gradients = drawn(0, 3)
    for make, expected in (
        (lambda p: optim.SGD([p], 0.1), by_rule(reference.sgd, start, gradients, [0.1] * 3)),
        (lambda p: optim.Adam([p]), by_rule(reference.adam, start, gradients, [1e-3] * 3, 0.9, 0.999, 1e-8)),
        (lambda p: optim.AdamW([p]), by_rule(reference.adamw, start, gradients, [1e-3] * 3, 0.9, 0.999, 1e-8, 1e-2)),
        (lambda p: optim.RMSprop([p]), by_rule(reference.rmsprop, start, gradients, [1e-2] * 3, 0.99, 1e-8)),
        (lambda p: optim.Adagrad([p]), by_rule(reference.adagrad, start, gradients, [1e-2] * 3, 1e-10)),
    ):
        p = parameter(start)
        close(run(make(p), p, gradients), expected, rtol=1e-10)


@given(st.integers(0, 1000), st.floats(0.01, 0.99), st.booleans(), st.booleans(), decays)
def test_the_fast_sgd_step_is_its_readable_twin(seed, momentum, nesterov, first, decay):
    (p, g, u), _ = drawn(seed, 1, (3, 5))
    rule = SGDRule(0.1, momentum, 0.0 if nesterov else 0.3, decay, nesterov, first)
    expected = sgd_formula(p, g, u, rule)
    arrays = [place(a.copy()) for a in (p, g, u)]
    backend.current().sgd_step(*arrays, rule)
    close(arrays[0], expected[0], rtol=1e-12)
    close(arrays[2], expected[1], rtol=1e-12)


@given(st.integers(0, 1000), fractions, fractions, st.booleans(), st.integers(1, 100), decays)
def test_the_fast_adam_step_is_its_readable_twin(seed, beta1, beta2, decoupled, step, decay):
    (p, g, m, v), _ = drawn(seed, 1, (4, 5))
    rule = AdamRule(0.1, beta1, beta2, 1e-3, decay, decoupled, step)
    expected = adam_formula(p, g, m, v * v, rule, step)
    arrays = [place(a.copy()) for a in (p, g, m, v * v)]
    backend.current().adam_step(*arrays, rule)
    for index, array in zip((0, 2, 3), expected):
        close(arrays[index], array, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("maker", MAKERS)
def test_parameters_larger_than_a_chunk_and_gradients_of_any_layout(maker):
    rows = CHUNK // 100 + 7
    start, gradients = drawn(0, 2, (rows, 130))
    gradients = gradients.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    p = parameter(start)
    expected = by_rule(PUBLISHED[maker], start, gradients, [RATE[maker]] * 2)
    close(run(MAKERS[maker]([p]), p, gradients), expected, rtol=1e-9)


LAYOUTS = {
    "rows": lambda a: a,
    "columns": np.asfortranarray,
    "channels last": lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, 2, 1),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("maker", MAKERS)
def test_parameters_of_any_layout_are_stepped_in_their_own_memory(maker, layout):
    start, gradients = drawn(3, 3, (4, 3, 2))
    p = parameter(np.zeros((4, 3, 2)))
    optimizer = MAKERS[maker]([p])
    memory = p.data = backend.current().from_host(LAYOUTS[layout](start.copy()))
    strides = memory.strides
    expected = by_rule(PUBLISHED[maker], start, gradients, [RATE[maker]] * 3)
    close(run(optimizer, p, gradients), expected, rtol=1e-9)
    assert p.data is memory and memory.strides == strides
    for array in optimizer.state[0].values():
        assert layout == "every second" or array.strides == strides  # so that one flat piece of each is one place
    loaded = MAKERS[maker]([p])
    loaded.load_state_dict(optimizer.state_dict())
    for name, array in loaded.state[0].items():
        assert array.strides == optimizer.state[0][name].strides


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_parameters_without_dimensions_or_elements(maker, shape):
    start, gradients = drawn(0, 2, shape)
    p = parameter(start)
    expected = by_rule(PUBLISHED[maker], start, gradients, [RATE[maker]] * 2)
    close(run(MAKERS[maker]([p]), p, gradients), expected)


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


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.Adam([]), ValueError, "Adam: got no parameters"),
        (lambda p: optim.Adam(iter(())), ValueError, "Adam: got no parameters"),
        (lambda p: optim.SGD([p, p], 0.1), ValueError, "SGD: a parameter is given twice"),
        (lambda p: optim.SGD(p, 0.1), TypeError, "SGD: expected an iterable of parameters, got one tensor"),
        (lambda p: optim.SGD([p.data], 0.1), TypeError, "SGD: parameter 0 is of type .*, expected a tensor"),
        (lambda p: optim.SGD([{"params": p}], 0.1), TypeError, "SGD: parameter 0 is of type dict, expected a tensor"),
        (lambda p: optim.SGD([p * 2], 0.1), ValueError, "SGD: parameter 0 is a result of multiply, not a leaf"),
        (lambda p: optim.SGD([p, tinygen.tensor([1])], 0.1), ValueError, "SGD: parameter 1 is int64, expected float"),
        (lambda p: optim.SGD([p], -1), ValueError, "SGD: lr must be 0 or more, got -1"),
        (lambda p: optim.SGD([p], math.nan), ValueError, "SGD: lr must be 0 or more, got nan"),
        (lambda p: optim.SGD([p], 0.1, momentum=-0.1), ValueError, "SGD: momentum must be 0 or more, got -0.1"),
        (lambda p: optim.SGD([p], 0.1, weight_decay=-1), ValueError, "SGD: weight_decay must be 0 or more, got -1"),
        (lambda p: optim.SGD([p], 0.1, nesterov=True), ValueError, "SGD: nesterov needs a momentum above 0"),
        (lambda p: optim.SGD([p], 0.1, 0.9, 0.1, nesterov=True), ValueError, "and dampening 0, got 0.9 and 0.1"),
        (lambda p: optim.SGD([p], 0.1, momentum=math.nan), ValueError, "SGD: momentum must be 0 or more, got nan"),
        (lambda p: optim.Adam([p], -1e-3), ValueError, "Adam: lr must be 0 or more, got -0.001"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"Adam: betas must be two numbers in \[0, 1\)"),
        (lambda p: optim.Adam([p], betas=(-0.1, 0.9)), ValueError, "Adam: betas must be"),
        (lambda p: optim.Adam([p], betas=(0.9, math.nan)), ValueError, "Adam: betas must be"),
        (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, "Adam: betas must be"),
        (lambda p: optim.Adam([p], eps=-1e-8), ValueError, "Adam: eps must be 0 or more, got -1e-08"),
        (lambda p: optim.RMSprop([p], alpha=1.1), ValueError, r"RMSprop: alpha must be in \[0, 1\], got 1.1"),
        (lambda p: optim.RMSprop([p], momentum=-1), ValueError, "RMSprop: momentum must be 0 or more, got -1"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), ValueError, "Adagrad: lr_decay must be 0 or more, got -1"),
        (lambda p: optim.Adagrad([p], initial_accumulator_value=-1), ValueError, "Adagrad: initial_accumulator_value"),
        (lambda p: optim.AdamW([p], weight_decay=-1), ValueError, "AdamW: weight_decay must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_optimized_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(parameter([1.0, 2.0]))


def test_a_parameter_of_other_data_than_the_state_is_refused():
    p = parameter([1.0, 2.0])
    o = optim.Adam([p])
    run(o, p, [np.ones(2)])
    p.data = place(np.ones(3))
    message = r"Adam: m of parameter 0 is float64 \(2,\), the parameter is now float64 \(3,\); make a new optimizer"
    with pytest.raises(ValueError, match=message):
        run(o, p, [np.ones(3)])
    assert o.steps == [1] and np.array_equal(p.numpy(), np.ones(3))
    fresh = optim.Adam([p])
    p.data = place(np.ones(4))
    with pytest.raises(ValueError, match=r"Adam: the gradient of parameter 0 is float64 \(3,\), the parameter is now"):
        fresh.step()
    assert list(fresh.state_dict()) == ["lr", "steps"]


def changed(**entries):
    """A change of a state: entries put in, or with None taken out."""
    return lambda state: {k: v for k, v in (state | entries).items() if v is not None}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (changed(lr=None), ["lr is missing"]),
        (changed(steps=None, lr=None), ["lr is missing; steps is missing"]),
        (changed(lr=np.array(-1.0)), ["lr must be 0 or more, got -1.0"]),
        (changed(lr=np.array(math.nan)), ["lr must be 0 or more, got nan"]),
        (changed(lr=np.array([0.1])), [r"lr is float64 (1,), expected float64 ()"]),
        (changed(lr=np.array(1j)), ["lr is complex128 (), expected float64 ()"]),
        (changed(lr=np.array("0.1")), ["lr is <U3 (), expected float64 ()"]),
        (changed(steps=np.array([2])), ["steps is int64 (1,), expected int64 (2,)"]),
        (changed(steps=np.array([2, 0, 0])), ["steps is int64 (3,), expected int64 (2,)"]),
        (changed(steps=np.array([2.5, 0.0])), ["steps is float64 (2,), expected int64 (2,)"]),
        (changed(steps=np.array([2, -1])), ["steps must be 0 or more, got -1"]),
        (changed(steps=np.array([2, 1])), ["m of parameter 1 is missing; v of parameter 1 is missing"]),
        (changed(steps=np.array([0, 0])), ["0.m is unexpected; 0.v is unexpected"]),
        (changed(**{"0.m": None}), ["m of parameter 0 is missing"]),
        (changed(**{"0.velocity": np.ones(2)}), ["0.velocity is unexpected"]),
        (changed(**{"2.m": np.ones(2)}), ["2.m is unexpected"]),
        (changed(**{"0.v": np.ones((2, 1))}), ["v of parameter 0 is float64 (2, 1), expected float64 (2,)"]),
        (changed(**{"0.v": np.ones(2, "float32")}), ["v of parameter 0 is float32 (2,), expected float64 (2,)"]),
        (changed(**{"0.v": np.ones(2, complex)}), ["v of parameter 0 is complex128 (2,), expected float64 (2,)"]),
        (changed(**{"0.m": None, "0.v": np.ones(1), "x": np.ones(1)}), ["m of", "x is unexpected", "v of parameter 0"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name_and_changes_nothing(change, messages):
    p, q = parameter([1.0, 2.0]), parameter([3.0])
    o = optim.Adam([p, q], 0.5)
    run(o, p, [np.ones(2), -np.ones(2)])
    before = o.state_dict()
    with pytest.raises(ValueError, match="Adam: ") as caught:
        o.load_state_dict(change(before))
    for message in messages:
        assert message in str(caught.value)
    after = o.state_dict()
    assert list(after) == ["lr", "steps", "0.m", "0.v"]
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_state_is_copied_and_lets_parameters_without_steps_be():
    p, q = parameter([1.0, 2.0]), parameter([3.0])
    o, fresh = optim.Adam([p, q], 1), optim.Adam([p, q])
    run(o, p, [np.ones(2)])
    state = o.state_dict()
    fresh.load_state_dict(state)
    state["0.m"][:] = 7
    assert fresh.lr == 1.0 and fresh.steps == [1, 0] and fresh.state[1] == {}
    close(fresh.state[0]["m"], np.full(2, 0.1))
    o.load_state_dict(optim.Adam([p, q]).state_dict())
    assert o.lr == 1e-3 and o.steps == [0, 0] and o.state == [{}, {}]


@given(seed=st.integers(0, 1000), size=st.integers(1, 4))
def test_a_batch_estimates_the_gradient_over_all_data(seed, size):
    """SGD's step along one batch is a step of gradient descent on average over the batches, and not each by itself."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(4 * size, 3)), random.normal(size=4 * size)

    def step(rows):
        w = Parameter(tinygen.tensor(np.zeros(3)).data)
        loss = ((tinygen.tensor(x[rows]) @ w - tinygen.tensor(y[rows])) ** 2).mean()
        loss.backward()
        optim.SGD([w], 0.5).step()
        return w.numpy()

    batches = [slice(size * i, size * (i + 1)) for i in range(4)]
    descent = x.T @ y / len(y)  # −½ · the gradient of the mean of (x·w − y)² at w = 0
    steps = np.array([step(rows) for rows in batches])
    close(steps.mean(axis=0), descent, rtol=1e-10, atol=1e-12)
    assert np.abs(steps - descent).max() > 1e-6
