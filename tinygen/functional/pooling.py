"""Windows that move over an image: their largest element, their mean, and all that they see.

A tap is one place of the window. `x[taps[t]]`, a slice with steps, is what tap t sees at all positions at once, so each
loop here runs over the taps of a kernel, never over pixels. Margins are made beforehand by `pad`, so what follows
knows none. These are linear, and the pairs adjoint to each other:

    SumWindows, SpreadWindows      the sum of each window         each number added to all places of its window
    Unfold, Fold                   what each window sees          put back where it was seen
    PickMaximum, PlaceMaximum      the element that won           put back where it won

MaxPool is none of them, as its winners depend on x; its derivative is the last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, Geometry, of
from tinygen.functional.convolution import Size, pair
from tinygen.functional.padding import pad

Pair = tuple[int, int]

SMALL = 1 << 15  # elements up to which threads cost more than they save


def _axis_taps(dim: int, kernel: int, stride: int, dilation: int, size: int) -> list[tuple[slice, ...]]:
    """What each tap along one dimension sees, with `size` positions of the window."""
    before = (slice(None),) * dim
    starts = range(0, kernel * dilation, dilation)
    return [(*before, slice(start, start + stride * (size - 1) + 1, stride)) for start in starts]


def _taps(kernel: Pair, geometry: Geometry, size: Pair) -> list[tuple[slice, ...]]:
    """What each tap of the kernel sees, row by row."""
    rows, columns = (
        _axis_taps(dim, k, s, d, m) for dim, k, s, d, m in zip((2, 3), kernel, geometry.stride, geometry.dilation, size)
    )
    return [(*row, column[-1]) for row in rows for column in columns]


def _by_images(x: Array, work: Callable[[int, int], None]) -> None:
    """work(begin, end) for all images, in parts that the backend finds good."""
    n, elements = len(x), math.prod(x.shape[1:])
    if n * elements < SMALL:
        work(0, n)
    else:
        of(x).workshop.run(n, elements, work)


def _combine(combine: Callable, x: Array, kernel: Pair, geometry: Geometry, size: Pair) -> Array:
    """The taps of each window combined, first down the columns, then along what is left of the rows."""
    y = of(x).xp.empty_like(x, shape=(*x.shape[:2], *size))

    def along(dim: int, x: Array, y: Array | None) -> Array:
        i = dim - 2
        first, *rest = _axis_taps(dim, kernel[i], geometry.stride[i], geometry.dilation[i], size[i])
        if not rest:
            return x[first]
        y = combine(x[first], x[rest[0]], out=y)
        for tap in rest[1:]:
            combine(y, x[tap], out=y)
        return y

    def work(begin: int, end: int) -> None:
        part = y[begin:end]
        made = along(3, along(2, x[begin:end], None), part)
        if made is not part:
            part[...] = made

    _by_images(x, work)
    return y


class _Window(Function):
    def __init__(self, kernel: Pair, geometry: Geometry, size: Pair) -> None:
        self.kernel, self.geometry = kernel, geometry
        self.size = size  # height and width of what is made


class SumWindows(_Window):
    """y[i, j] = Σ_{k, l} x[s i + d k, s j + d l]; `size` is (h', w')."""

    def forward(self, x: Array) -> Array:
        self.before = x.shape[2:]
        return _combine(of(x).xp.add, x, self.kernel, self.geometry, self.size)

    def backward(self, gy: Tensor) -> Tensor:
        return SpreadWindows(self.kernel, self.geometry, self.before)(gy)


class SpreadWindows(_Window):
    """x[a, b] = Σ y[i, j] over all s i + d k = a, s j + d l = b; `size` is (h, w)."""

    def forward(self, y: Array) -> Array:
        self.before = y.shape[2:]
        x = of(y).xp.empty_like(y, shape=(*y.shape[:2], *self.size))
        (kh, kw), (h, w) = self.kernel, self.before
        if self.kernel == self.geometry.stride and (h * kh, w * kw) == self.size and self.geometry.dilation == (1, 1):
            blocks = x.reshape(*x.shape[:2], h, kh, w, kw)  # windows side by side: each number fills its own block
            blocks[...] = y[:, :, :, None, :, None]
            return x

        def along(dim: int, y: Array, x: Array | None) -> Array:
            """The same along one dimension, into x."""
            i, shape = dim - 2, list(y.shape)
            k, s, d, m = self.kernel[i], self.geometry.stride[i], self.geometry.dilation[i], shape[dim]
            shape[dim] = self.size[i]
            x = of(y).xp.empty_like(y, shape=shape) if x is None else x
            once = d == 1 and k <= s  # no element of x is in two windows
            if not once or k * m != shape[dim]:
                x[...] = 0
            for tap in _axis_taps(dim, k, s, d, m):
                if once:
                    x[tap] = y
                else:
                    x[tap] += y
            return x

        def work(begin: int, end: int) -> None:
            along(2, along(3, y[begin:end], None), x[begin:end])

        _by_images(x, work)
        return x

    def backward(self, gx: Tensor) -> Tensor:
        return SumWindows(self.kernel, self.geometry, self.before)(gx)


class Unfold(_Window):
    """y[n, (c, k, l), (i, j)] = x[n, c, s i + d k, s j + d l]; `size` is (h', w')."""

    def forward(self, x: Array) -> Array:
        self.before = x.shape[2:]
        n, c = x.shape[:2]
        y = of(x).xp.empty((n, c, math.prod(self.kernel), *self.size), x.dtype)

        def work(begin: int, end: int) -> None:
            for t, tap in enumerate(_taps(self.kernel, self.geometry, self.size)):
                y[begin:end, :, t] = x[begin:end][tap]

        _by_images(y, work)
        return y.reshape(n, c * math.prod(self.kernel), math.prod(self.size))

    def backward(self, gy: Tensor) -> Tensor:
        return Fold(self.kernel, self.geometry, self.before, self.size)(gy)


class Fold(_Window):
    """x[n, c, a, b] = Σ y[n, (c, k, l), (i, j)] over all s i + d k = a, s j + d l = b; `size` is (h, w)."""

    def __init__(self, kernel: Pair, geometry: Geometry, size: Pair, windows: Pair) -> None:
        super().__init__(kernel, geometry, size)
        self.windows = windows  # (h', w')

    def forward(self, y: Array) -> Array:
        n, taps = len(y), math.prod(self.kernel)
        y = y.reshape(n, y.shape[1] // taps, taps, *self.windows)
        x = of(y).xp.zeros((n, y.shape[1], *self.size), y.dtype)

        def work(begin: int, end: int) -> None:
            for t, tap in enumerate(_taps(self.kernel, self.geometry, self.windows)):
                x[begin:end][tap] += y[begin:end, :, t]

        _by_images(y, work)
        return x

    def backward(self, gx: Tensor) -> Tensor:
        return Unfold(self.kernel, self.geometry, self.windows)(gx)


class MaxPool(_Window):
    """y[i, j] = max_{k, l} x[s i + d k, s j + d l]; `size` is (h', w')."""

    saves_inputs, saves_outputs = (0,), (0,)

    def forward(self, x: Array) -> Array:
        return _combine(of(x).xp.maximum, x, self.kernel, self.geometry, self.size)

    def backward(self, gy: Tensor) -> Tensor:
        x, y = self.saved
        return PlaceMaximum(self.kernel, self.geometry, x.shape[2:])(gy, self._winners(x.data, y.data))

    def _winners(self, x: Array, y: Array) -> Array:
        """Which tap each maximum comes from, the first of equals: T − t for tap t of T, so the largest is the first."""
        xp, taps = of(x).xp, _taps(self.kernel, self.geometry, self.size)
        # 1, the last tap, unless another is found
        winners = xp.ones_like(y, dtype="uint8" if len(taps) < 256 else "int32")

        def work(begin: int, end: int) -> None:
            part = winners[begin:end]
            for t, tap in enumerate(taps[:-1]):
                xp.maximum(part, (x[begin:end][tap] == y[begin:end]).astype(part.dtype) * (len(taps) - t), out=part)

        _by_images(y, work)
        return winners


class PlaceMaximum(_Window):
    """x[a, b] = Σ y[i, j] over all windows that (a, b) won; `size` is (h, w)."""

    saves_inputs = (1,)

    def forward(self, y: Array, winners: Array) -> Array:
        self.before, xp = y.shape[2:], of(y).xp
        x = xp.empty_like(y, shape=(*y.shape[:2], *self.size))
        once = self.geometry.dilation == (1, 1) and all(k <= s for k, s in zip(self.kernel, self.geometry.stride))
        all_seen = once and all(k * m == size for k, m, size in zip(self.kernel, self.before, self.size))
        taps = _taps(self.kernel, self.geometry, self.before)

        def work(begin: int, end: int) -> None:
            given, winner, made = y[begin:end], winners[begin:end], x[begin:end]
            if not all_seen:
                made[...] = 0
            for t, tap in enumerate(taps):
                if once:  # no element of x is in two windows
                    xp.multiply(given, winner == len(taps) - t, out=made[tap])
                else:
                    made[tap] += given * (winner == len(taps) - t)

        _by_images(y, work)
        return x

    def backward(self, gx: Tensor) -> tuple[Tensor, None]:
        (winners,) = self.saved
        return PickMaximum(self.kernel, self.geometry, self.before)(gx, winners), None


class PickMaximum(_Window):
    """y[i, j] = x where the window's winner is; `size` is (h', w')."""

    saves_inputs = (1,)

    def forward(self, x: Array, winners: Array) -> Array:
        self.before = x.shape[2:]
        taps = _taps(self.kernel, self.geometry, self.size)
        y = x[taps[0]] * (winners == len(taps))
        for t, tap in enumerate(taps[1:], 1):
            y += x[tap] * (winners == len(taps) - t)
        return y

    def backward(self, gy: Tensor) -> tuple[Tensor, None]:
        (winners,) = self.saved
        return PlaceMaximum(self.kernel, self.geometry, self.before)(gy, winners), None


