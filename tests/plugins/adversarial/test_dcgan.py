"""The convolutional game: its ladder by counting, its losses against SciPy, its updates, and what a batch shares."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit

import tinygen
import tinygen.functional as F
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen import nn
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds, shapes
from tinygen_plugins import adversarial
from tinygen_plugins.adversarial import dcgan

logits = reals(shapes(1, 2, max_side=6), -20, 20)


def place(array):
    return library.current().from_host(np.asarray(array))


# ---------------------------------------------------------------- equations


@verifies(dcgan.discriminator_loss)
@given(logits, logits)
def test_the_discriminators_loss_is_its_surprise_at_the_right_answers(real, fake):
    r, f = tensors((real, fake))
    loss = dcgan.discriminator_loss(r, f)
    close(loss, np.array(-log_expit(real).mean() - log_expit(-fake).mean()), rtol=1e-9)  # 1 − σ(a) = σ(−a)
    close(tinygen.grad(loss, r), (expit(real) - 1) / real.size, rtol=1e-9)
    gradcheck(dcgan.discriminator_loss, [r, f], order=2)


@verifies(dcgan.generator_loss)
@given(logits)
def test_the_generators_loss_and_its_slope(a):
    (x,) = tensors((a,))
    loss = dcgan.generator_loss(x)
    close(loss, np.array(-log_expit(a).mean()), rtol=1e-9)
    close(tinygen.grad(loss, x), -expit(-a) / a.size, rtol=1e-9)  # → −1/n where D is sure of a fake


@verifies(dcgan.discriminator_loss, dcgan.generator_loss)
@given(st.sampled_from([1e2, 1e4, -1e4]), st.sampled_from(["float32", "float64"]))
def test_losses_stay_finite_for_any_confidence(a, dtype):
    (x,) = tensors((np.array([a, -a]),), dtype)
    for loss, expected in ((dcgan.discriminator_loss(x, x), abs(a)), (dcgan.generator_loss(x), abs(a) / 2)):
        close(loss.item(), np.array(expected), rtol=1e-6)
        assert np.isfinite(host(tinygen.grad(loss, x))).all() and loss.data.dtype == dtype


@verifies(dcgan.to_signed, dcgan.to_unit)
@given(reals(shapes(1, 3), 0, 1))
def test_images_to_the_range_of_tanh_and_back(image):
    (x,) = tensors((image,))
    signed = dcgan.to_signed(x)
    close(signed, np.interp(image, [0, 1], [-1, 1]), rtol=0, atol=1e-12)
    close(dcgan.to_unit(x), np.interp(image, [-1, 1], [0, 1]), rtol=0, atol=1e-12)
    close(dcgan.to_unit(signed), image, rtol=0, atol=1e-12)


@verifies(dcgan.doubled)
@given(st.integers(1, 12), seeds())
def test_a_step_of_the_ladder_doubles_the_side_and_one_of_the_discriminator_halves_it(side, seed):
    up = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, random=Stream(seed, "up"))
    down = nn.Conv2d(1, 1, 4, stride=2, padding=1, random=Stream(seed, "down"))
    image = up(tinygen.ones(1, 1, side, side))
    assert image.shape[2:] == (dcgan.doubled(side),) * 2 == (2 * side,) * 2
    assert down(image).shape[2:] == (side, side)


@verifies(dcgan.doubled)
@settings(max_examples=5)
@given(st.integers(4, 8))
def test_every_inner_pixel_gets_four_contributions_and_with_the_papers_kernel_not(side):
    """The kernel's size must be a multiple of the stride: else a checkerboard is built in."""

    def contributions(kernel, padding):
        ones = [tinygen.ones(1, 1, side, side), tinygen.ones(1, 1, kernel, kernel)]
        return host(F.conv_transpose2d(*ones, stride=2, padding=padding))[0, 0]

    def counted(kernel, padding):
        count = np.zeros((2 * (side - 1) + kernel,) * 2)
        for y, x in np.ndindex(side, side):
            count[2 * y : 2 * y + kernel, 2 * x : 2 * x + kernel] += 1
        return count[padding:-padding, padding:-padding]

    for kernel, padding in ((4, 1), (5, 2)):
        close(contributions(kernel, padding), counted(kernel, padding), rtol=1e-6)
    assert (contributions(4, 1)[1:-1, 1:-1] == 4).all()
    assert set(contributions(5, 2)[2:-2, 2:-2].ravel()) == {4, 6, 9}


