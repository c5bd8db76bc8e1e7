"""The autoencoder: its equations against SciPy, closed forms, quadrature and enumeration, its update, and its chain."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit, logsumexp, softmax

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.variational import vae


def sigma_points(d):
    """2d points ±√d e_j with mean 0 and covariance I, (2d, 1, d): means over them of quadratics are expectations."""
    return np.concatenate([np.eye(d), -np.eye(d)])[:, None] * math.sqrt(d)


def linear_gaussian(seed, d=2, pixels=4):
    """p(x | z) = N(W z + b, s² I) with orthogonal columns of W, so that the posterior of x is a product of normal laws:
    W, b, s, x (1, pixels), and the posterior's μ and log σ (1, d)."""
    random = np.random.default_rng(seed)
    w = np.linalg.qr(random.normal(size=(pixels, pixels)))[0][:, :d] * random.uniform(0.3, 2, d)
    b, s = random.normal(size=pixels), random.uniform(0.3, 1.5)
    x = random.normal(size=(1, pixels))
    variance = 1 / (1 + (w * w).sum(0) / s**2)
    return w, b, s, x, variance * ((x - b) @ w) / s**2, np.log(variance)[None] / 2


def gaussian_terms(w, b, s, x, mu, log_sigma, epsilon):
    """z, log p(x | z), μ and log σ as tensors, by the plugin's own draw and likelihood."""
    mu, log_sigma, epsilon, w, b, x = tensors((mu, log_sigma, epsilon, w.T, b, x))
    z = vae.reparameterize(mu, log_sigma, epsilon)
    (log_s,) = tensors((np.array([math.log(s)]),))
    return z, vae.log_gaussian(x, z @ w + b, log_s), mu, log_sigma


def evidence(w, b, s, x):
    """log p(x) of the linear model: N(b, W Wᵀ + s² I)."""
    return scipy.stats.multivariate_normal(b, w @ w.T + s**2 * np.eye(len(b))).logpdf(x[0])


# ---------------------------------------------------------------- the draw and the divergence


@verifies(vae.reparameterize)
@given(reals((3, 2), -2, 2), reals((3, 2), -2, 1))
def test_draws_have_the_moments_of_the_posterior_and_the_gradients_of_their_expectations(mu, log_sigma):
    m, s, epsilon = tensors((mu, log_sigma, sigma_points(2)))
    z = vae.reparameterize(m, s, epsilon)
    assert z.shape == (4, 3, 2)
    close(z.mean(0), mu, rtol=1e-9, atol=1e-12)
    close(((z - m) * (z - m)).mean(0), np.exp(log_sigma) ** 2, rtol=1e-9)
    by_mu, by_log_sigma = tinygen.grad((z * z).mean(0).sum(), [m, s])  # E z² = μ² + σ²
    close(by_mu, 2 * mu, rtol=1e-9, atol=1e-12)
    close(by_log_sigma, 2 * np.exp(2 * log_sigma), rtol=1e-9)
    gradcheck(lambda m, s: vae.reparameterize(m, s, epsilon), [m, s], order=2)


@verifies(vae.reparameterize)
@given(seeds(), st.floats(-1, 1), st.floats(-1, 0.5))
def test_the_gradient_of_the_draw_is_that_of_the_score_function_with_less_variance(seed, mu, log_sigma):
    """∂E z²/∂μ by z = μ + σε, and by E[z² ∂log q/∂μ]: one mean, another spread."""
    n = 4000
    epsilon = np.random.default_rng(seed).normal(size=(n, 1, 1))
    m, s, e = tensors((np.full((n, 1), mu), np.full((n, 1), log_sigma), epsilon[:, 0][None]))
    z = vae.reparameterize(m, s, e)
    slopes = host(tinygen.grad((z * z).sum(), m)).ravel()
    drawn = host(z).ravel()
    scores = drawn**2 * (drawn - mu) / math.exp(2 * log_sigma)
    error = math.hypot(slopes.std(), scores.std()) / math.sqrt(n)
    assert abs(slopes.mean() - scores.mean()) < 5 * error
    assert abs(slopes.mean() - 2 * mu) < 5 * slopes.std() / math.sqrt(n) + 1e-12
    assert slopes.std() < scores.std()


