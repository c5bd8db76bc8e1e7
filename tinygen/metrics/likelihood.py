"""Likelihoods in the units in which papers print them."""

from __future__ import annotations

import math


def bits_per_dim(nats: float, dimensions: int, levels: int = 1) -> float:
    """The bits that one pixel of one channel takes, nats / (D log 2).

    nats: minus the log-likelihood of an image. dimensions: D = c · h · w.
    levels: where the likelihood is a density of pixels spread over [0, 1], into how many levels that range is cut: 256
        for bytes. A level is 1/256 wide, which adds log₂ 256 = 8 bits. 1 where the pixels have probabilities.
    Raises ValueError for counts below 1. Source: Theis, van den Oord and Bethge 2016.
    """
    _require_counts("bits_per_dim", dimensions, levels)
    return nats / (dimensions * math.log(2)) + math.log2(levels)


def nats_per_image(bits: float, dimensions: int, levels: int = 1) -> float:
    """The inverse of `bits_per_dim`: D log 2 · (bits − log₂ levels)."""
    _require_counts("nats_per_image", dimensions, levels)
    return (bits - math.log2(levels)) * dimensions * math.log(2)


def _require_counts(owner: str, dimensions: int, levels: int) -> None:
    if min(dimensions, levels) < 1:
        raise ValueError(f"{owner}: dimensions and levels must be 1 or more, got {dimensions} and {levels}")
