"""The classifier: its equations against SciPy, loops and finite differences, what a shift of the image does to its
maps, and its training."""

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.convolutional import cnn


def place(array):
    return library.current().from_host(np.asarray(array))


def answers(classes=4):
    """Logits (n, classes) and labels (n,)."""
    return st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            reals((n, classes), -6, 6), st.lists(st.integers(0, classes - 1), min_size=n, max_size=n).map(np.array)
        )
    )


# ---------------------------------------------------------------- equations


@verifies(cnn.translate)
@given(reals((3, 2, 4, 5)), st.lists(st.integers(-2, 2), min_size=6, max_size=6))
def test_translate_is_a_shift_of_each_image(x, shifts):
    a, b = np.array(shifts).reshape(2, 3)
    moved = cnn.translate(tensors((x,))[0], place(a), place(b), 2)
    for i in range(3):  # SciPy's shift is by where a pixel goes, ours by where it comes from
        close(host(moved)[i], scipy.ndimage.shift(x[i], (0, -a[i], -b[i]), order=0, cval=0.0))


@verifies(cnn.convolve)
@given(reals((2, 3, 6, 7)), reals((2, 3, 5, 5)), st.sampled_from(["zeros", "circular"]))
def test_convolve_is_scipys_correlation_summed_over_channels(x, w, padding):
    """Property 6a."""
    boundary = {"zeros": "fill", "circular": "wrap"}[padding]
    expected = [
        [
            sum(
                scipy.signal.correlate2d(image[c], kernel[c], mode="full", boundary=boundary)[2:-2, 2:-2]
                for c in range(3)
            )
            for kernel in w
        ]
        for image in x
    ]
    close(cnn.convolve(*tensors((x, w)), padding), np.array(expected), rtol=1e-9, atol=1e-11)


@verifies(cnn.convolve)
@settings(max_examples=8)
@given(seeds(), st.sampled_from(["zeros", "circular"]))
def test_the_gradients_of_convolve_are_its_adjoints(seed, padding):
    """Property 6b: ⟨y, w ⋆ x⟩ is linear in each of x and w, so that each gradient of it gives it back."""
    random = np.random.default_rng(seed)
    x, w, y = tensors([random.normal(size=s) for s in ((2, 2, 5, 4), (3, 2, 5, 5), (2, 3, 5, 4))])
    product = (y * cnn.convolve(x, w, padding)).sum()
    gx, gw = tinygen.grad(product, [x, w])
    close((host(gx) * host(x)).sum(), host(product), rtol=1e-9, atol=1e-9)
    close((host(gw) * host(w)).sum(), host(product), rtol=1e-9, atol=1e-9)


@verifies(cnn.convolve)
@given(reals((1, 1, 11, 12)), reals((2, 1, 5, 5)), st.integers(-2, 2), st.integers(-2, 2))
def test_a_shifted_image_has_shifted_maps(x, w, a, b):
    """Property 6d: away from the borders with zeros around, everywhere with the image around."""
    moved = np.roll(x, (a, b), (2, 3))
    for padding, rim in (("circular", 0), ("zeros", 4)):
        inner = (..., slice(rim, 11 - rim), slice(rim, 12 - rim))
        there, here = (host(cnn.convolve(*tensors((image, w)), padding)) for image in (moved, x))
        close(there[inner], np.roll(here, (a, b), (2, 3))[inner], atol=1e-10)
    assert a == b == 0 or not np.allclose(there, np.roll(here, (a, b), (2, 3)))  # but not at the borders


@verifies(cnn.convolve)
@given(reals((1, 2, 7, 7)), reals((2, 2)))
def test_a_kernel_with_one_weight_in_its_middle_is_a_product_of_matrices(x, m):
    """Property 6g."""
    w = np.zeros((2, 2, 5, 5))
    w[:, :, 2, 2] = m
    close(cnn.convolve(*tensors((x, w))), np.tensordot(m, x[0], 1)[None], rtol=1e-9, atol=1e-12)


@verifies(cnn.pool)
@given(reals((2, 3, 5, 6)))
def test_pool_takes_the_largest_of_four_and_its_gradient_goes_there(x):
    (t,) = tensors((x,))
    expected, slopes = np.zeros((2, 3, 2, 3)), np.zeros_like(x)
    for n, c, i, j in np.ndindex(expected.shape):
        block = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        k, m = np.unravel_index(np.argmax(block), (2, 2))
        expected[n, c, i, j] = max(0, block[k, m])
        slopes[n, c, 2 * i + k, 2 * j + m] = block[k, m] > 0
    y = cnn.pool(t)
    close(y, expected)
    close(tinygen.grad(y.sum(), t), slopes)


