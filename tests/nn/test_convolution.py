"""Convolution layers: what they hold, and that they call the operations with it."""

import math

import numpy as np
import pytest

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.backend import current
from tinygen.random import Stream

IMAGES = Stream(0, "images")


def test_conv2d_holds_pytorchs_layout_and_range():
    layer = nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, random=Stream(0, "w"))
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": (8, 3, 3, 2), "bias": (8,)}
    bound = 1 / math.sqrt(3 * 3 * 2)
    for p in layer.parameters():
        assert 0.5 * bound < np.abs(p.numpy()).max() <= bound
    x = tinygen.Tensor(IMAGES.normal((2, 6, 9, 7)))
    expected = F.conv2d(x, layer.weight, layer.bias, (2, 1), 1, (1, 2), 2)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    assert repr(layer) == ("Conv2d(6, 8, kernel_size=(3, 2), stride=(2, 1), padding=(1, 1), dilation=(1, 2), groups=2)")


def test_conv_transpose2d_holds_pytorchs_layout_and_range():
    layer = nn.ConvTranspose2d(6, 4, 4, 2, 1, output_padding=1, groups=2, bias=False, random=Stream(0, "w"))
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": (6, 2, 4, 4)}
    bound = 1 / math.sqrt(2 * 4 * 4)  # PyTorch counts the weight's second dimension
    assert 0.5 * bound < np.abs(layer.weight.numpy()).max() <= bound
    x = tinygen.Tensor(IMAGES.normal((2, 6, 5, 5)))
    expected = F.conv_transpose2d(x, layer.weight, None, 2, 1, 1, 2)
    assert expected.shape == (2, 4, 11, 11)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    assert "bias=False" in repr(layer)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_pad_before(mode):
    layer = nn.Conv2d(1, 2, 3, padding=(2, 1), padding_mode=mode, random=Stream(0, "w"))
    x = tinygen.Tensor(IMAGES.normal((1, 1, 5, 4)))
    numpys = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (1, 1)), numpys)
    expected = F.conv2d(tinygen.Tensor(current().from_host(padded)), layer.weight, layer.bias)
    np.testing.assert_allclose(layer(x).numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="needs padding in numbers"):
        nn.Conv2d(1, 2, 3, padding="same", padding_mode=mode, random=Stream(0))
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        nn.Conv2d(1, 2, 3, padding_mode="mirror", random=Stream(0))


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 3), "channels must be at least 1"),
        ((3, 4, 3, 1, 0, 1, 2), "divisible by groups"),
        ((3, 4, 0), "kernel_size must be a whole number"),
        ((3, 4, 3, (1, 2, 3)), "stride must be a whole number"),
        ((3, 4, 3, 1, -1), "padding must be a whole number"),
    ],
)
def test_errors_name_the_layer(layer, arguments, message):
    if len(arguments) > 5 and layer is nn.ConvTranspose2d:
        arguments = (*arguments[:5], 0, 2)
    with pytest.raises(ValueError, match=f"{layer.__name__}: .*{message}"):
        layer(*arguments, random=Stream(0))