# ---------------------------------------------------------------- public


def max_pool2d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
    ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """y[n, c, i, j] = max_{k, l} x[n, c, s i + d k − p, s j + d l − p], over the taps within the image.

    gx: each gy goes to the element that won. At a tie that is the first of the window, row by row: one of the slopes
    between which the kink turns, and PyTorch's choice. A NaN wins; its gradient goes to the last of the window.

    x (n, c, h, w); y (n, c, h', w') with h' = ⌊(h + 2p − d(k − 1) − 1)/s⌋ + 1, or ⌈…⌉ + 1 with ceil_mode, but no window
    begins behind the image. stride: the kernel's size where it is None. All are a number or (h, w).
    ValueError for a window that is larger than the padded image, or a padding of more than half a window.
    """
    name = "max_pool2d"
    x, kernel, geometry, size = _windows(name, x, kernel_size, stride, padding, dilation, ceil_mode, -math.inf)
    return MaxPool(kernel, geometry, size)(x)


def avg_pool2d(
    x: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """y[n, c, i, j] = (1/N) Σ_{k, l} x[n, c, s i + k − p, s j + l − p], with x = 0 outside the image.

    N is the number of taps within the image and its padding, or without count_include_pad within the image.
    gx[a, b] = Σ gy / N over the windows that see (a, b). Shapes, sizes and errors as for max_pool2d.
    """
    name, before = "avg_pool2d", x.shape[2:]
    x, kernel, geometry, size = _windows(name, x, kernel_size, stride, padding, 1, ceil_mode, 0.0)
    y = SumWindows(kernel, geometry, size)(x)
    margin = geometry.padding if count_include_pad else (0, 0)
    fits = [(m - 1) * s + k <= n + 2 * p
            for m, s, k, n, p in zip(size, geometry.stride, kernel, before, geometry.padding)]  # fmt: skip
    if margin == geometry.padding and all(fits):
        return y * (1 / math.prod(kernel))
    xp, counts = x.backend.xp, []
    for m, s, k, n, p, q in zip(size, geometry.stride, kernel, before, geometry.padding, margin):
        begin = xp.arange(m) * s - p
        counts.append(xp.minimum(begin + k, n + q) - xp.maximum(begin, -q))
    return y * Tensor((1 / (counts[0][:, None] * counts[1])).astype(x.dtype))


def unfold(x: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """Each window as a column: y[n, (c, k, l), (i, j)] = x[n, c, s i + d k − p, s j + d l − p], with x = 0 outside.

    gx = fold(gy): each element gets the sum over the windows that see it.
    x (n, c, h, w); y (n, c kh kw, h' w') with the sizes of a convolution. ValueError where no window fits.
    """
    name, kernel, geometry = "unfold", *_geometry("unfold", kernel_size, stride, padding, dilation)
    check_images(name, x)
    size = geometry.output_size(x.shape[2:], kernel)
    _check_fit(name, x.shape, kernel, geometry, size)
    return Unfold(kernel, geometry, size)(_with_margins(x, geometry.padding, geometry.padding, 0.0))


def fold(
    x: Tensor, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """The adjoint of unfold: each column is added to the places that its window sees; ⟨unfold(u), x⟩ = ⟨u, fold(x)⟩.

    It is no inverse: fold(unfold(u)) is u times the number of windows that see each element. gx = unfold(gy).
    x (n, c kh kw, h' w'), with the h' and w' that unfold gives; y (n, c, h, w) of output_size (h, w).
    ValueError where x has other sizes than these.
    """
    name, kernel, geometry = "fold", *_geometry("fold", kernel_size, stride, padding, dilation)
    h, w = pair(name, "output_size", output_size, 1)
    windows = geometry.output_size((h, w), kernel)
    _check_fit(name, (*x.shape[:1], "c", h, w), kernel, geometry, windows)
    taps = math.prod(kernel)
    if x.ndim != 3 or x.shape[1] % taps or x.shape[2] != math.prod(windows):
        raise ValueError(
            f"fold: x must be (n, c · {taps}, {math.prod(windows)}) for kernel_size {kernel} and {windows} windows "
            f"in output_size {(h, w)}, got {x.shape}"
        )
    ph, pw = geometry.padding
    y = Fold(kernel, geometry, (h + 2 * ph, w + 2 * pw), windows)(x)
    return _with_margins(y, (-ph, -pw), (-ph, -pw), 0.0)


def _geometry(name: str, kernel: Size, stride: Size, padding: Size, dilation: Size) -> tuple[Pair, Geometry]:
    sizes = pair(name, "kernel_size", kernel, 1)
    strides, margins = pair(name, "stride", stride, 1), pair(name, "padding", padding, 0)
    return sizes, Geometry(strides, margins, pair(name, "dilation", dilation, 1))


def _windows(
    name: str, x: Tensor, kernel_size: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool,
    outside: float,
) -> tuple[Tensor, Pair, Geometry, Pair]:  # fmt: skip
    """x with its margins, the kernel, the geometry, and how many windows there are."""
    check_images(name, x)
    kernel, geometry = _geometry(name, kernel_size, kernel_size if stride is None else stride, padding, dilation)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, geometry.dilation)]
    if any(2 * p > r for p, r in zip(geometry.padding, reach)):
        raise ValueError(f"{name}: padding must be at most half the window {tuple(reach)}, got {geometry.padding}")
    size = geometry.output_size(x.shape[2:], kernel)
    if ceil_mode:  # a window more where something is left over, unless it would begin behind the image
        more = geometry.output_size([n + s - 1 for n, s in zip(x.shape[2:], geometry.stride)], kernel)
        begins = [(m - 1) * s < n + p for m, n, s, p in zip(more, x.shape[2:], geometry.stride, geometry.padding)]
        size = more[0] - (not begins[0]), more[1] - (not begins[1])
    _check_fit(name, x.shape, kernel, geometry, size)
    # behind the image as far as the last window reaches
    after = [max(p, (m - 1) * s + r - n - p)
             for p, m, s, r, n in zip(geometry.padding, size, geometry.stride, reach, x.shape[2:])]  # fmt: skip
    return _with_margins(x, geometry.padding, after, outside), kernel, geometry, size


def _with_margins(x: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    return pad(x, (before[1], after[1], before[0], after[0]), value=value) if any((*before, *after)) else x


def check_images(name: str, x: Tensor) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name}: x must be (n, c, h, w), got {x.shape}")
    if x.dtype.kind != "f":
        raise TypeError(f'{name}: expected real numbers, got {x.dtype}; convert them with .to("float32")')


def _check_fit(name: str, shape: Sequence, kernel: Pair, geometry: Geometry, size: Sequence[int]) -> None:
    if min(size) < 1:
        raise ValueError(
            f"{name}: the window is larger than the padded image: x {tuple(shape)}, kernel_size {kernel}, "
            f"padding {geometry.padding}, dilation {geometry.dilation}"
        )
