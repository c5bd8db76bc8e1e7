"""Corners, what they look like, and which of two images' corners look alike.

The order is that of Brown, Szeliski and Winder (2005): corners by Harris's measure, spread over the image, placed
between pixels, turned by the slope around them, and described by a small, blurred, normalised patch. Each is done on
the image and on its half, so that photographs of somewhat different scale match as well.

Points are (n, 2) arrays of (x, y) in pixels, the pixel in row j and column i being the unit square around
(i + 1/2, j + 1/2). Everything is computed on the image's library; matching, a few hundred numbers, on the host.
"""

from __future__ import annotations

from scipy.spatial import KDTree

from tinygen import backend
from tinygen.backend import Array
from tinygen.data.features import gaussian, sobel
from tinygen.data.transforms import bilinear
from tinygen.host import equation
from tinygen_plugins.composition._pyramid import reduce

SLOPE_SIGMA, WINDOW_SIGMA, HARRIS_K = 1.0, 2.0, 0.05
STRONGEST, ROBUST = 2000, 0.9  # corners that are compared when they are spread, and c of `suppression_radii`
WEAKEST = 1e-6  # least strength of a corner, as a part of the greatest
ORIENTATION_SIGMA = 4.5
PATCH, SPACING, PATCH_SIGMA = 8, 5.0, 2.0  # samples along a side of a patch, pixels between them, blur before

# ---------------------------------------------------------------- corners


@equation(
    r"R = \det M - k\,(\operatorname{tr} M)^2, \quad M = G_\sigma \star (\nabla I\, \nabla I^T)",
    source="Harris and Stephens 1988",
)
def harris(image: Array) -> Array:
    """Cornerness: large where the image changes in every direction, below 0 along edges, 0 on flat ground.

    image: (h, w). ∇I by Sobel's filter after a blur by σ = 1; the window's σ is 2; k = 0.05. Returns (h, w).
    """
    right, down = (slope / 8 for slope in sobel(gaussian(image, SLOPE_SIGMA)))
    xx, xy, yy = (gaussian(product, WINDOW_SIGMA) for product in (right * right, right * down, down * down))
    trace = xx + yy
    return xx * yy - xy * xy - HARRIS_K * trace * trace


@equation(
    r"r_i = \min_j \|x_i - x_j\| \;\text{ over }\; R_i < c\, R_j",
    source="Brown, Szeliski and Winder 2005, section 3: adaptive non-maximal suppression, c = 0.9",
)
def suppression_radii(points: Array, strength: Array) -> Array:
    """How far each corner is from the nearest clearly stronger one, infinity for the strongest.

    points: (n, 2). strength: (n,). Returns (n,). The corners with the largest radii are spread evenly.
    """
    xp = backend.of(points).xp
    away = points[:, None] - points  # (n, n, 2)
    stronger = strength[:, None] < ROBUST * strength
    return xp.sqrt(xp.min(xp.where(stronger, xp.sum(away * away, axis=-1), xp.inf), axis=1))


@equation(
    r"\delta = -\left( \frac{\partial^2 R}{\partial x^2} \right)^{-1} \frac{\partial R}{\partial x}",
    source="Brown, Szeliski and Winder 2005, section 2: the top of the parabola through 3×3 values",
)
def peak_offset(response: Array, row: Array, column: Array) -> Array:
    """Where between pixels the response (h, w) peaks, seen from local maxima in its inside: (n, 2) of (x, y)."""
    xp = backend.of(response).xp
    here = response[row, column]
    left, right = response[row, column - 1], response[row, column + 1]
    above, below = response[row - 1, column], response[row + 1, column]
    slope_x, slope_y = (right - left) / 2, (below - above) / 2
    xx, yy = right - 2 * here + left, below - 2 * here + above
    xy = response[row + 1, column + 1] - response[row + 1, column - 1]
    xy = (xy - response[row - 1, column + 1] + response[row - 1, column - 1]) / 4
    determinant = xx * yy - xy * xy
    bends = determinant > 0  # otherwise no peak, and the pixel's centre is as good as any place
    determinant = xp.where(bends, determinant, 1.0)
    x, y = (xy * slope_y - yy * slope_x) / determinant, (xy * slope_x - xx * slope_y) / determinant
    offset = xp.stack([x, y], axis=-1) * bends[:, None]
    return xp.clip(offset, -0.5, 0.5)


def corners(image: Array, count: int) -> Array:
    """At most `count` corners of an image (h, w), spread over it: (n, 2) of (x, y)."""
    xp = backend.of(image).xp
    response = harris(image)
    height, width = image.shape
    inner = response[1:-1, 1:-1]
    is_corner = inner > WEAKEST * xp.max(response)
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                is_corner = is_corner & (inner > response[down : height - 2 + down, right : width - 2 + right])
    row, column = (index + 1 for index in xp.nonzero(is_corner))
    strongest = xp.argsort(-response[row, column])[:STRONGEST]
    row, column = row[strongest], column[strongest]
    if not row.size:
        return xp.zeros((0, 2))
    points = xp.stack([column, row], axis=-1) + 0.5
    spread = xp.argsort(-suppression_radii(points, response[row, column]))[:count]
    return points[spread] + peak_offset(response, row[spread], column[spread])


