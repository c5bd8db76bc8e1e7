"""Convolution layers."""

from __future__ import annotations

import math

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.functional.convolution import Size, pair
from tinygen.functional.padding import MODES
from tinygen.nn.init import channels_last, kaiming_uniform
from tinygen.nn.module import Module, Parameter
from tinygen.random import Stream

PADDING_MODES = ("zeros", *MODES[1:])


class _Convolution(Module):
    """What both layers hold: the geometry, a weight and a bias, both uniform in ±1/√fan_in."""

    padding: tuple[int, int] | str

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size, dilation: Size, groups: int,
        bias: bool, transposed: bool, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        if min(in_channels, out_channels) < 1 or groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: channels must be at least 1 and divisible by groups, "
                f"got {in_channels} and {out_channels} with {groups} groups"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(name, "kernel_size", kernel_size, 1), pair(name, "stride", stride, 1)
        self.dilation = pair(name, "dilation", dilation, 1)
        channels = (in_channels, out_channels // groups) if transposed else (out_channels, in_channels // groups)
        fan_in = channels[1] * math.prod(self.kernel_size)
        self.weight = Parameter(channels_last(kaiming_uniform((*channels, *self.kernel_size), fan_in, random)))
        self.bias = Parameter(kaiming_uniform((out_channels,), fan_in, random)) if bias else None

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        more = {"padding": ((0, 0), self.padding), "dilation": ((1, 1), self.dilation), "groups": (1, self.groups)}
        changed = "".join(f", {name}={value!r}" for name, (usual, value) in more.items() if value != usual)
        return text + changed + ("" if self.bias is not None else ", bias=False")


class Conv2d(_Convolution):
    """y = x ⋆ weight + bias for x (n, in_channels, h, w); see functional.conv2d for the formula and the sizes.

    weight (out_channels, in_channels/groups, kh, kw), bias (out_channels).
    padding_mode: what surrounds the image: "zeros", or "reflect", "replicate", "circular" as in functional.pad.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size | str = 0,
        dilation: Size = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", *, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias, False, random)
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"Conv2d: padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.padding_mode = padding_mode
        self.margins: tuple[int, ...] = ()
        self.padding = padding if isinstance(padding, str) else pair("Conv2d", "padding", padding, 0)
        if padding_mode != "zeros":
            if isinstance(self.padding, str):
                raise ValueError(f"Conv2d: padding_mode {padding_mode!r} needs padding in numbers, got {padding!r}")
            top, left = self.padding
            self.margins = (left, left, top, top)

    def forward(self, x: Tensor) -> Tensor:
        if self.padding_mode == "zeros":
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        x = F.pad(x, self.margins, self.padding_mode)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """The transposed convolution of x (n, in_channels, h, w); see functional.conv_transpose2d.

    weight (in_channels, out_channels/groups, kh, kw), bias (out_channels).
    """

    padding: tuple[int, int]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
        output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1, *, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, dilation, groups, bias, True, random)
        self.padding = pair("ConvTranspose2d", "padding", padding, 0)
        self.output_padding = pair("ConvTranspose2d", "output_padding", output_padding, 0)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
