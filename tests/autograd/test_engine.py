"""The tape: order, memory, what is computed and what is refused."""

import gc
import itertools
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import backend
from tinygen import functional as F
from tinygen.autograd import Function, function, gradcheck, is_grad_enabled, no_grad
from tinygen.testing import GradientError, close
from tinygen.testing.strategies import reals


def leaf(values, dtype="float64"):
    return tinygen.tensor(np.asarray(values, dtype), requires_grad=True)


def test_a_value_used_twice_gets_both_parts():
    a = leaf([0.5, -1.0])
    x = F.exp(a)
    (x * x + x).sum().backward()  # the counterexample of engine.py: any order but youngest-first is wrong here
    close(a.grad, 2 * np.exp([1.0, -2.0]) + np.exp([0.5, -1.0]))


@given(st.integers(0, 2**32 - 1))
def test_random_graphs_against_forward_mode(seed):
    """Programs of random additions and products; the reference carries derivatives forward by hand."""
    random = np.random.default_rng(seed)
    start = random.uniform(0.5, 1.5, 3)
    leaves = [leaf(v) for v in start]
    values, duals = list(leaves), [(v, np.eye(3)[i]) for i, v in enumerate(start)]
    for _ in range(25):
        i, j = random.integers(0, len(values), 2)
        (a, da), (b, db) = duals[i], duals[j]
        if random.random() < 0.5:
            values.append(values[i] + values[j]), duals.append((a + b, da + db))
        else:
            values.append(0.5 * values[i] * values[j]), duals.append((0.5 * a * b, 0.5 * (a * db + b * da)))
    values[-1].backward()
    expected = duals[-1][1]
    for position, x in enumerate(leaves):
        close(0.0 if x.grad is None else x.grad, np.array(expected[position]), rtol=1e-9)


def test_a_chain_of_100000_nodes_forward_backward_and_dropped():
    x = leaf([1.0])
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1
    for _ in range(100_000):
        y = y * 1.0
    del y  # freed without recursion, without a backward


class Counted(int):
    """A sequence number that counts how often it is compared."""

    comparisons = 0

    def __neg__(self):
        return Counted(-int(self))

    def __lt__(self, other):
        Counted.comparisons += 1
        return int(self) < int(other)


def test_a_wide_graph_costs_linear_time(monkeypatch):
    """Function calls and comparisons of the walk are counted: seconds would depend on the machine."""
    numbers = itertools.count()
    monkeypatch.setattr(function, "_count", lambda: Counted(next(numbers)))

    def cost(branches):
        x = leaf([1.0, 2.0])
        total = x * 1.0
        parts = [x * float(i) for i in range(branches)]
        for part in parts:
            total = total + part
        y, calls, Counted.comparisons = total.sum(), 0, 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            y.backward()
        finally:
            sys.setprofile(None)
        close(x.grad, np.full(2, 1 + branches * (branches - 1) / 2))
        return calls - Counted.comparisons, Counted.comparisons

    (calls_small, compared_small), (calls_large, compared_large) = cost(1_000), cost(16_000)
    assert calls_large < 16.5 * calls_small
    assert compared_large < 16 * 2 * compared_small  # n log n; sorting anew at each step would take 256 times as many


def test_no_array_of_the_graph_outlives_backward():
    """Counted by weak references, with the garbage collector switched off."""
    gc.disable()
    try:
        x, w = leaf(np.ones((4, 3))), leaf(np.ones((2, 3)))
        hidden = F.linear(x, w)
        activated = F.softmax(F.tanh(hidden) * 2, 1)
        loss = (activated.amax(1) + F.logsumexp(hidden, 1)).sum()
        alive = [weakref.ref(t) for t in (hidden, activated)]
        nodes = [weakref.ref(t.node) for t in (hidden, activated, loss)]
        del hidden, activated
        loss.backward()
        assert all(r() is None for r in alive), "a tensor of the graph is alive"
        assert [r() is None for r in nodes] == [True, True, False], "only the loss, which we hold, keeps its own node"
        assert not loss.node.__dict__, "and that node keeps nothing"

        y = F.exp(x)  # saves its own output: would be a cycle if it kept the tensor
        gone = weakref.ref(y.node)
        del y
        assert gone() is None, "a graph dropped without backward waits for the garbage collector"
    finally:
        gc.enable()


