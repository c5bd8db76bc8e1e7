"""Other sizes and other points: each against a loop over the pixels of the result, written from the definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import gradcheck
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, pairs, reals


def nearest(size, steps):
    def resized(x):
        y = np.zeros((*x.shape[:2], *size))
        for i, j in np.ndindex(*size):
            y[:, :, i, j] = x[:, :, int(i * steps[0] + 1e-9), int(j * steps[1] + 1e-9)]
        return y

    return resized


def between(x, u, v):
    """x at the place (u, v): of four pixels, those outside count as 0."""
    value = np.zeros(x.shape[:-2])
    for a in (math.floor(u), math.floor(u) + 1):
        for b in (math.floor(v), math.floor(v) + 1):
            if 0 <= a < x.shape[-2] and 0 <= b < x.shape[-1]:
                value = value + (1 - abs(u - a)) * (1 - abs(v - b)) * x[..., a, b]
    return value


def bilinear(size, steps, align_corners):
    def resized(x):
        y = np.zeros((*x.shape[:2], *size))
        for i, j in np.ndindex(*size):
            places = []
            for at, n, m, step in zip((i, j), x.shape[2:], size, steps):
                if align_corners:
                    places.append(at * (n - 1) / (m - 1) if m > 1 else 0.0)
                else:
                    places.append(min(max((at + 0.5) * step - 0.5, 0), n - 1))
            y[:, :, i, j] = between(x, *places)
        return y

    return resized


def means(size):
    def pooled(x):
        (h, w), y = x.shape[2:], np.zeros((*x.shape[:2], *size))
        for i, j in np.ndindex(*size):
            rows = slice(math.floor(i * h / size[0]), math.ceil((i + 1) * h / size[0]))
            columns = slice(math.floor(j * w / size[1]), math.ceil((j + 1) * w / size[1]))
            y[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
        return y

    return pooled


def shuffled(r):
    def shuffle(x):
        *front, c, h, w = x.shape
        y = np.zeros((*front, c // r**2, h * r, w * r))
        for ch, a, b in np.ndindex(*y.shape[-3:]):
            y[..., ch, a, b] = x[..., ch * r * r + a % r * r + b % r, a // r, b // r]
        return y

    return shuffle


def unshuffled(r):
    def unshuffle(x):
        *front, c, h, w = x.shape
        y = np.zeros((*front, c * r**2, h // r, w // r))
        for ch, a, b in np.ndindex(c, h, w):
            y[..., ch * r * r + a % r * r + b % r, a // r, b // r] = x[..., ch, a, b]
        return y

    return unshuffle


def affine(size, align_corners):
    def grid(theta):
        n, _, h, w = size
        y = np.zeros((n, h, w, 2))
        for k, i, j in np.ndindex(n, h, w):
            place = [-1 + (2 * at + 1) / m if not align_corners else 2 * at / (m - 1) - 1 if m > 1 else 0.0
                     for at, m in ((j, w), (i, h))]  # fmt: skip
            y[k, i, j] = theta[k] @ [*place, 1]
        return y

    return grid


def sampled(mode, padding_mode, align_corners):
    def sample(x, grid):
        n, c, *size = x.shape
        y = np.zeros((n, c, *grid.shape[1:3]))
        for k, i, j in np.ndindex(*grid.shape[:3]):
            place = []
            for at, m in zip(grid[k, i, j, ::-1], size):
                u = (at + 1) / 2 * (m - 1) if align_corners else (at + 1) / 2 * m - 0.5
                low, high = (0, m - 1) if align_corners else (-0.5, m - 0.5)
                while padding_mode == "reflection" and not low <= u <= high:
                    u = 2 * (low if u < low else high) - u if high > low else low
                place.append(u if padding_mode == "zeros" else min(max(u, 0), m - 1))
            y[k, :, i, j] = between(x[k], *(place if mode == "bilinear" else map(round, place)))
        return y

    return sample


ROWS = [
    Row("interpolate nearest", lambda x: F.interpolate(x, (5, 3)), nearest((5, 3), (4 / 5, 5 / 3)),
        of_shapes((2, 3, 4, 5))),
    Row("interpolate nearest, blocks", lambda x: F.interpolate(x, scale_factor=(2, 3)),
        nearest((6, 12), (1 / 2, 1 / 3)), of_shapes((2, 3, 3, 4))),
    Row("interpolate bilinear", lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        bilinear((5, 6), (1 / 1.7, 1 / 1.7), False), of_shapes((2, 2, 3, 4))),
    Row("interpolate corners", lambda x: F.interpolate(x, (5, 1), mode="bilinear", align_corners=True),
        bilinear((5, 1), (0, 0), True), of_shapes((2, 2, 3, 4))),
    Row("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 4)), means((3, 4)), of_shapes((2, 2, 5, 3))),
    Row("adaptive_avg_pool2d, even", lambda x: F.adaptive_avg_pool2d(x, (None, 2)), means((3, 2)),
        of_shapes((2, 2, 3, 4))),
    Row("adaptive_avg_pool2d, all", lambda x: F.adaptive_avg_pool2d(x, 1), means((1, 1)), of_shapes((2, 2, 3, 4))),
    Row("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), shuffled(2), of_shapes((2, 8, 2, 3))),
    Row("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 3), unshuffled(3), of_shapes((2, 2, 3, 6))),
    Row("affine_grid", lambda t: F.affine_grid(t, (2, 3, 4, 5)), affine((2, 3, 4, 5), False), of_shapes((2, 2, 3)),
        empty=0),
    Row("grid_sample", lambda x, g: F.grid_sample(x, g * 0.6), lambda x, g: sampled("bilinear", "zeros", False)(
        x, 0.6 * g), of_shapes((2, 2, 4, 3), (2, 2, 3, 2))),
]  # fmt: skip

test_operation = row_test(ROWS)


@given(pairs(1, 5), pairs(1, 11), st.sampled_from(["nearest", "half", "corners"]), st.data())
def test_interpolate_to_a_size(before, size, mode, data):
    x = data.draw(reals((2, 3, *before)))
    steps = [n / m for n, m in zip(before, size)]
    if mode == "nearest":
        call, reference = lambda x: F.interpolate(x, size), nearest(size, steps)
    else:
        corners = mode == "corners"
        call = lambda x: F.interpolate(x, size, None, "bilinear", corners)  # noqa: E731
        reference = bilinear(size, steps, corners)
    check(Row(f"interpolate {mode}", call, reference, st.nothing()), (x,))


@given(
    pairs(1, 5), st.sampled_from([0.5, 1.0, 1.3, 2.0, 2.5, 3.0]), st.sampled_from(["nearest", "bilinear"]), st.data()
)
def test_interpolate_by_a_factor(before, factor, mode, data):
    size = tuple(int(n * factor) for n in before)
    if min(size) < 1:
        with pytest.raises(ValueError, match="both images need at least one element"):
            F.interpolate(tinygen.ones((1, 1, *before)), scale_factor=factor)
        return
    x = data.draw(reals((2, 3, *before)))
    steps = (1 / factor, 1 / factor)
    reference = nearest(size, steps) if mode == "nearest" else bilinear(size, steps, False)
    check(Row(mode, lambda x: F.interpolate(x, scale_factor=factor, mode=mode), reference, st.nothing()), (x,))


def test_a_resized_ramp_stays_a_ramp():
    """Linear interpolation is exact for linear functions, and keeps the corners where it is told to."""
    x = tinygen.arange(5.0).reshape(1, 1, 1, 5)
    y = F.interpolate(x, (1, 9), mode="bilinear", align_corners=True)
    close(y.reshape(9), np.linspace(0, 4, 9), 1e-6, 1e-6)
    y = F.interpolate(x, scale_factor=2, mode="bilinear").reshape(2, 10)[0]
    close(y, np.clip((np.arange(10) + 0.5) / 2 - 0.5, 0, 4), 1e-6, 1e-6)


@given(pairs(1, 7), pairs(1, 8), st.data())
def test_adaptive_avg_pool2d(before, size, data):
    x = data.draw(reals((2, 3, *before)))
    check(Row("adaptive", lambda x: F.adaptive_avg_pool2d(x, size), means(size), st.nothing()), (x,))


@given(st.integers(1, 3), st.lists(st.integers(1, 3), max_size=2), pairs(1, 3), st.data())
def test_pixel_shuffle_and_back(r, front, size, data):
    x = data.draw(reals((*front, 2 * r * r, *size)))
    check(Row("pixel_shuffle", lambda x: F.pixel_shuffle(x, r), shuffled(r), st.nothing()), (x,))
    (tx,) = tensors((x,))
    y = F.pixel_shuffle(tx, r)
    np.testing.assert_array_equal(F.pixel_unshuffle(y, r).numpy(), x)
    np.testing.assert_array_equal(tinygen.grad(y, tx, y.detach()).numpy(), x)  # a permutation: its transpose is inverse


@given(st.integers(1, 3), pairs(1, 4), st.booleans(), st.data())
def test_affine_grid(n, size, align_corners, data):
    theta, sizes = data.draw(reals((n, 2, 3))), (n, 7, *size)
    row = Row(
        "affine_grid", lambda t: F.affine_grid(t, sizes, align_corners), affine(sizes, align_corners), st.nothing()
    )
    check(row, (theta,))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@settings(max_examples=10)
@given(pairs(1, 4), st.booleans(), st.data())
def test_grid_sample(mode, padding_mode, size, align_corners, data):
    x, grid = data.draw(reals((2, 3, *size))), data.draw(reals((2, 2, 3, 2), -2.5, 2.5))
    row = Row(
        "grid_sample",
        lambda x, g: F.grid_sample(x, g, mode, padding_mode, align_corners),
        sampled(mode, padding_mode, align_corners),
        st.nothing(),
        rtol32=1e-4,  # a point's place is off by its rounding, times the slope
    )
    check(row, (x, grid))


@given(pairs(1, 4), st.booleans(), reals((2, 3, 4, 5)))
def test_the_identity_samples_the_image_itself(size, align_corners, x):
    x = x[:, :, : size[0], : size[1]]
    (tx,) = tensors((x,))
    theta = tensors((np.broadcast_to(np.eye(2, 3), (2, 2, 3)),))[0]
    y = F.grid_sample(tx, F.affine_grid(theta, x.shape, align_corners), align_corners=align_corners)
    if align_corners and 1 in x.shape[2:]:
        y = F.grid_sample(tx, F.affine_grid(theta, x.shape, False))
    close(y, x, 1e-12, 1e-12)


@settings(max_examples=5)
@given(reals((1, 2, 4, 3)), reals((1, 2, 2, 2), -0.9, 0.9))
def test_grid_sample_in_third_order(x, grid):
    """Linear in x and, between pixels, in each coordinate: what is beyond comes from the nonlinearities around it."""
    gradcheck(lambda x, g: F.tanh(F.grid_sample(x * x, g)), tensors((x, grid)), order=3, name="grid_sample")


def test_points_that_are_no_place():
    x = tinygen.ones((1, 1, 2, 2))
    for value, expected in ((np.nan, np.nan), (1e30, 0.0), (-1e30, 0.0), (np.inf, 0.0), (-np.inf, 0.0)):
        grid = tinygen.tensor(np.array([[[[value, 0.0]]]]))
        assert np.array_equal(F.grid_sample(x, grid).numpy().ravel(), [expected], equal_nan=True)
    assert F.grid_sample(x, tinygen.tensor(np.array([[[[1e30, 0.0]]]])), padding_mode="border").item() == 1.0


def test_between_two_pixels_the_nearest_is_the_even_one():
    x = tinygen.arange(4.0).reshape(1, 1, 1, 4)
    points = np.array([0.5, 1.5, 2.5])  # half way between pixels, from the first one's centre
    grid = np.stack([(2 * points + 1) / 4 - 1, np.zeros(3)], -1).reshape(1, 1, 3, 2)
    close(F.grid_sample(x, tinygen.tensor(grid), "nearest").reshape(3), np.array([0.0, 2.0, 2.0]))


def test_nearest_moves_what_is_not_finite_and_nothing_else():
    x = tinygen.tensor(np.array([[[[np.nan, 1.0, np.inf]]]]))
    np.testing.assert_array_equal(F.interpolate(x, (1, 5)).numpy().ravel(), [np.nan, np.nan, 1, 1, np.inf])
    np.testing.assert_array_equal(F.interpolate(x, (1, 6)).numpy().ravel(), np.repeat([np.nan, 1, np.inf], 2))


def test_channels_last_memory_stays():
    x = tinygen.zeros((2, 4, 6, 8)).permute(0, 3, 1, 2).requires_grad_()
    for y in (F.interpolate(x, scale_factor=2), F.interpolate(x, (5, 5), mode="bilinear"), F.pixel_shuffle(x, 2),
              F.pixel_unshuffle(x, 2), F.adaptive_avg_pool2d(x, 3), F.adaptive_avg_pool2d(x, 2)):  # fmt: skip
        for array in (y.data, tinygen.grad(y, x, y.detach()).data):
            assert array.strides[1] == array.itemsize


def test_forward_and_backward_wait_for_nothing(backend):
    if backend.name != "strict":
        return
    from tinygen.testing.strict import counting

    x = tinygen.ones((2, 4, 6, 6), requires_grad=True)
    theta = tinygen.ones((2, 2, 3), requires_grad=True)
    with counting() as counts:
        for y in (F.interpolate(x, (7, 5)), F.interpolate(x, (7, 5), mode="bilinear"), F.adaptive_avg_pool2d(x, 4),
                  F.grid_sample(x, F.affine_grid(theta, (2, 4, 3, 3)), padding_mode="reflection")):  # fmt: skip
            y.sum().backward()
    assert (counts.from_host, counts.to_host, counts.synchronizations) == (0, 0, 0)


X = (1, 4, 3, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.interpolate(x), "interpolate: give size or scale_factor, got None and None"),
        (lambda x: F.interpolate(x, 3, 2), "interpolate: give size or scale_factor, got 3 and 2"),
        (
            lambda x: F.interpolate(x, 3, mode="cubic"),
            'interpolate: mode must be "nearest" or "bilinear", got \'cubic\'',
        ),
        (lambda x: F.interpolate(x, 3, align_corners=False), 'align_corners is for mode "bilinear"'),
        (lambda x: F.interpolate(x, 0), "interpolate: size must be a whole number ≥ 1"),
        (lambda x: F.interpolate(x, scale_factor=-1), "scale_factor must be a number > 0 or two of them"),
        (lambda x: F.interpolate(x, scale_factor=(1, 2, 3)), "scale_factor must be a number > 0 or two of them"),
        (lambda x: F.interpolate(x[0], 3), r"interpolate: x must be \(n, c, h, w\), got \(4, 3, 5\)"),
        (lambda x: F.interpolate(x[:, :, :0], 3), "both images need at least one element"),
        (lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)), "adaptive_avg_pool2d: output_size must be a whole number"),
        (lambda x: F.adaptive_avg_pool2d(x, 0), "adaptive_avg_pool2d: output_size must be a whole number"),
        (lambda x: F.adaptive_avg_pool2d(x[:, :, :0], 1), "the image needs at least one element"),
        (lambda x: F.pixel_shuffle(x, 3), r"pixel_shuffle: channels must divide by 3² = 9, got 4: x \(1, 4, 3, 5\)"),
        (lambda x: F.pixel_shuffle(x, 0), "upscale_factor ≥ 1"),
        (
            lambda x: F.pixel_unshuffle(x, 2),
            r"pixel_unshuffle: height and width must divide by 2, got x \(1, 4, 3, 5\)",
        ),
        (lambda x: F.affine_grid(x, (1, 1, 2, 2)), r"affine_grid: theta must be \(1, 2, 3\)"),
        (lambda x: F.affine_grid(x, (2, 2)), r"affine_grid: size must be \(n, c, h, w\)"),
        (
            lambda x: F.grid_sample(x, x),
            r"grid_sample: grid must be \(1, h, w, 2\) for x \(1, 4, 3, 5\), got \(1, 4, 3, 5\)",
        ),
        (lambda x: F.grid_sample(x, tinygen.ones((1, 1, 1, 2)), "cubic"), "grid_sample: mode must be"),
        (lambda x: F.grid_sample(x, tinygen.ones((1, 1, 1, 2)), padding_mode="wrap"), "padding_mode must be"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(tinygen.ones(X))
