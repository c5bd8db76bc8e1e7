"""LBFGS: exact solutions, SciPy's L-BFGS-B, the recursion against the matrix that it stands for, and resumed."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.optim.test_optim import changed, parameter
from tinygen import backend, optim
from tinygen.optim.line_search import C1, C2, Point, strong_wolfe
from tinygen.run.state import capture, restore
from tinygen.testing import close


def problem(loss, *starts):
    """Parameters, and the closure of `loss` of them; `calls` counts what the closure was asked."""
    ps, calls = [parameter(s) for s in starts], itertools.count()

    def closure():
        next(calls)
        for p in ps:
            p.grad = None
        value = loss(*ps)
        value.backward()
        return value

    return ps, closure, calls


def rosenbrock(p):
    return (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()


def spd(seed, n):
    random = np.random.default_rng(seed)
    a = random.normal(size=(n, n))
    return a @ a.T + 0.5 * np.eye(n), random.normal(size=n)


@settings(max_examples=10)
@given(st.integers(0, 999), st.integers(1, 6))
def test_a_quadratic_is_solved_exactly(seed, n):
    a, b = spd(seed, n)
    A, B = tinygen.tensor(a), tinygen.tensor(b)
    (p,), closure, _ = problem(lambda p: 0.5 * (p * (A @ p)).sum() - (B * p).sum(), np.zeros(n))
    first = optim.LBFGS([p], max_iter=100, tolerance_change=0.0, line_search_fn="strong_wolfe").step(closure)
    assert first.item() == 0.0
    close(p, np.linalg.solve(a, b), 1e-6, 1e-6)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_rosenbrock_against_scipy(n):
    start = np.where(np.arange(n) % 2, 1.0, -1.2)
    found = scipy.optimize.minimize(
        scipy.optimize.rosen, start, jac=scipy.optimize.rosen_der, method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-9, "maxiter": 1000},
    )  # fmt: skip
    (p,), closure, calls = problem(rosenbrock, start)
    optim.LBFGS([p], max_iter=300, tolerance_change=0.0, line_search_fn="strong_wolfe").step(closure)
    close(p, found.x, 1e-5, 1e-5)
    assert next(calls) < 3 * found.nfev


def test_without_a_line_search_a_step_is_the_full_quasi_newton_step():
    """Against the inverse Hessian written out, H ← (I − s yᵀ/ρ) H (I − y sᵀ/ρ) + s sᵀ/ρ, ρ = sᵀy, from H₀ = ρ/yᵀy of
    the newest pair: with fixed steps and a history of two."""
    a, b = spd(3, 4)
    A, B = tinygen.tensor(a), tinygen.tensor(b)
    (p,), closure, calls = problem(lambda p: 0.5 * (p * (A @ p)).sum() - (B * p).sum(), np.ones(4))
    optimizer = optim.LBFGS([p], 0.3, max_iter=1, history_size=2, tolerance_change=0.0)
    x, path, pairs = np.ones(4), [], []
    for k in range(6):
        g = a @ x - b
        path.append((x, g))
        if k:
            pairs = [*pairs, (x - path[-2][0], g - path[-2][1])][-2:]
        h = np.eye(4)
        if pairs:
            s, y = pairs[-1]
            h *= (s @ y) / (y @ y)
        for s, y in pairs:
            v = np.eye(4) - np.outer(y, s) / (s @ y)
            h = v.T @ h @ v + np.outer(s, s) / (s @ y)
        t = 0.3 * min(1, 1 / np.abs(g).sum()) if k == 0 else 0.3
        x = x - t * h @ g
        optimizer.step(closure)
        close(p, x, 1e-9, 1e-9)
    assert next(calls) == 6 and optimizer.iterations == 6 and optimizer.evaluations == 6
    assert len(optimizer.moves) == 2


curves = st.tuples(st.floats(-2, 2), st.floats(0.1, 2), st.floats(0.1, 3), st.floats(0.05, 20))


@settings(max_examples=300)
@given(curves)
def test_what_the_line_search_finds_fulfils_the_conditions(curve):
    """φ(t) = bend (t − 3/2)² − wave cos(5t + shift) / 5, which has many minima."""
    shift, bend, wave, first = curve

    def at(t):
        slope = 2 * bend * (t - 1.5) + wave * np.sin(5 * t + shift)
        return Point(t, bend * (t - 1.5) ** 2 - wave / 5 * np.cos(5 * t + shift), slope, None)

    start = at(0.0)
    if start.slope >= -1e-3:
        return
    found, calls = strong_wolfe(at, first, start, 1.0, 1e-12, 60)
    assert found.loss <= start.loss + C1 * found.t * start.slope + 1e-12
    assert abs(found.slope) <= -C2 * start.slope + 1e-9 and 1 <= calls <= 61


def test_several_parameters_and_one_that_nothing_uses():
    target = tinygen.tensor(np.arange(6.0).reshape(2, 3))
    ps, closure, _ = problem(
        lambda p, q, unused: ((p - target) ** 2).sum() + ((q - 3.0) ** 4).sum(), np.zeros((2, 3)), [[1.0]], [7.0]
    )
    memory = [p.data for p in ps]
    optim.LBFGS(ps, max_iter=200, line_search_fn="strong_wolfe").step(closure)
    close(ps[0], target.numpy(), 1e-4, 1e-4)
    close(ps[1], np.array([[3.0]]), 0.02)
    assert ps[2].item() == 7.0 and all(p.data is m for p, m in zip(ps, memory))


def test_it_stops_where_it_is_told_to():
    (p,), closure, calls = problem(rosenbrock, [-1.2, 1.0])
    o = optim.LBFGS([p], max_iter=50, max_eval=7, line_search_fn="strong_wolfe")
    o.step(closure)
    assert o.evaluations == next(calls) <= 8
    (p,), closure, calls = problem(lambda p: (p * p).sum(), [1e-9])
    assert optim.LBFGS([p]).step(closure).item() == 1e-18 and next(calls) == 1 and p.item() == 1e-9


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_state_resumes_bit_for_bit(search):
    def make(start):
        ps, closure, _ = problem(lambda p, q: rosenbrock(p) + ((q - p[0]) ** 2).sum(), *start)
        return ps, closure, optim.LBFGS(ps, 0.02 if search is None else 1.0, 4, history_size=3, line_search_fn=search)

    ps, closure, whole = make(([-1.2, 1.0, 0.5], [2.0]))
    for _ in range(3):
        whole.step(closure)
    state, middle = whole.state_dict(), [p.numpy() for p in ps]
    for _ in range(3):
        whole.step(closure)
    qs, closure, again = make(middle)
    again.lr = 9.0
    again.load_state_dict(state)
    state["last"][:] = 0
    for _ in range(3):
        again.step(closure)
    assert all(np.array_equal(p.numpy(), q.numpy()) for p, q in zip(ps, qs))
    assert again.state_dict().keys() == whole.state_dict().keys()
    assert again.iterations == whole.iterations and again.evaluations == whole.evaluations


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (changed(lr=None), ["lr is missing"]),
        (changed(last=None), ["last is missing"]),
        (changed(moves=None), ["moves is missing"]),
        (changed(bends=np.ones((1, 2))), ["bends is float64 (1, 2), expected float64 (2, 2)"]),
        (changed(last=np.ones((2, 3))), ["last is float64 (2, 3), expected float64 (2, 2)"]),
        (changed(moves=np.ones((2, 2), "float32")), ["moves is float32 (2, 2), expected float64 (2, 2)"]),
        (changed(moves=np.ones((9, 2)), bends=np.ones((9, 2))), ["moves is float64 (9, 2), expected float64 (2, 2)"]),
        (changed(iterations=np.array(-1)), ["iterations must be 0 or more, got -1"]),
        (changed(extra=np.ones(1)), ["extra is unexpected"]),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name_and_changes_nothing(change, messages):
    (p,), closure, _ = problem(rosenbrock, [-1.2, 1.0])
    o = optim.LBFGS([p], 1.0, 6, history_size=2, line_search_fn="strong_wolfe")
    o.step(closure)
    before = o.state_dict()
    with pytest.raises(ValueError, match="LBFGS: ") as caught:
        o.load_state_dict(change(before))
    assert all(message in str(caught.value) for message in messages), str(caught.value)
    after = o.state_dict()
    assert list(after) == list(before) and all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.LBFGS([p], max_iter=0), "max_iter and history_size must be at least 1, got 0 and 100"),
        (lambda p: optim.LBFGS([p], history_size=0), "max_iter and history_size must be at least 1"),
        (lambda p: optim.LBFGS([p], tolerance_grad=-1), "tolerance_grad must be 0 or more, got -1"),
        (lambda p: optim.LBFGS([p], line_search_fn="armijo"), 'line_search_fn must be None or "strong_wolfe"'),
        (lambda p: optim.LBFGS([p, tinygen.zeros(1)]), "must have one dtype, got float32 and float64"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=f"LBFGS: .*{message}"):
        make(parameter([1.0, 2.0]))


def test_float32_stays():
    (p,), closure, _ = problem(rosenbrock, np.array([-1.2, 1.0], np.float32))
    optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe").step(closure)
    assert p.dtype == np.float32 and np.abs(p.numpy() - 1).max() < 1e-2
    assert backend.of(p.data) is backend.current()


class Run:
    """What a checkpoint walks: the optimizer beside what it moves and what changes its rate."""

    def __init__(self):
        (self.p,), _, _ = problem(rosenbrock, [-1.2, 1.0])
        self.lbfgs = optim.LBFGS([self.p], 1.0, 3, history_size=2, line_search_fn="strong_wolfe")
        self.q = parameter([1.0])
        self.rmsprop = optim.RMSprop([self.q], centered=True, momentum=0.5)
        self.adagrad = optim.Adagrad([self.q])
        self.schedule = optim.StepLR(self.rmsprop, 2)

    def advance(self):
        def closure():
            self.p.grad = None
            loss = rosenbrock(self.p)
            loss.backward()
            return loss

        self.lbfgs.step(closure)
        self.q.grad = tinygen.tensor(np.array([0.3]))
        self.rmsprop.step()
        self.adagrad.step()
        self.schedule.step()


def test_a_run_finds_all_state_and_goes_on_bit_for_bit():
    whole, resumed = Run(), Run()
    for _ in range(3):
        whole.advance()
    arrays, table = capture(whole)
    arrays = {name: np.array(a) for name, a in arrays.items()}
    for _ in range(3):
        whole.advance()
    restore(resumed, arrays, table)
    for _ in range(3):
        resumed.advance()
    again = capture(resumed)[0]
    for name, array in capture(whole)[0].items():
        assert np.array_equal(again[name], array), name
