"""Noise on images: Gaussian, Poisson, salt and pepper, and speckle.

An image given gets what cameras add: the Gaussian noise of their electronics, the Poisson noise of light itself, dead
and hot pixels, or the speckle of laser and radar. The pictures drawn are mountains one behind the other in the mist,
and the noise is their grain.

Read the four kinds first, and `clipped`; then `landscape`, what the grain is laid on, and `Noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tinygen import backend
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.data.transforms import luma
from tinygen.errors import UsageError
from tinygen.host import Composer, Sampler, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import (
    canvas_shape,
    check_canvas,
    coverage,
    draw_images,
    oklch_to_srgb,
    over,
    pixel_centres,
)

KINDS = ("gaussian", "poisson", "salt_and_pepper", "speckle")
PHOTONS = 1e-3, 1e6  # beyond a million, the noise is less than the steps of 16 bits

# Lightness, chroma and hue in degrees, of the sky's top, the horizon, the sun and the nearest mountain.
PALETTES = (
    ((0.70, 0.09, 250), (0.93, 0.07, 60), (0.98, 0.06, 90), (0.30, 0.07, 285)),  # dawn
    ((0.42, 0.13, 300), (0.82, 0.13, 45), (0.93, 0.12, 75), (0.20, 0.07, 300)),  # dusk
    ((0.76, 0.08, 225), (0.95, 0.03, 190), (0.99, 0.02, 100), (0.34, 0.07, 190)),  # morning
    ((0.20, 0.06, 270), (0.50, 0.09, 235), (0.95, 0.03, 100), (0.13, 0.04, 260)),  # night
    ((0.34, 0.11, 15), (0.80, 0.15, 55), (0.95, 0.10, 90), (0.18, 0.06, 10)),  # ember
    ((0.74, 0.11, 340), (0.94, 0.06, 60), (0.99, 0.04, 85), (0.34, 0.11, 345)),  # rose
)


@dataclass(frozen=True)
class Config:
    """The options of `noise`."""

    size: int = 128
    """height and width of the pictures drawn, in pixels"""
    channels: int = 3
    """3 for colour, 1 for grey, in the pictures drawn"""
    kind: Literal["auto", "gaussian", "poisson", "salt_and_pepper", "speckle"] = "auto"
    """the noise; auto is Gaussian on an image given, and one of the four by chance in each picture drawn"""
    sigma: float = 0.07
    """standard deviation σ of Gaussian noise and of speckle, where 1 is from black to white"""
    photons: float = 100.0
    """mean count λ at a white pixel for Poisson noise: the fewer, the noisier"""
    share: float = 0.03
    """part p of the pixels that salt and pepper take"""

    def __post_init__(self) -> None:
        check_canvas("noise", self.size, self.channels)
        check_choice("noise", "kind", self.kind, ["auto", *KINDS])
        check_range("noise", "sigma", self.sigma, 0.0, 10.0)
        check_range("noise", "photons", self.photons, *PHOTONS)
        check_range("noise", "share", self.share, 0.0, 1.0)


# ---------------------------------------------------------------- the four kinds
# Images are (…, c, h, w) in [0, 1]. The results have the same shape and dtype and may lie outside, as a formula for
# their spread must; `clipped` brings them back. The stream must draw on the image's backend.


@equation(r"y = x + \sigma n, \quad n \sim \mathcal{N}(0, I)", source="Gonzalez and Woods 2018, chapter 5")
def gaussian_noise(image: Array, random: Stream, sigma: float) -> Array:
    """The same for all values, dark or bright: E y = x, Var y = σ². sigma: σ, where 1 is from black to white.

    Two passes are one of σ² = σ₁² + σ₂², and the PSNR is −20 log₁₀ σ: 20.17 dB at σ = 25/255.
    """
    return image + sigma * random.normal(image.shape, dtype=str(image.dtype))


@equation(
    r"y = k / \lambda, \quad k \sim \operatorname{Poisson}(\lambda x)", source="Foi et al. 2008, the Poissonian part"
)
def poisson_noise(image: Array, random: Stream, photons: float) -> Array:
    """Light comes in grains, λ = `photons` of them in a white pixel: E y = x, Var y = x/λ.

    Raises ValueError where the image is negative.
    """
    return random.poisson(photons * image, str(image.dtype)) / photons


@equation(
    r"y = b \text{ with probability } p, \text{ else } x, \quad b \sim U\{0, 1\}",
    source="Gonzalez and Woods 2018, chapter 5: impulse noise",
)
def salt_and_pepper_noise(image: Array, random: Stream, share: float) -> Array:
    """A pixel is lost with p = `share`, in all channels at once, and then is black or white, equally likely."""
    *front, _, height, width = image.shape
    uniform = random.uniform((*front, 1, height, width))
    xp = backend.of(image).xp
    return xp.where(uniform < share / 2, 0.0, xp.where(uniform >= 1 - share / 2, 1.0, image))


@equation(
    r"y = x\,(1 + \sigma n), \quad n \sim \mathcal{N}(0, I)",
    source="Goodman 1976, Some fundamental properties of speckle; here with normal n",
)
def speckle_noise(image: Array, random: Stream, sigma: float) -> Array:
    """In proportion to the brightness: E y = x, Var y = σ² x². sigma: σ, as a part of the brightness."""
    return image * (1 + sigma * random.normal(image.shape, dtype=str(image.dtype)))


@equation(r"x' = \min(\max(y, 0), 1)", source="the projection on [0, 1]: the image in range that is nearest to y")
def clipped(noisy: Array) -> Array:
    """Back to what can be shown. It never leads away from the clean image: |x' − x| ≤ |y − x| for x in [0, 1]."""
    return backend.of(noisy).xp.clip(noisy, 0.0, 1.0)


