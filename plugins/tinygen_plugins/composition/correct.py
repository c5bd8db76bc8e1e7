"""Error correction in three senses: of exposure, of geometry, and of single wrong pixels.

    exposure   images of one scene, brighter and darker: each is multiplied by its gain, and they are averaged, each
               value counting as far as it is to be trusted (`_exposure.py`)
    geometry   a photograph is re-projected by a homography, from pairs of points that are given, or onto another
               photograph by what both show (`_homography.py`, `_register.py`)
    defects    impulses are found and filled with medians of what is sound around them (`_impulse.py`)

Read `Correct.compose`, one method for each, and `Correct.repair`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.data.transforms import warp
from tinygen.errors import UsageError
from tinygen.host import Composer, Repairer, check_choice, check_range
from tinygen.random import Stream
from tinygen_plugins.composition._exposure import (
    balance,
    exposure_gains,
    hat_weights,
    overlap_statistics,
    well_exposed,
)
from tinygen_plugins.composition._homography import SAMPLE, determination, dlt
from tinygen_plugins.composition._impulse import fill_by_medians, find_impulses
from tinygen_plugins.composition._inputs import arrays_of, mask_of, require_one_size
from tinygen_plugins.composition._register import describe_photograph, match_photographs
from tinygen_plugins.composition._weights import weighted_mean

LEAST_DETERMINATION = 1e-5


@dataclass(frozen=True)
class Config:
    """The options of `correct`."""

    kind: Literal["exposure", "geometry", "defects"] = "exposure"
    """what verb compose corrects; verb repair is for defects"""
    noise: float = 0.01
    """exposure: how far brightness may differ between images that agree, σ_N"""
    prior: float = 0.1
    """exposure: how far gains may stray from 1, σ_g"""
    points: tuple[float, ...] = ()
    """geometry: pairs x y u v in pixels, (x, y) of the last image belongs at (u, v); none to find them in the images"""
    corners: int = 500
    """geometry: corners that are looked at, in each image and at each scale"""
    window: int = 9
    """defects: side of the largest window in pixels, odd"""
    threshold: float = 0.12
    """defects: least difference from the median of the window, of full scale"""

    def __post_init__(self) -> None:
        check_choice("correct", "kind", self.kind, ["exposure", "geometry", "defects"])
        check_range("correct", "noise", self.noise, 1e-4, 1.0)
        check_range("correct", "prior", self.prior, 1e-3, 100.0)
        check_range("correct", "corners", self.corners, 20, 5000)
        check_range("correct", "window", self.window, 3, 21)
        if self.window % 2 == 0:
            raise UsageError(
                f"correct: window must be odd, got {self.window}",
                f"set --window {self.window - 1} or {self.window + 1}",
            )
        check_range("correct", "threshold", self.threshold, 0.0, 1.0)
        if self.points and (len(self.points) % 4 or len(self.points) < 4 * SAMPLE):
            raise UsageError(
                f"correct: points must be four numbers x y u v for each of 4 pairs or more, got {len(self.points)}"
                " numbers",
                "give the corners of what should become a rectangle, and where they belong",
            )


class Correct(Composer, Repairer):
    """Images put right."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config

    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """One corrected image (c, h, w) in [0, 1] out of images (c, h, w).

        kind exposure: two images or more of one size and scene. The mean of all, evenly exposed, or, with a mask and
        two images, the second where the mask (h, w) is 1 and the first elsewhere.
        kind geometry: the images after the first are re-projected onto the first and laid over it, where the mask is 1
        if there is one. With the option `points` the last image is re-projected by these, and may be the only one.
        kind defects: one image is repaired, with the mask as in `repair`; of several, the median at each pixel is.
        Raises UsageError for images, masks or points that do not do.
        """
        if self.config.kind == "exposure":
            result = self._expose(arrays_of("correct", images, 2), mask)
        elif self.config.kind == "geometry":
            least = 1 if self.config.points else 2
            result = self._reproject(arrays_of("correct", images, least), mask, random)
        else:
            arrays = arrays_of("correct", images, 1)
            require_one_size("correct", arrays)
            xp = backend.of(arrays[0]).xp
            return self.repair(Tensor(xp.median(xp.stack(arrays), axis=0)), mask, random)
        return Tensor(backend.of(result).xp.clip(result, 0.0, 1.0))

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with its defects filled; all other values bit for bit as given.

        mask: (h, w), 1 where all channels are wrong. Without one, impulses such as salt and pepper are found, channel
        by channel. Raises UsageError for a mask of another size, or one that leaves nothing.
        """
        array = arrays_of("correct", [image], 1, 1)[0]
        xp = backend.of(array).xp
        if mask is None:
            defects = find_impulses(array, self.config.window, self.config.threshold)
        else:
            defects = xp.repeat(mask_of("correct", mask, array)[None] > 0.5, len(array), axis=0)
        if backend.of(array).scalar(xp.any(xp.all(defects, axis=(1, 2)))):
            raise UsageError(
                "correct: every pixel counts as a defect, so that nothing is left to repair with",
                "leave sound pixels out of the mask" if mask is not None else "set a larger --threshold, or a --mask",
            )
        return Tensor(fill_by_medians(array, defects))

    def _expose(self, images: list[Array], mask: Tensor | None) -> Array:
        """Gains for all images, and their mean, weighted by how far each value is to be trusted."""
        require_one_size("correct", images)
        xp = backend.of(images[0]).xp
        stack = xp.stack(images)  # (k, c, h, w)
        statistics = overlap_statistics(stack, well_exposed(stack))
        gains = balance(exposure_gains(*statistics, self.config.noise, self.config.prior))
        exposed = gains.astype(stack.dtype)[:, None, None, None] * stack
        if mask is None:
            return weighted_mean(exposed, hat_weights(stack))
        if len(images) != 2:
            raise UsageError(
                f"correct: a mask chooses between two images, got {len(images)}", "give two images, or no mask"
            )
        alpha = mask_of("correct", mask, images[0])
        return alpha * exposed[1] + (1 - alpha) * exposed[0]

    def _reproject(self, images: list[Array], mask: Tensor | None, random: Stream) -> Array:
        """The first image with the others laid over it, each where its homography takes it."""
        canvas = images[0]
        size = canvas.shape[1:]
        xp = backend.of(canvas).xp
        chosen = xp.ones(size, canvas.dtype) if mask is None else mask_of("correct", mask, canvas)
        if len(images) == 1:
            return warp(canvas, self._from_points(), size)
        for number, image in enumerate(images[1:], 2):
            if self.config.points and number == len(images):
                homography = self._from_points()
            else:
                homography = self._from_images(image, images[0], number, random)
            covered = warp(xp.ones((1, *image.shape[1:]), image.dtype), homography, size)[0] > 0.999
            alpha = chosen * covered
            canvas = alpha * warp(image, homography, size) + (1 - alpha) * canvas
        return canvas

    def _from_points(self) -> Array:
        """The homography that the option `points` describes, on the host."""
        xp = backend.NUMPY.xp
        pairs = xp.array(self.config.points, "float64").reshape(-1, 4)
        points, images = pairs[:, :2], pairs[:, 2:]
        if not (xp.isfinite(pairs).all() and determination(points, images) > LEAST_DETERMINATION):
            raise UsageError(
                "correct: the points do not determine a homography: at least four pairs are needed, no three in line",
                "give the four corners of something",
            )
        homography = dlt(points, images)
        depth = points @ homography[2, :2] + homography[2, 2]  # of one sign: on one side of the horizon
        if not ((depth > 0).all() or (depth < 0).all()) or xp.linalg.det(homography * xp.sign(depth[0])) <= 0:
            raise UsageError(
                "correct: the points turn the image inside out", "give the pairs x y u v, the corners in the same order"
            )
        return homography

    def _from_images(self, image: Array, reference: Array, number: int, random: Stream) -> Array:
        """The homography from an image to the reference, by what both show, on the host."""
        described = [describe_photograph(each, self.config.corners) for each in (image, reference)]
        draws = Stream(random.seed, f"{random.name}/image {number}", backend.NUMPY)
        match = match_photographs(described[0], described[1], image.shape[1:], draws)
        if not match.believed:
            raise UsageError(
                f"correct: image {number} does not match image 1: {match.agreeing} of {match.matches} pairs of corners"
                " agree",
                "give photographs of the same thing, or pairs of points by --points",
            )
        return match.homography
