"""Figures that tell how good images are. They take arrays of one backend."""

from tinygen.metrics.frechet import frechet_distance
from tinygen.metrics.parzen import parzen_log_likelihood

__all__ = ["frechet_distance", "parzen_log_likelihood"]
