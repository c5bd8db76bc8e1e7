"""IDX files against a writer of the test's own, and the data sets that are made of them."""

from __future__ import annotations

import gzip
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen.data import DataRequest, read_idx
from tinygen.data.idx import DIGITS, GARMENTS, fashion_mnist, mnist
from tinygen.errors import DataError

from .expect import read_or_refused, refused

CODES = {"u1": (8, "B"), "i1": (9, "b"), "i2": (11, "h"), "i4": (12, "i"), "f4": (13, "f"), "f8": (14, "d")}
TRAIN, TEST = "train-{}.gz", "t10k-{}.gz"
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def idx_bytes(array: np.ndarray) -> bytes:
    code, letter = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + b"".join(struct.pack(f">{letter}", element) for element in array.ravel().tolist())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)


# ---------------------------------------------------------------- the format


@given(array=arrays, packed=st.booleans())
@settings(deadline=None)
def test_what_is_written_is_read(place, array, packed):
    content = idx_bytes(array)
    place.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(place)
    assert read.dtype == array.dtype and read.dtype.isnative and read.shape == array.shape
    np.testing.assert_array_equal(read, array)


def test_a_file_written_by_hand(place):
    place.write_bytes(bytes([0, 0, 11, 2, 0, 0, 0, 2, 0, 0, 0, 1, 1, 2, 0xFF, 0xFE]))
    np.testing.assert_array_equal(read_idx(place), np.array([[258], [-2]], np.int16))


@given(array=arrays, packed=st.booleans(), data=st.data())
@settings(deadline=None)
def test_a_file_cut_anywhere_is_refused(place, array, packed, data):
    content = idx_bytes(array)
    content = gzip.compress(content) if packed else content
    place.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with refused(DataError, place, "truncated"):
        read_idx(place)


@given(array=arrays, packed=st.booleans(), garbage=st.binary(min_size=1).filter(lambda tail: tail.strip(b"\0")))
@settings(deadline=None)
def test_a_file_that_goes_on_after_its_end_is_refused(place, array, packed, garbage):
    content = idx_bytes(array)
    place.write_bytes((gzip.compress(content) if packed else content) + garbage)
    with refused(DataError, place):
        read_idx(place)


