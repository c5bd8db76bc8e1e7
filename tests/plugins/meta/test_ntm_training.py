"""The Neural Turing Machine in training: its updates, its figures on sequences of other lengths, and its pictures."""

import numpy as np
import pytest

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tests.plugins.meta.test_ntm import set_to_copy
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of
from tinygen.random import Stream
from tinygen.testing import host
from tinygen.testing.strict import counting
from tinygen_plugins.meta import ntm

DATA = DataSpec(name="noise", channels=1, height=5, width=4, count=40)
TASKS = ("copy", "repeat-copy", "recall")


def images(seed=0):
    return ArrayImages(np.random.default_rng(seed).integers(0, 256, (40, 1, 5, 4)).astype(np.uint8))


def batches(size=4, seed=0):
    return Batches(images(), size, Stream(seed, "batches"))


def dataset():
    return Dataset("noise", {"train": images(), "test": images(1)}, (1, 5, 4))


def model(seed=0, **options):
    machine = {"hidden": 5, "locations": 6, "width": 3}
    task = {"bits": 2, "longest": 3, "repeats": 2, "items": 3, "batch_size": 4, "growth": 0.0}
    return ntm.NTM(ntm.Config(**{**machine, **task, **options}), DATA, Stream(seed, "ntm"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "ntm"]
    assert set(spec.verbs) == set(verbs_of(ntm.NTM))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_an_update_reaches_every_parameter_and_waits_for_nothing(task, controller):
    algorithm = model(task=task, controller=controller)
    before, walk = algorithm.machine.state_dict(), batches()
    next(walk)  # the order of an epoch is asked for on the host, once
    fit = algorithm.fit(walk)
    with counting() as counts:
        step = next(fit)
    assert counts.to_host == counts.synchronizations == 0
    for name, parameter in algorithm.machine.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
        assert parameter.dtype == np.float32 and not np.array_equal(before[name], parameter.numpy()), name
    figures = {name: value.item() for name, value in step.metrics.items()}
    assert set(figures) == {"nats_a_sequence", "bits_a_sequence", "bit_errors"}
    assert figures["bits_a_sequence"] == pytest.approx(figures["nats_a_sequence"] / np.log(2), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_gradients_of_the_step_before_do_not_count_and_are_clipped(optimizer):
    states = []
    for left_over in (False, True):
        algorithm = model(clip=1e-3, optimizer=optimizer)
        if left_over:
            for parameter in algorithm.machine.parameters():
                parameter.grad = tinygen.full(parameter.shape, 100.0)
        next(algorithm.fit(batches()))
        gradient = np.concatenate([p.grad.numpy().ravel() for p in algorithm.machine.parameters()])
        longest = np.linalg.norm(gradient) if optimizer == "adam" else np.abs(gradient).max()
        assert longest == pytest.approx(1e-3, rel=1e-4)
        states.append(algorithm.machine.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@pytest.mark.parametrize("task", TASKS)
def test_training_is_the_same_on_every_backend(task, backend):
    def two_steps():
        algorithm = model(task=task, optimizer="rmsprop")
        fit = algorithm.fit(batches())
        next(fit), next(fit)
        assert all(p.backend is library.current() for p in algorithm.machine.parameters())
        return algorithm.machine.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


def test_sizes_in_training_grow_to_those_of_the_options():
    for task, first, last in (
        ("copy", {(1,)}, {(1,), (2,), (3,)}), ("recall", {(2,)}, {(2,), (3,)}),
        ("repeat-copy", {(1, 1)}, {(length, repeats) for length in (1, 2, 3) for repeats in (1, 2)}),
    ):  # fmt: skip
        algorithm = model(task=task, steps=200, growth=0.5)
        assert {algorithm.draw_size() for _ in range(20)} == first
        algorithm.updates = 99
        assert {algorithm.draw_size() for _ in range(200)} == last
        assert {model(task=task, growth=0.0, seed=seed).draw_size() for seed in range(100)} == last
    fit = algorithm.fit(batches())
    next(fit), next(fit)
    assert algorithm.updates == 101


def test_items_of_recall_are_the_middle_rows_of_binarized_images():
    algorithm, walk = model(task="recall"), batches()
    first, second = (next(walk).images.numpy()[:, 0] for _ in range(2))  # the items, in their order
    inputs, targets = map(host, algorithm.make_task((2,), 4, batches(), Stream(0, "r")))
    assert np.array_equal(inputs[1:4, :, :4].transpose(1, 0, 2), first[:, 1:4] > 0.5)
    assert np.array_equal(inputs[5:8, :, :4].transpose(1, 0, 2), second[:, 1:4] > 0.5)
    assert np.array_equal(targets.transpose(1, 0, 2), second[:, 1:4] > 0.5)  # of two, only the first is followed


@pytest.mark.parametrize("task", TASKS)
def test_colour_and_small_data_do(task):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 4)).astype(np.uint8)
    algorithm = model(task=task)
    step = next(algorithm.fit(Batches(ArrayImages(pixels), 4, Stream(0, "b"))))
    assert np.isfinite(step.metrics["nats_a_sequence"].item())


def test_evaluate_counts_the_bits_that_are_wrong():
    """Weights set by hand for 50 locations: no error up to 50 rows; of 80, 30 are overwritten, half of their bits."""
    algorithm = model(controller="lstm", hidden=9, bits=8, locations=50, width=8, test_sequences=60)
    set_to_copy(algorithm.machine, 8, 0)
    figures = algorithm.evaluate(dataset(), Stream(0, "e"))
    assert figures.pop("test_sequences") == 60
    assert list(figures) == [f"bit_errors_at_{length}" for length in (10, 20, 30, 50, 80, 120)]
    assert [figures[f"bit_errors_at_{length}"] for length in (10, 20, 30, 50)] == [0, 0, 0, 0]
    assert abs(figures["bit_errors_at_80"] - 30 * 8 / 2) < 5  # its standard deviation is 1
    assert abs(figures["bit_errors_at_120"] - 70 * 8 / 2) < 8
    assert figures | {"test_sequences": 60} == algorithm.evaluate(dataset(), Stream(0, "e"))


@pytest.mark.parametrize("task", TASKS)
def test_evaluate_at_chance(task, monkeypatch):
    monkeypatch.setattr(ntm, "TESTED", {"copy": ((4,),), "repeat-copy": ((3, 2),), "recall": ((2,), (5,))})
    monkeypatch.setattr(ntm, "AT_ONCE", 20)
    algorithm = model(task=task, test_sequences=50)
    figures = algorithm.evaluate(dataset(), Stream(0, "e"))
    assert figures.pop("test_sequences") == 50
    expected = {"copy": [4], "repeat-copy": [10.5], "recall": [6, 6]}[task]  # half of the bits
    assert list(figures) == {
        "copy": ["bit_errors_at_4"], "repeat-copy": ["bit_errors_at_3_times_2"],
        "recall": ["bit_errors_at_2", "bit_errors_at_5"],
    }[task]  # fmt: skip
    for found, half in zip(figures.values(), expected):
        assert 0.3 * half < found < 1.7 * half


def test_pictures_show_what_the_machine_does():
    algorithm = model(controller="lstm", hidden=9, bits=8, locations=50, width=8)
    set_to_copy(algorithm.machine, 8, 3)
    pictures = {name: host(picture) for name, picture in algorithm.illustrate(dataset(), Stream(0, "i")).items()}
    steps, memory = pictures["steps"][0, 0], pictures["memory"][0, 0]
    for picture in pictures.values():
        assert picture.dtype == np.float32 and picture.min() >= 0 and picture.max() <= 1
    inputs, asked, given = steps[:9], steps[10:18], steps[19:27]
    assert steps.shape[1] == 41 and (steps[[9, 18, 27]] == 0.5).all()
    assert np.array_equal(inputs[8], np.arange(41) == 20)  # the mark
    assert np.array_equal(asked[:, 21:], inputs[:8, :20]) and not asked[:, :21].any()
    assert np.allclose(given, asked, atol=1e-6)
    writing, line, reading = np.split(steps[28:], [43, 44])  # 43 locations are used, from the first of the reading head
    assert (line == 0.5).all() and len(reading) == 43
    assert np.allclose(writing, np.eye(43, 41, -2), atol=1e-6)  # it walks
    assert np.array_equal(reading.argmax(0), np.maximum(0, np.arange(41) - 19))  # it waits, and walks
    assert np.allclose(memory[2:22], inputs[:8, :20].T, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_pictures(task):
    pictures = model(task=task, heads=2).illustrate(dataset(), Stream(0, "i"))
    for picture in pictures.values():
        assert picture.shape[:2] == (1, 1) and host(picture).min() >= 0 and host(picture).max() <= 1


def test_options_and_data_are_checked():
    for options, message in (
        ({"task": "sort"}, "ntm: task must be one of copy, repeat-copy, recall, got sort"),
        ({"controller": "gru"}, "ntm: controller must be one of feedforward, lstm, got gru"),
        ({"optimizer": "sgd"}, "ntm: optimizer must be one of adam, rmsprop, got sgd"),
        ({"locations": 2}, "ntm: locations must be from 3 to 100000, got 2"),
        ({"items": 1}, "ntm: items must be from 2 to 1000, got 1"),
        ({"lr": 0.0}, "ntm: lr must be from 1e-09 to 1.0, got 0.0"),
    ):
        with pytest.raises(UsageError) as caught:
            ntm.Config(**options)
        assert caught.value.message == message and caught.value.hint
    with pytest.raises(UsageError) as caught:
        model(task="recall", rows=6)
    assert caught.value.message == "ntm: an item is 6 rows, and the images of noise have 5"