@verifies(vae.reparameterize)
@given(seeds())
def test_draws_are_normal(seed):
    epsilon = np.random.default_rng(seed).normal(size=(1, 2000, 1))
    m, s, e = tensors((np.full((2000, 1), 0.7), np.full((2000, 1), -0.4), epsilon))
    drawn = host(vae.reparameterize(m, s, e)).ravel()
    assert scipy.stats.kstest(drawn, scipy.stats.norm(0.7, math.exp(-0.4)).cdf).pvalue > 1e-5


@verifies(vae.kl_to_prior)
@given(reals((2, 3), -3, 3), reals((2, 3), -2, 1.5))
def test_the_divergence_is_that_of_the_definition_by_quadrature(mu, log_sigma):
    def divergence(m, ell):
        def integrand(z):
            u = (z - m) / math.exp(ell)
            return math.exp(-u * u / 2 - ell) / math.sqrt(2 * math.pi) * (z * z / 2 - u * u / 2 - ell)

        return scipy.integrate.quad(integrand, m - 12 * math.exp(ell), m + 12 * math.exp(ell))[0]

    expected = np.vectorize(divergence)(mu, log_sigma).sum(1)  # additive over dimensions
    m, s = tensors((mu, log_sigma))
    close(vae.kl_to_prior(m, s), expected, rtol=1e-6, atol=1e-8)
    assert (expected > 0).all() or not (mu.any() or log_sigma.any())
    gradcheck(vae.kl_to_prior, [m, s], order=2)


@verifies(vae.kl_to_prior)
@given(st.integers(1, 5))
def test_the_divergence_is_0_for_the_prior_alone(d):
    mu, log_sigma = tensors((np.zeros((2, d)), np.zeros((2, d))))
    close(vae.kl_to_prior(mu, log_sigma), np.zeros(2), atol=1e-15)
    slopes = tinygen.grad(vae.kl_to_prior(mu, log_sigma).sum(), [mu, log_sigma])
    for slope in slopes:
        close(slope, np.zeros((2, d)), atol=1e-15)


# ---------------------------------------------------------------- the likelihoods


@verifies(vae.log_bernoulli)
@given(reals((3, 2, 5), -20, 20), seeds())
def test_the_likelihood_of_bits_is_scipys(logits, seed):
    x = np.random.default_rng(seed).integers(0, 2, (2, 5)).astype(float)
    y, a = tensors((x, logits))
    expected = np.where(x == 1, log_expit(logits), log_expit(-logits)).sum(-1)
    assert vae.log_bernoulli(y, a).shape == (3, 2)
    close(vae.log_bernoulli(y, a), expected, rtol=1e-9)
    gradcheck(lambda a: vae.log_bernoulli(y, a), [a], order=2)
    if np.abs(logits).max() < 12:
        close(vae.log_bernoulli(y, a), scipy.stats.bernoulli(expit(logits)).logpmf(x).sum(-1), rtol=1e-6)


@verifies(vae.log_bernoulli)
@given(reals((1, 1, 4), -6, 6))
def test_the_likelihoods_of_all_images_of_four_bits_add_up_to_one(logits):
    x = np.array(list(itertools.product((0.0, 1.0), repeat=4)))  # (16, 4)
    y, a = tensors((x, np.repeat(logits, 16, 1)))
    close(vae.log_bernoulli(y, a).exp().sum(), np.array(1.0), rtol=1e-12)


@verifies(vae.log_bernoulli)
@given(reals((1, 1, 3), -4, 4), reals((1, 3), 0, 1))
def test_of_a_grey_image_it_is_the_expectation_over_its_bits(logits, x):
    y, a = tensors((x, logits))
    bits = np.array(list(itertools.product((0, 1), repeat=3)))
    chances = np.where(bits, x, 1 - x).prod(1)
    each = scipy.stats.bernoulli(expit(logits[0])).logpmf(bits).sum(1)
    close(vae.log_bernoulli(y, a), np.array([[chances @ each]]), rtol=1e-9)


@verifies(vae.log_bernoulli)
@given(st.sampled_from([1e3, -1e4]), st.sampled_from(["float32", "float64"]))
def test_it_stays_finite_for_any_confidence(a, dtype):
    x, logits = tensors((np.array([[0.0, 1.0]]), np.full((1, 1, 2), a)), dtype)
    found = vae.log_bernoulli(x, logits)
    close(found, np.array([[-abs(a)]]), rtol=1e-6)  # one of the two bits is sure to be wrong
    assert np.isfinite(host(tinygen.grad(found.sum(), logits))).all() and found.dtype == dtype


