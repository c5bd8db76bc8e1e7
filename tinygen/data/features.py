"""What an image says of itself: filters, edges, texture and colour. Plain functions on arrays of any backend.

Filters take images (…, h, w) and treat each plane alone; beyond its edges a plane goes on as its own mirror image,
(d c b a | a b c d | d c b a), which is SciPy's "reflect". Texture and colour take one image and return its figures.
Values are in [0, 1] where levels are counted, and anything elsewhere; float32 stays float32.

Read `_correlate` first: every filter is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinygen.backend import Array, of


def _correlate(image: Array, weights: Sequence[float], axis: int) -> Array:
    """y[i] = Σ_k w_k x[i + k − r] along one axis, k = 0 … 2 r; the plane is mirrored at its edges."""
    radius = len(weights) // 2
    size = image.shape[axis]
    margins = [(0, 0)] * image.ndim
    margins[axis] = (radius, radius)
    padded = of(image).xp.pad(image, margins, mode="symmetric")
    part: list[slice] = [slice(None)] * image.ndim
    result = of(image).xp.zeros_like(image)
    for k, weight in enumerate(weights):
        if weight:
            part[axis] = slice(k, k + size)
            result += weight * padded[tuple(part)]
    return result


def _check_planes(owner: str, image: Array) -> None:
    """Raise ValueError unless `image` is (…, h, w) of real numbers with one pixel or more."""
    if image.ndim < 2 or not image.shape[-1] or not image.shape[-2]:
        raise ValueError(f"{owner}: an image is (…, h, w) with one pixel or more, got {image.shape}")
    if image.dtype.kind != "f":
        raise ValueError(f"{owner}: an image has values of a float type, got {image.dtype}; divide by 255")


# ---------------------------------------------------------------- filters


def gaussian(image: Array, sigma: float, truncate: float = 4.0) -> Array:
    """The image blurred: y = x ⋆ g ⋆ gᵀ with g_k = exp(−k²/2σ²) / Σ_k (the same), |k| ≤ ⌊truncate · σ + 1/2⌋.

    image: (…, h, w). sigma: σ in pixels, > 0. truncate: how many σ the window reaches to either side.
    Raises ValueError for a sigma that is not positive.
    """
    _check_planes("gaussian", image)
    if not sigma > 0:
        raise ValueError(f"gaussian: sigma must be positive, got {sigma}")
    radius = int(truncate * sigma + 0.5)
    bell = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    total = sum(bell)
    weights = [value / total for value in bell]
    return _correlate(_correlate(image, weights, -1), weights, -2)


def sobel(image: Array) -> tuple[Array, Array]:
    """The slopes g_x to the right and g_y downwards, eight times the mean change from a pixel to the next:

        g_x = x ⋆ (−1, 0, 1) ⋆ (1, 2, 1)ᵀ,    g_y = x ⋆ (−1, 0, 1)ᵀ ⋆ (1, 2, 1).

    image: (…, h, w). Returns two of that shape. The edge's strength is √(g_x² + g_y²), see `sobel_magnitude`.
    Source: Sobel and Feldman 1968.
    """
    _check_planes("sobel", image)
    difference, mean = (-1.0, 0.0, 1.0), (1.0, 2.0, 1.0)
    return (
        _correlate(_correlate(image, difference, -1), mean, -2),
        _correlate(_correlate(image, difference, -2), mean, -1),
    )


def sobel_magnitude(image: Array) -> Array:
    """g = √(g_x² + g_y²) of `sobel`: (…, h, w) gives (…, h, w)."""
    return of(image).xp.hypot(*sobel(image))


def laplacian(image: Array) -> Array:
    """Δx = x ⋆ (1, −2, 1) + x ⋆ (1, −2, 1)ᵀ: what the four neighbours have more than the pixel. (…, h, w)."""
    _check_planes("laplacian", image)
    second = (1.0, -2.0, 1.0)
    return _correlate(image, second, -1) + _correlate(image, second, -2)


# ---------------------------------------------------------------- edges


def canny(image: Array, sigma: float = 1.0, low: float = 0.1, high: float = 0.2) -> Array:
    """The edges of an image, a pixel wide: (…, h, w) gives booleans (…, h, w).

    1. Blur by σ, and take the slopes g_x, g_y by Sobel's filter, divided by 4: a step from 0 to 1 has strength 1
       without the blur, 0.64 at σ = 1 and 0.26 at σ = 3.
    2. Thin: a pixel stays if no neighbour along the slope, in the nearest of four directions, is stronger (of two
       equal ones the former stays). Pixels on the rim have no neighbours to compare with and go.
    3. Link: strong pixels (g ≥ high) are edges, and weak ones (g ≥ low) if they join a strong one over other weak ones.

    Raises ValueError unless 0 < low ≤ high and sigma > 0.
    Source: Canny 1986, A computational approach to edge detection, with the four directions in common use.
    """
    if not 0 < low <= high:
        raise ValueError(f"canny: expected 0 < low ≤ high, got low {low} and high {high}")
    slope_x, slope_y = sobel(gaussian(image, sigma))
    strength = of(image).xp.sqrt(slope_x * slope_x + slope_y * slope_y) / 4
    ridge = _ridge(strength, slope_x, slope_y)
    return _linked(ridge & (strength >= high), ridge & (strength >= low))


def _ridge(strength: Array, slope_x: Array, slope_y: Array) -> Array:
    """Where no neighbour along the slope is stronger."""
    xp = of(strength).xp
    tangent = math.tan(math.pi / 8)  # half of a sector of 45 degrees
    across, down = xp.abs(slope_x), xp.abs(slope_y)
    horizontal, vertical = down <= tangent * across, across < tangent * down
    falling = slope_x * slope_y > 0  # the diagonal to the right and downwards
    sectors = (
        (horizontal, (0, 1)),
        (vertical, (1, 0)),
        (~horizontal & ~vertical & falling, (1, 1)),
        (~horizontal & ~vertical & ~falling, (1, -1)),
    )
    ridge = xp.zeros(strength.shape, bool)
    if min(strength.shape[-2:]) < 3:
        return ridge
    middle = strength[..., 1:-1, 1:-1]
    for sector, (down_by, right_by) in sectors:
        after, before = (_shifted(strength, sign * down_by, sign * right_by) for sign in (1, -1))
        ridge[..., 1:-1, 1:-1] |= sector[..., 1:-1, 1:-1] & (middle >= after) & (middle > before)
    return ridge


def _shifted(image: Array, down: int, right: int) -> Array:
    """For all pixels but the rim's: the neighbour that is so far down and to the right, (…, h − 2, w − 2)."""
    h, w = image.shape[-2:]
    return image[..., 1 + down : h - 1 + down, 1 + right : w - 1 + right]


