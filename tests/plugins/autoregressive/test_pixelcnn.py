"""PixelCNN: its equations, exact sums over all small images, what each output sees, and the sampler that remembers."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.autograd import no_grad, tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds, shapes
from tinygen_plugins.autoregressive import pixelcnn

RESIDUAL = {"network": "residual", "features": 6, "blocks": 1}
GATED = {"network": "gated", "features": 3, "blocks": 1}
CONDITIONAL = GATED | {"conditional": True}
NETWORKS = pytest.mark.parametrize("options", [RESIDUAL, GATED, CONDITIONAL], ids=["residual", "gated", "conditional"])


def model(options, shape=(1, 3, 3), seed=0, sharpness=3.0, **more):
    """A small model whose laws are far from even: untrained, but with large weights."""
    c, h, w = shape
    data = DataSpec(name="small", channels=c, height=h, width=w, count=20, classes=("a", "b"))
    made = pixelcnn.PixelCNN(pixelcnn.Config(**{"batch_size": 4} | options | more), data, Stream(seed, "pixelcnn"))
    for network in (made.network, made.average.averaged):
        for parameter in network.parameters():
            parameter.data = parameter.data * sharpness
    return made


def place(array):
    return library.current().from_host(np.asarray(array))


def all_images(shape, levels=2):
    """Every image there is, (Lᵈ, c, h, w) of levels."""
    every = itertools.product(range(levels), repeat=math.prod(shape))
    return np.array(list(every), np.int64).reshape(-1, *shape)


def nats(made, images, label=0):
    """−log p of images (n, c, h, w) of levels."""
    levels = tensor(images)
    labels = tensor(np.full(len(images), label)) if made.classes else None
    with no_grad():
        logits = made.average.averaged(made.scaled(levels), labels)
        return host(pixelcnn.negative_log_likelihood(logits, levels)).astype(float)


# ---------------------------------------------------------------- equations


@verifies(pixelcnn.quantize)
@given(st.integers(2, 256), st.integers(0, 255))
def test_levels_are_equal_parts_of_the_brightness(levels, byte):
    image = tensor(np.full((1, 1, 1, 1), byte, np.uint8) * np.float32(1 / 255))
    expected = min(byte * levels // 255, levels - 1)  # in whole numbers
    assert host(pixelcnn.quantize(image, levels)).item() == expected
    every = np.arange(levels, dtype=np.float32) / np.float32(levels - 1)
    close(pixelcnn.quantize(tensor(every), levels), np.arange(levels))  # a drawn image keeps its levels


@verifies(pixelcnn.causal_mask)
@given(
    st.sampled_from("AB"), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 3]),
)  # fmt: skip
def test_the_mask_by_going_through_every_weight(kind, inputs, outputs, rows, columns, colours):
    mask = host(pixelcnn.causal_mask(kind, inputs, outputs, rows, columns, colours))
    assert mask.shape == (outputs, inputs, rows, columns) and mask.dtype == np.float32
    for (o, i, y, x), value in np.ndenumerate(mask):
        before, here = (y, x) < (rows - 1, columns // 2), (y, x) == (rows - 1, columns // 2)
        place_of_input, place_of_output = "RGB"[i % colours], "RGB"[o % colours]
        order = ["R", "G", "B"].index
        seen = order(place_of_input) - order(place_of_output) < (0 if kind == "A" else 1)
        assert value == (before or (here and seen)), (o, i, y, x)


@verifies(pixelcnn.gate)
@given(reals((2, 6, 2, 3), -8, 8))
def test_the_gate_is_tanh_times_sigmoid(features):
    (x,) = tensors((features,))
    close(pixelcnn.gate(x), np.tanh(features[:, :3]) * expit(features[:, 3:]), rtol=1e-9)
    gradcheck(pixelcnn.gate, [x], order=2)


@verifies(pixelcnn.negative_log_likelihood)
@given(reals((2, 3, 1, 2, 2), -9, 9), seeds())
def test_the_likelihood_is_the_product_of_the_pixels(logits, seed):
    levels = np.random.default_rng(seed).integers(0, 3, (2, 1, 2, 2))
    laws = softmax(logits, 1)
    expected = [
        -sum(math.log(laws[n, levels[n, c, i, j], c, i, j]) for c, i, j in np.ndindex(1, 2, 2)) for n in range(2)
    ]
    (x,) = tensors((logits,))
    close(pixelcnn.negative_log_likelihood(x, tensor(levels)), np.array(expected), rtol=1e-9)
    gradcheck(lambda a: pixelcnn.negative_log_likelihood(a, tensor(levels)), [x])


@verifies(pixelcnn.bits_per_dimension, pixelcnn.negative_log_likelihood)
@given(st.integers(2, 256), st.integers(1, 4))
def test_even_laws_cost_the_logarithm_of_their_levels_in_bits(levels, side):
    logits = tinygen.zeros(1, levels, 1, side, side, dtype="float64")
    cost = pixelcnn.negative_log_likelihood(logits, tinygen.zeros(1, 1, side, side, dtype="int64")).item()
    close(pixelcnn.bits_per_dimension(cost, side * side), np.log2(levels), rtol=1e-9)


@verifies(pixelcnn.draw_level)
@given(reals(shapes(2, 2, max_side=6), -6, 6), seeds())
def test_a_level_is_drawn_by_inversion(logits, seed):
    u = np.random.default_rng(seed).uniform(size=len(logits))
    u[0] = 0.0
    sums = np.cumsum(softmax(logits, 1), 1)
    expected = [min(int(np.searchsorted(s, v, side="right")), len(s) - 1) for s, v in zip(sums, u)]
    drawn = host(pixelcnn.draw_level(tensor(logits), place(u)))
    assert drawn.dtype == np.int64 and drawn.tolist() == expected


@verifies(pixelcnn.draw_level)
@given(reals((1, 4), -2, 2), seeds())
def test_levels_come_as_often_as_they_should(logits, seed):
    u = place(np.random.default_rng(seed).uniform(size=4000))
    drawn = host(pixelcnn.draw_level(tensor(np.repeat(logits, 4000, 0)), u))
    seen = np.bincount(drawn, minlength=4)
    assert scipy.stats.chisquare(seen, 4000 * softmax(logits[0])).pvalue > 1e-5


@verifies(pixelcnn.draw_level)
@given(st.sampled_from([0.0, 1 - 2**-53]), st.integers(0, 2))
def test_what_is_impossible_is_never_drawn(u, certain):
    logits = np.full((1, 3), -np.inf)
    logits[0, certain] = 0.0
    assert host(pixelcnn.draw_level(tensor(logits), place([u]))).item() == certain


@verifies(pixelcnn.log_weights)
@given(reals((3, 2, 1, 2, 2), -6, 6), seeds())
def test_a_completion_weighs_what_it_says_of_the_known_pixels(logits, seed):
    random = np.random.default_rng(seed)
    levels, known = random.integers(0, 2, (3, 1, 2, 2)), random.integers(0, 2, (2, 2)).astype(float)
    laws = log_softmax(logits, 1)
    expected = [sum(laws[n, levels[n, 0, i, j], 0, i, j] for i, j in np.ndindex(2, 2) if known[i, j]) for n in range(3)]
    got = pixelcnn.log_weights(tensor(logits), tensor(levels), tensor(known))
    close(got, np.array(expected, float), rtol=1e-9)


# ---------------------------------------------------------------- exact sums over all images


@NETWORKS
@verifies(pixelcnn.negative_log_likelihood, pixelcnn.causal_mask)
@given(seed=seeds())
@settings(max_examples=5)
def test_the_probabilities_of_all_binary_images_add_up_to_one(options, seed):
    made = model(options, seed=seed)
    p = np.exp(-nats(made, all_images((1, 3, 3)), label=seed % 2))
    assert len(p) == 512 and p.max() > 1.2 / 512  # not even
    close(p.sum(), np.array(1.0), rtol=1e-5)


@NETWORKS
@verifies(pixelcnn.negative_log_likelihood, pixelcnn.causal_mask)
@given(seed=seeds())
@settings(max_examples=3)
def test_the_probabilities_of_all_coloured_images_add_up_to_one(options, seed):
    made = model(options, (3, 2, 1), seed, levels=3)
    p = np.exp(-nats(made, all_images((3, 2, 1), 3)))
    assert len(p) == 3**6
    close(p.sum(), np.array(1.0), rtol=1e-5)


@NETWORKS
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 1, 2)])
def test_the_sampler_draws_images_as_often_as_they_are_likely(options, shape):
    made, draws = model(options, shape), 6000
    labels = range(2) if made.classes else [0]
    levels = host(made.draw(Stream(1, "s").uniform((draws, *shape), dtype="float64")))
    images = all_images(shape)
    for label in labels:
        drawn = levels[label :: len(labels)].reshape(-1, math.prod(shape))
        numbers = drawn @ (2 ** np.arange(drawn.shape[1])[::-1])
        seen = np.bincount(numbers, minlength=len(images))
        expected = len(drawn) * np.exp(-nats(made, images, label))
        rare = expected < 5  # together one class, as χ² asks for
        seen, expected = (np.append(v[~rare], v[rare].sum()) for v in (seen, expected))
        close(expected.sum(), np.array(float(len(drawn))), rtol=1e-5)
        assert scipy.stats.chisquare(seen, expected * len(drawn) / expected.sum()).pvalue > 1e-4


# ---------------------------------------------------------------- what each output sees


def seen_by(made, shape):
    """Whether the logits of value k depend on value l in the order of reading, R, G, B within a pixel: (d, d)."""
    c, h, w = shape
    x = tensor(np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype(np.float32))
    labels = tensor(np.zeros(1, np.int64)) if made.classes else None

    def ordered(a):
        return a.transpose(0, 2, 3, 1).reshape(len(a), -1)  # (n, h w c)

    with no_grad():
        base = host(made.network(x, labels))
        rows = []
        for number in range(c * h * w):
            i, j, q = np.unravel_index(number, (h, w, c))
            moved = x.numpy()
            moved[0, q, i, j] += 0.7
            changed = np.abs(host(made.network(tensor(moved), labels)) - base).max(1)  # (1, c, h, w)
            rows.append(ordered(changed)[0] > 0)
    return np.array(rows).T


@NETWORKS
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 3)])
@verifies(pixelcnn.causal_mask)
@given(seed=seeds())
@settings(max_examples=2)
def test_an_output_sees_what_is_before_it_and_nothing_else(options, shape, seed):
    made = model(options | {"features": 48}, shape, seed, sharpness=1.0)
    seen = seen_by(made, shape)
    d = len(seen)
    assert not np.triu(seen).any(), "neither itself nor what is after it"
    assert all(seen[k + 1 :, k].any() for k in range(d - 1)), "each value is seen later"
    assert all(seen[k, k - 1] for k in range(1, d) if k % (shape[2] * shape[0])), "and by the next one in its row"


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_single_stack_has_a_blind_spot_and_the_two_stacks_have_none(blocks):
    """One row up, a stack of 3×3 never gets further to the right than its first layer does; two stacks do."""
    shape = (1, 4, 12)
    i, j = 2, 1
    for options, reach in ((RESIDUAL, 3), (GATED, 3 + blocks)):
        made = model(options | {"features": 12, "blocks": blocks}, shape)
        row_above = seen_by(made, shape)[i * 12 + j].reshape(4, 12)[i - 1]
        assert row_above[: j + reach + 1].all() and not row_above[j + reach + 1 :].any(), options["network"]


# ---------------------------------------------------------------- drawing


def drawn_naively(made, noise):
    """Pixel after pixel, with the whole network anew for each."""
    levels = tensor(np.zeros(noise.shape, np.int64))
    n, c, h, w = noise.shape
    labels = tensor(np.arange(n) % 2) if made.classes else None
    with no_grad():
        for i, j, colour in np.ndindex(h, w, c):
            logits = made.average.averaged(made.scaled(levels), labels)
            levels[:, colour, i, j] = pixelcnn.draw_level(logits[:, :, colour, i, j], noise[:, colour, i, j])
    return host(levels)


@NETWORKS
@pytest.mark.parametrize("shape", [(1, 5, 9), (3, 3, 2)])
@given(seed=seeds())
@settings(max_examples=3)
def test_the_sampler_that_remembers_draws_what_the_whole_network_draws(options, shape, seed):
    made = model(options, shape, seed, levels=3, blocks=2)
    noise = Stream(seed, "noise").uniform((4, *shape), dtype="float64")
    levels = host(made.draw(noise))
    assert np.array_equal(levels, drawn_naively(made, noise))
    assert len(np.unique(levels)) > 1


@NETWORKS
@given(seed=seeds())
@settings(max_examples=3)
def test_samples_repeat_by_seed_lie_in_the_unit_range_and_do_not_see_each_other(options, seed):
    made = model(options, (3, 3, 2), levels=4)
    images = host(made.sample(5, Stream(seed, "s")))
    assert images.shape == (5, 3, 3, 2) and images.dtype == np.float32
    assert set(np.rint(images.ravel() * 3).tolist()) <= {0, 1, 2, 3} and images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(made.sample(5, Stream(seed, "s"))))
    assert not np.array_equal(images, host(made.sample(5, Stream(seed + 1, "s"))))
    assert np.array_equal(images[:2], host(made.sample(2, Stream(seed, "s"))))


# ---------------------------------------------------------------- repair


@NETWORKS
@given(seed=seeds())
@settings(max_examples=5)
def test_known_pixels_come_back_bit_for_bit(options, seed):
    made, random = model(options, (3, 4, 3), levels=4, completions=3), np.random.default_rng(seed)
    image = random.uniform(size=(3, 4, 3)).astype(np.float32)
    missing = random.uniform(size=(4, 3)) < 0.5
    broken = np.where(missing, np.float32(np.nan), image)  # what stands there means nothing
    mask = tensor(missing.astype(np.float32))
    repaired = host(made.repair(tensor(broken), mask, Stream(seed, "r")))
    assert repaired.shape == image.shape and repaired.dtype == np.float32
    assert np.array_equal(repaired[:, ~missing], image[:, ~missing])
    assert repaired.min() >= 0 and repaired.max() <= 1
    assert np.array_equal(repaired, host(made.repair(tensor(broken), mask, Stream(seed, "r"))))


def repaired_often(made, image, missing, times=120):
    """How often each image comes out of a repair, by its number in `all_images`."""
    counts = np.zeros(2**image.size)
    for seed in range(times):
        out = made.repair(tensor(image.astype(np.float32)), tensor(missing.astype(np.float32)), Stream(seed, "r"))
        counts[int(host(out).ravel() @ 2.0 ** np.arange(image.size)[::-1])] += 1
    return counts


@pytest.mark.parametrize(
    ("options", "missing"),
    [(RESIDUAL, [[0, 0], [1, 1]]), (RESIDUAL, [[1, 1], [0, 0]]), (CONDITIONAL, [[1, 0], [1, 0]])],
    ids=["below", "above", "classes"],
)
def test_missing_pixels_are_drawn_given_the_known_ones(options, missing):
    """Against the exact conditional of the 16 binary 2×2 images; classes are alike likely beforehand. In this model
    what is below tells much of what is above: drawn without it, three in ten images would be others."""
    made = model(options, (1, 2, 2), seed=11, completions=64)
    image, missing = np.array([[[1, 0], [0, 1]]]), np.array(missing)
    images = all_images((1, 2, 2))
    joint = sum(np.exp(-nats(made, images, label)) for label in range(2))
    possible = (images == image)[:, 0, missing == 0].all(1)
    expected = np.where(possible, joint, 0) / joint[possible].sum()
    counts = repaired_often(made, image, missing)
    assert not counts[~possible].any()
    assert scipy.stats.chisquare(counts[possible], counts.sum() * expected[possible]).pvalue > 1e-3


def test_what_cannot_be_repaired_is_told_in_one_line():
    made, random = model(RESIDUAL), Stream(0, "r")
    with pytest.raises(UsageError, match="fills missing pixels, and there is no mask"):
        made.repair(tinygen.zeros(1, 3, 3), None, random)
    with pytest.raises(UsageError, match=r"must be \(1, 3, 3\) as in training, got \(3, 3, 3\)"):
        made.repair(tinygen.zeros(3, 3, 3), tinygen.zeros(3, 3), random)


# ---------------------------------------------------------------- the algorithm


def batches(shape=(1, 3, 3), size=4, seed=0):
    random = np.random.default_rng(seed)
    return Batches(
        ArrayImages(random.integers(0, 256, (20, *shape)).astype(np.uint8), random.integers(0, 2, 20)),
        size,
        Stream(seed, "batches"),
    )


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import autoregressive

    spec = next(s for s in autoregressive.tinygen_algorithms() if s.name == "pixelcnn")
    assert set(spec.verbs) == set(verbs_of(pixelcnn.PixelCNN))


@NETWORKS
@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 4)])
def test_every_parameter_gets_a_gradient_and_no_masked_weight_does(options, shape):
    made = model(options | {"features": 12, "blocks": 2}, shape)
    step = next(made.fit(batches(shape)))
    assert set(step.metrics) == {"nats"} and step.metrics["nats"].item() > 0
    for name, parameter in made.network.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
    for name, layer in made.network.named_modules():
        if isinstance(layer, pixelcnn.CausalConv2d) and layer.mask is not None:
            assert not layer.weight.grad.numpy()[layer.mask.numpy() == 0].any(), name


@NETWORKS
def test_the_loss_by_every_parameter_against_finite_differences(options):
    made = model(options | {"features": 4, "blocks": 1}, (1, 3, 3), sharpness=1.0)
    for _, value in (*made.network.named_parameters(), *made.network.named_buffers()):
        value.data = value.data.astype("float64")
    names, parameters = zip(*made.network.named_parameters())
    random = np.random.default_rng(0)
    levels, labels = tensor(random.integers(0, 2, (3, 1, 3, 3))), tensor(random.integers(0, 2, 3))
    x = made.scaled(levels).to("float64")

    def loss(*values):
        for name, value in zip(names, values):
            *path, last = name.split(".")
            module = made.network
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        return pixelcnn.negative_log_likelihood(made.network(x, labels if made.classes else None), levels).mean()

    gradcheck(loss, list(parameters), rtol=1e-4)


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        made = model(GATED, sharpness=1.0)
        fit = made.fit(batches())
        next(fit), next(fit)
        return made.network.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [RESIDUAL, CONDITIONAL], ids=["residual", "conditional"])
def test_it_learns_two_images_by_heart(options):
    """The best is log 2 nats where either may come, and nothing where the class tells which."""
    bars = np.zeros((2, 1, 4, 4), np.uint8)
    bars[0, 0, :, 1] = bars[1, 0, 2, :] = 255
    sets = {name: ArrayImages(np.repeat(bars, 8, 0), np.repeat([0, 1], 8)) for name in ("train", "test")}
    data = Dataset("bars", sets, (1, 4, 4), ("upright", "level"))
    made = pixelcnn.PixelCNN(
        pixelcnn.Config(**options | {"features": 12, "batch_size": 16, "average": 0.9, "lr": 0.02}),
        data.spec,
        Stream(0, "p"),
    )
    fit = made.fit(Batches(sets["train"], 16, Stream(0, "b")))
    for _ in range(150):
        next(fit)
    figures = made.evaluate(data, Stream(0, "e"))
    assert abs(figures["nats"] - (0 if made.classes else math.log(2))) < 0.05
    close(figures["bits_per_dimension"], np.array(figures["nats"] / 16 / math.log(2)))
    assert figures["test_images"] == 16 and 0 <= figures["standard_error"] < 0.1
    images = host(made.sample(20, Stream(0, "s")))
    kinds = [next((k for k in (0, 1) if np.array_equal(image, bars[k] / 255)), None) for image in images]
    assert kinds.count(None) <= 2 and 0 in kinds and 1 in kinds
    if made.classes:
        assert sum(kind == i % 2 for i, kind in enumerate(kinds)) >= 18


def test_evaluate_reports_the_test_images_exactly():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (130, 1, 3, 3)).astype(np.uint8)  # more than a part
    made = model(RESIDUAL)
    figures = made.evaluate(
        Dataset("x", {"train": ArrayImages(pixels), "test": ArrayImages(pixels)}, (1, 3, 3)), Stream(0, "e")
    )
    scores = nats(made, (pixels > 127).astype(np.int64))
    close(figures["nats"], scores.mean(), rtol=1e-5)
    close(figures["standard_error"], scipy.stats.sem(scores), rtol=1e-4)
    assert figures["test_images"] == 130


def test_options_and_data_that_do_not_fit_are_told_of():
    for options, message in (
        ({"levels": 1}, "levels must be from 2 to 256, got 1"),
        ({"network": "lstm"}, "network must be one of residual, gated, got lstm"),
        ({"conditional": True}, "residual network cannot be told the class"),
        ({"completions": 0}, "completions must be from 1"),
    ):
        with pytest.raises(UsageError, match=message):
            pixelcnn.Config(**options)
    for options, more, message in (
        (CONDITIONAL, {}, "plain has no classes"),
        (GATED | {"features": 4}, {}, "features must be divisible by 3"),
        (RESIDUAL, {"frames": 5}, "plain are clips"),
    ):
        data = DataSpec(name="plain", channels=3, height=3, width=3, count=20, **more)
        with pytest.raises(UsageError, match=message) as error:
            pixelcnn.PixelCNN(pixelcnn.Config(**options), data, Stream(0, "p"))
        assert "\n" not in str(error.value) and error.value.hint
