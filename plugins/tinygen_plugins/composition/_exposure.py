"""Exposure: how much brighter or darker each of several overlapping images must be made for all to agree.

`overlap_statistics` counts and averages what two images both see, `exposure_gains` finds the factors, `balance` their
common level, and `hat_weights` says how far a value is to be trusted when the images are then averaged.

A gain multiplies the values as they are stored. For sRGB, which is near to a power of the light, a factor of the light
is a factor of the values, too, so that nothing has to be made linear first.
"""

from __future__ import annotations

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

DARKEST, LIGHTEST = 0.02, 0.98  # values beyond these are clipped ones, which tell nothing of the exposure


@equation(
    r"N_{ij} = |R_i \cap R_j|, \quad \bar I_{ij} = \frac{1}{N_{ij}} \sum_{p \in R_i \cap R_j} I_i(p)",
    source="Brown and Lowe 2007, section 6: the mean of image i over what it shares with image j",
)
def overlap_statistics(images: Array, covered: Array) -> tuple[Array, Array]:
    """Pixels that each two of k images share, and the mean brightness there.

    images: (k, c, h, w) on one canvas. covered: (k, h, w) bool, where each has pixels R_i.
    Returns N (k, k) and Ī (k, k); without shared pixels Ī_ij is 0.
    """
    xp = backend.of(images).xp
    count = len(images)
    region = covered.reshape(count, -1).astype("float64")
    brightness = xp.mean(images, axis=1).reshape(count, -1).astype("float64") * region
    shared = region @ region.T  # (k, k) = (k, h·w) @ (h·w, k)
    return shared, brightness @ region.T / xp.maximum(shared, 1.0)


def well_exposed(images: Array) -> Array:
    """Where no channel is clipped: (k, c, h, w) gives (k, h, w) bool."""
    xp = backend.of(images).xp
    return (xp.min(images, axis=1) > DARKEST) & (xp.max(images, axis=1) < LIGHTEST)


@equation(
    r"g = \arg\min_g \sum_{i \neq j} N_{ij} \left[ \frac{(g_i \bar I_{ij} - g_j \bar I_{ji})^2}{\sigma_N^2}"
    r" + \frac{(1 - g_i)^2}{\sigma_g^2} \right]",
    source="Brown and Lowe 2007, section 6, there with σ_N = 10/255 and σ_g = 0.1",
)
def exposure_gains(shared: Array, means: Array, noise: float, prior: float) -> Array:
    """The gains of k images: overlaps agree, up to σ_N = `noise`, and no gain strays from 1 by much, σ_g = `prior`.

    Half the derivative by g_i, set to zero, is a row of a linear system:

        g_i Σ_j N_ij (2 Ī_ij²/σ_N² + 1/σ_g²) − Σ_j N_ij (2 Ī_ij Ī_ji/σ_N²) g_j = Σ_j N_ij/σ_g²,    j ≠ i.

    For two images, with a = Ī_12, b = Ī_21 and ρ = σ_N²/σ_g², it has the solution
    g_1 = (2b² + ρ + 2ab)/(2a² + 2b² + ρ), g_2 = (2a² + ρ + 2ab)/(2a² + 2b² + ρ).

    shared, means: (k, k), as `overlap_statistics` gives them. Returns (k,); 1 for an image that shares nothing.
    """
    xp = backend.of(shared).xp
    identity = xp.eye(len(shared), dtype=shared.dtype)
    weights = shared * (1 - identity)
    weights = weights / xp.maximum(xp.max(weights), 1.0)  # a common factor, which keeps the numbers near 1
    alone = (xp.sum(weights, axis=1) == 0).astype(shared.dtype)
    diagonal = xp.sum(weights * (2 * means * means / noise**2 + 1 / prior**2), axis=1) + alone
    matrix = identity * diagonal - weights * (2 * means * means.T / noise**2)
    return xp.linalg.solve(matrix, (xp.sum(weights, axis=1) / prior**2 + alone)[:, None])[:, 0]


@equation(
    r"g_i \leftarrow \frac{g_i}{(\prod_j g_j)^{1/k}}", source="the geometric mean of the gains is made 1, ratios kept"
)
def balance(gains: Array) -> Array:
    """Gains (k,) > 0 that leave the picture as bright as its k images are on the whole.

    The images agree as well with any common factor; the prior alone would choose one, and prefers a dark picture.
    """
    xp = backend.of(gains).xp
    return gains / xp.exp(xp.mean(xp.log(gains)))


@equation(r"w(z) = \max(\min(z, 1 - z), \varepsilon)", source="Debevec and Malik 1997, eq. 4: the hat function")
def hat_weights(images: Array) -> Array:
    """How far values in [0, 1] are to be trusted: ½ for middle grey, next to nothing where they are clipped."""
    xp = backend.of(images).xp
    return xp.maximum(xp.minimum(images, 1 - images), 1e-3)
