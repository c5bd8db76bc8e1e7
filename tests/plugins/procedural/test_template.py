"""Templates and contents against SciPy, Pillow, brute force and enumeration, and their pictures."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import convolve2d

import tinygen
from tinygen import backend
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.procedural import _figures, _raster, template

from .reference import device

images = reals((3, 4, 5), 0.0, 1.0)
masks = reals((4, 5), 0.0, 1.0)


# ---------------------------------------------------------------- the mask


@verifies(template.hadamard)
@given(t=masks, u=masks, c=images, d=images, a=st.floats(-2, 2))
def test_the_hadamard_product_is_that_of_each_pixel_and_linear_in_both(t, u, c, d, a):
    expected = np.empty_like(c)
    for k, y, x in np.ndindex(c.shape):
        expected[k, y, x] = math.prod((t[y, x], c[k, y, x]))
    product = template.hadamard(device(t), device(c))
    close(product, expected)
    other = host(template.hadamard(device(u), device(c)))
    close(template.hadamard(device(t + a * u), device(c)), host(product) + a * other, atol=1e-12)
    other = host(template.hadamard(device(t), device(d)))
    close(template.hadamard(device(t), device(c + a * d)), host(product) + a * other, atol=1e-12)


@verifies(template.matte)
@given(t=masks, front=images, back=images)
def test_a_matte_is_the_weighted_mean_and_within_the_hull_of_both(t, front, back):
    image = host(template.matte(device(t), device(front), device(back)))
    for k, y, x in np.ndindex(image.shape):
        close(image[k, y, x], np.average([front[k, y, x], back[k, y, x]], weights=[t[y, x], 1 - t[y, x]]), atol=1e-12)
    assert (image >= np.minimum(front, back) - 1e-12).all() and (image <= np.maximum(front, back) + 1e-12).all()


@verifies(template.hadamard, template.matte)
@given(front=images, back=images)
def test_a_full_template_shows_all_and_an_empty_one_nothing(front, back):
    full, empty = device(np.ones((4, 5))), device(np.zeros((4, 5)))
    close(template.hadamard(full, device(front)), front)
    close(template.hadamard(empty, device(front)), 0 * front)
    close(template.matte(full, device(front), device(back)), front)
    close(template.matte(empty, device(front), device(back)), back)


layers = reals((2, 4, 4, 5), 0.0, 1.0).map(lambda pair: premultiplied(pair))


def premultiplied(layer):
    return np.concatenate([layer[..., :-1, :, :] * layer[..., -1:, :, :], layer[..., -1:, :, :]], axis=-3)


@verifies(_raster.over_premultiplied)
@given(pair=layers)
def test_over_counts_the_four_ways_in_which_two_layers_cover_a_point(pair):
    above, below = pair
    a, b = above[-1], below[-1]
    colour_a, colour_b = above[:-1] / a, below[:-1] / b
    both, only_a, only_b = a * b, a * (1 - b), (1 - a) * b  # and (1 - a)(1 - b) stays bare
    colours = both * colour_a + only_a * colour_a + only_b * colour_b
    expected = np.concatenate([colours, [both + only_a + only_b]])
    close(_raster.over_premultiplied(device(above), device(below)), expected, rtol=1e-9)


@verifies(_raster.over_premultiplied)
@settings(max_examples=10)
@given(pair=reals((2, 4, 4, 5), 0.0, 1.0))
def test_over_is_pillow_s_alpha_composite(pair):
    bytes_ = np.round(pair * 255).astype("uint8")
    top, bottom = (Image.fromarray(np.ascontiguousarray(layer.transpose(1, 2, 0)), "RGBA") for layer in bytes_[[0, 1]])
    theirs = np.asarray(Image.alpha_composite(bottom, top)).transpose(2, 0, 1) / 255
    above, below = premultiplied(bytes_ / 255)
    close(_raster.over_premultiplied(device(above), device(below)), premultiplied(theirs), rtol=0, atol=2 / 255)


@verifies(_raster.over_premultiplied)
@given(stack=reals((3, 4, 4, 5), 0.1, 0.9).map(premultiplied))
def test_over_is_associative_and_not_commutative(stack):
    over, (a, b, c) = _raster.over_premultiplied, map(device, stack)
    close(over(over(a, b), c), host(over(a, over(b, c))), atol=1e-12)
    assert np.abs(host(over(a, b)) - host(over(b, a)))[:-1].max() > 1e-6
    close(host(over(a, b))[-1], host(over(b, a))[-1])  # how much is covered does not depend on the order


@verifies(_raster.over_premultiplied)
@given(pair=layers)
def test_what_is_opaque_hides_and_what_is_clear_shows_all_below(pair):
    opaque = pair[0].copy()
    opaque[-1] = 1.0
    close(_raster.over_premultiplied(device(opaque), device(pair[1])), opaque)
    close(_raster.over_premultiplied(device(0 * pair[0]), device(pair[1])), pair[1])


@verifies(template.matte, template.hadamard, _raster.over_premultiplied)
@given(t=masks, front=images, back=images)
def test_a_matte_is_the_premultiplied_layer_over_an_opaque_ground(t, front, back):
    ones = np.ones((1, 4, 5))
    layer = template.hadamard(device(t), device(np.concatenate([front, ones])))
    composite = _raster.over_premultiplied(layer, device(np.concatenate([back, ones])))
    close(host(composite)[:-1], host(template.matte(device(t), device(front), device(back))), atol=1e-12)
    close(host(composite)[-1:], ones)


# ---------------------------------------------------------------- the stamp

stamps = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(reals)


@verifies(template.stamp)
@given(stamp=stamps, impulses=reals((3, 5, 6)))
def test_stamping_is_scipy_s_circular_convolution(stamp, impulses):
    expected = np.stack([convolve2d(plane, stamp, mode="same", boundary="wrap") for plane in impulses])
    close(template.stamp(device(stamp), device(impulses)), expected, rtol=1e-9, atol=1e-10)


@verifies(template.stamp)
@given(stamp=reals((4, 3)), row=st.integers(0, 6), column=st.integers(0, 7))
def test_a_single_impulse_prints_the_template_where_it_is(stamp, row, column):
    impulses = np.zeros((7, 8))
    impulses[row, column] = 1.0
    image = host(template.stamp(device(stamp), device(impulses)))
    expected = np.zeros((7, 8))
    for y, x in np.ndindex(stamp.shape):
        expected[(row + y - 1) % 7, (column + x - 1) % 8] = stamp[y, x]  # (1, 1) is the middle of 4 × 3
    close(image, expected, atol=1e-12)


@verifies(template.stamp)
@given(t=reals((2, 3, 4)), c=reals((2, 5, 6)), a=st.floats(-2, 2))
def test_stamping_is_linear_in_template_and_impulses(t, c, a):
    def stamp(x, y):
        return host(template.stamp(device(x), device(y)))

    close(stamp(t[0] + a * t[1], c[0]), stamp(t[0], c[0]) + a * stamp(t[1], c[0]), atol=1e-10)
    close(stamp(t[0], c[0] + a * c[1]), stamp(t[0], c[0]) + a * stamp(t[0], c[1]), atol=1e-10)


def test_a_template_larger_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match="6 × 2 pixels is larger than the canvas of 5 × 5"):
        template.stamp(device(np.ones((6, 2))), device(np.ones((5, 5))))


@verifies(template.levelled)
@given(prints=reals((3, 4, 2, 3), 0.0, 1.0).map(premultiplied))
def test_where_prints_overlap_their_mean_is_seen(prints):
    layer = host(template.levelled(device(prints.sum(axis=0))))
    for y, x in np.ndindex(2, 3):
        alphas, colours = prints[:, -1, y, x], prints[:, :-1, y, x] / prints[:, -1:, y, x]
        covered = min(1.0, alphas.sum())
        close(layer[-1, y, x], np.asarray(covered))
        close(layer[:-1, y, x], covered * np.average(colours, axis=0, weights=alphas))


# ---------------------------------------------------------------- the basis


@verifies(template.combination)
@given(coefficients=reals((4, 3)), basis=reals((4, 5, 6)))
def test_a_combination_adds_up_the_templates(coefficients, basis):
    expected = sum(c[:, None, None] * t for c, t in zip(coefficients, basis))
    close(template.combination(device(coefficients), device(basis)), expected, atol=1e-11)


@verifies(template.combination)
@given(coefficients=reals((7, 3, 1)), basis=reals((3, 5, 6)))
def test_many_combinations_span_no_more_dimensions_than_there_are_templates(coefficients, basis):
    rows = [host(template.combination(device(c), device(basis))).ravel() for c in coefficients]
    assert np.linalg.matrix_rank(np.stack(rows), tol=1e-9) == 3


@verifies(template.visible_parts)
@given(pile=reals((3, 2, 3), 0.0, 1.0))
def test_visible_parts_are_the_chances_to_be_the_uppermost(pile):
    # A sheet that covers the part T of a pixel hides a point of it with the probability T: all 2³ cases.
    expected = np.zeros((4, 2, 3))
    for there in itertools.product((False, True), repeat=3):
        chance = np.prod([t if present else 1 - t for t, present in zip(pile, there)], axis=0)
        expected[max((k + 1 for k in range(3) if there[k]), default=0)] += chance
    close(template.visible_parts(device(pile)), expected, atol=1e-12)


@verifies(template.visible_parts, template.hadamard)
@given(pile=reals((4, 4, 5), 0.0, 1.0), content=images)
def test_parts_sum_to_one_and_cut_a_content_into_pieces_that_make_it_whole(pile, content):
    parts = template.visible_parts(device(pile))
    close(host(parts).sum(axis=0), np.ones((4, 5)))
    close(sum(host(template.hadamard(part, device(content))) for part in parts), content, atol=1e-12)


@verifies(template.visible_parts, template.combination, _raster.over_premultiplied)
@given(pile=reals((3, 4, 5), 0.0, 1.0), colours=reals((4, 3), 0.0, 1.0))
def test_parts_in_their_colours_are_the_pile_laid_sheet_by_sheet(pile, colours):
    canvas = np.ones((4, 4, 5)) * np.append(colours[0], 1)[:, None, None]
    for mask, colour in zip(pile, colours[1:]):
        canvas = host(_raster.over_premultiplied(device(mask * np.append(colour, 1)[:, None, None]), device(canvas)))
    close(template.combination(device(colours), template.visible_parts(device(pile))), canvas[:-1], atol=1e-12)


# ---------------------------------------------------------------- pictures

small = {"size": 24, "count": 4}


def make(seed=0, **options):
    return template.Template(template.Config(**small | options), None, Stream(seed))


@settings(max_examples=5)
@given(seed=seeds(), reading=st.sampled_from(template.READINGS), channels=st.sampled_from([1, 3]))
def test_a_sample_is_its_seed_s_and_each_image_its_own(seed, reading, channels):
    model = make(reading=reading, channels=channels)
    drawn = model.sample(3, Stream(seed)).numpy()
    assert drawn.shape == (3, channels, 24, 24) and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert np.array_equal(drawn, model.sample(3, Stream(seed)).numpy())
    assert np.array_equal(drawn[:1], model.sample(1, Stream(seed)).numpy())
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn, model.sample(3, Stream(seed + 1)).numpy())
    with backend.using("numpy"):
        close(drawn, model.sample(3, Stream(seed)).numpy(), rtol=0, atol=1e-5)


@settings(max_examples=5)
@given(seed=seeds())
def test_pictures_of_one_basis_have_no_more_dimensions_than_templates_and_the_ground(seed):
    drawn = make(seed, reading="basis", count=3).sample(12, Stream(seed)).numpy()
    values = np.linalg.svd(drawn.reshape(36, -1).astype("float64"), compute_uv=False)
    assert values[4:].max() < 1e-4 * values[0]


def test_another_model_has_another_basis():
    one, other = (make(seed, reading="basis").sample(1, Stream(0)).numpy() for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("reading", template.READINGS)
@pytest.mark.parametrize("figure", list(_figures.FIGURES))
def test_every_figure_makes_pictures_that_are_not_blank(reading, figure):
    drawn = make(reading=reading, template=figure, size=48).sample(2, Stream(1)).numpy()
    assert np.isfinite(drawn).all() and (np.ptp(drawn, axis=(1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("content", template.CONTENTS)
def test_contents_fill_the_templates(content):
    plan, size = Stream(0, "", backend.NUMPY), 24
    model, sheet = make(content=content), _figures.Sheet("disc", (12.0, 12.0), 8.0, 0.0, 0.0)
    palette, where = _raster.draw_palette(plan, 3), _raster.pixel_centres(backend.current().xp, size, size)
    filling = host(model._content(plan, palette, where, sheet))
    assert filling.shape == (4, size, size)
    close(filling[-1], np.ones((size, size), "float32"), rtol=0, atol=1e-6)
    colours = len(np.unique(filling.reshape(4, -1).round(4), axis=1).T)
    assert colours == 1 if content == "colour" else colours > 50


def test_the_ground_is_dark_at_night_and_light_by_day():
    night, day = (make(light=light, extent=0.02).sample(4, Stream(1)).numpy() for light in ("night", "day"))
    assert np.median(night) < 0.3 and np.median(day) > 0.7


def test_pictures_have_the_shape_of_the_data():
    data = DataSpec(name="wide", channels=1, height=20, width=37, count=1)
    for reading in template.READINGS:
        model = template.Template(template.Config(reading=reading), data, Stream(0))
        assert model.sample(2, Stream(0)).shape == (2, 1, 20, 37)


# ---------------------------------------------------------------- compose


def pictures(count, shape=(3, 24, 30), seed=0):
    random = np.random.default_rng(seed)
    return [tinygen.tensor(device(random.random(shape).astype("float32"))) for _ in range(count)]


@settings(max_examples=5)
@given(seed=seeds())
def test_composed_masks_show_each_pixel_of_one_image_or_a_mean_along_edges(seed):
    top, middle, ground = pictures(3, seed=seed)
    image = make().compose([top, middle, ground], None, Stream(seed)).numpy()
    stack = np.stack([each.numpy() for each in (top, middle, ground)])
    assert (image >= stack.min(axis=0) - 1e-6).all() and (image <= stack.max(axis=0) + 1e-6).all()
    pure = (np.abs(stack - image).max(axis=1) < 1e-6).any(axis=0)
    assert pure.mean() > 0.3


@settings(max_examples=5)
@given(seed=seeds())
def test_a_given_mask_is_the_template_of_the_first_image(seed):
    (front, back), mask = pictures(2, seed=seed), np.random.default_rng(seed).random((24, 30)).astype("float32")
    image = make().compose([front, back], tinygen.tensor(device(mask)), Stream(seed))
    close(image, mask * front.numpy() + (1 - mask) * back.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reading", template.READINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_image_is_composed_alone(reading, channels):
    (image,) = pictures(1, (channels, 24, 30))
    composed = make(reading=reading).compose([image], None, Stream(3))
    assert composed.shape == (channels, 24, 30) and composed.numpy().dtype == np.float32
    again = make(reading=reading).compose([image], None, Stream(3))
    assert np.array_equal(composed.numpy(), again.numpy())


def test_a_stamped_image_is_printed_small_and_only_where_its_mask_says():
    ground, mask = pictures(1)[0], np.zeros((16, 20), "float32")
    red = np.zeros((3, 16, 20), "float32")
    red[0] = 1.0
    mask[:, 10:] = 1.0
    model = make(reading="stamp", count=3)
    image = model.compose([tinygen.tensor(device(red)), ground], tinygen.tensor(device(mask)), Stream(0)).numpy()
    printed = (np.abs(image - np.array([1.0, 0, 0])[:, None, None]) < 1e-5).all(axis=0)
    left = (np.abs(image - ground.numpy()) < 1e-5).all(axis=0)
    assert printed.sum() >= 3 * 12 and left.sum() > 400 and (printed | left).mean() > 0.9
    nothing = model.compose([tinygen.tensor(device(red)), ground], tinygen.tensor(device(0 * mask)), Stream(0))
    close(nothing, ground.numpy(), rtol=0, atol=1e-5)


@settings(max_examples=5)
@given(seed=seeds())
def test_a_composed_basis_is_a_mean_with_weights_that_sum_to_one(seed):
    basis = pictures(3, seed=seed)
    image = make(reading="basis").compose(basis, None, Stream(seed)).numpy()
    weights, residual, _, _ = np.linalg.lstsq(np.stack([b.numpy().ravel() for b in basis], axis=-1), image.ravel())
    assert residual[0] < 1e-6 and weights.min() > -1e-5
    close(weights.sum(), np.asarray(1.0), rtol=1e-4)


@pytest.mark.parametrize(
    ("reading", "shapes", "mask", "words"),
    [
        ("mask", [], None, ("one image or more", "none")),
        ("mask", [(3, 24, 30), (3, 24, 31)], None, ("alike", "(3, 24, 30)", "(3, 24, 31)")),
        ("basis", [(3, 24, 30), (1, 24, 30)], None, ("alike", "(1, 24, 30)")),
        ("stamp", [(3, 9, 9)] * 3, None, ("stamp", "3 images")),
        ("mask", [(3, 24, 30)], (24, 31), ("mask", "(24, 30)", "(24, 31)")),
        ("basis", [(3, 24, 30)], (24, 30), ("basis", "mask")),
    ],
)
def test_images_that_cannot_be_composed_are_told_in_one_line_with_a_hint(reading, shapes, mask, words):
    given_mask = None if mask is None else tinygen.zeros(*mask)
    with pytest.raises(UsageError) as caught:
        make(reading=reading).compose([tinygen.zeros(*shape) for shape in shapes], given_mask, Stream(0))
    assert all(word in caught.value.message for word in ("template", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "8", "7")),
        ({"channels": 2}, ("channels", "1", "3", "2")),
        ({"reading": "stamps"}, ("reading", "stamp", "stamps")),
        ({"template": "square"}, ("template", "rectangle", "square")),
        ({"content": "image"}, ("content", "gradient", "image")),
        ({"count": 0}, ("count", "1", "0")),
        ({"extent": math.nan}, ("extent", "2.0", "nan")),
        ({"light": "dusk"}, ("light", "day", "dusk")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        template.Config(**options)
    assert all(word in caught.value.message for word in ("template", *words))
    assert caught.value.hint and "\n" not in str(caught.value)
