"""Two images into one: alpha, feathering, the Laplacian pyramid, and seamless cloning.

A mask says where the second image, the foreground, is taken. What differs is how its edge is hidden:

    alpha     not at all: the mask is the opacity, as it is
    feather   the images cross-fade over a band along the edge
    pyramid   each band of detail cross-fades over a band as wide as its details (Burt and Adelson 1983)
    poisson   the foreground's differences are kept and its level is adapted to the background (Pérez et al. 2003)

Read `Blend.compose`; the methods stand in `_weights.py`, `_pyramid.py` and `_poisson.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import Composer, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.composition._inputs import arrays_of, mask_of, require_one_size
from tinygen_plugins.composition._poisson import seamless_clone
from tinygen_plugins.composition._pyramid import fuse, levels_for
from tinygen_plugins.composition._weights import edge_weights

METHODS = ["alpha", "feather", "pyramid", "poisson"]


@dataclass(frozen=True)
class Config:
    """The options of `blend`."""

    method: Literal["alpha", "feather", "pyramid", "poisson"] = "pyramid"
    """how the images pass into each other at the mask's edge"""
    alpha: float = 0.5
    """opacity of the foreground with method alpha and no mask"""
    width: float = 32.0
    """pixels across the soft edge of method feather"""
    levels: int = 0
    """levels of the pyramid; 0 for as many as the images have room for"""
    gradients: Literal["source", "mixed"] = "source"
    """details inside the mask with method poisson: the foreground's, or the stronger ones of both images"""

    def __post_init__(self) -> None:
        check_choice("blend", "method", self.method, METHODS)
        check_range("blend", "alpha", self.alpha, 0.0, 1.0)
        check_range("blend", "width", self.width, 1.0, 1e6)
        check_range("blend", "levels", self.levels, 0, 12)
        check_choice("blend", "gradients", self.gradients, ["source", "mixed"])


@equation(r"I = \alpha F + (1 - \alpha) B", source="Porter and Duff 1984: F over B, on an opaque ground")
def over(foreground: Array, background: Array, alpha: Array) -> Array:
    """The foreground laid over the background: both (c, h, w), alpha (h, w) in [0, 1]. Returns (c, h, w)."""
    return alpha * foreground + (1 - alpha) * background


class Blend(Composer):
    """A background and a foreground made one."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config

    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """One image (c, h, w) in [0, 1] from [background, foreground], both (c, h, w).

        mask: (h, w) in [0, 1], 1 where the foreground is taken; feather and poisson cut it at ½. Without a mask,
        method alpha mixes the images evenly, by the option `alpha`, and the others take the foreground's right half:
        Burt and Adelson's apple and orange. Raises UsageError for images or a mask of other sizes, or a mask that
        leaves poisson nothing of the background to hold on to.
        """
        background, foreground = arrays_of("blend", images, 2, 2)
        require_one_size("blend", [background, foreground])
        chosen = self._default_mask(background) if mask is None else mask_of("blend", mask, background)
        return Tensor(backend.of(background).xp.clip(self._blend(foreground, background, chosen), 0.0, 1.0))

    def _blend(self, foreground: Array, background: Array, mask: Array) -> Array:
        config = self.config
        if config.method == "alpha":
            return over(foreground, background, mask)
        if config.method == "feather":
            return over(foreground, background, edge_weights(mask, config.width))
        if config.method == "pyramid":
            return fuse(foreground, background, mask, config.levels or levels_for(*mask.shape))
        return self._clone(foreground, background, (mask > 0.5).astype(mask.dtype))

    def _clone(self, foreground: Array, background: Array, inside: Array) -> Array:
        where = backend.of(inside)
        if where.scalar(where.xp.min(inside)) > 0:
            raise UsageError(
                "blend: method poisson needs some of the background, got a mask that is 1 everywhere",
                "leave a margin of 0 in the mask, or use another --method",
            )
        return seamless_clone(foreground, background, inside, mixed=self.config.gradients == "mixed")

    def _default_mask(self, image: Array) -> Array:
        """Where no mask is given: `alpha` everywhere with method alpha, else 1 in the right half."""
        xp = backend.of(image).xp
        _, height, width = image.shape
        if self.config.method == "alpha":
            return xp.full((height, width), self.config.alpha, image.dtype)
        right = (xp.arange(width) >= width / 2).astype(image.dtype)
        return xp.zeros((height, width), image.dtype) + right
