"""Registration: the homography that takes one photograph onto another, found from the two alone.

Corners and descriptions (`_features.py`), matches, RANSAC (`_homography.py`), and the question whether to believe it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinygen import backend
from tinygen.backend import Array
from tinygen.data.transforms import luma
from tinygen.host import equation
from tinygen.random import Stream
from tinygen_plugins.composition._features import features, ratio_matches
from tinygen_plugins.composition._homography import SAMPLE, project, ransac

RATIO, THRESHOLD, OCTAVES = 0.8, 2.0, 2
LEAST_AREA, LARGEST_AREA = 1 / 16, 16.0


@dataclass(frozen=True)
class Match:
    """How two photographs fit together."""

    homography: Array  # (3, 3), from the first to the second, on the host
    agreeing: int  # pairs of corners within a few pixels of where it takes them
    matches: int  # pairs of corners that look alike
    believed: bool


@equation(
    r"n_i > 8.0 + 0.3\, n_f",
    source="Brown and Lowe 2007, section 3.2: more agree than would by chance, for p(right) = 0.6 and p(wrong) = 0.1",
)
def is_overlap(agreeing: int, matches: int) -> bool:
    """Whether so many agreeing pairs n_i of n_f matches mean that two photographs show the same."""
    return agreeing > 8.0 + 0.3 * matches


def describe_photograph(image: Array, count: int) -> tuple[Array, Array]:
    """Corners (n, 2) and descriptions (n, 64) of a photograph (c, h, w), on the host; `count` corners at each scale."""
    return features(luma(image)[0], count, OCTAVES)


def match_photographs(
    first: tuple[Array, Array], second: tuple[Array, Array], size: tuple[int, int], random: Stream
) -> Match:
    """The homography from the first photograph to the second, by what `describe_photograph` says of each.

    size: (h, w) of the first. random: draws the samples of RANSAC, on the host.
    """
    xp = backend.NUMPY.xp
    pairs = ratio_matches(first[1], second[1], RATIO)
    if len(pairs) < SAMPLE:
        return Match(xp.eye(3), 0, len(pairs), False)
    points, images = first[0][pairs[:, 0]], second[0][pairs[:, 1]]
    homography, agree = ransac(points, images, random, THRESHOLD)
    agreeing = int(agree.sum())
    believed = is_overlap(agreeing, len(pairs)) and is_plausible(homography, size)
    return Match(homography, agreeing, len(pairs), believed)


def is_plausible(homography: Array, size: tuple[float, float]) -> bool:
    """Whether an image of size (h, w) keeps its corners in order and before the horizon, and about its area."""
    xp = backend.of(homography).xp
    height, width = size
    outline = xp.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    depth = outline @ homography[2, :2] + homography[2, 2]
    if not (bool((depth > 0).all()) or bool((depth < 0).all())):
        return False
    x, y = project(homography, outline).T
    before, after = xp.roll(xp.stack([x, y]), 1, axis=1), xp.roll(xp.stack([x, y]), -1, axis=1)
    turns = (x - before[0]) * (after[1] - y) - (y - before[1]) * (after[0] - x)
    area = float(xp.sum(x * after[1] - y * after[0])) / 2 / (height * width)
    return bool((turns > 0).all()) and LEAST_AREA < area < LARGEST_AREA
