"""Attention against its definition, a query at a time; masks; and the query that may look at nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import gradcheck
from tinygen.random import Stream
from tinygen.testing import Row, close, host
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals

ALLOWED = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool)  # the last query may look at nothing
sdpa = F.scaled_dot_product_attention


def by_hand(q, k, v, allowed=None, bias=None, scale=None):
    """Σ_j e^(q·k_j scale + bias_j) v_j / Σ_j e^(…), over the keys that a query may look at; no such key gives 0."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    front = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(t, front + t.shape[-2:]) for t in (q, k, v))
    l, s = q.shape[-2], k.shape[-2]  # noqa: E741
    allowed = np.broadcast_to(True if allowed is None else allowed, (*front, l, s))
    bias = np.broadcast_to(0.0 if bias is None else bias, (*front, l, s))
    y = np.zeros((*front, l, v.shape[-1]))
    for at in np.ndindex(*front, l):
        n, i = at[:-1], at[-1]
        weights = [math.exp(q[n][i] @ k[n][j] * scale + bias[n][i, j]) * allowed[n][i, j] for j in range(s)]
        for j in range(s):
            y[at] += weights[j] / (sum(weights) or 1.0) * v[n][j]
    return y


def allowed():
    return tinygen.tensor(ALLOWED)


QKV = of_shapes((2, 3, 2), (2, 4, 2), (2, 4, 3))
FIRST = np.tril(np.ones((3, 4), bool))
NAME = "scaled_dot_product_attention"
ROWS = [
    Row(NAME, lambda q, k, v: sdpa(q, k, v), by_hand, QKV, empty=3),
    Row(NAME + ", heads", lambda q, k, v: sdpa(q, k, v), by_hand, of_shapes((2, 2, 3, 2), (2, 2, 2), (2, 1, 2, 1)),
        empty=0),
    Row(NAME + ", scaled", lambda q, k, v: sdpa(q, k, v, scale=0.3), lambda *qkv: by_hand(*qkv, scale=0.3), QKV),
    Row(NAME + ", masked", lambda q, k, v: sdpa(q, k, v, allowed()), lambda *qkv: by_hand(*qkv, ALLOWED), QKV),
    Row(NAME + ", causal", lambda q, k, v: sdpa(q, k, v, is_causal=True), lambda *qkv: by_hand(*qkv, FIRST), QKV),
    Row(NAME + ", biased", lambda q, k, v, b: sdpa(q, k, v, b), lambda q, k, v, b: by_hand(q, k, v, bias=b),
        of_shapes((2, 3, 2), (2, 4, 2), (2, 4, 3), (3, 1)), empty=0),
    Row(NAME + ", −∞ in the bias",
        lambda q, k, v: sdpa(q, k, v, F.where(allowed(), 0.5, -math.inf).to(q.dtype)),
        lambda *qkv: by_hand(*qkv, ALLOWED), QKV),
]  # fmt: skip

test_operation = row_test(ROWS)


@given(of_shapes((2, 2), (3, 2), (3, 2)))
def test_third_derivatives(arrays):
    mask = tinygen.tensor(ALLOWED[1:, 1:])
    gradcheck(lambda q, k, v: sdpa(q, k, v, mask), tensors(arrays), order=3)


@given(QKV)
def test_who_may_look_at_nothing_gets_nothing(arrays):
    q, k, v = tensors(arrays)
    y = sdpa(q, k, v, allowed())
    close(y[:, 2], np.zeros((2, 3)))
    gq, gk, gv = tinygen.grad((y + 1).exp().sum(), [q, k, v])
    close(gq[:, 2], np.zeros((2, 2)))
    for g in (gk[:, 1], gv[:, 1]):  # the key that nobody may look at
        close(g, np.zeros(g.shape))
    nothing = sdpa(q, k, v, tinygen.zeros((3, 4), dtype=bool))
    close(nothing, np.zeros((2, 3, 3)))


@given(QKV, st.floats(-50, 50))
def test_exact_identities(arrays, shift):
    """Equal values come out as they are; the order of keys, and a shift of a query's scores, change nothing."""
    q, k, v = tensors(arrays)
    close(sdpa(q, k, v * 0 + 2.5), np.full((2, 3, 3), 2.5))
    turned = sdpa(q, F.flip(k, 1), F.flip(v, 1))
    close(turned, sdpa(q, k, v).numpy(), rtol=1e-9, atol=1e-10)
    moved = sdpa(q, k, v, tensors((np.full((3, 1), shift),))[0])
    close(moved, sdpa(q, k, v).numpy(), rtol=1e-9, atol=1e-9)


def test_scores_that_overflow_an_exponential():
    q, k, v = tensors((np.full((1, 2), 300.0), np.array([[300.0, 300.0], [0, 0]]), np.array([[1.0], [2.0]])), "float32")
    close(sdpa(q, k, v), np.ones((1, 1)))
    close(tinygen.grad(sdpa(q, k, v).sum(), v), np.array([[1.0], [0.0]]))


def test_dropout_drops_weights_and_keeps_their_mean():
    random = np.random.default_rng(0)
    q, k, v = tensors((random.normal(size=(500, 4, 3)), random.normal(size=(500, 6, 3)), np.ones((500, 6, 1))))
    y = sdpa(q, k, v, dropout_p=0.25, random=Stream(0)).numpy()
    assert abs(y.mean() - 1) < 0.03 and y.std() > 0.05
    again = sdpa(q, k, v, dropout_p=0.25, random=Stream(0))
    close(again, y, rtol=0, atol=0)
    kept = host(Stream(0).bernoulli(0.75, (500, 4, 6))) / 0.75
    weights = np.stack([by_hand(q.numpy()[n], k.numpy()[n], np.eye(6)) for n in range(5)])
    close(y[:5], (weights * kept[:5]).sum(-1, keepdims=True), rtol=1e-9)


@given(reals((2, 3, 2)))
def test_float32_stays(x):
    q = tensors((x,), "float32")[0]
    assert sdpa(q, q, q, is_causal=True).dtype == np.float32
    assert sdpa(q, q, q, tinygen.tensor(np.ones((3, 3), bool))).dtype == np.float32


def test_what_does_not_fit_is_refused():
    q, k, v = tinygen.ones((2, 3, 4)), tinygen.ones((2, 5, 4)), tinygen.ones((2, 5, 1))
    name = "scaled_dot_product_attention"
    for message, call in {
        r"expected query \(…, l, e\), key \(…, s, e\) and value \(…, s, ev\), got \(4,\)": lambda: sdpa(q[0, 0], k, v),
        r"query and key must have equal features, got \(2, 3, 4\) and \(2, 5, 1\)": lambda: sdpa(q, v, v),
        r"there must be a value for each key, got \(2, 5, 4\) and \(2, 4, 1\)": lambda: sdpa(q, k, v[:, 1:]),
        r"dropout_p must be in \[0, 1\), got 1": lambda: sdpa(q, k, v, dropout_p=1),
        r"dropout_p 0.1 needs a random stream; pass random=": lambda: sdpa(q, k, v, dropout_p=0.1),
        "attn_mask must be None with is_causal=True": lambda: sdpa(q, k, v, tinygen.ones((3, 5)), is_causal=True),
        r"attn_mask must broadcast to \(…, 3, 5\), got \(5, 3\)": lambda: sdpa(q, k, v, tinygen.ones((5, 3))),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            call()
    with pytest.raises(TypeError, match=f"{name}: attn_mask must hold truth values or real numbers, got int64"):
        sdpa(q, k, v, tinygen.zeros((3, 5), dtype="int64"))
