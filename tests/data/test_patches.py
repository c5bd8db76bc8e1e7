"""Crops of full-size pictures: each is a piece of its picture, in one of eight orientations, and its index's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygen.data import DataRequest
from tinygen.data.patches import COUNTS, patches
from tinygen.errors import DataError

from .expect import refused


def paint(path: Path, size: tuple[int, int], first: int = 0) -> np.ndarray:
    """A picture (width, height) in which no two pixels are alike, as (3, h, w)."""
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    number = first + np.arange(height * width).reshape(height, width)
    pixels = np.stack([number // 256, number % 256, number * 7 % 256], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1)


def load(root: Path, **options):
    return patches(DataRequest(argument=str(root), **options))


def eight(image: np.ndarray) -> list[bytes]:
    """An image (c, h, w) in all orientations."""
    turned = [np.rot90(image, k, axes=(1, 2)) for k in range(4)]
    return [np.ascontiguousarray(a).tobytes() for t in turned for a in (t, t[:, :, ::-1])]


def test_every_patch_is_a_piece_of_a_picture_and_every_place_and_orientation_occurs(tmp_path):
    pictures = [paint(tmp_path / "a.png", (6, 5)), paint(tmp_path / "b.png", (4, 7), first=1000)]
    known = {}
    for which, picture in enumerate(pictures):
        for y, x in np.ndindex(picture.shape[1] - 3, picture.shape[2] - 3):
            for way, piece in enumerate(eight(picture[:, y : y + 4, x : x + 4])):
                known[piece] = (which, y, x, way)
    images, labels = load(tmp_path, size=4).arrays("train", 3000)
    assert images.dtype == np.float32 and labels is None
    found = [known[np.rint(image * 255).astype(np.uint8).tobytes()] for image in images]
    places, counts = np.unique([f[:3] for f in found], axis=0, return_counts=True)
    assert len(places) == 2 * 3 + 4 * 1
    assert abs(counts / 3000 - 0.1).max() < 0.03  # evenly over both pictures
    ways = np.bincount([f[3] for f in found], minlength=8) / 3000
    assert abs(ways - 0.125).max() < 0.03


def test_a_patch_depends_on_the_seed_and_its_index_alone(tmp_path):
    paint(tmp_path / "a.png", (90, 80))
    train = load(tmp_path).split("train")
    assert len(train) == COUNTS["train"] and train.images(np.array([0])).shape == (1, 3, 48, 48)
    some = train.images(np.array([5, 2, 5]))
    assert np.array_equal(some[0], some[2]) and not np.array_equal(some[0], some[1])
    assert np.array_equal(load(tmp_path).split("train").images(np.array([2])), some[1:2])
    assert not np.array_equal(load(tmp_path, seed=1).split("train").images(np.array([2])), some[1:2])


def test_grey_and_the_digest(tmp_path):
    paint(tmp_path / "a.png", (20, 20))
    digests = {load(tmp_path, **options).digest() for options in ({"size": 8}, {"size": 9}, {"size": 8, "grey": True})}
    assert len(digests) == 3
    assert load(tmp_path, size=8).digest() in digests
    assert load(tmp_path, size=8, grey=True).spec.shape == (1, 8, 8)
    paint(tmp_path / "b.png", (20, 20))
    assert load(tmp_path, size=8).digest() not in digests


@pytest.mark.parametrize(("n", "names"), [(9, ["train"]), (10, ["train", "valid", "test"])])
def test_a_picture_is_in_one_split(tmp_path, n, names):
    for i in range(n):
        Image.new("L", (8, 8), 10 * i).save(tmp_path / f"{i}.png")
    data = load(tmp_path, size=8, grey=True)
    assert list(data.splits) == names
    seen = [set(data.arrays(name, 200)[0].ravel().tolist()) for name in names]
    assert sum(map(len, seen)) == n == len(set().union(*seen))


def test_what_cannot_be_cut(tmp_path):
    paint(tmp_path / "small.png", (30, 60))
    with refused(DataError, "small.png", "30 × 60", "48 × 48", "--image-size 30"):
        load(tmp_path)
    for wrong in (tmp_path / "nowhere", ""):
        with refused(DataError, "no folder", "patches:PATH"):
            load(wrong)
