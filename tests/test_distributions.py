"""Distributions against scipy.stats, quadrature and enumeration; draws by Kolmogorov–Smirnov and χ² at fixed seeds."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen.autograd import gradcheck
from tinygen.backend import current
from tinygen.distributions import Bernoulli, Categorical, DiscretizedLogisticMixture, Normal, kl_divergence
from tinygen.random import Stream
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals, seeds, shapes


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """The fixture `backend` of the pytest plugin, without asking for it in each test."""


def on(array, dtype=None):
    """A NumPy array as a tensor on the current backend."""
    return tinygen.tensor(np.asarray(array), dtype=dtype)


def sigmoid(x):
    return scipy.special.expit(x)


WHICH = np.array([2, 0, 1, 0])
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
SCALES = reals((2, 3), 0.3, 2.0)
NORMAL = st.tuples(reals((2, 3)), reals((2, 3)), SCALES)
ROWS = [
    Row("normal log_prob", lambda x, m, s: Normal(m, s).log_prob(x), scipy.stats.norm.logpdf, NORMAL),
    Row("normal entropy", lambda m, s: Normal(m, s).entropy(), lambda m, s: scipy.stats.norm.entropy(m, s),
        st.tuples(reals((2, 3)), SCALES)),
    Row("normal variance", lambda m, s: Normal(m, s).variance, lambda m, s: scipy.stats.norm.var(m, s),
        st.tuples(reals((2, 3)), SCALES)),
    Row("bernoulli log_prob", lambda p: Bernoulli(p).log_prob(on(BITS).to(p.dtype)),
        lambda p: scipy.stats.bernoulli.logpmf(BITS, p), of_shapes((2, 3), low=0.1, high=0.9)),
    Row("bernoulli log_prob of logits", lambda x: Bernoulli(logits=x).log_prob(on(BITS).to(x.dtype)),
        lambda x: scipy.stats.bernoulli.logpmf(BITS, sigmoid(x)), of_shapes((2, 3), low=-9, high=9)),
    Row("bernoulli entropy", lambda p: Bernoulli(p).entropy(), lambda p: scipy.stats.bernoulli.entropy(p),
        of_shapes((2, 3), low=0.1, high=0.9)),
    Row("bernoulli entropy of logits", lambda x: Bernoulli(logits=x).entropy(),
        lambda x: scipy.stats.bernoulli.entropy(sigmoid(x)), of_shapes((2, 3))),
    Row("bernoulli moments", lambda p: (Bernoulli(p).mean, Bernoulli(p).variance, Bernoulli(p).stddev),
        lambda p: (p, p * (1 - p), np.sqrt(p * (1 - p))), of_shapes((2, 3), low=0.1, high=0.9)),
    Row("bernoulli logits", lambda p: (Bernoulli(p).logits, Bernoulli(logits=p).probs),
        lambda p: (scipy.special.logit(p), sigmoid(p)), of_shapes((2, 3), low=0.1, high=0.9)),
    Row("categorical log_prob", lambda p: Categorical(p).log_prob(on(WHICH)),
        lambda p: np.log(p / p.sum(1, keepdims=True))[range(4), WHICH], of_shapes((4, 3), low=0.1)),
    Row("categorical log_prob of logits", lambda x: Categorical(logits=x).log_prob(on(WHICH)),
        lambda x: np.log(scipy.special.softmax(x, 1))[range(4), WHICH], of_shapes((4, 3))),
    Row("categorical entropy", lambda p: Categorical(p).entropy(), lambda p: scipy.stats.entropy(p, axis=1),
        of_shapes((4, 3), low=0.1)),
    Row("categorical entropy of logits", lambda x: Categorical(logits=x).entropy(),
        lambda x: scipy.stats.entropy(scipy.special.softmax(x, 1), axis=1), of_shapes((4, 3))),
    Row("kl of bernoulli", lambda p, x: kl_divergence(Bernoulli(p), Bernoulli(logits=x)),
        lambda p, x: scipy.special.rel_entr(p, sigmoid(x)) + scipy.special.rel_entr(1 - p, sigmoid(-x)),
        st.tuples(reals((2, 3), 0.1, 0.9), reals((2, 3)))),
    Row("kl of categorical", lambda p, x: kl_divergence(Categorical(p), Categorical(logits=x)),
        lambda p, x: scipy.stats.entropy(p, scipy.special.softmax(x, 1), axis=1),
        st.tuples(reals((4, 3), 0.1), reals((4, 3)))),
]  # fmt: skip


test_formula = row_test(ROWS)


# ---------------------------------------------------------------- exact properties


@settings(max_examples=10)
@given(reals((2, 2)), reals((2, 2), 0.3, 2.0))
def test_divergence_of_normals_by_quadrature(loc, scale):
    def by_quadrature(m, s, k, r):
        p, q = scipy.stats.norm(m, s), scipy.stats.norm(k, r)
        return scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), m - 30 * s, m + 30 * s)[0]

    row = Row(
        "kl of normal",
        lambda m, s, k, r: kl_divergence(Normal(m, s), Normal(k, r)),
        np.vectorize(by_quadrature),
        st.nothing(),
        rtol=1e-6,
    )
    check(row, (loc[0], scale[0], loc[1], scale[1]))
    p = Normal(*tensors((loc, scale)))
    close(kl_divergence(p, p), np.zeros((2, 2)), atol=1e-14)


@given(reals((3, 4), 0.0, 1.0))
def test_probabilities_sum_to_one(p):
    classes = Categorical(on(p + 0.01))
    close(sum(classes.log_prob(on(np.full(3, k))).exp() for k in range(4)), np.ones(3), 1e-12)
    bits = Bernoulli(on(p))
    close(bits.log_prob(on(np.ones((3, 4)))).exp() + bits.log_prob(on(np.zeros((3, 4)))).exp(), np.ones((3, 4)), 1e-12)


def test_what_cannot_be_and_what_is_certain():
    """log 0 = −∞ with the gradient 0; 0 log 0 = 0; the divergence from what q never does is ∞."""
    p = tensors((np.array([0.0, 1.0, 0.0, 1.0]),))[0]
    log_p = Bernoulli(p).log_prob(on(np.array([0.0, 1.0, 1.0, 0.0])))
    close(log_p, np.array([0, 0, -np.inf, -np.inf]))
    close(tinygen.grad(log_p.sum(), p), np.array([-1.0, 1.0, 0.0, 0.0]))
    close(Bernoulli(p).entropy(), np.zeros(4))
    close(
        kl_divergence(Bernoulli(p), Bernoulli(on(np.array([0.0, 0.5, 1.0, 1.0])))), np.array([0, np.log(2), np.inf, 0])
    )
    sure = Categorical(on(np.array([0.0, 2.0, 0.0])))
    close(sure.log_prob(on(np.array([0, 1]))), np.array([-np.inf, 0]))
    close(sure.entropy(), np.zeros(()))
    close(kl_divergence(sure, Categorical(on(np.array([0.0, 1.0, 3.0])))), np.array(np.log(4)))
    close(kl_divergence(sure, Categorical(on(np.array([1.0, 0.0, 3.0])))), np.array(np.inf))
    close(Categorical(logits=on(np.array([-np.inf, 0.0, 0.0]))).entropy(), np.array(np.log(2)))
    (x,) = tensors((np.array([0.5, 0.0, 1.5]),))
    assert np.isfinite(tinygen.grad(Categorical(x).entropy(), x).numpy()).all()


def test_logits_far_out():
    """log σ(x) and the entropy keep their digits where σ(x) rounds to 1."""
    x = np.array([-700.0, -40.0, 40.0, 700.0])
    bits = Bernoulli(logits=on(x))
    close(bits.log_prob(on(np.ones(4))), np.array([-700, -40, -np.exp(-40), -np.exp(-700)]), 1e-12, 0)
    small = np.exp(-np.abs(x)) * (1 + np.abs(x))
    close(bits.entropy(), small, 1e-12, 0)


def test_modes_and_numbers_as_parameters():
    close(Bernoulli(on(np.array([0.2, 0.5, 0.9]))).mode, np.array([0.0, 0.0, 1.0]))
    close(Categorical(on(np.array([[1, 3, 2], [4.0, 4, 0]]))).mode, np.array([1, 0]))
    normal = Normal(0.0, 2.0)
    assert normal.batch_shape == () and normal.mean.dtype == np.float32
    assert normal.mode is normal.mean and normal.stddev.item() == 2
    wide = Normal(on(np.zeros((2, 3))), 2.0)
    assert wide.scale.shape == (2, 3) and wide.scale.dtype == np.float64
    assert Bernoulli(0.5).sample(Stream(0)).shape == Categorical(on([1.0, 2.0])).sample(Stream(0)).shape == ()
    assert Bernoulli(0.5).mode.item() == 0


@given(shapes(0, 2), shapes(0, 2), seeds())
def test_shapes_and_dtypes(batch, drawn, seed):
    """A draw is (*shape, *batch_shape), and each has one log-probability."""
    cases = (Normal(on(np.zeros(batch)), 1.0), Bernoulli(on(np.full(batch, 0.3))),
             Categorical(on(np.ones((*batch, 4)))))  # fmt: skip
    for law in cases:
        x = law.sample(Stream(seed), drawn)
        assert law.batch_shape == batch and not x.requires_grad
        assert x.shape == law.log_prob(x).shape == (*drawn, *batch)
        assert law.entropy().shape == kl_divergence(law, law).shape == batch
        assert x.dtype == (np.int64 if isinstance(law, Categorical) else np.float64)
        assert np.array_equal(x.numpy(), law.sample(Stream(seed), drawn).numpy())


# ---------------------------------------------------------------- draws


def test_draws_follow_their_law():
    x = Normal(on(np.array([-1.0, 2.0])), on(np.array([0.5, 3.0]))).sample(Stream(0), (4000,)).numpy()
    for i, law in enumerate((scipy.stats.norm(-1, 0.5), scipy.stats.norm(2, 3))):
        assert scipy.stats.kstest(x[:, i], law.cdf).pvalue > 0.01
    p = np.array([0.1, 0.7, 1.0, 0.0])
    bits = Bernoulli(on(p)).sample(Stream(1), (4000,)).numpy()
    assert scipy.stats.binomtest(int(bits[:, 0].sum()), 4000, 0.1).pvalue > 0.01
    assert scipy.stats.binomtest(int(bits[:, 1].sum()), 4000, 0.7).pvalue > 0.01
    assert bits[:, 2].all() and not bits[:, 3].any()
    p = np.array([[0.0, 1, 2, 5, 0], [3, 0, 0, 3, 4]])
    which = Categorical(on(p)).sample(Stream(2), (4000,)).numpy()
    for i in range(2):
        counts = np.bincount(which[:, i], minlength=5)
        assert not counts[p[i] == 0].any()
        assert scipy.stats.chisquare(counts[p[i] > 0], 4000 * p[i][p[i] > 0] / p[i].sum()).pvalue > 0.01


@given(st.lists(st.sampled_from([0.0, 0.1, 0.7]), min_size=2, max_size=200), st.sampled_from([0.0, 1 - 2**-53]))
def test_the_ends_of_the_unit_interval_draw_what_can_be(p, u):
    """The smallest and the largest uniform number give the first and the last class of positive probability."""

    class Fixed(Stream):
        def uniform(self, shape, low=0.0, high=1.0, dtype="float32"):
            return current().from_host(np.full(shape, u, dtype))

    possible = np.flatnonzero(np.append(p, [0.3, 0.0]))
    drawn = Categorical(on(np.append(p, [0.3, 0.0]), "float32")).sample(Fixed(0)).item()
    assert drawn == possible[-1 if u else 0]


def test_the_gradient_through_a_draw():
    """d E z² = d (μ² + σ²) = (2μ, 2σ)."""
    mu, sigma = tensors((np.array(0.7), np.array(1.3)))
    z = Normal(mu, sigma).rsample(Stream(0), (200_000,))
    g = tinygen.grad((z * z).mean(), [mu, sigma])
    close(g[0], np.array(1.4), atol=0.03)
    close(g[1], np.array(2.6), atol=0.03)
    gradcheck(lambda m, s: Normal(m, s).rsample(Stream(3), (5,)), [mu, sigma], order=2)


# ---------------------------------------------------------------- the mixture


def mixture_inputs(channels, k=2, size=(1, 2)):
    return of_shapes((2, k, *size), *[(2, channels, k, *size)] * (3 if channels == 3 else 2), low=-1.5, high=1.0)


def mixture(levels, logits, means, log_scales, coefficients=None):
    return DiscretizedLogisticMixture(logits, means, log_scales, coefficients, levels)


def log_prob_by_hand(x, levels, logits, means, log_scales, coefficients=None):
    """Pixel by pixel and component by component, as the paper has it."""
    n, k, height, width = logits.shape
    result, step = np.zeros((n, height, width)), 2 / (levels - 1)
    for i, r, c in np.ndindex(n, height, width):
        pixel, total = 2 * x[i, :, r, c] - 1, 0.0
        weights = np.exp(logits[i, :, r, c]) / np.exp(logits[i, :, r, c]).sum()
        for j in range(k):
            mean = means[i, :, j, r, c].copy()
            if coefficients is not None:
                a, b, d = coefficients[i, :, j, r, c]
                mean += [0, a * pixel[0], b * pixel[0] + d * pixel[1]]
            p = weights[j]
            for value, m, s in zip(pixel, mean, np.exp(log_scales[i, :, j, r, c])):
                upper = 1.0 if value > 1 - step / 2 else sigmoid((value + step / 2 - m) / s)
                lower = 0.0 if value < -1 + step / 2 else sigmoid((value - step / 2 - m) / s)
                p *= upper - lower
            total += p
        result[i, r, c] = math.log(total)
    return result


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (1, 2), (2, 5), (3, 4)])
@settings(max_examples=8)
@given(data=st.data())
def test_mixture(channels, levels, data):
    arrays = data.draw(mixture_inputs(channels))
    x = np.random.default_rng(data.draw(seeds())).integers(0, levels, (2, channels, 1, 2)) / (levels - 1)
    row = Row(
        "mixture",
        lambda *given: mixture(levels, *given).log_prob(on(x, given[0].dtype)),
        lambda *given: log_prob_by_hand(x, levels, *given),
        st.nothing(),
        rtol32=1e-4,
    )
    check(row, arrays)


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (2, 6), (3, 4)])
@settings(max_examples=5)
@given(data=st.data())
def test_the_mixture_sums_to_one_over_all_levels(channels, levels, data):
    law = mixture(levels, *map(on, data.draw(mixture_inputs(channels))))
    total = np.zeros((2, 1, 2))
    for pixel in itertools.product(range(levels), repeat=channels):
        image = np.broadcast_to(np.array(pixel).reshape(1, -1, 1, 1) / (levels - 1), (2, channels, 1, 2))
        total += np.exp(law.log_prob(on(image)).numpy())
    close(total, np.ones((2, 1, 2)), 1e-12)


def test_the_mixture_keeps_digits_in_the_tails_and_for_wide_laws():
    """float32, where the difference of two sigmoids would be 0 or have no digits."""
    means, log_scales = np.array([-3.0, 0.9, 0.0]), np.array([-4.0, -7.0, 6.0])
    x = np.array([200, 10, 128]) / 255
    given = [v.reshape(1, 1, 1, 1, 3) for v in (means, log_scales)]
    law = mixture(256, *(on(v, "float32") for v in (np.zeros((1, 1, 1, 3)), *given)))
    s, centre = np.exp(log_scales), 2 * x - 1
    a, b = (centre + 1 / 255 - means) / s, (centre - 1 / 255 - means) / s
    exact = scipy.special.log_expit(a) + scipy.special.log_expit(-b) + np.log(-np.expm1(b - a))
    close(law.log_prob(on(x.reshape(1, 1, 1, 3), "float32")).numpy().ravel(), exact, 2e-6)


def test_draws_of_the_mixture():
    random = np.random.default_rng(0)
    arrays = [random.uniform(-1, 0.5, s) for s in ((1, 2, 1, 1), (1, 3, 2, 1, 1), (1, 3, 2, 1, 1), (1, 3, 2, 1, 1))]
    law = mixture(3, *map(on, arrays))
    x = law.sample(Stream(0), (6000,)).numpy()
    assert x.shape == (6000, 1, 3, 1, 1)
    level = np.rint(x[:, 0, :, 0, 0] * 2).astype(int)
    close(level / 2, x[:, 0, :, 0, 0])
    counts = np.bincount(level @ [9, 3, 1], minlength=27)
    pixels = [np.array(p).reshape(1, 3, 1, 1) / 2 for p in itertools.product(range(3), repeat=3)]
    p = np.array([np.exp(law.log_prob(on(pixel)).item()) for pixel in pixels])
    common = p > 1e-3
    assert counts[~common].sum() <= 6000 * p[~common].sum() + 10
    expected = p[common] * counts[common].sum() / p[common].sum()
    assert scipy.stats.chisquare(counts[common], expected).pvalue > 0.01
    grey = mixture(256, *map(on, (arrays[0], arrays[1][:, :1], arrays[2][:, :1])))
    assert grey.sample(Stream(0)).shape == (1, 1, 1, 1)
    assert grey.sample(Stream(0), (2, 5)).shape == (2, 5, 1, 1, 1, 1)
    drawn = grey.sample(Stream(1), (4000,)).numpy().ravel()
    levels = [np.full((1, 1, 1, 1), i / 255) for i in range(256)]
    cdf = np.cumsum([np.exp(grey.log_prob(on(v)).item()) for v in levels])
    empirical = np.searchsorted(np.sort(drawn), np.arange(256) / 255 + 1e-6) / 4000
    assert np.abs(empirical - cdf).max() < 1.63 / math.sqrt(4000)  # Kolmogorov's 1 %


def test_the_mixture_of_a_networks_output():
    """The order of the authors' code, in which channels are last: (n, h, w, 10 k)."""
    k, out = 3, np.random.default_rng(0).standard_normal((2, 30, 2, 2)) * 5
    law = DiscretizedLogisticMixture.from_network(on(out), 3)
    last = out.transpose(0, 2, 3, 1)
    rest = last[..., k:].reshape(2, 2, 2, 3, 3 * k)
    close(law.logits.numpy().transpose(0, 2, 3, 1), last[..., :k])
    parts = rest[..., :k], np.maximum(rest[..., k : 2 * k], -7), np.tanh(rest[..., 2 * k :])
    for parameter, part in zip((law.means, law.log_scales, law.coefficients), parts):
        close(parameter.numpy().transpose(0, 3, 4, 1, 2), part)
    grey = DiscretizedLogisticMixture.from_network(on(out), 1)
    assert grey.coefficients is None and grey.means.shape == (2, 1, 10, 2, 2)


