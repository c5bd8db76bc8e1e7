"""The Laplacian pyramid of Burt and Adelson (1983): an image as bands of detail, from fine to coarse.

`reduce` halves an image, `expand` doubles it again; what that loses is one band. `laplacian_pyramid` takes an image
apart, `collapse` puts it together exactly, and `fuse` joins two images band by band, so that coarse bands pass into
each other over a wide zone and fine ones over a narrow one: no seam, and no ghosts.

Images are (..., h, w) of any size. Beyond the border an image goes on with its outermost pixels.
"""

from __future__ import annotations

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

WEIGHTS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # w(−2) … w(2)


def _part(image: Array, axis: int, start: int, stop: int | None, step: int = 1) -> Array:
    """image[start:stop:step] along the last axis (-1) or the one before it (-2)."""
    part = slice(start, stop, step)
    return image[..., part] if axis == -1 else image[..., part, :]


def _extend(image: Array, axis: int, width: int) -> Array:
    """The image with its outermost pixels repeated `width` times at both ends of an axis."""
    widths = [(0, 0)] * image.ndim
    widths[axis] = (width, width)
    return backend.of(image).xp.pad(image, widths, mode="edge")


@equation(
    r"G_{l+1}(i, j) = \sum_{m,n=-2}^{2} w(m)\, w(n)\, G_l(2i + m, 2j + n), \quad w = (1, 4, 6, 4, 1) / 16",
    source="Burt and Adelson 1983, REDUCE, with a = 3/8",
)
def reduce(image: Array) -> Array:
    """The image blurred and halved: (..., h, w) gives (..., ⌈h/2⌉, ⌈w/2⌉)."""
    for axis in (-2, -1):
        count = (image.shape[axis] + 1) // 2
        wide = _extend(image, axis, 2)
        taps = [weight * _part(wide, axis, k, k + 2 * count - 1, 2) for k, weight in enumerate(WEIGHTS)]
        image = sum(taps[1:], taps[0])
    return image


@equation(
    r"\mathrm{expand}(G)(i, j) = 4 \sum_{m,n=-2}^{2} w(m)\, w(n)\, G\!\left(\tfrac{i - m}{2}, \tfrac{j - n}{2}\right)",
    source="Burt and Adelson 1983, EXPAND: only terms with whole (i − m)/2, (j − n)/2 are included",
)
def expand(image: Array, size: tuple[int, int]) -> Array:
    """The image doubled: (..., ⌈h/2⌉, ⌈w/2⌉) gives (..., h, w), size = (h, w).

    Along an axis, even places see the weights 2 (w(−2), w(0), w(2)) = (1, 6, 1)/8, odd ones 2 (w(−1), w(1)) = (1, 1)/2.
    """
    xp = backend.of(image).xp
    for axis, length in ((-2, size[0]), (-1, size[1])):
        wide = _extend(image, axis, 1)
        before, here, after = (_part(wide, axis, k, k + image.shape[axis]) for k in range(3))
        shape = list(image.shape)
        shape[axis] = 2 * shape[axis]
        doubled = xp.empty(shape, image.dtype)
        _part(doubled, axis, 0, None, 2)[...] = (before + 6 * here + after) / 8
        _part(doubled, axis, 1, None, 2)[...] = (here + after) / 2
        image = _part(doubled, axis, 0, length)
    return image


@equation(
    r"L_l = G_l - \mathrm{expand}(G_{l+1}), \quad G_{l+1} = \mathrm{reduce}(G_l), \quad L_n = G_n",
    source="Burt and Adelson 1983",
)
def laplacian_pyramid(image: Array, levels: int) -> list[Array]:
    """The bands L_0, …, L_n of an image, n = `levels`: what each scale adds to the next coarser, and the coarsest."""
    bands = []
    for _ in range(levels):
        smaller = reduce(image)
        bands.append(image - expand(smaller, image.shape[-2:]))
        image = smaller
    return [*bands, image]


@equation(r"G_l = L_l + \mathrm{expand}(G_{l+1}), \quad G_n = L_n", source="Burt and Adelson 1983")
def collapse(bands: list[Array]) -> Array:
    """The image that has these bands: exactly the one that `laplacian_pyramid` took apart."""
    image = bands[-1]
    for band in reversed(bands[:-1]):
        image = band + expand(image, band.shape[-2:])
    return image


@equation(
    r"L_l^F = G_l^m L_l^A + (1 - G_l^m) L_l^B",
    source="Burt and Adelson 1983, A multiresolution spline with application to image mosaics",
)
def fuse(first: Array, second: Array, mask: Array, levels: int) -> Array:
    """The image that is `first` where the mask is 1 and `second` where it is 0, each band joined at its own scale.

    first, second: (c, h, w). mask: (h, w) in [0, 1]. Returns (c, h, w), which may leave [0, 1] by a little.
    """
    bands = []
    for a, b in zip(laplacian_pyramid(first, levels), laplacian_pyramid(second, levels)):
        bands.append(mask * a + (1 - mask) * b)
        mask = reduce(mask)
    return collapse(bands)


def levels_for(height: int, width: int) -> int:
    """As many levels as leave the shorter side of the smallest image with four pixels or more."""
    return max(min(height, width).bit_length() - 3, 0)
