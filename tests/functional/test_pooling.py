"""Windows: maxima and means against loops over pixels, ties, unfold and fold as each other's adjoint."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.backend import current
from tinygen.functional import pooling
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import geometries, of_shapes, pairs, reals


def starts(n, k, s, p, d, ceil_mode):
    """Where windows begin along a dimension, the padding's first element at −p: while they fit, and in ceil_mode while
    they still begin in the image and the last one before it did not reach the end."""
    found, start, reach = [], -p, d * (k - 1)
    while start + reach < n + p:
        found.append(start)
        start += s
    if ceil_mode and found and found[-1] + reach < n + p - 1 and start < n:
        found.append(start)
    if ceil_mode and not found:
        found.append(-p)
    return found


def pooled(reduce, kernel, stride, padding=(0, 0), dilation=(1, 1), ceil_mode=False):
    """`reduce` of (the elements within the image, the taps within image and padding) for each window."""

    def pool(x):
        n, c, *size = x.shape
        begins = [starts(*axis, ceil_mode) for axis in zip(size, kernel, stride, padding, dilation)]
        y = np.zeros((n, c, len(begins[0]), len(begins[1])))
        for i, j in np.ndindex(y.shape[2:]):
            elements, taps = [], 0
            for k, m in np.ndindex(*kernel):
                a, b = begins[0][i] + k * dilation[0], begins[1][j] + m * dilation[1]
                taps += a < size[0] + padding[0] and b < size[1] + padding[1]
                if 0 <= a < size[0] and 0 <= b < size[1]:
                    elements.append(x[:, :, a, b])
            y[:, :, i, j] = reduce(elements, taps)
        return y

    return pool


def largest(elements, taps):
    return np.max(elements, 0) if elements else -np.inf


def mean(elements, taps):
    return np.sum(elements, 0) / taps


def mean_inside(elements, taps):
    return np.mean(elements, 0)


def columns(kernel, stride, padding, dilation):
    """unfold, element by element."""

    def unfold(x):
        n, c, *size = x.shape
        rows, cols = (starts(*axis, False) for axis in zip(size, kernel, stride, padding, dilation))
        y = np.zeros((n, c * kernel[0] * kernel[1], len(rows) * len(cols)))
        for (q, a), (r, b), ch in itertools.product(enumerate(rows), enumerate(cols), range(c)):
            for k, m in np.ndindex(*kernel):
                i, j = a + k * dilation[0], b + m * dilation[1]
                if 0 <= i < size[0] and 0 <= j < size[1]:
                    y[:, (ch * kernel[0] + k) * kernel[1] + m, q * len(cols) + r] = x[:, ch, i, j]
        return y

    return unfold


def folded(x):
    """fold for kernel (2, 3), stride (2, 1), padding (1, 0), to (4, 4): 3 × 2 windows, of 2 channels."""
    y = np.zeros((len(x), 2, 6, 4))
    for c, k, m, i, j in np.ndindex(2, 2, 3, 3, 2):
        y[:, c, 2 * i + k, j + m] += x[:, (c * 2 + k) * 3 + m, i * 2 + j]
    return y[:, :, 1:5]


ROWS = [
    Row("max_pool2d", lambda x: F.max_pool2d(x, 2), pooled(largest, (2, 2), (2, 2)), of_shapes((2, 3, 4, 6))),
    Row("max_pool2d, overlapping", lambda x: F.max_pool2d(x, (3, 2), (2, 1), 1, (1, 2), True),
        pooled(largest, (3, 2), (2, 1), (1, 1), (1, 2), True), of_shapes((2, 2, 6, 5))),
    Row("max_pool2d, nothing to do", lambda x: F.max_pool2d(x, 1), np.copy, of_shapes((2, 1, 2, 3))),
    Row("avg_pool2d", lambda x: F.avg_pool2d(x, (2, 3)), pooled(mean, (2, 3), (2, 3)), of_shapes((2, 3, 4, 7))),
    Row("avg_pool2d, overlapping", lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
        pooled(mean_inside, (3, 3), (2, 2), (1, 1), ceil_mode=True), of_shapes((1, 2, 6, 5))),
    Row("avg_pool2d, behind the padding", lambda x: F.avg_pool2d(x, 3, 2, 1, True),
        pooled(mean, (3, 3), (2, 2), (1, 1), ceil_mode=True), of_shapes((1, 2, 6, 5))),
    Row("unfold", lambda x: F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), columns((2, 3), (1, 2), (1, 0), (2, 1)),
        of_shapes((2, 3, 4, 5))),
    Row("fold", lambda x: F.fold(x, (4, 4), (2, 3), 1, (1, 0), (2, 1)), folded, of_shapes((2, 12, 6))),
]  # fmt: skip

test_operation = row_test(ROWS)
windows = geometries(max_kernel=3)


def halved(w):
    """The padding cut to half a window."""
    return tuple(min(p, (d * (k - 1) + 1) // 2) for p, k, d in zip(w.padding, w.kernel, w.dilation))


@given(windows, st.booleans(), st.data())
def test_max_pool2d(w, ceil_mode, data):
    x, padding = data.draw(reals((2, 3, *w.size))), halved(w)
    reference = pooled(largest, w.kernel, w.stride, padding, w.dilation, ceil_mode)
    if not all(reach < n + 2 * p for reach, n, p in zip(reaches(w), w.size, padding)):
        return
    if np.isinf(reference(x)).any():  # a dilated window that steps over the whole image
        close(F.max_pool2d(tensors((x,))[0], w.kernel, w.stride, padding, w.dilation, ceil_mode), reference(x))
        return
    call = lambda x: F.max_pool2d(x, w.kernel, w.stride, padding, w.dilation, ceil_mode)  # noqa: E731
    check(Row("max_pool2d", call, reference, st.nothing()), (x,))


def reaches(w):
    return [d * (k - 1) for k, d in zip(w.kernel, w.dilation)]


@given(geometries(max_kernel=3, max_dilation=1), st.booleans(), st.booleans(), st.data())
def test_avg_pool2d(w, ceil_mode, count_include_pad, data):
    x, padding = data.draw(reals((2, 3, *w.size))), tuple(min(p, k // 2) for p, k in zip(w.padding, w.kernel))
    if not all(k <= n + 2 * p for k, n, p in zip(w.kernel, w.size, padding)):
        return
    reference = pooled(mean if count_include_pad else mean_inside, w.kernel, w.stride, padding, ceil_mode=ceil_mode)
    call = lambda x: F.avg_pool2d(x, w.kernel, w.stride, padding, ceil_mode, count_include_pad)  # noqa: E731
    check(Row("avg_pool2d", call, reference, st.nothing()), (x,))


@given(windows, st.data())
def test_unfold_and_fold(w, data):
    """unfold by brute force, and ⟨unfold(x), y⟩ = ⟨x, fold(y)⟩, each the other's gradient."""
    geometry = {"dilation": w.dilation, "padding": w.padding, "stride": w.stride}
    x = data.draw(reals((2, 3, *w.size)))
    reference = columns(w.kernel, w.stride, w.padding, w.dilation)
    check(Row("unfold", lambda x: F.unfold(x, w.kernel, **geometry), reference, st.nothing()), (x,))
    y = data.draw(reals((2, 3 * math.prod(w.kernel), math.prod(w.output))))
    tx, ty = tensors((x, y))
    seen, put = F.unfold(tx, w.kernel, **geometry), F.fold(ty, w.size, w.kernel, **geometry)
    assert abs((seen * ty).sum().item() - (tx * put).sum().item()) <= 1e-10
    close(tinygen.grad(seen, tx, ty), put.numpy())
    close(tinygen.grad(put, ty, tx), seen.numpy())


