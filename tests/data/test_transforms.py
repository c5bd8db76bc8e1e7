"""Images moved, cut, resized and recoloured, against SciPy, Pillow, colorsys and counting by hand."""

import colorsys
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tinygen import backend as backends
from tinygen.data import transforms
from tinygen.testing import close, host
from tinygen.testing.strategies import pairs, reals

sizes = pairs(1, 7)
fills = st.sampled_from([0.0, 0.7, None])


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """The fixture `backend` of the pytest plugin, without asking for it in each test."""


def device(array):
    return backends.current().from_host(np.asarray(array))


def images(low=1, high=7, channels=2):
    return pairs(low, high).flatmap(lambda size: reals((channels, *size), 0.0, 1.0))


def smooth(size):
    """A picture (1, size, size) without sharp details."""
    y, x = np.indices((size, size)) / size
    return (0.5 + 0.25 * np.sin(5 * x + 2 * y) + 0.25 * np.cos(4 * y - x))[None]


# ---------------------------------------------------------------- other places


@given(image=images(), fill=fills, seed=st.integers(0, 2**31))
def test_between_pixels_stands_what_scipy_says(image, fill, seed):
    points = np.random.default_rng(seed).uniform(-2, 9, (4, 5, 2))
    mode = {"mode": "nearest"} if fill is None else {"mode": "grid-constant", "cval": fill}
    places = [points[..., 1] - 0.5, points[..., 0] - 0.5]
    expected = [ndimage.map_coordinates(channel, places, order=1, **mode) for channel in image]
    close(transforms.bilinear(device(image), device(points), fill), np.array(expected), atol=1e-12)


@given(image=images())
def test_pixels_stand_at_their_centres(image):
    _, h, w = image.shape
    centres = np.stack(np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5), axis=-1)
    assert np.array_equal(host(transforms.bilinear(device(image), device(centres))), image)


@given(image=images(), matrix=reals((2, 2)).filter(lambda a: abs(np.linalg.det(a)) > 0.1), shift=reals((2,)),
       size=sizes, fill=st.sampled_from([0.0, 0.3]))  # fmt: skip
def test_an_affine_warp_is_scipy_s(image, matrix, shift, size, fill):
    warped = transforms.warp(device(image), np.column_stack([matrix, shift]), size, fill)
    # SciPy maps (row, column) of the result's pixels to those of the image's.
    back = np.linalg.inv(matrix)
    offset = back @ (0.5 - shift) - 0.5
    swap = [1, 0]
    expected = [
        ndimage.affine_transform(c, back[swap][:, swap], offset[swap], size, order=1, mode="grid-constant", cval=fill)
        for c in image
    ]
    close(warped, np.array(expected), atol=1e-9)


@given(scale=st.sampled_from([1.0, -3.0, 0.01]), tilt=reals((2,), -0.02, 0.02), seed=st.integers(0, 2**31))
def test_a_projective_warp_brings_each_point_where_the_map_says(scale, tilt, seed):
    # A ramp is reproduced by bilinear interpolation, so that each pixel of the result tells where it came from.
    h, w = 20, 30
    x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    matrix = np.eye(3) + np.random.default_rng(seed).uniform(-0.2, 0.2, (3, 3))
    matrix[2] = [*tilt, 1]
    result = host(transforms.warp(device(np.stack([x, y, np.ones((h, w))])), scale * matrix, (25, 25)))
    row, column = np.nonzero(result[2] > 1 - 1e-12)
    source = result[:, row, column]
    depth = (matrix @ source)[2]
    assert (depth > 0).all()
    close((matrix @ source)[:2] / depth, np.stack([column + 0.5, row + 0.5]), atol=1e-7)
    # And what came from nowhere lies outside or on the rim.
    for j, i in np.argwhere(result[2] <= 1 - 1e-12):
        p = np.linalg.solve(matrix, [i + 0.5, j + 0.5, 1])
        assert p[2] <= 1e-9 or not (1 <= p[0] / p[2] <= w - 1 and 1 <= p[1] / p[2] <= h - 1)
    assert len(row) > 50


@given(size=st.integers(1, 6), turns=st.integers(-5, 5), seed=st.integers(0, 2**31), dtype=st.sampled_from("fd"))
def test_quarter_turns_of_a_square_are_numpy_s_to_the_last_bit(size, turns, seed, dtype):
    image = np.random.default_rng(seed).random((2, size, size)).astype(dtype)
    turned = host(transforms.rotate(device(image), 90 * turns))
    assert turned.dtype == image.dtype
    assert np.array_equal(turned, np.rot90(image, turns, axes=(1, 2)))


@given(image=images(2, 7), degrees=st.floats(-400, 400), scale=st.floats(0.5, 2.0))
def test_a_rotation_is_scipy_s(image, degrees, scale):
    # SciPy turns from the first axis to the second, which is counter-clockwise as one looks at (rows, columns).
    h, w = image.shape[1:]
    angle = math.radians(degrees)
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / scale
    middle = (np.array([h, w]) - 1) / 2
    expected = [
        ndimage.affine_transform(channel, back, middle - back @ middle, order=1, mode="grid-constant")
        for channel in image
    ]
    close(transforms.rotate(device(image), degrees, scale), np.array(expected), atol=1e-9)


