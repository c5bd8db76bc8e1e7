"""What the tests of this folder measure by: points as complex numbers, and the way onto the backend in use."""

import numpy as np

from tinygen import backend


def device(array):
    """A host array on the backend in use."""
    return backend.current().from_host(np.asarray(array))


def complex_numbers(points):
    """(..., 2) real to (...) complex."""
    return points[..., 0] + 1j * points[..., 1]


def segment_distance(point, start, end):
    """By the plane in which the segment is [0, 1]; all three are single complex numbers."""
    if start == end:
        return abs(point - start)
    z = (point - start) / (end - start)
    if 0 <= z.real <= 1:
        return abs(z.imag) * abs(end - start)
    return min(abs(point - start), abs(point - end))
