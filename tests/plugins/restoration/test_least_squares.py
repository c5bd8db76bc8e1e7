"""Repair as a whole: every method fills and keeps, some beat linear interpolation, and each says what is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import griddata

from tinygen import backend
from tinygen.autograd import tensor
from tinygen.errors import UsageError
from tinygen.host import equations_in, verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import least_squares, tinygen_algorithms
from tinygen_plugins.restoration._variation import minimize_variation

from .reference import device, variation

METHODS = ["tv", "harmonic", "tikhonov", "polynomial"]


def repaired(image, mask=None, **options):
    model = least_squares.LeastSquares(least_squares.Config(**options), None, Stream(0))
    given_mask = None if mask is None else tensor(device(mask.astype("float32")))
    return model.repair(tensor(device(image)), given_mask, Stream(0)).numpy()


def landscape(channels=1, size=48):
    """Smooth waves and one straight edge."""
    y, x = np.mgrid[:size, :size] / size
    waves = [0.5 + 0.2 * np.sin(9 * x + k) * np.cos(7 * y - k) + 0.2 * (x + 0.4 * y > 0.7) for k in range(channels)]
    return np.stack(waves).astype("float32")


def psnr(x, y):
    return -10 * math.log10(np.square(x.astype(float) - y).mean())


@verifies(least_squares.composite)
@given(image=reals((2, 4, 5)), filled=reals((2, 4, 5)), seed=seeds())
def test_the_composite_takes_each_pixel_from_where_it_is_known(image, filled, seed):
    missing = np.random.default_rng(seed).random((4, 5)) < 0.5
    found = host(least_squares.composite(device(image), device(filled), device(missing)))
    for c, y, x in np.ndindex(image.shape):
        assert found[c, y, x] == (filled if missing[y, x] else image)[c, y, x]


@verifies(least_squares.variation_strength)
@settings(max_examples=10)
@given(image=reals((1, 5, 6), 0.0, 1.0), sigma=st.floats(0.02, 0.3), channels=st.integers(2, 4))
def test_equal_channels_are_smoothed_as_much_as_one_alone(image, sigma, channels):
    close(least_squares.variation_strength(sigma, 1), np.asarray(0.75 * sigma))
    alone, together = (
        host(minimize_variation(device(image.repeat(c, axis=0)), None, strength, 1, 60, 0.25)[0])
        for c, strength in ((c, least_squares.variation_strength(sigma, c)) for c in (1, channels))
    )
    close(together, alone.repeat(channels, axis=0), rtol=1e-8, atol=1e-9)


@settings(max_examples=8)
@given(seed=seeds(), method=st.sampled_from(METHODS), order=st.integers(0, 2), share=st.floats(0.02, 0.98))
def test_known_pixels_come_back_bit_for_bit_and_the_rest_within_the_range(seed, method, order, share):
    random = np.random.default_rng(seed)
    image, mask = random.random((3, 13, 17)).astype("float32"), random.random((13, 17)) < share
    mask[5, 6] = False
    broken = np.where(mask, np.nan, image).astype("float32")
    found = repaired(broken, mask, method=method, order=order, steps=5)
    assert found.shape == image.shape and found.dtype == np.float32
    assert np.array_equal(found[:, ~mask], image[:, ~mask])
    assert found.min() >= 0 and found.max() <= 1
    with backend.using("numpy"):
        close(repaired(broken, mask, method=method, order=order, steps=5), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_missing_gives_the_image_itself(method):
    image = landscape()
    assert np.array_equal(repaired(image, np.zeros((48, 48)), method=method), image)


@pytest.mark.parametrize("method", ["tv", "harmonic"])
def test_of_one_pixel_in_five_more_is_made_than_by_linear_interpolation(method):
    image, mask = landscape(), np.random.default_rng(0).random((48, 48)) < 0.8
    places, holes = np.argwhere(~mask), np.argwhere(mask)
    linear = griddata(places, image[0][~mask], holes, "linear")
    nearest = griddata(places, image[0][~mask], holes, "nearest")
    by_griddata = image.copy()
    by_griddata[0][mask] = np.where(np.isnan(linear), nearest, linear)
    assert psnr(repaired(image, mask, method=method), image) > psnr(by_griddata, image)


@pytest.mark.parametrize(("method", "gain"), [("tv", 7), ("tikhonov", 3), ("polynomial", 5)])
def test_noise_is_taken_away(method, gain):
    image = landscape(3)
    noisy = image + np.random.default_rng(0).normal(size=image.shape, scale=25 / 255).astype("float32")
    found = repaired(noisy, None, method=method)
    assert found.dtype == np.float32
    assert psnr(found, image) > psnr(noisy, image) + gain
    assert variation(found) < variation(noisy)


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_is_the_one_that_fills_better(order):
    """A smooth landscape is for plates; between pixels that have nothing to do with each other they swing too far."""
    image = landscape(1) if order == 2 else np.random.default_rng(0).random((1, 48, 48)).astype("float32")
    mask = (np.random.default_rng(1).random(image.shape[1:]) < 0.5).astype("float32")
    for method in ("harmonic", "tikhonov"):
        by_itself, given_order = repaired(image, mask, method=method), repaired(image, mask, method=method, order=order)
        assert np.array_equal(by_itself, given_order), method


def test_no_strength_changes_nothing_and_some_strength_is_taken_as_it_is():
    noisy = np.random.default_rng(0).random((1, 12, 12)).astype("float32")
    for method in ("tv", "tikhonov"):
        close(repaired(noisy, None, method=method, strength=0.0), noisy)
        weak, strong = (variation(repaired(noisy, None, method=method, strength=s)) for s in (0.05, 0.5))
        assert strong < weak < variation(noisy)


@given(points=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 8)), min_size=1, max_size=5, unique=True))
def test_a_plane_is_told_by_pixels_that_are_not_on_a_line(points):
    known = np.zeros((12, 9), bool)
    for point in points:
        known[point] = True
    rank = np.linalg.matrix_rank(np.array([[1, y, x] for y, x in points]))
    assert least_squares.spans_a_plane(device(known)) == (rank == 3)


def test_the_spec_tells_the_verbs_and_the_module_shows_every_equation():
    (spec,) = [spec for spec in tinygen_algorithms() if spec.name == "least_squares"]
    assert set(spec.verbs) == set(verbs_of(least_squares.LeastSquares))
    shown = {equation.name for equation in equations_in(least_squares)}
    assert {"derivatives", "harmonic", "tikhonov", "duality_gap", "polynomial_fill", "tweedie", "composite"} <= shown


@pytest.mark.parametrize(
    ("image", "mask", "options", "words"),
    [
        (np.ones((1, 4, 5), "float32"), np.ones((4, 5)), {}, ("every pixel is missing",)),
        (np.ones((1, 4, 5), "float32"), np.zeros((5, 4)), {}, ("(4, 5)", "(5, 4)")),
        (np.full((1, 4, 5), np.nan, "float32"), np.zeros((4, 5)), {}, ("not finite",)),
        (np.full((1, 4, 5), np.nan, "float32"), None, {}, ("not finite",)),
        (np.ones((2, 1, 4, 5), "float32"), None, {}, ("(2, 1, 4, 5)",)),
        (np.ones((1, 4, 5), "float32"), None, {"method": "harmonic"}, ("harmonic", "no mask")),
    ],
)
def test_what_cannot_be_repaired_is_told_in_one_line_with_a_hint(image, mask, options, words):
    with pytest.raises(UsageError) as caught:
        repaired(image, mask, **options)
    assert all(word in caught.value.message for word in ("least_squares", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "harmonics"}, ("method", "harmonic", "harmonics")),
        ({"order": 3}, ("order", "3")),
        ({"strength": -0.1}, ("strength", "-0.1")),
        ({"strength": math.nan}, ("strength", "nan")),
        ({"patch": 7}, ("patch", "even", "7")),
        ({"patch": 2}, ("patch", "4", "2")),
        ({"degree": 13}, ("degree", "12", "13")),
        ({"steps": 0}, ("steps", "1", "0")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        least_squares.Config(**options)
    assert all(word in caught.value.message for word in ("least_squares", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 30), (3, 30, 1)])
@pytest.mark.parametrize("method", ["tv", "tikhonov", "polynomial"])
def test_pictures_of_one_row_or_column_are_taken(shape, method):
    image = np.random.default_rng(0).random(shape).astype("float32")
    found = repaired(image, None, method=method)
    assert found.shape == shape and np.isfinite(found).all()