def _linked(strong: Array, weak: Array) -> Array:
    """The weak pixels that join a strong one, by any of eight neighbours: grown until nothing changes."""
    owner = of(strong)
    xp = owner.xp
    margins = [(0, 0)] * (strong.ndim - 2) + [(1, 1), (1, 1)]
    edges, before = strong, -1
    while (count := owner.scalar(xp.count_nonzero(edges))) != before:
        before = count
        around = xp.pad(edges, margins, mode="constant")
        rows = around[..., :-2, :] | around[..., 1:-1, :] | around[..., 2:, :]
        edges = weak & (rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:])
    return edges


# ---------------------------------------------------------------- texture


def co_occurrence(image: Array, offset: tuple[int, int], levels: int = 8, symmetric: bool = False) -> Array:
    """P[i, j]: how often a pixel of level j stands `offset` = (rows, columns) away from one of level i, of all pairs.

    image: (h, w) in [0, 1], of which level i is [i/L, (i + 1)/L), L = `levels`. Returns (L, L) float64 with sum 1.
    symmetric: count each pair both ways. Raises ValueError for another shape, or an offset that leaves no pair.
    Source: Haralick, Shanmugam, Dinstein 1973, section II.
    """
    _check_planes("co_occurrence", image)
    (h, w), (down, right) = image.shape[-2:], offset
    if image.ndim != 2 or abs(down) >= h or abs(right) >= w:
        raise ValueError(f"co_occurrence: expected an image (h, w) larger than the offset {offset}, got {image.shape}")
    xp = of(image).xp
    level = _level(image, levels)
    top, left = max(0, -down), max(0, -right)
    high, wide = h - abs(down), w - abs(right)
    first = level[top : top + high, left : left + wide]
    second = level[top + down : top + down + high, left + right : left + right + wide]
    counts = xp.bincount((first * levels + second).reshape(-1), minlength=levels * levels).reshape(levels, levels)
    if symmetric:
        counts = counts + counts.T
    return counts / counts.sum()


