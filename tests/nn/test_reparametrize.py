"""spectral_norm and weight_norm: against the singular value decomposition and the formulas, and what a state holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import nn, optim
from tinygen.random import Stream
from tinygen.run.state import capture, restore
from tinygen.testing import close, gradcheck


def matrix(weight, dim):
    return np.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1)


LAYERS = {
    "linear": (lambda r: nn.Linear(4, 3, random=r), (2, 4), 0),
    "conv": (lambda r: nn.Conv2d(2, 3, 3, random=r), (1, 2, 5, 5), 0),
    "transposed": (lambda r: nn.ConvTranspose2d(2, 3, 3, random=r), (1, 2, 4, 4), 1),
}


def in_float64(module):
    for p in (*module.parameters(), *module.buffers()):
        p.data = p.data.astype("float64")
    return module


def spectral(kind, seed, **options):
    make, shape, dim = LAYERS[kind]
    random = Stream(seed, "layer")
    plain = in_float64(make(random))
    before = plain.weight.numpy()
    return nn.spectral_norm(plain, random=random.child("vectors"), **options), before, shape, dim


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=5)
@given(st.integers(0, 999))
def test_after_many_iterations_the_norm_is_the_largest_singular_value(kind, seed):
    layer, w, shape, dim = spectral(kind, seed, n_power_iterations=1000)
    layer(tinygen.tensor(np.ones(shape)))
    u, s, vt = np.linalg.svd(matrix(w, dim))
    close(layer.weight, w / s[0], 1e-6, 1e-7)
    if s[1] < 0.95 * s[0]:  # else the vectors have not settled
        close(abs(layer.weight_u.numpy() @ u[:, 0]), np.array(1.0), 1e-6)
        close(abs(layer.weight_v.numpy() @ vt[0]), np.array(1.0), 1e-6)


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=10)
@given(st.integers(0, 999), st.integers(1, 3))
def test_the_iterations_as_written_and_the_gradient_of_the_paper(kind, seed, iterations):
    layer, w, shape, dim = spectral(kind, seed, n_power_iterations=iterations)
    u, v, m = layer.weight_u.numpy(), layer.weight_v.numpy(), matrix(w, dim)
    close(np.array([np.linalg.norm(u), np.linalg.norm(v)]), np.ones(2), 1e-5)
    x = tinygen.tensor(np.random.default_rng(seed).normal(size=shape))
    for _ in range(2):
        (layer(x) ** 2).sum().backward()
        for _ in range(iterations):
            v = m.T @ u / np.linalg.norm(m.T @ u)
            u = m @ v / np.linalg.norm(m @ v)
    close(layer.weight_u, u, 1e-9)
    close(layer.weight_v, v, 1e-9)
    sigma = u @ m @ v
    close(layer.weight, w / sigma, 1e-9)

    layer.zero_grad()
    layer.eval()
    cotangent = np.random.default_rng(seed + 1).normal(size=w.shape)
    (layer.weight * tinygen.tensor(cotangent)).sum().backward()
    c = matrix(cotangent, dim)
    expected = (c - (c * m).sum() / sigma * np.outer(u, v)) / sigma  # with W = m/σ: gW − ⟨gW, W⟩ u vᵀ, over σ
    close(matrix(layer.weight_orig.grad.numpy(), dim), expected, 1e-8, 1e-10)


def test_evaluation_moves_nothing_and_gradients_hold_in_second_order():
    layer, _, _, _ = spectral("linear", 0)
    layer.eval()
    before = layer.state_dict()
    x = tinygen.tensor(np.random.default_rng(0).normal(size=(3, 4)), requires_grad=True)

    def output(x, _weight):
        return tinygen.functional.tanh(layer(x))

    gradcheck(lambda x: output(x, None), [x], order=2)
    after = layer.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_two_forward_passes_and_one_backward():
    """As in a GAN's critic: D(real) − D(fake), with the vectors moved in between."""
    layer, w, _, _ = spectral("linear", 0)
    one, two = (tinygen.tensor(np.random.default_rng(i).normal(size=(3, 4))) for i in range(2))
    (layer(one) - layer(two)).sum().backward()
    assert np.abs(layer.weight_orig.grad.numpy()).max() > 0
    optim.SGD([layer.weight_orig], 0.1).step()
    assert not np.array_equal(layer.weight_orig.numpy(), w)
    close(np.linalg.norm(layer.weight.numpy() * layer.weight_u.numpy()[:, None]) > 0, np.array(True))


