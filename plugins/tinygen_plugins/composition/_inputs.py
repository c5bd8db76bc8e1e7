"""What this family asks of options, images and masks, and how it says no: one line and a hint."""

from __future__ import annotations

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.errors import UsageError


def arrays_of(owner: str, images: list[Tensor], least: int, most: int | None = None) -> list[Array]:
    """The images as arrays (c, h, w) with one number of channels: where one has colour, grey ones are tripled.

    Raises UsageError for fewer images than `least`, more than `most`, or one that is not (1, h, w) or (3, h, w).
    """
    if len(images) < least or (most is not None and len(images) > most):
        count = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        raise UsageError(f"{owner}: expected {count} images, got {len(images)}", "name the image files one by one")
    for number, image in enumerate(images, 1):
        if image.ndim != 3 or image.shape[0] not in (1, 3) or min(image.shape) == 0 or image.dtype.kind != "f":
            raise UsageError(
                f"{owner}: image {number} must be numbers (1, h, w) or (3, h, w), got {image.dtype} {image.shape}",
                "give grey or colour images with values in [0, 1]",
            )
        where = backend.of(image.data)
        if not where.scalar(where.xp.all(where.xp.isfinite(image.data))):
            raise UsageError(
                f"{owner}: image {number} has values that are not finite", "look at how it was made: NaN is no colour"
            )
    channels = max(image.shape[0] for image in images)
    xp = backend.of(images[0].data).xp
    return [xp.repeat(image.data, channels // image.shape[0], axis=0) for image in images]


def require_one_size(owner: str, images: list[Array]) -> None:
    """Raise UsageError unless all images have the height and width of the first."""
    for number, image in enumerate(images[1:], 2):
        if image.shape[1:] != images[0].shape[1:]:
            raise UsageError(
                f"{owner}: images must have one size, image 1 is {_size(images[0])} and image {number} {_size(image)}",
                "resize or crop them to the same width and height first",
            )


def mask_of(owner: str, mask: Tensor, image: Array) -> Array:
    """The mask (h, w) as an array of the image's dtype. Raises UsageError unless it has the image's size."""
    if mask.shape != image.shape[1:]:
        got = f"{mask.shape[1]}×{mask.shape[0]}" if mask.ndim == 2 else f"shape {mask.shape}"
        raise UsageError(
            f"{owner}: the mask must be as large as the images, expected {_size(image)}, got {got}",
            "draw the mask, one channel, on a copy of the image",
        )
    return backend.of(image).xp.clip(mask.data.astype(image.dtype), 0.0, 1.0)


def _size(image: Array) -> str:
    """As people say it: width×height."""
    return f"{image.shape[2]}×{image.shape[1]}"
