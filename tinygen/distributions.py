"""Probability distributions: log-probabilities that a model is trained by, and draws from them.

    posterior = Normal(mu, exp(0.5 * logvar))          # parameters of one shape, the batch shape
    z = posterior.rsample(random)                      # a differentiable draw
    loss = kl_divergence(posterior, Normal(zeros_like(mu), 1.0)).sum() - likelihood.log_prob(x).sum()

Shapes are strict, as broadcasting is how a loss goes wrong in silence: parameters have one shape or are numbers, and
`log_prob` takes values of the batch shape, with any dimensions of independent draws before it, and gives one
log-probability for each. An impossible value has log-probability −∞ with the gradient 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.backend import Array, current, of
from tinygen.random import Stream

Shape = tuple[int, ...]
Number = Tensor | float


class Distribution:
    """Common: the shape of the parameters, and what is asked of values."""

    batch_shape: Shape

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the probability (density) of each value."""
        raise NotImplementedError

    def sample(self, random: Stream, shape: Shape = ()) -> Tensor:
        """Independent draws, (*shape, *batch_shape), without a gradient."""
        raise NotImplementedError

    def _values(self, value: Tensor) -> Tensor:
        """The value, if its shape is one of values."""
        new = value.ndim - len(self.batch_shape)
        if new < 0 or value.shape[new:] != self.batch_shape:
            raise ValueError(
                f"{type(self).__name__}.log_prob: value must be (…, *{self.batch_shape}) as the parameters, "
                f"got {value.shape}; expand() says that broadcasting is meant"
            )
        return value


class Normal(Distribution):
    """N(μ, σ²) with density exp(−(x − μ)²/2σ²)/(σ √2π).

    loc μ and scale σ > 0: tensors of one shape; either may be a number or a tensor without dimensions.
    ValueError for other shapes, and for σ ≤ 0.
    """

    def __init__(self, loc: Number, scale: Number) -> None:
        self.loc, self.scale = _parameters("Normal", loc=loc, scale=scale)
        self.mean = self.mode = self.loc
        self.stddev = self.scale
        self.batch_shape = self.loc.shape
        _require("Normal: scale must be > 0", self.scale, lambda s: s <= 0)

    @property
    def variance(self) -> Tensor:
        return self.scale * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        """−(x − μ)²/2σ² − log σ − ½ log 2π."""
        u = (self._values(value) - self.loc) / self.scale
        return -0.5 * (u * u) - F.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        """½ + ½ log 2π + log σ."""
        return F.log(self.scale) + 0.5 * (1 + math.log(2 * math.pi))

    def rsample(self, random: Stream, shape: Shape = ()) -> Tensor:
        """x = μ + σ ε with ε ~ N(0, 1), differentiable by μ and σ (Kingma and Welling 2014)."""
        noise = random.normal((*shape, *self.batch_shape), dtype=self.loc.dtype.name)
        return self.loc + self.scale * Tensor(noise)

    def sample(self, random: Stream, shape: Shape = ()) -> Tensor:
        return self.rsample(random, shape).detach()


