"""FIGR: the penalized game against closed forms and SciPy, and Reptile on both networks as one vector."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen import optim
from tinygen.autograd import Tensor, tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec, Support
from tinygen.errors import DataError, UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.meta import few_shot_gan as figr


def leaf(array):
    (x,) = tensors((array,))
    return x


# ---------------------------------------------------------------- the game


@verifies(figr.gradient_penalty)
@given(seeds(), st.floats(0.2, 3))
def test_the_penalty_of_a_linear_critic_is_its_length_s_distance_from_one(seed, length):
    """7h: over all pixels and channels of an image; a norm over channels alone would not be 0 for the unit vector."""
    random = np.random.default_rng(seed)
    direction, x = random.normal(size=(2, 3, 3)), random.normal(size=(4, 2, 3, 3))
    direction *= length / np.linalg.norm(direction)
    (w,) = tensors((direction,))

    def critic(images):
        return (images * w).flatten(1).sum(1, keepdim=True)

    close(figr.gradient_penalty(critic, leaf(x)), np.array((length - 1) ** 2), rtol=1e-8, atol=1e-12)
    w.data = w.data / length
    close(figr.gradient_penalty(critic, leaf(x)), np.array(0.0), atol=1e-12)
    close(figr.gradient_penalty(lambda a: critic(a) + 7.0, leaf(x)), np.array(0.0), atol=1e-12)


@verifies(figr.gradient_penalty)
@settings(max_examples=20)
@given(seeds())
def test_the_penalty_of_a_curved_critic_image_by_image(seed):
    """D(x) = Σ tanh(a x) has the slope a (1 − tanh²); and the derivative of the penalty by a, of second order."""
    random = np.random.default_rng(seed)
    a, x = random.normal(size=(1, 2, 2)), random.normal(size=(3, 1, 2, 2))

    def penalty(a):
        return figr.gradient_penalty(lambda images: (images * a).tanh().flatten(1).sum(1), leaf(x))

    slopes = a * (1 - np.tanh(a * x) ** 2)
    norms = np.sqrt((slopes**2).sum((1, 2, 3)))
    close(penalty(leaf(a)), np.array(np.mean((norms - 1) ** 2)), rtol=1e-9)
    gradcheck(penalty, [leaf(a)], rtol=1e-4)


@verifies(figr.critic_loss, figr.generator_loss)
@given(reals((5, 1), -10, 10), reals((5, 1), -10, 10), st.floats(0, 3), st.floats(0, 20))
def test_the_losses_of_the_players(real, fake, penalty, weight):
    r, f = tensors((real, fake))
    loss = figr.critic_loss(r, f, tensor(np.array(penalty)), weight)
    close(loss, np.array(fake.mean() - real.mean() + weight * penalty), rtol=1e-9, atol=1e-10)
    close(figr.critic_loss(r + 3.0, f + 3.0, tensor(np.array(penalty)), weight), host(loss), rtol=1e-9, atol=1e-9)
    close(figr.generator_loss(f), np.array(-fake.mean()), rtol=1e-9, atol=1e-12)
    close(tinygen.grad(figr.critic_loss(r, f, tensor(np.array(penalty)), weight), r), np.full((5, 1), -0.2), rtol=1e-9)


@verifies(figr.critic_loss)
@given(reals((6,), -3, 3, layouts=False), reals((6,), -3, 3, layouts=False), st.floats(-1, 1), st.floats(-3, 3))
def test_no_critic_of_slope_one_sees_more_than_the_wasserstein_distance(real, fake, slope, kink):
    r, f = (tensor((slope * np.abs(a - kink))[:, None]) for a in (real, fake))
    seen = -figr.critic_loss(r, f, tensor(np.array(0.0)), 10.0).item()
    assert seen <= scipy.stats.wasserstein_distance(real, fake) + 1e-9


@verifies(figr.between)
@given(reals((3, 2, 2, 2)), reals((3, 2, 2, 2)), reals((3,), 0, 1))
def test_each_image_lies_on_the_line_between_its_pair(real, fake, epsilon):
    r, f, e = tensors((real, fake, epsilon.reshape(3, 1, 1, 1)))
    for i, image in enumerate(host(figr.between(r, f, e))):
        close(image, fake[i] + epsilon[i] * (real[i] - fake[i]), rtol=1e-9, atol=1e-10)


# ---------------------------------------------------------------- Reptile


@verifies(figr.meta_gradient)
@given(reals((2, 3)), reals((4,)), reals((3, 2, 3)), reals((3, 4)))
def test_descent_by_the_meta_gradient_ends_at_the_mean_of_what_was_learnt(p, q, ends_p, ends_q):
    """31a and 31c: with a rate of 1 and one task exactly at W, both blocks alike."""
    for t in (1, 3):
        phi = [tinygen.nn.Parameter(a) for a in tensors((p, q))]
        gradient = figr.meta_gradient(phi, [tensors((a, b)) for a, b in zip(ends_p[:t], ends_q[:t])])
        for block, slope in zip(phi, gradient):
            block.grad = slope.detach()
        optim.SGD(phi, 1.0).step()
        close(phi[0], np.mean(list(ends_p[:t]), 0), rtol=1e-9, atol=1e-9)
        close(phi[1], np.mean(list(ends_q[:t]), 0), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- the algorithm

SMALL = figr.Config(latent=3, width=2, inner_steps=2, adapt_steps=3, shot=3, episodes=2, samples=4)
DATA = DataSpec(name="noise", channels=1, height=8, width=8, count=60)


def model(seed=0, **options):
    config = figr.Config(**{**vars(SMALL), **options})
    return figr.FewShotGAN(config, DATA, Stream(seed, "figr"))


def classes():
    """Two splits of six classes each of noisy patterns, no pattern in both."""
    random, splits = np.random.default_rng(0), {}
    for name, first in (("train", 0), ("test", 6)):
        patterns = np.repeat(255 * random.integers(0, 2, (6, 1, 8, 8)), 10, 0)
        pixels = np.clip(patterns + random.integers(-40, 40, patterns.shape), 0, 255).astype(np.uint8)
        splits[name] = ArrayImages(pixels, first + np.repeat(np.arange(6), 10))
    return Dataset("patterns", splits, (1, 8, 8))


def batches(data=None):
    return Batches((data or classes()).split("train"), 1, Stream(0, "batches"))


def images_of_a_class():
    return Tensor(library.current().from_host(classes().arrays("test")[0][:3]))


def arrays(players):
    return {name: p.numpy().copy() for name, p in players.named_parameters()}


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "few_shot_gan"]
    assert set(spec.verbs) == set(verbs_of(figr.FewShotGAN))


def test_without_inner_steps_nothing_is_learnt():
    """31b: φ − W is 0."""
    gan = model(inner_steps=0)
    before = arrays(gan.phi)
    next(gan.fit(batches()))
    for name, array in arrays(gan.phi).items():
        assert np.array_equal(array, before[name])


def test_an_update_is_adam_s_on_phi_minus_w():
    """31a, 31c: the first step of Adam has the length lr, against the sign of φ − W, in both networks."""
    gan = model(lr=0.01)
    before = arrays(gan.phi)
    next(gan.fit(batches()))
    learnt, after = arrays(gan.players), arrays(gan.phi)
    for name, array in before.items():
        difference = array - learnt[name]
        assert np.abs(difference).max() > 0, f"{name} was not learnt"
        expected = array - 0.01 * difference / (np.abs(difference) + 1e-8)
        close(after[name], expected, rtol=1e-5, atol=1e-6)


def test_one_inner_step_is_one_step_of_the_game():
    """31b: with K = 1 both players move by Adam's first step, against the signs of gradients by finite differences."""
    gan = model(inner_lr=1e-3)
    before = arrays(gan.players)
    real, noise = images_of_a_class(), Stream(5, "noise")
    figures = gan.play(gan.players, real, 1, noise)
    assert set(figures) == {"loss_d", "loss_g"}
    after = arrays(gan.players)

    draws = Stream(5, "noise")
    z = gan.draw_noise(3, draws)
    epsilon, z_of_generator = Tensor(draws.uniform((3, 1, 1, 1))), gan.draw_noise(3, draws)
    twin = figr.Players(gan.config, DATA.shape, Stream(9, "twin"))

    def in_float64(values):
        for name, p in twin.named_parameters():
            p.data = library.current().from_host(values[name].astype("float64"))

    def wide(x):
        return Tensor(x.data.astype("float64"))

    def critic_loss():
        fake = twin.generator(wide(z)).detach()
        x = Tensor(figr.between(wide(real) * 2 - 1, fake, wide(epsilon)).data).requires_grad_(True)
        values = twin.critic(wide(real) * 2 - 1), twin.critic(fake)
        return figr.critic_loss(*values, figr.gradient_penalty(twin.critic, x), 10.0)

    def generator_loss():  # the critic has moved already
        return -twin.critic(twin.generator(wide(z_of_generator))).mean()

    moved_critic = before | {name: array for name, array in after.items() if name.startswith("critic")}
    for player, values, loss in (("critic", before, critic_loss), ("generator", moved_critic, generator_loss)):
        for name in before:
            if name.startswith(player):
                where = np.unravel_index(np.abs(after[name] - before[name]).argmax(), before[name].shape)
                slopes = []
                for sign in (1, -1):
                    shifted = {**values, name: values[name].astype("float64")}
                    shifted[name][where] += sign * 1e-5
                    in_float64(shifted)
                    slopes.append(sign * loss().item())
                step = after[name][where] - before[name][where]
                slope = sum(slopes) / 2e-5
                close(step, np.array(-1e-3 * np.sign(slope)), rtol=2e-2)


