"""Convolution as matrix products, on raw arrays: windows of the image laid out as rows, times the kernel as a matrix.

Memory is channels-last: an array of shape (n, c, h, w) whose elements lie as (n, h, w, c), so that a row of a window,
its kernel's width times its channels, is one run of memory. Three products, each the derivative of the others:

    convolve           y = x ⋆ w         rows of windows of x  @  (kh kw c, o)
    convolve_input     ⟨y, x ⋆ w⟩ by x   rows of windows of y  @  (th tw o, sh sw c): a gather, no scattered addition
    convolve_weight    ⟨y, x ⋆ w⟩ by w   (windows of x)ᵀ       @  y

The work is done by chunks of images that a `Workshop` chooses: on the CPU so small that the rows stay within the cache,
in a buffer that is used again, a thread for each part of the batch; on a GPU as large as its memory likes.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinygen import parallel

Array = Any
Pair = tuple[int, int]

FEW = 4  # channels up to which windows are laid out tap by tap: a run of memory is a row of the image, then


class Geometry(NamedTuple):
    """How a window moves: its steps, the zeros around the image, and the distance between its taps."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> Pair:
        """(h, w) of a convolution: ⌊(n + 2p − d(k − 1) − 1)/s⌋ + 1 each."""
        h, w = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, self.stride, self.padding, self.dilation)
        )
        return h, w


