"""Layers of windows and margins call the operations with what they hold."""

import numpy as np
import pytest

import tinygen
from tinygen import functional as F
from tinygen import nn
from tinygen.random import Stream

IMAGE = (2, 3, 7, 6)
LAYERS = [
    (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2), "MaxPool2d(kernel_size=(2, 2), stride=(2, 2))"),
    (nn.MaxPool2d(3, 2, 1, (1, 2), ceil_mode=True), lambda x: F.max_pool2d(x, 3, 2, 1, (1, 2), True),
     "MaxPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 2), ceil_mode=True)"),
    (nn.AvgPool2d((2, 3)), lambda x: F.avg_pool2d(x, (2, 3)), "AvgPool2d(kernel_size=(2, 3), stride=(2, 3))"),
    (nn.AvgPool2d(3, 2, 1, True, False), lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
     "AvgPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True, count_include_pad=False)"),
    (nn.AdaptiveAvgPool2d((4, None)), lambda x: F.adaptive_avg_pool2d(x, (4, None)),
     "AdaptiveAvgPool2d(output_size=(4, None))"),
    (nn.Unfold(2, 1, 1, (2, 1)), lambda x: F.unfold(x, 2, 1, 1, (2, 1)),
     "Unfold(kernel_size=(2, 2), stride=(2, 1), padding=(1, 1))"),
    (nn.Sequential(nn.Unfold((2, 3), (2, 1)), nn.Fold((7, 6), (2, 3), (2, 1))),
     lambda x: F.fold(F.unfold(x, (2, 3), (2, 1)), (7, 6), (2, 3), (2, 1)),
     "(1): Fold(output_size=(7, 6), kernel_size=(2, 3), stride=(1, 1), dilation=(2, 1))"),
    (nn.ZeroPad2d(1), lambda x: F.pad(x, (1, 1, 1, 1)), "ZeroPad2d((1, 1, 1, 1))"),
    (nn.ReflectionPad2d((1, 2, 3, 0)), lambda x: F.pad(x, (1, 2, 3, 0), "reflect"), "ReflectionPad2d((1, 2, 3, 0))"),
    (nn.ReplicationPad2d((1, -2, 3, 0)), lambda x: F.pad(x, (1, -2, 3, 0), "replicate"), "ReplicationPad2d((1, -2, 3"),
    (nn.CircularPad2d(2), lambda x: F.pad(x, (2, 2, 2, 2), "circular"), "CircularPad2d((2, 2, 2, 2))"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "operation", "text"), LAYERS, ids=lambda given: type(given).__name__)
def test_layers_call_their_operations(layer, operation, text):
    x = tinygen.Tensor(Stream(0, "x").normal(IMAGE))
    np.testing.assert_array_equal(layer(x).numpy(), operation(x).numpy())
    assert text in repr(layer)
    assert not layer.state_dict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size must be a whole number ≥ 1"),
        (lambda: nn.AvgPool2d(2, 0), "AvgPool2d: stride must be a whole number ≥ 1"),
        (lambda: nn.Fold((2, 2, 2), 2), "Fold: output_size must be a whole number"),
        (lambda: nn.ZeroPad2d((1, 2)), r"ZeroPad2d: padding must be a number or \(left, right, top, bottom\), got"),
        (lambda: nn.ZeroPad2d(1)(tinygen.ones((2, 2))), r"ZeroPad2d: x must be \(n, c, h, w\), got \(2, 2\)"),
    ],
)
def test_errors_name_the_layer(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ceil_mode_is_named():
    """PyTorch has return_indices before it: a position would mean two things."""
    with pytest.raises(TypeError, match="positional"):
        nn.MaxPool2d(2, 2, 0, 1, True)
