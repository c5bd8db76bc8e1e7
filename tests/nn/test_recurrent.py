"""Recurrent networks: against loops over single numbers, derivatives of each order, PyTorch's names and layouts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import nn
from tinygen.functional.recurrent import MODES, recurrence, sequence_formula
from tinygen.random import Stream
from tinygen.testing import Row, check, close, gradcheck, tensors
from tinygen.testing.strategies import reals

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def step(mode, x, states, w_ih, w_hh, b_ih, b_hh):
    """One step for one example, number by number: lists in, lists out."""
    h, d = states[0], len(states[0])

    def part(w, b, v, row):
        return b[row] + sum(w[row][k] * v[k] for k in range(len(v)))

    ax = [part(w_ih, b_ih, x, row) for row in range(GATES[mode] * d)]
    ah = [part(w_hh, b_hh, h, row) for row in range(GATES[mode] * d)]
    if mode == "RNN_TANH":
        return [[math.tanh(ax[j] + ah[j]) for j in range(d)]]
    if mode == "RNN_RELU":
        return [[max(ax[j] + ah[j], 0.0) for j in range(d)]]
    if mode == "GRU":
        new = []
        for j in range(d):
            reset, update = sigmoid(ax[j] + ah[j]), sigmoid(ax[d + j] + ah[d + j])
            candidate = math.tanh(ax[2 * d + j] + reset * ah[2 * d + j])
            new.append((1 - update) * candidate + update * h[j])
        return [new]
    new_h, new_c = [], []
    for j in range(d):
        a = [ax[k * d + j] + ah[k * d + j] for k in range(4)]
        new_c.append(sigmoid(a[1]) * states[1][j] + sigmoid(a[0]) * math.tanh(a[2]))
        new_h.append(sigmoid(a[3]) * math.tanh(new_c[j]))
    return [new_h, new_c]


def sequence(mode, reverse, x, states, weights):
    """(h of all steps, the states at the end), each example apart."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (np.zeros(len(w_ih)), np.zeros(len(w_hh)))
    y, last = np.zeros((*x.shape[:2], states[0].shape[1])), [np.zeros(s.shape) for s in states]
    for n in range(x.shape[1]):
        now = [s[n].tolist() for s in states]
        for t in range(len(x) - 1, -1, -1) if reverse else range(len(x)):
            now = step(mode, x[t, n].tolist(), now, w_ih.tolist(), w_hh.tolist(), b_ih.tolist(), b_hh.tolist())
            y[t, n] = now[0]
        for k, state in enumerate(now):
            last[k][n] = state
    return y, *last


@st.composite
def problems(draw, mode):
    """Arrays x, states, weights, in this order."""
    t, n, i, d = (draw(st.integers(1, high)) for high in (4, 3, 3, 3))
    rows = GATES[mode] * d
    sizes = [(t, n, i), *[(n, d)] * (2 if mode == "LSTM" else 1), (rows, i), (rows, d)]
    sizes += [(rows,), (rows,)] if draw(st.booleans()) else []
    return tuple(draw(reals(size, -2, 2)) for size in sizes)


def split_up(mode, arrays):
    states = 2 if mode == "LSTM" else 1
    return arrays[0], arrays[1 : 1 + states], arrays[1 + states :]


def row(mode, reverse):
    def fast(*arrays):
        x, states, weights = split_up(mode, arrays)
        y, last = recurrence(mode, x, states, weights, reverse)
        return y, *last

    def reference(*arrays):
        x, states, weights = split_up(mode, arrays)
        return sequence(mode, reverse, x, states, weights)

    return Row(mode, fast, reference, problems(mode))


ROWS = [row(mode, False) for mode in GATES]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mode", GATES)
@settings(max_examples=12)
@given(st.data())
def test_a_sequence_is_its_steps_number_by_number(mode, reverse, data):
    check(row(mode, reverse), data.draw(problems(mode)))


