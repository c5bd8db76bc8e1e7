r"""Autoregression: a value is a weighted sum of those before it, and something new.

    x_t = c + φ_1 x_{t−1} + … + φ_p x_{t−p} + ε_t,    ε_t ∼ N(0, s²).

Over time it is the AR(p) of Yule (1927). Its φ is found in three ways, all from the same sums of products S:

- `yule-walker`     from the autocovariances, by the recursion of Levinson and Durbin: always stationary;
- `least-squares`   the best prediction of each value from p before it;
- `likelihood`      the most likely φ, the first p values counted as well; by descent in the reflection coefficients κ,
                    which may be any numbers in (−1, 1) and give exactly the stationary φ.

Over a picture "before" is the part of a window that comes earlier in the order of reading: W, NW, N, NE, or more of the
half plane. Fitted to images it knows their texture, and nothing of what they show. A film is both: each pixel is an
AR(p) over time, and what is new in a frame is a texture. From clips the φ of time is learnt, too; with still images it
is that of a swing, chosen by `period` and `decay`. Read from the equations down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tinygen import backend, optim
from tinygen.autograd import Tensor, enable_grad, no_grad, tensor
from tinygen.backend import Array
from tinygen.data import Batches, DataSpec
from tinygen.errors import UsageError
from tinygen.functional import cat, cos, log, sin, tanh
from tinygen.host import Animator, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream


@dataclass(frozen=True)
class Config:
    """The options of `ar`."""

    steps: int = 50
    """batches to train on"""
    batch_size: int = 32
    """images or clips in a batch"""
    reach: int = 2
    """how far a pixel looks up and to both sides: 1 for its four neighbours W, NW, N, NE, more for more of the plane"""
    order: int = 2
    """p over time, for clips: how many frames a frame depends on"""
    estimator: Literal["yule-walker", "least-squares", "likelihood"] = "yule-walker"
    """how φ is found from clips"""
    period: float = 24.0
    """frames of one swing of the films, where the data are still images"""
    decay: float = 0.97
    """what is left of a swing a frame later, where the data are still images"""
    margin: int = 24
    """pixels around a picture that are drawn, too, and cut off, so that the empty border is forgotten"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("reach", 1, 16), ("order", 1, 64), ("period", 2, 10**6),
            ("decay", 0, 0.9999), ("margin", 0, 1024),
        ):  # fmt: skip
            check_range("ar", name, getattr(self, name), low, high)
        check_choice("ar", "estimator", self.estimator, ["yule-walker", "least-squares", "likelihood"])


# ---------------------------------------------------------------- sequences: AR(p)


@equation(
    r"\hat\gamma_k = \frac1{N T} \sum_{t=k+1}^{T} S_{t,\,t-k}, \quad S_{tu} = \sum_{n=1}^{N} x_{nt}\, x_{nu}",
    source="Brockwell and Davis 1991, section 7.2: divided by T, not T − k, so that the matrix Γ is positive",
)
def autocovariance(products: Tensor, count: int, order: int) -> Tensor:
    """γ_0, …, γ_p of N = `count` sequences with mean 0 from their products S (T, T): (p + 1,)."""
    xp, length = products.backend.xp, len(products)
    diagonals = [xp.trace(products.data, offset=-k) for k in range(order + 1)]
    return Tensor(xp.stack(diagonals) / (count * length))