@given(pairs(1, 3), pairs(1, 3), st.data())
def test_fold_of_unfold_counts_the_windows(kernel, stride, data):
    x = data.draw(reals((2, 2, 5, 4)))
    (tx,) = tensors((x,))
    both = F.fold(F.unfold(tx, kernel, stride=stride), (5, 4), kernel, stride=stride)
    counts = np.zeros((5, 4))
    for i, j in itertools.product(range(0, 6 - kernel[0], stride[0]), range(0, 5 - kernel[1], stride[1])):
        counts[i : i + kernel[0], j : j + kernel[1]] += 1
    close(both, x * counts)


@given(st.integers(0, 2**32 - 1), pairs(1, 3), pairs(1, 3))
def test_ties_go_to_the_first_of_the_window(seed, kernel, stride):
    x = np.random.default_rng(seed).integers(0, 2, (2, 2, 5, 6)).astype(float)
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(2, 2, (5 - kernel[0]) // stride[0] + 1, (6 - kernel[1]) // stride[1] + 1):
        window = x[n, c, i * stride[0] :, j * stride[1] :][: kernel[0], : kernel[1]]
        k, m = divmod(int(np.argmax(window)), window.shape[1])  # argmax: the first in row order
        expected[n, c, i * stride[0] + k, j * stride[1] + m] += 1 + i + j
    (tx,) = tensors((x,))
    y = F.max_pool2d(tx, kernel, stride)
    gy = np.broadcast_to(1.0 + np.add.outer(np.arange(y.shape[2]), np.arange(y.shape[3])), y.shape)
    close(tinygen.grad(y, tx, tensors((gy,))[0]), expected)


def test_a_nan_wins_and_its_gradient_goes_to_the_last_of_the_window():
    x = tinygen.tensor(np.array([[[[np.nan, 2.0], [1.0, 0.0]]]]), requires_grad=True)
    y = F.max_pool2d(x, 2)
    assert np.isnan(y.item())
    close(tinygen.grad(y, x), np.array([[[[0.0, 0.0], [0.0, 1.0]]]]))


def test_many_taps():
    """More than a byte counts."""
    x = np.random.default_rng(0).permutation(18 * 18).reshape(1, 1, 18, 18).astype(float)
    (tx,) = tensors((x,))
    y = F.max_pool2d(tx, 17, 1)
    close(y, pooled(largest, (17, 17), (1, 1))(x))
    g = tinygen.grad(y.sum(), tx).numpy()
    assert g.sum() == 4
    assert (g * x).sum() == y.sum().item()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@settings(max_examples=5)
@given(data=st.data())
def test_parts_and_threads_change_nothing(monkeypatch, row, data):
    """Small images are done at once; here they are cut into parts as large ones are, gradients too."""
    arrays = data.draw(row.inputs)
    results = []
    monkeypatch.setattr(current().workshop, "elements", 1)  # a part for each image
    for small in (1 << 30, 0):
        monkeypatch.setattr(pooling, "SMALL", small)
        (x,) = tensors(arrays)
        y = row.function(x)
        results.append((y.numpy(), tinygen.grad(y, x, y.detach()).numpy()))
    for whole, parts in zip(*results):
        np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("layout", ["channels last", "channels first"])
def test_memory_layout_stays(layout):
    last = layout == "channels last"
    x = tinygen.zeros((2, 5, 6, 3)).permute(0, 3, 1, 2) if last else tinygen.zeros((2, 3, 5, 6))
    x.requires_grad_()
    for y in (F.max_pool2d(x, 2), F.max_pool2d(x, 3, 1, 1), F.avg_pool2d(x, 2), F.avg_pool2d(x, 3, 1, 1)):
        for array in (y.data, tinygen.grad(y, x, y.detach()).data):
            strides = array.strides
            assert (strides[1] == min(strides)) == last


def test_forward_and_backward_wait_for_nothing(backend):
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    x = tinygen.ones((2, 3, 6, 6), requires_grad=True)
    with counting() as counts:
        for y in (F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1, True, False), F.unfold(x, 2),
                  F.pad(x, (1, 1, 1, 1), "reflect")):  # fmt: skip
            y.sum().backward()
    assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)


