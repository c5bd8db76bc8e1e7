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


def test_a_shared_parameter_counts_once():
    net = nn.Module()
    net.a = nn.Linear(2, 2, random=Stream(0))
    net.b = net.a
    assert len(list(net.parameters())) == 2
    assert len(net.state_dict()) == 4  # PyTorch names both


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
    close(y.var(0, 0), np.ones(3), rtol=1e-3)
    close(layer.running_mean, 0.25 * data.mean(0), rtol=1e-5)
    close(layer.running_var, 0.75 + 0.25 * data.var(0, ddof=1), rtol=1e-4)
    assert layer.num_batches_tracked.item() == 1
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


def test_forward_and_backward_of_layers_wait_for_nothing(backend):
    """No transfer and no synchronisation on the way: counted by the strict backend."""
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    net = nn.Sequential(
        nn.Linear(3, 8, random=Stream(0, "a")), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4, random=Stream(0, "b")),
        nn.LeakyReLU(), nn.Tanh(), nn.Sigmoid(), nn.Unflatten(1, (2, 2)), nn.Flatten(),
    )  # fmt: skip
    x, target = tinygen.ones((4, 3)) * tinygen.arange(4.0).unsqueeze(1), tinygen.tensor([0, 1, 2, 3])
    with counting() as counts:
        y = net(x)
        loss = (
            F.cross_entropy(y, target) + F.mse_loss(y, y.detach()) + F.binary_cross_entropy_with_logits(y, y.detach())
        )
        loss.backward()
    assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)
