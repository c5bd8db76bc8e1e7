"""Normalization against its definition in loops, at each layout of memory, and where nothing can be normalized."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import gradcheck
from tinygen.backend import current
from tinygen.functional.normalization import total
from tinygen.testing import Row, check, close, host
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals, shapes

EPS = 0.1


def by_cells(x, cells):
    """(x − mean) / √(var + ε), a cell (an index of x) at a time."""
    y = np.full_like(x, np.nan)
    for cell in cells:
        values = x[cell].ravel().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        y[cell] = (x[cell] - mean) / (variance + EPS) ** 0.5
    return y


def channel(t, x):
    return t.reshape(1, -1, *[1] * (x.ndim - 2))


def batch(x, g, b):
    return by_cells(x, [np.s_[:, c] for c in range(x.shape[1])]) * channel(g, x) + channel(b, x)


def instance(x, g, b):
    cells = itertools.product(range(x.shape[0]), range(x.shape[1]))
    return by_cells(x, cells) * channel(g, x) + channel(b, x)


def group(groups):
    def norm(x, g, b):
        size = x.shape[1] // groups
        cells = [np.s_[n, k * size : (k + 1) * size] for n in range(len(x)) for k in range(groups)]
        return by_cells(x, cells) * channel(g, x) + channel(b, x)

    return norm


def layer(kept):
    return lambda x, g, b: by_cells(x, np.ndindex(*x.shape[:kept])) * g + b


def running():
    """Statistics of three channels."""
    return tinygen.tensor(np.array([0.5, -1.0, 0.0])), tinygen.tensor(np.array([2.0, 0.1, 1.0]))


def divided(x, length):
    return x / np.maximum(length, 1e-12)


def cosines(x, y):
    """Along dim 1, pair by pair."""
    x, y = np.broadcast_arrays(x, y)
    out = np.zeros(x.shape[:1] + x.shape[2:])
    for n, i in np.ndindex(*out.shape):
        a, b = x[n, :, i], y[n, :, i]
        out[n, i] = a @ b / max(np.sqrt(a @ a), 1e-8) / max(np.sqrt(b @ b), 1e-8)
    return out


IMAGES = of_shapes((2, 4, 2, 3), (4,), (4,))
WIDE = of_shapes((3, 2, 9, 40), (2,), (2,))  # rows long enough for the sums to go by blocks of memory
ROWS = [
    Row("batch_norm of images", lambda x, g, b: F.batch_norm(x, None, None, g, b, True, eps=EPS), batch, IMAGES,
        empty=0),
    Row("batch_norm of large images", lambda x, g, b: F.batch_norm(x, None, None, g, b, True, eps=EPS), batch, WIDE,
        empty=0, order=1, rtol32=1e-4),
    Row("instance_norm", lambda x, g, b: F.instance_norm(x, None, None, g, b, eps=EPS), instance, IMAGES, empty=1),
    Row("instance_norm of large images", lambda x, g, b: F.instance_norm(x, None, None, g, b, eps=EPS), instance, WIDE,
        empty=1, order=1, rtol32=1e-4),
    Row("instance_norm, running", lambda x: F.instance_norm(
        x, *(s.to(x.dtype) for s in running()), use_input_stats=False, eps=EPS),
        lambda x: (x - channel(np.array([0.5, -1, 0]), x)) / np.sqrt(channel(np.array([2, 0.1, 1]), x) + EPS),
        of_shapes((2, 3, 4)), empty=1),
    Row("group_norm", lambda x, g, b: F.group_norm(x, 2, g, b, EPS), group(2), IMAGES, empty=1),
    Row("group_norm 3-d", lambda x, g, b: F.group_norm(x, 1, g, b, EPS), group(1), of_shapes((3, 2, 4), (2,), (2,)),
        empty=1),
    Row("group_norm of large images", lambda x, g, b: F.group_norm(x, 1, g, b, EPS), group(1), WIDE, empty=1, order=1,
        rtol32=1e-4),
    Row("layer_norm", lambda x, g, b: F.layer_norm(x, 5, g, b, EPS), layer(2), of_shapes((2, 3, 5), (5,), (5,)),
        empty=1),
    Row("layer_norm of two dimensions", lambda x, g, b: F.layer_norm(x, (3, 4), g, b, EPS), layer(1),
        of_shapes((2, 3, 4), (3, 4), (3, 4)), empty=1),
    Row("layer_norm of long rows", lambda x, g, b: F.layer_norm(x, (300,), g, b, EPS), layer(1),
        of_shapes((3, 300), (300,), (300,)), empty=1, order=1, rtol32=1e-4),
    Row("layer_norm, no bias", lambda x, g: F.layer_norm(x, (4,), g, eps=EPS), lambda x, g: layer(1)(x, g, 0),
        of_shapes((3, 4), (4,)), empty=1),
    Row("layer_norm, bias alone", lambda x, b: F.layer_norm(x, (4,), None, b, EPS), lambda x, b: layer(1)(x, 1, b),
        of_shapes((3, 4), (4,)), empty=1),
    Row("normalize", F.normalize, lambda x: divided(x, np.sqrt((x * x).sum(1, keepdims=True))), of_shapes((2, 3, 2))),
    Row("normalize, p = 3", lambda x: F.normalize(x, 3, -1),
        lambda x: divided(x, (np.abs(x) ** 3).sum(-1, keepdims=True) ** (1 / 3)), of_shapes((2, 3))),
    Row("normalize, far below eps", lambda x: F.normalize(x, eps=100.0), lambda x: x / 100, of_shapes((2, 3))),
    Row("cosine_similarity", F.cosine_similarity, cosines, of_shapes((2, 3, 2), (2, 3, 2))),
    Row("cosine_similarity broadcast", F.cosine_similarity, cosines, of_shapes((2, 3, 1), (3, 2))),
]  # fmt: skip

test_operation = row_test(ROWS)


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm", "standardize"])
@given(data=st.data())
def test_third_derivatives(name, data):
    x, g, b = data.draw(of_shapes((3, 2, 2), (2,), (2,)))
    function = {
        "batch_norm": lambda x, g, b: F.batch_norm(x, None, None, g, b, True, eps=EPS),
        "layer_norm": lambda x, g, b: F.layer_norm(x, 2, g, b, EPS),
        "group_norm": lambda x, g, b: F.group_norm(x, 1, g, b, EPS),
        "standardize": lambda x, g, b: F.standardize(x, (0, 2), EPS),
    }[name]
    gradcheck(function, tensors((x, g, b)), order=3, name=name)


@given(reals(shapes(1, 5, 9)), st.data())
def test_total_is_the_sum_whatever_the_memory(x, data):
    dims = data.draw(st.sets(st.sampled_from(range(x.ndim)), min_size=1))
    close(host(total(sorted(dims), current().from_host(x))), x.sum(tuple(dims), keepdims=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "shape", [(3, 5, 20, 20), (2, 300), (300, 2), (1, 1, 1, 1), (2, 0, 3), (40, 2, 300), (9000,), (2, 9000)]
)
def test_total_of_blocks(shape):
    x = np.random.default_rng(0).normal(size=shape)
    for order in itertools.permutations(range(x.ndim)):
        memory = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        for count in range(x.ndim + 1):
            for dims in itertools.combinations(range(x.ndim), count):
                close(
                    host(total(dims, current().from_host(memory))), x.sum(dims, keepdims=True), rtol=1e-11, atol=1e-11
                )


@given(reals((2, 4, 3, 5)), st.sampled_from(["batch", "instance", "group"]))
def test_channels_last_stays_channels_last(x, kind):
    """What the convolutions give goes through without a copy into another order, in value and gradient."""
    x = tensors((np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),))[0]
    norm = {
        "batch": lambda x: F.batch_norm(x, None, None, training=True),
        "instance": F.instance_norm,
        "group": lambda x: F.group_norm(x, 2),
    }[kind]
    y = norm(x)
    gx = tinygen.grad(y, x, tensors((x.numpy() ** 2,), requires_grad=False)[0])
    for t in (y, gx):
        assert t.data.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("kind", ["batch", "instance", "group"])
def test_large_images_in_either_memory(kind):
    """Blocks of channels-last memory, to which statistics are repeated, against the plain order."""
    random = np.random.default_rng(0)
    x, cotangent = random.normal(size=(2, 2, 8, 16, 40))
    g, b = random.normal(size=(2, 8))
    norm = {
        "batch": lambda x, g, b: F.batch_norm(x, None, None, g, b, True),
        "instance": lambda x, g, b: F.instance_norm(x, None, None, g, b),
        "group": lambda x, g, b: F.group_norm(x, 2, g, b),
    }[kind]
    results = []
    for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
        u, v = (np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order)) for a in (x, cotangent))
        inputs = tensors((u, g, b))
        y = norm(*inputs)
        results.append((y, *tinygen.grad(y, inputs, tensors((v,), requires_grad=False)[0])))
    for plain, last in zip(*results):
        close(last, plain.numpy(), rtol=1e-9, atol=1e-10)


@given(reals((6, 3, 4)), st.floats(-3, 3), st.floats(0.5, 3))
def test_norms_ignore_shift_and_scale(x, shift, scale):
    """Exact identities: with ε = 0 the norms of a x + b and of x are equal, and adding a constant has no gradient."""
    t, moved = tensors((x,))[0], tensors((scale * x + shift,))[0]
    for norm in (
        lambda x: F.batch_norm(x, None, None, training=True, eps=0.0),
        lambda x: F.instance_norm(x, eps=0.0),
        lambda x: F.layer_norm(x, (3, 4), eps=0.0),
        lambda x: F.group_norm(x, 3, eps=0.0),
    ):
        close(norm(moved), norm(t).numpy(), rtol=1e-9, atol=1e-9)
        g = tinygen.grad((norm(t) ** 3).sum(), t).numpy()
        assert abs(g.sum()) < 1e-9 * (1 + abs(g).sum())


@given(reals((3, 6, 4), -1, 1), st.sampled_from(["float32", "float64"]))
def test_the_norms_are_one_another(x, dtype):
    (t,) = tensors((x,), dtype)
    exact = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {}
    close(F.group_norm(t, 6), F.instance_norm(t).numpy(), **exact)
    close(F.group_norm(t, 1), F.layer_norm(t, (6, 4)).numpy(), **exact)
    one = F.batch_norm(t[:1], None, None, training=True)
    close(one, F.instance_norm(t[:1]).numpy(), **exact)


@given(reals((5, 2, 3)), st.sampled_from([0.0, 0.25, 1.0]))
def test_running_statistics_of_instance_norm(x, momentum):
    mean, variance = tensors((np.array([1.0, 2.0]), np.array([3.0, 4.0])), requires_grad=False)
    F.instance_norm(tensors((x,))[0], mean, variance, momentum=momentum)
    batch_mean = np.mean([[x[n, c].mean() for c in range(2)] for n in range(5)], 0)
    batch_variance = np.mean([[x[n, c].var(ddof=1) for c in range(2)] for n in range(5)], 0)
    close(mean, (1 - momentum) * np.array([1.0, 2.0]) + momentum * batch_mean)
    close(variance, (1 - momentum) * np.array([3.0, 4.0]) + momentum * batch_variance)


def test_evaluation_leaves_the_running_statistics():
    mean, variance = running()
    x = tinygen.ones((2, 3, 4))
    F.batch_norm(x, mean, variance)
    F.instance_norm(x, mean, variance, use_input_stats=False)
    close(mean, running()[0].numpy())
    close(variance, running()[1].numpy())


def test_normalize_and_cosine_similarity_at_zero():
    x, y = tensors((np.zeros((2, 3)), np.ones((2, 3))))
    n = F.normalize(x)
    close(n, np.zeros((2, 3)))
    close(tinygen.grad(n.sum(), x), np.full((2, 3), 1e12))
    similar = F.cosine_similarity(x, y)
    close(similar, np.zeros(2))
    gx, gy = tinygen.grad(similar.sum(), [x, y])
    close(gx, np.full((2, 3), 1e8 / np.sqrt(3)))
    close(gy, np.zeros((2, 3)))


def test_cosine_similarity_repeats_a_size_of_one_before_it_takes_the_length():
    x, y = tensors((np.full((1, 1, 2), -2.0), np.array([[3.0, 0], [4.0, 0], [0, 5.0]])))
    close(F.cosine_similarity(x, y), np.array([[-7 / 5 / np.sqrt(3), -1 / np.sqrt(3)]]))


def test_numbers_without_a_spread_become_the_bias():
    x = tinygen.tensor(np.full((4, 2, 3), 7.0), requires_grad=True)
    bias = tinygen.tensor(np.array([1.0, -2.0]))
    y = F.batch_norm(x, None, None, None, bias, True)
    close(y, np.broadcast_to([[[1.0], [-2.0]]], (4, 2, 3)))
    close(tinygen.grad((y * y).sum(), x), np.zeros((4, 2, 3)))


def test_a_wider_bias_widens_the_result():
    x, g, b = tinygen.ones((4, 2)) * tinygen.arange(2.0), tinygen.ones(2), tinygen.zeros(2, dtype="float64")
    assert F.batch_norm(x, None, None, g, b, True).dtype == np.float64
    assert F.layer_norm(x, 2, g, b).dtype == np.float64
    assert F.layer_norm(x, 2, g, g).dtype == np.float32


def test_what_cannot_be_normalized_is_refused():
    x = tinygen.ones((2, 4, 3))
    three = tinygen.ones(3)
    cases = {
        r"batch_norm: weight must be \(4,\) as x \(2, 4, 3\) has that many channels, got \(3,\)": lambda: F.batch_norm(
            x, None, None, three, training=True
        ),
        r"batch_norm: expected x of \(n, c, …\), got \(3,\)": lambda: F.batch_norm(three, None, None, training=True),
        r"batch_norm: training needs more than one value per channel, got x \(1, 3\)": lambda: F.batch_norm(
            tinygen.ones((1, 3)), None, None, training=True
        ),
        r"instance_norm: bias must be \(4,\)": lambda: F.instance_norm(x, bias=three),
        r"instance_norm: expected x of \(n, c, positions …\), got \(2, 3\)": lambda: F.instance_norm(x[:, 0]),
        r"instance_norm: needs more than one position per channel, got x \(2, 4, 1\)": lambda: F.instance_norm(
            x[..., :1]
        ),
        "instance_norm: use_input_stats=False needs running_mean and running_var": lambda: F.instance_norm(
            x, use_input_stats=False
        ),
        r"group_norm: num_groups must divide the 4 channels of x \(2, 4, 3\), got 3": lambda: F.group_norm(x, 3),
        r"group_norm: num_groups must divide .* got 0": lambda: F.group_norm(x, 0),
        r"group_norm: weight must be \(4,\)": lambda: F.group_norm(x, 2, three),
        r"layer_norm: x must end in normalized_shape \(4,\), got \(2, 4, 3\)": lambda: F.layer_norm(x, 4),
        r"layer_norm: x must end in normalized_shape \(\), got \(2, 4, 3\)": lambda: F.layer_norm(x, ()),
        r"layer_norm: bias must be \(4, 3\) as normalized_shape, got \(3,\)": lambda: F.layer_norm(
            x, (4, 3), bias=three
        ),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(IndexError, match="cosine_similarity: dim 3 is out of range"):
        F.cosine_similarity(x, x, 3)


def test_the_reference_itself_is_checked():
    """by_cells against one cell done by NumPy, as everything above rests on it."""
    x = np.random.default_rng(0).normal(size=(3, 2, 4))
    expected = (x[:, 1] - x[:, 1].mean()) / np.sqrt(x[:, 1].var() + EPS)
    close(batch(x, np.ones(2), np.zeros(2))[:, 1], expected)
    check(ROWS[0], (np.random.default_rng(1).normal(size=(2, 4, 2, 3)), np.ones(4), np.zeros(4)))