# ---------------------------------------------------------------- descriptions


@equation(
    r"u = \frac{\nabla (G_\sigma \star I)}{\|\nabla (G_\sigma \star I)\|}",
    source="Brown, Szeliski and Winder 2005, section 2: orientation by the blurred gradient, σ = 4.5",
)
def orientations(image: Array, points: Array) -> Array:
    """The direction in which an image (h, w) grows brighter around points (n, 2): unit vectors (n, 2)."""
    xp = backend.of(image).xp
    slopes = xp.stack(sobel(gaussian(image, ORIENTATION_SIGMA)))
    slope = bilinear(slopes, points, fill=None).T  # (n, 2)
    length = xp.sqrt(xp.sum(slope * slope, axis=-1, keepdims=True))
    plain = xp.where(xp.arange(2) == 0, 1.0, 0.0)  # to the right, where there is no slope
    return xp.where(length > 0, slope / xp.where(length > 0, length, 1.0), plain)


@equation(
    r"d_{ij} = \frac{p_{ij} - \operatorname{mean} p}{\operatorname{std} p}, \quad p_{ij} ="
    r" (G_\sigma \star I)(x + s\,(j - \tfrac{7}{2})\, u + s\,(i - \tfrac{7}{2})\, u^\perp)",
    source="Brown, Szeliski and Winder 2005, section 4: 8×8 samples s = 5 pixels apart, σ = 2",
)
def describe(image: Array, points: Array, directions: Array) -> Array:
    """What an image (h, w) looks like around points (n, 2), turned into their directions u (n, 2): (n, 64).

    Each description has mean 0 and variance 1, so that brightness and contrast do not matter. u⊥ is u turned from
    x to y.
    """
    xp = backend.of(image).xp
    step = SPACING * (xp.arange(PATCH) - (PATCH - 1) / 2)
    along, across = directions, xp.stack([-directions[:, 1], directions[:, 0]], axis=-1)
    places = points[:, None, None] + step[:, None] * along[:, None, None] + step[:, None, None] * across[:, None, None]
    patches = bilinear(gaussian(image, PATCH_SIGMA)[None], places, fill=None)[0].reshape(-1, PATCH * PATCH)
    patches = patches - xp.mean(patches, axis=1, keepdims=True)
    spread = xp.sqrt(xp.mean(patches * patches, axis=1, keepdims=True))
    return patches / xp.where(spread > 0, spread, 1.0)


def features(image: Array, count: int, octaves: int) -> tuple[Array, Array]:
    """Corners of an image (h, w) and their descriptions: points (n, 2) and (n, 64), on the host in float64.

    count: corners at each scale, at most. octaves: scales, each half of the one before.
    """
    where = backend.of(image)
    points, descriptions = [], []
    for octave in range(octaves):
        if min(image.shape) < PATCH * SPACING:
            break
        found = corners(image, count)
        descriptions.append(describe(image, found, orientations(image, found)))
        # `reduce` puts pixel i where pixel 2i was: centre i + ½ came from 2i + ½.
        points.append((found - 0.5) * 2**octave + 0.5)
        image = reduce(image)
    xp = where.xp
    if not points:
        return backend.NUMPY.xp.zeros((0, 2)), backend.NUMPY.xp.zeros((0, PATCH * PATCH))
    places, looks = (where.to_host(xp.concatenate(parts).astype("float64")) for parts in (points, descriptions))
    return places, looks


# ---------------------------------------------------------------- matches


@equation(
    r"(i, j) \text{ match} \iff \|a_i - b_j\| < \rho\, \|a_i - b_{j'}\| \;\text{ for the nearest } j \text{ and the"
    r" second nearest } j'",
    source="Lowe 2004, section 7.1, ρ = 0.8",
)
def ratio_matches(first: Array, second: Array, ratio: float) -> Array:
    """Which of the second descriptions each of the first means, if it clearly means one: pairs (m, 2) of numbers.

    first: (n, d), second: (n', d), on the host. Found by SciPy's k-d tree. None where there is no second nearest.
    """
    xp = backend.of(first).xp
    if not len(first) or len(second) < 2:
        return xp.zeros((0, 2), "int64")
    distance, nearest = KDTree(second).query(first, k=2)
    clear = xp.nonzero(distance[:, 0] < ratio * distance[:, 1])[0]
    return xp.stack([clear, nearest[clear, 0]], axis=1)
