"""Crops of full-size pictures as a data set: `--data patches:PATH`, 48 × 48 pixels or `--image-size N`.

Where `folder` shrinks each picture to one image, `patches` cuts images out of it, so that the grain and the edges of a
photograph stay as they are. Patch i depends on the seed, the split and i alone: every place of every picture is equally
likely, and the patch is turned by a multiple of 90° and mirrored, all eight ways equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygen import backend
from tinygen.data.dataset import DataRequest, Dataset, hash_of
from tinygen.data.files import image_size, read_image
from tinygen.data.folder import GIVE_PATH, list_images, split_of
from tinygen.errors import DataError
from tinygen.random import Stream

COUNTS = {"train": 100_000, "valid": 1_000, "test": 1_000}
SIZE = 48


class Patches:
    """`count` crops of size × size pixels out of the pictures of `paths`, which are read when first asked for.

    channels: 1 or 3. random: the stream whose child `i` chooses patch i.
    Raises DataError, naming the file, for a picture smaller than a patch.
    """

    def __init__(self, paths: Sequence[Path], size: int, channels: int, count: int, random: Stream) -> None:
        self._paths, self._size, self._channels, self._count, self._random = paths, size, channels, count, random
        self._pictures: dict[int, np.ndarray] = {}
        places = [0]
        for path in paths:
            width, height = image_size(path)
            if min(width, height) < size:
                raise DataError(
                    f"{path}: is {width} × {height} pixels, smaller than a patch of {size} × {size}",
                    f"use --image-size {min(width, height)}, or take the picture away",
                )
            places.append((height - size + 1) * (width - size + 1))
        self._starts = np.cumsum(places)  # the number of each picture's first place, and of all places at the end

    def __len__(self) -> int:
        return self._count

    def images(self, indices: np.ndarray) -> np.ndarray:
        pixels = np.stack([self._patch(int(index)) for index in indices])
        return pixels * np.float32(1 / 255)

    def labels(self, indices: np.ndarray) -> None:
        return None

    def digest(self) -> str:
        """Of the files' names and sizes, and of what chooses the patches."""
        files = ((path.name, path.stat().st_size) for path in self._paths)
        return hash_of(*files, self._size, self._channels, self._count, self._random.seed, self._random.name)

    def _patch(self, index: int) -> np.ndarray:
        """(c, size, size) uint8."""
        random, size = self._random.child(str(index)), self._size
        place = int(random.integers(0, int(self._starts[-1]), ()))
        which = int(np.searchsorted(self._starts, place, side="right")) - 1
        picture = self._picture(which)
        top, left = divmod(place - int(self._starts[which]), picture.shape[2] - size + 1)
        patch = picture[:, top : top + size, left : left + size]
        turn = int(random.integers(0, 8, ()))
        patch = np.rot90(patch, turn % 4, axes=(1, 2))
        return patch[:, :, ::-1] if turn >= 4 else patch

    def _picture(self, which: int) -> np.ndarray:
        """(c, h, w) uint8."""
        if which not in self._pictures:
            self._pictures[which] = np.rint(read_image(self._paths[which], self._channels) * 255).astype(np.uint8)
        return self._pictures[which]


def patches(request: DataRequest) -> Dataset:
    """Patches of the pictures below `request.argument`: of 80 % of them to train, 10 % to validate, 10 % to test.

    Fewer than ten pictures are all for training, as with `folder`. The pictures are kept in memory.
    Raises DataError, naming the folder or file, for what is missing, empty or too small.
    """
    root = Path(request.argument).expanduser()
    if not request.argument or not root.is_dir():
        raise DataError(f"data patches: {request.argument or 'which folder?'}: is no folder", _GIVE_PATHS)
    paths, _, _ = list_images(root)
    size, channels = request.size or SIZE, 1 if request.grey else 3
    splits = {}
    for name, indices in split_of(len(paths)).items():
        random = Stream(request.seed, f"patches/{name}", backend.NUMPY)
        splits[name] = Patches([paths[i] for i in indices], size, channels, COUNTS[name], random)
    return Dataset(f"patches:{request.argument}", splits, (channels, size, size))


_GIVE_PATHS = GIVE_PATH.replace("folder:", "patches:")
