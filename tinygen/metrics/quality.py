"""How near an image is to another: mean squared error, PSNR and structural similarity.

Images are (..., c, h, w) arrays of one backend, whole numbers or fractions; each figure comes one an image, (...) in
float64. `peak` is the largest value that a pixel can take: 1 for images in [0, 1], 255 for bytes.
"""

from __future__ import annotations

import math

from tinygen.backend import Array, of

WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004: the side and the standard deviation of the window in pixels
K1, K2 = 0.01, 0.03  # and what keeps the two fractions away from 0/0


def mse(x: Array, y: Array) -> Array:
    """Mean squared error, 1/(CHW) Σ_chw (x − y)².

    x, y: (..., c, h, w). Returns (...). Raises ValueError for arrays that are no images or differ in shape.
    """
    x, y = _images("mse", x, y)
    difference = x - y
    return (difference * difference).mean(axis=(-3, -2, -1))


def psnr(x: Array, y: Array, peak: float = 1.0) -> Array:
    """Peak signal-to-noise ratio in decibels, 10 log₁₀(MAX²/MSE); ∞ for equal images.

    Noise of standard deviation σ gives −20 log₁₀(σ/MAX): 20.17 dB at σ = 25/255.

    x, y: (..., c, h, w). peak: MAX > 0. Returns (...). Raises ValueError as `mse` does, and for another peak.
    """
    _require_positive("psnr", peak)
    x, y = _images("psnr", x, y)
    error, where = mse(x, y), of(x)
    with where.quiet():  # 1/0 = ∞ is meant
        return 10 * where.xp.log10(peak * peak / error)


def ssim(x: Array, y: Array, peak: float = 1.0) -> Array:
    """Structural similarity, the mean over all windows and channels of

        (2 μ_x μ_y + C₁)(2 σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂)),   C₁ = (0.01 L)²,  C₂ = (0.03 L)².

    The moments μ_x = Σ w x, σ_x² = Σ w (x − μ_x)², σ_xy = Σ w (x − μ_x)(y − μ_y) are those under a Gaussian window w
    of 11 × 11 pixels, σ = 1.5, Σ w = 1, at each place where it lies wholly in the image. Symmetric, at most 1, and 1
    for equal images alone. The paper looks at luminance: give grey images for its figure, at their full size.

    x, y: (..., c, h, w) with h, w ≥ 11. peak: L > 0. Returns (...).
    Raises ValueError as `psnr` does, and for images smaller than the window.
    Source: Wang, Bovik, Sheikh, Simoncelli 2004, equation 13 and section III.C.
    """
    _require_positive("ssim", peak)
    x, y = _images("ssim", x, y)
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"ssim: images must be {WINDOW} × {WINDOW} pixels or more, got {x.shape}")
    mean_x, mean_y = _under_window(x), _under_window(y)
    # Σ w (x − μ)² = Σ w x² − μ², as Σ w = 1
    variance_x = _under_window(x * x) - mean_x * mean_x
    variance_y = _under_window(y * y) - mean_y * mean_y
    covariance = _under_window(x * y) - mean_x * mean_y
    return _similarity(mean_x, mean_y, variance_x, variance_y, covariance, peak).mean(axis=(-3, -2, -1))


def global_ssim(x: Array, y: Array, peak: float = 1.0) -> Array:
    """The formula of `ssim` with one window, even and as large as the image: for images of any size.

    x, y: (..., c, h, w). peak: L > 0. Returns (...), the mean over the channels. Raises ValueError as `psnr` does.
    """
    _require_positive("global_ssim", peak)
    x, y = _images("global_ssim", x, y)
    mean_x, mean_y = _mean(x), _mean(y)
    x, y = x - mean_x, y - mean_y
    return _similarity(mean_x, mean_y, _mean(x * x), _mean(y * y), _mean(x * y), peak).mean(axis=(-3, -2, -1))


def _mean(images: Array) -> Array:
    """Over each image: (..., h, w) gives (..., 1, 1)."""
    return images.mean(axis=(-2, -1), keepdims=True)


def _similarity(
    mean_x: Array, mean_y: Array, variance_x: Array, variance_y: Array, covariance: Array, peak: float
) -> Array:
    """The fraction of `ssim` out of the moments of each window."""
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return likeness / ((mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2))


def _under_window(images: Array) -> Array:
    """Σ w x under the window at each of its places: (..., h, w) gives (..., h − 10, w − 10).

    w_ij = g_i g_j, so that the sum goes down the columns first and then along the rows.
    """
    half = WINDOW // 2
    bell = [math.exp(-((k - half) ** 2) / (2 * SIGMA**2)) for k in range(WINDOW)]
    g = [value / sum(bell) for value in bell]
    h, w = (side - WINDOW + 1 for side in images.shape[-2:])
    columns = sum(g[k] * images[..., k : k + h, :] for k in range(WINDOW))
    return sum(g[k] * columns[..., k : k + w] for k in range(WINDOW))


def _images(owner: str, x: Array, y: Array) -> tuple[Array, Array]:
    """The two in float64, where bytes do not wrap around and small differences do not drown."""
    if x.shape != y.shape or x.ndim < 3 or 0 in x.shape[-3:]:
        raise ValueError(f"{owner}: x and y must be images (..., c, h, w) of one shape, got {x.shape} and {y.shape}")
    return x.astype("float64", copy=False), y.astype("float64", copy=False)


def _require_positive(owner: str, peak: float) -> None:
    if not 0 < peak < math.inf:
        raise ValueError(f"{owner}: peak must be positive, got {peak}")
