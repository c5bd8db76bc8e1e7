"""Characters drawn from the fonts that Matplotlib ships: a labelled data set that needs no download.

    --data glyphs            digits                --data glyphs:letters    capitals
    --data glyphs:all        digits and letters    --data glyphs:xyz        these characters

White on black as in MNIST, grey, 28 × 28: each image is one character in a random font and stroke width, rotated,
sheared, scaled and shifted at random. Image i of a split depends on the seed, the split's name and i alone.

A character is drawn once, large, for each font and stroke width (`_master`); an image is a random affine map of that
(`_placement`, `_map`), three times too large and then averaged, so that its edges are smooth.
"""

from __future__ import annotations

import functools
import math
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinygen import backend
from tinygen.data.dataset import DataRequest, Dataset, DrawnImages
from tinygen.errors import DataError
from tinygen.random import Stream

COUNTS = {"train": 60_000, "valid": 10_000, "test": 10_000}
SIDE, SMALLEST_SIDE = 28, 8  # pixels

DIGITS = "0123456789"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ALPHABETS = {"": DIGITS, "digits": DIGITS, "letters": CAPITALS, "all": DIGITS + CAPITALS + CAPITALS.lower()}

# The text fonts, without those for symbols and large brackets, and without cmmi10, whose digits are of uneven height.
LIGHT_FONTS = (
    "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSerif", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralItalic", "cmr10", "cmss10", "cmti10", "cmtt10",
)  # fmt: skip
BOLD_FONTS = (
    "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "STIXGeneralBol", "STIXGeneralBolIta", "cmb10",
)  # fmt: skip

# Strokes grow by whole steps on either side; more of them would close the eyes of a bold "e" at 28 pixels.
STROKE_STEP = 1 / 56  # of a capital's height
STROKES = {**dict.fromkeys(LIGHT_FONTS, (0, 1, 2)), **dict.fromkeys(BOLD_FONTS, (0, 1))}

CAPITAL_HEIGHT = 0.66  # of the image's side, before scaling
SCALES = (0.85, 1.15)
MAX_ANGLE = math.radians(12)
MAX_SHEAR = 0.15
MAX_SHIFT = 0.08  # of the side
MARGIN = 0.04  # of the side, stays black

OVERSAMPLING = 3
MAX_MASTER_HEIGHT = 160  # pixels of a capital; larger masters would cost memory and show no more


def glyphs(request: DataRequest) -> Dataset:
    """Drawn characters as grey images with labels; the classes are the characters, all equally likely.

    request.argument: "" or "digits" (10 classes), "letters" (26 capitals), "all" (62), or the characters themselves.
    request.size: side of the images, 28 if None. request.seed: another seed gives other images.
    Raises DataError for a character that the fonts lack and for images too small to read.
    """
    side = request.size or SIDE
    if side < SMALLEST_SIDE:
        raise DataError(f"data glyphs: images of {side} × {side} are too small to read", f"from {SMALLEST_SIDE} on")
    alphabet = ALPHABETS.get(request.argument, request.argument)
    characters = tuple(dict.fromkeys(alphabet))  # each once, in the order given
    fonts = tuple(_fonts_with(character) for character in characters)

    def split(name: str) -> DrawnImages:
        def random(index: int) -> Stream:
            return Stream(request.seed, f"glyphs/{name}/{index}", backend.NUMPY)

        def draw(index: int) -> tuple[np.ndarray, int]:
            return draw_glyph(characters, fonts, side, random(index))

        def label(index: int) -> int:
            return _label(characters, random(index).uniform(1, dtype="float64")[0])

        return DrawnImages(COUNTS[name], (1, side, side), draw, label)

    full_name = f"glyphs:{request.argument}" if request.argument else "glyphs"
    return Dataset(full_name, {name: split(name) for name in COUNTS}, (1, side, side), characters)


def draw_glyph(
    characters: tuple[str, ...], fonts: tuple[tuple[str, ...], ...], side: int, random: Stream
) -> tuple[np.ndarray, int]:
    """One image (1, side, side) uint8 of a random character, and which of `characters` it is.

    fonts: for each character the names of the fonts to choose from.
    random: a fresh stream of NumPy's backend; eight numbers are drawn.
    """
    u = random.uniform(8, dtype="float64")
    label = _label(characters, u[0])
    font_name = fonts[label][int(u[1] * len(fonts[label]))]
    steps = STROKES[font_name][int(u[2] * len(STROKES[font_name]))]
    height = min(2 * side, MAX_MASTER_HEIGHT)
    master = _master(font_name, characters[label], round(steps * STROKE_STEP * height), height)
    linear, centre = _placement(np.array(master.size), CAPITAL_HEIGHT * side / height, side, u[3:])
    return _map(master, linear, centre, side)[None], label


