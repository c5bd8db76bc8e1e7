"""Windows as layers: pooling, unfold and fold."""

from __future__ import annotations

from collections.abc import Sequence

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.functional.convolution import Size, pair
from tinygen.nn.module import Module


class _Window(Module):
    """What the layers hold: the window and how it moves."""

    def __init__(self, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size = 1) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = pair(name, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(name, "stride", stride, 1)
        self.padding = pair(name, "padding", padding, 0)
        self.dilation = pair(name, "dilation", dilation, 1)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}"
        more = {"padding": ((0, 0), self.padding), "dilation": ((1, 1), self.dilation)}
        return text + "".join(f", {name}={value}" for name, (usual, value) in more.items() if value != usual)


class MaxPool2d(_Window):
    """The largest element of each window of x (n, c, h, w); see functional.max_pool2d."""

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, *,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, dilation)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", ceil_mode=True" if self.ceil_mode else "")


class AvgPool2d(_Window):
    """The mean of each window of x (n, c, h, w); see functional.avg_pool2d."""

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        text = super().extra_repr() + (", ceil_mode=True" if self.ceil_mode else "")
        return text + ("" if self.count_include_pad else ", count_include_pad=False")


class AdaptiveAvgPool2d(Module):
    """The means over output_size parts of x (n, c, h, w); see functional.adaptive_avg_pool2d."""

    def __init__(self, output_size: Size | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Unfold(_Window):
    """Each window of x (n, c, h, w) as a column; see functional.unfold."""

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> None:
        super().__init__(kernel_size, stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Window):
    """Columns x (n, c kh kw, windows) added up to an image of output_size; see functional.fold."""

    def __init__(
        self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation)
        self.output_size = pair("Fold", "output_size", output_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
