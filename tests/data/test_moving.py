"""Moving digits: the physics against its closed form, the frames against a loop over pixels, and who decides what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend
from tinygen.data import ArrayImages, DataRequest, Dataset, idx, moving
from tinygen.errors import DataError

from .expect import refused


def load(argument: str = "", size: int | None = None, seed: int = 0) -> Dataset:
    return moving.moving_glyphs(DataRequest(argument=argument, size=size, seed=seed))


def clips(data: Dataset, split: str = "train", count: int = 3) -> np.ndarray:
    return data.split(split).images(np.arange(count))


# ---------------------------------------------------------------- physics

PLACES = st.lists(st.floats(0, 1), min_size=2, max_size=2)
VELOCITIES = st.lists(st.floats(-1, 1), min_size=2, max_size=2)


@given(PLACES, VELOCITIES, st.integers(1, 60))
def test_the_way_between_walls_is_a_triangle_wave(place, velocity, frames):
    found = moving.trajectory(np.array([place]), np.array([velocity]), frames)
    straight = np.array(place) + np.arange(frames)[:, None] * np.array(velocity)  # as if there were no walls
    folded = np.abs((straight + 1) % 2 - 1)  # period 2, 0 at the even and 1 at the odd numbers
    assert found.shape == (frames, 1, 2)
    np.testing.assert_allclose(found[:, 0], folded, atol=1e-9)
    assert found.min() >= 0 and found.max() <= 1


@given(PLACES, VELOCITIES)
def test_a_wall_changes_the_sign_of_a_velocity_alone(place, velocity):
    p, v = np.array(place), np.array(velocity)
    for _ in range(20):
        p, after = moving.bounce(p, v)
        assert np.array_equal(np.abs(after), np.abs(v)) and np.hypot(*after) == np.hypot(*v)
        v = after


def test_all_digits_move_at_the_same_pace_in_all_directions(monkeypatch):
    seen = []
    monkeypatch.setattr(moving, "trajectory", lambda p, v, t: seen.append((p, v)) or np.zeros((t, len(p), 2)))
    clips(load(), count=200)
    places, velocities = (np.concatenate(each) for each in zip(*seen))
    np.testing.assert_allclose(np.hypot(*velocities.T), moving.SPEED, rtol=1e-6)
    directions = np.arctan2(*velocities.T)
    for values, low, high in ((directions, -np.pi, np.pi), (places[:, 0], 0, 1), (places[:, 1], 0, 1)):
        assert np.histogram(values, 4, (low, high))[0].min() > 60  # 100 each, were they evenly spread


# ---------------------------------------------------------------- frames


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(3, 6))
def test_a_frame_is_the_lightest_of_its_digits(seed, count, side):
    random = np.random.default_rng(seed)
    digits, places = random.random((count, 1, 2, 3 - 1)), random.random((4, count, 2))
    found = moving.draw_clip(digits.astype("f4"), places, (4, 1, side, side))
    for t in range(4):
        for y in range(side):
            for x in range(side):
                here = [0.0]
                for digit, place in zip(digits.astype("f4"), places[t]):
                    top, left = int(place[0] * (side - 2)), int(place[1] * (side - 2))
                    if 0 <= y - top < 2 and 0 <= x - left < 2:
                        here.append(digit[0, y - top, x - left])
                assert found[t, 0, y, x] == max(here)


def test_a_digit_at_a_wall_touches_it():
    digits, places = np.ones((2, 1, 28, 28), np.float32), np.array([[[0.0, 0.0], [1.0, 1.0]]])
    (frame,) = moving.draw_clip(digits, places, (1, 1, 64, 64))[:, 0]
    assert frame[:28, :28].all() and frame[36:, 36:].all() and frame.sum() == 2 * 28 * 28


@pytest.mark.parametrize(("argument", "size", "side"), [("1", None, 28), ("1", 32, 14)])
def test_a_digit_is_always_wholly_inside(argument, size, side):
    found = clips(load(argument, size), count=8)
    assert found.shape == (8, 20, 1, size or 64, size or 64) and found.dtype == np.float32
    ink = found.sum((2, 3, 4))
    np.testing.assert_allclose(ink, np.broadcast_to(ink[:, :1], ink.shape), rtol=1e-5)
    still, _ = moving.glyphs(DataRequest(size=side)).arrays("train", 1)
    assert 0.3 < ink.mean() / still.sum() < 3


def test_two_digits_hold_about_twice_the_ink_of_one():
    one, two, three = (clips(load(argument), count=60).mean() for argument in ("1", "", "3"))
    assert 1.6 < two / one < 2 and 1.2 < three / two < 1.5  # they overlap now and then


# ---------------------------------------------------------------- who decides


@given(st.integers(0, 3), st.sampled_from(["train", "valid", "test"]), st.integers(0, 9_999))
def test_a_clip_depends_on_seed_split_and_index_alone(seed, split, index):
    alone = load(seed=seed).split(split).images(np.array([index]))
    among = load(seed=seed).split(split).images(np.array([3, index, 7]))
    np.testing.assert_array_equal(alone[0], among[1])


def test_seeds_splits_and_indices_differ():
    first = load()
    found = [*clips(first), clips(first, "test", 1)[0], clips(load(seed=1), count=1)[0]]
    for i, clip in enumerate(found):
        assert all((clip != other).any() for other in found[:i])


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_the_backend_in_use_is_irrelevant(name):
    expected = clips(load())
    with backend.using(name):
        found = clips(load())
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)


def test_the_spec_tells_the_frames():
    data = load("3", 32)
    assert (data.spec.name, data.spec.shape, data.spec.frames) == ("moving-glyphs:3", (1, 32, 32), 20)
    assert data.spec.count == 50_000 and len(data.split("test")) == 10_000
    assert data.split("train").labels(np.arange(3)) is None and data.digest() == load("3", 32).digest()


def test_the_digits_of_mnist_move_in_their_own_splits(monkeypatch):
    def still(request):
        shades = {"train": 50, "valid": 100, "test": 200}
        splits = {name: ArrayImages(np.full((3, 1, 28, 28), shade, np.uint8)) for name, shade in shades.items()}
        assert request.size == 28
        return Dataset("mnist", splits, (1, 28, 28))

    monkeypatch.setattr(idx, "mnist", still)
    data = moving.moving_mnist(DataRequest(argument="1"))
    for split, shade in (("train", 50), ("valid", 100), ("test", 200)):
        assert np.unique(np.rint(clips(data, split) * 255)).tolist() == [0, shade]


def test_without_mnist_its_place_is_told(tmp_path):
    with refused(DataError, "train-images-idx3-ubyte.gz", tmp_path):
        moving.moving_mnist(DataRequest(folders=(str(tmp_path),)))


def test_what_cannot_be_meant_is_refused():
    for argument in ("0", "10", "-1", "two"):
        with refused(DataError, "how many digits? from 1 to 9", argument):
            load(argument)
    with refused(DataError, "19 × 19 are too small", "from 20 on"):
        load(size=19)
