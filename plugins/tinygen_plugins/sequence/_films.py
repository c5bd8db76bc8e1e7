"""What the networks for films share: clips that fit, the beginnings that films are made from, and the test clips."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.autograd import Tensor, tensor
from tinygen.backend import NUMPY, current
from tinygen.data import Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.random import Stream

MOST_BEGINNINGS = 16


def check_clips(owner: str, data: DataSpec, least: int, side: int) -> None:
    """Raise UsageError unless clips have `least` frames or more, whose sides are multiples of `side`."""
    if data.frames < least:
        raise UsageError(
            f"{owner}: clips must have {least} frames or more for these options, data {data.name} has {data.frames}",
            f"for instance --seen {max(1, data.frames // 2)}",
        )
    if data.height % side or data.width % side:
        raise UsageError(
            f"{owner}: frames must have sides that are multiples of {side}, got {data.height} × {data.width}",
            f"for instance --image-size {max(side, data.height // side * side)}",
        )


class Beginnings:
    """The first `seen` frames of a few training clips. A trained network goes on from these: it has no others."""

    def __init__(self, seen: int, data: DataSpec, batch_size: int) -> None:
        count = min(MOST_BEGINNINGS, batch_size, data.count)
        self.frames = Tensor(current().xp.zeros((seen, count, *data.shape), "float32"))
        self.known = False

    def keep(self, clips: Tensor) -> None:
        """Those of the first clips (t, n, c, h, w) that it is shown."""
        if not self.known:
            seen, count = self.frames.shape[:2]
            self.frames, self.known = tensor(clips.data[:seen, :count]), True

    def draw(self, n: int, random: Stream) -> Tensor:
        """n of them in random order, (seen, n, c, h, w): each once before one comes again."""
        count = self.frames.shape[1]
        order = random.permutation(count)
        return Tensor(self.frames.data[:, order[current().xp.arange(n) % count]])


def clips_of(data: Dataset, split: str, size: int) -> Iterator[Tensor]:
    """All clips of a split, so many at a time: (t, n, c, h, w)."""
    images = data.split(split)
    for first in range(0, len(images), size):
        clips = images.images(NUMPY.xp.arange(first, min(first + size, len(images))))
        yield tensor(current().from_host(clips)).transpose(0, 1)
