"""Every operation, a line each: see tinygen.testing.operations for what a line proves."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.random import Stream
from tinygen.testing import Row, check, host
from tinygen.testing.operations import check_empty, row_test
from tinygen.testing.strategies import broadcastable, of_shapes, one, reals, shapes

once = settings(max_examples=1, phases=[Phase.generate])
TESTS = Path(__file__).parents[1]
ANY = (-3.0, 3.0)
POSITIVE = (0.2, 3.0)


def index_of(*numbers):
    """Whole numbers as a tensor on the current backend, made when the operation runs."""
    return tinygen.tensor(np.array(numbers))


def mask_like(x):
    """A fixed pattern of truth for a shape."""
    return np.arange(x.size).reshape(x.shape) % 3 == 0


def mask_tensor(x):
    return tinygen.Tensor(x.backend.from_host(mask_like(x.data)))


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def running():
    """Statistics of three channels, in the dtype float64."""
    return tinygen.tensor(np.array([0.5, -1.0, 0.0])), tinygen.tensor(np.array([2.0, 0.1, 1.0]))


ROWS = [
    # elementwise
    Row("add", F.add, np.add, broadcastable(ANY, ANY)),
    Row("subtract", F.subtract, np.subtract, broadcastable(ANY, ANY)),
    Row("multiply", F.multiply, np.multiply, broadcastable(ANY, ANY)),
    Row("divide", F.divide, np.divide, broadcastable(ANY, POSITIVE)),
    Row("add, to a number", lambda x: 2 + x, lambda x: 2 + x, one()),
    Row("subtract, from a number", lambda x: 2 - x, lambda x: 2 - x, one()),
    Row("multiply, a number", lambda x: 2.5 * x, lambda x: 2.5 * x, one()),
    Row("divide, a number", lambda x: 2 / x, lambda x: 2 / x, one(*POSITIVE)),
    Row("power, of a number", lambda x: 2.0**x, lambda x: np.exp2(x), one()),
    Row("negative", F.negative, np.negative, one()),
    Row("power", F.power, np.power, broadcastable(POSITIVE, ANY)),
    Row("power 2", lambda x: x**2, np.square, one()),
    Row("power 3", lambda x: x**3, lambda x: np.power(x, 3), one()),
    Row("power −1.5", lambda x: x**-1.5, lambda x: np.power(x, -1.5), one(*POSITIVE)),
    Row("power 0", lambda x: x**0, np.ones_like, one()),
    Row("exp", F.exp, np.exp, one()),
    Row("log", F.log, np.log, one(*POSITIVE)),
    Row("sqrt", F.sqrt, np.sqrt, one(*POSITIVE)),
    Row("sin", F.sin, np.sin, one()),
    Row("cos", F.cos, np.cos, one()),
    Row("tanh", F.tanh, np.tanh, one()),
    Row("sigmoid", F.sigmoid, scipy.special.expit, one(-9, 9)),
    Row("softplus", F.softplus, lambda x: np.logaddexp(0, x), one(-9, 9)),
    Row("logsigmoid", F.logsigmoid, scipy.special.log_expit, one(-9, 9)),
    Row("erf", F.erf, scipy.special.erf, one()),
    Row("abs", F.abs, np.abs, one()),
    Row("relu", F.relu, lambda x: np.where(x > 0, x, 0), one()),
    Row("leaky_relu", lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x), one()),
    Row("leaky_relu 1.5", lambda x: F.leaky_relu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * x), one()),
    Row("maximum", F.maximum, np.maximum, broadcastable(ANY, ANY)),
    Row("minimum", F.minimum, np.minimum, broadcastable(ANY, ANY)),
    Row("clamp", lambda x: F.clamp(x, -1, 2), lambda x: np.clip(x, -1, 2), one()),
    Row("clamp max", lambda x: x.clamp(max=0.5), lambda x: np.minimum(x, 0.5), one()),
    Row("clamp min", lambda x: F.clamp(x, min=0.5), lambda x: np.maximum(x, 0.5), one()),
    Row("where", lambda a, b: F.where(mask_tensor(a), a, b), lambda a, b: np.where(mask_like(a), a, b),
        of_shapes((3, 4), (3, 4))),
    # reductions
    Row("sum", F.sum, np.sum, one()),
    Row("sum dims", lambda x: x.sum((0, -1), keepdim=True), lambda x: x.sum((0, -1), keepdims=True), one(min_dims=2)),
    Row("sum_to", lambda x: F.sum_to(x, (3, 1)), lambda x: x.sum((0, 2))[:, None], of_shapes((2, 3, 4))),
    Row("mean", lambda x: x.mean(-1), lambda x: x.mean(-1), one(min_dims=1)),
    Row("var", lambda x: x.var(-1), lambda x: x.var(-1, ddof=1), of_shapes((3, 5)), empty=0),
    Row("var biased", lambda x: x.var((0, 2), correction=0, keepdim=True), lambda x: x.var((0, 2), keepdims=True),
        of_shapes((2, 3, 4)), empty=0),
    Row("std", lambda x: x.std(0), lambda x: x.std(0, ddof=1), of_shapes((5, 2)), empty=0),
    Row("amax", lambda x: x.amax(-1), lambda x: x.max(-1), one(min_dims=1)),
    Row("amin", lambda x: x.amin((0, 1), keepdim=True), lambda x: x.min((0, 1), keepdims=True), one(min_dims=2)),
    Row("max of two", F.max, np.maximum, broadcastable(ANY, ANY)),
    Row("min of two", lambda a, b: a.min(b), np.minimum, broadcastable(ANY, ANY)),
    Row("min all", F.min, np.min, one()),
    Row("max all", F.max, np.max, one()),
    Row("max dim", lambda x: x.max(0).values, lambda x: x.max(0), one(min_dims=1)),
    Row("min dim", lambda x: x.min(-1, True)[0], lambda x: x.min(-1, keepdims=True), one(min_dims=1)),
    Row("argmax", lambda x: x.argmax(-1), lambda x: x.argmax(-1), one(min_dims=1), order=0),
    Row("argmin keep", lambda x: x.argmin(0, True), lambda x: x.argmin(0, keepdims=True), one(min_dims=1), order=0),
    Row("norm", lambda x: x.norm(dim=-1), lambda x: np.linalg.norm(x, axis=-1), one(min_dims=1)),
    Row("norm all", lambda x: x.norm(), lambda x: np.linalg.norm(x.ravel()), one(min_dims=1)),
    Row("norm 1", lambda x: x.norm(1, -1), lambda x: np.linalg.norm(x, 1, -1), one(min_dims=1)),
    Row("norm 3", lambda x: x.norm(3, -1), lambda x: np.linalg.norm(x, 3, -1), one(min_dims=1)),
    Row("norm 1.5", lambda x: x.norm(1.5, (0, 1), True), lambda x: np.sum(
        np.abs(x) ** 1.5, (0, 1), keepdims=True) ** (2 / 3), one(min_dims=2)),
    Row("norm ∞", lambda x: x.norm(np.inf, 0), lambda x: np.abs(x).max(0), one(min_dims=1)),
    Row("logsumexp", lambda x: F.logsumexp(x, -1), lambda x: scipy.special.logsumexp(x, -1), one(min_dims=1)),
    Row("logsumexp keep", lambda x: F.logsumexp(x, (0, 1), True),
        lambda x: scipy.special.logsumexp(x, (0, 1), keepdims=True), one(min_dims=2)),
    Row("softmax", lambda x: F.softmax(x, 1), lambda x: scipy.special.softmax(x, 1), of_shapes((3, 4))),
    Row("log_softmax", lambda x: F.log_softmax(x, -2), lambda x: scipy.special.log_softmax(x, -2),
        of_shapes((2, 3, 2))),
    Row("cumsum", lambda x: x.cumsum(-1), lambda x: x.cumsum(-1), one(min_dims=1)),
    # shape
    Row("reshape", lambda x: x.reshape(2, -1), lambda x: x.reshape(2, -1), of_shapes((3, 4))),
    Row("flatten", lambda x: x.flatten(1), lambda x: x.reshape(2, 12), of_shapes((2, 3, 4))),
    Row("unflatten", lambda x: x.unflatten(-1, (2, 3)), lambda x: x.reshape(2, 2, 3), of_shapes((2, 6))),
    Row("permute", lambda x: x.permute(2, 0, -2), lambda x: x.transpose(2, 0, 1), of_shapes((2, 3, 4))),
    Row("transpose", lambda x: x.transpose(0, -1), lambda x: x.swapaxes(0, -1), one(min_dims=1)),
    Row("permute, T", lambda x: x.T, np.transpose, one()),
    Row("expand", lambda x: x.expand(2, -1, 4), lambda x: np.broadcast_to(x, (2, 3, 4)), of_shapes((3, 1))),
    Row("squeeze", lambda x: x.squeeze(1), lambda x: x[:, 0], of_shapes((2, 1, 3, 1))),
    Row("squeeze all", lambda x: x.squeeze(), np.squeeze, of_shapes((2, 1, 3, 1))),
    Row("unsqueeze", lambda x: x.unsqueeze(-1), lambda x: x[..., None], one()),
    Row("flip", lambda x: x.flip((0, -1)), lambda x: x[::-1, ..., ::-1], one(min_dims=2)),
    Row("flip dims", lambda x: x.flip(0, -1), lambda x: x[::-1, ..., ::-1], one(min_dims=2)),
    Row("roll all", lambda x: x.roll(2), lambda x: np.roll(x, 2), one()),
    Row("roll", lambda x: x.roll((1, -2), (0, 1)), lambda x: np.roll(x, (1, -2), (0, 1)), one(min_dims=2)),
    Row("cat", lambda a, b: F.cat([a, b], -1), lambda a, b: np.concatenate([a, b], -1), of_shapes((2, 3), (2, 1))),
    Row("stack", lambda a, b: F.stack([a, b], 1), lambda a, b: np.stack([a, b], 1), of_shapes((2, 3), (2, 3))),
    Row("split", lambda x: F.split(x, 2, 1), lambda x: (x[:, :2], x[:, 2:4], x[:, 4:]), of_shapes((2, 5))),
    Row("split, one used", lambda x: F.split(x, [1, 3, 1], -1)[1], lambda x: x[:, 1:4], of_shapes((2, 5))),
    Row("chunk", lambda x: x.chunk(2), lambda x: (x[:3], x[3:]), of_shapes((5, 2))),
    # indexing
    Row("getitem [number]", lambda x: x[-1], lambda x: x[-1], one(min_dims=1)),
    Row("getitem [slices]", lambda x: x[1:, None, ..., ::-2], lambda x: x[1:, None, ..., ::-2], one(min_dims=2)),
    Row("getitem [array]", lambda x: x[index_of(2, 0, 2)], lambda x: x[[2, 0, 2]], of_shapes((3, 2))),
    Row("getitem [array, array]", lambda x: x[index_of(0, 2, 0), index_of(1, 1, 1)], lambda x: x[[0, 2, 0], 1],
        of_shapes((3, 2))),
    Row("getitem [:, array]", lambda x: x[:, index_of(1, 1, 0)], lambda x: x[:, [1, 1, 0]], of_shapes((3, 2))),
    Row("getitem [mask]", lambda x: x[mask_tensor(x)], lambda x: x[mask_like(x)], of_shapes((3, 4))),
    Row("gather", lambda x: F.gather(x, 1, index_of([0, 2], [1, 1])),
        lambda x: np.take_along_axis(x, np.array([[0, 2], [1, 1]]), 1),
        of_shapes((2, 3))),
    Row("index_select", lambda x: x.index_select(-1, index_of(1, 1, 0)), lambda x: x[..., [1, 1, 0]],
        of_shapes((2, 3))),
    Row("masked_fill", lambda x: x.masked_fill(mask_tensor(x), 7.0), lambda x: np.where(mask_like(x), 7.0, x),
        of_shapes((3, 4))),
    # linear
    Row("matmul", F.matmul, np.matmul, of_shapes((3, 4), (4, 2))),
    Row("matmul stacked", F.matmul, np.matmul, of_shapes((2, 1, 3, 4), (5, 4, 2))),
    Row("matmul vectors", F.matmul, np.matmul, of_shapes((4,), (4,))),
    Row("matmul row", F.matmul, np.matmul, of_shapes((4,), (2, 4, 3))),
    Row("matmul column", F.matmul, np.matmul, of_shapes((2, 3, 4), (4,))),
    Row("linear", F.linear, lambda x, w, b: np.einsum("...i,oi->...o", x, w) + b, of_shapes((2, 5, 3), (4, 3), (4,)),
        empty=1),
    Row("linear, no bias", F.linear, lambda x, w: np.einsum("ni,oi->no", x, w), of_shapes((5, 3), (4, 3)), empty=1),
    # normalization
    Row("standardize", lambda x: F.standardize(x, (0,), 1e-3), lambda x: (
        (x - x.mean(0)) / np.sqrt(x.var(0, keepdims=True) + 1e-3), 1 / np.sqrt(x.var(0, keepdims=True) + 1e-3)),
        of_shapes((5, 3)), empty=0),
    Row("batch_norm", lambda x, g, b: F.batch_norm(x, None, None, g, b, True),
        lambda x, g, b: g * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) + b, of_shapes((6, 3), (3,), (3,)), rtol32=1e-4,
        empty=0),
    Row("batch_norm 3-d", lambda x: F.batch_norm(x, None, None, training=True, eps=0.1),
        lambda x: (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + 0.1),
        of_shapes((3, 2, 4)), empty=0),
    Row("batch_norm, running", lambda x, g, b: F.batch_norm(x, *(s.to(x.dtype) for s in running()), g, b, eps=0.1),
        lambda x, g, b: g * (x - [0.5, -1, 0]) / np.sqrt(np.array([2.0, 0.1, 1.0]) + 0.1) + b,
        of_shapes((4, 3), (3,), (3,)), empty=1),
    Row("dropout", lambda x: F.dropout(x, 0.25, True, Stream(3, "d")),
        lambda x: np.where(host(Stream(3, "d").bernoulli(0.75, x.shape)), x / 0.75, 0), one()),
    # losses
    Row("mse_loss", F.mse_loss, lambda x, t: np.mean((x - t) ** 2), of_shapes((3, 4), (3, 4))),
    Row("mse_loss sum", lambda x, t: F.mse_loss(x, t, reduction="sum"), lambda x, t: np.sum((x - t) ** 2),
        of_shapes((3, 4), (3, 4))),
    Row("binary_cross_entropy_with_logits",
        lambda x, t: F.binary_cross_entropy_with_logits(x, t.sigmoid()), lambda x, t: np.mean(
        -scipy.special.expit(t) * scipy.special.log_expit(x) - scipy.special.expit(-t) * scipy.special.log_expit(-x)),
        of_shapes((3, 4), (3, 4))),
    Row("binary_cross_entropy", lambda x, t: F.binary_cross_entropy(x, t, reduction="none"),
        lambda x, t: -scipy.special.xlogy(t, x) - scipy.special.xlog1py(1 - t, -x),
        of_shapes((3, 2), (3, 2), low=0.1, high=0.9)),
    Row("cross_entropy", lambda x: F.cross_entropy(x, index_of(2, 0, 1)),
        lambda x: -np.mean(np.log(softmax(x)[[0, 1, 2], [2, 0, 1]])), of_shapes((3, 4))),
    Row("cross_entropy 3-d", lambda x: F.cross_entropy(x, index_of([2, 0], [1, 1]), reduction="sum"),
        lambda x: -sum(np.log(softmax(x)[n, k, i])
            for n, row in enumerate([[2, 0], [1, 1]]) for i, k in enumerate(row)),
        of_shapes((2, 3, 2))),
    Row("cross_entropy of probabilities", lambda x, t: F.cross_entropy(x, F.softmax(t, 1)),
        lambda x, t: -np.mean(np.sum(softmax(t) * np.log(softmax(x)), 1)), of_shapes((3, 4), (3, 4))),
    Row("cross_entropy weighted", lambda x, w: F.cross_entropy(x, index_of(2, -100, 2, 0), w),
        lambda x, w: -np.sum((w * np.log(softmax(x)))[[0, 2, 3], [2, 2, 0]]) / (2 * w[2] + w[0]),
        of_shapes((4, 3), (3,), low=0.2)),
    Row("cross_entropy smoothed", lambda x: F.cross_entropy(x, index_of(2, 0), label_smoothing=0.3),
        lambda x: -np.mean(np.sum([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]] * np.log(softmax(x)), 1)), of_shapes((2, 3))),
    Row("cross_entropy of probabilities, weighted and smoothed",
        lambda x, t, w: F.cross_entropy(x, F.softmax(t, 1), w, label_smoothing=0.3),
        lambda x, t, w: -np.mean(np.sum(w * (0.7 * softmax(t) + 0.1) * np.log(softmax(x)), 1)),
        of_shapes((2, 3), (2, 3), (3,))),
    Row("nll_loss", lambda x: F.nll_loss(x, index_of(1, 0), reduction="none"), lambda x: -x[[0, 1], [1, 0]],
        of_shapes((2, 3))),
    Row("to, another dtype", lambda x: (x.to("float64") * 2).to(x.dtype), lambda x: x * 2, one()),
]  # fmt: skip


test_operation = row_test(ROWS)


@once
@given(st.data())
def test_most_operations_are_defined_on_nothing(data):
    """check_empty tries what the reference can do; without a look at how many, it might try none."""
    tried = sum(check_empty(row, tuple(np.ones((2, 3)) for _ in data.draw(row.inputs))) for row in ROWS[:30])
    assert tried == 30


def test_every_public_operation_has_a_row():
    """An operation is covered where a row is that function, or calls it; its Function must be met by then, too."""
    files = [path for folder in ("functional", "nn") for path in (TESTS / folder).glob("test_*.py")]
    themes = [importlib.import_module(f"tests.{path.parent.name}.{path.stem}") for path in files]
    called, made = set(), set()

    def watch(frame, event, _):
        if event == "call" and frame.f_back and (frame.f_code is row_code or frame.f_back.f_code is row_code):
            called.add(frame.f_code)
        if event == "call" and frame.f_code is tinygen.autograd.Function.__call__.__code__:
            made.add(type(frame.f_locals["self"]))

    for row in [row for theme in themes for row in getattr(theme, "ROWS", ())]:
        row_code, arrays = row.function.__code__, find(row.inputs, lambda _: True, settings=once)
        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            check(row, arrays)
        finally:
            sys.setprofile(before)
    public = {name: getattr(F, name).__code__ for name in F.__all__}
    assert not {name for name, code in public.items() if code not in called}
    functions = {f for f in _subclasses(tinygen.autograd.Function) if f.__module__.startswith("tinygen.functional")}
    assert not {f.__name__ for f in functions if f not in made and not _subclasses(f)}


def _subclasses(of):
    return {inner for direct in of.__subclasses__() for inner in {direct, *_subclasses(direct)}}


def test_rows_notice_a_wrong_derivative():
    """The check itself can fail: a factor, a constant statistic, a changed input, a lost dtype."""

    class Wrong(tinygen.autograd.Function):
        saves_inputs = (0,)

        def forward(self, x):
            return x * x * x

        def backward(self, gy):
            (x,) = self.saved
            return gy * x * x * 2.99

    class Constant(Wrong):
        def backward(self, gy):
            (x,) = self.saved
            return gy * 3 * x.detach() ** 2  # right to first order only

    x = (np.linspace(0.5, 2, 6).reshape(2, 3),)
    for function, message in (
        (lambda x: Wrong()(x), "order 1 by input 0"),
        (lambda x: Constant()(x), "order 2 by input 0"),
        (lambda x: x.to("float64") ** 3, "float32 became float64"),
    ):
        with pytest.raises(AssertionError, match=message):
            check(Row("wrong", function, lambda x: x**3, st.nothing()), x)
    with pytest.raises(AssertionError, match="expected"):
        check(Row("wrong", lambda x: x**2, lambda x: x**3, st.nothing()), x)

    small = (1e-4 * x[0],)
    with pytest.raises(AssertionError, match="in float32"):  # the tolerance goes with the result's own size
        check(Row("coarse", lambda x: x if x.dtype == "float64" else x * 1.05, np.copy, st.nothing()), small)

    class Rounded(Wrong):
        def backward(self, gy):
            (x,) = self.saved
            return gy * 3 * x * x * (1.001 if gy.dtype == "float32" else 1)

    with pytest.raises(AssertionError, match="float32 gradient of input 0"):
        check(Row("rounded", lambda x: Rounded()(x), lambda x: x**3, st.nothing()), x)
    with pytest.raises(AssertionError, match="of nothing"):
        check_empty(Row("nothing", lambda x: x.sum() + (0 if x.numel() else 1), np.sum, st.nothing()), x)


@given(reals(shapes(1, 2)))
def test_dropout_keeps_the_mean_and_repeats_by_seed(x):
    big = tinygen.tensor(np.broadcast_to(x, (4000, *x.shape)).copy(), requires_grad=True)
    y = F.dropout(big, 0.25, True, Stream(3, "d"))
    kept = y.numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.03 or np.any(x == 0)
    np.testing.assert_allclose(y.numpy()[kept], (big.numpy() / 0.75)[kept])
    assert np.array_equal(y.numpy(), F.dropout(big, 0.25, True, Stream(3, "d")).numpy())
    assert F.dropout(big, 0.25, False) is big
    y.sum().backward()
    np.testing.assert_allclose(big.grad.numpy(), kept / 0.75)
