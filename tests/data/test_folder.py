"""Folders of image files as data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygen.data import DataRequest
from tinygen.data import folder as folder_module
from tinygen.data.folder import FileImages, folder
from tinygen.errors import DataError

from .expect import refused


def paint(path: Path, grey: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    """A picture of one grey value, (width, height) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)
    return path


def load(root: Path, **options):
    return folder(DataRequest(argument=str(root), **options))


def numbers(data, split: str) -> list[int]:
    """The grey values of a split's images, which tell the files apart."""
    return np.rint(data.arrays(split)[0][:, 0, 0, 0] * 255).astype(int).tolist()


# ---------------------------------------------------------------- what is found


def test_a_flat_folder_has_no_labels(tmp_path):
    for i in range(3):
        paint(tmp_path / f"{i}.png", grey=i)
    data = load(tmp_path)
    assert (data.spec.name, data.spec.shape, data.spec.classes) == (f"folder:{tmp_path}", (3, 4, 6), ())
    images, labels = data.arrays("train")
    assert images.shape == (3, 3, 4, 6) and images.dtype == np.float32 and labels is None
    assert numbers(data, "train") == [0, 1, 2]


def test_class_folders_are_the_classes_in_the_order_of_their_names(tmp_path):
    paint(tmp_path / "dog" / "a.png", grey=10)
    paint(tmp_path / "cat" / "z.bmp", grey=21)
    paint(tmp_path / "cat" / "deeper" / "y.PNG", grey=20)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert numbers(data, "train") == [20, 21, 10]
    labels = data.split("train").labels(np.arange(3))
    assert labels.tolist() == [0, 0, 1] and labels.dtype == np.int64


def test_a_folder_is_known_again_by_names_sizes_and_labels(tmp_path):
    def digest():
        return load(tmp_path).digest()

    for name in ("cat/a", "cat/b", "dog/c"):
        paint(tmp_path / f"{name}.bmp")
    known = digest()
    assert digest() == known
    changes = [
        lambda: (tmp_path / "cat" / "b.bmp").rename(tmp_path / "cat" / "z.bmp"),
        lambda: paint(tmp_path / "dog" / "d.bmp"),
        lambda: (tmp_path / "dog" / "d.bmp").write_bytes((tmp_path / "dog" / "d.bmp").read_bytes() + b"more"),
        lambda: (tmp_path / "dog" / "d.bmp").rename(tmp_path / "cat" / "zz.bmp"),
    ]
    seen = {known}
    for change in changes:
        change()
        assert digest() not in seen
        seen.add(digest())


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    paint(tmp_path / "a.png", grey=7)
    paint(tmp_path / ".hidden.png")
    paint(tmp_path / ".thumbnails" / "b.png")
    paint(tmp_path / "a.png.partial" / ".b.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "README").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    assert numbers(load(tmp_path), "train") == [7]


def test_links_to_folders_do_not_lead_in_circles(tmp_path):
    paint(tmp_path / "class" / "a.png")
    (tmp_path / "class" / "again").symlink_to(tmp_path / "class", target_is_directory=True)
    assert load(tmp_path).spec.count == 1


def test_one_picture_is_a_data_set(tmp_path):
    paint(tmp_path / "only.png")
    assert {name: len(split) for name, split in load(tmp_path).splits.items()} == {"train": 1}


# ---------------------------------------------------------------- splits


@pytest.mark.parametrize(("n", "sizes"), [(9, [9]), (10, [8, 1, 1]), (57, [47, 5, 5])])
def test_eight_tenths_train(tmp_path, n, sizes):
    for i in range(n):
        paint(tmp_path / f"{i:03}.png", grey=i)
    data = load(tmp_path)
    assert dict(zip(("train", "valid", "test"), sizes)) == {name: len(split) for name, split in data.splits.items()}
    found = [number for name in data.splits for number in numbers(data, name)]
    assert sorted(found) == list(range(n))  # each image in one split
    assert found == [number for name in data.splits for number in numbers(load(tmp_path), name)]
    if n == 57:
        assert numbers(data, "train") != sorted(numbers(data, "train"))


def test_labels_follow_their_images_through_the_shuffle(tmp_path):
    for i in range(20):
        paint(tmp_path / f"class {i % 2}" / f"{i}.png", grey=i)
    data = load(tmp_path)
    for name in data.splits:
        labels = data.arrays(name)[1]
        assert labels.tolist() == [number % 2 for number in numbers(data, name)]


# ---------------------------------------------------------------- size and colour


def test_images_come_in_the_size_and_colour_asked_for(tmp_path):
    paint(tmp_path / "a.png", grey=51, size=(10, 20))
    paint(tmp_path / "b.png", grey=51, size=(33, 7))
    for grey, channels in ((False, 3), (True, 1)):
        data = load(tmp_path, size=8, grey=grey)
        images, _ = data.arrays("train")
        assert data.shape == (channels, 8, 8) and images.shape == (2, channels, 8, 8)
        np.testing.assert_allclose(images, 0.2, atol=1e-6)


def test_colours_are_kept(tmp_path):
    Image.new("RGB", (2, 2), (255, 102, 0)).save(tmp_path / "a.png")
    images, _ = load(tmp_path).arrays("train")
    np.testing.assert_allclose(images[0, :, 1, 1], [1, 0.4, 0], atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(6, 5), (5, 4), (4, 6)])
