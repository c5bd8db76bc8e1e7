"""What the tests of this folder share: the way onto the backend in use, and pictures with something on them."""

import numpy as np
from scipy.ndimage import gaussian_filter

from tinygen import backend, tensor


def device(array, dtype=None):
    """A host array on the backend in use."""
    return backend.current().from_host(np.array(array, dtype))


def tensors(*arrays):
    """Host images as float32 tensors on the backend in use."""
    return [tensor(np.asarray(array, "float32")) for array in arrays]


def cloudy(seed, shape, scales=(1.5, 4.0, 12.0)):
    """A picture (c, h, w) in [0, 1] with detail at every scale: blurred noise, summed up and stretched."""
    random = np.random.default_rng(seed)
    noise = [gaussian_filter(random.standard_normal(shape), (0, s, s), mode="wrap") for s in scales]
    picture = sum(each / each.std() for each in noise)
    return (picture - picture.min()) / np.ptp(picture)


def projected(homography, points):
    """Where a homography takes points (n, 2), through complex fractions written out point by point."""
    mapped = [homography @ np.array([x, y, 1.0]) for x, y in points]
    return np.array([[u / w, v / w] for u, v, w in mapped])


def regions(seed, shape):
    """A random region (h, w) of 0 and 1: a blob of noise, never all of it, never nothing."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.0)
    region = (noise > np.median(noise)).astype("float64")
    region.flat[noise.argmin()], region.flat[noise.argmax()] = 0.0, 1.0
    return region
