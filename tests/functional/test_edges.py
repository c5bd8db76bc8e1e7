"""At the edges: dtypes that must not grow, singular points, call forms, and what is refused in words."""

import math
import weakref

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.testing import close
from tinygen.testing.strategies import reals, shapes


def leaf(values, dtype="float64"):
    return tinygen.tensor(np.asarray(values, dtype), requires_grad=True)


WHOLE, REAL, MASK = np.array([1, 2, 3]), np.array([1, 2, 3], np.float32), np.array([True, False, True])
PROMOTIONS = {
    "int · 0.5": lambda i, x, m: i * 0.5,
    "0.5 − int": lambda i, x, m: 0.5 - i,
    "int / int": lambda i, x, m: i / i,
    "int · float32": lambda i, x, m: i * x,
    "int ** 0.5": lambda i, x, m: i**0.5,
    "bool · 2.0": lambda i, x, m: m * 2.0,
    "float32 · NumPy's float64": lambda i, x, m: x * np.float64(2),
    "NumPy's float64 ** float32": lambda i, x, m: np.float64(2) ** x,
    "float32 ** NumPy's float64": lambda i, x, m: x ** np.float64(2.5),
    "NumPy's float32 ** float32": lambda i, x, m: np.float32(2) ** x,
    "leaky_relu": lambda i, x, m: F.leaky_relu(x, np.float64(0.1)),
    "where of numbers": lambda i, x, m: F.where(m, 1.0, 0.0),
    "where of int and number": lambda i, x, m: F.where(m, i, 0.5),
    "maximum": lambda i, x, m: F.maximum(i, 0.5),
    "clamp of int": lambda i, x, m: i.clamp(0.5, 2.5),
    "clamp by NumPy's float64": lambda i, x, m: x.clamp(np.float64(0), np.float64(2)),
    "exp": lambda i, x, m: F.exp(i),
    "erf": lambda i, x, m: F.erf(i),
    "sigmoid": lambda i, x, m: F.sigmoid(m),
}


@pytest.mark.parametrize("name", PROMOTIONS)
def test_nothing_becomes_float64_that_was_not(name):
    function = PROMOTIONS[name]
    y = function(*map(tinygen.tensor, (WHOLE, REAL, MASK)))
    assert isinstance(y, tinygen.Tensor)
    assert y.dtype == np.float32
    wide = function(*map(tinygen.tensor, (WHOLE.astype(np.float64), REAL.astype(np.float64), MASK)))
    close(y, wide.numpy(), rtol=1e-6)


def test_dtypes_that_stay():
    i = tinygen.tensor(WHOLE)
    for y in (i + 1, i.clamp(max=2), F.where(i > 1, 1, 0), i.sum(), F.relu(i)):
        assert y.dtype == np.int64
    half = tinygen.tensor(REAL.astype(np.float16))
    for y in (F.erf(half), half * 2.5, half * i, F.exp(half)):
        assert y.dtype == np.float16
    double = tinygen.tensor(REAL.astype(np.float64))
    for y in (double * tinygen.tensor(REAL), i * double, double * 0.5):
        assert y.dtype == np.float64
    close(i.clamp(max=2), np.array([1, 2, 2]))


def test_singular_points_give_ieee_results_without_a_warning():
    zero = leaf([0.0, 0.0])
    close(F.log(zero), np.full(2, -np.inf))
    close(1 / zero, np.full(2, np.inf))
    close(zero**-1.5, np.full(2, np.inf))
    close(F.exp(zero + 1e4), np.full(2, np.inf))
    close(F.softplus(zero - np.inf), np.zeros(2))
    close(F.sigmoid(leaf([-1e4, 1e4])), np.array([0.0, 1.0]))
    for y in (zero / zero, F.sqrt(zero - 1), F.log(zero - 1), (zero - 2) ** 0.5, F.sin(1 / zero), F.cos(1 / zero)):
        assert np.isnan(y.numpy()).all()
    close(tinygen.grad(F.log(zero).sum(), zero), np.full(2, np.inf))
    close(tinygen.grad(F.sqrt(zero).sum(), zero), np.full(2, np.inf))