@given(array=arrays, data=st.data())
@settings(deadline=None)
def test_a_flipped_bit_of_a_packed_file_is_refused_or_without_meaning(place, array, data):
    content = bytearray(gzip.compress(idx_bytes(array)))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place.write_bytes(content)
    read = read_or_refused(read_idx, place)
    if read is not None:  # the header of gzip holds a time and flags that change no element
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "0 bytes hold no header"),
        (b"\0\0\x08", "3 bytes hold no header"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file, it begins with 00 00 07 01"),
        (b"\0\0\x08\x00", "not an IDX file"),
        (b"\0\x01\x08\x01\0\0\0\0", "not an IDX file, it begins with 00 01 08 01"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file, it begins with 89 50 4e 47"),
        (b"\0\0\x08\x02\0\0\0\x01", "8 of 12 bytes of header"),
        (b"\0\0\x08\x01\0\0\0\x03ab", "expected 3 bytes for (3,), got 2"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", "something after its end, expected 3 bytes for (3,), got 4"),
        (b"\0\0\x08\x04" + b"\xff" * 16, f"expected {(2**32 - 1) ** 4} bytes"),
    ],
)
def test_what_is_wrong_is_told(place, content, word):
    place.write_bytes(content)
    with refused(DataError, place, word):
        read_idx(place)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    with refused(DataError, tmp_path / "none", "cannot be read"):
        read_idx(tmp_path / "none")
    with refused(DataError, tmp_path, "cannot be read"):
        read_idx(tmp_path)


# ---------------------------------------------------------------- the data sets


def write(folder: Path, name: str, array: np.ndarray) -> None:
    """Under the name given, gzipped if that ends so."""
    content = idx_bytes(array)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def digits(n: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n images, each of one grey value that is its number, and labels."""
    numbers = np.arange(first, first + n)
    images = np.broadcast_to(numbers[:, None, None], (n, 28, 28)).astype(np.uint8)
    return images, (numbers % 10).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """A data folder with 60 + 10 small stand-ins for MNIST."""
    (tmp_path / "mnist").mkdir()
    for part, (images, labels) in {TRAIN: digits(60), TEST: digits(10, 100)}.items():
        write(tmp_path / "mnist", part.format(IMAGES), images)
        write(tmp_path / "mnist", part.format(LABELS), labels)
    return tmp_path


def load(root: Path, **options):
    return mnist(DataRequest(folders=(str(root),), **options))


def test_the_last_sixth_of_the_training_file_validates(root):
    data = load(root)
    numbers = {name: np.rint(data.arrays(name)[0][:, 0, 5, 7] * 255).tolist() for name in data.splits}
    assert numbers == {"train": list(range(50)), "valid": list(range(50, 60)), "test": list(range(100, 110))}
    for name, expected in numbers.items():
        assert (data.arrays(name)[1] == np.array(expected) % 10).all()


def test_the_data_set_says_what_it_holds(root):
    spec = load(root).spec
    assert (spec.name, spec.shape, spec.count, spec.classes) == ("mnist", (1, 28, 28), 50, DIGITS)
    images, labels = load(root).arrays("test")
    assert images.shape == (10, 1, 28, 28) and images.dtype == np.float32
    assert labels.dtype == np.int64


def test_unpacked_files_are_as_good(root):
    for path in (root / "mnist").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load(root).spec.count == 50


@pytest.mark.parametrize("size", [8, 32])
def test_images_come_in_the_size_asked_for(root, size):
    data = load(root, size=size)
    images, labels = data.arrays("valid")
    assert data.shape == (1, size, size) and images.shape == (10, 1, size, size)
    expected = np.arange(50, 60, dtype=np.float32) / np.float32(255)
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, None, None, None], images.shape), atol=1e-6)
    assert labels.tolist() == list(range(10))


def test_a_file_of_few_images_has_none_to_validate_with(root):
    images, labels = digits(5)
    write(root / "mnist", TRAIN.format(IMAGES), images)
    write(root / "mnist", TRAIN.format(LABELS), labels)
    assert {name: len(split) for name, split in load(root).splits.items()} == {"train": 5, "test": 10}


def test_a_missing_file_is_told_with_its_place(root):
    (root / "mnist" / TEST.format(LABELS)).unlink()
    with refused(DataError, TEST.format(LABELS), f"put {TEST.format(LABELS)} into {root}"):
        load(root)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (IMAGES, np.zeros((60, 27, 28), "u1"), ["(n, 28, 28) uint8", "(60, 27, 28) uint8"]),
        (IMAGES, np.zeros((60, 784), "u1"), ["(n, 28, 28) uint8", "(60, 784) uint8"]),
        (IMAGES, np.zeros((60, 28, 28), "i2"), ["(n, 28, 28) uint8", "(60, 28, 28) int16"]),
        (IMAGES, np.zeros((0, 28, 28), "u1"), ["holds no images"]),
        (LABELS, np.zeros((60, 1), "u1"), ["(n,) uint8", "(60, 1) uint8"]),
        (LABELS, np.zeros(60, "f4"), ["(n,) uint8", "(60,) float32"]),
        (LABELS, np.zeros(59, "u1"), ["59 labels for the 60 images of " + TRAIN.format(IMAGES)]),
        (LABELS, np.full(60, 10, "u1"), ["labels must be below 10, got 10"]),
    ],
)
def test_files_that_do_not_fit_are_told(root, name, array, words):
    write(root / "mnist", TRAIN.format(name), array)
    with refused(DataError, root / "mnist" / TRAIN.format(name), *words):
        load(root)


def test_fashion_mnist_lies_in_its_own_folder(root):
    (root / "mnist").rename(root / "fashion_mnist")
    data = fashion_mnist(DataRequest(folders=(str(root),)))
    assert data.name == "fashion-mnist" and data.classes == GARMENTS and len(GARMENTS) == 10
    with refused(DataError, "data mnist"):
        load(root)


@pytest.mark.parametrize(("factory", "folder"), [(mnist, "mnist"), (fashion_mnist, "fashion_mnist")])
def test_the_real_files(factory, folder):
    root = os.environ.get("TINYGEN_DATA", "")
    if not os.path.isdir(os.path.join(root, folder)):
        pytest.skip(f"$TINYGEN_DATA holds no {folder}/")
    data = factory(DataRequest(folders=(root,)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 50000, "valid": 10000, "test": 10000}
    labels = np.concatenate([data.split(name).labels(np.arange(len(data.split(name)))) for name in data.splits])
    assert (
        np.bincount(labels).tolist()
        == {
            "mnist": [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958],
            "fashion_mnist": [7000] * 10,
        }[folder]
    )
    images, _ = data.arrays("test")
    known = {"mnist": 0.1325, "fashion_mnist": 0.2868}[folder]  # mean of the test images
    assert math.isclose(images.mean(dtype=np.float64), known, abs_tol=1e-4)
