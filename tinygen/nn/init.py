"""Initial values of weights. `fan_in` is the number of inputs that one output sums over."""

from __future__ import annotations

import math

from tinygen.backend import Array, of
from tinygen.random import Stream


def kaiming_uniform(shape: tuple[int, ...], fan_in: int, random: Stream) -> Array:
    """U(−b, b) with b = 1/√fan_in: PyTorch's default for linear and convolution layers (He et al. 2015 with a = √5)."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return random.uniform(shape, -bound, bound)


def channels_last(kernel: Array) -> Array:
    """The same kernel (o, c, kh, kw), lying in memory as (o, kh, kw, c): a convolution then reads it without a copy."""
    return of(kernel).xp.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
