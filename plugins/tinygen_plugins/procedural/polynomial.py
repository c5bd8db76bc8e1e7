r"""Polynomial surfaces: the image as one polynomial in its two coordinates, a sum of squares away from the pixels.

    I(u, v) = Σ_{i+j≤d} c_ij u^i v^j,   (u, v) in [−1, 1]²,

one set of coefficients c a channel. The nearest surface to an image is found in three ways that agree: by QR (least
squares), by maximum likelihood (the same c, and the variance of what is left over), and by gradient descent on the
library's own tape. To generate is to draw coefficients:

- trained, from the normal law of the coefficients that the training images have;
- untrained, from a prior: the law of the surfaces through a few dots of paint, their places and colours drawn.

Read `Polynomial` at the end; above it stand the equations, in the order in which a fit uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tinygen import backend, optim
from tinygen.autograd import Tensor, tensor
from tinygen.backend import Array
from tinygen.data import Batches, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Repairer, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.procedural._raster import canvas_shape, check_canvas, draw_images, oklch_to_srgb

PRIOR_RIDGE = 0.02  # by which the surface may pass beside the dots of paint, rather than swing in between


@dataclass(frozen=True)
class Config:
    """The options of `polynomial`."""

    steps: int = 50
    """batches to train on"""
    batch_size: int = 64
    """images in a batch"""
    size: int = 128
    """height and width in pixels, where there is no data"""
    channels: int = 3
    """3 for colour, 1 for grey, where there is no data"""
    degree: int = 5
    """highest total degree d; (d + 1)(d + 2)/2 coefficients a channel"""
    fit: Literal["qr", "descent"] = "qr"
    """how the surfaces are found: by QR, or by gradient descent, with its distance from QR among the figures"""
    dots: int = 7
    """dots of paint along a side, which the surfaces of the untrained prior pass by"""
    light: Literal["random", "day", "night"] = "random"
    """light or dark colours of the prior"""

    def __post_init__(self) -> None:
        check_canvas("polynomial", self.size, self.channels)
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("degree", 0, 16), ("dots", 2, 16),
        ):  # fmt: skip
            check_range("polynomial", name, getattr(self, name), low, high)
        check_choice("polynomial", "fit", self.fit, ["qr", "descent"])
        check_choice("polynomial", "light", self.light, ["random", "day", "night"])


# ---------------------------------------------------------------- the surface


@equation(
    r"V_{k,(i,j)} = u_k^i\, v_k^j, \quad i + j \le d, \quad p = \tfrac12 (d + 1)(d + 2)",
    source="total-degree basis; the surface is I = V c",
)
def design_matrix(u: Array, v: Array, degree: int) -> Array:
    """The powers of the coordinates, the constant first: u and v (n,) give (n, p).

    Keep u and v within [−1, 1]: the condition of V grows with their range to the power of d.
    """
    terms = [u ** (total - j) * v**j for total in range(degree + 1) for j in range(total + 1)]
    return backend.of(u).xp.stack(terms, axis=-1)


@equation(
    r"c = \operatorname*{arg\,min}_c\, \|W^{1/2} (V c - y)\|^2 + \lambda \|c\|^2:"
    r" \quad \begin{pmatrix} W^{1/2} V \\ \sqrt\lambda\, I \end{pmatrix} = Q R, \quad"
    r" R\, c = Q^\top \begin{pmatrix} W^{1/2} y \\ 0 \end{pmatrix}",
    source="Legendre 1805, Hoerl and Kennard 1970; QR, as the normal equations VᵀWVc = VᵀWy square the condition",
)
def fit_surface(basis: Array, values: Array, weights: Array, ridge: float = 0.0) -> Array:
    """The coefficients of least weighted squares: V (n, p), y (n, m), W (n,) ≥ 0 give c (p, m).

    With ridge λ = 0 there must be p pixels of positive weight or more, not all on a curve of degree d.
    """
    xp = backend.of(basis).xp
    root = xp.sqrt(weights)[:, None]
    q, r = xp.linalg.qr(xp.concatenate([root * basis, math.sqrt(ridge) * xp.eye(basis.shape[1], dtype=basis.dtype)]))
    return xp.linalg.solve(r, q[: len(basis)].T @ (root * values))  # (p, m) = (p, n) @ (n, m)


@equation(
    r"\hat\sigma^2 = \frac1N \sum_k w_k (y_k - (V c)_k)^2, \quad"
    r" \log p(y \mid c, \hat\sigma) = -\tfrac N2 (\log 2\pi\hat\sigma^2 + 1) + \tfrac12 \sum_k \log w_k",
    source="Gauss 1809: under noise N(0, σ²/w) the likeliest c is that of least squares, whatever σ is",
)
def likelihood(basis: Array, values: Array, weights: Array, coefficients: Array) -> tuple[Array, Array]:
    """The likeliest variance of the noise about a surface, and the log-likelihood there in nats: (m,) each.

    basis (n, p), values (n, m), weights (n,) > 0, coefficients (p, m).
    """
    xp = backend.of(basis).xp
    residual = values - basis @ coefficients
    variance = xp.mean(weights[:, None] * residual * residual, axis=0)
    floor = xp.maximum(variance, 1e-12)  # a perfect fit would be infinitely likely
    n = len(basis)
    return variance, -0.5 * n * (xp.log(2 * math.pi * floor) + 1) + 0.5 * xp.sum(xp.log(weights))


@equation(
    r"\mathcal{L}(c) = \frac{1}{2N} \|V c - y\|^2, \quad \nabla \mathcal{L} = \frac1N V^\top (V c - y)",
    source="Cauchy 1847 for descent; steps of L-BFGS, Nocedal and Wright 2006, algorithm 7.5",
)
def surface_loss(basis: Tensor, values: Tensor, coefficients: Tensor) -> Tensor:
    """Half the mean square by pixel, summed over the m surfaces: what descent makes small. A number (0-d)."""
    residual = basis @ coefficients - values
    return (residual * residual).sum() * (0.5 / len(basis))


def descend(basis: Array, values: Array, steps: int = 40) -> Array:
    """The coefficients (p, m) of least squares, by descent of `surface_loss` from 0 through the tape."""
    xp = backend.of(basis).xp
    v, y = tensor(basis), tensor(values)
    c = tensor(xp.zeros((basis.shape[1], values.shape[1]), basis.dtype), requires_grad=True)
    optimizer = optim.LBFGS(
        [c], max_iter=10, history_size=50, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = surface_loss(v, y, c)
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return c.data


# ---------------------------------------------------------------- the law of the coefficients


@equation(
    r"\mu' = \mu + \frac{m}{K + m} (\bar c - \mu), \quad"
    r" S' = S + \sum_k (c_k - \bar c)(c_k - \bar c)^\top + \frac{K m}{K + m} (\bar c - \mu)(\bar c - \mu)^\top",
    source="Chan, Golub and LeVeque 1979; μ and S/(K − 1) are the mean and the covariance of all so far",
)
def add_to_moments(count: float, mean: Array, scatter: Array, new: Array) -> tuple[Array, Array]:
    """The mean (q,) and the scatter matrix (q, q) of K = `count` vectors and m = len(new) more, (m, q)."""
    xp = backend.of(new).xp
    m = len(new)
    centre = xp.mean(new, axis=0)
    away, step = new - centre, centre - mean
    scatter = scatter + away.T @ away + (count * m / (count + m)) * (step[:, None] * step)
    return mean + (m / (count + m)) * step, scatter


@equation(r"c = \mu + U \Lambda^{1/2} z, \quad \Sigma = U \Lambda U^\top, \quad z \sim N(0, I)", source="N(μ, Σ)")
def draw_coefficients(mean: Array, covariance: Array, normal: Array) -> Array:
    """Coefficients from their normal law: mean (q,), covariance (q, q) of any rank, and normal z (n, q) give (n, q)."""
    xp = backend.of(mean).xp
    values, vectors = xp.linalg.eigh(covariance)
    root = vectors * xp.sqrt(xp.maximum(values, 0.0))
    return mean + normal @ root.T


# ---------------------------------------------------------------- the plugin


def coordinates(xp: Any, height: int, width: int) -> tuple[Array, Array]:
    """u and v of the pixels' centres in [−1, 1], row after row: (h w,) each, float64."""
    u = 2 * (xp.arange(width, dtype="float64") + 0.5) / width - 1
    v = 2 * (xp.arange(height, dtype="float64") + 0.5) / height - 1
    u, v = xp.meshgrid(u, v)
    return u.reshape(-1), v.reshape(-1)


