"""How sure a mean over draws is."""

from __future__ import annotations

import math

from scipy.special import stdtrit

from tinygen.backend import Array


def mean_interval(values: Array, level: float = 0.95) -> tuple[Array, Array]:
    """The mean of independent values (n,), and half the width of its confidence interval,

        h = t s/√n,    s² = Σ (v − v̄)²/(n − 1),    P(|T| ≤ t) = level for T of Student's law with n − 1 degrees.

    Of many such intervals v̄ ± h the share `level` holds the true mean, exactly for normal values and nearly for any
    where n is large. n is 2 or more; two float64. Source: Student 1908.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"mean_interval: expected two or more values (n,), got {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"mean_interval: level must be between 0 and 1, got {level}")
    n, v = len(values), values.astype("float64")
    t = float(stdtrit(n - 1, (1 + level) / 2))
    return v.mean(), v.std(ddof=1) * (t / math.sqrt(n))
