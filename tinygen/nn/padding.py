"""Margins as layers: each pads x (n, c, h, w) as functional.pad does, by a number or (left, right, top, bottom)."""

from __future__ import annotations

from collections.abc import Sequence

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.functional.shape import whole
from tinygen.nn.module import Module


class _Pad2d(Module):
    mode: str

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        name = type(self).__name__
        given = tuple(padding) if isinstance(padding, Sequence) else (padding,) * 4
        if len(given) != 4:
            raise ValueError(f"{name}: padding must be a number or (left, right, top, bottom), got {padding!r}")
        self.padding = tuple([whole(name, "padding", p) for p in given])

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ValueError(f"{type(self).__name__}: x must be (n, c, h, w), got {x.shape}")
        return F.pad(x, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(_Pad2d):
    """Zeros around an image."""

    mode = "constant"


class ReflectionPad2d(_Pad2d):
    """An image mirrored at its edge pixels, which are not repeated."""

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """An image's edge pixels repeated around it."""

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """An image repeated around itself."""

    mode = "circular"