def test_second_backward_through_a_freed_graph_is_refused():
    x = leaf([1.0, 2.0])
    y = x * x
    z = y + 1.0
    z.sum().backward()
    with pytest.raises(RuntimeError, match=r"freed by an earlier backward; pass retain_graph=True"):
        z.sum().backward()
    z = (x * x).sum()
    z.backward(retain_graph=True)
    z.backward()
    close(x.grad, np.array([2.0, 4.0]) * 3)


def test_grad_leaves_grad_alone_and_knows_unused_inputs():
    a, b, c = leaf(2.0), leaf(3.0), leaf(4.0)
    middle = a * b
    y = middle * middle
    ga, gc_, gm = tinygen.grad(y, [a, c, middle], retain_graph=True)
    assert gc_ is None
    assert a.grad is None
    close(ga, np.array(2 * 6 * 3.0))
    close(gm, np.array(12.0))
    close(tinygen.grad([y, middle], b, [tinygen.Tensor(y.data * 0 + 1), None]), np.array(2 * 6 * 2.0 + 2.0))
    close(tinygen.grad(a, a), np.array(1.0))


def test_only_what_is_asked_for_is_computed():
    called = []

    class Watched(Function):
        saves_inputs = (0, 1)

        def forward(self, x0, x1):
            return x0 * x1

        def backward(self, gy):
            called.append(list(self.needs))
            x0, x1 = self.saved
            return gy * x1, gy * x0

    a, b = leaf(2.0), leaf(3.0)
    y = Watched()(Watched()(a, 5.0), b)
    close(tinygen.grad(y, b, retain_graph=True), np.array(10.0))
    assert called == [[False, True]]  # the node that leads to a alone is not visited
    close(tinygen.grad(y, a), np.array(15.0))
    assert called[1:] == [[True, False], [True, False]]


def test_an_unused_output_counts_as_zero():
    x = leaf(np.arange(6.0).reshape(2, 3))
    first, _, last = F.split(x, 1, 1)
    (first * last).sum().backward()
    close(x.grad, np.array([[2.0, 0, 0], [5, 0, 3]]))
    y, _ = F.standardize(x, (0,), 1.0)  # an output for which backward gets None
    assert tinygen.grad(y.sum(), x) is not None


def test_gradients_of_gradients_by_create_graph():
    x = leaf([0.3, -0.7])
    (g,) = tinygen.grad((x**3).sum(), [x], create_graph=True)
    (h,) = tinygen.grad(g.sum(), [x], create_graph=True)
    (third,) = tinygen.grad(h.sum(), [x])
    close(h, 6 * np.array([0.3, -0.7]))
    close(third, np.array([6.0, 6.0]))
    assert not tinygen.grad((x**3).sum(), x).requires_grad


def test_leaf_gradients_add_up_and_keep_dtype():
    x = leaf([1.0, 2.0], "float32")
    for _ in range(2):
        (x * 3.0).sum().backward()
    close(x.grad, np.array([6.0, 6.0]))
    assert x.grad.dtype == np.float32
    mixed = (x * leaf([1.0, 1.0], "float64")).sum()
    assert mixed.dtype == np.float64
    x.grad = None
    mixed.backward()
    assert x.grad.dtype == np.float32


def test_modes_nest_and_decorate():
    @no_grad()
    def twice(x):
        return x * 2

    x = leaf([1.0])
    assert not twice(x).requires_grad
    switch = no_grad()
    with switch:
        with tinygen.enable_grad():
            assert (x * 2).requires_grad
            with switch:
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()
    with pytest.raises(ValueError, match="does not depend"):
        twice(x).backward()


