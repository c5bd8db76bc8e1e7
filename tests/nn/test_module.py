"""Modules: what they hold, in which order, and loading that names what does not fit."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, tensors
from tinygen.testing.strategies import reals


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        random = Stream(seed, "net")
        self.zeta = nn.Linear(3, 4, random=random.child("zeta"))
        self.body = nn.Sequential(nn.BatchNorm1d(4), nn.LeakyReLU(0.2), nn.Dropout(0.5, random=random.child("drop")))
        self.alpha = nn.Linear(4, 2, bias=False, random=random.child("alpha"))

    def forward(self, x):
        return self.alpha(self.body(self.zeta(x)))


NAMES = [
    "zeta.weight", "zeta.bias", "body.0.weight", "body.0.bias", "body.0.running_mean", "body.0.running_var",
    "body.0.num_batches_tracked", "alpha.weight",
]  # fmt: skip


def test_names_come_in_the_order_of_assignment_whatever_the_hash_seed():
    assert list(Net().state_dict()) == NAMES
    code = "from tests.nn.test_module import Net; print([n for n, _ in Net().named_parameters()])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert outputs == {str([n for n in NAMES if "running" not in n and "batches" not in n]) + "\n"}


def test_state_round_trip_and_what_it_copies():
    one, two = Net(0), Net(1)
    one(tinygen.ones((5, 3)) * tinygen.arange(5.0).unsqueeze(1))
    state = one.state_dict()
    two.load_state_dict(state)
    for name, array in two.state_dict().items():
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, state[name]), name
    state["zeta.weight"][:] = 0
    assert two.zeta.weight.numpy().any()
    x = tinygen.ones((2, 3))
    close(one.eval()(x), two.eval()(x).numpy(), rtol=0, atol=0)


def test_loading_names_every_problem_and_changes_nothing():
    net = Net()
    state = net.state_dict()
    before = {name: a.copy() for name, a in state.items()}
    del state["alpha.weight"]
    state["zeta.weight"] = np.ones((4, 5))
    state["extra"] = np.ones(2)
    with pytest.raises(ValueError, match="load_state_dict of Net") as caught:
        net.load_state_dict(state)
    for part in (
        "missing alpha.weight (2, 4)",
        "unexpected extra (2,)",
        "zeta.weight is (4, 5), the module has (4, 3)",
    ):
        assert part in str(caught.value)
    assert all(np.array_equal(before[n], a) for n, a in net.state_dict().items())
    with pytest.raises(ValueError, match=r"zeta.weight is \(4, 5\)"):
        net.load_state_dict(state, strict=False)
    net.load_state_dict({"zeta.bias": np.full(4, 2.0)}, strict=False)
    close(net.zeta.bias, np.full(4, 2.0))
    assert net.zeta.bias.dtype == np.float32


def test_modes_gradients_and_repr():
    net = Net()
    assert net.eval().training is False
    assert all(not m.training for m in net.modules())
    net.train()
    net(tinygen.arange(6.0).reshape(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(tinygen.arange(6.0).reshape(2, 3)).requires_grad
    assert "(zeta): Linear(3, 4, bias=True)" in repr(net) and "(2): Dropout(p=0.5)" in repr(net)
    assert len(net.body) == 3 and isinstance(net.body[1], nn.LeakyReLU)


def test_what_is_shared_counts_once_but_has_all_its_names_in_the_state():
    net = nn.Module()
    net.a = nn.Linear(2, 2, random=Stream(0))
    net.b = net.a
    net.c = nn.Module()
    net.c.weight = net.a.weight
    assert [name for name, _ in net.named_parameters()] == ["a.weight", "a.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "a", "c"]
    assert [name for name, _ in net.named_modules(remove_duplicate=False)] == ["", "a", "b", "c"]
    assert [name for name, _ in net.named_children()] == ["a", "c"]
    assert len(list(net.modules())) == 3
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "c.weight"]
    assert "(b): Linear" in repr(net)


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer])
def test_parameters_and_buffers_share_memory_and_count_of_writes_with_their_tensor(kind):
    t, w = tinygen.tensor([1.0, 2.0]), tinygen.tensor([3.0, 4.0], requires_grad=True)
    p = kind(t)
    assert p.requires_grad == (kind is nn.Parameter) and not t.requires_grad
    loss = (w * t).sum()
    with tinygen.no_grad():
        p[0] = 5.0
    close(t, np.array([5.0, 2.0]))
    with pytest.raises(RuntimeError, match="was written to after the forward pass"):
        loss.backward()
    with pytest.raises(TypeError, match=f"{kind.__name__}: expected an array or a tensor, got list"):
        kind([1.0, 2.0])
    with pytest.raises(TypeError, match=f"{kind.__name__}: expected an array or a tensor, got float32"):
        kind(np.float32(1.0))


def test_a_parameter_of_a_result_is_a_leaf():
    x = tinygen.tensor([1.0, 2.0], requires_grad=True)
    p = nn.Parameter(x * 2)
    (p * p).sum().backward()
    close(p.grad, np.array([4.0, 8.0]))
    assert x.grad is None and p.node is None


def test_a_parameter_is_not_lost_to_a_plain_tensor():
    layer = nn.BatchNorm1d(2)
    for name, kind in (("weight", "Parameter"), ("running_mean", "Buffer")):
        with pytest.raises(TypeError, match=f"BatchNorm1d: {name} is a {kind}, got a plain tensor; assign to {name}"):
            setattr(layer, name, getattr(layer, name) * 2)
    layer.weight = nn.Parameter(tinygen.ones(2))
    layer.bias = None
    layer.extra = tinygen.ones(2)
    assert "bias" not in layer.state_dict() and "extra" not in layer.state_dict() and "weight" in layer.state_dict()


def test_loading_writes_into_the_memory_that_is_there():
    layer = nn.Linear(2, 1, random=Stream(0))
    view, memory = layer.weight.detach(), layer.weight.data
    loss = layer(tinygen.tensor([[1.0, 2.0]], requires_grad=True)).sum()
    layer.load_state_dict({"weight": [[5, 6]], "bias": nn.Parameter(tinygen.ones(1))})
    close(view, np.array([[5.0, 6.0]]))
    close(layer.bias, np.ones(1))
    assert layer.weight.data is memory and view.dtype == np.float32
    with pytest.raises(RuntimeError, match="was written to after the forward pass"):
        loss.backward()


def test_loading_takes_arrays_of_the_device_and_keeps_what_it_was_given_apart(backend):
    layer = nn.Linear(2, 1, bias=False, random=Stream(0))
    given = backend.from_host(np.array([[1.0, 2.0]]))
    layer.load_state_dict({"weight": given})
    given[...] = 0
    close(layer.weight, np.array([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("weight", np.ones(2, complex)), ("weight", np.array(["a", "b"])), ("weight", np.array([1.0, None])),
        ("num_batches_tracked", np.array(2.5)),
    ],
)  # fmt: skip
def test_loading_refuses_numbers_of_another_kind_and_changes_nothing(name, array):
    layer = nn.BatchNorm1d(2)
    state = layer.state_dict() | {"bias": np.ones(2), name: array}
    with pytest.raises(ValueError, match=f"BatchNorm1d: {name} is {array.dtype}, the module has"):
        layer.load_state_dict(state)
    close(layer.bias, np.zeros(2))


def test_sequential_is_a_sequence():
    layers = [nn.Linear(2, 2, random=Stream(i)) for i in range(2)] + [nn.ReLU(), nn.Tanh()]
    net = nn.Sequential(*layers)
    assert len(net) == 4 and len(nn.Sequential()) == 0
    assert all(a is b for a, b in zip(net, layers, strict=True))
    assert all(net[i] is layers[i] for i in range(-4, 4))
    for part in (slice(1, 3), slice(None, -1), slice(None, None, -1), slice(9, None)):
        assert isinstance(net[part], nn.Sequential)
        assert all(a is b for a, b in zip(net[part], layers[part], strict=True))
    assert list(net[1:].state_dict()) == ["1.weight", "1.bias"]  # the names stay, as in PyTorch
    x = tinygen.ones((3, 2))
    close(net[2:](net[:2](x)), net(x).numpy(), rtol=0, atol=0)
    close(nn.Sequential(layers[2], layers[2])(x), np.ones((3, 2)))  # one layer in two places is applied twice
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"Sequential: index {index} is out of range for 4 modules"):
            net[index]
    with pytest.raises(TypeError, match=r"Sequential: expected modules, argument 0 is of type list; unpack a list"):
        nn.Sequential(layers)


@given(reals((4, 3)), st.integers(0, 100))
def test_linear_is_the_affine_map(x, seed):
    layer = nn.Linear(3, 2, random=Stream(seed, "l"))
    w, b = (p.numpy().astype(float) for p in (layer.weight, layer.bias))
    close(layer(tensors((x,), "float32")[0]), np.einsum("ni,oi->no", x, w) + b, rtol=1e-4, atol=1e-5)
    assert np.abs(w).max() <= 1 / np.sqrt(3)


def test_linear_initial_weights_are_uniform():
    import scipy.stats

    w = nn.Linear(100, 200, random=Stream(0, "w")).weight.numpy().ravel()
    assert scipy.stats.kstest(w, scipy.stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_batch_norm_trains_and_evaluates():
    random = np.random.default_rng(0)
    data = random.normal(3, 2, (8, 3)).astype(np.float32)
    layer = nn.BatchNorm1d(3, momentum=0.25)
    x = tinygen.tensor(data)
    y = layer(x)
    close(y.mean(0), np.zeros(3), atol=1e-5)
    close(y.var(0, correction=0), np.ones(3), rtol=1e-3)
    close(layer.running_mean, 0.25 * data.mean(0), rtol=1e-5)
    close(layer.running_var, 0.75 + 0.25 * data.var(0, ddof=1), rtol=1e-4)
    assert layer.num_batches_tracked.item() == 1 and layer.num_batches_tracked.dtype == np.int64
    assert isinstance(layer.num_batches_tracked.data, layer.weight.backend.array_type)  # and no scalar of the host
    layer.eval()
    expected = (data - 0.25 * data.mean(0)) / np.sqrt(0.75 + 0.25 * data.var(0, ddof=1) + 1e-5)
    close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    with pytest.raises(ValueError, match=r"needs more than one value per channel, got x \(1, 3\)"):
        layer.train()(x[:1])


@given(reals((5, 2)))
def test_batch_norm_double_backward_in_both_modes(x):
    for training in (True, False):
        layer = nn.BatchNorm1d(2, eps=0.1).train(training)
        layer.running_mean.data = layer.running_mean.backend.asarray(np.array([0.5, -1.0]))
        layer.running_var.data = layer.running_var.backend.asarray(np.array([2.0, 0.5]))
        gradcheck(layer, tensors((x,)), order=3, name=f"batch norm, training={training}")


def test_errors_name_the_layer_the_argument_and_the_shapes():
    layer = nn.Linear(3, 2, random=Stream(0))
    with pytest.raises(
        ValueError, match=r"linear: weight expects 3 input features, x has 4: x \(2, 4\), weight \(2, 3\)"
    ):
        layer(tinygen.ones((2, 4)))
    with pytest.raises(ValueError, match=r"batch_norm: running_mean must be \(4,\)"):
        nn.BatchNorm1d(3)(tinygen.ones((2, 4)))
    with pytest.raises(ValueError, match="Dropout: p must be in"):
        nn.Dropout(1.0, random=Stream(0))
    with pytest.raises(ValueError, match=r"mse_loss: input \(2, 1\) and target \(2,\) differ"):
        F.mse_loss(tinygen.ones((2, 1)), tinygen.ones(2))
    with pytest.raises(ValueError, match="features must be at least 1"):
        nn.Linear(0, 2, random=Stream(0))
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)
