"""The 2014 game: its equations against SciPy, enumeration and quadrature, and the updates of Algorithm 1."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen import optim
from tinygen.data import ArrayImages, Batches, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds, shapes
from tinygen_plugins.adversarial import gan

logits = reals(shapes(1, 2, max_side=6), -20, 20)


def place(array):
    return library.current().from_host(np.asarray(array))


def counts(minimum=0):
    """How often each of a few images occurs: a distribution whose sample mean is its expectation."""
    return st.lists(st.integers(minimum, 4), min_size=2, max_size=6).filter(any)


# ---------------------------------------------------------------- equations


@verifies(gan.game_value, gan.discriminator_loss)
@given(logits, logits)
def test_the_value_is_the_expected_log_probability_of_a_right_answer(real, fake):
    expected = log_expit(real).mean() + log_expit(-fake).mean()  # 1 − σ(a) = σ(−a)
    r, f = tensors((real, fake))
    close(gan.game_value(r, f), np.array(expected), rtol=1e-9)
    close(gan.discriminator_loss(r, f), np.array(-expected), rtol=1e-9)
    gradcheck(gan.discriminator_loss, [r, f], order=2)


@verifies(gan.game_value, gan.optimal_discriminator, gan.virtual_criterion)
@given(counts(1), st.data())
def test_the_best_discriminator_on_a_finite_alphabet_attains_the_virtual_criterion(first, data):
    """Proposition 1 and Theorem 1 by exact enumeration: no other D has a larger value."""
    second = data.draw(st.lists(st.integers(1, 4), min_size=len(first), max_size=len(first)))
    p, q = (np.array(c) / sum(c) for c in (first, second))
    best = host(gan.optimal_discriminator(place(p), place(q)))

    def value(d):
        """V from a sample in which each image occurs as often as it is likely."""
        a = np.log(d) - np.log1p(-d)
        r, f = tensors((np.repeat(a, first), np.repeat(a, second)))
        return gan.game_value(r, f).item()

    divergence = scipy.spatial.distance.jensenshannon(p, q) ** 2
    close(gan.virtual_criterion(place(p), place(q)), np.array(2 * divergence - math.log(4)), rtol=1e-9, atol=1e-10)
    close(value(best), np.array(2 * divergence - math.log(4)), rtol=1e-9)
    other = np.clip(best + data.draw(reals((len(p),), -0.3, 0.3, layouts=False)), 1e-3, 1 - 1e-3)
    assert value(other) <= value(best) + 1e-12


@verifies(gan.optimal_discriminator)
@given(st.floats(0.01, 5), st.floats(0.01, 5))
def test_the_best_discriminator_by_search(p, q):
    found = scipy.optimize.minimize_scalar(
        lambda d: -(p * math.log(d) + q * math.log1p(-d)),
        bounds=(1e-9, 1 - 1e-9),
        method="bounded",
        options={"xatol": 1e-10},
    )
    close(gan.optimal_discriminator(place([p]), place([q])), np.array([found.x]), rtol=1e-5)


@verifies(gan.virtual_criterion)
@given(counts(1))
def test_the_criterion_is_least_where_the_generator_is_the_data(first):
    p = np.array(first) / sum(first)
    close(gan.virtual_criterion(place(p), place(p)), np.array(-math.log(4)), rtol=1e-12)
    q = np.roll(p, 1)
    assert float(host(gan.virtual_criterion(place(p), place(q)))) >= -math.log(4) - 1e-12
    close(gan.optimal_discriminator(place(p), place(p)), np.full(len(p), 0.5))


@verifies(gan.minimax_generator_loss)
@given(logits)
def test_minimax_loss_and_its_saturating_slope(a):
    (x,) = tensors((a,))
    loss = gan.minimax_generator_loss(x)
    close(loss, np.array(log_expit(-a).mean()), rtol=1e-9)
    close(tinygen.grad(loss, x), -expit(a) / a.size, rtol=1e-9)  # → 0 as the discriminator grows sure (a → −∞)


@verifies(gan.non_saturating_generator_loss)
@given(logits)
def test_non_saturating_loss_and_its_slope(a):
    (x,) = tensors((a,))
    loss = gan.non_saturating_generator_loss(x)
    close(loss, np.array(-log_expit(a).mean()), rtol=1e-9)
    close(tinygen.grad(loss, x), -expit(-a) / a.size, rtol=1e-9)  # → −1/n where the other vanishes


@verifies(gan.game_value, gan.discriminator_loss, gan.minimax_generator_loss, gan.non_saturating_generator_loss)
@given(st.sampled_from([1e2, 1e4, -1e4]), st.sampled_from(["float32", "float64"]))
def test_losses_stay_finite_for_any_confidence(a, dtype):
    (x,) = tensors((np.array([a, -a]),), dtype)  # softplus(±a) is |a| and 0 up to e⁻¹⁰⁰, so that its mean is |a|/2
    for loss, expected in (
        (gan.game_value(x, x), -abs(a)),
        (gan.discriminator_loss(x, x), abs(a)),
        (gan.minimax_generator_loss(x), -abs(a) / 2),
        (gan.non_saturating_generator_loss(x), abs(a) / 2),
    ):
        close(loss.item(), np.array(expected), rtol=1e-6)
        assert np.isfinite(host(tinygen.grad(loss, x))).all()


@verifies(gan.parzen_log_likelihood)
@given(seeds(), st.integers(1, 4), st.floats(0.1, 2))
def test_parzen_is_the_mean_of_normal_densities(seed, d, sigma):
    random = np.random.default_rng(seed)
    x, samples = random.normal(size=(3, d)), random.normal(size=(5, d))
    windows = [scipy.stats.multivariate_normal(s, sigma**2 * np.eye(d)) for s in samples]
    expected = [math.log(np.mean([w.pdf(row) for w in windows])) for row in x]
    close(gan.parzen_log_likelihood(place(x), place(samples), sigma), np.array(expected), rtol=1e-8, atol=1e-8)


@verifies(gan.parzen_log_likelihood)
@given(seeds(), st.floats(0.2, 2))
def test_parzen_integrates_to_one(seed, sigma):
    samples = np.random.default_rng(seed).normal(size=(4, 1))
    x = np.linspace(-25, 25, 4001)
    density = np.exp(host(gan.parzen_log_likelihood(place(x[:, None]), place(samples), sigma)))
    close(scipy.integrate.simpson(density, x=x), np.array(1.0), rtol=1e-6)


# ---------------------------------------------------------------- the algorithm

SMALL = gan.Config(batch_size=6, latent=3, hidden=5)
DATA = DataSpec(name="noise", channels=1, height=2, width=3, count=40)


def model(config=SMALL, seed=0):
    return gan.GAN(config, DATA, Stream(seed, "gan"))


def batches(size=6, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 1, 2, 3)).astype(np.uint8)
    return Batches(ArrayImages(pixels), size, Stream(seed, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import adversarial

    (spec,) = [spec for spec in adversarial.tinygen_algorithms() if spec.name == "gan"]
    assert set(spec.verbs) == set(verbs_of(gan.GAN))


def test_each_step_touches_one_player_and_reaches_all_of_it():
    game = model()
    images = next(batches()).images * 2 - 1
    before_d, before_g = game.discriminator.state_dict(), game.generator.state_dict()
    game.update_discriminator(images)
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
    # the biases before batch norm have no effect on the game: the one exception, exact up to rounding
    for name, parameter in game.generator.named_parameters():
        largest = np.abs(parameter.grad.numpy()).max()
        assert largest < 1e-6 if name in ("net.0.bias", "net.3.bias") else largest > 0, f"{name} of G gets no gradient"


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


@pytest.mark.parametrize("loss", gan.GENERATOR_LOSS)
def test_losses_by_every_parameter_against_finite_differences(loss):
    game = model()
    for module in (game.generator, game.discriminator):
        for parameter in module.parameters():
            parameter.data = parameter.data.astype("float64")
    game.discriminator.eval()  # dropout would draw anew for each difference
    z, real = tensors(
        (np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 1, 2, 3)))
    )
    names = [(m, n) for m in (game.generator, game.discriminator) for n, _ in m.named_parameters()]
    parameters = [p for m in (game.generator, game.discriminator) for p in m.parameters()]

    def with_parameters(objective):
        def function(*values):
            for (module, name), value in zip(names, values):
                *path, last = name.split(".")
                for part in path:
                    module = getattr(module, part)
                object.__setattr__(module, last, value)
            return objective()

        return function

    def generator_objective():
        return gan.GENERATOR_LOSS[loss](game.discriminator(game.generator(z)))

    def discriminator_objective():
        return gan.discriminator_loss(game.discriminator(real), game.discriminator(game.generator(z)))

    gradcheck(with_parameters(generator_objective), parameters, rtol=1e-4)
    gradcheck(with_parameters(discriminator_objective), parameters, rtol=1e-4)


def test_k_counts_the_discriminators_updates():
    game, data = model(gan.Config(batch_size=6, latent=3, hidden=5, k=3)), batches()
    step = next(game.fit(data))
    assert data.drawn == 3
    assert game.discriminator_optimizer.steps == [3] * 6
    assert game.generator_optimizer.steps[0] == 1
    assert set(step.metrics) == {"loss_d", "d_real", "d_fake", "loss_g"}
    assert 0 < step.metrics["d_real"].item() < 1


@given(seeds())
def test_samples_repeat_by_seed_lie_in_the_unit_range_and_do_not_see_each_other(seed):
    game = model()
    images = host(game.sample(5, Stream(seed, "s")))
    assert images.shape == (5, 1, 2, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(game.sample(5, Stream(seed, "s"))))
    assert not np.array_equal(images, host(game.sample(5, Stream(seed + 1, "s"))))
    close(game.sample(1, Stream(seed, "s")), images[:1], rtol=1e-5, atol=1e-6)  # n = 1 is the first of n = 5
    z = game.draw_noise(5, Stream(seed, "s"))
    close((game.average.averaged(z.flip(0)) + 1) / 2, images[::-1], rtol=1e-5, atol=1e-6)


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

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


def test_alternating_descent_on_a_bilinear_game_stays_bounded_and_simultaneous_descent_spirals_out():
    """min_x max_y xy: the reason for taking turns. Simultaneous steps multiply the distance by √(1 + η²) exactly."""
    rate, point = 0.3, np.array([0.6, -0.8])
    for taking_turns in (True, False):
        x, y = (tinygen.nn.Parameter(place(v)) for v in point)
        down, up = optim.SGD([x], rate), optim.SGD([y], rate)
        for _ in range(40):
            before = x.item() ** 2 + y.item() ** 2
            x.grad, y.grad = tinygen.grad(x * y, x), -tinygen.grad(x * y, y)
            down.step()
            if taking_turns:
                y.grad = -tinygen.grad(x * y, y)
            up.step()
            after = x.item() ** 2 + y.item() ** 2
            if not taking_turns:
                close(after, np.array(before * (1 + rate**2)), rtol=1e-12)
        assert (after < 2) == taking_turns


def test_the_game_learns_a_distribution():
    """Two kinds of images, dark and light: after a minute's fraction of training both come out, and little between."""
    pixels = np.repeat(np.array([40, 215], np.uint8), 20)[:, None, None, None] * np.ones((1, 1, 2, 3), np.uint8)
    data = Batches(ArrayImages(pixels), 16, Stream(0, "batches"))
    game = model(gan.Config(batch_size=16, latent=3, hidden=24, lr=2e-3, dropout=0.0, average=0.9))
    fit = game.fit(data)
    for _ in range(400):
        next(fit)
    means = host(game.sample(200, Stream(1, "s"))).mean((1, 2, 3))
    dark, light = np.abs(means - 40 / 255) < 0.15, np.abs(means - 215 / 255) < 0.15
    assert (dark | light).mean() > 0.7
    assert 0.15 < dark.mean() < 0.85