@verifies(vae.log_gaussian)
@given(reals((3, 2, 4), -2, 2), reals((2, 4), -2, 2), st.floats(-2, 1))
def test_the_density_of_grey_levels_is_scipys(mean, x, log_scale):
    y, m, s = tensors((x, mean, np.array([log_scale])))
    expected = scipy.stats.norm(mean, math.exp(log_scale)).logpdf(x).sum(-1)
    assert vae.log_gaussian(y, m, s).shape == (3, 2)
    close(vae.log_gaussian(y, m, s), expected, rtol=1e-9, atol=1e-9)
    gradcheck(lambda m, s: vae.log_gaussian(y, m, s), [m, s], order=2)


@verifies(vae.log_gaussian)
@given(st.floats(-1, 1), st.floats(-1.5, 0.5))
def test_the_density_integrates_to_one(mean, log_scale):
    x = np.linspace(-30, 30, 6001)[:, None]
    y, m, s = tensors((x, np.full((1, 6001, 1), mean), np.array([log_scale])))
    close(scipy.integrate.simpson(host(vae.log_gaussian(y, m, s).exp())[0], x=x[:, 0]), np.array(1.0), rtol=1e-8)


# ---------------------------------------------------------------- the bounds


@verifies(vae.elbo, vae.log_gaussian, vae.kl_to_prior, vae.reparameterize)
@given(seeds())
def test_with_the_true_posterior_the_elbo_is_the_evidence(seed):
    """The whole bound with its constants: any of them off by a factor would show."""
    w, b, s, x, mu, log_sigma = linear_gaussian(seed)
    _, log_likelihood, m, ell = gaussian_terms(w, b, s, x, mu, log_sigma, sigma_points(2))
    bound = vae.elbo(log_likelihood, vae.kl_to_prior(m, ell))
    assert bound.shape == (1,)
    close(bound, np.array([evidence(w, b, s, x)]), rtol=1e-9, atol=1e-9)


@verifies(vae.elbo, vae.log_gaussian, vae.kl_to_prior)
@given(seeds(), reals((1, 2), 0.05, 0.8), reals((1, 2), -0.8, 0.8))
def test_with_another_posterior_it_falls_short_by_the_divergence_from_the_true_one(seed, by, wider):
    w, b, s, x, mu, log_sigma = linear_gaussian(seed)
    _, log_likelihood, m, ell = gaussian_terms(w, b, s, x, mu + by, log_sigma + wider, sigma_points(2))
    bound = host(vae.elbo(log_likelihood, vae.kl_to_prior(m, ell)))
    ratio = np.exp(2 * wider)  # of the variances
    gap = 0.5 * (ratio + by**2 / np.exp(2 * log_sigma) - 1 - 2 * wider).sum()
    close(bound, np.array([evidence(w, b, s, x) - gap]), rtol=1e-8, atol=1e-8)
    assert gap > 0


@verifies(vae.elbo)
@given(reals((3, 2), -9, 0), reals((2,), 0, 9), st.floats(0, 5))
def test_beta_weighs_the_divergence(log_likelihood, divergence, beta):
    like, kl = tensors((log_likelihood, divergence))
    close(vae.elbo(like, kl, beta), [np.average(log_likelihood[:, i]) - beta * divergence[i] for i in range(2)])
    close(vae.elbo(like, kl), vae.elbo(like, kl, 1.0), rtol=1e-15)
    close(vae.elbo(like, kl, 0.0), np.average(log_likelihood, 0), rtol=1e-12)  # a stochastic autoencoder
    slope = (host(vae.elbo(like, kl, beta + 0.5)) - host(vae.elbo(like, kl, beta))) / 0.5
    close(slope, -divergence, rtol=1e-9, atol=1e-9)