class Polynomial(Trainable, Sampler, Repairer):
    """Images of one size as polynomial surfaces."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.shape = canvas_shape("polynomial", config.size, config.channels, data)
        xp = backend.current().xp
        unknowns = self.shape[0] * (config.degree + 1) * (config.degree + 2) // 2
        self.count = 0  # images trained on
        self.mean = xp.zeros(unknowns)  # of their coefficients, those of a power side by side
        self.scatter = xp.zeros((unknowns, unknowns))

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Fit a surface to each image of each batch, and gather the law of the coefficients."""
        while True:
            images = next(batches).images.data.astype("float64")  # (n, c, h, w)
            xp, (n, c, h, w) = backend.of(images).xp, images.shape
            basis = design_matrix(*coordinates(xp, h, w), self.config.degree)
            values, weights = images.reshape(n * c, h * w).T, xp.ones(h * w)
            fitted = found = fit_surface(basis, values, weights)  # (p, n c)
            if self.config.fit == "descent":
                found = descend(basis, values)
            variance, log_likelihood = likelihood(basis, values, weights, found)
            new = found.reshape(-1, n, c).transpose(1, 0, 2).reshape(n, -1)  # (n, p c)
            self.mean, self.scatter = add_to_moments(self.count, self.mean, self.scatter, new)
            self.count += n
            figures = {
                "rmse": tensor(xp.sqrt(xp.mean(variance))),
                "nats_per_pixel": tensor(-xp.mean(log_likelihood) / (h * w)),
            }
            if self.config.fit == "descent":
                figures["away_from_qr"] = tensor(xp.max(xp.abs(found - fitted)))
            yield Step(figures)

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1]; image i is the same in a sample of any length.

        Trained, c ∼ N(μ, Σ) of the training images' coefficients; untrained, the prior of `_paint`.
        """
        return draw_images(n, random, self._draw if self.count > 1 else self._paint)

    def _draw(self, random: Stream) -> Array:
        z = random.normal((1, len(self.mean)), dtype="float64")
        drawn = draw_coefficients(self.mean, self.scatter / (self.count - 1), z)
        return self._surface(drawn.reshape(-1, self.shape[0]))

    def _paint(self, random: Stream) -> Array:
        """A surface past dots of paint: a jittered lattice of places, in which the hue turns along one direction and
        the lightness along another, each dot a little off."""
        plan, side = Stream(random.seed, random.name, backend.NUMPY), self.config.dots
        xp = backend.NUMPY.xp
        u, v = (axis.reshape(-1) for axis in xp.meshgrid(xp.linspace(-1, 1, side), xp.linspace(-1, 1, side)))
        u, v = (xp.clip(axis + plan.uniform(axis.shape, -0.8, 0.8) / side, -1, 1) for axis in (u, v))
        dark, hue, turn, span, across, level, chroma, bend = plan.uniform(8).tolist()
        night = dark < 0.45 if self.config.light == "random" else self.config.light == "night"

        def way(angle: float) -> Array:
            """How far each dot lies along a direction, in about [−1, 1]; further out it goes faster, or slower."""
            along = u * math.cos(angle) + v * math.sin(angle)
            return along + 0.5 * (bend - 0.5) * along * along + plan.normal(u.shape, std=0.16)

        turn, spread = 2 * math.pi * turn, math.radians(40 + 70 * span) * (1 if across < 0.5 else -1)
        hues = 2 * math.pi * hue + spread * way(turn)
        lightness = (0.38 + 0.12 * level if night else 0.68 + 0.10 * level) + 0.17 * way(
            turn + math.pi * (0.3 + across)
        )
        chromas = (0.10 + 0.05 * chroma) * (self.shape[0] == 3)
        colours = oklch_to_srgb(xp.clip(lightness, 0.12, 0.97), chromas, hues)[:, : self.shape[0]].astype("float64")

        middle = colours.mean(axis=0)  # the ridge draws towards it
        basis = design_matrix(u, v, self.config.degree)
        coefficients = fit_surface(basis, colours - middle, xp.ones(len(u)), PRIOR_RIDGE)
        coefficients[0] += middle
        return self._surface(backend.current().from_host(coefficients))

    def _surface(self, coefficients: Array) -> Array:
        """The image (c, h, w) float32 in [0, 1] of coefficients (p, c)."""
        xp, (c, h, w) = backend.of(coefficients).xp, self.shape
        surface = design_matrix(*coordinates(xp, h, w), self.config.degree) @ coefficients  # (h w, c)
        return xp.clip(surface, 0.0, 1.0).T.reshape(c, h, w).astype("float32")

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with its missing pixels (mask (h, w) 1) taken from the surface fitted to the known ones,
        which come back bit for bit. Without a mask the surface itself.

        Raises UsageError where fewer pixels are known than a channel has coefficients, or they are not finite.
        """
        given = image.data
        where = backend.of(given)
        xp, (c, h, w) = where.xp, given.shape
        if mask is not None and mask.shape != (h, w):
            raise UsageError(
                f"polynomial: the mask must be {(h, w)} as the image, got {mask.shape}",
                "make the mask as high and wide as the image, 1 where a pixel is missing",
            )
        missing = xp.zeros((h, w), bool) if mask is None else mask.data > 0.5
        known = xp.flatnonzero(~missing)
        basis = design_matrix(*coordinates(xp, h, w), self.config.degree)
        if len(known) < basis.shape[1]:
            raise UsageError(
                f"polynomial: {len(known)} pixels are known, degree {self.config.degree} needs {basis.shape[1]}",
                "lower --degree, or check the mask: 1 is missing, 0 is known",
            )
        values = given.reshape(c, h * w)[:, known].T.astype("float64")  # (n, c)
        if not where.scalar(xp.all(xp.isfinite(values))):
            raise UsageError(
                "polynomial: the image has values that are not finite", "mark those pixels as missing in the mask"
            )
        ridge = 1e-9 * len(known)  # decides where the known pixels, all in one row, leave a coefficient open
        coefficients = fit_surface(basis[known], values, xp.ones(len(known)), ridge)
        surface = xp.clip(basis @ coefficients, 0.0, 1.0).T.reshape(c, h, w).astype(given.dtype)
        return tensor(surface if mask is None else xp.where(missing, surface, given))