@equation(
    r"\kappa_m = \frac{\gamma_m - \sum_{i<m} \varphi^{(m-1)}_i \gamma_{m-i}}{v_{m-1}}, \quad"
    r" v_m = (1 - \kappa_m^2)\, v_{m-1}, \quad v_0 = \gamma_0",
    source="Levinson 1947, Durbin 1960: solves the Yule–Walker equations Γφ = γ, s² = γ_0 − φᵀγ = v_p",
)
def levinson_durbin(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """The reflection coefficients κ (p,), which are the partial autocorrelations, and s² (), from γ (p + 1,)."""
    phi, v = gamma[:0], gamma[0]
    reflections = []
    for m in range(1, len(gamma)):
        kappa = (gamma[m] - (phi * gamma[1:m].flip(0)).sum()) / v
        phi, v = longer(phi, kappa), v * (1 - kappa * kappa)
        reflections.append(kappa.reshape(1))
    return cat([gamma[:0], *reflections]), v


@equation(
    r"\varphi^{(m)}_m = \kappa_m, \quad \varphi^{(m)}_i = \varphi^{(m-1)}_i - \kappa_m\, \varphi^{(m-1)}_{m-i}",
    source="Durbin 1960: the best predictor from m values, out of that from m − 1",
)
def longer(phi: Tensor, kappa: Tensor) -> Tensor:
    """φ^(m) (m,) from φ^(m−1) (m − 1,) and κ_m ()."""
    return cat([phi - kappa * phi.flip(0), kappa.reshape(1)])


def predictors(kappa: Tensor) -> list[Tensor]:
    """φ^(0), …, φ^(p): the best predictors from 0, …, p values before."""
    found = [kappa[:0]]
    for m in range(len(kappa)):
        found.append(longer(found[-1], kappa[m]))
    return found


@equation(
    r"\kappa_m = \varphi^{(m)}_m, \quad"
    r" \varphi^{(m-1)}_i = \frac{\varphi^{(m)}_i + \kappa_m\, \varphi^{(m)}_{m-i}}{1 - \kappa_m^2}",
    source="Schur and Cohn: all |κ| < 1 if and only if the roots of 1 − Σφ_i zⁱ lie outside the unit circle",
)
def reflections(phi: Tensor) -> Tensor:
    """κ (p,) of any φ (p,); the process is stationary if all are within (−1, 1)."""
    found = []
    for m in range(len(phi), 0, -1):
        kappa, rest = phi[m - 1], phi[: m - 1]
        found.append(kappa.reshape(1))
        phi = (rest + kappa * rest.flip(0)) / (1 - kappa * kappa)
    return cat([phi[:0], *reversed(found)])


@equation(
    r"C = \begin{pmatrix} \varphi_1 \cdots \varphi_{p-1} & \varphi_p \\ I & 0 \end{pmatrix}",
    source="Brockwell and Davis 1991, section 12.1: stationary if and only if all eigenvalues are within the circle",
)
def companion(phi: Tensor) -> Tensor:
    """The matrix (p, p) by which (x_t, …, x_{t−p+1}) goes on."""
    xp, p = phi.backend.xp, len(phi)
    return cat([phi[None], Tensor(xp.eye(p, dtype=phi.dtype)[: p - 1])])


@equation(
    r"f(\omega) = \frac{s^2}{2\pi\, |1 - \sum_k \varphi_k e^{-i \omega k}|^2}",
    source="Brockwell and Davis 1991, theorem 4.4.2; its integral over [−π, π] is γ_0",
)
def spectrum(phi: Tensor, variance: Tensor, omega: Tensor) -> Tensor:
    """The spectral density at the frequencies ω (m,): (m,)."""
    xp, p = phi.backend.xp, len(phi)
    angles = omega[:, None] * Tensor(xp.arange(1, p + 1, dtype=phi.dtype))  # (m, p)
    real, imaginary = 1 - cos(angles) @ phi, sin(angles) @ phi
    return variance / (2 * math.pi * (real * real + imaginary * imaginary))


@equation(
    r"\hat\varphi = \operatorname*{arg\,min}_\varphi \sum_{t>p} \Big(x_t - \sum_i \varphi_i x_{t-i}\Big)^2, \quad"
    r" \hat s^2 = \frac{\text{the minimum}}{N (T - p)}",
    source="Mann and Wald 1943: the likelihood given the first p values",
)
def least_squares(products: Tensor, count: int, order: int) -> tuple[Tensor, Tensor]:
    """φ (p,) and s² () from S (T, T), T > p. φ need not be stationary."""
    window = windows(products, order).data  # of x_{t−p}, …, x_t
    inner, outer = window[:order, :order], window[:order, order]
    weights = products.backend.xp.linalg.solve(inner, outer[:, None])[:, 0]  # φ_p, …, φ_1
    rest = window[order, order] - (weights * outer).sum()
    variance = rest / (count * (len(products) - order))
    return tensor(weights[::-1]), tensor(variance, dtype="float64")


def windows(products: Tensor, order: int) -> Tensor:
    """The products among p + 1 neighbours, summed over all places: (p + 1, p + 1)."""
    length = len(products)
    total = products[: order + 1, : order + 1]
    for t in range(order + 1, length):
        total = total + products[t - order : t + 1, t - order : t + 1]
    return total


@equation(
    r"\log p(x) = -\tfrac12 \sum_{t=1}^{T} \Big( \log 2\pi v_t + \frac{e_t^2}{v_t} \Big), \quad"
    r" e_t = x_t - \sum_{i \le m} \varphi^{(m)}_i x_{t-i}, \quad m = \min(t - 1, p), \quad"
    r" v_t = \frac{s^2}{\prod_{k>m} (1 - \kappa_k^2)}",
    source="Schweppe 1965, prediction errors; equal to log N(x; 0, Γ)",
)
def log_likelihood(products: Tensor, count: int, kappa: Tensor, variance: Tensor) -> Tensor:
    """The logarithm of the density of N sequences with mean 0, exactly, from their products S (T, T); () in nats."""
    length, p = len(products), len(kappa)
    phi, v = predictors(kappa), variance
    total = -0.5 * math.log(2 * math.pi) * count * length + 0 * variance
    for m in range(p, -1, -1):  # v_t grows on the way back to the first value
        block = windows(products, p) if m == p else products[: m + 1, : m + 1]
        times = length - p if m == p else 1
        errors = cat([-phi[m].flip(0), 1 + 0 * variance.reshape(1)])  # of x_{t−m}, …, x_t: e_t
        total = total - 0.5 * (count * times * log(v) + (errors @ block @ errors) / v)
        if m:
            v = v / (1 - kappa[m - 1] * kappa[m - 1])
    return total


def most_likely(products: Tensor, count: int, order: int, steps: int = 20) -> tuple[Tensor, Tensor]:
    """κ (p,) and s² () of the largest likelihood: L-BFGS on κ = tanh a and log s², from Yule and Walker's on."""
    kappa, variance = levinson_durbin(autocovariance(products, count, order))
    xp = kappa.backend.xp
    a = tensor(xp.arctanh(kappa.data), requires_grad=True, dtype="float64")
    b = tensor(xp.log(variance.data), requires_grad=True, dtype="float64")
    optimizer = optim.LBFGS([a, b], max_iter=10, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -log_likelihood(products, count, tanh(a), b.exp()) / (count * len(products))
        loss.backward()
        return loss

    with enable_grad():
        for _ in range(steps):
            optimizer.step(closure)
    return tanh(a).detach(), b.exp().detach()


@equation(
    r"x_t = \sum_{i \le m} \varphi^{(m)}_i x_{t-i} + \sqrt{v_t}\, \varepsilon_t, \quad m = \min(t - 1, p), \quad"
    r" v_t = \prod_{k \le m} (1 - \kappa_k^2)",
    source="the likelihood's factors, drawn one by one: stationary from the first value on, γ_0 = 1",
)
def draw_sequence(kappa: Tensor, noise: Tensor) -> Tensor:
    """Sequences of variance 1 along the first dimension of the noise ε (T, …), of its shape."""
    phi, p = predictors(kappa), len(kappa)
    x: list[Tensor] = []
    v = 1 + 0 * noise.to(kappa.dtype).sum()
    for t in range(len(noise)):
        value = v.sqrt() * noise[t]
        for i in range(min(t, p)):
            value = value + phi[min(t, p)][i] * x[t - 1 - i]
        x.append(value)
        if t < p:
            v = v * (1 - kappa[t] * kappa[t])
    return cat([value[None] for value in x])


# ---------------------------------------------------------------- textures: AR over a picture


@equation(
    r"x_s = c + \sum_{r \in N} A_r\, x_{s-r} + \varepsilon_s, \quad"
    r" N = \{(0, 1), \ldots, (0, R)\} \cup \{(i, j) : 1 \le i \le R, |j| \le R\}",
    source="Whittle 1954; Ekstrom and Woods 1976, the non-symmetric half plane; R = 1: W, NW, N, NE",
)
def neighbours(images: Array, reach: int) -> Array:
    """The pixels before each inner pixel: images (n, c, h, w) give (n, h − R, w − 2R, K c), K = 2R² + 2R.

    In the order of reading: the rows above from the top, then what stands to the left.
    """
    xp, (h, w) = backend.of(images).xp, images.shape[2:]
    offsets = [(i, j) for i in range(reach, 0, -1) for j in range(reach, -reach - 1, -1)]
    offsets += [(0, j) for j in range(reach, 0, -1)]
    shifted = [images[:, :, reach - i : h - i, reach - j : w - reach - j] for i, j in offsets]
    return xp.concatenate(shifted, axis=1).transpose(0, 2, 3, 1)


@equation(
    r"\begin{pmatrix} c \\ A \end{pmatrix} = \Big(\sum_s u_s u_s^\top + \lambda I\Big)^{-1} \sum_s u_s x_s^\top, \quad"
    r" \Sigma = \frac1n \sum_s \varepsilon_s \varepsilon_s^\top, \quad u_s = (1, x_{s-r})_{r \in N}",
    source="least squares: the likelihood given the border; λ is 10⁻⁶ of the trace's mean",
)
def fit_texture(products: Array, channels: int) -> tuple[Array, Array]:
    """The weights (1 + K c, c), of c and of A, and Σ (c, c), from the products of (1, neighbours, pixel) with each
    other, summed over n places: (q, q), q = 1 + K c + c; their first element is n."""
    xp, k = backend.of(products).xp, len(products) - channels
    inner, outer = products[:k, :k], products[:k, k:]
    ridge = 1e-6 * xp.trace(inner) / k
    weights = xp.linalg.solve(inner + ridge * xp.eye(k), outer)
    cross = weights.T @ outer
    residual = products[k:, k:] - cross - cross.T + weights.T @ inner @ weights
    return weights, residual / products[0, 0]


@equation(
    r"x_s = c + \sum_{r \in N} A_r\, x_{s-r} + \Sigma^{1/2} \varepsilon_s, \quad \varepsilon_s \sim N(0, I)",
    source="Whittle 1954; pixel after pixel, in the order of reading",
)
def draw_texture(weights: Array, root: Array, noise: Array, start: Array, reach: int) -> Array:
    """Pictures (n, c, h, w) from noise of that shape; beyond the border stands the colour `start` (c,).

    weights (1 + K c, c), root Σ^½ (c, c). Values are held within [−1, 2], should the fit not be stable.
    """
    xp, (n, c, h, w) = backend.of(noise).xp, noise.shape
    x = xp.zeros((n, reach + h, reach + w + reach, c)) + start
    new = noise.transpose(0, 2, 3, 1) @ root + weights[0]  # (n, h, w, c)
    above, left = weights[1 : -reach * c], weights[-reach * c :]
    for i in range(h):
        for j in range(w):
            rows = x[:, i : i + reach, j : j + 2 * reach + 1].reshape(n, -1)  # (n, R (2R + 1) c)
            row = x[:, i + reach, j : j + reach].reshape(n, -1)  # (n, R c)
            value = new[:, i, j] + rows @ above + row @ left
            x[:, i + reach, j + reach] = xp.clip(value, -1.0, 2.0)
    return x[:, reach:, reach : reach + w].transpose(0, 3, 1, 2)


# ---------------------------------------------------------------- the plugin


class AR(Trainable, Sampler, Animator):
    """Textures of one size, and films of them."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        self.config, self.shape, self.frames = config, data.shape, data.frames
        c, h, w = self.shape
        if min(h, w) < 2 * config.reach + 1:
            raise UsageError(
                f"ar: images must be {2 * config.reach + 1} pixels or more in height and width, got {h} × {w}",
                "lower --reach",
            )
        if 0 < self.frames <= config.order:
            raise UsageError(
                f"ar: order must be below the {self.frames} frames of a clip, got {config.order}", "lower --order"
            )
        xp, reach = backend.current().xp, config.reach
        q = 1 + (2 * reach * reach + 2 * reach) * c + c
        even = xp.append(xp.ones(1), xp.full(q - 1, 0.5))  # before all data one pixel of noise: even, independent
        self.texture = even[:, None] * even + xp.diag(xp.append(xp.zeros(1), xp.full(q - 1, 1 / 12)))
        self.sequences = 0  # over time, one a pixel and channel
        self.sums = xp.zeros(self.frames)  # of the sequences
        self.products = xp.zeros((self.frames, self.frames))

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Add the products of each batch to those before, and solve."""
        while True:
            images = next(batches).images.data.astype("float64")  # (n, c, h, w), of clips (n, t, c, h, w)
            figures = {}
            if self.frames:
                figures = self.add_sequences(images)
                images = images.reshape(-1, *self.shape)
            yield Step(figures | self.add_images(images))

    def add_images(self, images: Array) -> dict[str, Tensor]:
        """Take in images (n, c, h, w)."""
        xp, (c, reach) = backend.of(images).xp, (self.shape[0], self.config.reach)
        before = neighbours(images, reach)  # (n, h − R, w − 2R, K c)
        pixels = images[:, :, reach:, reach:-reach].transpose(0, 2, 3, 1)  # (n, h − R, w − 2R, c)
        rows = xp.concatenate([xp.ones((*before.shape[:3], 1)), before, pixels], axis=3).reshape(-1, len(self.texture))
        self.texture = self.texture + rows.T @ rows  # products of (1, neighbours, pixel) with each other, (q, q)
        residual = fit_texture(self.texture, c)[1]
        return {"rmse": tensor(xp.sqrt(xp.trace(residual) / c))}

    def add_sequences(self, clips: Array) -> dict[str, Tensor]:
        """Take in clips (n, t, c, h, w), a sequence a pixel and channel."""
        xp = backend.of(clips).xp
        x = xp.moveaxis(clips, 1, 0).reshape(self.frames, -1)  # (t, n c h w)
        self.sequences += x.shape[1]
        self.sums, self.products = self.sums + x.sum(axis=1), self.products + x @ x.T
        with no_grad():
            kappa, variance = self.over_time()
            likelihood = log_likelihood(self.centred(), self.sequences, kappa, variance)
        phi = predictors(kappa)[-1]
        return {"nats_per_value": -likelihood / (self.sequences * self.frames), "phi_1": phi[0], "s": variance.sqrt()}

    def centred(self) -> Tensor:
        """The products of the sequences less their common mean, (t, t)."""
        mean, ones = self.sums.mean() / self.sequences, self.sums * 0 + 1
        cross = self.sums[:, None] * ones
        return Tensor(self.products - mean * (cross + cross.T) + self.sequences * mean * mean)

    def over_time(self) -> tuple[Tensor, Tensor]:
        """κ and s² of time: those of the clips, or those of a swing with γ_0 = 1."""
        config = self.config
        if not self.sequences:
            swing = [2 * config.decay * math.cos(2 * math.pi / config.period), -config.decay * config.decay]
            kappa = reflections(tensor(swing, dtype="float64"))
            return kappa, ((1 - kappa * kappa).log().sum()).exp()
        products, count, order = self.centred(), self.sequences, config.order
        if config.estimator == "likelihood":
            return most_likely(products, count, order)
        if config.estimator == "least-squares":
            phi, variance = least_squares(products, count, order)
            return reflections(phi).clamp(-0.9999, 0.9999), variance  # what is not stationary is brought to the edge
        return levinson_durbin(autocovariance(products, count, order))

    def sample(self, n: int, random: Stream) -> Tensor:
        """n pictures (n, c, h, w) in [0, 1] of the texture."""
        pictures = self.draw(n, random) + self.mean()[:, None, None]
        return tensor(backend.of(pictures).xp.clip(pictures, 0.0, 1.0).astype("float32"))

    def mean(self) -> Array:
        """The mean colour (c,)."""
        return self.texture[0, -self.shape[0] :] / self.texture[0, 0]

    def draw(self, n: int, random: Stream) -> Array:
        """n pictures of the texture (n, c, h, w), less the mean colour."""
        xp, (c, h, w), margin = backend.of(self.texture).xp, self.shape, self.config.margin
        weights, residual = fit_texture(self.texture, c)
        values, vectors = xp.linalg.eigh(residual)
        root = (vectors * xp.sqrt(xp.maximum(values, 0.0))) @ vectors.T
        noise = random.normal((n, c, margin + h, margin + w + margin), dtype="float64")
        drawn = draw_texture(weights, root, noise, self.mean(), self.config.reach)
        return drawn[:, :, margin:, margin : margin + w] - self.mean()[:, None, None]

    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n films (n, t, c, h, w) in [0, 1]: each pixel an AR(p) over time, what is new in a frame a texture."""
        with no_grad():
            new = self.draw(n * frames, random).reshape(n, frames, *self.shape)
            xp = backend.of(new).xp
            film = draw_sequence(self.over_time()[0], Tensor(xp.moveaxis(new, 1, 0)))  # (t, n, c, h, w)
            film = xp.moveaxis(film.data, 0, 1) + self.mean()[:, None, None]
        return tensor(xp.clip(film, 0.0, 1.0).astype("float32"))