@verifies(vae.log_weights)
@given(reals((3, 2), -9, 0), reals((3, 2, 4), -3, 3), reals((2, 4), -2, 2), reals((2, 4), -1.5, 1))
def test_weights_are_the_joint_density_over_the_posteriors(log_likelihood, z, mu, log_sigma):
    like, at, m, s = tensors((log_likelihood, z, mu, log_sigma))
    prior = scipy.stats.norm().logpdf(z).sum(-1)
    posterior = scipy.stats.norm(mu, np.exp(log_sigma)).logpdf(z).sum(-1)
    assert vae.log_weights(like, at, m, s).shape == (3, 2)
    close(vae.log_weights(like, at, m, s), log_likelihood + prior - posterior, rtol=1e-9, atol=1e-9)
    gradcheck(vae.log_weights, [like, at, m, s], order=2)


@verifies(vae.log_weights, vae.importance_bound)
@given(seeds())
def test_with_the_true_posterior_every_weight_is_the_evidence(seed):
    w, b, s, x, mu, log_sigma = linear_gaussian(seed)
    epsilon = np.random.default_rng(seed).normal(size=(7, 1, 2))
    z, log_likelihood, m, ell = gaussian_terms(w, b, s, x, mu, log_sigma, epsilon)
    log_w = vae.log_weights(log_likelihood, z, m, ell)
    close(log_w, np.full((7, 1), evidence(w, b, s, x)), rtol=1e-8, atol=1e-8)
    close(vae.importance_bound(log_w), np.array([evidence(w, b, s, x)]), rtol=1e-8, atol=1e-8)


@verifies(vae.importance_bound)
@given(reals((5, 2), -30, 30), st.permutations(range(5)))
def test_the_importance_weighted_bound_and_its_gradient_are_scipys(log_w, order):
    (w,) = tensors((log_w,))
    bound = vae.importance_bound(w)
    assert bound.shape == (2,)
    close(bound, logsumexp(log_w, axis=0, b=1 / 5), rtol=1e-9, atol=1e-9)
    close(tinygen.grad(bound.sum(), w), softmax(log_w, axis=0), rtol=1e-9, atol=1e-12)
    close(vae.importance_bound(tensors((log_w[list(order)],))[0]), host(bound), rtol=1e-12, atol=1e-12)
    close(vae.importance_bound(tensors((log_w[:1],))[0]), log_w[0], rtol=1e-12)  # k = 1: an estimate of the ELBO


@verifies(vae.importance_bound)
@given(reals((5, 1), -6, 6), st.integers(1, 4))
def test_fewer_draws_never_bound_better(log_w, m):
    """L_k of the draws is at least the mean of L_m over all m of them (Burda et al., Theorem 1)."""
    whole = host(vae.importance_bound(tensors((log_w,))[0]))[0]
    parts = [
        host(vae.importance_bound(tensors((log_w[list(some)],))[0]))[0] for some in itertools.combinations(range(5), m)
    ]
    assert np.mean(parts) <= whole + 1e-9
    assert whole <= log_w.max() + 1e-9


@verifies(vae.importance_bound, vae.log_weights)
@given(seeds())
def test_the_bound_rises_with_k_to_the_evidence(seed):
    w, b, s, x, mu, log_sigma = linear_gaussian(seed)
    epsilon = np.random.default_rng(seed).normal(size=(4000, 1, 2))
    z, log_likelihood, m, ell = gaussian_terms(w, b, s, x, mu + 0.3, log_sigma + 0.3, epsilon)
    log_w = host(vae.log_weights(log_likelihood, z, m, ell))[:, 0]
    means = [
        host(vae.importance_bound(tensors((log_w.reshape(k, -1),))[0])).mean() for k in (1, 5, 50, 4000)
    ]  # of the same draws, in groups of k
    assert means[0] < means[1] < means[2] < means[3] + 1e-12
    ratio = np.exp(log_w - evidence(w, b, s, x))  # its mean is 1
    assert abs(math.expm1(means[3] - evidence(w, b, s, x))) < 5 * ratio.std() / math.sqrt(4000)


# ---------------------------------------------------------------- the chain and the walk


@verifies(vae.impute)
@given(reals((2, 1, 3, 4), 0, 1), reals((2, 1, 3, 4), 0, 1), st.lists(st.booleans(), min_size=12, max_size=12))
def test_known_pixels_stay_and_missing_ones_are_drawn(x, drawn, missing):
    mask = np.array(missing).reshape(3, 4)
    expected = x.copy()
    for row, column in zip(*np.nonzero(mask)):
        expected[:, :, row, column] = drawn[:, :, row, column]
    y, d = tensors((x, drawn))
    assert np.array_equal(host(vae.impute(y, d, library.current().from_host(mask))), expected)


