"""Least squares of the derivatives: Tikhonov's smoothing, and membranes and plates over holes.

Both are one sparse system of linear equations, the normal equations of a sum of squares, one right-hand side a channel.
"""

from __future__ import annotations

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation
from tinygen_plugins.restoration._operators import adjoint, derivatives, squared_derivatives

TOLERANCE = 1e-4  # of the equations: the picture is then the exact one within a hundredth of a decibel
SLOPE = 0.1  # γ, of photographs in [0, 1]: best to within 0.5 dB for σ from 15/255 to 50/255


@equation(
    r"(M^\top M + \lambda D^\top D)\, x = M^\top M y",
    source="Tikhonov 1963: the minimum of ½‖M(x − y)‖² + λ/2 ‖Dx‖²; M keeps the known pixels",
)
def tikhonov(image: Array, known: Array, strength: float, order: int = 1, tolerance: float = TOLERANCE) -> Array:
    """The image that is near y at the known pixels and has small derivatives everywhere.

    image: y (c, h, w). known: (h, w) booleans. strength: λ; 0 gives y back, ∞ the nearest constant (order 1) or ramp
    (order 2). Returns (c, h, w). There must be known pixels, and for order 2 three that are not on a line.
    """
    where = backend.of(image)
    xp, (c, h, w) = where.xp, image.shape
    rows, columns, values = squared_derivatives(xp.ones((h, w), bool), order)
    pixels = xp.arange(h * w, dtype="int32")
    rows, columns = xp.concatenate([rows, pixels]), xp.concatenate([columns, pixels])
    values = xp.concatenate([strength * values, known.reshape(-1).astype("float64")])  # λDᵀD + MᵀM, a diagonal
    right = xp.where(known, image, 0.0).astype(image.dtype).reshape(c, h * w).T  # (h w, c)
    return where.solve_sparse(rows, columns, values, right, tolerance).T.reshape(c, h, w)


@equation(
    r"(D^\top D\, x)_H = 0, \quad x_K = y_K",
    source="the minimum of ‖Dx‖² with the known pixels K held: Laplace's equation Δx = 0 in the hole H, or Δ²x = 0",
)
def harmonic(image: Array, known: Array, order: int = 1, tolerance: float = TOLERANCE) -> Array:
    """The membrane (order 1) or thin plate (order 2) that spans the holes between the known pixels.

    A membrane's pixel is the mean of its neighbours, so that it is never outside the range of the known ones; a plate
    also goes on with the slopes at the rim, and may overshoot.
    image: (c, h, w). known: (h, w) booleans, some of them true. Returns (c, h, w), the known pixels as they are.
    """
    where = backend.of(image)
    held = where.xp.where(known, image, 0.0).astype(image.dtype)
    pull = adjoint(derivatives(held, order), order)  # (DᵀD)_HK y_K, in the hole
    filled = where.solve_sparse(*squared_derivatives(~known, order), -pull[:, ~known].T, tolerance)  # (holes, c)
    held[:, ~known] = filled.T
    return held


@equation(
    r"e_k = \frac{1}{|T|} \sum_{p \in T} (x^{(k)}_p - y_p)^2, \quad k = 1, 2",
    source="Stone 1974, cross-validatory choice: x^(k) is filled at order k from the known pixels without those of T",
)
def held_out_errors(image: Array, known: Array, tested: Array, tolerance: float = TOLERANCE) -> Array:
    """How far membranes (order 1) and plates (order 2) miss known pixels that they were not shown: (2,), mean squares.

    image: y (c, h, w). known: (h, w) booleans. tested: T (h, w) booleans, a part of the known ones.
    """
    xp = backend.of(image).xp
    errors = []
    for order in (1, 2):
        missed = (harmonic(image, known & ~tested, order, tolerance) - image)[:, tested]
        errors.append(xp.mean(missed * missed))
    return xp.stack(errors)


@equation(
    r"\lambda = \frac{\sigma^2}{\gamma^2}",
    source="Bayes' rule: noise N(0, σ²) and the prior exp(−‖Dx‖²/2γ²) make Tikhonov's image the likeliest one",
)
def tikhonov_strength(sigma: Array | float, gamma: float = SLOPE) -> Array | float:
    """The λ for white noise of standard deviation σ and derivatives of standard deviation γ.

    γ is a constant and not told from the picture: its slopes are nearly all small and a few great, so that their mean
    square, once the noise's is taken off, says little; λ by it was measured three to a thousand times too large.
    """
    return sigma * sigma / (gamma * gamma)


@equation(
    r"\mathbb{E}[x \mid y] = y + \sigma^2 \nabla_y \log p(y)",
    source="Tweedie's formula: Robbins 1956, after Tweedie; Efron 2011",
)
def tweedie(noisy: Array, score: Array, sigma: float) -> Array:
    """The mean of what x can have been, given y = x + noise of standard deviation σ: the best that denoising can do.

    score: ∇ log p(y), of the density of noisy images at y. Arrays of one shape.
    """
    return noisy + sigma * sigma * score
