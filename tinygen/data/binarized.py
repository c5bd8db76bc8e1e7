"""Black and white digits: MNIST with each pixel 0 or 1, on which generative models with a likelihood are compared.

    --data binarized-mnist             the bits that were drawn once and published: the static binarization
    --data binarized-mnist:dynamic     drawn from the grey digits, for the training images anew in each epoch

In both a bit is 1 with the probability that the pixel's grey level says. Figures on the two are not to be compared:
the static training images can be learnt by heart.

The draws of `dynamic` depend on what is asked for alone, so that a run that was stopped goes on with the same ones:
those of a batch of training images on the batch's indices in their order, which is another one in each epoch; those of
a validation or test image on its index.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tinygen import backend
from tinygen.data.dataset import ArrayImages, DataRequest, Dataset, DrawnImages, ImageSet, hash_of
from tinygen.data.find import find
from tinygen.data.idx import mnist
from tinygen.errors import DataError, did_you_mean
from tinygen.random import Stream

FOLDER, FILE = "binarized_mnist", "binarized_mnist.npz"
SPLITS = ("train", "valid", "test")
SIDE = 28
BYTES = SIDE * SIDE // 8  # of an image, eight pixels a byte


def binarized_mnist(request: DataRequest) -> Dataset:
    """Binary digits, 28 × 28: 50,000 to train, 10,000 to validate, 10,000 to test.

    request.argument: "" or "static" for the published bits, which have no labels; "dynamic" for bits drawn from
        `mnist`, with its labels and its files. request.seed: another seed draws other bits.
    Sources: Salakhutdinov and Murray 2008; Larochelle and Murray, "The Neural Autoregressive Distribution Estimator",
    2011, for the file of bits; Burda et al. 2016 for drawing anew.
    """
    if request.argument in ("", "static"):
        return _static(request)
    if request.argument == "dynamic":
        return _dynamic(request)
    raise DataError(
        f"data binarized-mnist: there is no {request.argument}", did_you_mean(request.argument, ["static", "dynamic"])
    )


# ---------------------------------------------------------------- the published bits


def _static(request: DataRequest) -> Dataset:
    if request.size not in (None, SIDE):
        raise DataError(
            f"data binarized-mnist: images of bits are {SIDE} × {SIDE}, {request.size} was asked for",
            "leave out --image-size, or take --data binarized-mnist:dynamic",
        )
    bits = read_bits(find(FOLDER, FILE, request.folders))
    return Dataset("binarized-mnist", {name: ArrayImages(bits[name] * np.uint8(255)) for name in bits}, (1, SIDE, SIDE))


def read_bits(path: str | Path) -> dict[str, np.ndarray]:
    """The bits of each split, (n, 1, 28, 28) uint8 of 0 and 1, from an npz file of packed rows (n, 98) uint8.

    A byte holds eight pixels of a row-major image, the first in its highest bit. Nothing is unpickled.
    Raises DataError, naming the file, if it is missing, damaged, or does not hold that.
    """
    return {name: _unpack(path, name, rows) for name, rows in _read_arrays(Path(path)).items()}


_COPY_AGAIN = "copy or download the file again"


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist()}
            missing = [name for name in SPLITS if name not in held]
            if missing:
                raise DataError(f"{path}: holds no array {missing[0]}", f"expected {', '.join(SPLITS)}")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in SPLITS}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DataError:
        raise
    except Exception as error:  # what is damaged makes zipfile, zlib and NumPy raise some ten kinds
        said = str(error).split("\n")[0]
        raise DataError(f"{path}: damaged or truncated npz file: {said}", _COPY_AGAIN) from error


def _unpack(path: str | Path, name: str, rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 2 or rows.shape[1] != BYTES or rows.dtype != np.uint8:
        raise DataError(f"{path}: expected {name} (n, {BYTES}) uint8, got {rows.shape} {rows.dtype}", _COPY_AGAIN)
    if len(rows) == 0:
        raise DataError(f"{path}: {name} holds no images", _COPY_AGAIN)
    return np.unpackbits(rows, axis=1).reshape(-1, 1, SIDE, SIDE)


# ---------------------------------------------------------------- drawn from grey levels


def _dynamic(request: DataRequest) -> Dataset:
    grey = mnist(request)
    splits = {
        name: DrawnAnew(images, request.seed) if name == "train" else _drawn_once(images, request.seed, name)
        for name, images in grey.splits.items()
    }
    return Dataset("binarized-mnist:dynamic", splits, grey.shape, grey.classes)


class DrawnAnew:
    """Binary images, each pixel 1 with the probability that `grey` images say, drawn for every batch of its own.

    The draws of a batch depend on the seed and on its indices in their order.
    """

    def __init__(self, grey: ImageSet, seed: int) -> None:
        self._grey, self._seed = grey, seed

    def __len__(self) -> int:
        return len(self._grey)

    def images(self, indices: np.ndarray) -> np.ndarray:
        batch = hash_of(np.asarray(indices, np.int64))
        return _bits(self._grey.images(indices), Stream(self._seed, f"binarized-mnist/batch {batch}", backend.NUMPY))

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return self._grey.labels(indices)


def _drawn_once(grey: ImageSet, seed: int, split: str) -> DrawnImages:
    """Binary images of which each always is the same."""

    def draw(index: int) -> tuple[np.ndarray, int]:
        at = np.array([index])
        labels = grey.labels(at)
        random = Stream(seed, f"binarized-mnist/{split}/{index}", backend.NUMPY)
        pixels = _bits(grey.images(at), random)[0].astype(np.uint8) * np.uint8(255)
        return pixels, -1 if labels is None else int(labels[0])

    return DrawnImages(len(grey), grey.images(np.array([0])).shape[1:], draw)


def _bits(levels: np.ndarray, random: Stream) -> np.ndarray:
    """0 or 1 as float32, 1 with the probability of the level: u < level for u ∼ U[0, 1)."""
    return (random.uniform(levels.shape) < levels).astype(np.float32)
