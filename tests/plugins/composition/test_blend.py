"""Blending: pyramids, feathering and the verb, against SciPy's filters, brute force and what blending must leave."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from tinygen import backend
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.composition import _pyramid, _weights, blend

from .reference import cloudy, device, regions, tensors

sizes = st.tuples(st.integers(1, 19), st.integers(1, 19))
images = sizes.flatmap(lambda size: reals((2, *size)))
WEIGHTS = np.array([1, 4, 6, 4, 1]) / 16

# ---------------------------------------------------------------- the pyramid


@verifies(_pyramid.reduce)
@given(image=images)
def test_reduce_is_scipy_s_filter_at_every_second_pixel(image):
    blurred = correlate1d(correlate1d(image, WEIGHTS, axis=1, mode="nearest"), WEIGHTS, axis=2, mode="nearest")
    close(_pyramid.reduce(device(image)), blurred[:, ::2, ::2])


@verifies(_pyramid.expand)
@given(size=sizes, seed=seeds())
def test_expand_is_the_same_filter_on_an_image_with_zeros_between(size, seed):
    small = np.random.default_rng(seed).standard_normal((2, *[-(-length // 2) for length in size]))
    wide = np.pad(small, [(0, 0), (2, 2), (2, 2)], mode="edge")
    sparse = np.zeros((2, 2 * wide.shape[1], 2 * wide.shape[2]))
    sparse[:, ::2, ::2] = wide
    full = 4 * correlate1d(correlate1d(sparse, WEIGHTS, axis=1), WEIGHTS, axis=2)
    close(_pyramid.expand(device(small), size), full[:, 4 : 4 + size[0], 4 : 4 + size[1]], atol=1e-11)


@verifies(_pyramid.laplacian_pyramid, _pyramid.collapse)
@given(image=images, levels=st.integers(0, 5))
def test_a_pyramid_collapses_to_the_image_that_it_was_made_of(image, levels):
    bands = _pyramid.laplacian_pyramid(device(image), levels)
    assert len(bands) == levels + 1
    close(_pyramid.collapse(bands), image, atol=1e-11)


@verifies(_pyramid.laplacian_pyramid)
@given(image=images, levels=st.integers(0, 4))
def test_bands_are_differences_of_blurred_images_and_end_with_the_smallest(image, levels):
    bands = _pyramid.laplacian_pyramid(device(image), levels)
    scale = image
    for band in bands[:-1]:
        blurred = correlate1d(correlate1d(scale, WEIGHTS, axis=1, mode="nearest"), WEIGHTS, axis=2, mode="nearest")
        close(band, scale - host(_pyramid.expand(device(blurred[:, ::2, ::2]), scale.shape[1:])), atol=1e-11)
        scale = blurred[:, ::2, ::2]
    close(bands[-1], scale, atol=1e-11)


@verifies(_pyramid.laplacian_pyramid, _pyramid.collapse)
@given(size=sizes, value=st.floats(-3, 3), levels=st.integers(1, 4))
def test_a_plain_image_has_nothing_in_its_bands(size, value, levels):
    *bands, last = _pyramid.laplacian_pyramid(device(np.full((1, *size), value)), levels)
    for band in bands:
        close(band, np.zeros(band.shape), atol=1e-12)
    close(last, np.full(last.shape, value))
    bands = [device(np.zeros(band.shape)) for band in bands]
    close(_pyramid.collapse([*bands, last]), np.full((1, *size), value))


@verifies(_pyramid.fuse)
@given(size=sizes, seed=seeds(), levels=st.integers(0, 4))
def test_fusing_takes_all_of_one_or_the_other_or_any_mixture_of_equals(size, seed, levels):
    random = np.random.default_rng(seed)
    first, second, mask = random.random((2, *size)), random.random((2, *size)), random.random(size)
    fuse = [device(first), device(second)]
    close(_pyramid.fuse(fuse[0], fuse[0], device(mask), levels), first, atol=1e-11)
    close(_pyramid.fuse(*fuse, device(np.ones(size)), levels), first, atol=1e-11)
    close(_pyramid.fuse(*fuse, device(np.zeros(size)), levels), second, atol=1e-11)


@verifies(_pyramid.fuse)
@given(seed=seeds(), levels=st.integers(0, 3))
def test_fusing_is_linear_in_the_images_with_each_band_under_its_own_mask(seed, levels):
    # An image with one band only is scaled by that band's mask: what collapses from one band under a blurred mask.
    random = np.random.default_rng(seed)
    size, level = (16, 24), int(random.integers(0, levels + 1))
    mask = random.random(size)
    bands = [np.zeros((1, 16 >> k, 24 >> k)) for k in range(levels + 1)]
    bands[level] = random.standard_normal(bands[level].shape)
    image = host(_pyramid.collapse([device(band) for band in bands]))
    masks = [mask]
    for _ in range(levels):
        blurred = correlate1d(correlate1d(masks[-1], WEIGHTS, axis=0, mode="nearest"), WEIGHTS, mode="nearest")
        masks.append(blurred[::2, ::2])
    parts = [m * host(b) for m, b in zip(masks, _pyramid.laplacian_pyramid(device(image), levels))]
    expected = host(_pyramid.collapse([device(part) for part in parts]))
    fused = _pyramid.fuse(device(image), device(np.zeros_like(image)), device(mask), levels)
    close(fused, expected, atol=1e-11)


def test_there_are_as_many_levels_as_leave_four_pixels():
    assert [_pyramid.levels_for(side, 999) for side in (1, 7, 8, 15, 16, 512)] == [0, 0, 1, 1, 2, 7]


# ---------------------------------------------------------------- weights


@verifies(_weights.inner_distance)
@given(size=sizes, seed=seeds(), bounded=st.booleans())
def test_distance_is_that_to_the_nearest_pixel_outside_by_brute_force(size, seed, bounded):
    region = regions(seed, size) > 0
    framed = np.pad(region, 1) if bounded else region
    outside = np.argwhere(~framed)
    if not len(outside):
        expected = np.full(size, float(sum(size)))
    else:
        places = np.argwhere(np.ones(size)) + (1 if bounded else 0)
        expected = np.linalg.norm(places[:, None] - outside, axis=-1).min(axis=1).reshape(size)
    close(_weights.inner_distance(device(region), bounded), expected, rtol=1e-6)


@verifies(_weights.edge_weights)
@given(size=st.tuples(st.integers(2, 19), st.integers(2, 19)), seed=seeds(), width=st.floats(1, 20))
def test_the_soft_edge_is_a_ramp_by_distance_that_both_sides_share(size, seed, width):
    region = regions(seed, size)
    inside, outside = np.argwhere(region > 0), np.argwhere(region == 0)
    weight = host(_weights.edge_weights(device(region), width))
    for place, w in np.ndenumerate(weight):
        other = outside if region[place] else inside
        away = np.linalg.norm(other - place, axis=-1).min() - 0.5
        close(w, np.clip(0.5 + (1 if region[place] else -1) * away / width, 0, 1), atol=1e-6)
    close(weight + host(_weights.edge_weights(device(1 - region), width)), np.ones(size), atol=1e-6)


@verifies(_weights.feather_weights, _weights.weighted_mean)
@given(seed=seeds(), count=st.integers(1, 4))
def test_feather_weights_sum_to_one_and_their_mean_lies_between_the_images(seed, count):
    random = np.random.default_rng(seed)
    distances = random.random((count, 5, 7)) * (random.random((count, 5, 7)) < 0.6)
    stack = random.random((count, 3, 5, 7))
    weights = _weights.feather_weights(device(distances))
    covered = distances.any(axis=0)
    close(host(weights).sum(axis=0), covered.astype(float))
    mean = host(_weights.weighted_mean(device(stack), weights))
    for row, column in np.argwhere(covered):
        expected = np.average(stack[:, :, row, column], axis=0, weights=distances[:, row, column])
        close(mean[:, row, column], expected)
    assert (mean[:, ~covered] == 0).all()
    assert (mean <= stack.max(axis=0) + 1e-12).all()
    assert (mean >= stack.min(axis=0) * covered - 1e-12).all()


@verifies(_weights.weighted_mean)
@given(seed=seeds())
def test_equal_images_have_themselves_as_their_mean(seed):
    random = np.random.default_rng(seed)
    image, weights = random.random((3, 4, 6)), random.random((3, 4, 6)) + 0.1
    close(_weights.weighted_mean(device(np.stack([image] * 3)), device(weights)), image)


@verifies(blend.over)
@given(seed=seeds())
def test_over_is_the_line_between_the_colours(seed):
    random = np.random.default_rng(seed)
    front, back, alpha = random.random((3, 4, 6)), random.random((3, 4, 6)), random.random((4, 6))
    result = host(blend.over(device(front), device(back), device(alpha)))
    for (c, i, j), value in np.ndenumerate(result):
        close(value, np.interp(alpha[i, j], [0, 1], [back[c, i, j], front[c, i, j]]))


# ---------------------------------------------------------------- the verb


def make(**options):
    return blend.Blend(blend.Config(**options), None, Stream(0))


def compose(images, mask=None, **options):
    mask = mask if mask is None else tensors(mask)[0]
    return make(**options).compose(tensors(*images), mask, Stream(0))


pictures = seeds().map(lambda seed: [cloudy(seed, (3, 40, 48)), cloudy(seed + 1, (3, 40, 48))])
DISC = (np.hypot(*np.mgrid[-20:20, -24:24]) < 11).astype(float)


@pytest.mark.parametrize("method", blend.METHODS)
@settings(max_examples=8)
@given(pair=pictures)
def test_every_method_keeps_what_is_far_from_the_edge_and_stays_in_range(method, pair):
    result = compose(pair, DISC, method=method, width=6.0, levels=2)
    assert result.dtype == np.float32 and result.shape == (3, 40, 48)
    values = result.numpy()
    assert values.min() >= 0 and values.max() <= 1
    leak = 0.02 if method == "pyramid" else 1e-5  # its coarse bands reach farther
    assert np.abs(values - pair[0])[:, :3].max() < leak  # the background, far outside
    if method != "poisson":  # which moves the foreground's level
        assert np.abs(values - pair[1])[:, 20, 24].max() < leak
    same = compose([pair[0], pair[0]], DISC, method=method).numpy()
    assert np.abs(same - pair[0]).max() < 2e-5


@pytest.mark.parametrize("method", blend.METHODS)
def test_a_backend_makes_no_difference(method):
    pair = [cloudy(0, (3, 40, 48)), cloudy(1, (3, 40, 48))]
    with backend.using("numpy"):
        expected = compose(pair, DISC, method=method).numpy()
    close(compose(pair, DISC, method=method).numpy(), expected, rtol=0, atol=1e-5)


def test_without_a_mask_the_right_half_is_the_foreground_s_or_all_is_mixed():
    black, white = np.zeros((1, 32, 64)), np.ones((1, 32, 64))
    for method in ("feather", "pyramid"):
        values = compose([black, white], method=method).numpy()
        ramp = values[0, 16]
        assert (np.diff(ramp) >= -1e-6).all() and ramp[0] < 0.1 and ramp[-1] > 0.9
        close(ramp + ramp[::-1], np.ones(64), atol=0.05)
    close(compose([black, white], method="alpha").numpy(), np.full((1, 32, 64), 0.5))
    close(compose([black, white], method="alpha", alpha=0.25).numpy(), np.full((1, 32, 64), 0.25))
    close(compose([black, white], method="poisson").numpy(), black, atol=1e-3)  # plain: no differences to take over


def test_grey_and_colour_make_colour():
    assert compose([np.zeros((1, 9, 9)), np.ones((3, 9, 9))]).shape == (3, 9, 9)


@pytest.mark.parametrize(
    ("images", "mask", "options", "words"),
    [
        ([np.zeros((3, 9, 9))], None, {}, ("2 images", "1")),
        ([np.zeros((3, 9, 9))] * 3, None, {}, ("2 images", "3")),
        ([np.zeros((3, 9, 8)), np.zeros((3, 9, 9))], None, {}, ("8×9", "9×9")),
        ([np.zeros((2, 9, 9)), np.zeros((3, 9, 9))], None, {}, ("image 1", "(2, 9, 9)")),
        ([np.zeros((3, 9, 9))] * 2, np.ones((9, 8)), {}, ("mask", "9×9", "8×9")),
        ([np.zeros((3, 9, 9))] * 2, np.ones((1, 9, 9)), {}, ("mask", "(1, 9, 9)")),
        ([np.zeros((3, 9, 9))] * 2, np.ones((9, 9)), {"method": "poisson"}, ("poisson", "everywhere")),
    ],
)
def test_what_cannot_be_blended_is_told_in_one_line_with_a_hint(images, mask, options, words):
    with pytest.raises(UsageError) as caught:
        compose(images, mask, **options)
    assert all(word in caught.value.message for word in ("blend", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "piramid"}, ("method", "pyramid", "piramid")),
        ({"alpha": 1.5}, ("alpha", "1.0", "1.5")),
        ({"width": 0.0}, ("width", "1.0", "0.0")),
        ({"levels": -1}, ("levels", "0", "-1")),
        ({"gradients": "mix"}, ("gradients", "mixed", "mix")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        blend.Config(**options)
    assert all(word in caught.value.message for word in ("blend", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_an_edge_has_no_soft_one(value):
    close(_weights.edge_weights(device(np.full((5, 6), value)), 500.0), np.full((5, 6), value), rtol=0, atol=0)


def test_images_that_are_not_finite_are_refused():
    bad = np.full((1, 4, 4), np.nan, "float32")
    with pytest.raises(UsageError, match="image 2 has values that are not finite"):
        blend.Blend(blend.Config(), None, Stream(0)).compose(
            tensors(np.zeros((1, 4, 4), "float32"), bad), None, Stream(0)
        )
