"""Feathering: each image counts the more, the farther a pixel lies from the edge of the region that it covers."""

from __future__ import annotations

from scipy.ndimage import distance_transform_edt

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation


@equation(
    r"d(p) = \min_{q \notin \Omega} \|p - q\|", source="the Euclidean distance transform (Danielsson 1980), by SciPy"
)
def inner_distance(covered: Array, bounded: bool = False) -> Array:
    """Distance in pixels from each pixel of a region to the nearest pixel outside it, 0 outside. SciPy, on the host.

    covered: (h, w) bool. bounded: what lies beyond the array counts as outside; otherwise a region without an outside
    is h + w from it everywhere. Returns (h, w) float32.
    """
    where = backend.of(covered)
    region = where.to_host(covered)
    if bounded:
        region = backend.NUMPY.xp.pad(region, 1)
    if region.all():
        return where.xp.full(covered.shape, float(sum(covered.shape)), "float32")
    distance = distance_transform_edt(region).astype("float32")
    return where.from_host(distance[1:-1, 1:-1] if bounded else distance)


@equation(
    r"w_1 = \operatorname{clip}\!\left(\tfrac{1}{2} + \tfrac{s}{\omega}, 0, 1\right), \quad w_0 = 1 - w_1",
    source="Szeliski 2006, Image alignment and stitching: a tutorial; s is the signed distance to the edge",
)
def edge_weights(mask: Array, width: float) -> Array:
    """The weight of the image inside a region with a soft edge ω = `width` pixels wide: ½ on the edge.

    mask: (h, w) in [0, 1], inside where it is above ½. width > 0. Returns (h, w) of the mask's dtype.
    """
    xp = backend.of(mask).xp
    inside = mask > 0.5
    if backend.of(mask).scalar(xp.all(inside == inside[0, 0])):  # no edge
        return inside.astype(mask.dtype)
    # The edge runs between pixels, half a pixel from the centres on both of its sides.
    signed = xp.where(inside, inner_distance(inside) - 0.5, 0.5 - inner_distance(~inside))
    return xp.clip(0.5 + signed / width, 0.0, 1.0).astype(mask.dtype)


@equation(
    r"w_k = \frac{d_k}{\sum_j d_j}",
    source="Szeliski 2006, Image alignment and stitching: weights by the distance to the images' edges",
)
def feather_weights(distances: Array) -> Array:
    """The weight of each of k images at each pixel: they sum to 1 where any covers it, and are 0 elsewhere.

    distances: (k, h, w), from each pixel to the edge of the image, 0 outside. Returns (k, h, w).
    """
    xp = backend.of(distances).xp
    total = xp.sum(distances, axis=0)
    return distances / xp.where(total > 0, total, 1.0)


@equation(r"I = \frac{\sum_k w_k I_k}{\sum_k w_k}", source="Szeliski 2006, Image alignment and stitching: feathering")
def weighted_mean(images: Array, weights: Array) -> Array:
    """The mean of images (k, c, h, w) with weights (k, h, w) or (k, c, h, w): (c, h, w); 0 where all weights are."""
    xp = backend.of(images).xp
    weights = weights if weights.ndim == 4 else weights[:, None]
    total = xp.sum(weights, axis=0)
    return xp.sum(weights * images, axis=0) / xp.where(total > 0, total, 1.0)
