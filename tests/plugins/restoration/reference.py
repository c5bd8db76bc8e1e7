"""What the tests of this folder measure by: derivatives by np.diff, and as a dense matrix."""

import numpy as np

from tinygen import backend


def device(array):
    """A host array on the backend in use."""
    return backend.current().from_host(np.asarray(array))


def differences(image, order):
    """The list of the derivatives of an image (..., h, w), each where it is defined."""
    if order == 1:
        return [np.diff(image, axis=-1), np.diff(image, axis=-2)]
    mixed = np.sqrt(2) * np.diff(np.diff(image, axis=-1), axis=-2)
    return [np.diff(image, n=2, axis=-1), np.diff(image, n=2, axis=-2), mixed]


def matrix(height, width, order):
    """The derivatives as a dense matrix, one row each, on images laid out row after row."""
    units = np.eye(height * width).reshape(-1, height, width)
    return np.concatenate([part.reshape(len(units), -1) for part in differences(units, order)], axis=1).T


def variation(image, order=1):
    """The sum over pixels of the length of the derivatives of all channels, pixel by pixel."""
    total = 0.0
    _, height, width = image.shape
    parts = differences(image, order)
    for y, x in np.ndindex(height, width):
        here = [part[:, y, x] for part in parts if y < part.shape[1] and x < part.shape[2]]
        total += np.linalg.norm(np.concatenate(here)) if here else 0.0
    return total