def test_mixed_sizes_are_told_with_the_first_that_differs(tmp_path, width, height):
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png")
    paint(tmp_path / "c.png", size=(width, height))
    paint(tmp_path / "d.png", size=(1, 1))
    with refused(DataError, tmp_path / "c.png", f"{width} × {height} pixels", "6 × 4", "--image-size"):
        load(tmp_path)


def test_a_picture_that_changed_its_size_meanwhile_is_told(tmp_path):
    data = load(paint(tmp_path / "a.png").parent)
    paint(tmp_path / "a.png", size=(9, 9))
    with refused(DataError, tmp_path / "a.png", "9 × 9", "6 × 4"):
        data.arrays("train")


# ---------------------------------------------------------------- reading


def test_images_are_read_when_asked_for_and_once(tmp_path, monkeypatch):
    for i in range(4):
        paint(tmp_path / f"{i}.png", grey=i)
    opened = []
    original = folder_module.open_image
    monkeypatch.setattr("tinygen.data.folder.open_image", lambda path: opened.append(path.name) or original(path))
    images = load(tmp_path).split("train")
    assert opened == []
    for _ in range(2):
        values = images.images(np.array([2, 0, 2]))[:, 0, 0, 0] * 255
        np.testing.assert_allclose(values, [2, 0, 2], atol=1e-5)
    assert opened == ["2.png", "0.png"]


def test_what_does_not_fit_into_memory_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygen.data.folder.KEEP_BYTES", 2 * 3 * 4 * 6)  # two pictures
    paths = [paint(tmp_path / f"{i}.png", grey=i) for i in range(3)]
    images = FileImages(paths, (3, 4, 6), None, resize=False)
    order = np.arange(3)
    before = images.images(order)
    for path in paths:
        path.unlink()
    np.testing.assert_array_equal(images.images(order[:2]), before[:2])
    with refused(DataError, paths[2]):
        images.images(order)


# ---------------------------------------------------------------- what cannot be used


def test_folders_that_cannot_be_used_are_told(tmp_path):
    paint(tmp_path / "mixed" / "a.png")
    paint(tmp_path / "mixed" / "class" / "b.png")
    paint(tmp_path / "class empty" / "full" / "a.png")
    (tmp_path / "class empty" / "void").mkdir()
    (tmp_path / "class empty" / "void" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty classes" / "a").mkdir(parents=True)
    for name, words in {
        "none": ["there is no such folder", "--data folder:PATH"],
        "mixed/a.png": ["is no folder"],
        "mixed": ["images and folders of images (a.png, class/)"],
        "class empty": [tmp_path / "class empty" / "void", "class folder without images"],
        "empty": ["there are no images in it"],
        "empty classes": ["there are no images in it"],
    }.items():
        with refused(DataError, tmp_path / name, *words):
            load(tmp_path / name)
    with refused(DataError, "which folder?", "--data folder:PATH"):
        folder(DataRequest())


def test_a_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    def deny(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", deny)
    with refused(DataError, tmp_path, "cannot be listed: Permission denied"):
        load(tmp_path)


@pytest.mark.parametrize("options", [{}, {"size": 4}])
def test_a_damaged_picture_is_told(tmp_path, options):
    paint(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with refused(DataError, tmp_path / "b.png", "not an image"):
        load(tmp_path, **options).arrays("train")
