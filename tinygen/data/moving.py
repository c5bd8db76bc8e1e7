"""Moving digits: two digits that bounce about in frames of 64 × 64, 20 frames a clip, after Srivastava et al. 2015.

    --data moving-mnist      digits of MNIST                 --data moving-glyphs     drawn digits, no download
    --data moving-mnist:1    one digit, or up to 9

Clip i of a split depends on the seed, the split's name and i alone, and its digits come from the same split. A digit's
place is a point of [0, 1]²: where its corner lies in the room that its 28 × 28 pixels leave in the frame. With |v| = 1,

    p' = p + 0.1 v,   mirrored where it lies beyond a wall, 0 or 1;   a frame is the maximum of its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tinygen import backend
from tinygen.data import idx
from tinygen.data.dataset import DataRequest, Dataset, ImageSet
from tinygen.data.glyphs import glyphs
from tinygen.errors import DataError
from tinygen.random import Stream

COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
FRAMES, SIDE, DIGIT_SIDE, SMALLEST_SIDE = 20, 64, 28, 20  # pixels; in smaller frames the digits are smaller, too
SPEED = 0.1  # of the room, in a frame
DIGITS, MOST_DIGITS = 2, 9


def moving_mnist(request: DataRequest) -> Dataset:
    """Clips (20, 1, 64, 64) of moving MNIST digits; the digits of each split are those of MNIST's split.

    request.argument: how many digits, "" for two. request.size: side of the frames. request.seed: other clips.
    Source: Srivastava, Mansimov, Salakhutdinov, "Unsupervised Learning of Video Representations using LSTMs", 2015,
    section 4; its 10,000 test clips are others, made in the same way.
    """
    return _moving("moving-mnist", idx.mnist, request)


def moving_glyphs(request: DataRequest) -> Dataset:
    """The same with the digits of the embedded `glyphs`."""
    return _moving("moving-glyphs", glyphs, request)


def _moving(name: str, still: Callable[[DataRequest], Dataset], request: DataRequest) -> Dataset:
    if request.argument not in ("", *map(str, range(1, MOST_DIGITS + 1))):
        raise DataError(
            f"data {name}: how many digits? from 1 to {MOST_DIGITS}, got {request.argument!r}", f"for instance {name}:2"
        )
    side = request.size or SIDE
    if side < SMALLEST_SIDE:
        raise DataError(f"data {name}: frames of {side} × {side} are too small", f"from {SMALLEST_SIDE} on")
    digit_side = DIGIT_SIDE * side // SIDE
    digits = still(DataRequest(folders=request.folders, size=digit_side, seed=request.seed))
    count = int(request.argument or DIGITS)
    clips = {
        split: MovingClips(digits.split(split), count, (FRAMES, 1, side, side), clips_in, request.seed, split)
        for split, clips_in in COUNTS.items()
    }
    full_name = f"{name}:{request.argument}" if request.argument else name
    return Dataset(full_name, clips, (1, side, side), frames=FRAMES)


class MovingClips:
    """Clips (t, 1, h, w) of `moving` images of `digits`, drawn when asked for; there are `count` of them."""

    def __init__(
        self, digits: ImageSet, moving: int, shape: tuple[int, int, int, int], count: int, seed: int, name: str
    ) -> None:
        self._digits, self._moving, self._shape = digits, moving, shape
        self._count, self._seed, self._name = count, seed, name

    def __len__(self) -> int:
        return self._count

    def images(self, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._clip(int(index)) for index in indices])  # (n, t, 1, h, w)

    def labels(self, indices: np.ndarray) -> None:
        return None

    def _clip(self, index: int) -> np.ndarray:
        random = Stream(self._seed, f"moving/{self._name}/{index}", backend.NUMPY)
        digits = self._digits.images(random.integers(0, len(self._digits), self._moving))  # (m, 1, s, s)
        positions, angles = random.uniform((self._moving, 2), dtype="float64"), random.uniform(self._moving)
        velocities = SPEED * np.stack([np.sin(2 * math.pi * angles), np.cos(2 * math.pi * angles)], axis=1)
        return draw_clip(digits, trajectory(positions, velocities, self._shape[0]), self._shape)


def bounce(positions: np.ndarray, velocities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in [0, 1] and velocities a frame later: p + v, and where that lies beyond a wall, its mirror image there.

    positions, velocities: of one shape, |v| ≤ 1. A velocity changes its sign at a wall, and never its size.
    """
    moved = positions + velocities
    beyond = (moved < 0) | (moved > 1)
    return np.where(beyond, np.where(moved < 0, -moved, 2 - moved), moved), np.where(beyond, -velocities, velocities)


def trajectory(positions: np.ndarray, velocities: np.ndarray, frames: int) -> np.ndarray:
    """The places (t, m, 2) of m digits from their first (m, 2) and their velocities (m, 2) a frame."""
    places = [positions]
    for _ in range(frames - 1):
        positions, velocities = bounce(positions, velocities)
        places.append(positions)
    return np.stack(places)


def draw_clip(digits: np.ndarray, places: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The frames (t, c, h, w) of digits (m, c, s, s) at places (t, m, 2) in [0, 1]: (row, column) of the room left.

    Where digits overlap the lighter one is seen.
    """
    clip = np.zeros(shape, np.float32)
    side = digits.shape[-1]
    room = np.array(shape[2:]) - side
    corners = (places * room).astype(int)  # whole pixels, as in the paper's films
    for frame, of_frame in zip(clip, corners):
        for digit, (top, left) in zip(digits, of_frame):
            window = frame[:, top : top + side, left : left + side]
            np.maximum(window, digit, out=window)
    return clip