@verifies(cnn.cross_entropy)
@given(answers(), st.floats(-50, 50))
def test_cross_entropy_is_the_mean_surprise_and_its_slope_p_minus_one_hot(case, shift):
    """Property 6e, with its invariance to a shift of the logits."""
    z, y = case
    n = len(y)
    (t,) = tensors((z,))
    loss = cnn.cross_entropy(t, tinygen.tensor(place(y)))
    close(loss, np.array(-log_softmax(z, 1)[np.arange(n), y].mean()), rtol=1e-9, atol=1e-12)
    close(tinygen.grad(loss, t), (softmax(z, 1) - np.eye(4)[y]) / n, rtol=1e-9, atol=1e-12)
    close(cnn.cross_entropy(t + shift, tinygen.tensor(place(y))), host(loss), rtol=1e-9, atol=1e-10)
    gradcheck(lambda a: cnn.cross_entropy(a, tinygen.tensor(place(y))), [t], order=2)


@verifies(cnn.cross_entropy)
@given(st.sampled_from([1e2, 1e4]), st.sampled_from(["float32", "float64"]))
def test_cross_entropy_stays_finite_for_any_confidence(a, dtype):
    (z,) = tensors((np.array([[a, -a], [a, -a]]),), dtype)
    close(cnn.cross_entropy(z, tinygen.tensor(place([0, 1]))).item(), np.array(a), rtol=1e-6)  # 0 and 2a


@verifies(cnn.error_rate)
@given(answers())
def test_error_rate_counts_the_images_told_wrongly(case):
    z, y = case
    expected = sum(row.tolist().index(row.max()) != label for row, label in zip(z, y)) / len(y)
    rate = cnn.error_rate(tensors((z,))[0], tinygen.tensor(place(y)))
    close(rate, np.array(expected), rtol=1e-9)
    assert rate.dtype == z.dtype


@verifies(cnn.annealing)
@given(st.integers(1, 1000))
def test_the_rate_falls_along_half_a_cosine_to_a_hundredth(steps):
    rates = [cnn.annealing(k, steps) for k in range(steps + 3)]
    close(rates[0], np.array(1.0))
    close(np.array(rates[steps:]), np.full(3, 0.01))
    assert all(a >= b for a, b in itertools.pairwise(rates))
    # the points (k, rate) lie on a circle's height: 2 rate' = 1 + Re exp(iπ k/K)
    turns = np.exp(1j * np.pi / steps) ** np.arange(steps + 1)
    close(np.array(rates[: steps + 1]), 0.01 + 0.99 * (1 + turns.real) / 2, rtol=1e-9)


# ---------------------------------------------------------------- the network

SMALL = cnn.Config(batch_size=8, width=3, features=5)
DATA = DataSpec(name="noise", channels=2, height=8, width=12, count=40, classes=("a", "b", "c"))


def model(config=SMALL, seed=0, data=DATA):
    return cnn.CNN(config, data, Stream(seed, "cnn"))


def pictures(seed=0):
    random = np.random.default_rng(seed)
    return ArrayImages(random.integers(0, 256, (40, 2, 8, 12)).astype(np.uint8), random.integers(0, 3, 40))


