"""Error correction: gains against an optimiser, impulses against loops over pixels, and spoilt pictures put right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tinygen import backend
from tinygen.data.transforms import warp
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.composition import _exposure, _impulse, correct

from .reference import cloudy, device, projected, tensors

# ---------------------------------------------------------------- exposure


@verifies(_exposure.overlap_statistics)
@given(seed=seeds(), count=st.integers(1, 4))
def test_overlaps_are_counted_and_averaged_pixel_by_pixel(seed, count):
    random = np.random.default_rng(seed)
    images, covered = random.random((count, 3, 4, 5)), random.random((count, 4, 5)) < 0.6
    shared, means = _exposure.overlap_statistics(device(images), device(covered))
    for i in range(count):
        for j in range(count):
            both = covered[i] & covered[j]
            close(host(shared)[i, j], float(both.sum()))
            close(host(means)[i, j], images[i][:, both].mean() if both.any() else 0.0)


def statistics(seed, count):
    random = np.random.default_rng(seed)
    shared = np.triu(random.integers(1, 1000, (count, count)).astype(float))
    return shared + np.triu(shared, 1).T, random.uniform(0.1, 0.9, (count, count))


@verifies(_exposure.exposure_gains)
@given(seed=seeds(), count=st.integers(2, 4), noise=st.floats(0.01, 0.2), prior=st.floats(0.05, 1.0))
def test_gains_are_the_least_of_the_paper_s_error(seed, count, noise, prior):
    shared, means = statistics(seed, count)

    def error(gains):
        total = 0.0
        for i in range(count):
            for j in range(count):
                if i != j:
                    apart = (gains[i] * means[i, j] - gains[j] * means[j, i]) ** 2 / noise**2
                    total += shared[i, j] * (apart + (1 - gains[i]) ** 2 / prior**2)
        return total / shared.max() * noise**2

    best = minimize(error, np.ones(count), method="BFGS", options={"gtol": 1e-10})
    gains = host(_exposure.exposure_gains(device(shared), device(means), noise, prior))
    close(gains, best.x, rtol=2e-4, atol=2e-4)
    assert error(gains) <= best.fun + 1e-12


@verifies(_exposure.exposure_gains)
@given(seed=seeds(), noise=st.floats(0.005, 0.2), prior=st.floats(0.05, 1.0))
def test_two_gains_are_the_closed_form(seed, noise, prior):
    shared, means = statistics(seed, 2)
    a, b, rho = means[0, 1], means[1, 0], noise**2 / prior**2
    expected = (np.array([2 * b * b, 2 * a * a]) + rho + 2 * a * b) / (2 * a * a + 2 * b * b + rho)
    close(_exposure.exposure_gains(device(shared), device(means), noise, prior), expected, rtol=1e-8)


@verifies(_exposure.exposure_gains)
@given(seed=seeds(), count=st.integers(1, 5))
def test_equal_exposures_have_gains_of_one_and_so_has_an_image_without_company(seed, count):
    shared, means = statistics(seed, count)
    equal = (means + means.T) / 2
    close(_exposure.exposure_gains(device(shared), device(equal), 0.01, 0.1), np.ones(count))
    shared[0, 1:] = shared[1:, 0] = 0.0
    close(host(_exposure.exposure_gains(device(shared), device(means), 0.01, 0.1))[0], 1.0)


@verifies(_exposure.balance)
@given(gains=reals((4,), 0.2, 3.0))
def test_balanced_gains_have_the_product_one_and_the_same_ratios(gains):
    balanced = host(_exposure.balance(device(gains)))
    close(balanced.prod(), 1.0)
    close(balanced / balanced[0], gains / gains[0])


@verifies(_exposure.hat_weights)
@given(images=reals((3, 4, 5), 0.0, 1.0))
def test_trust_is_the_distance_to_black_or_white(images):
    trust = host(_exposure.hat_weights(device(images)))
    for place, value in np.ndenumerate(images):
        close(trust[place], max(1e-3, np.interp(value, [0, 0.5, 1], [0, 0.5, 0])))


# ---------------------------------------------------------------- impulses

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def spoilt(seed, size, density):
    """A picture with salt and pepper in so large a part of it: (clean, spoilt)."""
    random = np.random.default_rng(seed)
    clean = 0.2 + 0.6 * cloudy(seed, (2, *size))
    chance = random.random(clean.shape)
    return clean, np.where(chance < density / 2, 0.0, np.where(chance < density, 1.0, clean))


@verifies(_impulse.find_impulses)
@given(seed=seeds(), size=sizes, density=st.floats(0, 0.6), largest=st.sampled_from([3, 5, 7]))
def test_impulses_are_those_of_the_adaptive_median_filter_value_by_value(seed, size, density, largest):
    _, image = spoilt(seed, size, density)
    found = host(_impulse.find_impulses(device(image), largest, 0.1))
    for (c, i, j), value in np.ndenumerate(image):
        for radius in range(1, largest // 2 + 1):
            rows, columns = (mirrored(np.arange(k - radius, k + radius + 1), n) for k, n in zip((i, j), size))
            window = image[c][np.ix_(rows, columns)]
            low, median, high = window.min(), np.median(window), window.max()
            if low < median < high:
                expected = not low < value < high and abs(value - median) > 0.1
                break
        else:
            expected = abs(value - median) > 0.1 and extreme_around(image[c], i, j)
        assert found[c, i, j] == expected


def mirrored(index, size):
    """Indices beyond the border of so many pixels: (c b a | a b c | c b a)."""
    index = index % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def extreme_around(image, i, j):
    rows, columns = (mirrored(np.arange(k - 1, k + 2), n) for k, n in zip((i, j), image.shape))
    window = image[np.ix_(rows, columns)]
    return not window.min() < image[i, j] < window.max()


@verifies(_impulse.fill_by_medians)
@given(seed=seeds(), size=sizes, density=st.floats(0.1, 0.95))
def test_defects_are_filled_from_the_edge_inwards_by_medians_of_what_is_sound(seed, size, density):
    random = np.random.default_rng(seed)
    image, defects = random.random((2, *size)), random.random((2, *size)) < density
    defects[:, random.integers(size[0]), random.integers(size[1])] = False
    expected, wrong = image.copy(), defects.copy()
    while wrong.any():
        before, bad = expected.copy(), wrong.copy()
        for c, i, j in np.argwhere(bad):
            rows, columns = slice(max(i - 1, 0), i + 2), slice(max(j - 1, 0), j + 2)
            sound = before[c, rows, columns][~bad[c, rows, columns]]
            if sound.size:
                expected[c, i, j], wrong[c, i, j] = np.median(sound), False
    filled = host(_impulse.fill_by_medians(device(image), device(defects)))
    close(filled, expected)
    assert np.array_equal(filled[~defects], image[~defects])


# ---------------------------------------------------------------- the verbs


def make(**options):
    return correct.Correct(correct.Config(**options), None, Stream(0))


def psnr(image, clean):
    return -10 * np.log10(np.mean((image - clean) ** 2))


@pytest.mark.parametrize(("density", "gain"), [(0.05, 14), (0.2, 15), (0.5, 14)])
def test_salt_and_pepper_are_found_and_repaired(density, gain):
    clean, image = spoilt(0, (48, 56), density)
    image = image[:1].astype("float32")
    result = make().repair(tensors(image)[0], None, Stream(0)).numpy()
    assert result.dtype == np.float32 and psnr(result, clean[:1]) > psnr(image, clean[:1]) + gain
    touched = result != image
    assert (touched & (image > 0) & (image < 1)).mean() < 0.01  # hardly a sound value is changed


@settings(max_examples=8)
@given(seed=seeds())
def test_a_mask_is_filled_and_all_else_kept_bit_for_bit(seed):
    image = cloudy(seed, (3, 20, 24)).astype("float32")
    mask = np.random.default_rng(seed).random((20, 24)) < 0.3
    result = make().repair(tensors(image)[0], tensors(mask)[0], Stream(0)).numpy()
    assert np.array_equal(result[:, ~mask], image[:, ~mask]) and psnr(result, image) > 25
    with backend.using("numpy"):
        close(result, make().repair(tensors(image)[0], tensors(mask)[0], Stream(0)).numpy(), rtol=0, atol=1e-7)


def test_a_clean_picture_without_impulses_stays_as_it_is():
    ramp = np.linspace(0.1, 0.9, 400).reshape(1, 20, 20)
    assert np.array_equal(make().repair(tensors(ramp)[0], None, Stream(0)).numpy(), ramp.astype("float32"))


def test_several_shots_have_their_median():
    clean = cloudy(0, (3, 16, 16))
    shots = [clean.copy() for _ in range(3)]
    for k, shot in enumerate(shots):
        shot[:, 3 * k : 3 * k + 3, :] = k / 2  # each is spoilt elsewhere
    result = make(kind="defects", threshold=1.0).compose(tensors(*shots), None, Stream(0))
    close(result, clean, atol=1e-6)


@settings(max_examples=8)
@given(seed=seeds(), gain=st.floats(0.6, 0.95))
def test_differently_exposed_images_become_one_and_the_seam_between_them_goes(seed, gain):
    scene = 0.1 + 0.8 * cloudy(seed, (3, 32, 40))
    pair, mask = tensors(scene, gain * scene), np.arange(40) >= np.full((32, 1), 20)
    expose = make(kind="exposure")
    result = expose.compose(pair, tensors(mask)[0], Stream(0)).numpy()
    factor = result / scene
    assert factor.std() / factor.mean() < 0.01  # one gain for all of it, where 1 and `gain` were
    assert gain < factor.mean() < 1
    mean = expose.compose(pair, None, Stream(0)).numpy()
    assert (mean / scene).std() / (mean / scene).mean() < 0.01
    same = expose.compose(tensors(scene, scene), None, Stream(0)).numpy()
    close(same, scene.astype("float32"), atol=1e-5)


def test_what_is_clipped_in_one_image_comes_from_the_other():
    scene = np.linspace(0.05, 0.95, 60 * 60).reshape(1, 60, 60)
    dark, light = 0.7 * scene, np.clip(1.4 * scene, 0, 1)
    result = make().compose(tensors(dark, light), None, Stream(0)).numpy()
    assert (np.diff(result.ravel()) > -1e-4).all()  # the light one is flat in a third of the picture
    assert result[0, -1, -1] > result[0, 45, 0] + 0.05


TILT = np.array([[1.02, 0.05, 3.0], [-0.04, 0.97, 2.0], [2e-4, -1e-4, 1.0]])


def test_pairs_of_points_rectify_a_photograph():
    scene = cloudy(0, (1, 64, 64), scales=(4.0, 9.0))
    photograph = warp(scene, TILT)
    corners = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 50.0], [10.0, 50.0]])
    pairs = np.concatenate([projected(TILT, corners), corners], axis=1)
    rectify = make(kind="geometry", points=tuple(pairs.ravel().tolist()))
    result = rectify.compose(tensors(photograph), None, Stream(0)).numpy()
    assert np.abs(result - scene)[:, 10:50, 10:50].max() < 0.03


def test_a_photograph_is_laid_onto_another_by_what_both_show():
    scene = cloudy(4, (3, 150, 180))
    moved = warp(scene, TILT)
    register = make(kind="geometry")
    result = register.compose(tensors(scene, 0.5 * moved), None, Stream(0)).numpy()
    inner = (slice(None), slice(20, 130), slice(20, 160))
    assert psnr(2 * result[inner], scene[inner]) > 27
    mask = np.zeros((150, 180))
    untouched = register.compose(tensors(scene, moved), tensors(mask)[0], Stream(0)).numpy()
    assert np.array_equal(untouched, scene.astype("float32"))


def points(*numbers):
    return {"kind": "geometry", "points": tuple(map(float, numbers))}


SQUARE = (0, 0, 0, 0, 9, 0, 9, 0, 9, 9, 9, 9)
GREY = np.full((1, 12, 12), 0.5)


@pytest.mark.parametrize(
    ("options", "images", "mask", "words"),
    [
        ({}, [GREY], None, ("2 or more images", "1")),
        ({}, [GREY, np.ones((1, 12, 13))], None, ("12×12", "13×12")),
        ({}, [GREY] * 3, np.ones((12, 12)), ("mask", "3")),
        ({"kind": "geometry"}, [GREY], None, ("2 or more images", "1")),
        ({"kind": "geometry"}, [np.full((1, 60, 60), 0.5)] * 2, None, ("image 2", "0 of 0")),
        (points(*SQUARE, 18, 18, 18, 18), [GREY], None, ("do not determine",)),
        (points(*SQUARE, 0, 9, 30, -30), [GREY], None, ("inside out",)),
        ({"kind": "defects"}, [GREY], np.ones((12, 12)), ("every pixel",)),
        ({"kind": "defects"}, [], None, ("1 or more images", "0")),
    ],
)
def test_what_cannot_be_corrected_is_told_in_one_line_with_a_hint(options, images, mask, words):
    with pytest.raises(UsageError) as caught:
        make(**options).compose(tensors(*images), mask if mask is None else tensors(mask)[0], Stream(0))
    assert all(word in caught.value.message for word in ("correct", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "exposures"}, ("kind", "geometry", "exposures")),
        ({"noise": 0.0}, ("noise", "0.0001", "0.0")),
        ({"prior": 0.0}, ("prior", "0.001", "0.0")),
        ({"corners": 1}, ("corners", "20", "1")),
        ({"window": 1}, ("window", "3", "1")),
        ({"window": 4}, ("window", "odd", "4")),
        ({"threshold": -1.0}, ("threshold", "0.0", "-1.0")),
        ({"points": (1.0,) * 15}, ("points", "four numbers", "15")),
        ({"points": (1.0,) * 12}, ("points", "4 pairs", "12")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        correct.Config(**options)
    assert all(word in caught.value.message for word in ("correct", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


def test_four_corners_whose_box_reaches_behind_the_horizon_are_taken():
    options = points(33, 4, 0, 0, 82, -7, 100, 0, 58, 66, 100, 100, 15, 113, 0, 100)
    homography = make(**options)._from_points()
    pairs = np.array(options["points"]).reshape(-1, 4)
    close(projected(homography, pairs[:, :2]), pairs[:, 2:], rtol=1e-6, atol=1e-6)
