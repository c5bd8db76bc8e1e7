"""Independent random pixels: every image of the given size is as likely as any other.

The plainest generator there is, and a measure for all others: no model of images in general can beat its likelihood,
8 bits for each value of a pixel at 256 levels, and a model that is worse has learnt nothing.

Read `uniform_levels`, which makes the pixels, and `Pixels.sample`; the other equations say what is true of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.host import Sampler, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import canvas_shape, check_canvas, draw_images


@dataclass(frozen=True)
class Config:
    """The options of `pixels`."""

    size: int = 64
    """height and width of the images in pixels"""
    channels: int = 3
    """3 for colour, 1 for grey"""
    levels: int = 256
    """values that a pixel can take, 2 for black and white"""

    def __post_init__(self) -> None:
        check_canvas("pixels", self.size, self.channels)
        check_range("pixels", "levels", self.levels, 2, 256)


@equation(
    r"x = \frac{\lfloor K u \rfloor}{K - 1}, \quad u \sim U[0, 1)",
    source="inverse transform of the discrete uniform law",
)
def uniform_levels(uniform: Array, levels: int) -> Array:
    """Values from {0, 1/(K − 1), …, 1}, K = `levels` of them, equally likely where `uniform` is so on [0, 1)."""
    return backend.of(uniform).xp.floor(levels * uniform) / (levels - 1)


@equation(r"\log p(x) = -C H W \log K", source="K^{CHW} equally likely images")
def log_likelihood(images: Array, levels: int) -> Array:
    """Log-probability in nats of each image: (n, c, h, w) gives (n,). The same for every image on the K levels."""
    n, *shape = images.shape
    return backend.of(images).xp.full(n, -math.prod(shape) * math.log(levels), images.dtype)


@equation(
    r"\hat H = -\sum_{k=0}^{K-1} \hat p_k \log_2 \hat p_k, \quad \hat p_k = N_k / N", source="Shannon 1948, section 6"
)
def entropy(images: Array, levels: int) -> Array:
    """Entropy in bits of the levels of all pixels, estimated by their frequencies: at most log₂ K, which it nears
    from below as N grows. Images (...) with values on the levels give one number."""
    xp = backend.of(images).xp
    level = xp.round(images * (levels - 1)).astype("int64").reshape(-1)
    frequency = xp.bincount(level, minlength=levels) / level.size
    return -xp.sum(frequency * xp.log2(xp.where(frequency > 0, frequency, 1.0)))  # 0 log 0 = 0


@equation(
    r"\rho(\delta) = \frac{\sum_p (x_p - \bar x)(x_{p + \delta} - \bar x)}{\sum_p (x_p - \bar x)^2}",
    source="Box and Jenkins 1970, the sample autocorrelation; p + δ wraps around the image",
)
def autocorrelation(images: Array, lag: tuple[int, int]) -> Array:
    """Correlation of pixels with those `lag` = (rows, columns) away, in [-1, 1]; independent pixels give 0 ± 1/√N.

    images: (n, c, h, w), each channel of each image about its own mean x̄. Returns (n, c).
    """
    xp = backend.of(images).xp
    deviation = images - xp.mean(images, axis=(-2, -1), keepdims=True)
    moved = xp.roll(deviation, (-lag[0], -lag[1]), axis=(-2, -1))
    return xp.sum(deviation * moved, axis=(-2, -1)) / xp.sum(deviation * deviation, axis=(-2, -1))


class Pixels(Sampler):
    """Images of independent pixels."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.levels = config.levels
        self.shape = canvas_shape("pixels", config.size, config.channels, data)

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1]; image i is the same in a sample of any length."""
        return draw_images(n, random, lambda image: uniform_levels(image.uniform(self.shape), self.levels))
