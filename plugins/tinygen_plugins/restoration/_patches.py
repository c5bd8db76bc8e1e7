"""Polynomial surfaces, fitted by least squares to the known pixels of small patches and blended over their overlaps.

One polynomial for a whole picture is a soft ground without things on it. On a patch of a few pixels every picture is
nearly a polynomial, so patches overlap by half, each is fitted on its own, and a pixel is the mean of the patches over
it, weighted by a window that falls to 0 at their edges: no seams. Where too few pixels of a patch are known, a patch of
twice the size is asked, and so on to the whole picture.

Read `polynomial_fill` at the end; above it stand the equations of one patch.
"""

from __future__ import annotations

import math
from typing import Any

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

RIDGE = 1e-3  # of a patch's weight of known pixels: decides where those leave a coefficient open, and nothing else
ENOUGH = 1.0  # known pixels for each coefficient, for a patch to be used


@equation(
    r"V_{k,(i,j)} = u_k^i\, v_k^j, \quad i + j \le d", source="total-degree basis, p = (d + 1)(d + 2)/2; 1 comes first"
)
def monomials(u: Array, v: Array, degree: int) -> Array:
    """The products of powers of u and v of total degree d or less: two arrays (...) give (..., p).

    Let u and v stay within [−1, 1]: high powers of larger numbers drown the rest.
    """
    terms = [u**i * v ** (total - i) for total in range(degree + 1) for i in range(total, -1, -1)]
    return backend.of(u).xp.stack(terms, axis=-1)


@equation(
    r"c = \operatorname*{arg\,min}_c\, \|W^{1/2} (V c - y)\|^2 + \mu \|c\|^2:"
    r" \quad \begin{pmatrix} W^{1/2} V \\ \sqrt\mu\, I \end{pmatrix} = Q R, \quad R\, c = Q^\top \begin{pmatrix}"
    r" W^{1/2} y \\ 0 \end{pmatrix}",
    source="Legendre 1805; Golub 1965 for QR, which needs no VᵀWV, the condition of which is the square of V's",
)
def ridge_fit(basis: Array, values: Array, weights: Array, ridge: Array | float) -> Array:
    """The coefficients of least weighted squares, for many patches at once.

    basis: V (n, p). values: y (m, n, c). weights: (m, n), ≥ 0. ridge: μ > 0, or (m, 1, 1) with one a patch.
    Returns (m, p, c).
    """
    xp = backend.of(values).xp
    (patches, n, _), p = values.shape, basis.shape[1]
    root = xp.sqrt(weights)[..., None]  # (m, n, 1)
    penalty = xp.sqrt(ridge * xp.ones((patches, 1, 1), values.dtype)) * xp.eye(p, dtype=values.dtype)  # (m, p, p)
    q, r = xp.linalg.qr(xp.concatenate([root * basis, penalty], axis=1))  # (m, n + p, p), (m, p, p)
    # the penalty's values are 0, so that its rows of Q meet nothing:  (m, p, c) = (m, p, n) @ (m, n, c)
    return xp.linalg.solve(r, q[:, :n].swapaxes(-1, -2) @ (root * values))


@equation(r"\omega(t) = \sin^2 \pi t, \quad \omega(t) + \omega(t + \tfrac12) = 1", source="von Hann's window")
def blending_window(xp: Any, size: int) -> Array:
    """(s, s): the weight of each pixel of a patch of even size s, largest in the middle. Patches half a size apart
    weigh 1 together at every pixel."""
    rise = xp.sin(math.pi * (xp.arange(size, dtype="float64") + 0.5) / size) ** 2
    return rise[:, None] * rise