@verifies(vae.impute, vae.reparameterize)
@given(seeds())
def test_the_chain_draws_missing_pixels_from_their_law_given_the_known_ones(seed):
    """With the true posterior it is a Gibbs sampler: many chains on a linear model, and the conditional normal law."""
    w, b, s, x, *_ = linear_gaussian(seed)
    s, n, missing = max(s, 0.6), 2000, np.array([False, True, False, True])
    variance = 1 / (1 + (w * w).sum(0) / s**2)
    random = np.random.default_rng(seed)
    state = np.where(missing, random.uniform(size=(n, 4)), x)
    for _ in range(40):
        mu = variance * ((state - b) @ w) / s**2
        m, ell, e = tensors((mu, np.full((n, 2), 0.5) * np.log(variance), random.normal(size=(1, n, 2))))
        z = host(vae.reparameterize(m, ell, e))[0]
        drawn, before = tensors(((z @ w.T + b + s * random.normal(size=(n, 4))), state))
        state = host(vae.impute(before, drawn, library.current().from_host(missing)))
    law = w @ w.T + s**2 * np.eye(4)
    gain = law[np.ix_(missing, ~missing)] @ np.linalg.inv(law[np.ix_(~missing, ~missing)])
    mean = b[missing] + gain @ (x[0] - b)[~missing]
    spread = law[np.ix_(missing, missing)] - gain @ law[np.ix_(~missing, missing)]
    found = state[:, missing]
    assert (np.abs(found.mean(0) - mean) < 5 * np.sqrt(np.diag(spread) / n)).all()
    assert np.abs(np.cov(found.T) - spread).max() < 8 * spread.max() / math.sqrt(n)
    assert np.array_equal(state[:, ~missing], np.repeat(x[:, ~missing], n, 0))


@verifies(vae.latent_circle)
@given(seeds(), st.floats(-7, 7))
def test_the_walk_is_a_rotation_that_keeps_the_prior(seed, angle):
    random = np.random.default_rng(seed)
    ends = random.normal(size=(2, 1500, 3))
    z0, z1, theta = tensors((ends[0], ends[1], np.array([0.0, angle, angle + 2 * math.pi, math.pi / 2])))
    z = host(vae.latent_circle(z0, z1, theta))
    assert z.shape == (1500, 4, 3)
    close(z[:, 0], ends[0], rtol=1e-12)
    close(z[:, 3], ends[1], rtol=1e-12, atol=1e-12)
    close(z[:, 1], z[:, 2], rtol=1e-9, atol=1e-9)
    turned = (ends[0] + 1j * ends[1]) * np.exp(-1j * angle)
    close(z[:, 1], turned.real, rtol=1e-9, atol=1e-9)
    assert scipy.stats.kstest(z[:, 1].ravel(), "norm").pvalue > 1e-5


# ---------------------------------------------------------------- the algorithm

SMALL = {"batch_size": 6, "latent": 2, "hidden": 5, "repair_steps": 3, "draws": 7}
DATA = DataSpec(name="bits", channels=1, height=4, width=8, count=40)
KINDS = [
    {}, {"decoder": "gaussian"}, {"network": "conv", "channels": 2}, {"samples": 4}, {"layers": 1, "beta": 2.0},
    {"network": "conv", "channels": 2, "decoder": "gaussian", "samples": 3},
]  # fmt: skip


def model(options=None, seed=0, data=DATA):
    return vae.VAE(vae.Config(**SMALL | (options or {})), data, Stream(seed, "vae"))


def pixels(n=40, seed=0, shape=(1, 4, 8)):
    return np.random.default_rng(seed).integers(0, 2, (n, *shape)).astype(np.uint8) * np.uint8(255)


