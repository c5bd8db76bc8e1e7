"""Binary digits: the published bits from files of the test's own making, and bits drawn from grey levels."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tinygen.data import ArrayImages, Batches, DataRequest
from tinygen.data.binarized import SPLITS, DrawnAnew, binarized_mnist, read_bits
from tinygen.errors import DataError
from tinygen.random import Stream
from tinygen.testing.strategies import seeds

from .expect import read_or_refused, refused
from .test_idx import DIGITS, IMAGES, LABELS, TEST, TRAIN, write


def images(n: int, seed: int = 0) -> np.ndarray:
    """n images of bits (n, 1, 28, 28)."""
    return np.random.default_rng(seed).integers(0, 2, (n, 1, 28, 28)).astype(np.uint8)


def packed(bits: np.ndarray) -> np.ndarray:
    """Eight pixels a byte by place value, the first counting 128."""
    return (bits.reshape(len(bits), 98, 8) @ (2 ** np.arange(7, -1, -1))).astype(np.uint8)


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


BITS = {name: images(n, n) for name, n in zip(SPLITS, (6, 4, 3))}
ROWS = {name: packed(bits) for name, bits in BITS.items()}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "binarized_mnist").mkdir()
    (tmp_path / "binarized_mnist" / "binarized_mnist.npz").write_bytes(npz(**ROWS))
    return tmp_path


def load(root, **options):
    return binarized_mnist(DataRequest(folders=(str(root),), **options))


# ---------------------------------------------------------------- the published bits


@pytest.mark.parametrize("argument", ["", "static"])
def test_the_bits_of_a_file_are_the_images(root, argument):
    data = load(root, argument=argument)
    for name, bits in BITS.items():
        pixels, labels = data.arrays(name)
        assert labels is None and pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, bits)
    assert (data.name, data.spec.shape, data.spec.count, data.spec.classes) == ("binarized-mnist", (1, 28, 28), 6, ())
    assert load(root, size=28).spec == data.spec


def test_a_missing_file_is_told_with_its_place(tmp_path):
    with refused(DataError, "binarized_mnist.npz is not in", f"put binarized_mnist.npz into {tmp_path}"):
        load(tmp_path)


def test_bits_cannot_be_resized(root):
    with refused(DataError, "28 × 28, 32 was asked for", "binarized-mnist:dynamic"):
        load(root, size=32)


def test_an_unknown_kind_is_told(root):
    with refused(DataError, "there is no dynamyc", 'did you mean "dynamic"?'):
        load(root, argument="dynamyc")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["damaged or truncated npz file"]),
        (npz(**ROWS)[:-40], ["damaged or truncated npz file", "again"]),
        (npz(**ROWS)[:200], ["damaged or truncated npz file"]),
        (npz(train=ROWS["train"], valid=ROWS["valid"]), ["holds no array test", "train, valid, test"]),
        (npz(**ROWS | {"valid": ROWS["valid"][:, :97]}), ["valid (n, 98) uint8", "(4, 97) uint8"]),
        (npz(**ROWS | {"train": BITS["train"]}), ["train (n, 98) uint8", "(6, 1, 28, 28) uint8"]),
        (npz(**ROWS | {"test": ROWS["test"] * 1.0}), ["test (n, 98) uint8", "(3, 98) float64"]),
        (npz(**ROWS | {"test": ROWS["test"][:0]}), ["test holds no images"]),
        (npz(**ROWS | {"test": np.array([{}])}), ["damaged or truncated npz file", "allow_pickle=False"]),
    ],
)
def test_files_that_do_not_fit_are_told(root, content, words):
    path = root / "binarized_mnist" / "binarized_mnist.npz"
    path.write_bytes(content)
    with refused(DataError, path, *words):
        load(root)


def test_an_array_file_is_no_archive(root):
    path = root / "binarized_mnist" / "binarized_mnist.npz"
    np.save(path.with_suffix(".npy"), ROWS["train"])
    path.with_suffix(".npy").rename(path)
    with refused(DataError, path, "damaged or truncated npz file"):
        load(root)


def test_a_file_that_cannot_be_read_is_told(root):
    path = root / "binarized_mnist"
    with refused(DataError, path, "cannot be read"):
        read_bits(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("npz") / "file.npz"


def all_bits(path):
    return np.concatenate(list(read_bits(path).values()))


@given(data=st.data())
def test_a_truncated_file_is_refused(place, data):
    content = npz(**ROWS)
    place.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert read_or_refused(all_bits, place) is None


@given(data=st.data())
def test_a_flipped_bit_is_refused_or_without_meaning(place, data):
    content = bytearray(npz(**ROWS))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    place.write_bytes(content)
    read = read_or_refused(all_bits, place)
    if read is not None:  # an archive holds times and flags that change no element
        np.testing.assert_array_equal(read, np.concatenate(list(BITS.values())))


def test_an_archive_may_hold_more(root):
    with zipfile.ZipFile(root / "binarized_mnist" / "binarized_mnist.npz", "a") as archive:
        archive.writestr("readme.txt", "bits")
    np.testing.assert_array_equal(load(root).arrays("test")[0], BITS["test"])


# ---------------------------------------------------------------- drawn from grey levels


@pytest.fixture
def grey(tmp_path):
    """A data folder with small stand-ins for MNIST: images of random grey levels."""
    (tmp_path / "mnist").mkdir()
    random = np.random.default_rng(0)
    for part, n in ((TRAIN, 60), (TEST, 10)):
        write(tmp_path / "mnist", part.format(IMAGES), random.integers(0, 256, (n, 28, 28)).astype(np.uint8))
        write(tmp_path / "mnist", part.format(LABELS), (np.arange(n) % 10).astype(np.uint8))
    return tmp_path


def levels(values, n=2000):
    """n images that have these grey levels, as fractions of 255, for pixels."""
    pixels = np.tile(np.array(values, np.uint8)[None, None, None], (n, 1, 1, 1))
    return ArrayImages(pixels)


@given(seeds(), st.lists(st.integers(1, 254), min_size=1, max_size=4))
def test_a_pixel_is_1_with_the_probability_of_its_level(seed, values):
    n = 2000
    bits = DrawnAnew(levels(values), seed).images(np.arange(n))
    assert bits.shape == (n, 1, 1, len(values)) and bits.dtype == np.float32
    assert set(np.unique(bits)) <= {0.0, 1.0}
    for value, ones in zip(values, bits.sum((0, 1, 2))):
        assert scipy.stats.binomtest(int(ones), n, value / 255).pvalue > 1e-6


@given(seeds())
def test_black_and_white_stay_what_they_are(seed):
    bits = DrawnAnew(levels([0, 255]), seed).images(np.arange(500))
    assert (bits == np.array([0, 1], np.float32)).all()


def test_a_batch_is_drawn_the_same_again_and_another_batch_otherwise():
    images = DrawnAnew(levels([128] * 30, 40), 3)
    order = np.random.default_rng(0).permutation(40)[:16]
    first = images.images(order)
    np.testing.assert_array_equal(first, images.images(order))
    np.testing.assert_array_equal(first, DrawnAnew(levels([128] * 30, 40), 3).images(order))
    assert (first != DrawnAnew(levels([128] * 30, 40), 4).images(order)).mean() > 0.3
    back = images.images(order[::-1])[::-1]  # the same images in another order
    assert (first != back).any(axis=(1, 2, 3)).mean() > 0.9


def test_each_epoch_draws_anew_and_goes_on_as_if_never_stopped(grey):
    data = load(grey, argument="dynamic")

    def batches(drawn=0):
        made = Batches(data.split("train"), 50, Stream(0, "batches"))
        made.load_state_dict({"drawn": drawn})
        return made

    through = batches()
    epochs = [next(through) for _ in range(3)]  # one batch holds all images, in some order
    grey_levels = {tuple(np.flatnonzero(b.ravel())) for e in epochs for b in e.images.numpy()}
    assert len(grey_levels) == 150  # no image came twice
    np.testing.assert_array_equal(next(batches(2)).images.numpy(), epochs[2].images.numpy())


def test_images_to_test_on_are_always_the_same(grey):
    first, again = (load(grey, argument="dynamic") for _ in range(2))
    for split in ("valid", "test"):
        whole, labels = first.arrays(split)
        assert set(np.unique(whole)) == {0.0, 1.0} and whole.dtype == np.float32
        np.testing.assert_array_equal(again.arrays(split, 4)[0], whole[:4])
        np.testing.assert_array_equal(again.split(split).images(np.array([5, 2])), whole[[5, 2]])
        assert labels.tolist() == list(range(10))
    assert (first.arrays("valid")[0] != first.arrays("test")[0]).mean() > 0.3
    assert (load(grey, argument="dynamic", seed=1).arrays("test")[0] != first.arrays("test")[0]).mean() > 0.2


def test_the_drawn_set_says_what_it_holds(grey):
    data = load(grey, argument="dynamic")
    assert (data.spec.name, data.spec.shape, data.spec.count) == ("binarized-mnist:dynamic", (1, 28, 28), 50)
    assert data.classes == DIGITS
    assert data.digest() == load(grey, argument="dynamic").digest() != load(grey, argument="dynamic", seed=1).digest()
    assert load(grey, argument="dynamic", size=8).arrays("test")[0].shape == (10, 1, 8, 8)


def test_the_real_file():
    root = os.environ.get("TINYGEN_DATA", "")
    if not os.path.isfile(os.path.join(root, "binarized_mnist", "binarized_mnist.npz")):
        pytest.skip("$TINYGEN_DATA holds no binarized_mnist/")
    data = load(root)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 50000, "valid": 10000, "test": 10000}
    for name, known in (("train", 0.130562), ("valid", 0.131127), ("test", 0.132512)):
        assert abs((data.split(name).pixels == 255).mean() - known) < 1e-6
