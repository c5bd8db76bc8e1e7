"""Layers that change an image's size call the operations with what they hold."""

import numpy as np
import pytest

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.random import Stream

LAYERS = [
    (nn.Upsample(scale_factor=2), lambda x: F.interpolate(x, scale_factor=2),
     "Upsample(scale_factor=2, mode='nearest')"),
    (nn.Upsample((5, 3), None, "bilinear", True), lambda x: F.interpolate(x, (5, 3), None, "bilinear", True),
     "Upsample(size=(5, 3), mode='bilinear', align_corners=True)"),
    (nn.PixelShuffle(2), lambda x: F.pixel_shuffle(x, 2), "PixelShuffle(upscale_factor=2)"),
    (nn.PixelUnshuffle(2), lambda x: F.pixel_unshuffle(x, 2), "PixelUnshuffle(downscale_factor=2)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "operation", "text"), LAYERS, ids=lambda given: type(given).__name__)
def test_layers_call_their_operations(layer, operation, text):
    x = tinygen.Tensor(Stream(0, "x").normal((2, 4, 6, 4)))
    np.testing.assert_array_equal(layer(x).numpy(), operation(x).numpy())
    assert repr(layer) == text
    assert not layer.state_dict()


def test_a_decoder_learns_through_upsampling():
    net = nn.Sequential(nn.Conv2d(2, 4, 1, random=Stream(0)), nn.Upsample(scale_factor=2, mode="bilinear"),
                        nn.Conv2d(4, 4, 3, padding=1, random=Stream(1)), nn.PixelShuffle(2))  # fmt: skip
    y = net(tinygen.ones((1, 2, 3, 3)))
    assert y.shape == (1, 1, 12, 12)
    (y * y).mean().backward()
    assert all(np.any(p.grad.numpy()) for p in net.parameters())
