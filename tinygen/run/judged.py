"""What a trained classifier says of generated images: their distance from real ones in its features, their classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import metrics
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import current
from tinygen.data import Dataset
from tinygen.errors import UsageError
from tinygen.host import Judge, Sampler
from tinygen.random import Stream
from tinygen.run.pictures import draw

SAMPLES, PIECE = 10_000, 500  # images that are drawn and compared; at a time
COPIES = 1000  # samples whose nearest training images are looked for


def judged(algorithm: Sampler, judge: Judge, data: Dataset, random: Stream, count: int = SAMPLES) -> dict[str, float]:
    """Figures of `count` samples against as many test images, in the features of the judge.

    frechet, kernel: distances of the samples' features from the test images'; frechet_floor, that of training images,
        which no honest generator gets below but by chance.
    precision, recall: the share of samples that look real, and of test images that are generated (k = 3).
    class_least_percent, class_most_percent: the shares of the rarest and the commonest class among the samples, by the
        judge's most probable class; confidence_percent, the mean of that probability.
    nearest, nearest_of_test: the median distance in pixels from a sample, and from a test image, to the training image
        nearest to it. Samples much nearer than test images are copies.
    """
    pieces = [min(PIECE, count - start) for start in range(0, count, PIECE)]
    made = np.concatenate([_like(data, draw(algorithm, n, random.child(f"piece {i}"))) for i, n in enumerate(pieces)])
    train, test = (data.arrays(split, count)[0] for split in ("train", "test"))
    drawn, known, goal = (_by_pieces(judge.features, images) for images in (made, train, test))  # (·, d) each
    chances = _by_pieces(judge.probabilities, made)  # (count, classes)
    shares = metrics.class_balance(chances.argmax(axis=1), chances.shape[1])
    precision, recall = metrics.precision_recall(goal, drawn)
    everything = _rows(data.arrays("train")[0])
    nearest, of_test = (
        metrics.nearest_neighbours(_rows(images[:COPIES]), everything)[0] for images in (made, data.arrays("test")[0])
    )
    xp = current().xp
    figures = {
        "frechet": metrics.frechet_distance(drawn, goal),
        "frechet_floor": metrics.frechet_distance(known, goal),
        "kernel": metrics.kernel_distance(drawn, goal),
        "precision": precision,
        "recall": recall,
        "class_least_percent": 100 * shares.min(),
        "class_most_percent": 100 * shares.max(),
        "confidence_percent": 100 * chances.max(axis=1).mean(),
        "nearest": xp.median(nearest),
        "nearest_of_test": xp.median(of_test),
    }
    return {name: float(current().to_host(value)) for name, value in figures.items()} | {
        "samples": len(made),
        "test_images": len(test),
    }


def _like(data: Dataset, images: np.ndarray) -> np.ndarray:
    """The images (n, c, h, w). Raises UsageError where those of the data are of another shape."""
    if images.shape[1:] != data.shape:
        raise UsageError(
            f"the samples are {images.shape[1:]}, {data.name} has {data.shape}", "name data of their shape"
        )
    return images


def _rows(images: np.ndarray) -> Any:
    """Images (n, c, h, w) on the host as rows (n, d) on the current backend."""
    return current().from_host(images.reshape(len(images), -1))


def _by_pieces(function: Any, images: np.ndarray) -> Any:
    """function(images) as an array, some images at a time."""
    xp = current().xp
    with no_grad():
        found: list[Tensor] = [
            function(tensor(current().from_host(images[i : i + PIECE]))) for i in range(0, len(images), PIECE)
        ]
    return xp.concatenate([piece.data for piece in found])
