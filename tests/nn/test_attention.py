"""Multi-head attention and the encoder layer, against the definition a head and a query at a time."""

import itertools
import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, tensors
from tinygen.testing.strategies import of_shapes, reals

E, HEADS = 6, 2
QKV = of_shapes((2, 3, E), (2, 4, E), (2, 4, E))
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def layer(batch_first=True, **options):
    """Of float32 numbers at random, also the biases."""
    made = nn.MultiheadAttention(E, HEADS, batch_first=batch_first, random=Stream(0), **options)
    random = np.random.default_rng(1)
    made.load_state_dict({name: random.normal(size=a.shape) for name, a in made.state_dict().items()})
    return made


def by_hand(state, query, key, value, added=None):
    """(y, weights (n, heads, l, s)) for tensors (n, l, e); `added` (n, heads, l, s) to the scores."""
    state = {name: a.astype(float) for name, a in state.items()}
    w, b = state["in_proj_weight"], state.get("in_proj_bias", np.zeros(3 * E))
    q, k, v = (t @ w[i * E : i * E + E].T + b[i * E : i * E + E] for i, t in enumerate((query, key, value)))
    (n, l), s, d = q.shape[:2], k.shape[1], E // HEADS  # noqa: E741
    weights, joined = np.zeros((n, HEADS, l, s)), np.zeros((n, l, E))
    for m, h, i in itertools.product(range(n), range(HEADS), range(l)):
        part = slice(h * d, h * d + d)
        scores = np.array([q[m, i, part] @ k[m, j, part] / math.sqrt(d) for j in range(s)])
        scores = scores if added is None else scores + added[m, h, i]
        if np.isfinite(scores).any():
            weights[m, h, i] = scipy.special.softmax(scores)
        joined[m, i, part] = sum(weights[m, h, i, j] * v[m, j, part] for j in range(s))
    return joined @ state["out_proj.weight"].T + state.get("out_proj.bias", 0), weights


@given(QKV, st.booleans(), st.booleans(), st.booleans())
def test_attention_is_its_definition(arrays, batch_first, bias, average):
    made = layer(batch_first, bias=bias)
    given_ = arrays if batch_first else tuple(a.swapaxes(0, 1) for a in arrays)
    y, weights = made(*tensors(given_), average_attn_weights=average)
    expected, expected_weights = by_hand(made.state_dict(), *arrays)
    close(y, expected if batch_first else expected.swapaxes(0, 1), **EXACT)
    close(weights, expected_weights.mean(1) if average else expected_weights, **EXACT)
    alone, weight = made(*tensors(tuple(a[1] for a in arrays)))
    close(alone, expected[1], **EXACT)
    close(weight, expected_weights[1].mean(0), **EXACT)


@given(reals((2, 3, E)))
def test_of_one_tensor_the_three_maps_are_one_product(x):
    made, t = layer(), tensors((x,))[0]
    y, nothing = made(t, t, t, need_weights=False)
    assert nothing is None
    close(y, by_hand(made.state_dict(), x, x, x)[0], **EXACT)


PADDING = np.array([[0, 0, 0, 1], [0, 1, 1, 1]], bool)
CAUSAL = np.triu(np.ones((3, 4), bool), 1)


def minus_infinity(mask):
    return np.where(mask, -np.inf, 0.0)


@given(QKV, reals((3, 4)), reals((2, 4)), reals((4, 3, 4)))
def test_masks_of_each_kind(arrays, bias, padding_bias, biases):
    made, state = layer(), layer().state_dict()
    pads, causal = minus_infinity(PADDING)[:, None, None], minus_infinity(CAUSAL)
    for padding, mask, added in (
        (PADDING, None, pads), (None, CAUSAL, causal), (PADDING, CAUSAL, pads + causal), (None, bias, bias),
        (padding_bias, None, padding_bias[:, None, None]), (PADDING, bias, pads + bias),
        (padding_bias, CAUSAL, padding_bias[:, None, None] + causal), (None, biases, biases.reshape(2, 2, 3, 4)),
        (PADDING, np.broadcast_to(CAUSAL, (4, 3, 4)), pads + causal),
    ):  # fmt: skip
        masks = [None if m is None else tinygen.tensor(np.array(m)) for m in (padding, mask)]
        y, weights = made(*tensors(arrays), key_padding_mask=masks[0], attn_mask=masks[1], average_attn_weights=False)
        expected, expected_weights = by_hand(state, *arrays, np.broadcast_to(added, (2, HEADS, 3, 4)))
        close(weights, expected_weights, **EXACT)
        close(y, expected, **EXACT)


def test_a_padded_row_spoils_nothing():
    made, x = layer(), tinygen.tensor(np.random.default_rng(0).normal(size=(2, 3, E)), requires_grad=True)
    padding = tinygen.tensor(np.array([[False, False, False], [True, True, True]]))
    y, weights = made(x, x, x, padding)
    close(weights[1], np.zeros((3, 3)))
    close(y[1], np.broadcast_to(made.out_proj.bias.numpy().astype(float), (3, E)))
    (y * y).sum().backward()
    assert np.isfinite(x.grad.numpy()).all() and not x.grad[1].numpy().any()
    assert all(np.isfinite(p.grad.numpy()).all() for p in made.parameters())


