"""Templates filled with content: I = T * C, in the three ways in which the star can be read.

A template T says where, a content C says what. The star is read as

- "mask": the product of each pixel with its own, T ⊙ C. The content shows where the template is 1, a background where
  it is 0, and several templates lie over each other as sheets of paper do.
- "stamp": the convolution of a template with a map of impulses. Wherever there is an impulse, the template is printed
  in its colour; the canvas wraps around, so that the picture can be laid as tiles.
- "basis": the product of a vector with a matrix, Σ c_k T_k. The templates are the same for all pictures of a sample and
  the coefficients, here colours, make the difference: pictures from a space of as many dimensions as templates.

Read it from the three methods `_mask`, `_stamp` and `_basis` at the end; above them stand the templates, as signed
distances, and the three readings. The few numbers of a picture are drawn on the host, its pixels are painted on the
backend in use. To show pictures of other generators through templates, sample them first and compose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tinygen import backend
from tinygen import functional as F
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import Composer, Sampler, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._figures import FIGURES, Sheet, seen_from
from tinygen_plugins.procedural._raster import (
    Palette,
    canvas_shape,
    check_canvas,
    draw_images,
    draw_palette,
    over_premultiplied,
    pixel_centres,
    smooth_noise,
)

READINGS = ["mask", "stamp", "basis"]
CONTENTS = ["colour", "gradient", "noise"]


@dataclass(frozen=True)
class Config:
    """The options of `template`."""

    size: int = 256
    """height and width of the images in pixels; compose takes those of its images"""
    channels: int = 3
    """3 for colour, 1 for grey"""
    reading: Literal["mask", "stamp", "basis"] = "mask"
    """how I = T * C is read: pixel by pixel, as a convolution, or as a sum of templates with coefficients"""
    template: Literal["random", "rectangle", "disc", "ring", "polygon", "stripes"] = "random"
    """the figure of the templates"""
    content: Literal["random", "colour", "gradient", "noise"] = "random"
    """what fills the templates of the reading mask"""
    count: int = 11
    """templates in a picture; of the reading stamp, prints along a side"""
    extent: float = 0.3
    """radius of the largest templates as a part of the image's side; the reading stamp takes count instead"""
    light: Literal["random", "day", "night"] = "random"
    """a light ground, or a dark one"""

    def __post_init__(self) -> None:
        check_canvas("template", self.size, self.channels)
        check_choice("template", "reading", self.reading, READINGS)
        check_choice("template", "template", self.template, ["random", *FIGURES])
        check_choice("template", "content", self.content, ["random", *CONTENTS])
        check_range("template", "count", self.count, 1, 100)
        check_range("template", "extent", self.extent, 0.02, 2.0)
        check_choice("template", "light", self.light, ["random", "day", "night"])


# ---------------------------------------------------------------- I = T * C


@equation(r"I = T \odot C", source="Hadamard's product: every pixel with its own")
def hadamard(template: Array, content: Array) -> Array:
    """The content (c, h, w) where the template (h, w) is 1, nothing where it is 0. Linear in each of the two."""
    return template * content


@equation(
    r"I = \alpha F + (1 - \alpha) B", source="Porter and Duff 1984: over, on an opaque background; α is the template"
)
def matte(template: Array, foreground: Array, background: Array) -> Array:
    """The foreground where the template (h, w) is 1, the background where it is 0: (c, h, w), between the two."""
    return hadamard(template, foreground) + hadamard(1 - template, background)


