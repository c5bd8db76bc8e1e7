"""Convolution as matrix products, on raw arrays: windows of the image laid out as rows, times the kernel as a matrix.

Memory is channels-last: an array of shape (n, c, h, w) whose elements lie as (n, h, w, c), so that a row of a window,
its kernel's width times its channels, is one run of memory. Three products, each the derivative of the others:

    convolve           y = x ⋆ w         rows of windows of x  @  (kh kw c, o)
    convolve_input     ⟨y, x ⋆ w⟩ by x   rows of windows of y  @  (th tw o, sh sw c): a gather, no scattered addition
    convolve_weight    ⟨y, x ⋆ w⟩ by w   (windows of x)ᵀ       @  y

The work is done by pieces, images or lines of one, that a `Workshop` chooses: on the CPU so small that the rows stay
within the cache, in a buffer that is used again, a thread for each share; on a GPU as large as its memory likes.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
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


class Piece(NamedTuple):
    """What is made at once: some images, or some lines of one."""

    images: slice
    lines: slice


class Workshop:
    """Where the products are made: the array library, the room for rows, and who does the pieces."""

    workers = 1
    small = 0  # elements below which work is not shared out

    def __init__(self, xp: Any, elements: int) -> None:
        self.xp, self.elements = xp, elements

    def room(self, use: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array for the length of a piece; what is asked for the same use again may lie in the same memory."""
        return self.xp.empty(shape, dtype)

    def pieces(self, n: int, lines: int, per_line: int) -> list[Piece]:
        """n images of so many lines cut into pieces of at most `elements` elements, and at least one a worker."""
        per_image = max(1, lines * per_line)
        wanted = self.workers if n * per_image >= self.small else 1
        step = max(1, min(self.elements // per_image, -(-n // wanted)))
        bands = min(lines, max(-(-per_image // self.elements), -(-wanted // max(n, 1)))) if step == 1 else 1
        cuts = [lines * k // bands for k in range(bands + 1)] if bands else []
        return [
            Piece(slice(i, min(i + step, n)), slice(*band))
            for i in range(0, n, step)
            for band in itertools.pairwise(cuts)
        ]

    def share(self, pieces: Sequence[Piece], part: Callable[[Sequence[Piece]], Any]) -> list[Any]:
        """part(some of the pieces, in order) for each worker, and what they return."""
        return [part(pieces)] if pieces else []

    def run(self, n: int, per_image: int, work: Callable[[int, int], Any]) -> None:
        """work(begin, end) for parts of the n images, each with at most `elements` elements of rows."""

        def part(pieces: Sequence[Piece]) -> None:
            for images, _ in pieces:
                work(images.start, images.stop)

        self.share(self.pieces(n, 1, per_image), part)


class CPUWorkshop(Workshop):
    """Pieces that stay within the L2 cache, a buffer for each thread, and one BLAS thread beside each of ours."""

    small = 1 << 14

    def __init__(self, elements: int = 1 << 18) -> None:
        super().__init__(np, elements)
        self._mine = threading.local()

    @property
    def workers(self) -> int:  # type: ignore[override]
        return parallel.threads()

    def room(self, use: str, shape: tuple[int, ...], dtype: Any) -> Array:
        size, buffers = math.prod(shape), cast(dict[tuple, Array], self._mine.__dict__)
        found = buffers.get((use, dtype))
        if found is None or found.size < size:
            if size > 4 * self.elements:  # one line is larger than all pieces should be: not worth keeping
                return np.empty(shape, dtype)
            found = buffers[use, dtype] = np.empty(size, dtype)
        return found[:size].reshape(shape)

    def share(self, pieces: Sequence[Piece], part: Callable[[Sequence[Piece]], Any]) -> list[Any]:
        workers = min(self.workers, len(pieces))
        cuts = [len(pieces) * k // workers for k in range(workers + 1)] if workers else []
        results: list[Any] = [None] * workers

        def task(k: int, begin: int, end: int) -> None:
            results[k] = part(pieces[begin:end])

        with parallel.one_blas_thread():
            parallel.run([functools.partial(task, k, *cut) for k, cut in enumerate(itertools.pairwise(cuts))])
        return results


# ---------------------------------------------------------------- the three products


def convolve(shop: Workshop, x: Array, w: Array, g: Geometry, size: Sequence[int], bias: Array | None = None) -> Array:
    """y[n, o, i, j] = b[o] + Σ_{c, k, l} w[o, c, k, l] · x[n, c, s i + d k − p, s j + d l − p].

    x (n, c, h, w), w (o, c, kh, kw), size (h', w'), bias (o,) or None; y (n, o, h', w').
    """
    n, o, kernel = x.shape[0], w.shape[0], w.shape[2:]
    matrix = _as_matrix(shop, w).T  # (kh kw c, o)
    if _is_matrix(x, kernel, g, size):
        y = _multiply(shop, _as_rows(shop, x, kernel), matrix)
        if bias is not None:
            y += bias
        return _first(y.reshape(n, *size, o))
    y = shop.xp.empty((n, *size, o), x.dtype)
    margins = [(p, p) for p in g.padding]

    def part(pieces: Sequence[Piece]) -> None:
        for images, lines, rows in _windows(shop, pieces, _last(x), kernel, margins, g.stride, g.dilation, size):
            made = y[images, lines].reshape(-1, o)
            shop.xp.matmul(rows, matrix, out=made)
            if bias is not None:
                made += bias

    shop.share(shop.pieces(n, size[0], size[1] * matrix.shape[0]), part)
    return _first(y)


def convolve_input(shop: Workshop, y: Array, w: Array, g: Geometry, size: Sequence[int]) -> Array:
    """x[n, c, a, b] = Σ w[o, c, k, l] · y[n, o, i, j] over all (i, k) with s i + d k − p = a, (j, l) with … = b.

    y (n, o, h', w'), w (o, c, kh, kw), size (h, w); x (n, c, h, w). This is the transposed convolution, too.
    """
    n, (o, c, *kernel), (s0, s1) = y.shape[0], w.shape, g.stride
    if y.shape[2:] == (1, 1) and g.dilation == (1, 1) and all(m + p <= k for m, p, k in zip(size, g.padding, kernel)):
        (top, left), whole = g.padding, _multiply(shop, y.reshape(n, o), _as_matrix(shop, w))  # (n, kh kw c)
        return _first(whole.reshape(n, *kernel, c)[:, top : top + size[0], left : left + size[1]])
    if c <= FEW:
        return _spread(shop, y, w, g, size)
    if g.dilation != (1, 1):  # the taps of a dilated kernel meet a strided image at no regular places: fill both up
        y, w, g = _fill(shop, y, g.stride), _fill(shop, w, g.dilation), Geometry((1, 1), g.padding, (1, 1))
        kernel, s0, s1 = w.shape[2:], 1, 1
    # the kernel in t = ⌈k/s⌉ steps of s taps: x[s i + a] = Σ_t y[i − t] w[s t + a], so each window of t elements of y
    # gives s·s elements of x
    steps = [-(-k // s) for k, s in zip(kernel, g.stride)]
    taps = shop.xp.zeros((steps[0] * s0, steps[1] * s1, o, c), w.dtype)
    taps[: kernel[0], : kernel[1]] = w.transpose(2, 3, 0, 1)
    taps = taps.reshape(steps[0], s0, steps[1], s1, o, c)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    matrix = shop.xp.ascontiguousarray(taps).reshape(-1, s0 * s1 * c)  # (th tw o, sh sw c)
    # of the x with its padding, [p, p + n) is wanted: made from windows i = first … last
    first = [p // s for p, s in zip(g.padding, g.stride)]
    last = [(p + m - 1) // s for p, m, s in zip(g.padding, size, g.stride)]
    margins = [(t - 1 - a, b - (m - 1)) for t, a, b, m in zip(steps, first, last, y.shape[2:])]
    lines, columns = (b - a + 1 for a, b in zip(first, last))
    x = shop.xp.empty((n, *size, c), y.dtype)

    def part(pieces: Sequence[Piece]) -> None:
        windows = _windows(shop, pieces, _last(y), steps, margins, (1, 1), (1, 1), (lines, columns), g.stride != (1, 1))
        for images, band, rows in windows:
            if g.stride == (1, 1):
                shop.xp.matmul(rows, matrix, out=x[images, band].reshape(-1, c))
                continue
            rows = rows.reshape(band.stop - band.start, -1, matrix.shape[0])  # (l, m w', th tw o)
            for a in range(s0):  # the lines s i + a of the image: for the first and last i they may lie outside
                seen, down = _places(a, band, s0, first[0], g.padding[0], size[0])
                wide = slice(a * s1 * c, (a + 1) * s1 * c)
                made = shop.room("product", (math.prod(rows[seen].shape[:2]), s1 * c), y.dtype)
                shop.xp.matmul(rows[seen].reshape(-1, matrix.shape[0]), matrix[:, wide], out=made)
                made = made.reshape(seen.stop - seen.start, images.stop - images.start, columns, s1, c).swapaxes(0, 1)
                for b in range(s1):
                    across, along = _places(b, slice(0, columns), s1, first[1], g.padding[1], size[1])
                    x[images, down, along] = made[:, :, across, b]

    shop.share(shop.pieces(n, lines, columns * matrix.shape[0]), part)
    return _first(x)


def convolve_weight(shop: Workshop, x: Array, y: Array, g: Geometry, kernel: Sequence[int]) -> Array:
    """w[o, c, k, l] = Σ_{n, i, j} y[n, o, i, j] · x[n, c, s i + d k − p, s j + d l − p].

    x (n, c, h, w), y (n, o, h', w'), kernel (kh, kw); w (o, c, kh, kw).
    """
    (n, c), o, size = x.shape[:2], y.shape[1], y.shape[2:]
    gradients, wide = _last(y), math.prod(kernel) * c
    if _is_matrix(x, kernel, g, size):
        return _first(_multiply(shop, gradients.reshape(-1, o).T, _as_rows(shop, x, kernel)).reshape(o, *kernel, c))
    margins = [(p, p) for p in g.padding]
    turned = n * math.prod(size) > wide  # made as (kh kw c, o), a tenth faster where turning it costs little

    def part(pieces: Sequence[Piece]) -> Array:
        total = None
        for images, lines, rows in _windows(shop, pieces, _last(x), kernel, margins, g.stride, g.dilation, size):
            y_rows = gradients[images, lines].reshape(-1, o)
            left, right = (rows.T, y_rows) if turned else (y_rows.T, rows)
            if total is None:
                total = shop.xp.matmul(left, right)
            else:
                total += shop.xp.matmul(left, right, out=shop.room("product", total.shape, x.dtype))
        return total

    sums = shop.share(shop.pieces(n, size[0], size[1] * wide), part)
    w = _first(shop.xp.empty((o, *kernel, c), x.dtype))
    w = shop.xp.empty_like(w)  # lies alike, channels-last, but is no view: as a gradient it can be kept
    matrix = _last(w).reshape(o, wide)
    if turned:
        matrix = matrix.T
    matrix[...] = sums[0] if sums else 0.0
    for more in sums[1:]:
        matrix += more
    return w


# ---------------------------------------------------------------- their parts


def _last(x: Array) -> Array:
    """(n, c, h, w) read as (n, h, w, c)."""
    return x.transpose(0, 2, 3, 1)


def _first(x: Array) -> Array:
    """(n, h, w, c) read as (n, c, h, w)."""
    return x.transpose(0, 3, 1, 2)


def _as_matrix(shop: Workshop, w: Array) -> Array:
    """A kernel (o, c, kh, kw) as (o, kh kw c): no copy where it lies channels-last."""
    return shop.xp.ascontiguousarray(_last(w)).reshape(w.shape[0], -1)


def _is_matrix(x: Array, kernel: Sequence[int], g: Geometry, size: Sequence[int]) -> bool:
    """Whether the image is its windows already: one element each, or one window in all."""
    if g.padding != (0, 0):
        return False
    return tuple(kernel) == x.shape[2:] or (tuple(kernel) == (1, 1) and tuple(size) == x.shape[2:])


def _as_rows(shop: Workshop, x: Array, kernel: Sequence[int]) -> Array:
    """The windows of such an image: (n h' w', kh kw c)."""
    return shop.xp.ascontiguousarray(_last(x)).reshape(-1, math.prod(kernel) * x.shape[1])


def _multiply(shop: Workshop, a: Array, b: Array) -> Array:
    """a b, made by rows on the workshop's threads: those of a library would wait in a loop beside them afterwards."""
    y = shop.xp.empty((a.shape[0], b.shape[1]), a.dtype)

    def part(pieces: Sequence[Piece]) -> None:
        for rows, _ in pieces:
            shop.xp.matmul(a[rows], b, out=y[rows])

    shop.share(shop.pieces(a.shape[0], 1, a.shape[1]), part)
    return y


def _places(offset: int, windows: slice, step: int, first: int, padding: int, size: int) -> tuple[slice, slice]:
    """Which of the windows i of a piece have an element `offset` of their `step` within the image, and where it lies:
    at step (first + i) + offset − padding, from 0 to size."""
    begin = max(windows.start, -((offset - padding) // step) - first)
    end = max(begin, min(windows.stop, -((offset - padding - size) // step) - first))
    place = step * (first + begin) + offset - padding
    return slice(begin - windows.start, end - windows.start), slice(place, place + step * (end - begin), step)


def _windows(
    shop: Workshop, pieces: Sequence[Piece], x: Array, kernel: Sequence[int], margins: Sequence[Pair], stride: Pair,
    dilation: Pair, size: Sequence[int], by_lines: bool = False,
) -> Iterator[tuple[slice, slice, Array]]:  # fmt: skip
    """For each piece its images, its lines, and each window of x (n, h, w, c) there as a row: (m l w', kh kw c).

    margins: zeros around the image, (above, below) and (left, right); a negative one cuts off.
    by_lines: the rows stand by lines, then images: (l m w', kh kw c).
    """
    (above, _), (left, right) = margins
    x = x[:, :, max(0, -left) : x.shape[2] + min(0, right)]
    left, right = max(0, left), max(0, right)
    h, w, c = x.shape[1:]
    views: tuple[Array, ...] = ()
    before = None
    for images, lines in pieces:
        m, made = images.stop - images.start, lines.stop - lines.start
        tall = (made - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1
        if before != (m, made):  # the same room serves all pieces of one shape
            image = shop.room("image", (m, tall, left + w + right, c), x.dtype)
            image[:, :, :left] = 0
            image[:, :, left + w :] = 0
            views = (image, *_rows(shop, image, kernel, stride, dilation, (made, size[1]), by_lines))
            before = m, made
        image, windows, laid_out, rows = views
        begin = lines.start * stride[0] - above  # the image's line that is the room's first
        low, high = min(max(begin, 0), h), max(min(begin + tall, h), 0)
        if low > begin:
            image[:, : low - begin] = 0
        if high < begin + tall:
            image[:, max(high - begin, 0) :] = 0
        if low < high:
            image[:, low - begin : high - begin, left : left + w] = x[images, low:high]
        laid_out[...] = windows
        yield images, lines, rows


def _rows(
    shop: Workshop, image: Array, kernel: Sequence[int], stride: Pair, dilation: Pair, size: Sequence[int],
    by_lines: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The windows of an image (n, h, w, c) as a view, room for them, and the room as a matrix (n h' w', kh kw c)."""
    (n, _, _, c), dtype = image.shape, image.dtype
    (kh, kw), (ho, wo), (sh, sw), (dh, dw) = kernel, size, stride, dilation
    by_n, by_h, by_w, by_c = image.strides
    places, moves = (
        ((ho, n, wo), (sh * by_h, by_n, sw * by_w)) if by_lines else ((n, ho, wo), (by_n, sh * by_h, sw * by_w))
    )
    taps, reach = ((kh, kw * c), (dh * by_h, by_c)) if dw == 1 else ((kh, kw, c), (dh * by_h, dw * by_w, by_c))
    if c <= FEW:  # tap by tap; the rows are the columns of what is laid out
        shape, strides = (kh, kw, c, *places), (dh * by_h, dw * by_w, by_c, *moves)
    else:  # window by window; of a window, a line is one run of memory unless it is dilated
        shape, strides = (*places, *taps), (*moves, *reach)
    room = shop.room("rows", shape, dtype)
    rows = room.reshape(-1, n * ho * wo).T if c <= FEW else room.reshape(n * ho * wo, -1)
    return shop.xp.lib.stride_tricks.as_strided(image, shape, strides), room, rows


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