def _label(characters: tuple[str, ...], u: float) -> int:
    """Which of the characters the first number of an image, in [0, 1), stands for."""
    return int(u * len(characters))


def _placement(ink: np.ndarray, unit: float, side: int, how: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The random affine map p ↦ A p + centre that brings a master to the image, p counted from its middle, in pixels.

    A = s · rotation(angle) · [[1, shear], [0, 1]] (2, 2), with s = unit · scale; centre (2,).
    ink: (2,) width and height of the master. how: (5,) angle, shear, scale and the two shifts, each from [0, 1).
    """
    angle, shear = MAX_ANGLE * (2 * how[0] - 1), MAX_SHEAR * (2 * how[1] - 1)
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * how[2]
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = unit * scale * rotation @ np.array([[1, shear], [0, 1]])

    # The mapped rectangle reaches so far from its middle; what is too large for the image is drawn smaller.
    room = (0.5 - MARGIN) * side
    reach = np.abs(linear) @ ink / 2
    fit = min(1, room / reach.max())
    shift = np.minimum(MAX_SHIFT * side, room - fit * reach) * (2 * how[3:] - 1)
    return fit * linear, side / 2 + shift


def _map(master: Image.Image, linear: np.ndarray, centre: np.ndarray, side: int) -> np.ndarray:
    """The image (side, side) uint8 of a master under p ↦ A p + centre, p counted from the master's middle."""
    # Pillow asks for the way back, from a point q of the k times larger image: A⁻¹ (q / k − centre) + middle.
    back = np.linalg.inv(linear) / OVERSAMPLING
    offset = np.array(master.size) / 2 - back @ (OVERSAMPLING * centre)
    coefficients = (*back[0], offset[0], *back[1], offset[1])
    large = (OVERSAMPLING * side, OVERSAMPLING * side)
    mapped = master.transform(large, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(mapped.reduce(OVERSAMPLING))


# ---------------------------------------------------------------- fonts


@functools.lru_cache(maxsize=4096)  # 62 characters in all fonts and strokes: 8 MB for images of 28 pixels
def _master(font_name: str, character: str, stroke: int, height: int) -> Image.Image:
    """A character's ink, cropped to its edges, where a capital is `height` pixels high; strokes grow by `stroke`."""
    font = _font(font_name, height)
    left, top, right, bottom = font.getbbox(character, stroke_width=stroke)
    image = Image.new("L", (math.ceil(right - left) + 2, math.ceil(bottom - top) + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), character, fill=255, font=font, stroke_width=stroke)
    return image.crop(image.getbbox())


@functools.cache
def _font(font_name: str, height: int) -> ImageFont.FreeTypeFont:
    """A font in the size that makes a capital H `height` pixels high."""
    # The basic layout engine is in every Pillow, so that the images are the same everywhere.
    font = ImageFont.truetype(_font_path(font_name), 100, layout_engine=ImageFont.Layout.BASIC)
    _, top, _, bottom = font.getbbox("H", anchor="ls")
    return font.font_variant(size=100 * height / (bottom - top))


def _font_path(font_name: str) -> str:
    import matplotlib

    path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", f"{font_name}.ttf")
    if not os.path.isfile(path):
        raise DataError(f"data glyphs: Matplotlib's font {path} is missing", "pip install --force-reinstall matplotlib")
    return path


def _fonts_with(character: str) -> tuple[str, ...]:
    """The fonts that have a character and leave ink for it. Raises DataError if none does."""
    names = tuple(name for name in STROKES if ord(character) in _code_points(name) and _has_ink(name, character))
    if not names:
        raise DataError(f"data glyphs: no font can draw {character!r}", "glyphs:letters, glyphs:all or glyphs:ABC")
    return names


def _has_ink(font_name: str, character: str) -> bool:
    return _font(font_name, SIDE).getmask(character).getbbox() is not None


@functools.cache
def _code_points(font_name: str) -> frozenset[int]:
    """The characters that a font has, as code points."""
    from matplotlib.ft2font import FT2Font

    # Computer Modern's fonts are encoded in a way of their own: beyond letters and digits "<" draws an "¡".
    known = frozenset(FT2Font(_font_path(font_name)).get_charmap())
    return known & frozenset(map(ord, ALPHABETS["all"])) if font_name.startswith("cm") else known
