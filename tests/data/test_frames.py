"""Folders of films as data sets of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygen.data import DataRequest
from tinygen.data import frames as module
from tinygen.data.frames import frames
from tinygen.errors import DataError

from .expect import refused


def paint(path: Path, grey: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)
    return path


def film(path: Path, greys: list[int], size: tuple[int, int] = (6, 4)) -> Path:
    """An animated file whose frames have these grey values."""
    first, *others = (Image.new("L", size, grey) for grey in greys)
    first.save(path, save_all=True, append_images=others, duration=100, lossless=True)
    return path


def load(root: Path, **options):
    return frames(DataRequest(argument=str(root), **options))


def numbers(data, split: str = "train") -> list[list[int]]:
    """The grey values of each clip's frames."""
    clips = data.split(split).images(np.arange(len(data.split(split))))
    return np.rint(clips[:, :, 0, 0, 0] * 255).astype(int).tolist()


# ---------------------------------------------------------------- what is found


def test_numbered_frames_are_one_film_in_the_order_of_their_numbers(tmp_path):
    for i in (10, 9, 2, 1):
        paint(tmp_path / f"frame {i}.png", grey=i)
    data = load(tmp_path)
    assert (data.spec.name, data.spec.shape, data.spec.frames) == (f"frames:{tmp_path}", (3, 4, 6), 4)
    clips = data.split("train").images(np.array([0]))
    assert clips.shape == (1, 4, 3, 4, 6) and clips.dtype == np.float32
    assert numbers(data) == [[1, 2, 9, 10]] and data.split("train").labels(np.array([0])) is None


def test_a_folder_is_a_film_and_so_is_a_file(tmp_path):
    for i in range(3):
        paint(tmp_path / "folders" / "b" / f"{i}.png", grey=i)
        paint(tmp_path / "folders" / "a" / f"{i}.png", grey=10 + i)
    film(tmp_path / "folders" / "moving.gif", [1, 2]).rename(tmp_path / "folders" / "c.gif")
    (tmp_path / "folders" / "c").mkdir()
    (tmp_path / "folders" / "c.gif").rename(tmp_path / "folders" / "c" / "film.gif")
    assert numbers(load(tmp_path / "folders")) == [[10, 11], [11, 12], [0, 1], [1, 2], [1, 2]]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_files_are_films(tmp_path, suffix):
    film(tmp_path / f"a.{suffix}", [10, 20, 30])
    film(tmp_path / f"b.{suffix}", [40, 50, 60])
    assert numbers(load(tmp_path)) == [[10, 20, 30], [40, 50, 60]]


def test_each_stretch_of_a_long_film_is_a_clip_and_short_films_set_the_length(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLIP_FRAMES", 3)
    film(tmp_path / "a.gif", [0, 1, 2, 3, 4])
    film(tmp_path / "b.gif", [9, 8, 7, 6])
    data = load(tmp_path)
    assert numbers(data) == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [9, 8, 7], [8, 7, 6]] and data.spec.count == 5
    film(tmp_path / "c.gif", [5, 4])
    data = load(tmp_path)
    assert data.spec.frames == 2 and numbers(data)[-2:] == [[7, 6], [5, 4]] and data.spec.count == 8
    wanted = data.split("train").images(np.array([5, 0, 5]))[:, :, 0, 0, 0] * 255
    np.testing.assert_allclose(wanted, [[8, 7], [0, 1], [8, 7]], atol=1e-4)


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    film(tmp_path / "a.gif", [1, 2])
    paint(tmp_path / ".hidden.png")
    paint(tmp_path / ".thumbnails" / "b.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not an image")
    assert numbers(load(tmp_path)) == [[1, 2]]


def test_of_ten_films_eight_train_and_no_film_is_in_two_splits(tmp_path):
    for i in range(10):
        film(tmp_path / f"{i}.gif", [i, i + 100, i])  # Pillow makes one of equal frames
    data = load(tmp_path)
    found = [{clip[0] for clip in numbers(data, name)} for name in ("train", "valid", "test")]
    assert [len(each) for each in found] == [8, 1, 1] and set.union(*found) == set(range(10))


