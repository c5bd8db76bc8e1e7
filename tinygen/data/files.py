"""Image files in and out, through Pillow: any format it knows to (c, h, w) float32 in [0, 1], and back.

Reading goes in two steps, so that an image can be resized between them: `open_image` gives an upright, opaque Pillow
image and `to_array` its numbers. How opaque it was `read_alpha` tells, and `read_mask` reads a picture as a mask.
Writing puts the whole file together first and then moves it into its place, so that no reader ever meets half a file
and an existing one survives a failure.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, ImageSequence, UnidentifiedImageError

from tinygen.errors import DataError, OutputError

# How formats that lose something by default are written; photographs keep their grain, PNG loses nothing anyway.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


# ---------------------------------------------------------------- reading


def read_image(path: str | Path, channels: int | None = None) -> np.ndarray:
    """An image file as (c, h, w) float32 in [0, 1]: one channel for a grey picture, three for a colour one.

    channels: 1 or 3 to have it so in any case; None keeps the picture's own.
    Pixels are turned as the EXIF orientation says, what is transparent is laid on white, 16-bit grey keeps its depth.
    Raises DataError, naming the file, if it is missing, no image, damaged or absurdly large.
    """
    return to_array(open_image(path), channels)


def open_image(path: str | Path) -> Image.Image:
    """The picture of a file, upright and opaque: mode L (grey), RGB, or F (grey of more than 8 bits, in [0, 1]).

    Raises DataError as `read_image` does.
    """
    with _opened(path) as image:
        return _opaque(ImageOps.exif_transpose(image))


def open_frames(path: str | Path) -> list[Image.Image]:
    """The frames of a film's file, GIF or another, each as `open_image` gives a picture; of a picture itself alone.

    Raises DataError as `read_image` does.
    """
    with _opened(path) as image:
        return [_opaque(ImageOps.exif_transpose(frame)) for frame in ImageSequence.Iterator(image)]


def frame_count(path: str | Path) -> int:
    """How many frames a file has: 1, if it is no animated GIF, WebP or PNG. Raises DataError as `read_image` does."""
    with _opened(path) as image:
        return getattr(image, "n_frames", 1) if image.format in ("GIF", "WEBP", "PNG") else 1


def read_alpha(path: str | Path) -> np.ndarray:
    """How opaque each pixel of an image file is, (h, w) float32: 0 not at all, 1 wholly, as without transparency.

    Raises DataError as `read_image` does.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if _is_deep(upright) or not upright.has_transparency_data:
            upright.load()  # a damaged file is refused here, too
            return np.ones(upright.size[::-1], np.float32)
        return np.asarray(upright.convert("RGBA").getchannel("A")) * np.float32(1 / 255)


def read_mask(path: str | Path) -> np.ndarray:
    """An image file as a mask, (h, w) float32 in [0, 1]: the largest of a pixel's channels, times its alpha.

    So white, and any full colour, is 1 whatever it was painted on: black or nothing.
    Raises DataError as `read_image` does.
    """
    on_white = read_image(path).max(axis=0)  # α x + 1 − α
    return np.maximum(on_white - (1 - read_alpha(path)), 0)


