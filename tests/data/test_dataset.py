"""Image sets, data sets and the order of batches."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.data import ArrayImages, Batches, DataRequest, Dataset, DrawnImages, dataset
from tinygen.errors import DataError
from tinygen.random import Stream

from .expect import refused


def numbered(n: int) -> ArrayImages:
    """n images of one pixel; image i has the value and the label i."""
    return ArrayImages(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), np.arange(n, dtype=np.uint8))


def draw(batches: Batches, count: int) -> list[list[int]]:
    """The labels of the next batches."""
    return [next(batches).labels.numpy().tolist() for _ in range(count)]


sizes = st.tuples(st.integers(1, 40), st.integers(1, 12))


@given(sizes=sizes, seed=st.integers(0, 2**32))
def test_an_epoch_takes_each_image_once(sizes, seed):
    n, size = sizes
    batches = Batches(numbered(n), size, Stream(seed))
    assert batches.size == min(n, size)
    for _ in range(3):
        epoch = [label for batch in draw(batches, batches.per_epoch) for label in batch]
        assert len(epoch) == len(set(epoch)) == n - n % batches.size
        assert set(epoch) <= set(range(n))


def test_all_images_come_in_time_though_each_epoch_leaves_some_out():
    batches = Batches(numbered(10), 4, Stream(0))
    assert {label for batch in draw(batches, 20) for label in batch} == set(range(10))


@given(sizes=sizes, seed=st.integers(0, 2**32))
def test_the_seed_fixes_the_order(sizes, seed):
    n, size = sizes
    first, second = (Batches(numbered(n), size, Stream(seed)) for _ in range(2))
    assert draw(first, 5) == draw(second, 5)


def test_seeds_and_epochs_differ_in_order():
    batches = Batches(numbered(64), 64, Stream(0))
    (first,), (second,) = draw(batches, 1), draw(batches, 1)
    (other,) = draw(Batches(numbered(64), 64, Stream(1)), 1)
    assert first != second and first != other and first != sorted(first)


@given(sizes=sizes, before=st.integers(0, 30))
def test_a_place_is_taken_up_again(sizes, before):
    n, size = sizes
    through = Batches(numbered(n), size, Stream(3))
    draw(through, before)
    resumed = Batches(numbered(n), size, Stream(3))
    resumed.load_state_dict(through.state_dict())
    assert draw(resumed, 12) == draw(through, 12)


def test_the_order_does_not_depend_on_what_else_the_stream_drew():
    random = Stream(5)
    random.normal(3)
    assert draw(Batches(numbered(20), 4, random), 7) == draw(Batches(numbered(20), 4, Stream(5)), 7)


def test_images_and_labels_stay_together():
    images, labels = next(Batches(numbered(50), 8, Stream(0)))
    assert images.shape == (8, 1, 1, 1) and str(images.dtype) == "float32"
    np.testing.assert_allclose(images.numpy()[:, 0, 0, 0], labels.numpy() / 255, rtol=1e-6)


def test_no_labels_are_none():
    batches = Batches(ArrayImages(np.zeros((4, 3, 2, 2), np.uint8)), 2, Stream(0))
    assert next(batches).labels is None


def test_batches_refuse_what_cannot_be_batched():
    with refused(DataError, "no images"):
        Batches(numbered(0), 1, Stream(0))
    with refused(DataError, "batch size", 0):
        Batches(numbered(3), 0, Stream(0))


def test_bytes_become_exact_fractions():
    images = ArrayImages(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)).images(np.array([0]))
    assert images.dtype == np.float32 and images.min() == 0 and images.max() == 1
    np.testing.assert_allclose(images.ravel(), np.arange(256) / 255, atol=1e-7)


@pytest.mark.parametrize("pixels", [np.zeros((2, 3, 3), np.uint8), np.zeros((2, 1, 3, 3), np.float32)])
def test_pixels_of_another_kind_are_refused(pixels):
    with refused(DataError, "(n, c, h, w) uint8"):
        ArrayImages(pixels)


def test_labels_of_another_number_are_refused():
    with refused(DataError, "2 images have labels of shape (3,)"):
        ArrayImages(np.zeros((2, 1, 3, 3), np.uint8), np.zeros(3))


def test_drawn_images_are_drawn_once_and_only_when_asked_for():
    drawn = []

    def picture(index: int) -> tuple[np.ndarray, int]:
        drawn.append(index)
        return np.full((1, 2, 2), index, np.uint8), index + 10

    images = DrawnImages(6, (1, 2, 2), picture)
    assert len(images) == 6 and drawn == []
    wanted = np.array([4, 1, 4])
    np.testing.assert_allclose(images.images(wanted)[:, 0, 1, 1] * 255, wanted, rtol=1e-6)
    assert images.labels(np.array([1, 2])).tolist() == [11, 12]
    assert drawn == [1, 4, 2]


def counted(calls):
    def picture(index: int) -> tuple[np.ndarray, int]:
        calls.append(index)
        return np.full((3, 4, 4), index % 256, np.uint8), index

    return picture


@given(wanted=st.lists(st.integers(0, 19), min_size=1, max_size=30), room=st.integers(0, 25))
def test_only_what_fits_is_kept_and_the_rest_is_drawn_again(wanted, room):
    calls: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "KEEP_BYTES", 48 * room)
        images = DrawnImages(20, (3, 4, 4), counted(calls))
    for _ in range(2):
        pixels = images.images(np.array(wanted))
        assert pixels.shape == (len(wanted), 3, 4, 4) and pixels.dtype == np.float32
        np.testing.assert_allclose(pixels[:, 2, 3, 1] * 255, wanted, rtol=1e-6)
        assert images.labels(np.array(wanted)).tolist() == wanted  # of what was drawn once, no picture is drawn
    kept = {index for index in wanted if index < room}
    assert sorted(index for index in calls if index < room) == sorted(kept)
    assert [index for index in calls if index >= room] == [index for index in wanted if index >= room] * 2


def test_a_batch_draws_each_of_its_images_once(monkeypatch):
    monkeypatch.setattr(dataset, "KEEP_BYTES", 0)
    calls: list[int] = []
    batches = Batches(DrawnImages(12, (3, 4, 4), counted(calls)), 4, Stream(0))
    labels = [label for batch in draw(batches, 3) for label in batch]
    assert calls == labels and sorted(calls) == list(range(12))


def test_large_drawn_images_take_no_more_memory_than_small_ones():
    for side in (28, 256, 512):
        tracemalloc.start()
        images = DrawnImages(20_000, (3, side, side), lambda index, side=side: (np.ones((3, side, side), np.uint8), 1))
        for start in range(0, 60, 3):
            images.images(np.arange(10_000 + start, 10_003 + start))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(images) == 20_000 and peak < 90 << 20


def test_a_data_set_is_known_again_by_its_training_images():
    def digest(pixels, classes=None):
        return Dataset("x", {"train": ArrayImages(pixels, classes)}, (1, 2, 2)).digest()

    pixels, classes = np.arange(80, dtype=np.uint8).reshape(20, 1, 2, 2), np.arange(20)
    known = digest(pixels, classes)
    assert known == digest(pixels.copy(), classes.copy()) and len(known) == 16
    changed, relabelled = pixels.copy(), classes.copy()
    changed[7, 0, 1, 1] += 1
    relabelled[13] = 0
    others = [
        digest(changed, classes), digest(pixels, relabelled), digest(pixels), digest(pixels[:-1], classes[:-1]),
        digest(pixels.reshape(20, 1, 4, 1), classes), digest(pixels[:0], classes[:0]),
    ]  # fmt: skip
    assert len({known, *others}) == 7


def test_of_drawn_images_some_stand_for_all():
    calls: list[int] = []

    def digest(count, draw):
        return Dataset("x", {"train": DrawnImages(count, (3, 4, 4), draw)}, (3, 4, 4)).digest()

    known = digest(60_000, counted(calls))
    assert len(calls) < 40 and known == digest(60_000, counted([]))
    assert known != digest(60_001, counted([]))
    assert known != digest(60_000, lambda index: (np.zeros((3, 4, 4), np.uint8), index))
    assert known != digest(60_000, lambda index: (counted([])(index)[0], 1))


def test_a_data_set_tells_its_spec_and_its_splits():
    data = Dataset("toy", {"train": numbered(5), "test": numbered(3)}, (1, 1, 1), tuple("abcde"))
    assert (data.spec.name, data.spec.shape, data.spec.count, data.spec.classes) == ("toy", (1, 1, 1), 5, data.classes)
    assert [len(part) for part in data.arrays("test")] == [3, 3]
    assert [len(part) for part in data.arrays("train", limit=2)] == [2, 2]
    with refused(DataError, "no split tset", 'did you mean "test"?'):
        data.split("tset")


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_must_be_one_pixel_at_least(size):
    with refused(DataError, "image size", size):
        DataRequest(size=size)
