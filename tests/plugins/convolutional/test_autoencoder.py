"""The autoencoder: its equations against SciPy, mixtures and enumeration, and its training, sampling and repairs."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import assert_gradients, close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.convolutional import autoencoder as ae


def place(array):
    return library.current().from_host(np.asarray(array))


def drawn_and_given():
    """Logits and images of two channels."""
    return st.tuples(reals((3, 2, 2, 3), -8, 8), reals((3, 2, 2, 3), 0, 1))


# ---------------------------------------------------------------- equations


@verifies(ae.cross_entropy)
@given(drawn_and_given())
def test_cross_entropy_adds_up_the_pixels_of_an_image(case):
    a, x = case
    logits, images = tensors(case)
    expected = sum(-(p * log_expit(b) + (1 - p) * log_expit(-b)) for b, p in zip(a.ravel(), x.ravel())) / 3
    close(ae.cross_entropy(logits, images), np.array(expected), rtol=1e-9)
    close(tinygen.grad(ae.cross_entropy(logits, images), logits), (expit(a) - x) / 3, rtol=1e-9)
    gradcheck(lambda b: ae.cross_entropy(b, images), [logits], order=2)


@verifies(ae.cross_entropy)
@given(reals((2, 1, 2, 2), 0.01, 0.99), reals((2, 1, 2, 2), -1, 1))
def test_cross_entropy_is_least_where_the_drawing_is_the_image_and_is_the_entropy_there(x, away):
    best, other, images = tensors((np.log(x / (1 - x)), np.log(x / (1 - x)) + away, x))
    entropy = sum(scipy.stats.bernoulli(p).entropy() for p in x.ravel()) / 2
    close(ae.cross_entropy(best, images), np.array(entropy), rtol=1e-9)
    divergence = scipy.stats.entropy(
        [x.ravel(), 1 - x.ravel()], [expit(host(other)).ravel(), expit(-host(other)).ravel()]
    )
    close(ae.cross_entropy(other, images), np.array(entropy + divergence.sum() / 2), rtol=1e-9)


@verifies(ae.squared_error)
@given(drawn_and_given())
def test_squared_error_is_the_squared_distance_of_an_image(case):
    a, x = case
    logits, images = tensors(case)
    expected = np.mean([np.linalg.norm((expit(b) - y).ravel()) ** 2 for b, y in zip(a, x)])
    close(ae.squared_error(logits, images), np.array(expected), rtol=1e-9)
    gradcheck(lambda b: ae.squared_error(b, images), [logits], order=2)


@verifies(ae.cross_entropy, ae.squared_error)
@given(st.sampled_from([1e2, 1e4]), st.sampled_from(["float32", "float64"]))
def test_losses_stay_finite_for_any_confidence(a, dtype):
    logits, images = tensors((np.full((1, 1, 1, 2), a), np.array([[[[0.0, 1.0]]]])), dtype)
    close(ae.cross_entropy(logits, images).item(), np.array(a), rtol=1e-6)
    close(ae.squared_error(logits, images).item(), np.array(1.0), rtol=1e-6)


@verifies(ae.add_noise)
@given(reals((5, 3)), reals((5, 3)), st.floats(0.01, 2))
def test_noise_is_in_units_of_each_numbers_spread(z, noise, tau):
    codes, epsilon = tensors((z, noise))
    expected = np.stack([z[:, j] + tau * np.std(z[:, j]) * noise[:, j] for j in range(3)], axis=1)
    close(ae.add_noise(codes, epsilon, tau), expected, rtol=1e-9, atol=1e-12)
    scale = np.array([0.5, 3.0, -2.0])  # what scales the codes scales all: nothing is won by it
    close(ae.add_noise(codes * tinygen.tensor(place(np.abs(scale))), epsilon, tau), expected * np.abs(scale), rtol=1e-9)
    close(ae.add_noise(codes, epsilon, 0.0), z)
    assert_gradients(lambda c: ae.add_noise(c, epsilon, tau), z)


@verifies(ae.update_moments)
@given(seeds(), st.integers(1, 3), st.floats(0.01, 0.99), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_moments_are_those_of_all_codes_with_fading_weights(seed, d, rho, sizes):
    """Each batch weighs ρ (1 − ρ)^age, what was there first the rest; NumPy's weighted moments of all points."""
    random = np.random.default_rng(seed)
    start = random.normal(size=(6, d))
    batches = [start, *(random.normal(size=(n, d)) * 2 + 1 for n in sizes)]
    mean, covariance = place(start.mean(0)), place(np.atleast_2d(np.cov(start.T, bias=True)))
    for codes in batches[1:]:
        mean, covariance = ae.update_moments(mean, covariance, place(codes), rho)
    shares = [(1 - rho) ** len(sizes), *(rho * (1 - rho) ** age for age in reversed(range(len(sizes))))]
    weights = np.concatenate([np.full(len(b), share / len(b)) for b, share in zip(batches, shares)])
    points = np.concatenate(batches)
    close(mean, np.average(points, axis=0, weights=weights), rtol=1e-9)
    expected = np.atleast_2d(np.cov(points.T, aweights=weights, bias=True))
    close(covariance, expected, rtol=1e-8, atol=1e-10)