@equation(
    r"I(p) = \sum_q C(q)\, T(p - q + m), \quad F[I] = F[C] \cdot F[T] \text{ for } m = 0",
    source="the convolution theorem; m is the middle of the template, p − q + m wraps around the canvas",
)
def stamp(template: Array, impulses: Array) -> Array:
    """The template printed wherever there is an impulse, as strongly as it is; where prints overlap they add up.

    template: (..., t, s) with its middle at (⌊(t − 1)/2⌋, ⌊(s − 1)/2⌋). impulses: (..., h, w), t ≤ h and s ≤ w.
    Returns (..., h, w). Raises ValueError for a template that is larger than the canvas.
    """
    xp = backend.of(impulses).xp
    (t, s), (h, w) = template.shape[-2:], impulses.shape[-2:]
    if t > h or s > w:
        raise ValueError(f"stamp: a template of {t} × {s} pixels is larger than the canvas of {h} × {w}")
    product = xp.fft.rfft2(template, s=(h, w)) * xp.fft.rfft2(impulses)
    return xp.roll(xp.fft.irfft2(product, s=(h, w)), (-((t - 1) // 2), -((s - 1) // 2)), axis=(-2, -1))


@equation(r"C' = \frac{C}{\max(1, \alpha)}, \quad \alpha' = \min(1, \alpha)", source="the mean of what overlaps")
def levelled(layer: Array) -> Array:
    """A layer (c + 1, h, w) of added prints as one that covers no pixel more than wholly."""
    return layer / backend.of(layer).xp.maximum(layer[-1:], 1.0)


@equation(r"I = \sum_k c_k T_k", source="a linear space of images; of K templates it has at most K dimensions")
def combination(coefficients: Array, templates: Array) -> Array:
    """The image with coefficients (k, c) in the basis of templates (k, h, w): (c, h, w)."""
    k, h, w = templates.shape
    return (coefficients.T @ templates.reshape(k, h * w)).reshape(-1, h, w)  # (c, hw) = (c, k) @ (k, hw)


@equation(
    r"W_k = T_k \prod_{j > k} (1 - T_j), \quad W_0 = \prod_{j \ge 1} (1 - T_j)",
    source="Porter and Duff's over, multiplied out: what is seen of each sheet of a pile",
)
def visible_parts(templates: Array) -> Array:
    """Of the ground and of each template in a pile, what the later ones leave to be seen: (k, h, w) to (k + 1, h, w).

    The parts of every pixel sum to 1: contents cut out by them fill the canvas without gap or seam.
    """
    xp = backend.of(templates).xp
    seen = xp.ones(templates.shape[1:], templates.dtype)
    parts = []
    for template in templates[::-1]:
        parts.append(template * seen)
        seen = (1 - template) * seen
    return xp.stack([seen, *parts[::-1]])


# ---------------------------------------------------------------- the picture


class Template(Sampler, Composer):
    """Pictures of templates and contents."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.channels, self.height, self.width = canvas_shape("template", config.size, config.channels, data)
        self.random = random.child("basis")

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1]; image i is the same in a sample of any length."""
        draw = {"mask": self._mask, "stamp": self._stamp, "basis": self._basis}[self.config.reading]
        return draw_images(n, random, lambda image: draw(_on_host(image)))

    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """One image (c, h, w) in [0, 1] out of several, as the reading has it.

        mask: each image but the last is shown through a template of its own, and the last is the background; a single
            one lies on a plain ground. `mask` (h, w), where given, is the template of the first.
        stamp: the first image, made so small that `count` of it stand along a side, is printed all over the second, or
            over a plain ground; `mask` (h, w) says how strongly each of its pixels prints.
        basis: the images are the templates; their coefficients are weights that sum to 1, drawn evenly.
        Raises UsageError where there is no image, or too many to stamp, or where images to be laid over each other
        differ in shape.
        """
        _check_images(self.config.reading, images, mask)
        compose = {"mask": self._compose_mask, "stamp": self._compose_stamp, "basis": self._compose_basis}
        arrays, given = [image.data for image in images], None if mask is None else mask.data
        image = compose[self.config.reading](arrays, given, _on_host(random))
        return tensor(backend.of(image).xp.clip(image, 0.0, 1.0))

    # ------------------------------------------------------------ sample, a method a reading

    def _mask(self, plan: Stream) -> Array:
        """Sheet upon sheet on the ground."""
        palette = draw_palette(plan.child("palette"), self.channels, self.config.light)
        points = self._points()
        canvas = self._ground(plan.child("ground"), palette, points)
        for number, sheet in enumerate(self._layout(plan.child("layout"), self.height, self.width)):
            own = plan.child(f"sheet {number}")
            canvas = over_premultiplied(self._shadow(sheet, points, palette), canvas)
            content = self._content(own, palette, points, sheet)
            opacity = 1.0 if float(own.uniform(())) < 0.7 else 0.75
            canvas = over_premultiplied(hadamard(opacity * sheet.mask(points), content), canvas)
        return backend.of(canvas).xp.clip(canvas[:-1], 0.0, 1.0)

    def _stamp(self, plan: Stream) -> Array:
        """Print upon print of two or three small templates, on a lattice each."""
        palette = draw_palette(plan.child("palette"), self.channels, self.config.light)
        canvas = self._plain(palette.ground, self.height, self.width)
        for number in range(2 + int(plan.integers(0, 2, ()))):
            own = plan.child(f"print {number}")
            template = self._small_template(own.child("template"), 0.9**number)
            impulses = self._impulses(own.child("impulses"), palette, number)
            canvas = over_premultiplied(levelled(stamp(template, impulses)), canvas)
        return backend.of(canvas).xp.clip(canvas[:-1], 0.0, 1.0)

    def _basis(self, plan: Stream) -> Array:
        """The visible parts of a pile of templates, each in a colour."""
        palette = draw_palette(plan.child("palette"), self.channels, self.config.light)
        xp, colours = backend.NUMPY.xp, plan.child("colours")
        layout = self._layout(_on_host(self.random), self.height, self.width)
        order = colours.permutation(len(palette.inks))
        inks = palette.inks[xp.tile(order, len(layout))[: len(layout)]]
        coefficients = xp.concatenate([palette.ground[None], inks])  # (k + 1, c)
        points = self._points()
        masks = backend.of(points).xp.stack([sheet.mask(points) for sheet in layout])
        return combination(backend.current().from_host(coefficients), visible_parts(masks))

    # ------------------------------------------------------------ compose, a method a reading

    def _compose_mask(self, images: list[Array], mask: Array | None, plan: Stream) -> Array:
        """The images through a template each, from the last to the first."""
        *contents, canvas = images
        channels, height, width = canvas.shape
        if not contents:
            palette = draw_palette(plan.child("palette"), channels, self.config.light)
            contents, canvas = images, self._plain(palette.ground, height, width)[:-1]
        points = pixel_centres(backend.of(canvas).xp, height, width)
        for number, content in reversed(list(enumerate(contents))):  # the first lies uppermost
            if number == 0 and mask is not None:
                template = mask
            else:
                sheets = self._layout(plan.child(f"content {number}"), height, width)
                masks = backend.of(canvas).xp.stack([sheet.mask(points) for sheet in sheets])
                template = 1 - visible_parts(masks)[0]
            canvas = matte(template, content, canvas)
        return canvas

    def _compose_stamp(self, images: list[Array], mask: Array | None, plan: Stream) -> Array:
        """The first image, made small, wherever a lattice has an impulse."""
        first, canvas = images[0], images[-1]
        channels, height, width = canvas.shape
        xp = backend.of(canvas).xp
        prints = xp.ones(first.shape[1:], first.dtype) if mask is None else mask
        layer = xp.concatenate([hadamard(prints, first), prints[None]])  # (c + 1, h, w)
        if len(images) == 1:
            palette = draw_palette(plan.child("palette"), channels, self.config.light)
            canvas = self._plain(palette.ground, height, width)[:-1]
        scale = 0.9 * min(height, width) / self.config.count / max(first.shape[1:])
        small = max(1, round(scale * first.shape[1])), max(1, round(scale * first.shape[2]))
        template = F.adaptive_avg_pool2d(tensor(layer[None]), small).data[0]  # (c + 1, t, s)
        impulses = xp.zeros((height, width), canvas.dtype)
        row, column = map(backend.of(canvas).from_host, self._lattice(plan.child("lattice"), 0, height, width))
        impulses[row, column] = 1.0
        opaque = xp.concatenate([canvas, xp.ones((1, height, width), canvas.dtype)])
        return over_premultiplied(levelled(stamp(template, impulses)), opaque)[:-1]

    def _compose_basis(self, images: list[Array], mask: Array | None, plan: Stream) -> Array:
        """The images with weights that sum to 1."""
        where, log = backend.of(images[0]), backend.NUMPY.xp.log
        parts = -log(1 - plan.uniform(len(images)))  # exponential: divided by their sum, even among all weights
        weights = where.from_host(parts / parts.sum())[:, None]
        stacked = where.xp.stack(images)  # (k, c, h, w)
        return where.xp.concatenate([combination(weights, stacked[:, c]) for c in range(stacked.shape[1])])

    # ------------------------------------------------------------ templates and contents by chance

    def _points(self) -> Array:
        """The centres of the pixels (h, w, 2), on the backend in use."""
        return pixel_centres(backend.current().xp, self.height, self.width)

    def _plain(self, colour: Array, height: int, width: int) -> Array:
        """An opaque layer (c + 1, h, w) of one colour."""
        one = backend.NUMPY.xp.ones(1, "float32")
        filling = backend.current().from_host(backend.NUMPY.xp.concatenate([colour, one]))
        return filling[:, None, None] * backend.current().xp.ones((height, width), "float32")

    def _layout(self, plan: Stream, height: int, width: int) -> list[Sheet]:
        """Where templates stand: from the largest to the smallest, on axes that they share."""
        side = min(height, width)
        axis = (0.0, math.pi / 4, float(plan.uniform((), 0, math.pi)))[int(plan.integers(0, 3, ()))]
        kinds = list(FIGURES) if self.config.template == "random" else [self.config.template]
        sheets = []
        for number in range(self.config.count):
            kind, across, down, larger, quarter, form = plan.uniform(6).tolist()
            shrinking = 0.82**number
            radius = max(2.0, self.config.extent * side * shrinking * (0.7 + 0.6 * larger))
            centre = (width * (0.08 + 0.84 * across), height * (0.08 + 0.84 * down))
            turn = axis + math.pi / 4 * int(4 * quarter)
            sheets.append(Sheet(kinds[int(len(kinds) * kind)], centre, radius, turn, form))
        return sheets

    def _ground(self, plan: Stream, palette: Palette, points: Array) -> Array:
        """An opaque layer (c + 1, h, w), a little lighter on one side."""
        angle = float(plan.uniform((), 0, 2 * math.pi))
        plain = self._plain(palette.ground, self.height, self.width)
        xp = backend.of(points).xp
        middle = seen_from(points, (self.width / 2, self.height / 2), angle)
        ramp = 1 + (0.25 if palette.night else 0.05) * middle[..., 0] / max(self.height, self.width)
        return xp.concatenate([plain[:-1] * ramp, plain[-1:]])

    def _shadow(self, sheet: Sheet, points: Array, palette: Palette) -> Array:
        """The soft shadow (c + 1, h, w) that a sheet throws: black, which is 0 in each channel but the last."""
        xp, side = backend.of(points).xp, min(self.height, self.width)
        x, y = sheet.centre
        fallen = replace(sheet, centre=(x + 0.008 * side, y + 0.012 * side)).mask(points, blur=0.035 * side)
        black = xp.zeros((self.channels, self.height, self.width), fallen.dtype)
        return xp.concatenate([black, (0.5 if palette.night else 0.28) * fallen[None]])

    def _content(self, plan: Stream, palette: Palette, points: Array, sheet: Sheet) -> Array:
        """What fills a sheet, an opaque layer (c + 1, h, w): one ink, or two that a ramp or smooth noise mixes."""
        kind: str = self.config.content
        if kind == "random":
            kind = CONTENTS[int(plan.integers(0, len(CONTENTS), ()))]
        first, second = plan.permutation(len(palette.inks))[:2].tolist()
        one, other = (self._plain(palette.inks[k], self.height, self.width) for k in (first, second))
        if kind == "colour":
            return one
        xp = backend.of(points).xp
        if kind == "gradient":
            x = seen_from(points, sheet.centre, sheet.turn + float(plan.uniform((), 0, 2 * math.pi)))[..., 0]
            part = xp.clip(0.5 + x / (2 * sheet.radius), 0.0, 1.0)
        else:
            white = backend.current().from_host(plan.normal((self.height, self.width)))
            part = 0.5 + 0.5 * xp.sin(4 * smooth_noise(white, max(1.0, 0.3 * sheet.radius)))
        return matte(part, one, other)

    def _small_template(self, plan: Stream, scale: float) -> Array:
        """A template (t, t) for the cells of the lattice."""
        cell = min(self.height, self.width) / self.config.count
        kind, larger, quarter, form = plan.uniform(4).tolist()
        kinds = list(FIGURES) if self.config.template == "random" else [self.config.template]
        radius = cell * scale * (0.3 + 0.3 * larger)
        side = min(self.height, self.width, 2 * math.ceil(1.5 * radius) + 1)
        points = pixel_centres(backend.current().xp, side, side)
        sheet = Sheet(kinds[int(len(kinds) * kind)], (side / 2, side / 2), radius, math.pi / 4 * int(4 * quarter), form)
        return sheet.mask(points)

    def _impulses(self, plan: Stream, palette: Palette, number: int) -> Array:
        """Impulses (c + 1, h, w) in the inks of a palette, on a lattice."""
        xp = backend.NUMPY.xp
        row, column = self._lattice(plan.child("lattice"), number, self.height, self.width)
        inks = palette.inks[plan.integers(0, len(palette.inks), len(row))]
        impulses = xp.zeros((self.channels + 1, self.height, self.width), "float32")
        impulses[:, row, column] = xp.concatenate([inks, xp.ones((len(inks), 1), "float32")], axis=-1).T
        return backend.current().from_host(impulses)

    def _lattice(self, plan: Stream, number: int, height: int, width: int) -> tuple[Array, Array]:
        """Rows and columns of the pixels of a lattice, some left out; on the host.

        Its rows may be shifted as bricks are, and lattices with odd numbers stand between those with even ones.
        """
        xp, count = backend.NUMPY.xp, self.config.count
        brick, missing = plan.uniform(2).tolist()
        row, column = (index.reshape(-1) for index in xp.meshgrid(xp.arange(count), xp.arange(count), indexing="ij"))
        shift = 0.5 * (row % 2) if brick < 0.6 else 0.0
        y, x = (row + 0.5 * number) * height / count, (column + shift + 0.5 * number) * width / count
        kept = plan.uniform(len(row)) >= 0.4 * missing
        return y[kept].astype("int64") % height, x[kept].astype("int64") % width


def _on_host(random: Stream) -> Stream:
    """The beginning of a stream, drawn on the host."""
    return Stream(random.seed, random.name, backend.NUMPY)


def _check_images(reading: str, images: list[Tensor], mask: Tensor | None) -> None:
    """Raise UsageError unless a reading can compose these images."""
    if not images:
        raise UsageError("template: compose needs one image or more, got none", "name the images to compose")
    if reading == "stamp" and len(images) > 2:
        raise UsageError(
            f"template: the reading stamp takes the image to print and the one below, got {len(images)} images",
            "name one or two images, or compose with --reading mask or basis",
        )
    if reading == "basis" and mask is not None:
        raise UsageError(
            "template: the reading basis has no place for a mask", "leave it out, or compose with --reading mask"
        )
    shapes = sorted({tuple(image.shape if reading != "stamp" else image.shape[:1]) for image in images})
    if len(shapes) > 1:
        raise UsageError(
            f"template: the images must be alike in shape, got {' and '.join(map(str, shapes))}",
            "resize and crop them to one size",
        )
    if mask is not None and tuple(mask.shape) != tuple(images[0].shape[1:]):
        raise UsageError(
            f"template: the mask must be {tuple(images[0].shape[1:])} as the first image, got {tuple(mask.shape)}",
            "resize and crop it as the image",
        )
