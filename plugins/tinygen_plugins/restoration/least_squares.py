"""Repair by what pictures are like nearly everywhere: smooth. Missing pixels are filled, noisy ones made calm.

Each method makes its own notion of roughness as small as the known pixels allow:

- `harmonic`    the sum of squares of the derivatives, the known pixels held: a membrane or a thin plate over each hole;
- `tikhonov`    the same sum, weighed against the distance from the given pixels, so that these may be noisy;
- `tv`          the sum of their lengths, not squares: edges stay sharp;
- `polynomial`  none: on each small patch the nearest polynomial surface to its known pixels.

Read `LeastSquares.repair`. The equations stand in `_operators.py` (derivatives), `_smooth.py` (harmonic and tikhonov),
`_variation.py` (tv) and `_patches.py` (polynomial), a file of the paper's kind each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tinygen import backend
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import Repairer, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.restoration._operators import adjoint, derivatives, noise_level, squared_derivatives
from tinygen_plugins.restoration._patches import blending_window, monomials, polynomial_fill, ridge_fit
from tinygen_plugins.restoration._smooth import harmonic, held_out_errors, tikhonov, tikhonov_strength, tweedie
from tinygen_plugins.restoration._variation import duality_gap, minimize_variation, project, total_variation

# The equations of the family, by name, so that `tinygen show least_squares` prints them all.
__all__ = [
    "Config", "LeastSquares", "adjoint", "blending_window", "composite", "derivatives", "duality_gap", "harmonic",
    "held_out_errors", "minimize_variation", "monomials", "noise_level", "polynomial_fill", "project", "ridge_fit",
    "squared_derivatives", "tikhonov", "tikhonov_strength", "total_variation", "tweedie", "variation_strength",
]  # fmt: skip

WINDOW = 256  # side of the part of a picture in which the orders are compared
CLEARLY = 0.9  # of the plate's error is what a membrane may have, to be taken instead

Method = Literal["tv", "harmonic", "tikhonov", "polynomial"]


@dataclass(frozen=True)
class Config:
    """The options of `least_squares`."""

    method: Method = "tv"
    """what is made small: tv (lengths of derivatives), harmonic or tikhonov (their squares), polynomial (local fits)"""
    order: Literal[0, 1, 2] = 0
    """of the derivatives: 1 for slopes, 2 for bends; 0 chooses: slopes to take noise away, bends to fill holes, but for
    harmonic and tikhonov slopes where they fill a tenth of the known pixels clearly better from the others"""
    strength: float | None = None
    """weight of smoothness against the noisy pixels, for tv and tikhonov; None: told from the noise in the picture"""
    patch: int = 10
    """side in pixels of the patches of polynomial, even; 0 for one surface over the whole picture"""
    degree: int = 2
    """degree of polynomial"""
    steps: int | None = None
    """steps of tv; None: as many as are seen, 50 to fill holes and 20 to take noise away"""

    def __post_init__(self) -> None:
        check_choice("least_squares", "method", self.method, list(get_args(Method)))
        if self.order not in (0, 1, 2):
            raise UsageError(f"least_squares: order must be 0, 1 or 2, got {self.order}", "set --order 1 or 2")
        if self.strength is not None and not 0 <= self.strength < math.inf:
            raise UsageError(
                f"least_squares: strength must be a number from 0 on, got {self.strength}",
                "for instance --strength 0.1",
            )
        if self.patch != 0 and (self.patch % 2 or not 4 <= self.patch <= 256):
            raise UsageError(
                f"least_squares: patch must be 0 or an even number from 4 to 256, got {self.patch}",
                "for instance --patch 10",
            )
        check_range("least_squares", "degree", self.degree, 0, 12)
        if self.steps is not None:
            check_range("least_squares", "steps", self.steps, 1, 10_000)


@equation(
    r"\hat x = (1 - M) \odot y + M \odot x", source="the known pixels stay what they are; M is 1 where one misses"
)
def composite(given: Array, filled: Array, missing: Array) -> Array:
    """The given image (c, h, w) with the pixels where `missing` (h, w), booleans, is true taken from `filled`."""
    return backend.of(given).xp.where(missing, filled.astype(given.dtype), given)


@equation(r"\lambda = \tfrac34\, \sigma \sqrt c", source="measured: best to within 0.2 dB for σ from 15/255 to 50/255")
def variation_strength(sigma: Array | float, channels: int) -> Array | float:
    """The λ of total variation for white noise of standard deviation σ; c channels have one length together, √c times
    as long."""
    return 0.75 * math.sqrt(channels) * sigma


class LeastSquares(Repairer):
    """Pictures repaired by one of the methods; nothing is trained, and nothing drawn."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) made whole: missing pixels filled where there is a mask (h, w), 1 where one is missing;
        all pixels freed of noise where there is none.

        Known pixels come back bit for bit. Raises UsageError for arguments of other shapes, for an image without known
        pixels or with values that are not finite, and without a mask for `harmonic`, which only fills.
        """
        given = image.data
        missing = None if mask is None else mask.data > 0.5
        check_picture("least_squares", given, missing)
        xp, where = backend.of(given).xp, backend.of(given)
        if missing is None:
            return tensor(xp.clip(self._denoised(given), 0.0, 1.0).astype(given.dtype))
        if not where.scalar(xp.any(missing)):
            return tensor(given.copy())
        filled = self._filled(xp.where(missing, 0.0, given).astype(given.dtype), ~missing, random)
        return tensor(composite(given, xp.clip(filled, 0.0, 1.0), missing))

    def _filled(self, image: Array, known: Array, random: Stream) -> Array:
        """The image (c, h, w) with values where `known` (h, w) is false."""
        config = self.config
        if config.method == "polynomial":
            return polynomial_fill(image, known, config.patch, config.degree)
        order = min(config.order or self._better_order(image, known, random), 2 if spans_a_plane(known) else 1)
        if config.method == "tikhonov":
            return tikhonov(image, known, 0.01 if config.strength is None else config.strength or 1e-9, order)
        plate = harmonic(image, known, order)
        if config.method == "harmonic":
            return plate
        # Of the dual, |p| ≤ 1: the minimum is the same for every λ where the known pixels are held. The step size suits
        # differences of neighbours of a few hundredths.
        return minimize_variation(plate, known, 1.0, order, config.steps or 50, tau=0.01)[0]

    def _better_order(self, image: Array, known: Array, random: Stream) -> int:
        """The order that fills holes better, seen in grey in the picture's middle; 2 where that cannot be told."""
        height, width = known.shape
        top, left = max(0, (height - WINDOW) // 2), max(0, (width - WINDOW) // 2)
        here = slice(top, top + WINDOW), slice(left, left + WINDOW)
        where, known = backend.of(image), known[here]
        drawn = where.from_host(Stream(random.seed, f"{random.name}/held out", backend.NUMPY).uniform(known.shape))
        tested = known & (drawn < 0.1)
        if self.config.method == "tv" or where.scalar(where.xp.sum(tested)) < 10 or not spans_a_plane(known & ~tested):
            return 2
        grey = where.xp.mean(image, axis=0, keepdims=True)[:, here[0], here[1]]
        membrane, plate = held_out_errors(grey, known, tested)
        return 1 if where.scalar(membrane < CLEARLY * plate) else 2

    def _denoised(self, image: Array) -> Array:
        """The image (c, h, w) without its noise."""
        config, order = self.config, self.config.order or 1
        xp = backend.of(image).xp
        everywhere = xp.ones(image.shape[-2:], bool)
        if config.method == "polynomial":
            return polynomial_fill(image, everywhere, config.patch, config.degree)
        if config.method == "harmonic":
            raise UsageError(
                "least_squares: harmonic fills missing pixels, and there is no mask",
                "name a mask, or take noise away by --method tv",
            )
        strength = config.strength
        if strength is None:
            sigma = noise_level(image)
            told = variation_strength(sigma, len(image)) if config.method == "tv" else tikhonov_strength(sigma)
            strength = backend.of(image).scalar(told)
        if strength == 0:
            return image
        if config.method == "tikhonov":
            return tikhonov(image, everywhere, strength, order)
        return minimize_variation(image, None, strength, order, config.steps or 20, tau=0.25)[0]


def check_picture(owner: str, image: Array, missing: Array | None) -> None:
    """Raise UsageError unless an image (c, h, w) can be repaired; missing: (h, w) booleans, or None."""
    where = backend.of(image)
    xp = where.xp
    if image.ndim != 3 or image.size == 0 or image.dtype.kind != "f":
        raise UsageError(
            f"{owner}: an image is (channels, height, width) of fractions, got {image.shape} {image.dtype}",
            "give one image, not a batch",
        )
    if missing is None:
        fine = xp.isfinite(image)
    else:
        if missing.shape != image.shape[1:]:
            raise UsageError(
                f"{owner}: the mask must be {image.shape[1:]} as the image, got {missing.shape}",
                "make the mask as high and wide as the image, 1 where a pixel is missing",
            )
        if where.scalar(xp.all(missing)):
            raise UsageError(
                f"{owner}: the mask says that every pixel is missing", "1 is missing, 0 is known: invert the mask"
            )
        fine = xp.isfinite(image) | missing
    if not where.scalar(xp.all(fine)):
        raise UsageError(
            f"{owner}: the image has values that are not finite", "mark those pixels as missing in the mask"
        )


def spans_a_plane(known: Array) -> bool:
    """Whether the known pixels (h, w) tell the slopes of a plane: they are three or more, and not nearly on a line."""
    where = backend.of(known)
    xp = where.xp
    y, x = (place.astype("float64") for place in xp.nonzero(known))
    y, x = y - xp.mean(y), x - xp.mean(x)
    across, along = xp.sum(x * x), xp.sum(y * y)
    spread = across * along - xp.sum(x * y) ** 2  # the determinant of the covariance
    return bool(where.scalar(spread > 1e-4 * (across + along) ** 2))