@given(reals(shapes(1, 2), -87.0, 30.0))
def test_sigmoid_is_exact_on_both_sides(x):
    single = x.astype(np.float32)
    close(F.sigmoid(leaf(single, "float32")), scipy.special.expit(single.astype(np.float64)), rtol=1e-6, atol=0)
    close(F.sigmoid(leaf(8 * x)), scipy.special.expit(8 * x), rtol=1e-14, atol=0)


def test_binary_cross_entropy_at_certain_probabilities():
    x, t = leaf([0.0, 1.0, 0.0, 1.0]), leaf([0.0, 1.0, 1.0, 0.0])
    loss = F.binary_cross_entropy(x, t, reduction="none")
    close(loss, np.array([0.0, 0.0, 100.0, 100.0]))
    gx, gt = tinygen.grad(loss.sum(), [x, t], create_graph=True)
    close(gx, np.array([0.0, 0.0, -1e12, 1e12]))
    close(gt, np.array([100.0, -100.0, 100.0, -100.0]))
    assert np.isfinite(tinygen.grad((gx + gt).sum(), x).numpy()).all()
    hard = leaf([0.0, 1.0, 1e-30, 1.0], "float32")
    close(tinygen.grad(F.binary_cross_entropy(hard, leaf([0, 1, 0, 1], "float32")), hard), np.array([0, 0, 2.5e-19, 0]),
          rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, np.inf])
def test_the_gradient_of_a_norm_at_zeros(p):
    zero, x = leaf(np.zeros(3)), leaf([0.0, 2.0, -1.0])
    close(tinygen.grad(zero.norm(p), zero), np.zeros(3))
    g = tinygen.grad(F.norm(x, p, 0), x).numpy()
    share = np.array([0, 1, 0.5]) / np.linalg.norm([1, 0.5], p)
    expected = [0, 1, 0] if p == np.inf else np.sign([0, 1, -1]) * np.append(0, share[1:] ** (p - 1))
    close(g, np.asarray(expected, float))


def test_norm_refuses_what_is_no_norm():
    x = leaf([1.0, 2.0])
    for p in (0, -1, np.nan, "fro", (0, 1)):
        with pytest.raises(ValueError, match="norm: p must be a real number > 0 or inf"):
            x.norm(p)


@given(st.integers(1, 200))
def test_mean_divides(n):
    assert tinygen.ones(n).mean().item() == 1  # n · (1/n) is not 1 for n = 49


def test_mean_std_and_the_like_of_little_and_of_whole_numbers():
    assert np.isnan(tinygen.zeros(0).mean().item())
    assert np.isnan(tinygen.zeros(2, 0).mean(1).numpy()).all()
    assert np.isnan(F.mse_loss(tinygen.zeros(0), tinygen.zeros(0)).item())
    assert F.logsumexp(tinygen.zeros(0), 0).item() == -np.inf
    x = leaf([2.0, 2.0, 2.0])
    assert x.std().item() == 0
    close(tinygen.grad(x.std(), x), np.zeros(3))
    with pytest.raises(ValueError, match="var: 1 elements with correction 1 have no variance"):
        leaf([1.0]).var()
    for function in (F.mean, F.var, F.std, F.norm, *(lambda x, f=f: f(x, 0) for f in (F.softmax, F.log_softmax))):
        with pytest.raises(TypeError, match=r'expected real numbers, got int64; convert them with .to\("float32"\)'):
            function(tinygen.arange(3))


