"""Fréchet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

from tinygen.backend import Array, of


def frechet_distance(x: Array, y: Array) -> Array:
    """‖m₁ − m₂‖² + tr(S₁ + S₂ − 2 (S₁S₂)^½), from the means and (unbiased) covariances of the rows of x and y.

    x (n, d), y (m, d): features, a row an image.

    It is the squared 2-Wasserstein distance of the two Gaussians, 0 only for equal moments. What it says depends on
    the features and on n: state both, and the distance between two sets of real data beside it. Returns one float64.
    Source: Dowson and Landau 1982; for generators Heusel et al. 2017.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(x.shape[0], y.shape[0]) < 2:
        raise ValueError(f"frechet_distance: expected two or more rows of features each, got {x.shape} and {y.shape}")
    xp = of(x).xp
    mean_x, covariance_x = _moments(x)
    mean_y, covariance_y = _moments(y)
    # tr (S₁S₂)^½ = tr (S₁^½ S₂ S₁^½)^½: the second is of a symmetric positive matrix, whose root eigenvalues give
    values, vectors = xp.linalg.eigh(covariance_x)
    root = vectors * xp.sqrt(xp.maximum(values, 0)) @ vectors.T
    product = xp.linalg.eigvalsh(root @ covariance_y @ root)
    shift = mean_x - mean_y
    traces = xp.trace(covariance_x) + xp.trace(covariance_y) - 2 * xp.sqrt(xp.maximum(product, 0)).sum()
    return (shift * shift).sum() + traces


def _moments(x: Array) -> tuple[Array, Array]:
    rows = x.astype("float64")
    mean = rows.mean(axis=0)
    centred = rows - mean
    return mean, centred.T @ centred / (x.shape[0] - 1)
