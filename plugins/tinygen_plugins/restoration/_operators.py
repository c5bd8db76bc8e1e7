"""What the methods of this family share: the derivatives of an image, as functions and as a matrix, and its noise.

A derivative is a stencil, a few neighbours with a weight each. The table `STENCILS` holds the two of the slope (order
1) and the three of the bend (order 2); everything below is made of it, so that the derivatives, their adjoint and the
matrix of the squared derivatives cannot disagree. A stencil is laid wherever it fits into the image, and beyond that
there is no derivative: nothing is assumed of what lies outside.

Images are (c, h, w), fields of derivatives (s, c, h, w) with s stencils. Lengths are in pixels.
"""

from __future__ import annotations

import math

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

# Weights of neighbours (rows down, columns to the right).
Stencil = dict[tuple[int, int], float]
STENCILS: dict[int, tuple[Stencil, ...]] = {
    1: ({(0, 0): -1.0, (0, 1): 1.0}, {(0, 0): -1.0, (1, 0): 1.0}),
    2: (
        {(0, 0): 1.0, (0, 1): -2.0, (0, 2): 1.0},
        {(0, 0): 1.0, (1, 0): -2.0, (2, 0): 1.0},
        # the mixed derivative stands twice in the matrix of second derivatives, hence √2
        {(0, 0): math.sqrt(2), (0, 1): -math.sqrt(2), (1, 0): -math.sqrt(2), (1, 1): math.sqrt(2)},
    ),
}
NORM = {1: math.sqrt(8.0), 2: 8.0}  # no image has derivatives of more than so many times its own norm


def _extent(stencil: Stencil, height: int, width: int) -> tuple[int, int]:
    """How many rows and columns of places the stencil fits into."""
    return max(0, height - max(y for y, _ in stencil)), max(0, width - max(x for _, x in stencil))


def _add(target: Array, weight: float, values: Array) -> None:
    """target += weight · values, in place; the weights of slopes, 1 and −1, need no product."""
    if weight == 1:
        target += values
    elif weight == -1:
        target -= values
    else:
        target += weight * values


@equation(
    r"(D x)_s(p) = \sum_q a_s(q)\, x(p + q): \quad D^1 = (\partial_x, \partial_y),"
    r" \quad D^2 = (\partial_{xx}, \partial_{yy}, \sqrt 2\, \partial_{xy})",
    source="forward differences, as in Chambolle 2004, section 2; ‖D²x‖ is the Frobenius norm of the Hessian",
)
def derivatives(image: Array, order: int) -> Array:
    """The slopes (order 1) or bends (order 2) of each channel: (c, h, w) gives (s, c, h, w), 0 where a stencil does not
    fit. Constants have no slope, ramps no bend."""
    xp = backend.of(image).xp
    height, width = image.shape[-2:]
    field = xp.zeros((len(STENCILS[order]), *image.shape), image.dtype)
    for part, stencil in zip(field, STENCILS[order]):
        h, w = _extent(stencil, height, width)
        for (y, x), weight in stencil.items():
            _add(part[..., :h, :w], weight, image[..., y : y + h, x : x + w])
    return field


@equation(
    r"(D^\top p)(q) = \sum_s \sum_{q'} a_s(q')\, p_s(q - q')", source="⟨D x, p⟩ = ⟨x, Dᵀ p⟩; −Dᵀ of order 1 is div"
)
def adjoint(field: Array, order: int) -> Array:
    """Each derivative handed back to the pixels that it was made of: (s, c, h, w) gives (c, h, w)."""
    xp = backend.of(field).xp
    height, width = field.shape[-2:]
    image = xp.zeros(field.shape[1:], field.dtype)
    for part, stencil in zip(field, STENCILS[order]):
        h, w = _extent(stencil, height, width)
        for (y, x), weight in stencil.items():
            _add(image[..., y : y + h, x : x + w], weight, part[..., :h, :w])
    return image


@equation(
    r"(D^\top D)_{q, q + \delta} = \sum_s \sum_{q'} a_s(q')\, a_s(q' + \delta)",
    source="xᵀ (DᵀD) x = ‖Dx‖²; of order 1 it is minus the Laplacian, of order 2 the Laplacian of the Laplacian",
)
def squared_derivatives(kept: Array, order: int) -> tuple[Array, Array, Array]:
    """The matrix DᵀD between the pixels where `kept` (h, w), booleans, is true, numbered row after row.

    Returns (rows, columns, values) of its entries, (m,) each. The sum over q' is over places where the stencil fits.
    """
    xp = backend.of(kept).xp
    height, width = kept.shape
    diagonals: dict[tuple[int, int], Array] = {}  # by the step δ from one pixel to another: the entries of all pixels
    for stencil in STENCILS[order]:
        h, w = _extent(stencil, height, width)
        for (y, x), weight in stencil.items():
            for (y2, x2), weight2 in stencil.items():
                entries = diagonals.setdefault((y2 - y, x2 - x), xp.zeros((height, width)))
                entries[y : y + h, x : x + w] += weight * weight2
    number = (xp.cumsum(kept).reshape(height, width) - 1).astype("int32")
    parts = []
    for (down, right), entries in diagonals.items():
        here = _overlap(height, -down), _overlap(width, -right)
        there = _overlap(height, down), _overlap(width, right)
        both = kept[here] & kept[there]
        parts.append((number[here][both], number[there][both], entries[here][both]))
    rows, columns, values = (xp.concatenate(part) for part in zip(*parts))
    return rows, columns, values


def _overlap(length: int, step: int) -> slice:
    """The part of a row of pixels that stays within it when it is moved back by a step."""
    return slice(min(length, max(0, step)), max(0, length + min(0, step)))


@equation(
    r"\hat\sigma = \frac{\operatorname{median}_p |\tfrac12 (x_{00} - x_{01} - x_{10} + x_{11})(p)|}{0.6745}",
    source="Donoho and Johnstone 1994: the median of the finest diagonal Haar coefficients, nearly all of them noise",
)
def noise_level(image: Array) -> Array:
    """The standard deviation of white noise in an image (c, h, w), told from the image alone; a number (0-d).

    0 where an image is one pixel high or wide, as it has no diagonals.
    """
    xp = backend.of(image).xp
    if min(image.shape[1:]) < 2:
        return xp.zeros((), image.dtype)
    even_h, even_w = image.shape[-2] // 2 * 2, image.shape[-1] // 2 * 2
    a, b = image[:, 0:even_h:2, 0:even_w:2], image[:, 0:even_h:2, 1:even_w:2]
    c, d = image[:, 1:even_h:2, 0:even_w:2], image[:, 1:even_h:2, 1:even_w:2]
    return xp.median(xp.abs(a - b - c + d)) / (2 * 0.6745)
