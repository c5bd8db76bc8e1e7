"""How often each class occurs among images that a classifier has seen."""

from __future__ import annotations

from tinygen.backend import Array, of


def class_balance(labels: Array, classes: int) -> Array:
    """The share of each class, n_k / n: what a classifier says of generated images.

    A generator of images like the data has about the data's shares; one that has collapsed has 0 for some.

    labels (n,): whole numbers from 0 to classes − 1. Returns (classes,) float64.
    Raises ValueError for anything else.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise ValueError(f"class_balance: labels must be (n,) whole numbers, got {labels.shape} {labels.dtype}")
    counts = of(labels).xp.bincount(labels, minlength=classes)
    if len(counts) > classes:
        raise ValueError(f"class_balance: labels must be below {classes}, got {len(counts) - 1}")
    return counts.astype("float64") / len(labels)
