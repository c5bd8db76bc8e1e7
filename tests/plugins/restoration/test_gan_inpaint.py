"""The context encoder: its losses by hand, its holes by brute force, and known pixels that stay bit for bit."""

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen.autograd import tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds, shapes
from tinygen_plugins.restoration import gan_inpaint, tinygen_algorithms

from .reference import device

IMAGES = reals((2, 3, 4, 5))
LOGITS = reals(shapes(1, 2, max_side=6), -20, 20)
SMALL = gan_inpaint.Config(batch_size=6, width=2)
DATA = DataSpec(name="noise", channels=3, height=16, width=32, count=40)


def model(config=SMALL, data=DATA, seed=0):
    return gan_inpaint.GANInpaint(config, data, Stream(seed, "gan_inpaint"))


def batches(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 3, 16, 32)).astype(np.uint8)
    return Batches(ArrayImages(pixels), 6, Stream(seed, "batches"))


def some_known(seed, shape=(2, 1, 4, 5)):
    known = np.random.default_rng(seed).random(shape) < 0.6
    known[0, 0, 0, 0] = False
    return known.astype(float)


# ---------------------------------------------------------------- equations


@verifies(gan_inpaint.composite)
@given(IMAGES, IMAGES, seeds())
def test_the_composite_keeps_known_pixels_bit_for_bit(x, filled, seed):
    known = some_known(seed)
    inputs = tensors((x, filled))
    (mask,) = tensors((known,), requires_grad=False)
    found = host(gan_inpaint.composite(*inputs, mask))
    for n, c, i, j in np.ndindex(x.shape):
        assert found[n, c, i, j] == (x if known[n, 0, i, j] else filled)[n, c, i, j]
    by_x, by_filled = (host(g) for g in tinygen.grad(gan_inpaint.composite(*inputs, mask).sum(), inputs))
    assert np.array_equal(by_x, known + 0 * x) and np.array_equal(by_filled, 1 - known + 0 * x)


@verifies(gan_inpaint.reconstruction_loss)
@given(IMAGES, IMAGES, seeds())
def test_the_reconstruction_loss_is_the_mean_square_in_the_holes(x, filled, seed):
    known = some_known(seed)
    inputs = tensors((x, filled))
    (mask,) = tensors((known,), requires_grad=False)
    hole = np.broadcast_to(known == 0, x.shape)
    loss = gan_inpaint.reconstruction_loss(*inputs, mask)
    close(loss, np.array(np.mean((x[hole] - filled[hole]) ** 2)), rtol=1e-9)
    gradient = host(tinygen.grad(loss, inputs[1]))
    assert (gradient[~hole] == 0).all()
    close(gradient[hole], 2 * (filled - x)[hole] / hole.sum(), rtol=1e-9)


@verifies(gan_inpaint.discriminator_loss, gan_inpaint.adversarial_loss)
@given(LOGITS, LOGITS)
def test_the_losses_of_the_game(real, filled):
    r, f = tensors((real, filled))
    expected = -log_expit(real).mean() - log_expit(-filled).mean()
    close(gan_inpaint.discriminator_loss(r, f), np.array(expected), rtol=1e-9)
    close(gan_inpaint.adversarial_loss(f), np.array(-log_expit(filled).mean()), rtol=1e-9)
    gradcheck(lambda a, b: gan_inpaint.discriminator_loss(a, b) + gan_inpaint.adversarial_loss(b), [r, f], order=2)


@verifies(gan_inpaint.joint_loss)
@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 1), st.floats(0, 1))
def test_the_joint_loss_weighs_the_two(first, second, reconstruction, adversarial):
    config = gan_inpaint.Config(reconstruction=reconstruction, adversarial=adversarial)
    a, b = tensors((np.array(first), np.array(second)))
    loss = gan_inpaint.joint_loss(a, b, config)
    close(loss, np.dot([reconstruction, adversarial], [first, second]), rtol=1e-9, atol=1e-12)
    assert (gan_inpaint.Config().reconstruction, gan_inpaint.Config().adversarial) == (0.999, 0.001)


@verifies(gan_inpaint.channel_wise)
@given(reals((2, 3, 4)), reals((3, 4, 5)), reals((3, 5)))
@settings(max_examples=20)
def test_each_channel_has_a_matrix_of_its_own(x, weight, bias):
    inputs = tensors((x, weight, bias))
    expected = np.stack([[row[c] @ weight[c] + bias[c] for c in range(3)] for row in x])
    close(gan_inpaint.channel_wise(*inputs), expected, rtol=1e-9, atol=1e-10)
    gradcheck(gan_inpaint.channel_wise, inputs)