@pytest.mark.parametrize("mode", GATES)
@settings(max_examples=3)
@given(st.data(), st.booleans())
def test_third_order_and_the_readable_twin(mode, data, reverse):
    arrays = data.draw(problems(mode))

    def last(*inputs):
        x, states, weights = split_up(mode, inputs)
        y, after = recurrence(mode, x, states, weights, reverse)
        return (y * y).sum() + sum(a.sum() for a in after)

    gradcheck(last, tensors(arrays), order=3, rtol=1e-4, name=mode)
    x, states, weights = split_up(mode, tensors(arrays))
    formula = sequence_formula(MODES[mode].formula, reverse, x, states, weights)
    y, after = recurrence(mode, x, states, weights, reverse)
    for fast, slow in zip((y, *after[1:]), formula, strict=True):
        close(fast, slow.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("mode", GATES)
def test_a_sequence_in_two_parts_is_the_sequence(mode):
    """The second part begins with the states that the first one gave: an input that depends on the others."""
    random, rows = np.random.default_rng(0), GATES[mode]
    sizes = [(3, 1, 1), *[(1, 1)] * (2 if mode == "LSTM" else 1), (rows, 1), (rows, 1)]
    arrays = [random.normal(size=size) for size in sizes]

    def parts(*inputs):
        x, states, weights = split_up(mode, inputs)
        first, states = recurrence(mode, x[:1], states, weights)
        second, _ = recurrence(mode, x[1:], states, weights)
        return tinygen.cat([first, second])

    x, states, weights = split_up(mode, tensors(arrays))
    close(parts(x, *states, *weights), recurrence(mode, x, states, weights)[0].numpy(), 1e-12)
    gradcheck(parts, tensors(arrays), order=2, name=mode)


@pytest.mark.parametrize("mode", ["LSTM", "GRU"])
def test_gates_that_are_shut_or_open_make_no_warning_and_no_nan(mode):
    rows = GATES[mode]
    x, h = tinygen.ones((2, 1, 1)), tinygen.ones((1, 1))
    for size in (-1e4, 1e4):
        w = tinygen.tensor(np.full((rows, 1), size, np.float32), requires_grad=True)
        y, _ = recurrence(mode, x, (h, h) if mode == "LSTM" else (h,), (w, w))
        y.sum().backward()
        assert np.isfinite(y.numpy()).all() and np.isfinite(w.grad.numpy()).all()


def test_a_write_into_the_states_is_noticed():
    w = tinygen.tensor(np.ones((1, 1)), requires_grad=True)
    y, _ = recurrence("RNN_TANH", tinygen.tensor(np.ones((2, 1, 1))), (tinygen.tensor(np.ones((1, 1))),), (w, w))
    with tinygen.no_grad():
        y[0] = 3.0
    with pytest.raises(RuntimeError, match=r"rnn: an array of shape .* was written to after the forward pass"):
        y.sum().backward()


# ---------------------------------------------------------------- layers

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CELLS = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
MODE = {"RNN": "RNN_TANH", "LSTM": "LSTM", "GRU": "GRU"}
SUFFIXES = {False: ("",), True: ("", "_reverse")}


def listed(result):
    return list(result) if isinstance(result, tuple) else [result]


def by_layers(kind, layer, x, states):
    """The reference, layer upon layer; x (t, n, i), states (l, n, d), all float64."""
    state, after, at = layer.state_dict(), [], 0
    for depth in range(layer.num_layers):
        outputs = []
        for suffix in SUFFIXES[layer.bidirectional]:
            names = [f"{name}_l{depth}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            weights = [state[name].astype(float) for name in names if name in state]
            y, *last = sequence(MODE[kind], suffix != "", x, [s[at] for s in states], weights)
            last = last if kind == "LSTM" else [y[0 if suffix else -1]]
            outputs.append(y)
            after.append(last)
            at += 1
        x = np.concatenate(outputs, 2)
    return x, [np.stack(each) for each in zip(*after)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99)
)  # fmt: skip
def test_layers_in_both_directions(kind, depth, bias, batch_first, bidirectional, begin, single, seed):
    layer = KINDS[kind](
        3, 2, num_layers=depth, bias=bias, batch_first=batch_first, bidirectional=bidirectional,
        random=Stream(seed, "layer"),
    )  # fmt: skip
    random, count = np.random.default_rng(seed), depth * (1 + bidirectional)
    t, n = 4, 1 if single else 2
    x = random.normal(size=(t, n, 3)).astype(np.float32)
    states = [random.normal(size=(count, n, 2)).astype(np.float32) for _ in range(2 if kind == "LSTM" else 1)]
    if not begin:
        states = [s * 0 for s in states]
    expected, after = by_layers(kind, layer, x.astype(float), [s.astype(float) for s in states])

    def laid(a, of_states=False):
        if single:
            return a[:, 0]
        return a.swapaxes(0, 1) if batch_first and not of_states else a

    given_ = [tinygen.tensor(laid(s, True)) for s in states]
    hx = None if not begin else tuple(given_) if kind == "LSTM" else given_[0]
    y, last = layer(tinygen.tensor(laid(x)), hx)
    close(y, laid(expected), 1e-5, 1e-6)
    for found, right in zip(listed(last), after, strict=True):
        close(found, laid(right, True), 1e-5, 1e-6)
    assert y.dtype == np.float32


def test_names_and_shapes_are_pytorchs():
    layer = nn.LSTM(3, 5, num_layers=2, bidirectional=True, random=Stream(0))
    expected = {}
    for depth, suffix in itertools.product((0, 1), ("", "_reverse")):
        expected[f"weight_ih_l{depth}{suffix}"] = (20, 10 if depth else 3)
        expected[f"weight_hh_l{depth}{suffix}"] = (20, 5)
        expected[f"bias_ih_l{depth}{suffix}"] = expected[f"bias_hh_l{depth}{suffix}"] = (20,)
    state = layer.state_dict()
    assert {name: a.shape for name, a in state.items()} == expected and list(state) == list(expected)
    assert all(np.abs(a).max() <= 1 / math.sqrt(5) and np.abs(a).max() > 0.35 for a in state.values())
    assert list(nn.GRUCell(3, 5, bias=False, random=Stream(0)).state_dict()) == ["weight_ih", "weight_hh"]
    cell = nn.RNNCell(3, 5, random=Stream(0)).state_dict()
    assert {n: a.shape for n, a in cell.items()} == {
        "weight_ih": (5, 3), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,),
    }  # fmt: skip
    assert repr(layer) == "LSTM(3, 5, num_layers=2, bidirectional=True)"
    assert repr(nn.LSTMCell(3, 5, bias=False, random=Stream(0))) == "LSTMCell(3, 5, bias=False)"


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_step_by_step_are_the_layer(kind, nonlinearity):
    more = {"nonlinearity": nonlinearity} if kind == "RNN" else {}
    layer, cell = KINDS[kind](3, 2, random=Stream(0), **more), CELLS[kind](3, 2, random=Stream(1), **more)
    cell.load_state_dict({name.removesuffix("_l0"): a for name, a in layer.state_dict().items()})
    x = tinygen.tensor(np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32))
    y, last = layer(x)
    state = None
    for t in range(5):
        state = cell(x[t], state)
        close(listed(state)[0], y.numpy()[t], 1e-5, 1e-6)
    for found, right in zip(listed(state), listed(last), strict=True):
        close(found, right.numpy()[0], 1e-5, 1e-6)
    one = cell(x[0, 0])
    assert all(s.shape == (2,) for s in listed(one))
    close(listed(one)[0], y.numpy()[0, 0], 1e-5, 1e-6)