def test_a_right_angle_turns_the_right_way():
    """A dot right of the centre goes to the top, as counter-clockwise means."""
    image = np.zeros((1, 5, 5))
    image[0, 2, 4] = 1
    assert np.argwhere(host(transforms.rotate(device(image), 90))[0]).tolist() == [[0, 2]]


@given(degrees=st.floats(-180, 180))
def test_turning_there_and_back_returns_the_interior(degrees):
    image = smooth(48)
    there = transforms.rotate(device(image), degrees)
    back = host(transforms.rotate(there, -degrees))
    inside = slice(16, 32)  # within the circle that stays in the canvas
    close(back[:, inside, inside], image[:, inside, inside], rtol=0, atol=4e-3)


@given(image=images(), top=st.integers(0, 3), left=st.integers(0, 3), bottom=st.integers(0, 3), right=st.integers(0, 3),
       fill=fills)  # fmt: skip
def test_flips_and_margins_are_undone(image, top, left, bottom, right, fill):
    x, (_, h, w) = device(image), image.shape
    assert np.array_equal(host(transforms.flip_left_right(x)), image[:, :, ::-1])
    assert np.array_equal(host(transforms.flip_up_down(x)), image[:, ::-1])
    for flip in (transforms.flip_left_right, transforms.flip_up_down):
        assert np.array_equal(host(flip(flip(x))), image)
    padded = transforms.pad(x, top, left, bottom, right, fill)
    assert padded.shape == (2, top + h + bottom, left + w + right)
    assert np.array_equal(host(transforms.crop(padded, top, left, h, w)), image)
    for j, i in np.ndindex(padded.shape[1:]):
        row, column = j - top, i - left
        nearest = image[:, min(max(row, 0), h - 1), min(max(column, 0), w - 1)]
        outside = not (0 <= row < h and 0 <= column < w)
        expected = np.full(2, fill) if outside and fill is not None else nearest
        assert np.array_equal(host(padded)[:, j, i], expected)


# ---------------------------------------------------------------- other sizes


@given(image=images(1, 9, channels=1), size=pairs(1, 12))
def test_resizing_without_aliases_is_pillow_s(image, size):
    expected = Image.fromarray(image[0].astype("float32")).resize(size[::-1], Image.Resampling.BILINEAR)
    close(transforms.resize(device(image), size), np.asarray(expected)[None], rtol=0, atol=1e-6)


@given(image=images(1, 9), size=pairs(1, 12))
def test_resizing_with_aliases_looks_at_the_new_pixels_centres(image, size):
    _, h, w = image.shape
    rows, columns = ((np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip((h, w), size))
    places = np.meshgrid(rows, columns, indexing="ij")
    expected = [ndimage.map_coordinates(channel, places, order=1, mode="nearest") for channel in image]
    close(transforms.resize(device(image), size, antialias=False), np.array(expected), atol=1e-12)


@given(image=pairs(0, 4).flatmap(lambda n: reals((1, 2 * n[0] + 1, 2 * n[1] + 1), 0.0, 1.0)), size=pairs(1, 12))
def test_the_nearest_pixel_is_pillow_s_and_of_the_image_s_dtype(image, size):
    # With odd sizes, the centre of a new pixel never lies on the edge between two old ones, where Pillow rounds.
    levels = (255 * image).astype("uint8")
    expected = Image.fromarray(levels[0]).resize(size[::-1], Image.Resampling.NEAREST)
    resized = host(transforms.resize_nearest(device(levels), size))
    assert resized.dtype == np.uint8 and np.array_equal(resized[0], np.asarray(expected))


def test_a_centre_on_the_edge_between_two_pixels_is_the_later_one_s():
    image = np.arange(6.0)[None, None]
    assert host(transforms.resize_nearest(device(image), (1, 3)))[0, 0].tolist() == [1, 3, 5]


@given(image=images(), factor=st.integers(1, 4), antialias=st.booleans())
def test_a_size_that_stays_changes_nothing_and_blocks_keep_their_mean(image, factor, antialias):
    _, h, w = image.shape
    close(transforms.resize(device(image), (h, w), antialias), image)
    large = transforms.resize_nearest(device(image), (factor * h, factor * w))
    assert np.array_equal(host(large), image.repeat(factor, axis=1).repeat(factor, axis=2))


# ---------------------------------------------------------------- other colours


@given(image=images(channels=3))
def test_grey_is_the_mean_and_luma_is_the_eye_s(image):
    expected_mean, expected_luma = np.empty((1, *image.shape[1:])), np.empty((1, *image.shape[1:]))
    for j, i in np.ndindex(image.shape[1:]):
        r, g, b = image[:, j, i]
        expected_mean[0, j, i] = (r + g + b) / 3
        expected_luma[0, j, i] = colorsys.rgb_to_yiq(r, g, b)[0]
    close(transforms.grey(device(image)), expected_mean)
    # The standard library's first channel has the coefficients 0.30, 0.59 and 0.11, rounded to two digits.
    close(transforms.luma(device(image)), expected_luma, rtol=0, atol=0.006)


def test_luma_of_colours_is_pillow_s_and_a_grey_image_is_its_own():
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 11), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) / 255
    close(transforms.luma(device(image / 255))[0], expected, rtol=0, atol=0.6 / 255)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        pure = np.zeros((3, 1, 1))
        pure[channel] = 1
        close(transforms.luma(device(pure)), np.full((1, 1, 1), weight))
    grey = device(image[:1] / 255)
    assert transforms.luma(grey) is grey