@verifies(gan_inpaint.segment_distance)
@given(seeds())
@settings(max_examples=30)
def test_the_distance_from_a_segment_by_search(seed):
    p, a, b = np.random.default_rng(seed).normal(size=(3, 2))
    found = scipy.optimize.minimize_scalar(
        lambda t: np.hypot(*(a + t * (b - a) - p)), bounds=(0, 1), method="bounded", options={"xatol": 1e-10}
    )
    points = [device(v[None]) for v in (p, a, b)]
    close(gan_inpaint.segment_distance(*points), np.array([found.fun]), rtol=1e-5, atol=1e-7)
    close(gan_inpaint.segment_distance(points[1], points[1], points[2]), np.zeros(1))


# ---------------------------------------------------------------- holes


@given(seeds(), st.integers(9, 40), st.integers(9, 40))
@settings(max_examples=20)
def test_every_image_has_a_hole_and_known_pixels(seed, height, width):
    masks = host(gan_inpaint.draw_masks(20, height, width, Stream(seed, "m")))
    assert masks.shape == (20, 1, height, width) and masks.dtype == np.float32
    assert set(np.unique(masks)) == {0, 1}
    missing = 1 - masks.mean((1, 2, 3))
    assert missing.min() > 0 and missing.max() < 0.8
    assert np.array_equal(masks, host(gan_inpaint.draw_masks(20, height, width, Stream(seed, "m"))))
    assert not np.array_equal(masks[0], masks[1])


def test_half_of_the_holes_are_rectangles():
    masks = host(gan_inpaint.draw_masks(400, 28, 28, Stream(0, "m")))[:, 0] == 0
    filled = [mask[np.ix_(mask.any(1), mask.any(0))].all() for mask in masks]
    assert 0.4 < np.mean(filled) < 0.6


# ---------------------------------------------------------------- the algorithm


def test_the_spec_tells_the_verbs_of_the_class():
    (spec,) = [spec for spec in tinygen_algorithms() if spec.name == "gan_inpaint"]
    assert set(spec.verbs) == set(verbs_of(gan_inpaint.GANInpaint))


def test_the_generator_sees_no_missing_pixel():
    net = model()
    random = np.random.default_rng(0)
    x, other = random.random((2, 3, 3, 16, 32)).astype("float32")
    known = host(gan_inpaint.draw_masks(3, 16, 32, Stream(0, "m")))
    changed = np.where(known > 0.5, x, other)
    net.generator.eval()
    first, second = (host(net.generator(tensor(device(a)), tensor(device(known)))) for a in (x, changed))
    assert np.array_equal(first, second) and first.shape == x.shape
    assert np.abs(first).max() <= 1
    by_mask = host(net.generator(tensor(device(x * known)), tinygen.ones(3, 1, 16, 32)))
    assert not np.array_equal(first, by_mask)  # but it sees where they miss


