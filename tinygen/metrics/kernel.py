"""Kernel distance between two sets of features."""

from __future__ import annotations

from tinygen.backend import Array, of

ROWS = 250  # rows at a time: (ROWS, m) kernel values in float64 stay within tens of megabytes


def kernel_distance(x: Array, y: Array) -> Array:
    """The squared maximum mean discrepancy of two sets of features, without bias:

        1/(n(n − 1)) Σ_{i≠j} k(x_i, x_j) + 1/(m(m − 1)) Σ_{i≠j} k(y_i, y_j) − 2/(nm) Σ_ij k(x_i, y_j),
        k(a, b) = (⟨a, b⟩/d + 1)³.

    It compares the first three moments. Its mean is 0 for sets of one law, whatever their sizes, which the Fréchet
    distance's is not; so it may be negative. State the features; papers print the mean over subsets of 1,000.

    x (n, d), y (m, d): features, a row an image. Returns one float64.
    Raises ValueError for arrays of other shapes, or with fewer than two rows.
    Source: Bińkowski et al. 2018 (KID); Gretton et al. 2012, equation 3.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(x.shape[0], y.shape[0]) < 2:
        raise ValueError(f"kernel_distance: expected two or more rows of features each, got {x.shape} and {y.shape}")
    n, m = len(x), len(y)
    x, y = x.astype("float64"), y.astype("float64")
    within_x = (_total(x, x) - _cubic((x * x).sum(axis=1), x.shape[1]).sum()) / (n * (n - 1))  # without i = j
    within_y = (_total(y, y) - _cubic((y * y).sum(axis=1), y.shape[1]).sum()) / (m * (m - 1))
    return within_x + within_y - 2 * _total(x, y) / (n * m)


def _total(x: Array, y: Array) -> Array:
    """Σ_ij k(x_i, y_j)."""
    xp = of(x).xp
    pieces = [_cubic(x[start : start + ROWS] @ y.T, x.shape[1]).sum() for start in range(0, len(x), ROWS)]
    return xp.stack(pieces).sum()


def _cubic(products: Array, d: int) -> Array:
    """k of inner products, elementwise."""
    base = products / d + 1.0
    return base * base * base
