"""Stitching: overlapping photographs, taken from one place, joined to one wide picture.

1. Corners of each photograph and what they look like                                  `_features.py`
2. Which corners of two photographs are the same, and the homography between them      `_register.py`, `_homography.py`
3. Which photograph is in the middle, and how each of the others gets there            `Stitch._arrange`
4. All photographs on one canvas, evenly exposed                                       `Stitch._lay_out`, `_exposure.py`
5. Seams where the photographs differ least, hidden in the bands of a pyramid          `_seam.py`, `_pyramid.py`

Read `Stitch.compose`. The few hundred numbers of steps 2 and 3 are worked out on the host, pixels on the backend in
use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.data.transforms import crop, warp
from tinygen.errors import UsageError
from tinygen.host import Composer, check_choice, check_range
from tinygen.random import Stream
from tinygen_plugins.composition._exposure import balance, exposure_gains, overlap_statistics
from tinygen_plugins.composition._homography import project
from tinygen_plugins.composition._inputs import arrays_of
from tinygen_plugins.composition._pyramid import fuse, levels_for
from tinygen_plugins.composition._register import Match, describe_photograph, is_plausible, match_photographs
from tinygen_plugins.composition._seam import largest_rectangle, seam_mask
from tinygen_plugins.composition._weights import feather_weights, inner_distance, weighted_mean

BANDS = 5  # levels of the pyramid at a seam: the coarsest band cross-fades over some 64 pixels
LARGEST = 8.0  # area of the canvas, of that of all photographs together
SMALLEST_SIDE = 40  # of a photograph; less holds no patch around a corner


@dataclass(frozen=True)
class Config:
    """The options of `stitch`."""

    seam: Literal["cut", "feather"] = "cut"
    """join photographs along the cheapest seam, or let them fade into each other over all that they share"""
    gain: bool = True
    """make the photographs equally bright where they overlap"""
    crop: bool = True
    """cut the picture to the largest rectangle without empty corners"""
    corners: int = 500
    """corners that are looked at, in each photograph and at each scale"""

    def __post_init__(self) -> None:
        check_choice("stitch", "seam", self.seam, ["cut", "feather"])
        check_range("stitch", "corners", self.corners, 20, 5000)


class Stitch(Composer):
    """Photographs joined."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config

    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """One picture (c, h, w) in [0, 1] from two or more photographs (c, h_k, w_k), in any order.

        It is seen as the photograph in the middle sees it. Raises UsageError if photographs are too small or do not
        hang together by what they show, and for a mask, which has no meaning here.
        """
        if mask is not None:
            raise UsageError("stitch: takes no mask, it finds the overlaps itself", "leave --mask out, or use blend")
        photographs = arrays_of("stitch", images, 2)
        for number, image in enumerate(photographs, 1):
            if min(image.shape[1:]) < SMALLEST_SIDE:
                raise UsageError(
                    f"stitch: image {number} must be {SMALLEST_SIDE}×{SMALLEST_SIDE} pixels or more, got"
                    f" {image.shape[2]}×{image.shape[1]}",
                    "give larger photographs",
                )
        layers, covered = self._lay_out(photographs, self._arrange(photographs, random))
        picture, where_any = self._join(layers, covered)
        if self.config.crop:
            rectangle = largest_rectangle(where_any)
            picture = crop(picture, *rectangle)
        return Tensor(backend.of(picture).xp.clip(picture, 0.0, 1.0))

    def _arrange(self, photographs: list[Array], random: Stream) -> list[Array]:
        """The homography (3, 3) of each photograph to the one in the middle, in which the picture is seen.

        Photographs are joined by the tree of the best matches, in which the middle one has the fewest steps to the
        farthest. Homographies are multiplied along the tree.
        """
        xp = backend.NUMPY.xp
        count = len(photographs)
        described = [describe_photograph(image, self.config.corners) for image in photographs]
        matches: dict[tuple[int, int], Match] = {}
        for i in range(count):
            for j in range(i + 1, count):
                draws = Stream(random.seed, f"{random.name}/pair {i} {j}", backend.NUMPY)
                matches[i, j] = match_photographs(described[i], described[j], photographs[i].shape[1:], draws)

        lengths = xp.zeros((count, count))  # 0 is no edge; the more pairs agree, the shorter
        for pair, match in matches.items():
            lengths[pair] = 1 / match.agreeing if match.believed else 0.0
        tree = minimum_spanning_tree(lengths)
        steps, towards = shortest_path(tree, directed=False, unweighted=True, return_predecessors=True)
        if not xp.isfinite(steps).all():
            raise self._torn(xp.isfinite(steps[0]).tolist(), matches)

        middle = int(steps.max(axis=1).argmin())
        homographies = [xp.eye(3)] * count
        for k in xp.argsort(steps[middle], kind="stable").tolist()[1:]:
            parent = int(towards[middle, k])
            match = matches[min(k, parent), max(k, parent)].homography
            homographies[k] = homographies[parent] @ (match if k < parent else xp.linalg.inv(match))
        for k, homography in enumerate(homographies):
            if not is_plausible(homography, photographs[k].shape[1:]):
                raise UsageError(
                    f"stitch: image {k + 1} looks too far aside of image {middle + 1} for one flat picture",
                    "join fewer photographs, or those of a narrower view",
                )
        return homographies

    def _torn(self, joined: list[bool], matches: dict[tuple[int, int], Match]) -> UsageError:
        """The error for photographs that fall apart into groups; it names one that is not with the first."""
        alone = joined.index(False)
        best = max((m for pair, m in matches.items() if alone in pair), key=lambda match: match.agreeing)
        return UsageError(
            f"stitch: image {alone + 1} does not overlap with the others: {best.agreeing} of {best.matches} pairs of"
            " corners agree at best",
            "give photographs from one place that share a third or more, with detail in what they share",
        )

    def _lay_out(self, photographs: list[Array], homographies: list[Array]) -> tuple[Array, Array]:
        """The photographs on one canvas (k, c, h, w), evenly exposed, and where each has pixels (k, h, w) bool."""
        host = backend.NUMPY.xp
        outlines = []
        for image, homography in zip(photographs, homographies):
            _, height, width = image.shape
            outline = host.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
            outlines.append(project(homography, outline))
        ends = host.concatenate(outlines)
        low, high = host.floor(ends.min(axis=0)), host.ceil(ends.max(axis=0))
        size = (int(high[1] - low[1]), int(high[0] - low[0]))
        if size[0] * size[1] > LARGEST * sum(image.shape[1] * image.shape[2] for image in photographs):
            raise UsageError(
                f"stitch: the picture would be {size[1]}×{size[0]} pixels, far more than the photographs hold",
                "join fewer photographs, or those of a narrower view",
            )
        shift = host.array([[1.0, 0.0, -low[0]], [0.0, 1.0, -low[1]], [0.0, 0.0, 1.0]])

        xp = backend.of(photographs[0]).xp
        layers, covered = [], []
        for image, homography in zip(photographs, homographies):
            sheet = xp.ones((1, *image.shape[1:]), image.dtype)
            layers.append(warp(image, shift @ homography, size))
            covered.append(warp(sheet, shift @ homography, size)[0] > 0.999)  # no pixel is mixed with the void
        stack, regions = xp.stack(layers), xp.stack(covered)
        if self.config.gain:
            gains = balance(exposure_gains(*overlap_statistics(stack, regions), noise=0.01, prior=0.1))
            stack = gains.astype(stack.dtype)[:, None, None, None] * stack
        return stack, regions

    def _join(self, layers: Array, covered: Array) -> tuple[Array, Array]:
        """One picture (c, h, w) out of layers (k, c, h, w), and where it has pixels (h, w) bool; 0 elsewhere."""
        xp = backend.of(layers).xp
        if self.config.seam == "feather":
            weights = feather_weights(xp.stack([inner_distance(region, bounded=True) for region in covered]))
            return weighted_mean(layers, weights.astype(layers.dtype)), xp.any(covered, axis=0)
        picture, region = layers[0], covered[0]
        for layer, layer_region in zip(layers[1:], covered[1:]):
            taken = seam_mask(picture, layer, region, layer_region)
            # Where one has no pixels it continues as the other, so that no band sees the void.
            first, second = xp.where(region, picture, layer), xp.where(layer_region, layer, picture)
            levels = min(levels_for(*region.shape), BANDS)
            region = region | layer_region
            picture = region * fuse(second, first, taken.astype(layer.dtype), levels)
        return picture, region