@pytest.mark.parametrize(
    ("side", "sides"),
    [(8, [4, 8]), (14, [7, 14]), (28, [7, 14, 28]), (32, [4, 8, 16, 32]), (64, [4, 8, 16, 32, 64])],
)
def test_the_ladder_and_the_maps_on_it(side, sides):
    assert dcgan.ladder((3, side, side)) == sides
    config = dcgan.Config(width=2, latent=3)
    channels = dcgan.widths(config, sides)
    assert channels == [2 * 2**k for k in range(len(sides) - 1)][::-1]
    generator = dcgan.Generator(config, (3, side, side), Stream(0, "g"))
    discriminator = dcgan.Discriminator(config, (3, side, side), Stream(0, "d"))
    x, maps = tinygen.ones(2, 3), []
    for layer in list(generator.net)[1:]:
        x = generator.net[0](x) if x.ndim == 2 else x
        x = layer(x)
        maps.append(x.shape)
    for channel, height in zip([*channels, 3], sides):
        assert (2, channel, height, height) in maps
    assert maps[-1] == (2, 3, side, side)
    assert discriminator(x).shape == (2, 1)
    kinds = [type(layer).__name__ for layer in generator.net]
    assert kinds[-2:] == ["ConvTranspose2d", "Tanh"] and kinds.count("BatchNorm2d") == len(sides) - 1
    kinds = [type(layer).__name__ for layer in discriminator.net]
    assert kinds[:3] == ["Conv2d", "LeakyReLU", "Conv2d" if len(sides) > 2 else "Flatten"]
    assert kinds.count("BatchNorm2d") == len(sides) - 2


@pytest.mark.parametrize("shape", [(1, 28, 14), (1, 7, 7), (3, 4, 4), (1, 30, 30), (3, 48, 48)])
def test_other_sizes_are_refused_before_training(shape):
    data = DataSpec(name="odd", channels=shape[0], height=shape[1], width=shape[2], count=9)
    with pytest.raises(UsageError, match=rf"must be square .* got {shape[1]} × {shape[2]}") as caught:
        dcgan.DCGAN(dcgan.Config(), data, Stream(0))
    assert "--image-size" in caught.value.hint and "\n" not in str(caught.value)


@verifies(dcgan.initial_weight)
@given(seeds(), st.integers(20, 60))
def test_first_weights_are_normal_with_a_deviation_of_two_hundredths(seed, side):
    weights = host(dcgan.initial_weight((side, side), Stream(seed, "w"))).astype(float).ravel()
    n = weights.size
    assert abs(weights.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * n)
    assert abs(weights.mean()) < 5 * 0.02 / math.sqrt(n)
    assert scipy.stats.kstest(weights / 0.02, "norm").pvalue > 1e-6


@verifies(dcgan.principal_components)
@given(seeds(), st.integers(6, 12), st.integers(3, 20), st.integers(1, 3))
@settings(max_examples=25)
def test_principal_components_are_the_singular_directions(seed, n, d, count):
    images = np.random.default_rng(seed).normal(size=(n, d)) * np.geomspace(4, 0.2, d)
    mean, directions = (host(a) for a in dcgan.principal_components(place(images), count))
    close(mean, images.mean(0), rtol=1e-12, atol=1e-12)
    _, values, rows = scipy.linalg.svd(images - images.mean(0))
    projector = rows[:count].T @ rows[:count]  # the directions are so up to their signs, and apart if values differ
    if values[count - 1] > 1.05 * (values[count] if count < len(values) else 0):
        close(directions @ directions.T, projector, rtol=1e-6, atol=1e-7)
    close(directions.T @ directions, np.eye(count), rtol=1e-7, atol=1e-7)
    variances = ((images - mean) @ directions).var(axis=0)
    close(variances, values[:count] ** 2 / n, rtol=1e-7)  # most first


# ---------------------------------------------------------------- the algorithm

