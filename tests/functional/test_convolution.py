"""Convolution and its transpose: values against SciPy and brute force, derivatives of each order, the adjoint
identity."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen import im2col
from tinygen.autograd import gradcheck
from tinygen.backend import current
from tinygen.functional.convolution import conv2d_formula
from tinygen.testing import Row, check, close
from tinygen.testing.operations import tensors
from tinygen.testing.strategies import Windows, geometries, of_shapes, pairs, reals


@dataclass(frozen=True)
class Case(Windows):
    """One convolution: its geometry and numbers."""

    n: int
    c: int
    o: int
    groups: int

    @property
    def shapes(self):
        """Of x, weight and bias."""
        return (
            (self.n, self.c * self.groups, *self.size),
            (self.o * self.groups, self.c, *self.kernel),
            (self.o * self.groups,),
        )

    @property
    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


cases = st.builds(
    lambda windows, n, c, o, groups: Case(**vars(windows), n=n, c=c, o=o, groups=groups),
    geometries(), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 2),
)  # fmt: skip


def by_scipy(case):
    """conv2d by scipy.signal: each pair of channels apart, every place, then each s-th of them."""

    def conv2d(x, w, b):
        (ph, pw), (sh, sw), (dh, dw) = case.padding, case.stride, case.dilation
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        wide = np.zeros((*w.shape[:2], dh * (w.shape[2] - 1) + 1, dw * (w.shape[3] - 1) + 1))
        wide[:, :, ::dh, ::dw] = w
        y = np.zeros((len(x), len(w), *case.output))
        for n, o, c in itertools.product(range(len(x)), range(len(w)), range(w.shape[1])):
            plane = x[n, o // case.o * case.c + c]
            y[n, o] += scipy.signal.correlate2d(plane, wide[o, c], "valid")[::sh, ::sw]
        return y + b[:, None, None]

    return conv2d


def by_hand(case, size):
    """The transposed convolution as a loop: each element of x stamps the kernel, and what falls outside is lost."""

    def transposed(x, w, b):
        y = np.zeros((len(x), w.shape[1] * case.groups, *size)) + b[:, None, None]
        places = itertools.product(range(x.shape[2]), range(x.shape[3]), range(w.shape[2]), range(w.shape[3]))
        for i, j, k, m in places:
            a = case.stride[0] * i + case.dilation[0] * k - case.padding[0]
            b_ = case.stride[1] * j + case.dilation[1] * m - case.padding[1]
            if not (0 <= a < size[0] and 0 <= b_ < size[1]):
                continue
            for g in range(case.groups):
                given, made = slice(g * case.o, (g + 1) * case.o), slice(g * case.c, (g + 1) * case.c)
                y[:, made, a, b_] += np.einsum("no,oc->nc", x[:, given, i, j], w[given, :, k, m])
        return y

    return transposed


ROW = Case((5, 4), (3, 2), (2, 1), (1, 0), (1, 2), n=2, c=2, o=3, groups=2)
ROWS = [  # one geometry each, among the operations; the tests below draw theirs
    Row("conv2d", lambda x, w, b: F.conv2d(x, w, b, **ROW.options), by_scipy(ROW), of_shapes(*ROW.shapes)),
    Row("conv_transpose2d", lambda x, w, b: F.conv_transpose2d(x, w, b, output_padding=(1, 0), **ROW.options),
        by_hand(ROW, (10, 6)), of_shapes((2, 6, 5, 4), (6, 2, 3, 2), (4,))),
]  # fmt: skip


@given(cases, st.data())
def test_conv2d(case, data):
    arrays = tuple(data.draw(reals(shape)) for shape in case.shapes)
    check(Row("conv2d", lambda x, w, b: F.conv2d(x, w, b, **case.options), by_scipy(case), st.nothing()), arrays)


@given(cases, st.data())
def test_conv_transpose2d(case, data):
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(case.stride, case.dilation))
    x, w = (case.n, case.o * case.groups, *case.size), (case.o * case.groups, case.c, *case.kernel)
    size = [
        s * (n - 1) - 2 * p + d * (k - 1) + 1 + e
        for n, k, s, p, d, e in zip(case.size, case.kernel, case.stride, case.padding, case.dilation, extra)
    ]
    if min(size) < 1:
        with pytest.raises(ValueError, match="leaves nothing of the image"):
            F.conv_transpose2d(tinygen.ones(x), tinygen.ones(w), output_padding=extra, **case.options)
        return
    arrays = tuple(data.draw(reals(shape)) for shape in (x, w, (case.c * case.groups,)))
    row = Row(
        "conv_transpose2d",
        lambda x, w, b: F.conv_transpose2d(x, w, b, output_padding=extra, **case.options),
        by_hand(case, size),
        st.nothing(),
    )
    check(row, arrays)


@given(cases, st.data())
def test_the_transpose_is_the_adjoint(case, data):
    """⟨x ⋆ w, y⟩ = ⟨x, w ⋆ᵀ y⟩ for the image size that output_padding names."""
    x, w, _ = (data.draw(reals(shape)) for shape in case.shapes)
    y = data.draw(reals((case.n, len(w), *case.output)))
    extra = [
        n - (s * (m - 1) - 2 * p + d * (k - 1) + 1)
        for n, m, k, s, p, d in zip(case.size, case.output, case.kernel, case.stride, case.padding, case.dilation)
    ]
    if any(e >= max(s, d) for e, s, d in zip(extra, case.stride, case.dilation)) or min(extra) < 0:
        extra = None
    tx, tw, ty = tensors((x, w, y), requires_grad=False)
    forward = (F.conv2d(tx, tw, **case.options) * ty).sum().item()
    if extra is not None:
        back = (F.conv_transpose2d(ty, tw, output_padding=extra, **case.options) * tx).sum().item()
        assert abs(forward - back) <= 1e-9 * (1 + abs(forward))
    owner, geometry = current(), im2col.Geometry(case.stride, case.padding, case.dilation)
    if case.groups == 1:
        back = owner.convolve_input(ty.data, tw.data, geometry, case.size)
        assert abs(forward - (owner.to_host(back) * x).sum()) <= 1e-9 * (1 + abs(forward))
        weight = owner.convolve_weight(tx.data, ty.data, geometry, case.kernel)
        assert abs(forward - (owner.to_host(weight) * w).sum()) <= 1e-9 * (1 + abs(forward))


@settings(max_examples=10)
@given(cases, st.data())
def test_third_order(case, data):
    """The form is bilinear: beyond the mixed derivative all is 0, unless a nonlinearity is between."""
    x, w, _ = tensors([data.draw(reals(shape)) for shape in case.shapes])
    gradcheck(lambda x, w: F.conv2d(F.tanh(x), w * w, **case.options), [x, w], order=3, name="conv2d")


@given(cases, st.data())
def test_the_fast_path_is_the_formula(case, data):
    x, w, _ = (data.draw(reals(shape)) for shape in case.shapes)
    x, w = x[:, : case.c], w[: case.o]
    tx, tw = tensors((x, w), requires_grad=False)
    y = F.conv2d(tx, tw, stride=case.stride, padding=case.padding, dilation=case.dilation)
    formula = conv2d_formula(tx.data, tw.data, case.stride, case.padding, case.dilation)
    close(y, current().to_host(formula), 1e-10, 1e-10)


@pytest.mark.parametrize("elements", [1, 50, 300, 1 << 20])
@given(cases, st.data())
@settings(max_examples=10)
def test_chunks_and_threads_change_nothing(monkeypatch, elements, case, data):
    """Rows in rooms of any size, one to three threads: float64 sums in another order at most."""
    if current().name != "numpy":
        return
    case = Case(**{**vars(case), "n": 5, "groups": 1})
    x, w, _ = (data.draw(reals(shape)) for shape in case.shapes)
    geometry = im2col.Geometry(case.stride, case.padding, case.dilation)
    y = np.random.default_rng(0).standard_normal((5, case.o, *case.output))

    def products(shop):
        return (
            im2col.convolve(shop, x, w, geometry, case.output),
            im2col.convolve_input(shop, y, w, geometry, case.size),
            im2col.convolve_weight(shop, x, y, geometry, case.kernel),
        )

    expected = products(im2col.Workshop(np, 1 << 30))
    for threads in (1, 2, 3):
        monkeypatch.setattr(im2col.parallel, "threads", lambda threads=threads: threads)
        shop = im2col.CPUWorkshop(elements)
        for _ in range(2):  # the second time in used buffers
            for made, whole in zip(products(shop), expected):
                np.testing.assert_allclose(made, whole, 1e-11, 1e-11)


@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (1, 3), (2, 3)])
def test_strides_that_differ(stride):
    """Several images in a piece, more than a few channels: the rows of a strided transpose stand by lines."""
    random = np.random.default_rng(0)
    x, w, y = (random.standard_normal(shape) for shape in ((3, 5, 6, 7), (4, 5, 3, 4), (3, 4, 6, 7)))
    gradcheck(lambda x, w: F.conv2d(x, w, stride=stride, padding=1), tensors((x, w)), order=2, name="conv2d")
    case = Case(size=(6, 7), kernel=(3, 4), stride=stride, padding=(1, 1), dilation=(1, 1), n=3, c=5, o=4, groups=1)
    size = [(m - 1) * s - 2 + k for m, s, k in zip((6, 7), stride, (3, 4))]
    made = F.conv_transpose2d(*tensors((y, w), requires_grad=False), stride=stride, padding=1)
    close(made, by_hand(case, size)(y, w, np.zeros(5)), 1e-10, 1e-10)


def test_one_floating_dtype():
    x, w = tinygen.ones((1, 2, 4, 4)), tinygen.ones((3, 2, 3, 3))
    for pair in ((x.to("float64"), w), (x.to("int64"), w), (x.to("int64"), w.to("int64"))):
        with pytest.raises(TypeError, match="conv2d: x and weight must be of one floating-point dtype, got"):
            F.conv2d(*pair)
    with pytest.raises(TypeError, match="conv_transpose2d: bias must be float32 as weight is, got float64"):
        F.conv_transpose2d(tinygen.ones((1, 3, 4, 4)), w, tinygen.ones(2).to("float64"))


def test_results_lie_channels_last():
    x, w = tinygen.ones((2, 8, 6, 6)), tinygen.ones((5, 8, 3, 3))
    y = F.conv2d(x, w, padding=1)
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous
    assert F.conv_transpose2d(y, w, padding=1).data.transpose(0, 2, 3, 1).flags.c_contiguous


@given(st.integers(1, 6), pairs(1, 5), pairs(1, 2))
def test_padding_by_name(size, kernel, dilation):
    x, w = tinygen.ones((1, 2, size + 3, size + 3)), tinygen.ones((3, 2, *kernel))
    same = F.conv2d(x, w, padding="same", dilation=dilation)
    assert same.shape == (1, 3, size + 3, size + 3)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel)]
    margins = [(0, 0), (0, 0), *[(r // 2, r - r // 2) for r in reach]]
    padded = tinygen.Tensor(current().from_host(np.pad(x.numpy(), margins)))
    np.testing.assert_array_equal(same.numpy(), F.conv2d(padded, w, dilation=dilation).numpy())
    if max(reach) < size + 3:
        np.testing.assert_array_equal(
            F.conv2d(x, w, padding="valid", dilation=dilation).numpy(), F.conv2d(x, w, dilation=dilation).numpy()
        )


def test_identities():
    """1×1 kernels mix channels; a constant kernel averages; two linear convolutions are one."""
    random = np.random.default_rng(0)
    x, w = random.standard_normal((2, 3, 7, 7)), random.standard_normal((4, 3, 1, 1))
    tx, tw = tensors((x, w), requires_grad=False)
    close(F.conv2d(tx, tw), np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]), 1e-12)
    first, second = random.standard_normal((1, 1, 3, 3)), random.standard_normal((1, 1, 2, 2))
    tx, tf, ts = tensors((x[:, :1], first, second), requires_grad=False)
    both = scipy.signal.convolve2d(first[0, 0], second[0, 0])[None, None]  # correlating twice: the kernels convolve
    (tb,) = tensors((both,), requires_grad=False)
    close(F.conv2d(F.conv2d(tx, tf), ts), F.conv2d(tx, tb).numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.conv2d(tinygen.ones((8, 1, 28, 28)), tinygen.ones((64, 3, 4, 4))),
         r"conv2d: weight expects 3 input channels, x has 1: x \(8, 1, 28, 28\), weight \(64, 3, 4, 4\)"),
        (lambda: F.conv2d(tinygen.ones((8, 28, 28)), tinygen.ones((64, 3, 4, 4))), "expected x of|expected x"),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 5, 5))), "kernel is larger than the padded"),
        (lambda: F.conv2d(tinygen.ones((1, 2, 3, 3)), tinygen.ones((3, 1, 1, 1)), groups=2), "groups must divide"),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((2, 1, 1, 1)), tinygen.ones(3)), "bias must be"),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 1, 1)), stride=0), "stride must be a whole"),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 1, 1)), padding=(1, 2, 3)), "padding must"),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 1, 1)), padding="full"), '"valid" or "same"'),
        (lambda: F.conv2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 1, 1)), None, 2, "same"), "needs stride 1"),
        (lambda: F.conv_transpose2d(tinygen.ones((1, 2, 3, 3)), tinygen.ones((3, 1, 1, 1))), "expects 3 input"),
        (lambda: F.conv_transpose2d(tinygen.ones((1, 1, 3, 3)), tinygen.ones((1, 1, 2, 2)), None, 2, 0, 2),
         "output_padding must be less"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
