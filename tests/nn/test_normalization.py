"""Normalization layers, activations and tables of vectors: what they hold, and what they do in both modes."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import nn
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, tensors
from tinygen.testing.strategies import reals

BATCH = "weight bias running_mean running_var num_batches_tracked"
LAYERS = {  # layer, the names in its state, a shape that it takes
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), BATCH, (4, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), BATCH, (2, 3, 2, 2)),
    "BatchNorm2d bare": (lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), "", (2, 3, 2, 2)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(3), "", (2, 3, 4)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3, affine=True), "weight bias", (2, 3, 2, 2)),
    "InstanceNorm2d running": (
        lambda: nn.InstanceNorm2d(3, track_running_stats=True), "running_mean running_var num_batches_tracked",
        (2, 3, 2, 2),
    ),
    "LayerNorm": (lambda: nn.LayerNorm((3, 2)), "weight bias", (4, 3, 2)),
    "LayerNorm, no bias": (lambda: nn.LayerNorm(3, bias=False), "weight", (4, 3)),
    "LayerNorm bare": (lambda: nn.LayerNorm(3, elementwise_affine=False), "", (4, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), "weight bias", (2, 6, 2)),
    "GroupNorm bare": (lambda: nn.GroupNorm(3, 6, affine=False), "", (2, 6, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_a_new_layer_standardizes(name, data):
    make, names, shape = LAYERS[name]
    layer = make()
    assert list(layer.state_dict()) == names.split()
    x = data.draw(reals(shape))
    y = layer(tensors((x,))[0]).numpy()
    dims = {"B": (0, *range(2, x.ndim)), "I": tuple(range(2, x.ndim)), "L": tuple(range(1, x.ndim))}.get(name[0])
    if dims is None:  # groups of two channels
        x, y, dims = x.reshape(2, 3, 2, 2), y.reshape(2, 3, 2, 2), (2, 3)
    close(y, (x - x.mean(dims, keepdims=True)) / np.sqrt(x.var(dims, keepdims=True) + 1e-5), rtol=1e-6, atol=1e-9)
    assert type(layer).__name__ + "(" in repr(layer) and "eps=1e-05" in repr(layer)


@given(st.lists(reals((4, 2, 2, 3)), min_size=1, max_size=4))
def test_without_momentum_every_batch_counts_alike(batches):
    layer = nn.BatchNorm2d(2, momentum=None)
    for x in batches:
        layer(tensors((x,), "float32")[0])
    close(layer.running_mean, np.mean([x.mean((0, 2, 3)) for x in batches], 0), rtol=1e-4, atol=1e-5)
    close(layer.running_var, np.mean([x.var((0, 2, 3), ddof=1) for x in batches], 0), rtol=1e-4, atol=1e-5)
    assert layer.running_mean.dtype == np.float32 and layer.num_batches_tracked.item() == len(batches)


@given(reals((2, 3, 2, 2)))
def test_evaluation_uses_the_running_statistics_where_there_are_some(x):
    (t,) = tensors((x,))
    for kind in (nn.BatchNorm2d, nn.InstanceNorm2d):
        layer = kind(3, track_running_stats=True).eval()
        layer.running_mean.data = layer.running_mean.backend.asarray(np.array([0.5, -1.0, 0.0]))
        close(layer(t), (x - np.array([0.5, -1.0, 0.0])[:, None, None]) / np.sqrt(1 + 1e-5), rtol=1e-6)
        assert layer.num_batches_tracked.item() == 0
        without = kind(3, track_running_stats=False)
        close(without.eval()(t), without.train()(t).numpy(), rtol=0, atol=0)


@given(reals((3, 4, 2, 2)))
def test_an_image_without_a_batch(x):
    layer = nn.InstanceNorm2d(4, affine=True)
    whole, one = tensors((x, x[1]))
    close(layer(one), layer(whole)[1].numpy(), rtol=1e-12, atol=1e-12)
    close(nn.InstanceNorm1d(4)(one[:, 0]), nn.InstanceNorm1d(4)(whole[:, :, 0])[1].numpy(), rtol=1e-12, atol=1e-12)


def test_third_derivative_through_a_float32_layer():
    x = np.random.default_rng(0).normal(size=(2, 4, 2, 2))
    for layer in (nn.BatchNorm2d(4, eps=0.1), nn.GroupNorm(2, 4, eps=0.1), nn.LayerNorm(2, eps=0.1)):
        gradcheck(layer, tensors((x,)), order=3)


@given(reals((3, 4), -9, 9))
def test_activation_layers_are_their_functions(x):
    (t,) = tensors((x,))
    sigmoid = scipy.special.expit
    for layer, expected in (
        (nn.ELU(0.5), np.where(x > 0, x, 0.5 * np.expm1(x))),
        (nn.GELU(), x * scipy.stats.norm.cdf(x)),
        (nn.SiLU(), x * sigmoid(x)),
        (nn.Softplus(), np.logaddexp(0, x)),
        (nn.Softplus(2.0), np.logaddexp(0, 2 * x) / 2),
        (nn.LogSigmoid(), np.log(sigmoid(x))),
        (nn.Softmax(0), scipy.special.softmax(x, 0)),
        (nn.LogSoftmax(-1), scipy.special.log_softmax(x, -1)),
        (nn.Identity(3, anything=True), x),
    ):
        close(layer(t), expected, rtol=1e-9, atol=1e-12)
        assert repr(layer).startswith(type(layer).__name__ + "(") and not layer.state_dict()
    rough = nn.GELU("tanh")(t).numpy() - x * scipy.stats.norm.cdf(x)
    assert 0 < np.abs(rough).max() < 5e-4


@given(st.integers(0, 100))
def test_embedding_looks_up(seed):
    layer = nn.Embedding(50, 40, random=Stream(seed, "e"))
    assert list(layer.state_dict()) == ["weight"]
    w, i = layer.weight.numpy(), np.array([[3, 0], [49, 3]])
    close(layer(tinygen.tensor(i)), w[i], rtol=0, atol=0)
    assert scipy.stats.kstest(w.ravel(), scipy.stats.norm.cdf).pvalue > 1e-4


def test_embedding_pads():
    layer = nn.Embedding(4, 2, -1, random=Stream(0))
    assert layer.padding_idx == 3 and repr(layer) == "Embedding(4, 2, padding_idx=3)"
    y = layer(tinygen.tensor([3, 0, 3]))
    close(y[0], np.zeros(2))
    (y * y + y).sum().backward()
    assert not layer.weight.grad[3].numpy().any() and layer.weight.grad[0].numpy().any()


def test_what_cannot_be_is_refused():
    for message, call in {
        r"BatchNorm2d: expected x of \(n, c, h, w\), got \(2, 3\)": lambda: nn.BatchNorm2d(3)(tinygen.ones((2, 3))),
        r"InstanceNorm1d: expected x of \(n, c, length\) or \(c, length\), got \(2,\)": lambda: nn.InstanceNorm1d(2)(
            tinygen.ones(2)
        ),
        "BatchNorm2d: num_features must be at least 1, got 0": lambda: nn.BatchNorm2d(0),
        r"LayerNorm: normalized_shape must hold sizes of at least 1, got \(\)": lambda: nn.LayerNorm(()),
        "GroupNorm: num_groups must divide num_channels, got 2 and 3": lambda: nn.GroupNorm(2, 3),
        r"GroupNorm: expected x of \(n, 4, …\), got \(2, 2\)": lambda: nn.GroupNorm(2, 4)(tinygen.ones((2, 2))),
        "Embedding: sizes must be at least 1, got 0 and 2": lambda: nn.Embedding(0, 2, random=Stream(0)),
        "Embedding: padding_idx must be in -2 … 1, got 2": lambda: nn.Embedding(2, 2, 2, random=Stream(0)),
        "Softplus: beta must be positive, got 0": lambda: nn.Softplus(0),
        'GELU: approximate must be "none" or "tanh", got None': lambda: nn.GELU(None),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