def test_classes_out_of_range_are_refused():
    x = leaf(np.zeros((2, 3)))
    for bad in (3, -1, -99):
        message = f"classes must be in 0 … 2, or ignore_index -100, got {bad}"
        for function in (F.cross_entropy, F.nll_loss):
            with pytest.raises(ValueError, match=f"{function.__name__}: {message}"):
                function(x, tinygen.tensor([0, bad])).item()  # a device is asked when something is fetched
    with pytest.raises(ValueError, match="ignore_index 1, got -100"):
        F.cross_entropy(x, tinygen.tensor([1, -100]), ignore_index=1).item()
    with pytest.raises(ValueError, match=r"weight must be \(3,\), one a class of input \(2, 3\), got \(2,\)"):
        F.nll_loss(x, tinygen.tensor([0, 1]), tinygen.ones(2))
    with pytest.raises(ValueError, match=r"for input \(2, 3\) the target must be \(2,\), got \(3,\)"):
        F.cross_entropy(x, tinygen.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"expected logits of \(n, classes, …\), got \(3,\)"):
        F.cross_entropy(leaf(np.zeros(3)), tinygen.tensor(1))
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        F.cross_entropy(x, tinygen.tensor([0, 1]), label_smoothing=1.5)
    with pytest.raises(TypeError, match="positional"):
        F.mse_loss(x, x, "sum")


@given(reals((4, 3)), st.sampled_from([-100, 7, 1]), st.sampled_from(["mean", "sum", "none"]), st.floats(0, 0.9))
def test_ignored_targets_count_for_nothing(x, ignored, reduction, smoothing):
    options = {"ignore_index": ignored, "reduction": reduction, "label_smoothing": smoothing}
    logits, kept = leaf(x), leaf(x[[0, 2]])
    loss = F.cross_entropy(logits, tinygen.tensor([0, ignored, 2, ignored]), **options)
    expected = F.cross_entropy(kept, tinygen.tensor([0, 2]), **options)
    close(loss, np.array([expected.numpy()[0], 0, expected.numpy()[1], 0]) if reduction == "none" else expected.numpy())
    g, expected_g = tinygen.grad(loss.sum(), logits), tinygen.grad(expected.sum(), kept)
    close(g, np.insert(expected_g.numpy(), [1, 2], 0, axis=0))
    nothing = F.nll_loss(logits, tinygen.tensor([ignored] * 4), ignore_index=ignored)
    assert np.isnan(nothing.item())


def test_indices_out_of_range_are_refused():
    x = leaf(np.zeros((2, 3)))
    for bad in (3, -1):
        with pytest.raises(IndexError, match=f"gather: indices must be in 0 … 2, got {bad}"):
            F.gather(x, 1, tinygen.tensor([[0], [bad]])).sum().item()
        with pytest.raises(IndexError, match=f"index_select: indices must be in 0 … 2, got {bad}"):
            F.index_select(x, 1, tinygen.tensor([0, bad])).sum().item()


@given(reals((64, 2), 0.5, 1.0), st.sampled_from([1e-3, 1.0]))
def test_running_statistics_keep_digits_and_dtype(noise, scale):
    x = 1e-4 * scale * noise
    for dtype in ("float32", "float64"):
        mean, variance = tinygen.zeros(2), tinygen.zeros(2)
        given_x = leaf(x, dtype)
        F.batch_norm(given_x, mean, variance, training=True, momentum=1.0)
        assert mean.dtype == variance.dtype == np.float32
        exact = given_x.numpy().astype(np.float64)
        close(variance, exact.var(0, ddof=1), rtol=1e-4, atol=0)
        close(mean, exact.mean(0), rtol=1e-5, atol=0)