def batches(size=6, seed=0):
    return Batches(ArrayImages(pixels()), size, Stream(seed, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import variational

    (spec,) = variational.tinygen_algorithms()
    assert set(spec.verbs) == set(verbs_of(vae.VAE))


@pytest.mark.parametrize("options", KINDS)
def test_an_update_reaches_every_parameter_and_lets_the_average_follow(options):
    ours = model(options)
    before, average = ours.model.state_dict(), ours.averaged.state_dict()
    figures = ours.update(next(batches()).images)
    assert set(figures) == {"loss", "log_likelihood", "kl"} and all(f.shape == () for f in figures.values())
    after, followed = ours.model.state_dict(), ours.averaged.state_dict()
    for name, parameter in ours.model.named_parameters():
        assert np.abs(parameter.grad.numpy()).max() > 0, f"{name} gets no gradient"
        assert after[name].dtype == np.float32
        close(followed[name], 0.1 * average[name] + 0.9 * after[name], rtol=1e-5, atol=1e-7)
        assert not np.array_equal(before[name], after[name])


def test_the_average_grows_older_up_to_its_decay():
    decays = []
    for average in (0.3, 0.999):
        ours, data = model({"average": average}), batches()
        for _ in range(5):
            ours.update(next(data).images)
            decays.append(ours.average.decay)
    close(np.array(decays), [0.1, 2 / 11, 0.25, 0.3, 0.3, 0.1, 2 / 11, 0.25, 4 / 13, 5 / 14])


@pytest.mark.parametrize("options", KINDS)
def test_the_loss_is_minus_the_bound_by_numpy(options):
    """Pixels and latent dimensions are summed, images averaged: a mean in the place of a sum would show."""
    ours = model(options)
    x = next(batches()).images
    k = options.get("samples", 1)
    epsilon = host(Stream(0, "vae").child("noise").normal((k, 6, 2))).astype(float)
    mu, ell = (host(part).astype(float) for part in ours.model.encoder(x))
    z = mu + np.exp(ell) * epsilon
    a = host(ours.model.decoder(tensors((z.reshape(k * 6, 2),), "float32")[0])).astype(float).reshape(k, 6, 32)
    flat = host(x).reshape(6, 32)
    if options.get("decoder") == "gaussian":
        like = scipy.stats.norm(expit(a), math.exp(-1)).logpdf(flat).sum(-1)
    else:
        like = scipy.stats.bernoulli(expit(a)).logpmf(flat).sum(-1)
    ratio = scipy.stats.norm().logpdf(z).sum(-1) - scipy.stats.norm(mu, np.exp(ell)).logpdf(z).sum(-1)
    kl = 0.5 * (mu**2 + np.exp(2 * ell) - 1 - 2 * ell).sum(-1)
    bound = logsumexp(like + ratio, axis=0) - math.log(k) if k > 1 else like[0] - options.get("beta", 1.0) * kl
    figures = ours.update(x)
    close(figures["loss"], np.array(-bound.mean()), rtol=1e-4)
    close(figures["log_likelihood"], np.array(like.mean()), rtol=1e-4)
    close(figures["kl"], np.array(kl.mean()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_the_loss_by_every_parameter_against_finite_differences(options):
    ours = model(options)
    for parameter in ours.model.parameters():
        parameter.data = parameter.data.astype("float64")
    x, epsilon = tensors((pixels(3) / 255.0, np.random.default_rng(1).normal(size=(options.get("samples", 1), 3, 2))))
    names = [name for name, _ in ours.model.named_parameters()]

    def loss(*values):
        for name, value in zip(names, values):
            *path, last = name.split(".")
            module = ours.model
            for part in path:
                module = getattr(module, part)
            object.__setattr__(module, last, value)
        mu, ell = ours.model.encoder(x)
        z = vae.reparameterize(mu, ell, epsilon)
        like = ours.model.log_likelihood(x, z)
        if "samples" in options:
            return -vae.importance_bound(vae.log_weights(like, z, mu, ell)).mean()
        return -vae.elbo(like, vae.kl_to_prior(mu, ell), ours.config.beta).mean()

    gradcheck(loss, list(ours.model.parameters()), rtol=1e-4)


def test_gradients_of_the_step_before_do_not_count():
    states = []
    for left_over in (False, True):
        ours = model()
        if left_over:
            for parameter in ours.model.parameters():
                parameter.grad = tinygen.full(parameter.shape, 100.0)
        next(ours.fit(batches()))
        states.append(ours.model.state_dict())
    for name, array in states[0].items():
        assert np.array_equal(array, states[1][name]), name


@given(seeds(), st.sampled_from(KINDS))
def test_samples_repeat_by_seed_lie_in_the_unit_range_and_do_not_see_each_other(seed, options):
    ours = model(options)
    images = host(ours.sample(5, Stream(seed, "s")))
    assert images.shape == (5, 1, 4, 8) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, host(ours.sample(5, Stream(seed, "s"))))
    assert not np.array_equal(images, host(ours.sample(5, Stream(seed + 1, "s"))))
    close(ours.sample(1, Stream(seed, "s")), images[:1], rtol=1e-5, atol=1e-6)  # n = 1 is the first of n = 5


def test_walks_end_where_they_began_and_move_little_at_a_time():
    films = host(model().animate(50, 2, Stream(0, "w")))
    assert films.shape == (2, 50, 1, 4, 8) and films.dtype == np.float32 and films.min() >= 0 and films.max() <= 1
    steps = np.abs(films - np.roll(films, 1, 1)).max((2, 3, 4))  # from the last frame on to the first, too
    assert 0 < steps.max() < 0.2 * np.ptp(films, axis=1).max()
    assert np.array_equal(films, host(model().animate(50, 2, Stream(0, "w"))))


@given(seeds(), st.sampled_from(KINDS))
def test_repair_keeps_what_is_known_and_does_not_see_what_is_not(seed, options):
    ours, random = model(options | {"repair_steps": 1}), np.random.default_rng(seed)
    image, missing = random.random((1, 4, 8), np.float32), random.random((4, 8)) < 0.4
    mask = tinygen.tensor(missing.astype(np.float32))
    fixed = host(ours.repair(tinygen.tensor(image), mask, Stream(seed, "r")))
    assert fixed.shape == image.shape and fixed.dtype == np.float32
    assert np.array_equal(fixed[:, ~missing], image[:, ~missing])
    assert fixed.min() >= 0 and fixed.max() <= 1
    other = np.where(missing, np.float32(0.25), image)
    assert np.array_equal(fixed, host(ours.repair(tinygen.tensor(other), mask, Stream(seed, "r"))))
    again = host(ours.repair(tinygen.tensor(image), mask, Stream(seed + 1, "r")))
    assert not missing.any() or not np.array_equal(fixed, again)
    whole = host(ours.repair(tinygen.tensor(image), None, Stream(seed, "r")))
    mu, _ = ours.averaged.encoder(tinygen.tensor(image[None]))
    close(whole, host(ours.mean_image(mu))[0], rtol=1e-6)


def test_the_decoders_draws_have_its_law():
    for options, spread in (({}, 0.21), ({"decoder": "gaussian"}, math.exp(-2))):
        ours = model(options)
        mean = tinygen.full((4000, 1, 4, 8), 0.3)
        drawn = host(ours.draw_image(mean, Stream(0, "d")))
        assert drawn.dtype == np.float32
        close(drawn.mean(0), np.full((1, 4, 8), 0.3), atol=5 * math.sqrt(spread / 4000))
        close(drawn.var(0), np.full((1, 4, 8), spread), atol=0.1 * spread)


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        ours = model({"samples": 2})
        fit = ours.fit(batches())
        next(fit), next(fit)
        assert all(p.backend is library.current() for p in ours.model.parameters())
        return ours.model.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- learning, and figures

FOUR = DataSpec(name="four", channels=1, height=2, width=2, count=64)


def four_bits(n=64, seed=0):
    """Images of four bits that tend to be equal in a row."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 2, (n, 1, 2, 1)) ^ (random.random((n, 1, 2, 2)) < 0.1)
    return rows.astype(np.uint8) * np.uint8(255)


def by_quadrature(ours, x):
    """log p(x) and the ELBO of images (n, 1, 2, 2), by sums over a fine grid of the one latent dimension."""
    z = np.linspace(-8, 8, 4001)
    a = host(ours.averaged.decoder(tinygen.tensor(z[:, None].astype(np.float32)))).astype(float)
    mu, ell = (host(part).astype(float).ravel() for part in ours.averaged.encoder(tinygen.tensor(x)))
    log_p, bounds = [], []
    for image, m, sigma in zip(x.reshape(len(x), 4), mu, np.exp(ell)):
        like = np.where(image == 1, log_expit(a), log_expit(-a)).sum(1)
        log_p.append(np.log(scipy.integrate.simpson(np.exp(like) * scipy.stats.norm.pdf(z), x=z)))
        q = scipy.stats.norm(m, sigma)
        integrand = q.pdf(z) * (like + scipy.stats.norm.logpdf(z) - q.logpdf(z))
        bounds.append(scipy.integrate.simpson(integrand, x=z))
    return np.array(log_p), np.array(bounds)


@pytest.mark.parametrize("samples", [1, 5])
def test_it_learns_and_evaluates_to_the_figures_of_quadrature(samples):
    """Log p by importance sampling and the ELBO, of all images of four bits, against integrals over z."""
    options = {"latent": 1, "hidden": 12, "layers": 1, "lr": 1e-2, "average": 0.9, "draws": 2000, "batch_size": 32}
    ours = model(options | {"samples": samples}, data=FOUR)
    fit = ours.fit(Batches(ArrayImages(four_bits()), 32, Stream(0, "batches")))
    first = next(fit).metrics["loss"].item()
    losses = [next(fit).metrics["loss"].item() for _ in range(150)]
    assert np.mean(losses[-50:]) < first - 0.15
    every = np.array(list(itertools.product((0, 255), repeat=4)), np.uint8).reshape(16, 1, 2, 2)
    sets = {"train": ArrayImages(four_bits()), "test": ArrayImages(every)}
    figures = ours.evaluate(Dataset("four", sets, (1, 2, 2)), Stream(0, "e"))
    log_p, bounds = by_quadrature(ours, every / np.float32(255))
    close(np.exp(log_p).sum(), np.array(1.0), rtol=1e-4)  # a distribution over all images
    assert (bounds < log_p).all()
    close(figures["log_p"], np.array(log_p.mean()), atol=0.02)
    close(figures["elbo"], np.array(bounds.mean()), atol=0.03)
    close(figures["standard_error"], np.array(scipy.stats.sem(log_p)), rtol=0.02)
    assert figures["draws"] == 2000 and figures["test_images"] == 16


def test_evaluating_in_pieces_gives_the_same_figures(monkeypatch):
    sets = {"train": ArrayImages(pixels()), "test": ArrayImages(pixels(9, 5))}
    data = Dataset("bits", sets, (1, 4, 8))
    for options in ({"draws": 2000}, {"draws": 2000, "decoder": "gaussian"}):
        whole = model(options).evaluate(data, Stream(0, "e"))
        with monkeypatch.context() as patch:
            patch.setattr(vae, "AT_A_TIME", 3000)
            parts = model(options).evaluate(data, Stream(1, "e"))
        for name in ("elbo", "log_p"):
            close(parts[name], np.array(whole[name]), atol=0.05)


def test_a_part_of_the_test_images_is_taken_from_all_over_the_split():
    def figures(images, **options):
        sets = {"train": ArrayImages(pixels()), "test": ArrayImages(images)}
        return model(options).evaluate(Dataset("bits", sets, (1, 4, 8)), Stream(0, "e"))

    test = pixels(9, 5)
    few = figures(test, test_images=3)
    assert few == figures(test[[0, 3, 6]]) and few["test_images"] == 3 and few["draws"] == 7
    assert figures(test, test_images=10) == figures(test)


def test_options_are_checked():
    for options, message in (
        ({"latent": 0}, "latent must be from 1 to"),
        ({"lr": 0.0}, "lr must be from"),
        ({"beta": -1.0}, "beta must be from 0.0"),
        ({"average": 1.0}, "average must be from 0.0 to 0.999999"),
        ({"network": "cnn"}, "network must be one of mlp, conv, got cnn"),
        ({"decoder": "laplace"}, "decoder must be one of bernoulli, gaussian"),
        ({"samples": 5, "beta": 4.0}, "the importance-weighted bound has no beta"),
    ):
        with pytest.raises(UsageError, match=message):
            vae.Config(**options)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"conv halves images twice, odd has 6 × 7 pixels"):
        model({"network": "conv"}, data=DataSpec(name="odd", channels=1, height=6, width=7, count=1))
    with pytest.raises(UsageError, match=r"trained on images of \(1, 4, 8\), this one is \(3, 4, 8\)"):
        model().repair(tinygen.zeros(3, 4, 8), None, Stream(0, "r"))
