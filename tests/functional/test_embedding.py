"""Embedding and one-hot: rows by number, and the gradient that finds its way back to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygen
from tinygen import functional as F
from tinygen.testing import Row, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals

NUMBERS = np.array([[2, 0, 2], [1, 2, 0]])


def numbers(i=NUMBERS):
    return tinygen.tensor(np.array(i))


def looked_up(w):
    return np.array([[w[k] for k in row] for row in NUMBERS])


ROWS = [
    Row("embedding", lambda w: F.embedding(numbers(), w), looked_up, of_shapes((4, 2)), empty=0),
    Row("embedding with a row for padding", lambda w: F.embedding(numbers(), w, 1), looked_up, of_shapes((4, 2)),
        order=0, empty=None),
    Row("embedding of no number", lambda w: F.embedding(numbers(np.zeros((0, 2), int)), w),
        lambda w: np.zeros((0, 2, w.shape[1])), of_shapes((4, 2)), empty=0),
    Row("one_hot", lambda x: F.one_hot(x.to("int64") * 0 + 1, 3), lambda x: np.broadcast_to([0, 1, 0], (*x.shape, 3)),
        of_shapes((2, 2)), order=0),
]  # fmt: skip

test_operation = row_test(ROWS)
indices = hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.integers(0, 4))


@given(reals((5, 3)), indices, st.data())
def test_embedding_is_a_product_with_one_hot_vectors(w, i, data):
    """And so is its gradient, ⟨E w, y⟩ = ⟨w, Eᵀ y⟩, and that gradient's gradient."""
    (t,) = tensors((w,))
    y = data.draw(reals((*i.shape, 3)))
    (given_y,) = tensors((y,))
    e = np.eye(5)[i]
    out = F.embedding(numbers(i), t)
    close(out, e @ w)
    gw = tinygen.grad(out, t, given_y, create_graph=True)
    expected = np.einsum("nk,nd->kd", e.reshape(-1, 5), y.reshape(-1, 3))
    close(gw, expected)
    close((out * given_y).sum(), np.sum(w * expected), atol=1e-11)
    close(tinygen.grad((gw * t.detach()).sum(), given_y), e @ w)


@given(reals((5, 3)), indices, st.integers(-5, 4))
def test_the_padding_row_is_read_and_never_moved(w, i, padding):
    (t,) = tensors((w,))
    out = F.embedding(numbers(i), t, padding)
    close(out, w[i])
    g = tinygen.grad((out * out).sum(), t).numpy()
    expected = 2 * w * np.bincount(i.ravel(), minlength=5)[:, None]
    expected[padding] = 0
    close(g, expected)


@given(indices)
def test_one_hot_has_a_single_one_in_its_place(i):
    y = F.one_hot(numbers(i), 5)
    assert y.dtype == np.int64 and not y.requires_grad
    close(y, np.eye(5, dtype=np.int64)[i])
    fewest = F.one_hot(numbers(i))
    assert fewest.shape == (*i.shape, i.max() + 1)
    close(fewest, y.numpy()[..., : i.max() + 1])


def test_what_names_no_row_is_refused():
    w = tinygen.ones((3, 2))
    for bad in (3, -1):
        with pytest.raises(IndexError, match=f"embedding: indices must be in 0 … 2, got {bad}"):
            F.embedding(numbers([0, bad]), w).sum().item()  # a device is asked when something is fetched
        with pytest.raises(IndexError, match=f"one_hot: indices must be in 0 … 2, got {bad}"):
            F.one_hot(numbers([0, bad]), 3).sum().item()
    with pytest.raises(IndexError, match="one_hot: indices must be in 0 … 2, got -1"):
        F.one_hot(numbers([2, -1])).sum().item()
    with pytest.raises(IndexError, match="embedding: index must hold whole numbers, got float32"):
        F.embedding(tinygen.ones(2), w)
    with pytest.raises(ValueError, match=r"embedding: weight must be \(rows, d\), got \(3,\)"):
        F.embedding(numbers([0]), tinygen.ones(3))
    for bad in (3, -4):
        with pytest.raises(ValueError, match=f"embedding: padding_idx must be in -3 … 2, got {bad}"):
            F.embedding(numbers([0]), w, bad)
    with pytest.raises(ValueError, match="one_hot: num_classes must be at least 1, or −1"):
        F.one_hot(numbers([0]), 0)
    with pytest.raises(ValueError, match=r"one_hot: num_classes=-1 needs at least one class to look at, got .* \(0,\)"):
        F.one_hot(numbers(np.zeros(0, int)))
    with pytest.raises(TypeError, match="one_hot: num_classes must be a whole number"):
        F.one_hot(numbers([0]), 2.0)