@given(st.integers(0, 7), st.integers(1, 9))
def test_pieces_join_to_the_whole(total, size):
    x = tinygen.arange(total)
    pieces = x.split(size)
    assert [len(p) for p in pieces[:-1]] == [size] * (len(pieces) - 1)
    assert len(pieces) == max(1, -(-total // size))
    close(F.cat(pieces), np.arange(total))
    parts = x.chunk(size)
    assert len(parts) == (size if total == 0 else -(-total // -(-total // size)))
    close(F.cat(parts), np.arange(total))


def test_pieces_that_cannot_be_are_refused():
    x = leaf(np.zeros((5, 2)))
    assert [len(p) for p in x.split([0, 5])] == [0, 5]
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"split: size must be positive, got {size}"):
            x.split(size)
    for sizes in ([-1, 6], [2, 2], [6]):
        with pytest.raises(ValueError, match=r"must be ≥ 0 and add up to 5, the size of dim 0 of \(5, 2\)"):
            x.split(sizes)
    with pytest.raises(ValueError, match="chunk: chunks must be at least 1, got 0"):
        x.chunk(0)
    with pytest.raises(IndexError, match="chunk: dim 2 is out of range"):
        x.chunk(2, 2)
    with pytest.raises(TypeError, match="split: size must be a whole number"):
        x.split(2.0)
    with pytest.raises(ValueError, match="stack: expected at least one tensor"):
        F.stack([])


def test_sizes_and_dims_of_every_kind_of_whole_number():
    two, one = np.int64(2), np.int32(1)
    x = tinygen.arange(12.0).reshape(two, np.int64(3), two)
    assert x.shape == (2, 3, 2)
    assert {type(s) for s in tinygen.zeros(two, one).shape} == {int}
    shaped = {
        (2, 2): (x.sum(one), x.mean([one]), x.amax((one,))),
        (2, 3, 2): (x.flip(one), x.roll(one, one), x.expand(two, -1, two), x.softmax(one), x.cumsum(one)),
        (3, 2, 2): (x.transpose(np.int64(0), one), x.permute(one, 0, two)),
        (2, 1, 3, 2): (x.unsqueeze(one),),
        (6, 2): (x.flatten(np.int64(0), one),),
        (2, 3, 1, 2): (x.unflatten(two, (one, two)),),
        (1, 3, 2): (x.split(one)[0], x.chunk(two)[0], x.split([one, one])[1]),
        (12,): (x.reshape(np.int64(-1)), x.roll(two).reshape([12])),
    }
    for shape, results in shaped.items():
        assert all(y.shape == shape for y in results)
    close(x.sum(one), x.numpy().sum(1))
    for call in (lambda: x.sum(1.0), lambda: x.reshape(2.0, 6), lambda: x.expand("2", 3, 2), lambda: x.flip(None)):
        with pytest.raises(TypeError, match="must be a whole number, got"):
            call()


def test_shapes_that_cannot_be_are_refused():
    x = tinygen.arange(4.0)
    for shape in ((-2, -2), (-1, -1), (-2, 2)):
        with pytest.raises(ValueError, match="reshape: sizes must be ≥ 0, and at most one of them −1"):
            x.reshape(shape)
    with pytest.raises(ValueError, match=r"reshape: the −1 of \(0, -1\) could be any size"):
        tinygen.zeros(0).reshape(0, -1)
    with pytest.raises(ValueError, match=r"\(4,\) has 4 elements, which do not fill \(3, -1\)"):
        x.reshape(3, -1)
    for shape in ((-1, 4), (-2, 4)):
        with pytest.raises(ValueError, match="expand: sizes must be ≥ 0, or −1"):
            x.expand(shape)


def test_call_forms():
    assert tinygen.zeros(2, 3).shape == tinygen.ones((2, 3)).shape == tinygen.full((2, 3), 1.0).shape == (2, 3)
    assert tinygen.zeros(()).shape == tinygen.zeros().shape == ()
    assert tinygen.zeros(2, dtype="int64", requires_grad=False).dtype == np.int64
    assert [tinygen.full((1,), v).dtype for v in (1.5, 2, True)] == [np.float32, np.int64, bool]
    assert tinygen.arange(np.int64(3)).dtype == np.int64
    assert tinygen.arange(0, end=2.0, step=0.5, requires_grad=True).requires_grad
    like = tinygen.zeros_like(tinygen.arange(3), dtype="float32", requires_grad=True)
    assert like.requires_grad and like.dtype == tinygen.ones_like(like).dtype == np.float32
    a, b = leaf([1.0, 5.0]), leaf([4.0, 2.0])
    close(F.max(a, b), np.array([4.0, 5.0]))
    close(a.min(b), np.array([1.0, 2.0]))
    x = tinygen.arange(6).reshape(2, 3)
    close(x.roll(1), np.array([[5, 0, 1], [2, 3, 4]]))
    close(x.flip(0, 1), x.flip((0, 1)).numpy())


def test_clamp_takes_numbers_of_any_kind_and_no_tensor():
    x = leaf([-1.0, 0.0, 2.0], "float32")
    close(x.clamp(np.float32(-0.5), np.int64(1)), np.array([-0.5, 0, 1], np.float32))
    close(tinygen.grad(x.clamp(max=0.0).sum(), x), np.array([1.0, 1, 0]))
    close(x.clamp(min=0.0), np.array([0.0, 0, 2]))
    with pytest.raises(TypeError, match="clamp: min must be a number, got Tensor"):
        x.clamp(x)


def test_whole_numbers_leave_the_tape():
    x = leaf([1.5, -2.5])
    for y in (x.to(int), x.to("int32"), x.to(bool)):
        assert not y.requires_grad
    assert x.to(int).dtype == np.int64
    close(x.to(int), np.array([1, -2]))
    assert x.to("float32").requires_grad


@pytest.mark.parametrize(
    ("bilinear", "shape"),
    [
        (lambda x, w: F.linear(x, w), (3, 3)),
        (lambda x, w: x @ w, (3, 3)),
        (lambda x, w: F.conv2d(x, w, padding=1), (3, 3, 3, 3)),
        (lambda x, w: F.conv_transpose2d(x, w), (3, 3, 3, 3)),
    ],
)
def test_with_a_frozen_weight_the_input_is_not_kept(bilinear, shape):
    """The gradient of x needs w alone: x may go, and may be written to."""
    first, weight = tinygen.ones(shape, requires_grad=True), tinygen.ones(shape)
    x = first * 2.0
    y = bilinear(x, weight)
    x.written()
    gone = weakref.ref(x)
    del x
    assert gone() is None
    y.sum().backward()
    assert first.grad is not None
    frozen, learnt = tinygen.ones(shape), tinygen.ones(shape, requires_grad=True)
    y = bilinear(frozen, learnt)
    learnt.written()
    y.sum().backward()
    assert learnt.grad is not None


def test_a_flip_is_a_view_and_a_write_is_seen():
    a = tinygen.arange(1.0, 4.0).requires_grad_()
    b = a * 1.0
    z = (F.flip(b, 0) ** 2).sum()
    b.data[...] = 100
    b.written()
    with pytest.raises(RuntimeError, match="written"):
        z.backward()


def test_numbers_and_infinities_of_the_rectifiers():
    assert F.relu(3.0).item() == 3.0 and F.relu(-3).item() == 0
    assert F.leaky_relu(tinygen.tensor([math.inf, -1.0]), 0.0).numpy().tolist() == [math.inf, 0.0]


def test_half_precision_rows_are_added_up(backend):
    table = tinygen.ones((3, 2)).to("float16").requires_grad_()
    index = tinygen.tensor([0, 1, 1])
    F.index_select(table, 0, index).sum().backward()
    assert table.grad.numpy().tolist() == [[1, 1], [2, 2], [0, 0]]


def test_whole_numbers_in_a_product_take_the_dtype_of_the_other():
    whole, real = tinygen.tensor([[1, 2], [3, 4]]), tinygen.ones((2, 2), requires_grad=True)
    for y in (whole @ real, real @ whole, F.linear(real, whole)):
        assert y.dtype == np.float32
        y.sum().backward()
    assert real.grad.dtype == np.float32


def test_sums_do_not_depend_on_the_strides_of_sizes_of_one(backend):
    """They mean nothing, and are not the same after an array was saved and loaded."""
    values = np.random.default_rng(0).standard_normal((60, 32, 1, 30)).astype("float32")
    last = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    other = np.lib.stride_tricks.as_strided(last, last.shape, (*last.strides[:2], 4, last.strides[3]))
    assert np.array_equal(other, last) and other.strides != last.strides
    for dims in ((2, 3), (1,), (0, 2, 3), (1, 2)):
        made = [tinygen.Tensor(backend.from_host(a)).sum(dims).numpy() for a in (last, other)]
        np.testing.assert_array_equal(*made)
        np.testing.assert_allclose(made[0], values.sum(dims), rtol=1e-4, atol=1e-4)