def image_size(path: str | Path) -> tuple[int, int]:
    """The (width, height) in pixels that `open_image` would give, from the file's header where that tells it.

    Raises DataError as `open_image` does.
    """
    with _opened(path) as image:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image.size
    return open_image(path).size  # some of Pillow's formats tell the turned size and some the stored one


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """An image file as Pillow opens it; whatever goes wrong with it in the block becomes a DataError."""
    if not os.path.isfile(path):
        problem = "is a folder" if os.path.isdir(path) else "there is no such file"
        raise DataError(f"{path}: {problem}", "name an image file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata; a picture that it can read is read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                yield image
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            limit = f"{(Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} million pixels"
            raise DataError(f"{path}: more than {limit}", "make the image smaller first") from error
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: not an image that Pillow can read", "convert it to PNG or JPEG") from error
        except Exception as error:  # Pillow's decoders meet damaged bytes with errors of any type
            hint = "copy the file again, or convert it to PNG"
            raise DataError(f"{path}: cannot be read as an image: {_one_line(error)}", hint) from error


def _opaque(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB or F; transparent pixels show the white sheet beneath."""
    if image.mode == "1":
        image = image.convert("L")
    if _is_deep(image):
        return _deep_grey(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        sheet = Image.new("RGBA", layer.size, "white")
        opaque = Image.alpha_composite(sheet, layer)
        return opaque.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    image.load()
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether an image is grey of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as mode F in [0, 1]: whole numbers reach from 0 to 65,535, fractions from 0 to 1."""
    values = np.asarray(image).astype(np.float32)
    if image.mode != "F":
        values /= np.float32(65535)
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN fails
        raise ValueError(f"grey values from {values.min():g} to {values.max():g} of full scale")
    return Image.fromarray(values)


def to_array(image: Image.Image, channels: int | None = None) -> np.ndarray:
    """A Pillow image of mode L, RGB or F as (c, h, w) float32 in [0, 1], with one or three channels where told."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1, 3 or None, got {channels}")
    if channels == 1 and image.mode == "RGB":
        image = image.convert("L")  # luma of ITU-R 601: 0.299 R + 0.587 G + 0.114 B
    if image.mode == "F":
        pixels = np.clip(np.asarray(image), 0, 1)  # resizing may overshoot
    else:
        pixels = np.asarray(image) * np.float32(1 / 255)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (c, h, w)
    return np.ascontiguousarray(np.repeat(planes, 3, axis=0) if channels == 3 and len(planes) == 1 else planes)


def resize_and_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre of an image at size × size pixels: its shorter side becomes `size`, the longer one is cropped.

    Pixels are weighted over the whole area that they come from (antialiased, bicubic). Any mode but palettes.
    """
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)


# ---------------------------------------------------------------- writing


def write_image(path: str | Path, image: np.ndarray, alpha: np.ndarray | None = None) -> None:
    """Write (c, h, w) in [0, 1] on the host, c = 1 or 3, in the format that the suffix of `path` names.

    alpha: (h, w) in [0, 1], how opaque the pixels are, for a format that can tell; None writes none.
    Values are rounded to 8 bits; what lies outside [0, 1] is clipped. An existing file is replaced as a whole or not
    at all. Raises OutputError if the suffix is unknown or the file cannot be written, ValueError for a wrong array.
    """
    format, picture = _format_of(Path(path)), to_pillow(image)
    if alpha is not None:
        picture.putalpha(to_pillow(alpha[None]))
    content = io.BytesIO()
    try:
        picture.save(content, format, **_SAVE_OPTIONS.get(format, {}))
    except (OSError, ValueError, KeyError) as error:  # for other kinds of pictures, or not built into this Pillow
        raise OutputError(f"{path}: {format} cannot hold this image: {_one_line(error)}", _USE_PNG) from error
    write_atomically(path, content.getvalue())


_USE_PNG = "use a name that ends in .png"


def to_pillow(image: np.ndarray) -> Image.Image:
    """(c, h, w) in [0, 1] as an 8-bit Pillow image, grey for one channel, RGB for three."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.size == 0:
        raise ValueError(f"an image is (1, h, w) or (3, h, w), got {image.shape}")
    if not np.isfinite(image).all():
        raise ValueError("the image has values that are not finite")
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _format_of(path: Path) -> str:
    """Pillow's name of the format that a file's suffix stands for, if Pillow can write it."""
    format = Image.registered_extensions().get(path.suffix.lower())
    if format is None or format not in Image.SAVE:
        raise OutputError(f'{path}: no image format has the suffix "{path.suffix}"', _USE_PNG)
    return format


def require_image_file(path: str | Path) -> None:
    """Raise the OutputError that `write_image` would meet at `path`: to be asked before long work."""
    _format_of(Path(path))
    partial = _partial_of(path)
    try:
        with open(partial, "xb"):
            pass
        os.remove(partial)
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def write_atomically(path: str | Path, content: bytes) -> None:
    """Make `content` the content of the file `path`, whole or not at all; its folder must exist.

    The bytes go to a hidden name in the same folder, reach the disk, and then take the place of `path` in one step.
    Raises OutputError; whatever `path` was before is then untouched and nothing half-written remains.
    """
    partial = _partial_of(path)
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, os.path.realpath(path))  # a link stays a link; the file that it names is replaced
    except OSError as error:
        raise _cannot_be_written(path, error) from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _partial_of(path: str | Path) -> str:
    """A hidden name beside the file that `path` means. Raises OutputError where no file can stand."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise OutputError(f"{path}: there is no folder {folder}", "make the folder first")
    if os.path.exists(target) and not os.path.isfile(target):  # /dev/null must not become a file
        problem = "is a folder" if os.path.isdir(target) else "is not a plain file"
        raise OutputError(f"{path}: {problem}", "name another file")
    return os.path.join(folder, f".{uuid.uuid4().hex}.partial")


def _cannot_be_written(path: str | Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space, or name another folder" if full else "name another folder, or check its permissions"
    return OutputError(f"{path}: cannot be written: {error.strerror}", hint)


def _one_line(error: Exception) -> str:
    """An error's message without line breaks; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