def contrast(matrix: Array) -> Array:
    """Σ_ij (i − j)² P_ij of a co-occurrence matrix (L, L); 0 where neighbours are equal."""
    return (_level_differences(matrix) ** 2 * matrix).sum()


def energy(matrix: Array) -> Array:
    """Σ_ij P_ij² of a co-occurrence matrix (L, L); 1 where all pairs are alike."""
    return (matrix * matrix).sum()


def homogeneity(matrix: Array) -> Array:
    """Σ_ij P_ij / (1 + |i − j|) of a co-occurrence matrix (L, L); 1 where neighbours are equal."""
    return (matrix / (1 + _level_differences(matrix))).sum()


def _level_differences(matrix: Array) -> Array:
    level = of(matrix).xp.arange(len(matrix))
    return abs(level[:, None] - level)


def _level(image: Array, levels: int) -> Array:
    """⌊L x⌋ of values in [0, 1], where 1 belongs to the last level."""
    xp = of(image).xp
    return xp.clip(xp.floor(levels * image), 0, levels - 1).astype("int64")


def local_binary_patterns(image: Array) -> Array:
    """Σ_k 2ᵏ [x_k ≥ x]: which of its eight neighbours are at least as bright as a pixel, as a byte.

    Neighbour 0 stands to the right, and they go counter-clockwise. image: (…, h, w), h, w ≥ 3. Returns
    (…, h − 2, w − 2) uint8, as the rim has too few neighbours. The order of brightness alone counts.
    Source: Ojala, Pietikäinen, Harwood 1996.
    """
    _check_planes("local_binary_patterns", image)
    if min(image.shape[-2:]) < 3:
        raise ValueError(f"local_binary_patterns: expected 3 × 3 pixels or more, got {image.shape}")
    around = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    middle = _shifted(image, 0, 0)
    code = of(image).xp.zeros(middle.shape, "uint8")
    for k, (down, right) in enumerate(around):
        code |= (_shifted(image, down, right) >= middle).astype("uint8") << k
    return code


# ---------------------------------------------------------------- colour


def colour_histogram(image: Array, bins: int = 8) -> Array:
    """How many pixels have each colour, of `bins` levels a channel: (c, h, w) in [0, 1] gives (bins, …, bins) int64.

    One axis for each of the c channels: [r, g, b] counts the pixels of these three levels. Source: Swain, Ballard 1991.
    """
    _check_planes("colour_histogram", image)
    if image.ndim != 3:
        raise ValueError(f"colour_histogram: an image is (c, h, w), got {image.shape}")
    cell: Array = 0
    for channel in _level(image, bins):
        cell = cell * bins + channel
    c = len(image)
    return of(image).xp.bincount(cell.reshape(-1), minlength=bins**c).reshape((bins,) * c)


def colour_moments(image: Array) -> Array:
    """Mean, spread and skew of each channel: (…, c, h, w) gives (…, c, 3), all in the units of the image.

        μ = E x,    σ = (E (x − μ)²)^(1/2),    s = (E (x − μ)³)^(1/3).

    Source: Stricker and Orengo 1995, eq. 2.
    """
    _check_planes("colour_moments", image)
    xp = of(image).xp
    mean = image.mean(axis=(-2, -1), keepdims=True)
    away = image - mean
    spread, skew = xp.sqrt((away**2).mean(axis=(-2, -1))), xp.cbrt((away**3).mean(axis=(-2, -1)))
    return xp.stack([mean[..., 0, 0], spread, skew], axis=-1)