@verifies(ae.draw_codes)
@given(seeds(), st.integers(1, 3), st.integers(1, 4))
def test_codes_have_the_mean_and_covariance_exactly(seed, d, rank):
    """The law of a linear map: normal numbers that are ± √d along each axis have the moments 0 and I exactly."""
    random = np.random.default_rng(seed)
    root, mean = random.normal(size=(d, rank)), random.normal(size=d)
    covariance = root @ root.T  # of any rank
    normal = math.sqrt(d) * np.concatenate([np.eye(d), -np.eye(d)])
    codes = host(ae.draw_codes(place(mean), place(covariance), place(normal)))
    close(codes.mean(0), mean, rtol=1e-7, atol=1e-7)
    close(np.atleast_2d(np.cov(codes.T, bias=True)), covariance, rtol=1e-6, atol=1e-6)


@verifies(ae.draw_codes)
def test_codes_are_normally_distributed():
    normal = Stream(0, "z").normal((4000, 2), dtype="float64")
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    codes = host(ae.draw_codes(place([1.0, -1.0]), place(covariance), normal))
    along = np.array([0.3, -1.2])
    law = scipy.stats.norm(along @ [1.0, -1.0], math.sqrt(along @ covariance @ along))
    assert scipy.stats.kstest(codes @ along, law.cdf).pvalue > 1e-3


@verifies(ae.fill)
@given(reals((2, 3, 4)), reals((2, 3, 4)), seeds())
def test_fill_takes_each_pixel_from_where_it_is_known(given_, drawn, seed):
    missing = np.random.default_rng(seed).random((3, 4)) < 0.5
    expected = given_.copy()
    for i, j in np.ndindex(3, 4):
        if missing[i, j]:
            expected[:, i, j] = drawn[:, i, j]
    x, y = tensors((given_, drawn))
    filled = host(ae.fill(x, y, tinygen.tensor(place(missing))))
    assert np.array_equal(filled, expected)


# ---------------------------------------------------------------- training

SMALL = ae.Config(batch_size=8, code=3, width=3, repair_steps=5)
DATA = DataSpec(name="noise", channels=2, height=8, width=12, count=40)


def model(config=SMALL, seed=0, data=DATA):
    return ae.Autoencoder(config, data, Stream(seed, "autoencoder"))


def pictures(seed=0):
    return ArrayImages(np.random.default_rng(seed).integers(0, 256, (40, 2, 8, 12)).astype(np.uint8))