class Bernoulli(Distribution):
    """1 with probability p, else 0; given by p in [0, 1], or by its logits log(p/(1 − p)).

    ValueError unless one of the two is given, and for p outside [0, 1].
    """

    def __init__(self, probs: Number | None = None, logits: Number | None = None) -> None:
        self._by_probs, given = _one_of("Bernoulli", probs, logits)
        (self._given,) = _parameters("Bernoulli", given=given)
        self.batch_shape = self._given.shape
        if self._by_probs:
            _require("Bernoulli: probs must be in [0, 1]", self._given, lambda p: (p < 0) | (p > 1))

    @property
    def probs(self) -> Tensor:
        return self._given if self._by_probs else F.sigmoid(self._given)

    @property
    def logits(self) -> Tensor:
        return _safe_log(self._given) - _safe_log(1 - self._given) if self._by_probs else self._given

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        """The likelier value; 0 for p = ½."""
        return _cast(self.probs.data > 0.5, self._given)

    @property
    def variance(self) -> Tensor:
        one, zero = self._outcomes()
        return one[0] * zero[0]

    @property
    def stddev(self) -> Tensor:
        return F.sqrt(self.variance)

    def _outcomes(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(probability, its logarithm) of 1 and of 0, each without cancellation."""
        x = self._given
        if self._by_probs:
            return (x, _safe_log(x)), (1 - x, _safe_log(1 - x))
        return (F.sigmoid(x), F.logsigmoid(x)), (F.sigmoid(-x), F.logsigmoid(-x))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p for 1 and log(1 − p) for 0. For levels between, there is functional.binary_cross_entropy."""
        one = self._values(value).data == 1
        _require("Bernoulli.log_prob: value must be 0 or 1", value, lambda v: (v != 0) & (v != 1))
        if self._by_probs:
            return _safe_log(F.where(one, self._given, 1 - self._given))
        return F.logsigmoid(F.where(one, self._given, -self._given))

    def entropy(self) -> Tensor:
        """−p log p − (1 − p) log(1 − p)."""
        one, zero = self._outcomes()
        return -_weighted(*one) - _weighted(*zero)

    def sample(self, random: Stream, shape: Shape = ()) -> Tensor:
        p = self.probs.data
        u = random.uniform((*shape, *self.batch_shape), dtype=p.dtype.name)
        return _cast(u < p, self._given)


class Categorical(Distribution):
    """The class k with probability p_k, for probs (…, classes), which are divided by their sum, or logits (…, classes).

    Values are whole numbers of the shape before the classes. ValueError unless one of the two is given, for a negative
    probability, and for probabilities that are all 0.
    """

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None) -> None:
        self._by_probs, given = _one_of("Categorical", probs, logits)
        if not given.ndim or not given.shape[-1]:
            raise ValueError(f"Categorical: expected parameters of (…, classes), got {given.shape}")
        self.batch_shape, self.classes = given.shape[:-1], given.shape[-1]
        if self._by_probs:
            total = given.sum(-1, keepdim=True)
            _require("Categorical: probs must be ≥ 0", given, lambda p: p < 0)
            _require("Categorical: probs must have a sum > 0", total, lambda s: s <= 0)
            self.probs = given / total
            self.logits = _safe_log(self.probs)
        else:
            self.logits = F.log_softmax(given, -1)
            self.probs = F.exp(self.logits)

    @property
    def mode(self) -> Tensor:
        """The likeliest class; the first of several."""
        return self.logits.argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p_value."""
        if self._values(value).dtype.kind not in "iu":
            raise TypeError(f"Categorical.log_prob: value must hold classes as whole numbers, got {value.dtype}")
        range_ = f"Categorical.log_prob: value must be in 0 … {self.classes - 1}"
        _require(range_, value, lambda v: (v < 0) | (v >= self.classes))
        logits = F.expand(self.logits, *value.shape, self.classes)
        return F.squeeze(F.gather(logits, -1, F.unsqueeze(value, -1)), -1)

    def entropy(self) -> Tensor:
        """−Σ p_k log p_k."""
        return -_weighted(self.probs, self.logits).sum(-1)

    def sample(self, random: Stream, shape: Shape = ()) -> Tensor:
        """By inversion: the first class up to which the probabilities add up to more than u ~ U[0, 1).

        u has float64, so that u · total < total holds after rounding, too, and no class of probability 0 is drawn.
        """
        p = self.probs.data
        added = of(p).xp.cumsum(p, axis=-1)
        u = random.uniform((*shape, *self.batch_shape, 1), dtype="float64")
        return Tensor(of(p).asarray((added <= u * added[..., -1:]).sum(axis=-1)))


class DiscretizedLogisticMixture(Distribution):
    """Pixels on a grid of levels, each a mixture of k logistic laws, of which a level gets what lies nearest to it.

        P(x | μ, s) = σ((x + h − μ)/s) − σ((x − h − μ)/s),   h = 1/(levels − 1),

    on the scale [−1, 1] of the parameters, where the lowest level has all that is below and the highest all that is
    above. The channels of a pixel share the mixture's component; with coefficients, red moves the mean of green, and
    both that of blue.  Source: Salimans et al. 2017, PixelCNN++, section 2.1 to 2.3.

    logits (n, k, h, w) of the components; means and log_scales (n, c, k, h, w); coefficients (n, 3, k, h, w) for c = 3:
    of red in green, red in blue, green in blue.
    Values are images (n, c, h, w) in [0, 1] on the grid 0, 1/(levels − 1), …, 1; batch_shape is (n, h, w), the pixels.
    """

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor | None = None,
        levels: int = 256,
    ) -> None:
        name = type(self).__name__
        if logits.ndim != 4 or means.ndim != 5:
            raise ValueError(
                f"{name}: expected logits (n, k, h, w) and means (n, c, k, h, w), got {logits.shape} and {means.shape}"
            )
        n, k, *size = logits.shape
        self.channels = means.shape[1]
        expected = (n, self.channels, k, *size)
        for argument, given in (("means", means), ("log_scales", log_scales), ("coefficients", coefficients)):
            if given is not None and given.shape != expected:
                raise ValueError(f"{name}: {argument} must be {expected} as logits {logits.shape}, got {given.shape}")
        if coefficients is not None and self.channels != 3:
            raise ValueError(f"{name}: coefficients are for 3 channels, means have {self.channels}")
        if levels < 2:
            raise ValueError(f"{name}: levels must be at least 2, got {levels}")
        self.logits, self.means, self.log_scales = logits, means, log_scales
        self.coefficients, self.levels, self.batch_shape = coefficients, levels, (n, *size)

    @classmethod
    def from_network(cls, parameters: Tensor, channels: int, levels: int = 256) -> DiscretizedLogisticMixture:
        """The mixture that a network's output of (n, k (1 + 2c), h, w), for 3 channels (n, 10 k, h, w), stands for.

        The order is that of the authors' code: k logits, then for each channel k means, k log-scales (held at ≥ −7)
        and, for 3 channels, k coefficients (through tanh).
        """
        kinds = 3 if channels == 3 else 2
        each = 1 + kinds * channels
        if parameters.ndim != 4 or not parameters.shape[1] or parameters.shape[1] % each:
            raise ValueError(
                f"{cls.__name__}: expected parameters (n, {each} k, h, w) for {channels} channels, "
                f"got {parameters.shape}"
            )
        k = parameters.shape[1] // each
        logits, rest = F.split(parameters, [k, parameters.shape[1] - k], 1)
        rest = F.unflatten(rest, 1, (channels, kinds, k))
        coefficients = F.tanh(rest[:, :, 2]) if kinds == 3 else None
        return cls(logits, rest[:, :, 0], rest[:, :, 1].clamp(min=-7.0), coefficients, levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """log Σ_k π_k Π_c P(x_c | μ_ck, s_ck) of each pixel, (n, h, w) for images (n, c, h, w).

        P = σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)) for a > b, so that its logarithm has no difference of equal numbers
        and needs no exception where P is small.
        """
        n, *size = self.batch_shape
        if value.shape != (n, self.channels, *size):
            expected = (n, self.channels, *size)
            raise ValueError(f"{type(self).__name__}.log_prob: value must be {expected}, got {value.shape}")
        xp, top = value.backend.xp, self.levels - 1
        level = xp.rint(value.data * top)
        range_ = f"{type(self).__name__}.log_prob: value must be on the grid 0, 1/{top}, …, 1"
        off = (xp.abs(value.data * top - level) > 0.01) | (level < 0) | (level > top)
        _require(range_, value, lambda _: off)
        level = level.astype(self.means.dtype)[:, :, None]  # (n, c, 1, h, w)
        x = Tensor(level * (2 / top) - 1)
        precision = F.exp(-self.log_scales)
        centred = x - self._moved_means(x)
        above, below = (centred + 1 / top) * precision, (centred - 1 / top) * precision
        t = F.tanh(precision * (1 / top))  # 1 − e^−2u = 2 tanh u / (1 + tanh u) keeps the digits of a small u
        between = F.log(2 * t / (1 + t))
        log_p = F.where(level < top, F.logsigmoid(above), 0.0) + F.where(level > 0, F.logsigmoid(-below), 0.0)
        log_p = log_p + F.where((level > 0) & (level < top), between, 0.0)
        return F.logsumexp(F.log_softmax(self.logits, 1) + log_p.sum(1), 1)  # over channels, then over components

    def _moved_means(self, x: Tensor) -> Tensor:
        """The means (n, c, k, h, w) for the pixels x (n, c, 1, h, w), of which a channel sees those before it."""
        if self.coefficients is None:
            return self.means
        by = [self.coefficients[:, i] for i in range(3)]
        red, green, blue = (self.means[:, i] for i in range(3))
        return F.stack([red, green + by[0] * x[:, 0], blue + by[1] * x[:, 0] + by[2] * x[:, 1]], 1)

    def sample(self, random: Stream, shape: Shape = ()) -> Tensor:
        """Images (*shape, n, c, h, w) in [0, 1]: a component a pixel, then a channel after the other."""
        xp, top, c = self.means.backend.xp, self.levels - 1, self.channels
        which = Categorical(logits=self.logits.permute(0, 2, 3, 1)).sample(random, shape).data  # (*shape, n, h, w)
        n, height, width = self.batch_shape
        index = xp.broadcast_to(which[..., None, None, :, :], (*shape, n, c, 1, height, width))

        def chosen(parameter: Tensor) -> list[Array]:  # of each pixel's component, the channels
            every = xp.broadcast_to(parameter.data, (*shape, *parameter.shape))
            own = xp.take_along_axis(every, index, -3)[..., 0, :, :]
            return [own[..., i, :, :] for i in range(c)]

        u = random.uniform((*shape, n, c, height, width), dtype=self.means.dtype.name)
        with of(u).quiet():  # the logistic law's quantiles; that of 0 is −∞, the lowest level
            noise = xp.log(u) - xp.log1p(-u)
        means, scales = chosen(self.means), chosen(F.exp(self.log_scales.detach()))
        by = chosen(self.coefficients) if self.coefficients is not None else []
        drawn: list[Array] = []
        for i in range(c):
            mean = means[i]
            if by and i:
                mean = mean + (by[0] * drawn[0] if i == 1 else by[1] * drawn[0] + by[2] * drawn[1])
            x = xp.clip(mean + scales[i] * noise[..., i, :, :], -1.0, 1.0)
            drawn.append(xp.rint((x + 1) * (top / 2)) * (2 / top) - 1)
        return Tensor((xp.stack(drawn, -3) + 1) / 2)


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p ‖ q) = E_p[log p − log q] for each element of the batch shape, which p and q must share.

    Between two of Normal, Bernoulli or Categorical; NotImplementedError for other pairs. What p never does costs
    nothing, and what q never does but p may is ∞.
    """
    if p.batch_shape != q.batch_shape:
        raise ValueError(f"kl_divergence: batch shapes differ, {p.batch_shape} and {q.batch_shape}; expand() one")
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio, moved = p.scale / q.scale, (p.loc - q.loc) / q.scale
        return 0.5 * (ratio * ratio + moved * moved - 1) - F.log(ratio)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        one, zero = (_excess(*ours, theirs) for ours, (_, theirs) in zip(p._outcomes(), q._outcomes()))
        return one + zero
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        if p.classes != q.classes:
            raise ValueError(f"kl_divergence: p has {p.classes} classes, q has {q.classes}")
        return _excess(p.probs, p.logits, q.logits).sum(-1)
    raise NotImplementedError(
        f"kl_divergence: no closed form is known here for {type(p).__name__} and {type(q).__name__}; "
        "average p.log_prob − q.log_prob over samples of p"
    )