def test_initial_weights():
    made = nn.MultiheadAttention(32, 4, random=Stream(0))
    assert list(made.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    state = made.state_dict()
    assert not state["in_proj_bias"].any() and not state["out_proj.bias"].any()
    bound = math.sqrt(6 / 128)
    uniform = scipy.stats.uniform(-bound, 2 * bound).cdf
    assert scipy.stats.kstest(state["in_proj_weight"].ravel(), uniform).pvalue > 1e-3


def test_dropout_in_training_only():
    made = layer(dropout=0.5)
    x = tinygen.tensor(np.random.default_rng(0).normal(size=(1, 50, E)))
    _, weights = made(x, x, x)
    assert 0.3 < (weights.numpy() == 0).mean() / 0.25 < 1.7  # the mean of two heads is 0 where both are
    _, calm = made.eval()(x, x, x)
    assert (calm.numpy() > 0).all()
    close(calm.sum(-1), np.ones((1, 50)))


NAMES = [
    "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight", "self_attn.out_proj.bias",
    "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
    "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
]  # fmt: skip


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu", F.tanh])
@given(x=reals((2, 3, E)))
def test_encoder_layer_is_its_definition(norm_first, activation, x):
    made = nn.TransformerEncoderLayer(
        E, HEADS, 5, 0.3, activation, batch_first=True, norm_first=norm_first, random=Stream(0)
    ).eval()
    assert list(made.state_dict()) == NAMES
    random = np.random.default_rng(2)
    made.load_state_dict({name: random.normal(size=a.shape) for name, a in made.state_dict().items()})
    state = {name: a.astype(float) for name, a in made.state_dict().items()}
    bend = {
        "relu": lambda a: np.maximum(a, 0),
        "gelu": lambda a: a * scipy.special.ndtr(a),
        F.tanh: np.tanh,
    }[activation]
    inner = {name.removeprefix("self_attn."): a for name, a in state.items() if name.startswith("self_attn")}

    def norm(a, name):
        a = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
        return a * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attention(a):
        return by_hand(inner, a, a, a, np.broadcast_to(minus_infinity(CAUSAL[:, :3]), (2, HEADS, 3, 3)))[0]

    def network(a):
        hidden = bend(a @ state["linear1.weight"].T + state["linear1.bias"])
        return hidden @ state["linear2.weight"].T + state["linear2.bias"]

    if norm_first:
        between = x + attention(norm(x, "norm1"))
        expected = between + network(norm(between, "norm2"))
    else:
        between = norm(x + attention(x), "norm1")
        expected = norm(between + network(between), "norm2")
    mask = tinygen.tensor(CAUSAL[:, :3])
    y = made(tensors((x,))[0], mask, is_causal=True)
    close(y, expected, rtol=1e-7, atol=1e-7)


def test_encoder_layer_length_first_dropout_and_double_backward():
    x = np.random.default_rng(0).normal(size=(3, 2, E))
    made = nn.TransformerEncoderLayer(E, HEADS, 5, 0.5, bias=False, random=Stream(0))
    assert [name for name in NAMES if "bias" not in name] == list(made.state_dict())
    (t,) = tensors((x,))
    assert np.abs(made(t).numpy() - made(t).numpy()).max() > 1e-3  # two draws
    made.eval()
    padding = tinygen.tensor(np.array([[False, False, True], [False, False, False]]))
    y = made(t, src_key_padding_mask=padding).numpy()
    alone = made(t[:2, :1]).numpy()
    close(y[:2, :1], alone, **EXACT)  # what is padded is as if it were not there
    smooth = nn.TransformerEncoderLayer(E, HEADS, 5, 0.0, "gelu", 0.1, random=Stream(0))
    gradcheck(smooth, tensors((x,)), order=2)


def test_what_does_not_fit_is_refused():
    made = layer()
    x, name = tinygen.ones((2, 3, E)), "MultiheadAttention"
    for message, call in {
        "num_heads must divide embed_dim, got 4 and 6": lambda: nn.MultiheadAttention(6, 4, random=Stream(0)),
        r"dropout must be in \[0, 1\), got 1.0": lambda: nn.MultiheadAttention(6, 2, 1.0, random=Stream(0)),
        r"expected query and key, value of \(n, l, 6\) and \(n, s, 6\), or all without n, "
        r"got \(2, 3, 6\), \(2, 3, 5\) and \(2, 3, 6\)": lambda: made(x, x[..., 1:], x),
        r"expected query and key, value of \(n, l, 6\)": lambda: made(x, x[:1], x[:1]),
        r"expected query and key, value of \(l, n, 6\) and \(s, n, 6\)": lambda: layer(False)(x, x[:, :1], x[:, :1]),
        r"key_padding_mask must be \(2, 3\), got \(3, 2\)": lambda: made(x, x, x, tinygen.ones((3, 2))),
        r"attn_mask must be \(3, 3\) or \(4, 3, 3\), got \(2, 3, 3\)": lambda: made(
            x, x, x, attn_mask=tinygen.ones((2, 3, 3))
        ),
        "is_causal=True says what attn_mask is, got none; pass the mask": lambda: made(x, x, x, is_causal=True),
    }.items():
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            call()
    with pytest.raises(TypeError, match="key_padding_mask must hold truth values or real numbers, got int64"):
        made(x, x, x, tinygen.zeros((2, 3), dtype="int64"))
    with pytest.raises(ValueError, match='activation must be "relu", "gelu" or a function, got \'tanh\''):
        nn.TransformerEncoderLayer(E, HEADS, activation="tanh", random=Stream(0))


def test_forward_and_backward_wait_for_nothing(backend):
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    made = nn.TransformerEncoderLayer(E, HEADS, 5, 0.0, "gelu", random=Stream(0))
    x, mask = tinygen.ones((3, 2, E)), tinygen.tensor(CAUSAL[:, :3])
    with counting() as counts:
        made(x, mask).sum().backward()
    assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)