@pytest.mark.parametrize("dim", [0, 1, -1, None])
@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=5)
@given(st.integers(0, 999))
def test_weight_norm_is_the_formula_and_begins_where_the_weight_was(kind, dim, seed):
    make, shape, _ = LAYERS[kind]
    layer = in_float64(make(Stream(seed, "layer")))
    w = layer.weight.numpy()
    assert nn.weight_norm(layer, dim=dim) is layer
    close(layer.weight, w, 1e-10, 1e-12)
    whole = dim in (None, -1)
    g = np.array(np.sqrt((w * w).sum())) if whole else np.sqrt(
        np.sum(w * w, axis=tuple(i for i in range(w.ndim) if i != dim), keepdims=True)
    )  # fmt: skip
    close(layer.weight_g, g, 1e-10)
    layer.weight_g.data *= 3.0
    layer.weight_v.data *= 0.5
    close(layer.weight, 3 * w, 1e-10, 1e-12)  # the length is g's, the direction v's

    cotangent = np.random.default_rng(seed).normal(size=w.shape)
    (layer.weight * tinygen.tensor(cotangent)).sum().backward()
    v, length = 0.5 * w, 0.5 * g
    over = tuple(i for i in range(w.ndim) if whole or i != dim)
    gg = (cotangent * v).sum(axis=over, keepdims=True).reshape(g.shape) / length
    close(layer.weight_g.grad, gg, 1e-8, 1e-10)
    close(layer.weight_v.grad, 3 * g / length * (cotangent - gg / length * v), 1e-8, 1e-9)
    assert layer(tinygen.tensor(np.ones(shape))).dtype == np.float64


def test_second_order_of_weight_norm():
    layer = nn.weight_norm(in_float64(nn.Linear(3, 2, random=Stream(0))))
    x = tinygen.tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    inputs = [x, layer.weight_g, layer.weight_v]

    def loss(x, g, v):
        for name, value in (("weight_g", g), ("weight_v", v)):
            vars(layer)[name] = value
        return tinygen.functional.tanh(layer(x))

    gradcheck(loss, inputs, order=2)


def test_names_are_pytorchs_and_a_state_loads():
    make = lambda: nn.spectral_norm(nn.Conv2d(2, 3, 3, random=Stream(0)), random=Stream(1))  # noqa: E731
    state = make().state_dict()
    assert {n: a.shape for n, a in state.items()} == {
        "bias": (3,), "weight_orig": (3, 2, 3, 3), "weight_u": (3,), "weight_v": (18,),
    }  # fmt: skip
    other = make()
    state["weight_u"] = np.array([1, 0, 0], np.float32)
    other.load_state_dict(state)
    assert [name for name, _ in other.named_parameters()] == ["bias", "weight_orig"]
    close(other.weight_u, np.array([1.0, 0, 0]), 0, 0)
    normed = nn.weight_norm(nn.Linear(4, 3, random=Stream(0)))
    assert {n: a.shape for n, a in normed.state_dict().items()} == {
        "bias": (3,), "weight_g": (3, 1), "weight_v": (3, 4),
    }  # fmt: skip
    assert isinstance(normed, nn.Linear) and repr(normed) == "Linear(4, 3, bias=True)"


def test_both_at_once_under_other_names():
    layer = nn.LSTM(3, 2, random=Stream(0))
    nn.weight_norm(layer, "weight_ih_l0")
    nn.spectral_norm(layer, "weight_hh_l0", random=Stream(1))
    x, before = tinygen.ones((4, 1, 3)), layer.weight_hh_l0_u.numpy()
    layer(x)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert not np.array_equal(before, layer.weight_hh_l0_u.numpy())
    s = np.linalg.svd(layer.weight_hh_l0_orig.numpy(), compute_uv=False)
    for _ in range(300):
        layer(x)
    close(layer.weight_hh_l0, layer.weight_hh_l0_orig.numpy() / s[0], 1e-4)


def test_a_run_finds_the_state():
    class Model:
        def __init__(self, seed):
            self.critic = nn.spectral_norm(nn.Linear(3, 2, random=Stream(seed)), random=Stream(seed + 1))

    one, two = Model(0), Model(5)
    one.critic(tinygen.ones((1, 3)))
    restore(two, *capture(one))
    for name, array in one.critic.state_dict().items():
        assert np.array_equal(array, two.critic.state_dict()[name])
    assert np.array_equal(one.critic.weight.numpy(), two.critic.weight.numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, r: nn.spectral_norm(m, "w", random=r), "spectral_norm: Linear has no parameter 'w'"),
        (lambda m, r: nn.weight_norm(m, "random"), "weight_norm: Linear has no parameter 'random'"),
        (lambda m, r: nn.weight_norm(nn.weight_norm(m)), "no parameter 'weight'; it is computed from others already"),
        (lambda m, r: nn.spectral_norm(m, "bias", random=r), r"bias must have at least 2 dimensions, got \(2,\)"),
        (lambda m, r: nn.spectral_norm(m, n_power_iterations=0, random=r), "n_power_iterations must be at least 1"),
        (lambda m, r: nn.spectral_norm(m, dim=2, random=r), r"dim must name a dimension of the weight \(2, 3\), got 2"),
        (lambda m, r: nn.weight_norm(m, dim=5), "weight_norm: dim must name a dimension of the weight"),
    ],
)
def test_errors_leave_the_layer_as_it_was(call, message):
    layer = nn.Linear(3, 2, random=Stream(0))
    with pytest.raises(ValueError, match=message):
        call(layer, Stream(1))
    layer(tinygen.ones((1, 3)))