def test_the_optimizers_of_the_game_start_anew_with_each_class():
    """31d: learning the same images twice from φ with the same noise ends at the same W, whatever was between."""
    gan, ends = model(), []
    for between in (0, 2):
        for _ in range(between):
            gan.play(gan.players, 1 - images_of_a_class(), 2, Stream(8, "other"))
        gan.players.become(gan.phi)
        gan.play(gan.players, images_of_a_class(), 2, Stream(5, "noise"))
        ends.append(arrays(gan.players))
    for name, array in ends[0].items():
        assert np.array_equal(array, ends[1][name])


def test_no_image_enters_another_one_s_value():
    """31d: the penalty is for each sample, so the critic must not mix them."""
    gan, x = model(), images_of_a_class()
    values = host(gan.phi.critic(x))
    close(gan.phi.critic(x[1:2]), values[1:2], rtol=1e-4, atol=1e-5)
    close(gan.phi.critic(x.flip(0)), values[::-1], rtol=1e-4, atol=1e-5)


def test_training_sees_no_class_of_the_test_split():
    """31e."""
    data, seen = classes(), set()
    gan = model()
    drawn, play = batches(data), gan.play

    def noted(players, images, steps, noise):
        for image in host(images):
            seen.add(image.tobytes())
        return play(players, images, steps, noise)

    gan.play = noted
    fit = gan.fit(drawn)
    for _ in range(20):
        next(fit)
    train, test = ({image.tobytes() for image in data.arrays(split)[0]} for split in ("train", "test"))
    assert seen <= train and not seen & test and len(seen) > 20


