"""Data sets and batches: images as (n, c, h, w) float32 in [0, 1], labels as whole numbers; clips as (n, t, c, h, w).

An ImageSet is anything with a length that returns the images of given indices: an array in memory, files read when
asked for, or pictures drawn on demand. A Dataset is its three splits. Batches walk through one split for ever in a
seeded order, and their place in it is part of a checkpoint.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinygen.autograd import Tensor, tensor
from tinygen.backend import current
from tinygen.errors import DataError, did_you_mean
from tinygen.random import Stream

KEEP_BYTES = 64 << 20  # of drawn images, for each split: the core's own sets at 28 and 32 pixels fit


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """What a data set is asked for: its argument, where files may lie, and the shape that images are brought to."""

    argument: str = ""  # the text after the colon of `--data name:argument`
    folders: tuple[str, ...] = ()  # data folders, in the order in which they are searched
    size: int | None = None  # images are resized and cropped to size × size; None keeps the data set's own
    grey: bool = False  # one channel instead of three
    seed: int = 0  # for data that is generated

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise DataError(f"image size must be at least 1, got {self.size}", "for instance --image-size 32")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """What a model may know of its data before it sees any: images are (channels, height, width) in [0, 1].

    Where `frames` is not 0, each of the `count` is a clip of so many frames, (frames, channels, height, width).
    """

    name: str
    channels: int
    height: int
    width: int
    count: int  # training images
    classes: tuple[str, ...] = ()  # the labels' names; empty where there are none
    frames: int = 0  # in a clip; 0 for still images

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class ImageSet(Protocol):
    """A split of a data set, on the host. It may have a `digest()` of its own, see `Dataset.digest`."""

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> np.ndarray:
        """(n, c, h, w) float32 in [0, 1]; of clips (n, t, c, h, w)."""
        ...

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        """(n,) int64, or None where there are no labels."""
        ...


class ArrayImages:
    """Images held in memory as bytes: `pixels` (n, c, h, w) uint8, `classes` (n,) or None."""

    def __init__(self, pixels: np.ndarray, classes: np.ndarray | None = None) -> None:
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise DataError(f"images must be (n, c, h, w) uint8, got {pixels.shape} {pixels.dtype}")
        if classes is not None and classes.shape != (len(pixels),):
            raise DataError(f"{len(pixels)} images have labels of shape {classes.shape}, expected ({len(pixels)},)")
        self.pixels, self.classes = pixels, classes

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices] * np.float32(1 / 255)

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self.classes is None else self.classes[indices].astype(np.int64)

    def digest(self) -> str:
        return hash_of(self.pixels, self.classes)


class DrawnImages:
    """Images made when asked for: `draw(index)` gives (pixels (c, h, w) uint8, label), for one index always the same.

    The first images of the split, as many as fit into KEEP_BYTES, are drawn once and kept; what lies beyond is drawn
    whenever it is asked for, so that large images cost time rather than memory. Labels are kept in any case.

    label: `label(index)` gives the label alone, for where that is cheaper: labels are asked for without their images
        where images are looked up by class. None: a label comes with its image.
    """

    def __init__(
        self, count: int, shape: tuple[int, int, int], draw: Callable[[int], tuple[np.ndarray, int]],
        label: Callable[[int], int] | None = None,
    ) -> None:  # fmt: skip
        self._draw, self._label = draw, label
        self._pixels = np.empty((min(count, KEEP_BYTES // math.prod(shape)), *shape), np.uint8)
        self._labels = np.empty(count, np.int64)
        self._done = np.zeros(count, bool)  # drawn
        self._told = np.zeros(count, bool)  # its label is known

    def __len__(self) -> int:
        return len(self._labels)

    def _picture(self, index: int) -> np.ndarray:
        pixels, self._labels[index] = self._draw(index)
        if index < len(self._pixels):
            self._pixels[index] = pixels
        self._done[index] = self._told[index] = True
        return pixels

    def _ensure(self, indices: np.ndarray) -> None:
        for index in sorted(set(indices[~self._done[indices]].tolist())):
            self._picture(index)

    def images(self, indices: np.ndarray) -> np.ndarray:
        kept = indices < len(self._pixels)
        self._ensure(indices[kept])
        if kept.all():
            return self._pixels[indices] * np.float32(1 / 255)
        pixels = [self._pixels[i] if is_kept else self._picture(i) for i, is_kept in zip(indices.tolist(), kept)]
        return np.stack(pixels) * np.float32(1 / 255)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        if self._label is None:
            self._ensure(indices)
        else:
            for index in set(indices[~self._told[indices]].tolist()):
                self._labels[index], self._told[index] = self._label(index), True
        return self._labels[indices]


@dataclass(frozen=True)
class Dataset:
    """A data set's splits. `train` always is there; `valid` chooses settings, `test` is for reported figures."""

    name: str
    splits: Mapping[str, ImageSet]
    shape: tuple[int, int, int]  # (c, h, w)
    classes: tuple[str, ...] = ()
    frames: int = 0  # in a clip; 0 for still images

    @property
    def spec(self) -> DataSpec:
        c, h, w = self.shape
        return DataSpec(
            name=self.name, channels=c, height=h, width=w, count=len(self.splits["train"]), classes=self.classes,
            frames=self.frames,
        )  # fmt: skip

    def split(self, name: str) -> ImageSet:
        if name not in self.splits:
            raise DataError(f"data {self.name} has no split {name}", did_you_mean(name, list(self.splits)))
        return self.splits[name]

    def arrays(self, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The images and labels of a split (its first `limit`), as arrays on the host."""
        images = self.split(split)
        indices = np.arange(len(images) if limit is None else min(limit, len(images)))
        return images.images(indices), images.labels(indices)

    def digest(self) -> str:
        """A hash by which the training images are known again, so that a run goes on with no others.

        A split may have a cheap `digest()` of all of it; of any other some images and labels stand for the rest.
        """
        images = self.split("train")
        own = getattr(images, "digest", None)
        if own is not None:
            return own()
        some = np.arange(0, len(images), max(1, len(images) // 16))
        return hash_of(len(images), np.rint(images.images(some) * 255).astype(np.uint8), images.labels(some))


def hash_of(*parts: Any) -> str:
    """Sixteen hexadecimal digits that stand for arrays, with their types and shapes, and for other values, as text."""
    total = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype} {part.shape};".encode())
            total.update(part.tobytes())
        else:
            total.update(f"{part!r};".encode())
    return total.hexdigest()


class Batch(NamedTuple):
    """images (n, c, h, w) float32 in [0, 1], of clips (n, t, c, h, w); labels (n,) int64 or None."""

    images: Tensor
    labels: Tensor | None


class Batches:
    """Batches of a split for ever, each epoch in an order of its own.

    The order of epoch e comes from the stream's seed and e alone, so that the place is one number: batches drawn.
    The last, smaller batch of an epoch is left out; a set smaller than a batch gives batches of its whole size.
    """

    def __init__(self, images: ImageSet, size: int, random: Stream) -> None:
        if len(images) == 0:
            raise DataError("the data has no images", "check the folder or the split")
        if size < 1:
            raise DataError(f"batch size must be at least 1, got {size}")
        self.split, self.random = images, random
        self.size = min(size, len(images))
        self.drawn = 0
        self._epoch, self._order = -1, np.empty(0, np.int64)

    @property
    def per_epoch(self) -> int:
        return len(self.split) // self.size

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        epoch, place = divmod(self.drawn, self.per_epoch)
        if epoch != self._epoch:
            order = self.random.child(f"epoch {epoch}").permutation(len(self.split))
            self._epoch, self._order = epoch, current().to_host(order)
        indices = self._order[place * self.size : (place + 1) * self.size]
        self.drawn += 1
        images = self.split.images(indices)  # first: where images are drawn, their labels come with them
        labels = self.split.labels(indices)
        place_on = current().from_host
        return Batch(tensor(place_on(images)), None if labels is None else tensor(place_on(labels)))

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": np.array(self.drawn)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = int(state["drawn"])