SMALL = dcgan.Config(batch_size=6, latent=3, width=2)
DATA = DataSpec(name="noise", channels=3, height=16, width=16, count=40)  # 4 → 8 → 16


def model(config=SMALL, seed=0):
    return dcgan.DCGAN(config, DATA, Stream(seed, "dcgan"))


def batches(size=6, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    return Batches(ArrayImages(pixels), size, Stream(seed, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    (spec,) = [spec for spec in adversarial.tinygen_algorithms() if spec.name == "dcgan"]
    assert set(spec.verbs) == set(verbs_of(dcgan.DCGAN))


def test_the_networks_start_as_the_paper_says():
    game = dcgan.DCGAN(dcgan.Config(), DATA, Stream(0, "dcgan"))
    for network in (game.generator, game.discriminator):
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                n = math.prod(parameter.shape)
                assert abs(parameter.numpy().std() - 0.02) < 5 * 0.02 / math.sqrt(2 * n), name
        assert all(layer.negative_slope == 0.2 for layer in network.modules() if isinstance(layer, nn.LeakyReLU))
    assert game.generator_optimizer.lr == game.discriminator_optimizer.lr == 2e-4
    assert game.generator_optimizer.betas == game.discriminator_optimizer.betas == (0.5, 0.999)
    noise = host(game.draw_noise(2000, Stream(0, "z")))
    assert noise.shape == (2000, 100)
    assert scipy.stats.kstest(noise.ravel(), scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-6


def test_each_step_touches_one_player_and_reaches_all_of_it():
    game = model()
    before_d, before_g = game.discriminator.state_dict(), game.generator.state_dict()
    game.update_discriminator(dcgan.to_signed(next(batches()).images))
    after_d, after_g = game.discriminator.state_dict(), game.generator.state_dict()
    for name, parameter in game.generator.named_parameters():
        assert np.array_equal(before_g[name], after_g[name])
        assert parameter.grad is None
    for name, _ in game.discriminator.named_parameters():
        assert not np.array_equal(before_d[name], after_d[name]), f"{name} of D did not move"
    gradients = {name: p.grad.numpy() for name, p in game.discriminator.named_parameters()}
    game.update_generator(6)
    for name, parameter in game.discriminator.named_parameters():
        assert np.array_equal(after_d[name], parameter.numpy())
        assert np.array_equal(gradients[name], parameter.grad.numpy())
    for name, parameter in game.generator.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} of G gets no gradient"
        assert not np.array_equal(after_g[name], parameter.numpy()), f"{name} of G did not move"


def test_gradients_of_the_step_before_do_not_count():
    states = []
    for left_over in (False, True):
        game = model()
        if left_over:
            for parameter in (*game.discriminator.parameters(), *game.generator.parameters()):
                parameter.grad = tinygen.full(parameter.shape, 100.0)
        next(game.fit(batches()))
        states.append(game.discriminator.state_dict() | game.generator.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


def test_the_discriminator_sees_images_in_the_range_of_the_generators():
    game, seen = model(), []
    game.update_discriminator = lambda real: seen.append(host(real)) or {}
    next(game.fit(batches()))
    close(seen[0], host(next(batches()).images) * 2 - 1, rtol=1e-6, atol=1e-6)


def test_in_training_images_share_their_batch_and_in_evaluation_not():
    game = model()
    for _ in range(3):
        game.update_generator(6)
    z = game.draw_noise(5, Stream(1, "z"))
    other = F.cat([z[:2], game.draw_noise(3, Stream(2, "z"))])
    generator = game.generator.eval()
    close(generator(z)[:2], host(generator(other)[:2]), rtol=1e-5, atol=1e-6)
    close(generator(z.flip(0)), host(generator(z))[::-1], rtol=1e-5, atol=1e-6)
    generator.train()
    assert np.abs(host(generator(z)[:2]) - host(generator(other)[:2])).max() > 1e-4
    assert np.abs(host(generator(z))).max() <= 1


@given(seeds())
@settings(max_examples=10)
def test_samples_repeat_by_seed_and_lie_in_the_unit_range(seed):
    game = model()
    images = host(game.sample(5, Stream(seed, "s")))
    assert images.shape == (5, 3, 16, 16) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(game.sample(5, Stream(seed, "s"))))
    assert not np.array_equal(images, host(game.sample(5, Stream(seed + 1, "s"))))
    close(game.sample(1, Stream(seed, "s")), images[:1], rtol=1e-5, atol=1e-6)  # n = 1 is the first of n = 5


def test_samples_come_in_parts():
    images = host(model().sample(260, Stream(0, "s")))
    assert images.shape == (260, 3, 16, 16)
    z = model().draw_noise(260, Stream(0, "s"))
    close(images[250:], host(dcgan.to_unit(model().average.averaged(z[250:]))), rtol=1e-5, atol=1e-6)


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        game, data = model(), batches()
        before = game.generator.state_dict()
        fit = game.fit(data)
        next(fit), next(fit)
        after = game.generator.state_dict() | game.discriminator.state_dict()
        assert any(not np.array_equal(before[name], after[name]) for name in before)
        assert all(p.backend is library.current() for p in game.generator.parameters())
        return after

    same_elsewhere(two_steps, backend, rtol=1e-4, atol=1e-5)


def test_the_game_learns_a_distribution():
    """Two kinds of images, dark and light: both come out, and little between."""
    pixels = np.repeat(np.array([40, 215], np.uint8), 20)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    data = Batches(ArrayImages(pixels), 16, Stream(0, "batches"))
    spec = DataSpec(name="two", channels=1, height=8, width=8, count=40)
    game = dcgan.DCGAN(dcgan.Config(batch_size=16, latent=4, width=8, lr=2e-3, average=0.9), spec, Stream(0, "dcgan"))
    fit = game.fit(data)
    for _ in range(60):
        next(fit)
    means = host(game.sample(200, Stream(1, "s"))).mean((1, 2, 3))
    dark, light = np.abs(means - 40 / 255) < 0.2, np.abs(means - 215 / 255) < 0.2
    assert (dark | light).mean() > 0.7
    assert 0.1 < dark.mean() < 0.9


def test_evaluate_compares_with_test_images(monkeypatch):
    monkeypatch.setattr(dcgan, "SAMPLES", 50)
    monkeypatch.setattr(dcgan, "FEATURES", 3)
    random = np.random.default_rng(0)
    pixels = {n: random.integers(0, 256, (30, 3, 16, 16)).astype(np.uint8) for n in ("train", "valid", "test")}
    game = model()
    data = Dataset("noise", {n: ArrayImages(p) for n, p in pixels.items()}, (3, 16, 16))
    figures = game.evaluate(data, Stream(0, "e"))
    samples = host(game.sample(50, Stream(0, "e"))).reshape(50, -1).astype(float)
    train, test = (pixels[n].reshape(30, -1) / 255 for n in ("train", "test"))
    _, _, rows = scipy.linalg.svd(train - train.mean(0), full_matrices=False)

    def distance(x, y):
        x, y = ((a - train.mean(0)) @ rows[:3].T for a in (x, y))
        product = scipy.linalg.sqrtm(np.cov(x.T) @ np.cov(y.T))
        return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * product.real)

    close(figures["frechet"], np.array(distance(samples, test)), rtol=1e-3)
    close(figures["frechet_of_training_images"], np.array(distance(train, test)), rtol=1e-3)
    sigma, d = figures["sigma"], test.shape[1]
    squares = scipy.spatial.distance.cdist(test, samples, "sqeuclidean")
    scores = scipy.special.logsumexp(-squares / 2 / sigma**2, axis=1) - math.log(50)
    scores -= d / 2 * math.log(2 * math.pi * sigma**2)
    close(figures["parzen_log_likelihood"], np.array(scores.mean()), rtol=1e-4)
    close(figures["standard_error"], scipy.stats.sem(scores), rtol=1e-3)
    assert (figures["samples"], figures["test_images"]) == (50, 30)


def test_options_are_checked():
    for options, message in (
        ({"batch_size": 1}, "batch_size must be from 2"),
        ({"lr": 0.0}, "lr must be from"),
        ({"width": 0}, "width must be from 1"),
        ({"average": 1.0}, "average must be from 0"),
    ):
        with pytest.raises(UsageError, match=message):
            dcgan.Config(**options)