# ---------------------------------------------------------------- shared


def _cast(truth: Array, like: Tensor) -> Tensor:
    """1 and 0 in the dtype of a tensor."""
    return Tensor(like.backend.asarray(truth, like.dtype))


def _safe_log(x: Tensor) -> Tensor:
    """log x, and −∞ with the gradient 0 at x = 0."""
    zero = x.data == 0
    return F.where(zero, -math.inf, F.log(F.where(zero, 1.0, x)))


def _weighted(p: Tensor, x: Tensor) -> Tensor:
    """p · x, and 0 where p = 0 whatever x is."""
    return p * F.where(p.data == 0, 0.0, x)


def _excess(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """p (log p − log q)."""
    return _weighted(p, log_p) - _weighted(p, log_q)


def _one_of(name: str, probs: Any, logits: Any) -> tuple[bool, Any]:
    """Whether the probabilities are given, and what is."""
    if (probs is None) == (logits is None):
        raise ValueError(f"{name}: give either probs or logits")
    return probs is not None, logits if probs is None else probs


def _parameters(name: str, **given: Number) -> list[Tensor]:
    """The parameters as tensors of one shape; numbers take the dtype and backend of a tensor beside them."""
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    owner, dtype = (tensors[0].backend, tensors[0].dtype) if tensors else (current(), "float32")
    made = [v if isinstance(v, Tensor) else Tensor(owner.asarray(v, dtype)) for v in given.values()]
    shape = max((x.shape for x in made), key=len)
    if any(x.shape not in ((), shape) for x in made):
        shapes = ", ".join(f"{argument} {x.shape}" for argument, x in zip(given, made))
        raise ValueError(f"{name}: parameters must have one shape or none, got {shapes}; expand() the smaller one")
    return [x if x.shape == shape else F.expand(x, shape) for x in made]


def _require(rule: str, x: Tensor, broken: Callable[[Array], Array]) -> None:
    """ValueError with the first element that breaks the rule; a NaN breaks none, as the tape tells where it is from."""
    wrong = broken(x.data)

    def error() -> ValueError:
        owner = x.backend
        return ValueError(f"{rule}, got {owner.to_host(x.data)[owner.to_host(wrong)][0]}")

    x.backend.require(~wrong.any(), error)