def test_an_update_waits_for_nothing_and_is_the_same_on_every_backend(backend):
    gan = model(batch_size=2)
    episode = next(iter(figr.episodes_from(batches(), 2, 3, 0)))
    with counting() as counts:
        next(gan.updates(iter([episode])))
    assert counts.synchronizations == 0

    def train():
        gan = model(batch_size=2, inner_lr=1e-4)
        fit = gan.fit(batches())
        next(fit), next(fit)
        return arrays(gan.players)

    same_elsewhere(train, backend, rtol=1e-3, atol=2e-4)


def test_an_adapted_copy_samples_and_the_model_stays():
    gan = model()
    before = arrays(gan.phi) | {f"W {name}": a for name, a in arrays(gan.players).items()}
    support = Support(images_of_a_class(), tensor([0, 0, 0]), ("a",))
    copy = gan.adapt(support)
    assert type(copy) is figr.FewShotGAN
    after = arrays(gan.phi) | {f"W {name}": a for name, a in arrays(gan.players).items()}
    for name, array in before.items():
        assert np.array_equal(array, after[name])
    images = host(copy.sample(5, Stream(1, "s")))
    assert images.shape == (5, 1, 8, 8) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(copy.sample(5, Stream(1, "s"))))
    assert np.array_equal(images, host(gan.adapt(support).sample(5, Stream(1, "s"))))
    assert not np.array_equal(images, host(gan.sample(5, Stream(1, "s"))))
    with pytest.raises(UsageError, match=r"the support's images are \(1, 4, 8\)"):
        gan.adapt(Support(images_of_a_class()[:, :, :4], support.labels, support.classes))


def test_many_updates_on_one_class_bring_its_images():
    """The game itself: after it, samples are nearer to the class than to its negative."""
    gan = model(width=8, inner_lr=2e-3)
    real = images_of_a_class()
    made = host(gan.learn(real, 100).sample(20, Stream(0, "s"))).mean(0)
    target = host(real).mean(0)
    assert np.abs(made - target).mean() < 0.6 * np.abs(made - (1 - target)).mean()


def test_figures_and_pictures_of_unseen_classes(monkeypatch):
    monkeypatch.setattr(figr, "JUDGE_STEPS", 60)
    gan, data = model(), classes()
    figures = gan.evaluate(data, Stream(0, "e"))
    assert set(figures) == {
        "accepted", "accepted_interval", "accepted_2_steps", "accepted_before", "accepted_real", "spread", "classes",
    }  # fmt: skip
    assert figures["accepted_real"] == 100 and 0 <= figures["accepted"] <= 100 and figures["spread"] > 0
    (drawn,) = gan.illustrate(data, Stream(0, "i")).values()
    assert drawn.shape == (64, 1, 8, 8)
    assert any(np.array_equal(host(drawn[0]), image) for image in data.arrays("test")[0])


def test_data_and_options_that_do_not_fit_are_refused_at_once():
    plain = Dataset("plain", {"train": ArrayImages(np.zeros((9, 1, 8, 8), np.uint8))}, (1, 8, 8))
    with pytest.raises(DataError, match="no labels"):
        model().fit(batches(plain))
    with pytest.raises(UsageError, match="sides must be multiples of 4, the images are 9 × 8"):
        figr.FewShotGAN(SMALL, DataSpec(name="odd", channels=1, height=9, width=8, count=1), Stream(0, "f"))
    for options, message in (
        ({"shot": 0}, "shot must be from 1"), ({"inner_lr": 0.0}, "inner_lr must be from"), ({"width": 0}, "width"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            figr.Config(**options)