def batches(size=8):
    return Batches(pictures(), size, Stream(0, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import convolutional

    spec = next(spec for spec in convolutional.tinygen_algorithms() if spec.name == "cnn")
    assert set(spec.verbs) == set(verbs_of(cnn.CNN))


@verifies(cnn.convolve, cnn.pool)
@given(seeds(), st.integers(-2, 2), st.integers(-2, 2))
def test_a_circular_shift_by_four_pixels_shifts_the_maps_by_two_and_one(seed, a, b):
    """Property 6d of the whole extractor: two stages of pooling by 2 know shifts by 4 exactly."""
    extractor = model(cnn.Config(width=3, features=5, padding="circular"), seed % 7)
    image = np.random.default_rng(seed).random((2, 8, 12), np.float32)
    moved = np.roll(image, (4 * a, 4 * b), (1, 2))
    for factor, here, there in zip(
        (2, 1), *(extractor.feature_maps(tinygen.tensor(place(each))) for each in (image, moved))
    ):
        close(there, np.roll(host(here), (factor * a, factor * b), (1, 2)), rtol=1e-5, atol=1e-6)


@given(seeds(), st.floats(0.5, 20), st.floats(-5, 5))
def test_a_stage_ignores_scale_and_shift_of_what_it_finds(seed, scale, shift):
    """Property 6f: normalized over images and places, maps have mean 0 and variance 1 whatever the weights' size."""
    stage = model().network.first
    x = tinygen.tensor(place(np.random.default_rng(seed).random((6, 2, 8, 12), np.float32)))
    found = cnn.convolve(x, stage.weight)
    normal = host(stage.norm(found))
    close(normal.mean((0, 2, 3)), np.zeros(3), atol=1e-5)
    close(normal.var((0, 2, 3)), np.ones(3), rtol=2e-2)  # ε = 1e-5 beside variances of some hundredths
    assert (normal.var((0, 2, 3)) <= 1 + 1e-5).all()
    close(stage.norm(scale * found * 100 + shift), host(stage.norm(found * 100)), rtol=1e-3, atol=1e-3)


def test_maps_features_and_logits_have_their_shapes():
    classifier = model()
    images = tinygen.tensor(place(pictures().images(np.arange(5))))
    first, second = classifier.feature_maps(images[0])
    assert first.shape == (3, 4, 6) and second.shape == (6, 2, 3)
    features, logits = classifier.features(images), classifier.logits(images)
    assert features.shape == (5, 5) and logits.shape == (5, 3)
    assert features.dtype == np.float32 and not features.requires_grad
    for found in (first, second, features):
        assert host(found).min() >= 0
    # the last layer is linear in the features, dropout is off, and an image does not see its neighbours
    last = classifier.averaged.out
    close(logits, host(features) @ last.weight.numpy().T + last.bias.numpy(), rtol=1e-5, atol=1e-6)
    close(classifier.features(images[2:3]), host(features)[2:3], rtol=1e-5, atol=1e-6)


def test_pieces_are_the_whole(monkeypatch):
    classifier = model()
    images = tinygen.tensor(place(pictures().images(np.arange(7))))
    whole = host(classifier.features(images))
    monkeypatch.setattr(cnn, "PIECE", 3)
    close(classifier.features(images), whole, rtol=1e-5, atol=1e-6)


def test_the_sizes_of_maps_are_the_halves_rounded_down():
    odd = DataSpec(name="odd", channels=1, height=11, width=6, count=3, classes=("a", "b"))
    first, second = model(data=odd).feature_maps(tinygen.tensor(place(np.zeros((1, 11, 6), np.float32))))
    assert first.shape == (3, 5, 3) and second.shape == (6, 2, 1)


# ---------------------------------------------------------------- training


def test_a_step_reaches_every_parameter():
    classifier = model()
    before = classifier.network.state_dict()
    step = next(classifier.fit(batches()))
    assert set(step.metrics) == {"loss", "error"}
    for name, parameter in classifier.network.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
        assert not np.array_equal(before[name], parameter.numpy()), f"{name} did not move"
    assert classifier.optimizer.lr == SMALL.lr * cnn.annealing(1, SMALL.steps)


def test_gradients_of_the_step_before_do_not_count():
    states = []
    for left_over in (False, True):
        classifier = model()
        if left_over:
            for parameter in classifier.network.parameters():
                parameter.grad = tinygen.full(parameter.shape, 100.0)
        next(classifier.fit(batches()))
        states.append(classifier.network.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


def test_the_loss_by_every_parameter_against_finite_differences():
    network = model(cnn.Config(width=2, features=3, dropout=0.0)).network
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    (images,) = tensors((np.random.default_rng(0).random((5, 2, 8, 12)),))
    labels = tinygen.tensor(place([0, 1, 2, 1, 0]))
    names, parameters = zip(*network.named_parameters())

    def loss(*values):
        for name, value in zip(names, values):
            *path, last = name.split(".")
            module = network
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        return cnn.cross_entropy(network(images), labels)

    gradcheck(loss, list(parameters), rtol=1e-4)


@given(seeds())
def test_images_are_moved_by_each_shift_alike(seed):
    classifier = model(cnn.Config(width=2, features=2, shift=1), seed)
    dot = np.zeros((200, 1, 5, 5), np.float32)
    dot[:, 0, 2, 2] = 1
    moved = host(classifier.moved(tinygen.tensor(place(dot))))
    counts = moved.sum((0, 1))
    assert counts.sum() == 200 and (counts[1:4, 1:4] > 0).all()  # nine places; 200 · (8/9)^200 ≪ 1
    assert counts[1:4, 1:4].max() < 60  # 22 each; six standard deviations are 27
    assert moved.dtype == np.float32


def test_without_shift_images_stay():
    images = next(batches()).images
    assert model(cnn.Config(width=2, shift=0)).moved(images) is images


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        classifier, data = model(), batches()
        fit = classifier.fit(data)
        next(fit), next(fit)
        assert all(p.backend is library.current() for p in classifier.network.parameters())
        return classifier.network.state_dict()

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


def stripes(count, seed):
    """Two classes that no single pixel tells: stripes down and stripes across, at any phase."""
    random = np.random.default_rng(seed)
    labels, phase = random.integers(0, 2, count), random.integers(0, 2, count)
    wave = (np.arange(8) // 2)[None] + phase[:, None]
    pixels = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None]) % 2 * np.ones((count, 8, 8))
    return ArrayImages((200 * pixels + random.integers(0, 50, pixels.shape)).astype(np.uint8)[:, None], labels)


def test_it_learns_to_tell_stripes():
    sets = {name: stripes(100, seed) for seed, name in enumerate(("train", "test"))}
    data = Dataset("stripes", sets, (1, 8, 8), ("down", "across"))
    classifier = model(cnn.Config(batch_size=20, width=3, features=6, steps=40, average=0.8), data=data.spec)
    fit = classifier.fit(Batches(sets["train"], 20, Stream(0, "batches")))
    for _ in range(40):
        next(fit)
    figures = classifier.evaluate(data, Stream(0, "e"))
    assert figures["error_percent"] <= 5 and figures["nats"] < 0.5  # log 2 = 0.69 by guessing


def test_evaluate_counts_on_the_test_images():
    sets = {"train": pictures(0), "test": pictures(1)}
    classifier = model()
    figures = classifier.evaluate(Dataset("noise", sets, (2, 8, 12), ("a", "b", "c")), Stream(0, "e"))
    images, labels = (getattr(sets["test"], part)(np.arange(40)) for part in ("images", "labels"))
    logits = host(classifier.logits(tinygen.tensor(place(images)))).astype(float)
    wrong = (logits.argmax(1) != labels).mean()
    close(figures["error_percent"], np.array(100 * wrong), rtol=1e-5)
    close(figures["standard_error"], np.array(100 * math.sqrt(wrong * (1 - wrong) / 40)), rtol=1e-5)
    close(figures["nats"], np.array(-log_softmax(logits, 1)[np.arange(40), labels].mean()), rtol=1e-5)
    assert figures["test_images"] == 40


# ---------------------------------------------------------------- refusals


def test_data_without_classes_or_of_other_ones_is_refused():
    for classes, got in (((), "none"), (("a",), "1")):
        data = DataSpec(name="plain", channels=1, height=8, width=8, count=9, classes=classes)
        with pytest.raises(UsageError, match=f"^cnn: learns to tell classes, plain has {got}") as caught:
            model(data=data)
        assert "--data glyphs" in caught.value.hint
    with pytest.raises(UsageError, match="images must be 4 × 4 pixels or more, thin has 3 × 8"):
        model(data=DataSpec(name="thin", channels=1, height=3, width=8, count=9, classes=("a", "b")))
    other = Dataset("other", {"train": pictures(), "test": pictures()}, (2, 8, 12), ("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="cnn: trained on 3 classes, other has 4"):
        model().evaluate(other, Stream(0, "e"))


def test_options_are_checked():
    for options, message in (
        ({"width": 0}, "cnn: width must be from 1 to 4096, got 0"),
        ({"batch_size": 1}, "batch_size must be from 2"),
        ({"dropout": 1.0}, "dropout must be from 0 to 0.99"),
        ({"shift": -1}, "shift must be from 0 to 64"),
        ({"padding": "mirror"}, "padding must be one of zeros, circular, got mirror"),
    ):
        with pytest.raises(UsageError, match=message):
            cnn.Config(**options)