# ---------------------------------------------------------------- a landscape for the grain


@equation(
    r"h(t) = \sum_{k=1}^K k^{-\beta / 2}\,(a_k \cos 2 \pi k t + b_k \sin 2 \pi k t)",
    source="Voss 1988, Fractals in nature: spectral synthesis; the power at frequency k falls as k^-β",
)
def skyline(t: Array, waves: Array, beta: float) -> Array:
    """A line as rough as mountains are against the sky, of period 1.

    t: (s,). waves: (2, K), the normally distributed a and b. beta: 0 is white noise, 2 a random walk, more is smoother.
    Returns (s,).
    """
    xp = backend.of(t).xp
    k = xp.arange(1, waves.shape[1] + 1, dtype=t.dtype)
    phase = 2 * math.pi * t[:, None] * k  # (s, K)
    a, b = waves * k ** (-beta / 2)
    return xp.cos(phase) @ a + xp.sin(phase) @ b


def landscape(plan: Stream, height: int, width: int) -> Array:
    """Mountains behind mountains under a low sun, (3, h, w) in [0, 1], from a host stream."""
    where = backend.current()
    side = min(height, width)
    top, horizon, sun, near = where.from_host(_colours(plan.child("colours")))
    pixels = pixel_centres(where.xp, height, width)
    x, y = pixels[..., 0], pixels[..., 1]

    # The sky, from its top to the horizon, which lies behind the mountains.
    canvas = over(top[:, None, None], horizon, where.xp.clip(y / (0.75 * height), 0.0, 1.0))

    # The sun and its glow, the strongest at the rim.
    across, up, large = plan.child("sun").uniform(3).tolist()
    east, north = x - width * (0.2 + 0.6 * across), y - height * (0.2 + 0.25 * up)
    distance = where.xp.sqrt(east * east + north * north)
    radius = side * (0.05 + 0.07 * large)
    glow = where.xp.exp(-0.4 * where.xp.maximum(distance - radius, 0.0) / radius)
    canvas = over(over(canvas, sun, 0.45 * glow), sun, coverage(distance, radius))

    # The mountains, from the farthest to the nearest, each with its foot in the mist.
    count = int(plan.integers(4, 7, ()))
    for number in range(count):
        nearness = (number + 1) / count
        ridge, slope = map(where.from_host, _ridge(plan.child(f"ridge {number}"), nearness, height, width))
        rock = horizon + (0.12 + 0.88 * nearness**1.5) * (near - horizon)
        mist = (0.8 - 0.5 * nearness) * where.xp.clip(y / (0.3 * height) - 1.2 - 1.7 * nearness, 0.0, 1.0)
        mountain = over(rock[:, None, None], horizon, mist)
        # The height over the line, times the cosine of its slope, is the distance from it.
        canvas = canvas + coverage((ridge - y) / where.xp.sqrt(1 + slope * slope), 0.0) * (mountain - canvas)
    return canvas


