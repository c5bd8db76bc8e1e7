"""What is left of a graph: after a part of it was freed, after an error, and in the gradients that leaves keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import Function
from tinygen.testing import close


def leaf(values, dtype="float64"):
    return tinygen.tensor(np.asarray(values, dtype), requires_grad=True)


def test_grad_through_a_freed_graph_is_refused_not_none():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = F.exp(x)
    y.sum().backward()
    z = (y * w).sum()
    with pytest.raises(RuntimeError, match=r"^exp: this part of the graph was freed.*retain_graph=True"):
        tinygen.grad(z, x)
    with pytest.raises(RuntimeError, match=r"^exp: this part of the graph was freed"):
        tinygen.grad(z, [x, w])


def test_grad_frees_only_what_it_ran_through():
    a, b = leaf(2.0), leaf(3.0)
    middle = a * b
    side = F.exp(b)
    y = middle * side
    close(tinygen.grad(y, middle), np.exp(3.0))
    middle.backward()  # grad stopped above it
    close(a.grad, np.array(3.0))
    side.backward()  # and did not go through this at all
    close(b.grad, 2.0 + np.exp(3.0))
    with pytest.raises(RuntimeError, match="multiply: this part of the graph was freed"):
        y.backward()


def test_an_input_below_another_is_reached_through_it():
    a = leaf([2.0, 3.0])
    square = a * a
    y = (square * square).sum()
    g_square, g_a = tinygen.grad(y, [square, a])
    close(g_square, 2 * np.array([4.0, 9.0]))
    close(g_a, 4 * np.array([8.0, 27.0]))


def test_after_an_error_in_grad_the_graph_is_as_before():
    class Fails(Function):
        def forward(self, x):
            return x + 0

        def backward(self, gy):
            if fails:
                raise ArithmeticError("on purpose")
            return gy

    class Product(Function):
        saves_inputs = (0, 1)

        def forward(self, a, b):
            return a * b

        def backward(self, gy):
            if fails:
                raise ArithmeticError("on purpose")
            a, b = self.saved
            return gy * b if self.needs[0] else None, gy * a if self.needs[1] else None

    a, b = leaf(2.0), leaf(3.0)
    y = Product()(a, Fails()(b))
    fails = True
    with pytest.raises(ArithmeticError):
        tinygen.grad(y, a, retain_graph=True)
    fails = False
    assert y.node.needs == [True, True]
    y.backward()
    close(a.grad, np.array(3.0))
    close(b.grad, np.array(2.0))


# ---------------------------------------------------------------- the gradients that leaves keep


class Same(Function):
    """y = x, with a gradient that is the very tensor that came."""

    def forward(self, *xs):
        return sum(x * 1.0 for x in xs)

    def backward(self, gy):
        return (gy,) * len(self.edges)


class Factor(Function):
    """y = Σ c x, whose author gives away the saved factor as the gradient (right where gy is 1)."""

    saves_inputs = (1,)

    def forward(self, x, c):
        return (x * c).sum()

    def backward(self, gy):
        return self.saved[0], None


PROGRAMS = [
    lambda a, b: (a + b).sum(),
    lambda a, b: a.sum() + b.sum(),
    lambda a, b: (a.reshape(6) + b.T.reshape(6)).sum(),
    lambda a, b: (a.flip(0) + b).sum() + a.sum(),
    lambda a, b: F.cat([a, b]).sum(),
    lambda a, b: Same()(a, b).sum(),
    lambda a, b: (Same()(a, b) * a.detach()).sum(),
    lambda a, b: Factor()(a, b) + b.sum(),
    lambda a, b: (a * b).sum(),
]


@given(st.sampled_from(PROGRAMS), st.booleans(), st.booleans())
def test_every_leaf_owns_its_gradient(program, create_graph, twice):
    """Scaling one gradient in place, as clipping does, changes no other array."""
    a, b = leaf(np.arange(1.0, 7).reshape(2, 3)), leaf(np.arange(7.0, 13).reshape(2, 3))
    for _ in range(1 + twice):
        program(a, b).backward(create_graph=create_graph)
    before = [x.numpy() for x in (a, b, a.grad, b.grad)]
    a.grad.data[...] = 100.0  # writes once into each element: a repeated one would be found by the comparison below
    for x, expected in zip((a, b, b.grad), (before[0], before[1], before[3])):
        assert np.array_equal(x.numpy(), expected)
    a.grad.data[0, 0] = 7.0
    assert np.array_equal(a.grad.numpy(), [[7.0, 100, 100], [100, 100, 100]])


def test_a_gradient_to_start_with_stays_the_callers():
    x, start = leaf([1.0, 2.0]), tinygen.tensor(np.array([3.0, 4.0]))
    x.backward(start)
    (x + 0.0).backward(start)
    y = leaf([1.0, 2.0])
    y.backward(start)
    y.grad.data[0] = 0.0
    close(start, np.array([3.0, 4.0]))
    close(x.grad, np.array([6.0, 8.0]))


def test_a_gradient_that_nobody_shares_is_not_copied():
    made = []

    class Fresh(Function):
        def forward(self, x):
            return x.sum()

        def backward(self, gy):
            made.append(gy.backend.xp.ones((2, 3)))
            return tinygen.Tensor(made[-1])

    x = leaf(np.ones((2, 3)))
    Fresh()(x).backward()
    assert x.grad.data is made[0]


def test_leaf_gradients_stay_on_the_tape_when_they_are_copied():
    a, b = leaf([2.0]), leaf([5.0])
    ((a + b) ** 3).sum().backward(create_graph=True)
    assert a.grad is not b.grad
    close(tinygen.grad(a.grad.sum() + 2 * b.grad.sum(), a), np.array([3 * 6 * 7.0]))


# ---------------------------------------------------------------- what is recorded


def test_results_without_a_gradient_are_not_recorded():
    x = leaf([1.5, -2.5])
    for kind in ("int64", "bool"):
        assert not x.to(kind).requires_grad
        assert x.to(kind).node is None
    assert x.to("float32").requires_grad

    class SortedAndWhere(Function):
        saves_outputs = (1,)

        def forward(self, x):
            return x * 2, x.argmax()

        def backward(self, gy, gat):
            (at,) = self.saved
            assert not at.requires_grad
            return gy * 2

    y, at = SortedAndWhere()(x)
    assert y.requires_grad and not at.requires_grad and at.node is None
    y.sum().backward()
    close(x.grad, np.array([2.0, 2.0]))