class Workshop:
    """Where the products are made: the array library, the room for rows, and who does the chunks."""

    def __init__(self, xp: Any, elements: int) -> None:
        self.xp, self.elements = xp, elements

    def room(self, use: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array for the length of one chunk."""
        return self.xp.empty(shape, dtype)

    def run(self, n: int, per_image: int, work: Callable[[int, int], Any]) -> list[Any]:
        """work(begin, end) for chunks of the n images, each with at most `elements` elements of rows."""
        step = max(1, self.elements // max(per_image, 1))
        return [work(i, min(i + step, n)) for i in range(0, n, step)]


class CPUWorkshop(Workshop):
    """Chunks that stay within the L2 cache, a buffer for each thread, and one BLAS thread beside each of ours."""

    def __init__(self, elements: int = 1 << 18) -> None:
        super().__init__(np, elements)
        self._mine = threading.local()

    def room(self, use: str, shape: tuple[int, ...], dtype: Any) -> Array:
        size, buffers = math.prod(shape), cast(dict[tuple, Array], self._mine.__dict__)
        found = buffers.get((use, dtype))
        if found is None or found.size < size:
            if size > 4 * self.elements:  # one image is larger than all chunks should be: not worth keeping
                return np.empty(shape, dtype)
            found = buffers[use, dtype] = np.empty(size, dtype)
        return found[:size].reshape(shape)

    def run(self, n: int, per_image: int, work: Callable[[int, int], Any]) -> list[Any]:
        workers = max(1, min(parallel.threads(), n))
        step = max(1, self.elements // max(per_image, 1))
        cuts = [n * i // workers for i in range(workers + 1)]
        results: list[list] = [[] for _ in range(workers)]

        def part(k: int) -> None:
            begin, end = cuts[k], cuts[k + 1]
            for i in range(begin, end, step):
                made = work(i, min(i + step, end))
                if results[k] and made is not None:
                    results[k][0] += made  # sums of a thread's chunks: the memory of one
                else:
                    results[k].append(made)

        with parallel.one_blas_thread():
            parallel.run([functools.partial(part, k) for k in range(workers)])
        return [made for chunk in results for made in chunk]


# ---------------------------------------------------------------- the three products


def convolve(shop: Workshop, x: Array, w: Array, g: Geometry, size: Sequence[int], bias: Array | None = None) -> Array:
    """y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, s i + d k − p, s j + d l − p].

    x (n, c, h, w), w (o, c, kh, kw), size (h', w'), bias (o,) or None; y (n, o, h', w').
    """
    o, _, *kernel = w.shape
    y = shop.xp.empty((x.shape[0], *size, o), x.dtype)
    matrix = shop.xp.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(-1, o)
    _correlate(shop, _last(x), matrix, kernel, tuple((p, p) for p in g.padding), g.stride, g.dilation, y, bias)
    return _first(y)


def convolve_input(shop: Workshop, y: Array, w: Array, g: Geometry, size: Sequence[int]) -> Array:
    """x[n, c, a, b] = Σ w[o, c, k, l] · y[n, o, i, j] over all (i, k) with s i + d k − p = a, (j, l) with … = b.

    y (n, o, h', w'), w (o, c, kh, kw), size (h, w); x (n, c, h, w). This is the transposed convolution, too.
    """
    if w.shape[1] <= FEW:
        return _spread(shop, y, w, g, size)
    if g.dilation != (1, 1):  # the taps of a dilated kernel meet a strided image at no regular places: fill both up
        y, w, g = _fill(shop, y, g.stride), _fill(shop, w, g.dilation), Geometry((1, 1), g.padding, (1, 1))
    n, c, (s0, s1) = y.shape[0], w.shape[1], g.stride
    # the kernel in t = ⌈k/s⌉ steps of s taps: x[s i + a] = Σ_t y[i − t] w[s t + a], so each window of t elements of y
    # gives s·s elements of x
    steps = [-(-k // s) for k, s in zip(w.shape[2:], g.stride)]
    matrix = shop.xp.zeros((w.shape[0], c, steps[0] * s0, steps[1] * s1), w.dtype)
    matrix[:, :, : w.shape[2], : w.shape[3]] = w
    matrix = matrix.reshape(-1, c, steps[0], s0, steps[1], s1)[:, :, ::-1, :, ::-1].transpose(2, 4, 0, 3, 5, 1)
    # of the x with its padding, [p, p + n) is wanted: made from windows i = first … last
    first = [p // s for p, s in zip(g.padding, g.stride)]
    last = [(p + m - 1) // s for p, m, s in zip(g.padding, size, g.stride)]
    margins = tuple((t - 1 - a, b - (m - 1)) for t, a, b, m in zip(steps, first, last, y.shape[2:]))
    rows, columns = (b - a + 1 for a, b in zip(first, last))
    x = shop.xp.empty((n, rows, columns, s0 * s1 * c), y.dtype)
    matrix = shop.xp.ascontiguousarray(matrix).reshape(-1, s0 * s1 * c)
    _correlate(shop, _last(y), matrix, steps, margins, (1, 1), (1, 1), x, None)
    if g.stride == (1, 1):
        return _first(x)
    whole = x.reshape(n, rows, columns, s0, s1, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * s0, columns * s1, c)
    top, left = (p - a * s for p, a, s in zip(g.padding, first, g.stride))
    return _first(shop.xp.ascontiguousarray(whole[:, top : top + size[0], left : left + size[1]]))


def convolve_weight(shop: Workshop, x: Array, y: Array, g: Geometry, kernel: Sequence[int]) -> Array:
    """w[o, c, k, l] = Σ_{n, i, j} y[n, o, i, j] · x[n, c, s i + d k − p, s j + d l − p].

    x (n, c, h, w), y (n, o, h', w'), kernel (kh, kw); w (o, c, kh, kw).
    """
    (n, c), o, size = x.shape[:2], y.shape[1], y.shape[2:]
    images, gradients = _last(x), _last(y)
    margins = tuple((p, p) for p in g.padding)

    def work(begin: int, end: int) -> Array:
        rows = _windows(shop, _padded(shop, images[begin:end], margins), kernel, g.stride, g.dilation, size)
        return rows.T @ shop.xp.ascontiguousarray(gradients[begin:end]).reshape(-1, o)

    sums = shop.run(n, math.prod(size) * math.prod(kernel) * c, work)
    total = sums[0] if sums else shop.xp.zeros((math.prod(kernel) * c, o), x.dtype)
    for part in sums[1:]:
        total += part
    return total.reshape(*kernel, c, o).transpose(3, 2, 0, 1)


# ---------------------------------------------------------------- their parts


def _last(x: Array) -> Array:
    """(n, c, h, w) read as (n, h, w, c)."""
    return x.transpose(0, 2, 3, 1)


def _first(x: Array) -> Array:
    """(n, h, w, c) read as (n, c, h, w)."""
    return x.transpose(0, 3, 1, 2)


def _correlate(
    shop: Workshop, x: Array, matrix: Array, kernel: Sequence[int], margins: Sequence[Pair], stride: Pair,
    dilation: Pair, y: Array, bias: Array | None,
) -> None:  # fmt: skip
    """Fill y (n, h', w', o) with the windows of x (n, h, w, c) times the matrix (kh kw c, o), plus the bias."""
    n, *size, o = y.shape

    def work(begin: int, end: int) -> None:
        rows = _windows(shop, _padded(shop, x[begin:end], margins), kernel, stride, dilation, size)
        part = y[begin:end].reshape(-1, o)
        shop.xp.matmul(rows, matrix, out=part)
        if bias is not None:
            part += bias

    shop.run(n, math.prod(size) * matrix.shape[0], work)


def _padded(shop: Workshop, x: Array, margins: Sequence[Pair]) -> Array:
    """x (n, h, w, c), contiguous, with zeros around it; a negative margin cuts off."""
    (top, bottom), (left, right) = margins
    n, h, w, c = x.shape
    x = x[:, max(0, -top) : h + min(0, bottom), max(0, -left) : w + min(0, right)]
    top, bottom, left, right = (max(0, m) for m in (top, bottom, left, right))
    if not (top or bottom or left or right):
        return shop.xp.ascontiguousarray(x)
    _, h, w, _ = x.shape
    out = shop.room("padded", (n, top + h + bottom, left + w + right, c), x.dtype)
    out[:, :top] = 0
    out[:, top + h :] = 0
    out[:, top : top + h, :left] = 0
    out[:, top : top + h, left + w :] = 0
    out[:, top : top + h, left : left + w] = x
    return out


def _windows(
    shop: Workshop, x: Array, kernel: Sequence[int], stride: Pair, dilation: Pair, size: Sequence[int]
) -> Array:
    """Each window of x (n, h, w, c) as a row: (n h' w', kh kw c)."""
    n, h, w, c = x.shape
    (kh, kw), (ho, wo), (sh, sw), (dh, dw) = kernel, size, stride, dilation
    if (kh, kw, h, w) == (1, 1, ho, wo):
        return x.reshape(-1, c)
    as_strided = shop.xp.lib.stride_tricks.as_strided
    by_n, by_h, by_w, by_c = x.strides
    if c <= FEW:  # tap by tap; the rows are the columns of what is laid out
        taps = shop.room("rows", (kh, kw, c, n, ho, wo), x.dtype)
        taps[...] = as_strided(x, taps.shape, (dh * by_h, dw * by_w, by_c, by_n, sh * by_h, sw * by_w))
        return taps.reshape(kh * kw * c, n * ho * wo).T
    rows = shop.room("rows", (n, ho, wo, kh, kw, c), x.dtype)
    if dw == 1:  # a window's row is one run of memory
        runs = rows.reshape(n, ho, wo, kh, kw * c)
        runs[...] = as_strided(x, runs.shape, (by_n, sh * by_h, sw * by_w, dh * by_h, by_c))
    else:
        rows[...] = as_strided(x, rows.shape, (by_n, sh * by_h, sw * by_w, dh * by_h, dw * by_w, by_c))
    return rows.reshape(n * ho * wo, kh * kw * c)


def _spread(shop: Workshop, y: Array, w: Array, g: Geometry, size: Sequence[int]) -> Array:
    """`convolve_input` for few channels c: all taps of an element at once, added to where each belongs.

    Windows of y would be kh·kw times o wide for a product of a few columns; this way it is the product that is wide.
    """
    n, o, *given = y.shape
    _, c, *kernel = w.shape
    (sh, sw), (ph, pw), (dh, dw) = g
    whole = [max(m + 2 * p, (i - 1) * s + d * (k - 1) + 1)
             for m, i, k, s, p, d in zip(size, given, kernel, *g)]  # fmt: skip
    x = shop.xp.zeros((n, c, *whole), y.dtype)
    matrix = shop.xp.ascontiguousarray(w.transpose(2, 3, 1, 0)).reshape(-1, o)
    gradients = _last(y)

    def work(begin: int, end: int) -> None:
        part = shop.xp.ascontiguousarray(gradients[begin:end]).reshape(-1, o)
        taps = shop.room("rows", (matrix.shape[0], part.shape[0]), y.dtype)
        shop.xp.matmul(matrix, part.T, out=taps)
        taps = taps.reshape(*kernel, c, end - begin, *given).transpose(0, 1, 3, 2, 4, 5)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                rows = slice(i * dh, i * dh + sh * given[0], sh)
                columns = slice(j * dw, j * dw + sw * given[1], sw)
                x[begin:end, :, rows, columns] += taps[i, j]

    shop.run(n, math.prod(given) * matrix.shape[0], work)
    return x[:, :, ph : ph + size[0], pw : pw + size[1]]


def _fill(shop: Workshop, x: Array, gaps: Pair) -> Array:
    """x (n, c, h, w) with gaps − 1 zeros between its elements."""
    n, c, h, w = x.shape
    if gaps == (1, 1) or 0 in x.shape:
        return x
    out = shop.xp.zeros((n, c, (h - 1) * gaps[0] + 1, (w - 1) * gaps[1] + 1), x.dtype)
    out[:, :, :: gaps[0], :: gaps[1]] = x
    return out