def test_each_update_touches_one_player_and_reaches_all_of_it():
    net = model()
    x = next(batches()).images * 2 - 1
    known = gan_inpaint.draw_masks(6, 16, 32, Stream(0, "m"))
    filled = net.generator(x, known)
    before_d, before_g = net.discriminator.state_dict(), net.generator.state_dict()
    net.update_discriminator(x, gan_inpaint.composite(x, filled.detach(), known))
    after_d = net.discriminator.state_dict()
    for name, parameter in net.generator.named_parameters():
        assert parameter.grad is None and np.array_equal(before_g[name], parameter.numpy())
    for name, _ in net.discriminator.named_parameters():
        assert not np.array_equal(before_d[name], after_d[name]), f"{name} of D did not move"
    net.update_generator(x, filled, known)
    for name, parameter in net.discriminator.named_parameters():
        assert np.array_equal(after_d[name], parameter.numpy())
    for name, parameter in net.generator.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} of G gets no gradient"
        assert not np.array_equal(before_g[name], parameter.numpy()), f"{name} of G did not move"
    step = next(net.fit(batches()))
    figures = {name: value.item() for name, value in step.metrics.items()}
    expected = 0.999 * figures["reconstruction"] + 0.001 * figures["adversarial"]
    close(figures["loss_g"], np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("side", [16, 28, 32, 64])
def test_the_networks_fit_the_sides(side):
    shape = (1, side, side)
    assert side >> gan_inpaint.halvings(shape) in (7, 8)
    config = gan_inpaint.Config(width=2)
    image = tinygen.ones(2, *shape)
    generator = gan_inpaint.Generator(config, shape, Stream(0, "g"))
    assert generator(image, tinygen.ones(2, 1, side, side)).shape == image.shape
    assert gan_inpaint.Discriminator(config, shape, Stream(0, "d"))(image).shape == (2, 1)


@given(seeds(), st.booleans())
@settings(max_examples=10)
def test_known_pixels_come_back_bit_for_bit_and_the_rest_within_the_range(seed, grey):
    net = model(data=DataSpec(name="grey", channels=1, height=16, width=32, count=9)) if grey else model()
    random = np.random.default_rng(seed)
    image, mask = random.random((3, 16, 32)).astype("float32"), random.random((16, 32)) < 0.3
    broken = np.where(mask, np.nan, image).astype("float32")
    found = host(net.repair(tensor(device(broken)), tensor(device(mask.astype("float32"))), Stream(seed)))
    assert found.shape == image.shape and found.dtype == np.float32
    assert np.array_equal(found[:, ~mask], image[:, ~mask])
    assert found.min() >= 0 and found.max() <= 1
    if grey:
        alone = host(net.repair(tensor(device(broken[:1])), tensor(device(mask.astype("float32"))), Stream(seed)))
        close(alone[0], found[0], rtol=1e-4, atol=1e-5)


def test_evaluate_measures_in_the_holes():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3, 16, 32)).astype(np.uint8)
    net = model()
    figures = net.evaluate(Dataset("noise", {"test": ArrayImages(pixels)}, (3, 16, 32)), Stream(0, "e"))
    known = host(gan_inpaint.draw_masks(30, 16, 32, Stream(0, "e"))) > 0.5
    errors = {"psnr_in_holes": [], "psnr_in_holes_of_mean": []}
    for image, mask in zip(pixels.astype("float32") / np.float32(255), known):
        hole = tensor(device((~mask[0]).astype("float32")))
        repaired = host(net.repair(tensor(device(image)), hole, Stream(0)))
        errors["psnr_in_holes"] += [(image - repaired)[:, ~mask[0]].ravel()]
        means = np.array([channel[mask[0]].mean() for channel in image])
        errors["psnr_in_holes_of_mean"] += [(image[:, ~mask[0]] - means[:, None]).ravel()]
    for name, parts in errors.items():
        close(figures[name], np.array(-10 * math.log10(np.square(np.concatenate(parts)).mean())), rtol=1e-4)
    assert figures["test_images"] == 30


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        net = model()
        fit = net.fit(batches())
        next(fit), next(fit)
        return net.generator.state_dict() | net.discriminator.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-3, atol=1e-4)


def test_holes_are_learnt_to_be_filled():
    """Surfaces of one grey: what is around a hole tells what is in it."""
    levels = np.random.default_rng(0).integers(20, 236, (64, 1, 1, 1)).astype(np.uint8)
    images = ArrayImages(levels * np.ones((1, 1, 16, 16), np.uint8))
    spec = DataSpec(name="flat", channels=1, height=16, width=16, count=64)
    net = model(gan_inpaint.Config(batch_size=16, width=6, lr=5e-3), spec)
    data = Dataset("flat", {"test": images}, (1, 16, 16))
    fit = net.fit(Batches(images, 16, Stream(0, "b")))
    for _ in range(80):
        next(fit)
    assert net.evaluate(data, Stream(0, "e"))["psnr_in_holes"] > 20


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 30, 30), (3, 16, 21)])
def test_sides_that_cannot_be_halved_are_refused_before_training(shape):
    data = DataSpec(name="odd", channels=shape[0], height=shape[1], width=shape[2], count=9)
    with pytest.raises(UsageError, match=rf"halved . times, got {shape[1]} × {shape[2]}") as caught:
        model(data=data)
    assert "--image-size" in caught.value.hint and "\n" not in str(caught.value)


def test_what_cannot_be_repaired_is_told_in_one_line():
    image, mask = tinygen.ones(3, 16, 32), tinygen.zeros(16, 32)
    for arguments, message in (
        ((image, None), "there is no mask"),
        ((tinygen.ones(3, 16, 16), tinygen.zeros(16, 16)), r"trained on images of \(3, 16, 32\), got \(3, 16, 16\)"),
        ((tinygen.ones(1, 16, 32), mask), r"got \(1, 16, 32\)"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            model().repair(*arguments, Stream(0))
        assert caught.value.hint and "\n" not in str(caught.value)
    for options, message in (({"width": 0}, "width must be from 1"), ({"adversarial": -1}, "adversarial must be")):
        with pytest.raises(UsageError, match=message):
            gan_inpaint.Config(**options)