def test_dropout_falls_between_layers_in_training_only():
    layer = nn.GRU(2, 64, num_layers=2, dropout=0.5, random=Stream(0))
    x = tinygen.ones((3, 2, 2))
    first, second, still = layer(x)[0].numpy(), layer(x)[0].numpy(), layer.eval()(x)[0].numpy()
    assert not np.allclose(first, second) and (first != 0).all()  # what comes out is not dropped
    assert np.array_equal(layer(x)[0].numpy(), still)
    first, second = (layer.train()(x)[1].numpy() for _ in range(2))
    assert np.array_equal(first[0], second[0]) and not np.allclose(first[1], second[1])  # the input is not dropped
    plain = nn.GRU(2, 64, num_layers=2, random=Stream(1))
    plain.load_state_dict(layer.state_dict())
    assert np.array_equal(plain(x)[0].numpy(), still)


def test_a_bidirectional_layer_turned_around_in_time_is_the_mirror_image():
    layer = nn.LSTM(3, 2, bidirectional=True, random=Stream(0))
    mirror = nn.LSTM(3, 2, bidirectional=True, random=Stream(0))
    state = layer.state_dict()
    swapped = {n.removesuffix("_reverse") if n.endswith("_reverse") else n + "_reverse": a for n, a in state.items()}
    mirror.load_state_dict(swapped)
    x = tinygen.tensor(np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32))
    y, _ = layer(x)
    z, _ = mirror(x.flip(0))
    close(z.numpy()[::-1], np.roll(y.numpy(), 2, axis=2), 1e-6, 1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: nn.LSTM(0, 2, random=r), "LSTM: input_size and hidden_size must be at least 1, got 0 and 2"),
        (lambda r: nn.GRU(1, 2, num_layers=0, random=r), "GRU: num_layers must be at least 1, got 0"),
        (lambda r: nn.GRU(1, 2, 2, dropout=1.0, random=r), r"GRU: dropout must be in \[0, 1\), got 1.0"),
        (lambda r: nn.RNN(1, 2, dropout=0.5, random=r), "RNN: dropout comes between layers, and num_layers is 1"),
        (lambda r: nn.RNN(1, 2, nonlinearity="sin", random=r), "RNN: nonlinearity must be \"tanh\" or \"relu\""),
        (lambda r: nn.RNN(3, 2, random=r)(tinygen.ones((4, 1, 5))), r"RNN: x must have 3 features, got 5: x \(4, 1, 5"),
        (lambda r: nn.RNN(3, 2, random=r)(tinygen.ones(3)), r"RNN: x must be \(t, i\) or \(t, n, i\), none of them 0"),
        (lambda r: nn.RNN(3, 2, random=r)(tinygen.ones((0, 1, 3))), r"RNN: x must be .*, none of them 0, got \(0, 1"),
        (lambda r: nn.GRUCell(3, 2, random=r)(tinygen.ones((2, 2, 3))), r"GRUCell: x must be \(i,\) or \(n, i\)"),
        (lambda r: nn.GRU(3, 2, random=r)(tinygen.ones((4, 1, 3)), tinygen.ones((1, 2))),
         r"GRU: h_0 must be float32 \(1, 1, 2\) for x \(4, 1, 3\), got float32 \(1, 2\)"),
        (lambda r: nn.LSTM(3, 2, random=r)(tinygen.ones((4, 1, 3)), tinygen.ones((1, 1, 2))),
         r"LSTM: hx must be \(h_0, c_0\), got 1 tensors"),
        (lambda r: nn.LSTMCell(3, 2, random=r)(tinygen.tensor(np.ones((4, 3)))), "x must be float32 as the weights"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(Stream(0))


def test_forward_and_backward_wait_for_nothing(backend):
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    layers = [kind(3, 4, num_layers=2, bidirectional=True, random=Stream(0)) for kind in KINDS.values()]
    x = tinygen.ones((5, 2, 3))
    with counting() as counts:
        for layer in layers:
            layer(x)[0].sum().backward()
    assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)