def test_evaluate_reports_the_likelihood_of_test_images():
    from tinygen.data import Dataset

    random = np.random.default_rng(0)
    sets = {n: ArrayImages(random.integers(0, 256, (30, 1, 2, 3)).astype(np.uint8)) for n in ("train", "valid", "test")}
    game = model()
    figures = game.evaluate(Dataset("noise", sets, (1, 2, 3)), Stream(0, "e"))
    samples = host(game.sample(10_000, Stream(0, "e"))).reshape(10_000, 6).astype(float)

    def densities(split, sigma):
        x = sets[split].images(np.arange(30)).reshape(30, 6).astype(float)
        squares = ((x[:, None] - samples) ** 2).sum(2)
        return np.exp(-squares / 2 / sigma**2).mean(1) / (2 * np.pi * sigma**2) ** 3

    sigma = figures["sigma"]
    scores = np.log(densities("test", sigma))
    close(figures["parzen_log_likelihood"], np.array(scores.mean()), rtol=1e-4)
    close(figures["standard_error"], scipy.stats.sem(scores), rtol=1e-4)
    best = np.log(densities("valid", sigma)).mean()
    assert all(np.log(densities("valid", other)).mean() < best for other in (sigma / 1.4, sigma * 1.4))
    assert figures["test_images"] == 30


def test_options_are_checked():
    for options, message in (
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"average": -0.1}, r"average must be in \[0, 1\)"),
    ):
        with pytest.raises(UsageError, match=message):
            gan.Config(**options)