def test_frames_come_in_the_size_and_colour_asked_for(tmp_path):
    film(tmp_path / "a.gif", [51, 102], size=(10, 20))
    film(tmp_path / "b.gif", [51, 102], size=(33, 7))
    for grey, channels in ((False, 3), (True, 1)):
        data = load(tmp_path, size=8, grey=grey)
        clips = data.split("train").images(np.arange(2))
        assert data.shape == (channels, 8, 8) and clips.shape == (2, 2, channels, 8, 8)
        np.testing.assert_allclose(clips[:, 0], 0.2, atol=1e-6)
        np.testing.assert_allclose(clips[:, 1], 0.4, atol=1e-6)


def test_films_are_read_when_asked_for_and_once(tmp_path, monkeypatch):
    for name in ("a", "b"):
        film(tmp_path / f"{name}.gif", [1, 2])
    data, opened = load(tmp_path), []
    original = module.open_frames
    monkeypatch.setattr(module, "open_frames", lambda path: opened.append(path.name) or original(path))
    numbers(data), numbers(data)
    assert opened == ["a.gif", "b.gif"]
    monkeypatch.setattr(module, "KEEP_BYTES", 0)
    data = load(tmp_path)
    opened.clear()
    assert numbers(data) == numbers(data) == [[1, 2], [1, 2]] and len(opened) == 4


def test_films_are_known_again_by_names_and_sizes(tmp_path):
    film(tmp_path / "a.gif", [1, 2])
    known = load(tmp_path).digest()
    assert load(tmp_path).digest() == known
    film(tmp_path / "b.gif", [1, 2])
    assert load(tmp_path).digest() != known


# ---------------------------------------------------------------- what cannot be used


def test_folders_that_cannot_be_used_are_told(tmp_path):
    paint(tmp_path / "mixed" / "a.png")
    paint(tmp_path / "mixed" / "film" / "b.png")
    paint(tmp_path / "one" / "a.png")
    film(tmp_path / "both" / paint(tmp_path / "both" / "still.png").with_name("moving.gif").name, [1, 2])
    (tmp_path / "empty").mkdir()
    for name, words in {
        "none": ["there is no such folder", "--data frames:PATH"],
        "one/a.png": ["is no folder"],
        "mixed": ["frames and folders of frames (a.png, film/)"],
        "both": ["films and single frames (moving.gif, still.png)"],
        "one": [tmp_path / "one" / "a.png", "a film of one frame"],
        "empty": ["there are no frames in it"],
    }.items():
        with refused(DataError, tmp_path / name, *words):
            load(tmp_path / name)
    with refused(DataError, "which folder?", "--data frames:PATH"):
        frames(DataRequest())


def test_mixed_sizes_are_told_with_the_first_that_differs(tmp_path):
    paint(tmp_path / "one" / "1.png")
    paint(tmp_path / "one" / "2.png", size=(5, 4))
    with refused(DataError, tmp_path / "one" / "2.png", "5 × 4 pixels", "6 × 4", "--image-size"):
        load(tmp_path / "one")
    (tmp_path / "two").mkdir()
    film(tmp_path / "two" / "a.gif", [1, 2])
    film(tmp_path / "two" / "b.gif", [1, 2], size=(3, 3))
    with refused(DataError, tmp_path / "two" / "b.gif", "3 × 3 pixels", "6 × 4"):
        load(tmp_path / "two")


def test_films_that_change_or_are_damaged_are_told(tmp_path):
    path = film(tmp_path / "a.gif", [1, 2, 3])
    data = load(tmp_path)
    film(path, [1, 2])
    with refused(DataError, path, "has 2 frames, 3 before"):
        numbers(data)
    film(path, [1, 2, 3], size=(9, 9))
    with refused(DataError, path, "9 × 9", "6 × 4"):
        numbers(data)
    path.write_bytes(b"not a film")
    with refused(DataError, path, "not an image"):
        numbers(data)