# Channels on a coarse grid, so that equal, black and white ones come often.
coarse = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31), st.sampled_from([1, 2, 5, 255])).map(
    lambda case: np.random.default_rng(case[2]).integers(0, case[3] + 1, (3, *case[:2])) / case[3]
)


@given(image=coarse)
def test_hue_saturation_and_value_are_colorsys_s_both_ways(image):
    hsv = host(transforms.rgb_to_hsv(device(image)))
    expected, rgb = np.empty_like(image), np.empty_like(image)
    for j, i in np.ndindex(image.shape[1:]):
        expected[:, j, i] = colorsys.rgb_to_hsv(*image[:, j, i])
        rgb[:, j, i] = colorsys.hsv_to_rgb(*image[:, j, i])
    close(hsv, expected, atol=1e-12)
    close(transforms.hsv_to_rgb(device(image)), rgb, atol=1e-12)


@given(image=coarse, dtype=st.sampled_from(["float32", "float64"]))
def test_colours_come_back_from_hue_saturation_and_value(image, dtype):
    x = device(image.astype(dtype))
    back = transforms.hsv_to_rgb(transforms.rgb_to_hsv(x))
    close(back, image.astype(dtype), rtol=0, atol=1e-6 if dtype == "float32" else 1e-12)


# ---------------------------------------------------------------- all


FLOATS = {
    "bilinear": lambda x: transforms.bilinear(x, device(np.full((3, 2), 1.3)), 0.5),
    "warp": lambda x: transforms.warp(x, [[1, 0.2, 0], [0, 1, 0.5]], (5, 4)),
    "rotate": lambda x: transforms.rotate(x, 30, fill=None),
    "resize": lambda x: transforms.resize(x, (3, 9)),
    "grey": transforms.grey,
    "luma": transforms.luma,
    "rgb_to_hsv": transforms.rgb_to_hsv,
    "hsv_to_rgb": transforms.hsv_to_rgb,
    "pad": lambda x: transforms.pad(x, 1, 2, 3, 4, 0.5),
}


@pytest.mark.parametrize("function", FLOATS.values(), ids=FLOATS)
def test_float32_stays_and_images_of_a_stack_are_treated_alike(function):
    stack = np.random.default_rng(0).random((2, 2, 3, 6, 7)).astype("float32")
    together = host(function(device(stack)))
    assert together.dtype == np.float32
    for index in np.ndindex(2, 2):
        close(together[index], function(device(stack[index])), rtol=1e-6, atol=1e-7)


WRONG = {
    "levels": (lambda x: transforms.rotate(device(np.ones((3, 4, 4), "uint8")), 10), ("float", "uint8", "255")),
    "flat": (lambda x: transforms.warp(x[0], np.eye(3)), ("(…, c, h, w)", "(4, 5)")),
    "matrix": (lambda x: transforms.warp(x, np.eye(2)), ("matrix", "(2, 3)", "(2, 2)")),
    "singular": (lambda x: transforms.warp(x, [[1, 1, 0], [1, 1, 0]]), ("warp", "inverse")),
    "scale": (lambda x: transforms.rotate(x, 10, 0.0), ("rotate: scale", "0.0")),
    "points": (lambda x: transforms.bilinear(x, device(np.ones((4, 3)))), ("points", "(4, 3)")),
    "crop": (lambda x: transforms.crop(x, 1, 0, 4, 5), ("4 × 5", "row 1", "4 × 5")),
    "empty": (lambda x: transforms.crop(x, 1, 0, 0, 5), ("crop", "0 × 5")),
    "pad": (lambda x: transforms.pad(x, -1, 0, 0, 0), ("margins", "-1")),
    "size": (lambda x: transforms.resize(x, (0, 4)), ("resize: size", "(0, 4)")),
    "nearest": (lambda x: transforms.resize_nearest(x, (3,)), ("resize_nearest: size", "(3,)")),
    "channels": (lambda x: transforms.rgb_to_hsv(x[:2]), ("rgb_to_hsv", "3 channels", "2")),
    "luma": (lambda x: transforms.luma(x[:2]), ("luma", "1 or 3", "2")),
}


@pytest.mark.parametrize(("call", "words"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_told_in_one_line(call, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        call(device(np.zeros((3, 4, 5))))
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message


def test_a_point_that_is_no_number_lies_outside():
    image = np.ones((1, 3, 3), "float32")
    found = host(transforms.bilinear(device(image), device(np.array([[1.5, 1.5], [np.nan, 1.0]], "float32")), 0.25))
    close(found, np.array([[1.0, 0.25]]))