def _colours(plan: Stream) -> Array:
    """The (4, 3) colours of a palette, all hues moved alike."""
    xp = backend.NUMPY.xp
    lightness, chroma, hue = xp.array(PALETTES[int(plan.integers(0, len(PALETTES), ()))], "float32").T
    return oklch_to_srgb(lightness, chroma, (hue + float(plan.normal((), std=12.0))) * (math.pi / 180))


def _ridge(plan: Stream, nearness: float, height: int, width: int) -> tuple[Array, Array]:
    """A mountain's edge, y (w,) in pixels, and its slope dy/dx (w,). The near ones are lower and steeper."""
    xp = backend.NUMPY.xp
    waves = plan.normal((2, 1024))[:, : max(1, width // 2)]  # what the pixels can show
    waves[:, 0] *= 0.5  # no single hill
    start, rise = plan.uniform(2).tolist()
    t = start + xp.arange(width, dtype="float32") / (1.6 * width)  # less than a period
    line = skyline(t, waves, beta=2.4)
    base = 0.40 + 0.50 * nearness + 0.04 * (rise - 0.5)
    ridge = height * (base - (0.05 + 0.02 * nearness) * line)
    return ridge, xp.gradient(ridge)


# ---------------------------------------------------------------- the algorithm


class Noise(Sampler, Composer):
    """Images with noise."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.channels, self.height, self.width = canvas_shape("noise", config.size, config.channels, data)

    def sample(self, n: int, random: Stream) -> Tensor:
        """n pictures (n, c, h, w) in [0, 1]; picture i is the same in a sample of any length."""
        return draw_images(n, random, self._draw)

    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """The one image (c, h, w) in [0, 1] given, with noise; where there is a mask (h, w), only where it is 1.

        Raises UsageError for another number of images, and for a mask of another size.
        """
        if len(images) != 1:
            raise UsageError(f"noise: expected one image, got {len(images)}", "call it once for each of the images")
        image = clipped(images[0].data)
        noisy = self._add(image, "gaussian" if self.config.kind == "auto" else self.config.kind, random)
        if mask is None:
            return tensor(noisy)
        if mask.shape != image.shape[-2:]:
            raise UsageError(
                f"noise: the mask must be {image.shape[-2:]} pixels like the image, got {mask.shape}", "resize the mask"
            )
        return tensor((1 - mask.data) * image + mask.data * noisy)

    def _draw(self, random: Stream) -> Array:
        """A landscape in grey or colour, with noise."""
        plan = Stream(random.seed, random.name, backend.NUMPY)
        picture = landscape(plan.child("landscape"), self.height, self.width)
        if self.channels == 1:
            picture = luma(picture)
        drawn = KINDS[int(plan.child("kind").integers(0, len(KINDS), ()))]
        return self._add(clipped(picture), drawn if self.config.kind == "auto" else self.config.kind, random)

    def _add(self, image: Array, kind: str, random: Stream) -> Array:
        """The image with noise of a kind, in [0, 1]."""
        config = self.config
        if kind == "gaussian":
            noisy = gaussian_noise(image, random, config.sigma)
        elif kind == "poisson":
            noisy = poisson_noise(image, random, config.photons)
        elif kind == "salt_and_pepper":
            noisy = salt_and_pepper_noise(image, random, config.share)
        else:
            noisy = speckle_noise(image, random, config.sigma)
        return clipped(noisy)
