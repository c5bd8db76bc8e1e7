"""Log-likelihood under a Parzen window: how generators without a density were first compared."""

from __future__ import annotations

import math
from collections.abc import Callable

from tinygen.backend import Array, of

WINDOWS = [10 ** (-1 + i / 16) for i in range(15)]  # the σ that are tried, 0.1 … 0.75
ROWS = 250  # points at a time: (ROWS, samples) squared distances in float64 stay within tens of megabytes


def parzen_log_likelihood(x: Array, samples: Array, sigma: float) -> Array:
    """log p(x) in nats, under normal windows of width σ on the samples s_i:

        logsumexp_i(−‖x − s_i‖²/2σ²) − log N − (d/2) log 2πσ².

    x (n, d), samples (N, d), sigma > 0 in the units of x. Returns (n,) float64.
    Raises ValueError for arrays of other shapes, without rows, or with a sigma that is not positive.
    Source: Breuleux, Bengio, Vincent 2011; used by Goodfellow et al. 2014, section 5.
    """
    if x.ndim != 2 or samples.ndim != 2 or x.shape[1] != samples.shape[1]:
        raise ValueError(f"parzen: x and samples must be (n, d) and (N, d), got {x.shape} and {samples.shape}")
    if not len(x) or not len(samples):
        raise ValueError(f"parzen: x and samples must have one row or more, got {x.shape} and {samples.shape}")
    if not sigma > 0:
        raise ValueError(f"parzen: sigma must be positive, got {sigma}")
    xp, (count, d) = of(x).xp, samples.shape
    samples = samples.astype("float64")
    squares = (samples * samples).sum(axis=1)
    parts = []
    for start in range(0, x.shape[0], ROWS):
        rows = x[start : start + ROWS].astype("float64")
        # ‖x − s‖² = ‖x‖² − 2⟨x, s⟩ + ‖s‖²:  (n, N) = (n, d) @ (d, N)
        distances = (rows * rows).sum(axis=1)[:, None] - 2 * (rows @ samples.T) + squares
        exponents = distances * (-0.5 / sigma**2)
        top = exponents.max(axis=1)
        parts.append(xp.log(xp.exp(exponents - top[:, None]).sum(axis=1)) + top)
    return xp.concatenate(parts) - math.log(count) - d / 2 * math.log(2 * math.pi * sigma**2)


def parzen_figures(log_likelihood: Callable[[Array, float], Array], valid: Array, test: Array) -> dict[str, float]:
    """The mean log-likelihood of the test rows in nats, its standard error, and the σ that was best on validation rows.

    log_likelihood: (rows (n, d), σ) to (n,), windows on the samples of a model. valid, test: rows that it did not see.
    Source: the protocol of Goodfellow et al. 2014, section 5.
    """
    to_host = of(test).to_host
    sigma = max(WINDOWS, key=lambda s: float(to_host(log_likelihood(valid, s)).mean()))
    scores = to_host(log_likelihood(test, sigma))
    return {
        "parzen_log_likelihood": float(scores.mean()),
        "standard_error": float(scores.std(ddof=1) / math.sqrt(len(scores))),
        "sigma": sigma,
    }