def test_ties_and_singular_points_follow_their_rules():
    x = leaf([1.0, 3.0, 3.0, 2.0])
    close(tinygen.grad(x.max(), x), np.array([0, 0.5, 0.5, 0]))
    close(tinygen.grad(x.amin(), x), np.array([1.0, 0, 0, 0]))
    a, b = leaf([2.0, 1.0]), leaf([2.0, 5.0])
    ga, gb = tinygen.grad(F.maximum(a, b).sum(), [a, b])
    close(ga, np.array([0.5, 0.0]))
    close(gb, np.array([0.5, 1.0]))
    zero = leaf([0.0, 0.0])
    close(tinygen.grad(zero.norm(), zero), np.zeros(2))
    close(tinygen.grad(F.abs(zero).sum() + F.relu(zero).sum(), zero), np.zeros(2))
    close(tinygen.grad((zero**0).sum(), zero), np.zeros(2))
    guarded = F.where(zero.data > 0, F.log(F.where(zero.data > 0, zero, 1.0)), 0.0)
    close(tinygen.grad(guarded.sum(), zero), np.zeros(2))
    edge = leaf([-1.0, 0.0, 1.0])
    close(tinygen.grad(edge.clamp(-1, 0).sum(), edge), np.array([1.0, 1.0, 0.0]))
    minus = leaf([-np.inf, -np.inf])
    assert F.logsumexp(minus, 0).item() == -np.inf


@given(reals((3, 2)))
def test_negative_axes_equal_positive_ones(x):
    t = leaf(x)
    for operation in (F.sum, F.mean, F.amax, lambda t, d: F.norm(t, dim=d), F.logsumexp, F.cumsum):
        g1, g2 = (tinygen.grad((operation(t, dim) ** 2).sum(), t) for dim in (-1, 1))
        close(g1, g2.numpy())


def test_gradcheck_names_operation_input_index_expected_and_received():
    class Off(Function):
        saves_inputs = (0, 1)

        def forward(self, a, b):
            return a * b

        def backward(self, gy):
            a, b = self.saved
            bump = np.ones(a.shape)
            bump[1, 2] = 1.5
            return gy * b, gy * a * tinygen.Tensor(a.backend.from_host(bump))

    a, b = leaf(np.full((2, 3), 2.0)), leaf(np.full((2, 3), 4.0))
    message = r"off: derivative of order 1 by input 1 at index \(1, 2\): expected -?\d.*, received -?\d"
    with pytest.raises(GradientError, match=message):
        gradcheck(lambda a, b: Off()(a, b), [a, b], name="off")
    with pytest.raises(TypeError, match="float32; finite differences need float64"):
        gradcheck(F.exp, [leaf([1.0], "float32")])


def test_gradcheck_moves_off_a_kink():
    assert gradcheck(F.relu, [leaf([1e-9, 2.0])], order=2) < 1e-5


def test_wrong_functions_are_told_apart():
    class TwoForOne(Function):
        def forward(self, x):
            return x + 0

        def backward(self, gy):
            return gy, gy

    class WrongShape(TwoForOne):
        def backward(self, gy):
            return gy.reshape(3, 2)

    x = leaf(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="two_for_one: backward gave 2 gradients for 1 inputs"):
        TwoForOne()(x).sum().backward()
    with pytest.raises(
        RuntimeError, match=r"wrong_shape: backward gave an input of shape \(2, 3\) a gradient of shape"
    ):
        WrongShape()(x).sum().backward()


def test_inputs_of_two_backends_and_of_none_are_refused():
    here = leaf([1.0])
    other = "numpy" if backend.current().name != "numpy" else "strict"
    with backend.using(other):
        there = leaf([1.0])
    with pytest.raises(tinygen.errors.BackendError, match=r"its inputs are on \w+ and \w+ \(move them to one backend"):
        here + there
    with pytest.raises(TypeError, match="multiply: expected tensors, arrays or numbers, got str"):
        here * "2"


@pytest.mark.filterwarnings("error")
def test_gradients_are_ieee_without_warnings():
    """d√x/dx = ∞ at 0; times 0 it is NaN, as the rule says."""
    x = tinygen.tensor([0.0, 4.0], requires_grad=True)
    (x.sqrt() * tinygen.tensor([0.0, 1.0])).sum().backward()
    assert np.isnan(x.grad.numpy()[0]) and x.grad.numpy()[1] == 0.25
    g = tinygen.grad((x.sqrt() * tinygen.tensor([0.0, 1.0])).sum(), x)
    assert np.isnan(g.numpy()[0])
    with pytest.raises(ValueError, match="no outputs"):
        tinygen.grad([], [x])