# ---------------------------------------------------------------- what is refused

ONES = np.ones((2, 3))
GREY = (1, 1, 2, 1, 1)


def of_ones(levels, *sizes):
    return mixture(levels, on(np.ones((1, 2, 1, 1))), *(on(np.ones(size)) for size in sizes))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Normal(on(ONES), on(np.ones((2, 1)))), r"Normal: parameters must have one shape.*scale \(2, 1\)"),
        (lambda: Normal(on(ONES), on(-ONES)).mean.numpy(), "Normal: scale must be > 0, got -1.0"),
        (lambda: Normal(on(ONES), 1.0).log_prob(on(np.ones(3))), r"Normal.log_prob: value must be \(…, \*\(2, 3\)\)"),
        (lambda: Bernoulli(), "Bernoulli: give either probs or logits"),
        (lambda: Categorical(on(ONES), on(ONES)), "Categorical: give either probs or logits"),
        (lambda: Bernoulli(on(1.5 * ONES)).probs.numpy(), r"Bernoulli: probs must be in \[0, 1\], got 1.5"),
        (lambda: Bernoulli(on(ONES)).log_prob(on(ONES / 2)).numpy(), "log_prob: value must be 0 or 1, got 0.5"),
        (lambda: Categorical(on(1.0)), r"Categorical: expected parameters of \(…, classes\), got \(\)"),
        (lambda: Categorical(on(np.zeros(3))).probs.numpy(), "probs must have a sum > 0"),
        (lambda: Categorical(on(-ONES)).probs.numpy(), "probs must be ≥ 0, got -1"),
        (lambda: Categorical(on(ONES)).log_prob(on([0, 3])).numpy(), "value must be in 0 … 2, got 3"),
        (lambda: Categorical(on(ONES)).log_prob(on([0, 1, 2])), r"value must be \(…, \*\(2,\)\)"),
        (lambda: kl_divergence(Normal(0.0, 1.0), Normal(on(ONES), 1.0)), "batch shapes differ"),
        (lambda: kl_divergence(Categorical(on(ONES)), Categorical(on(np.ones((2, 4))))), "p has 3 classes, q has 4"),
        (lambda: DiscretizedLogisticMixture.from_network(on(np.ones((1, 11, 2, 2))), 3),
         r"expected parameters \(n, 10 k, h, w\) for 3 channels, got \(1, 11, 2, 2\)"),
        (lambda: mixture(2, on(ONES), on(ONES), on(ONES)), r"expected logits \(n, k, h, w\)"),
        (lambda: of_ones(2, GREY, (1, 2, 2, 1, 1)), r"log_scales must be \(1, 1, 2, 1, 1\) as logits"),
        (lambda: of_ones(2, GREY, GREY, GREY), "for 3 channels, means have 1"),
        (lambda: of_ones(1, GREY, GREY), "levels must be at least 2, got 1"),
        (lambda: of_ones(3, GREY, GREY).log_prob(on(np.full((1, 1, 1, 1), 0.4))).numpy(),
         "value must be on the grid 0, 1/2, …, 1, got 0.4"),
        (lambda: of_ones(3, GREY, GREY).log_prob(on(np.ones((1, 1, 1, 2)))),
         r"value must be \(1, 1, 1, 1\), got \(1, 1, 1, 2\)"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refusals_of_other_kinds():
    with pytest.raises(TypeError, match="value must hold classes as whole numbers, got float64"):
        Categorical(on(ONES)).log_prob(on(np.ones(2)))
    with pytest.raises(NotImplementedError, match="no closed form is known here for Normal and Bernoulli"):
        kl_divergence(Normal(0.0, 1.0), Bernoulli(0.5))


def test_nothing_waits_for_a_device():
    if current().name != "strict":
        return
    from tinygen.testing.strict import counting

    image, arrays = on(np.zeros((1, 1, 1, 1))), [on(np.zeros(s)) for s in ((1, 2, 1, 1), *[(1, 1, 2, 1, 1)] * 2)]
    half, classes, ones = on(ONES / 2), on(np.ones((2, 4))), on(ONES)
    with counting() as counts:
        Normal(half, 1.0).log_prob(ones)
        Bernoulli(half).log_prob(ones)
        Categorical(classes).log_prob(on([1, 2]))
        Categorical(classes).sample(Stream(0))
        mixture(256, *arrays).log_prob(image)
        mixture(256, *arrays).sample(Stream(0))
    assert counts.to_host == counts.synchronizations == 0