def batches(size=8):
    return Batches(pictures(), size, Stream(0, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import convolutional

    spec = next(spec for spec in convolutional.tinygen_algorithms() if spec.name == "autoencoder")
    assert set(spec.verbs) == set(verbs_of(ae.Autoencoder))


@pytest.mark.parametrize("loss", ae.LOSS)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_step_reaches_every_parameter(loss, optimizer):
    coder = model(ae.Config(batch_size=8, code=3, width=3, loss=loss, optimizer=optimizer))
    before = coder.network.state_dict()
    step = next(coder.fit(batches()))
    assert set(step.metrics) == {"loss", "mse"}
    for name, parameter in coder.network.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
        assert not np.array_equal(before[name], parameter.numpy()), f"{name} did not move"


def test_sgd_goes_against_the_gradient_of_the_batch():
    coder = model(ae.Config(batch_size=8, code=3, width=3, optimizer="sgd", lr=0.25))
    before = coder.network.state_dict()
    next(coder.fit(batches()))
    for name, parameter in coder.network.named_parameters():  # the first step has no momentum yet
        close(parameter, before[name] - 0.25 * parameter.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_step_before_do_not_count():
    states = []
    for left_over in (False, True):
        coder = model()
        if left_over:
            for parameter in coder.network.parameters():
                parameter.grad = tinygen.full(parameter.shape, 100.0)
        next(coder.fit(batches()))
        states.append(coder.network.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@pytest.mark.parametrize("loss", ae.LOSS)
def test_the_loss_by_every_parameter_against_finite_differences(loss):
    network = model(ae.Config(code=2, width=2), data=DataSpec(name="n", channels=1, height=4, width=4, count=9)).network
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    images, noise = tensors(
        (np.random.default_rng(0).random((5, 1, 4, 4)), np.random.default_rng(1).normal(size=(5, 2)))
    )
    names, parameters = zip(*network.named_parameters())

    def objective(*values):
        for name, value in zip(names, values):
            *path, last = name.split(".")
            module = network
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        return ae.LOSS[loss](network.decode(ae.add_noise(network.encode(images), noise, 0.3)), images)

    gradcheck(objective, list(parameters), rtol=1e-4)


def test_the_moments_follow_the_codes_of_the_training_images():
    coder, data = model(), batches()
    fit = coder.fit(data)
    images = [next(batches()).images]
    next(fit)
    codes = host(coder.encode(images[0]))  # the same images and the same networks as in the step
    close(coder.mean, ae.MEMORY * codes.mean(0), rtol=1e-4, atol=1e-6)
    assert host(coder.mean).dtype == np.float32 and host(coder.covariance).dtype == np.float32
    seen = (1 - ae.MEMORY) * np.eye(3) + ae.MEMORY * np.cov(codes.T, bias=True)
    shift = ae.MEMORY * (1 - ae.MEMORY) * np.outer(codes.mean(0), codes.mean(0))
    close(coder.covariance, seen + shift, rtol=1e-4, atol=1e-6)


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        coder, data = model(), batches()
        fit = coder.fit(data)
        next(fit), next(fit)
        assert all(p.backend is library.current() for p in coder.network.parameters())
        return coder.network.state_dict() | {"mean": host(coder.mean), "covariance": host(coder.covariance)}

    same_elsewhere(two_steps, backend, rtol=1e-4, atol=1e-5)


def test_an_update_waits_for_nothing(backend):
    if backend.name != "strict":
        pytest.skip("the strict backend counts")
    from tinygen.testing.strict import counting

    fit = model().fit(batches())
    next(fit)
    with counting() as counts:
        next(fit)
    assert counts.to_host == counts.synchronizations == 0


# ---------------------------------------------------------------- what a trained one does


@settings(max_examples=8)
@given(seeds())
def test_samples_repeat_by_seed_and_lie_in_the_unit_range(seed):
    coder = model()
    images = host(coder.sample(5, Stream(seed, "s")))
    assert images.shape == (5, 2, 8, 12) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(coder.sample(5, Stream(seed, "s"))))
    assert not np.array_equal(images, host(coder.sample(5, Stream(seed + 1, "s"))))
    close(coder.sample(1, Stream(seed, "s")), images[:1], rtol=1e-5, atol=1e-6)  # n = 1 is the first of n = 5


@settings(max_examples=8)
@given(seeds())
def test_repair_keeps_known_pixels_and_does_not_look_at_missing_ones(seed):
    random, coder = np.random.default_rng(seed), model()
    image = random.random((2, 8, 12), np.float32)
    missing = random.random((8, 12)) < 0.4
    mask = tinygen.tensor(place(missing.astype(np.float32)))
    repaired = host(coder.repair(tinygen.tensor(place(image)), mask, Stream(0, "r")))
    assert np.array_equal(repaired[:, ~missing], image[:, ~missing]) and repaired.dtype == np.float32
    assert repaired.min() >= 0 and repaired.max() <= 1
    broken = np.where(missing, np.float32(np.nan), image)
    assert np.array_equal(host(coder.repair(tinygen.tensor(place(broken)), mask, Stream(0, "r"))), repaired)
    whole = coder.repair(tinygen.tensor(place(image)), None, Stream(0, "r"))
    close(whole, host(coder.decode(coder.encode(tinygen.tensor(place(image[None])))))[0])


def bars(count, seed):
    """A bright bar, down or across, at any of the places: images of few causes."""
    random = np.random.default_rng(seed)
    pixels = np.full((count, 1, 8, 8), 20, np.uint8)
    for image, down, at in zip(pixels, random.integers(0, 2, count), random.integers(1, 6, count)):
        image[(0, slice(None), slice(at, at + 2)) if down else (0, slice(at, at + 2))] = 230
    return ArrayImages(pixels)


@pytest.fixture(scope="module")
def trained():
    """One that knows bars; of the NumPy backend."""
    with library.using("numpy"):
        coder = model(
            ae.Config(batch_size=20, code=4, width=8, steps=200, lr=1e-2, average=0.9, repair_steps=30),
            data=DataSpec(name="bars", channels=1, height=8, width=8, count=200),
        )
        fit = coder.fit(Batches(bars(200, 0), 20, Stream(0, "batches")))
        for _ in range(200):
            next(fit)
    return coder


def test_it_learns_to_draw_again_what_it_has_not_seen(backend, trained):
    if backend.name != "numpy":
        pytest.skip("trained on the NumPy backend")
    images = bars(50, 1).images(np.arange(50))
    drawn = host(trained.decode(trained.encode(tinygen.tensor(images))))
    assert np.mean((drawn - images) ** 2) < 0.1 * images.var()


def test_repair_completes_a_bar(backend, trained):
    if backend.name != "numpy":
        pytest.skip("trained on the NumPy backend")
    for image in bars(6, 2).images(np.arange(6)):
        missing = np.zeros((8, 8), np.float32)
        missing[2:5, 2:5] = 1
        repaired = trained.repair(tinygen.tensor(image), tinygen.tensor(missing), Stream(0, "r")).numpy()
        hole = missing > 0
        assert np.mean((repaired[:, hole] - image[:, hole]) ** 2) < 0.5 * np.mean((0.35 - image[:, hole]) ** 2) + 0.02


def test_evaluate_measures_the_test_images(monkeypatch):
    monkeypatch.setattr(ae, "PIECE", 15)
    sets = {"train": pictures(0), "test": pictures(1)}
    coder = model()
    figures = coder.evaluate(Dataset("noise", sets, (2, 8, 12)), Stream(0, "e"))
    images = sets["test"].images(np.arange(40))
    drawn = host(coder.decode(coder.encode(tinygen.tensor(place(images))))).astype(float)
    squares = ((drawn - images) ** 2).mean((1, 2, 3))
    close(figures["mse"], np.array(squares.mean()), rtol=1e-5)
    close(figures["psnr"], np.array(np.mean(-10 * np.log10(squares))), rtol=1e-5)
    nats = -(images * np.log(drawn) + (1 - images) * np.log(1 - drawn)).sum((1, 2, 3)).mean()
    close(figures["nats"], np.array(nats), rtol=1e-4)
    assert figures["test_images"] == 40


# ---------------------------------------------------------------- refusals


def test_images_of_other_sizes_are_refused():
    with pytest.raises(UsageError, match="height and width must be multiples of 4, odd has 8 × 6") as caught:
        model(data=DataSpec(name="odd", channels=1, height=8, width=6, count=9))
    assert "--image-size 32" in caught.value.hint
    with pytest.raises(UsageError, match=r"autoencoder: trained on images of \(2, 8, 12\), got \(1, 8, 12\)"):
        model().repair(tinygen.tensor(place(np.zeros((1, 8, 12), np.float32))), None, Stream(0, "r"))


def test_options_are_checked():
    for options, message in (
        ({"code": 0}, "autoencoder: code must be from 1 to 4096, got 0"),
        ({"batch_size": 1}, "batch_size must be from 2"),
        ({"noise": -0.1}, "noise must be from 0 to 10"),
        ({"lr": 0.0}, "lr must be from 1e-08 to 10, got 0.0"),
        ({"loss": "l1"}, "loss must be one of cross_entropy, mse, got l1"),
        ({"optimizer": "adagrad"}, "optimizer must be one of adam, sgd"),
    ):
        with pytest.raises(UsageError, match=message):
            ae.Config(**options)
