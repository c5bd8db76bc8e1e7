"""Total variation: the picture whose derivatives have the least sum of lengths, by a primal and a dual variable.

A sum of squares spreads a jump over many pixels; a sum of lengths charges a jump the same whether it comes at once or
bit by bit, so that edges stay sharp. Lengths have a kink at 0, and the saddle point form goes round it:

    min_x λ ‖Dx‖₁ + g(x)  =  min_x max_{|p| ≤ λ} ⟨Dx, p⟩ + g(x),

with g(x) = ½‖x − y‖² to take noise away (Rudin, Osher and Fatemi 1992), or g = 0 if x is y at the known pixels and ∞
otherwise, to fill holes. The channels of a pixel have one length together, so that their edges coincide.

Read `minimize_variation`; above it stand the equations of one of its steps.
"""

from __future__ import annotations

import math

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation
from tinygen_plugins.restoration._operators import NORM, adjoint, derivatives


def _lengths(field: Array) -> Array:
    """The length at each pixel of all derivatives of all channels: (s, c, h, w) gives (h, w)."""
    xp = backend.of(field).xp
    return xp.sqrt(xp.sum((field * field).reshape(-1, *field.shape[-2:]), axis=0))


@equation(
    r"\mathrm{TV}(x) = \sum_p \sqrt{\textstyle\sum_{s,c} (D_s x_c)(p)^2}",
    source="Rudin, Osher and Fatemi 1992; Bresson and Chan 2008 for colour",
)
def total_variation(image: Array, order: int = 1) -> Array:
    """The sum over the pixels of the length of all derivatives: (c, h, w) gives a number (0-d)."""
    return backend.of(image).xp.sum(_lengths(derivatives(image, order)))


@equation(r"\Pi_\lambda(p) = \frac{p}{\max(1, |p| / \lambda)}", source="Chambolle and Pock 2011, section 6.2.1")
def project(field: Array, strength: float) -> Array:
    """The nearest field (s, c, h, w) whose length is nowhere more than λ = `strength`."""
    return field / backend.of(field).xp.maximum(_lengths(field) * (1 / strength), 1.0)


@equation(
    r"P(x) - D(p) = \tfrac12 \|x - y\|^2 + \lambda \mathrm{TV}(x)"
    r" - \left(\tfrac12 \|y\|^2 - \tfrac12 \|y - D^\top p\|^2\right)",
    source="Chambolle 2004, eq. 7 and 8: the dual of the ROF problem, for |p| ≤ λ",
)
def duality_gap(image: Array, field: Array, noisy: Array, strength: float, order: int = 1) -> Array:
    """How far above the least possible energy x can be, at most; 0 at the solution alone. A number (0-d)."""
    xp = backend.of(image).xp
    away, clean = image - noisy, noisy - adjoint(field, order)
    primal = 0.5 * xp.sum(away * away) + strength * total_variation(image, order)
    return primal - 0.5 * (xp.sum(noisy * noisy) - xp.sum(clean * clean))


@equation(
    r"\begin{aligned} p &\leftarrow \Pi_\lambda(p + \sigma D \bar x) \\"
    r" x' &= \operatorname{prox}_{\tau g}(x - \tau D^\top p) \\"
    r" \theta &= 1 / \sqrt{1 + 2 \gamma \tau}, \; \tau \leftarrow \theta \tau, \; \sigma \leftarrow \sigma / \theta \\"
    r" \bar x &\leftarrow x' + \theta (x' - x) \end{aligned}",
    source="Chambolle and Pock 2011, Algorithm 2; with γ = 0 it is their Algorithm 1",
)
def minimize_variation(
    start: Array, known: Array | None, strength: float, order: int, steps: int, tau: float
) -> tuple[Array, Array]:
    """The image (c, h, w) of least energy λTV(x) + g(x), and the dual field (s, c, h, w), after so many steps.

    known None: `start` is the noisy y, and g(x) = ½‖x − y‖², which is as bent as γ = 1 says. What comes back is the
    image that the dual field tells, y − Dᵀp: its mean is y's own, however many steps there were.
    known (h, w), booleans: g holds the known pixels of `start` as they are, and γ = 0.
    tau: the first step size of the image; that of the dual is the largest that converges, 1 / τ‖D‖².
    """
    xp = backend.of(start).xp
    gamma = 1.0 if known is None else 0.0
    sigma = 1 / (tau * NORM[order] ** 2)
    x, ahead = start, start
    p = 0 * derivatives(start, order)
    for _ in range(steps):
        p = project(p + sigma * derivatives(ahead, order), strength)
        descended = x - tau * adjoint(p, order)
        if known is None:
            new = (descended + tau * start) * (1 / (1 + tau))
        else:
            new = xp.where(known, start, descended)
        theta = 1 / math.sqrt(1 + 2 * gamma * tau)
        tau, sigma = theta * tau, sigma / theta
        ahead = new + theta * (new - x)
        x = new
    return (x if known is not None else start - adjoint(p, order)), p