def _fit_patches(image: Array, known: Array, size: int, degree: int, ridge: float) -> tuple[Array, Array]:
    """The weighted sum of the surfaces of all patches of a size, and the sum of the weights: (c, h, w) and (h, w)."""
    xp = backend.of(image).xp
    channels, height, width = image.shape
    step = size // 2
    along = (xp.arange(size, dtype="float64") + 0.5) / step - 1  # −1 … 1
    basis = monomials(along[None, :] + 0 * along[:, None], along[:, None] + 0 * along[None, :], degree)
    basis = basis.reshape(size * size, -1)  # (n, p), n = size²
    window = blending_window(xp, size)

    # The picture in a frame of half a patch, and of what is missing to a whole one.
    down, across = -(-height // step) + 1, -(-width // step) + 1  # patches
    frame = ((step, (down + 1) * step - step - height), (step, (across + 1) * step - step - width))
    image, known = xp.pad(image, ((0, 0), *frame)), xp.pad(known, frame)
    total, weight = xp.zeros(image.shape), xp.zeros(known.shape)
    columns = xp.arange(across)[:, None] * step + xp.arange(size)  # (m, s): where the patches of a row lie
    for start in range(0, down * step, step):
        strip, is_known = image[:, start : start + size], known[start : start + size]
        values = strip[:, :, columns].transpose(2, 1, 3, 0).reshape(across, size * size, channels)
        weights = is_known[:, columns].transpose(1, 0, 2).reshape(across, -1) * window.reshape(-1)  # (m, n)
        count = xp.sum(weights > 0, axis=1)
        mass = xp.maximum(xp.sum(weights, axis=1), 1e-12)[:, None, None]
        level = xp.sum(weights[..., None] * values, axis=1, keepdims=True) / mass  # the ridge draws towards the mean
        c = ridge_fit(basis, values - level, weights, ridge * mass)
        surfaces = (basis @ c + level).reshape(across, size, size, channels)
        trust = (count >= ENOUGH * basis.shape[1])[:, None, None] * window  # (m, s, s)
        for first in (0, 1):  # patches a whole size apart do not overlap
            some = slice(first, None, 2)
            part, share = trust[some], surfaces[some] * trust[some][..., None]
            reach = slice(first * step, first * step + len(part) * size)
            total[:, start : start + size, reach] += share.transpose(3, 1, 0, 2).reshape(channels, size, -1)
            weight[start : start + size, reach] += part.transpose(1, 0, 2).reshape(size, -1)
    inside = slice(step, step + height), slice(step, step + width)
    return total[:, inside[0], inside[1]], weight[inside[0], inside[1]]


@equation(
    r"x(p) = \frac{\sum_k \omega_k(p)\, V(p)\, c_k}{\sum_k \omega_k(p)}", source="partition of unity: Shepard 1968"
)
def polynomial_fill(image: Array, known: Array, size: int, degree: int, ridge: float = RIDGE) -> Array:
    """The blend of the surfaces fitted on the patches: image (c, h, w), known (h, w) booleans, gives (c, h, w) float64.

    size: of a patch in pixels, even, or 0 for one surface over the whole picture. A polynomial of this degree comes
    back as it is, up to the ridge.
    """
    xp = backend.of(image).xp
    _, height, width = image.shape
    image = xp.where(known, image, 0.0).astype("float64")
    result, done = xp.zeros(image.shape), xp.zeros((height, width), bool)
    longest = max(height, width)
    while 0 < size < longest:
        total, weight = _fit_patches(image, known, size, degree, ridge)
        good = weight > 1e-3
        result = xp.where(good & ~done, total / xp.maximum(weight, 1e-3), result)
        done, size = done | good, 2 * size
    if backend.of(image).scalar(xp.all(done)):
        return result
    return xp.where(done, result, whole_surface(image, known, degree))


def whole_surface(image: Array, known: Array, degree: int) -> Array:
    """The one surface (c, h, w) over the whole picture that is nearest to its known pixels."""
    xp = backend.of(image).xp
    channels, height, width = image.shape
    v = 2 * (xp.arange(height, dtype="float64") + 0.5) / height - 1
    u = 2 * (xp.arange(width, dtype="float64") + 0.5) / width - 1
    basis = monomials(u[None, :] + 0 * v[:, None], v[:, None] + 0 * u[None, :], degree).reshape(height * width, -1)
    places = xp.flatnonzero(known)
    values = image.reshape(channels, -1)[:, places].T[None]  # (1, n, c)
    level = xp.mean(values, axis=1, keepdims=True)
    weights = xp.ones((1, len(places)))
    c = ridge_fit(basis[places], values - level, weights, 1e-9 * len(places))
    return (basis @ c[0] + level[0]).T.reshape(image.shape)