X = (1, 2, 4, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.max_pool2d(tinygen.ones((3, 4)), 2), r"max_pool2d: x must be \(n, c, h, w\), got \(3, 4\)"),
        (lambda: F.avg_pool2d(tinygen.ones(X), 6),
         r"avg_pool2d: the window is larger than the padded image: x \(1, 2, 4, 5\), kernel_size \(6, 6\)"),
        (lambda: F.max_pool2d(tinygen.ones(X), 2, padding=2),
         r"max_pool2d: padding must be at most half the window \(2, 2\), got \(2, 2\)"),
        (lambda: F.max_pool2d(tinygen.ones(X), 0), "max_pool2d: kernel_size must be a whole number ≥ 1"),
        (lambda: F.avg_pool2d(tinygen.ones(X), 2, (1, 2, 3)), "avg_pool2d: stride must be a whole number"),
        (lambda: F.unfold(tinygen.ones((4, 5)), 2), r"unfold: x must be \(n, c, h, w\)"),
        (lambda: F.unfold(tinygen.ones(X), 3, 3), "unfold: the window is larger"),
        (lambda: F.fold(tinygen.ones((1, 8, 11)), (4, 5), 2),
         r"fold: x must be \(n, c · 4, 12\) for kernel_size \(2, 2\) and \(3, 4\) windows in output_size \(4, 5\)"),
        (lambda: F.fold(tinygen.ones((1, 7, 12)), (4, 5), 2), r"got \(1, 7, 12\)"),
        (lambda: F.fold(tinygen.ones((1, 8, 12)), (1, 5), 2), "fold: the window is larger"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_numbers_are_refused():
    for function in (lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.unfold(x, 2)):
        with pytest.raises(TypeError, match=r'expected real numbers, got int64; convert them with .to\("float32"\)'):
            function(tinygen.zeros((1, 1, 2, 2), dtype="int64"))
