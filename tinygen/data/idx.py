"""IDX files, the format of MNIST, and the data sets that come in it.

An IDX file is an array with a header, all of it big-endian:

    0 0 code rank      four bytes: two zeros, the code of the element type, the number of dimensions
    size …             one 32-bit number a dimension
    elements …         in C order, to the end of the file

`read_idx` reads any of them, plain or gzipped, and refuses a file that is not exactly that. `mnist` and
`fashion_mnist` are the data sets' factories.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tinygen.data.dataset import ArrayImages, DataRequest, Dataset, DrawnImages, ImageSet
from tinygen.data.files import resize_and_crop
from tinygen.data.find import find
from tinygen.errors import DataError

ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"

SIDE = 28  # pixels, of every image in both data sets
DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


# ---------------------------------------------------------------- the format


def read_idx(path: str | Path) -> np.ndarray:
    """The array that an IDX file holds, in the machine's byte order.

    Raises DataError, naming the file, if it is missing, no IDX file, truncated, or longer than its header says.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
    """
    content = _read_unpacked(Path(path))
    if len(content) < 4:
        raise DataError(f"{path}: truncated IDX file, {len(content)} bytes hold no header", _COPY_AGAIN)
    zeros, code, rank = struct.unpack(">HBB", content[:4])
    if zeros != 0 or code not in ELEMENTS or rank == 0:
        raise DataError(f"{path}: not an IDX file, it begins with {content[:4].hex(' ')}", _COPY_AGAIN)
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{path}: truncated IDX file, {len(content)} of {start} bytes of header", _COPY_AGAIN)
    shape = struct.unpack(f">{rank}I", content[4:start])
    element = np.dtype(ELEMENTS[code])
    expected, got = math.prod(shape) * element.itemsize, len(content) - start
    if got != expected:
        problem = "truncated IDX file" if got < expected else "IDX file with something after its end"
        raise DataError(f"{path}: {problem}, expected {expected} bytes for {shape}, got {got}", _COPY_AGAIN)
    elements = np.frombuffer(content, element, offset=start).reshape(shape)
    return elements.astype(element.newbyteorder("="), copy=False)


_COPY_AGAIN = "copy or download the file again"


def _read_unpacked(path: Path) -> bytes:
    """The content of a file, unpacked if it is a gzip file whatever it is called."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or truncated gzip file: {error}", _COPY_AGAIN) from error


# ---------------------------------------------------------------- the data sets


def mnist(request: DataRequest) -> Dataset:
    """Handwritten digits, grey, 28 × 28: 50,000 to train, 10,000 to validate, 10,000 to test.

    The first 50,000 images of the training file are `train`, its last 10,000 `valid`, as the field reports them.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
    """
    return _four_files("mnist", DIGITS, request)


def fashion_mnist(request: DataRequest) -> Dataset:
    """Clothes, grey, 28 × 28, with the files and the splits of MNIST.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms", 2017, arXiv:1708.07747.
    """
    return _four_files("fashion_mnist", GARMENTS, request)


def _four_files(folder: str, classes: tuple[str, ...], request: DataRequest) -> Dataset:
    train_pixels, train_labels = _read_pair(folder, "train", len(classes), request)
    test_pixels, test_labels = _read_pair(folder, "t10k", len(classes), request)
    # The last sixth validates: 10,000 of 60,000. A cut-down file of fewer than six images has nothing to spare.
    n_valid = len(train_pixels) // 6
    n_train = len(train_pixels) - n_valid
    arrays = {
        "train": (train_pixels[:n_train], train_labels[:n_train]),
        "valid": (train_pixels[n_train:], train_labels[n_train:]),
        "test": (test_pixels, test_labels),
    }
    splits = {name: _image_set(*pair, request.size) for name, pair in arrays.items() if len(pair[0])}
    side = request.size or SIDE
    return Dataset(folder.replace("_", "-"), splits, (1, side, side), classes)


def _read_pair(folder: str, part: str, n_classes: int, request: DataRequest) -> tuple[np.ndarray, np.ndarray]:
    """The images (n, 1, 28, 28) and labels (n,) of one part, checked against each other."""
    images_path = find(folder, f"{part}-images-idx3-ubyte.gz", request.folders)
    labels_path = find(folder, f"{part}-labels-idx1-ubyte.gz", request.folders)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8:
        raise DataError(f"{images_path}: expected images (n, {SIDE}, {SIDE}) uint8, got {images.shape} {images.dtype}")
    if len(images) == 0:
        raise DataError(f"{images_path}: holds no images", _COPY_AGAIN)
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise DataError(f"{labels_path}: expected labels (n,) uint8, got {labels.shape} {labels.dtype}")
    if len(labels) != len(images):
        raise DataError(
            f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path.name}",
            "take both files from the same place",
        )
    if labels.max() >= n_classes:
        raise DataError(f"{labels_path}: labels must be below {n_classes}, got {labels.max()}", _COPY_AGAIN)
    return images[:, None], labels


def _image_set(pixels: np.ndarray, labels: np.ndarray, size: int | None) -> ImageSet:
    """The images as they are, or brought to size × size when first asked for."""
    if size is None or size == SIDE:
        return ArrayImages(pixels, labels)

    def draw(index: int) -> tuple[np.ndarray, int]:
        resized = resize_and_crop(Image.fromarray(pixels[index, 0]), size)
        return np.asarray(resized)[None], int(labels[index])

    return DrawnImages(len(pixels), (1, size, size), draw)
