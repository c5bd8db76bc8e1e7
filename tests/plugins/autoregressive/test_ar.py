"""Autoregression: over time against SciPy's Toeplitz solver, Gaussian, roots and quadrature; over pictures, exactly."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import backend as library
from tinygen.autograd import tensor
from tinygen.data import ArrayImages, Batches, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import seeds
from tinygen_plugins.autoregressive import ar

weights = hnp.arrays(np.float64, st.integers(1, 4), elements=st.floats(-1.2, 1.2).map(lambda v: round(v, 3)))


@st.composite
def processes(draw, low=1, high=4):
    """φ of a stationary process, from the roots of z^p − Σφ_i z^(p−i), which lie within the circle; and s²."""
    p = draw(st.integers(low, high))
    roots = []
    while len(roots) < p:
        size = draw(st.floats(0.05, 0.9))
        if p - len(roots) > 1 and draw(st.booleans()):
            root = size * np.exp(1j * draw(st.floats(0.1, 3.0)))
            roots += [root, root.conjugate()]
        else:
            roots.append(size * draw(st.sampled_from([-1, 1])))
    return -np.poly(roots)[1:].real, draw(st.floats(0.2, 3))


def acf(phi, variance, count):
    """γ_0, …, γ_(count−1), exactly: the state's covariance solves G = C G Cᵀ + Q, and the rest follows φ."""
    p = len(phi)
    state = np.vstack([phi, np.eye(p)[: p - 1]])
    noise = np.zeros((p, p))
    noise[0, 0] = variance
    gamma = list(scipy.linalg.solve_discrete_lyapunov(state, noise)[0])
    while len(gamma) < count:
        gamma.append(sum(phi[i] * gamma[-1 - i] for i in range(p)))
    return np.array(gamma[:count])


def drawn(phi, variance, count, length, seed):
    """Sequences (count, length) of the process, by the Cholesky factor of its Toeplitz matrix."""
    root = np.linalg.cholesky(scipy.linalg.toeplitz(acf(phi, variance, length)))
    return np.random.default_rng(seed).normal(size=(count, length)) @ root.T


def place(array):
    return library.current().from_host(np.asarray(array))


# ---------------------------------------------------------------- sequences


@verifies(ar.autocovariance)
@given(seeds(), st.integers(1, 4), st.integers(0, 4))
def test_autocovariances_are_sums_of_lagged_products(seed, count, order):
    x = np.random.default_rng(seed).normal(size=(count, 6))
    expected = [
        sum(x[n, t] * x[n, t - k] for n in range(count) for t in range(k, 6)) / 6 / count for k in range(order + 1)
    ]
    gamma = ar.autocovariance(tensor(x.T @ x), count, order)
    close(gamma, np.array(expected), rtol=1e-9, atol=1e-12)
    assert np.linalg.eigvalsh(scipy.linalg.toeplitz(host(gamma))).min() > -1e-12


@verifies(ar.levinson_durbin, ar.longer)
@given(processes())
def test_yule_and_walker_recover_the_process_from_its_exact_autocovariances(process):
    phi, variance = process
    kappa, s2 = ar.levinson_durbin(tensor(acf(phi, variance, len(phi) + 1)))
    close(ar.predictors(kappa)[-1], phi, rtol=1e-6, atol=1e-8)
    close(s2, np.array(variance), rtol=1e-6)


@verifies(ar.levinson_durbin, ar.longer)
@given(processes(), st.integers(1, 6))
def test_the_recursion_solves_the_toeplitz_system(process, order):
    gamma = acf(*process, order + 1)
    expected = scipy.linalg.solve_toeplitz(gamma[:-1], gamma[1:])
    kappa, s2 = ar.levinson_durbin(tensor(gamma))
    close(ar.predictors(kappa)[-1], expected, rtol=1e-5, atol=1e-7)
    close(s2, np.array(gamma[0] - expected @ gamma[1:]), rtol=1e-6, atol=1e-9)
    for m in range(1, order + 1):  # κ_m is the last weight of the best predictor from m values
        close(kappa[m - 1], scipy.linalg.solve_toeplitz(gamma[:m], gamma[1 : m + 1])[-1], rtol=1e-5, atol=1e-7)


@verifies(ar.levinson_durbin)
@given(processes(high=3))
def test_partial_autocorrelations_beyond_the_order_are_zero(process):
    phi, variance = process
    kappa, _ = ar.levinson_durbin(tensor(acf(phi, variance, len(phi) + 5)))
    close(kappa[len(phi) :], np.zeros(4), atol=1e-6)
    close(kappa[len(phi) - 1], phi[-1], rtol=1e-5, atol=1e-8)


@verifies(ar.levinson_durbin, ar.draw_sequence)
@given(st.floats(-0.95, 0.95), st.floats(0.1, 4))
def test_of_first_order_it_is_known_in_closed_form(phi, variance):
    assume(abs(phi) > 1e-3)
    gamma = variance * phi ** np.arange(4) / (1 - phi**2)
    kappa, s2 = ar.levinson_durbin(tensor(gamma))
    close(kappa, np.array([phi, 0, 0]), rtol=1e-8, atol=1e-9)
    close(s2, np.array(variance), rtol=1e-8)
    columns = host(ar.draw_sequence(kappa[:1], tensor(np.eye(4))))  # x = R ε, so that R Rᵀ is the covariance
    close(columns @ columns.T, scipy.linalg.toeplitz(phi ** np.arange(4)), rtol=1e-8, atol=1e-9)


@verifies(ar.reflections, ar.longer)
@given(hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-0.9, 0.9)))
def test_reflections_go_there_and_back(kappa):
    (k,) = tensors((kappa,))
    close(ar.reflections(ar.predictors(k)[-1]), kappa, rtol=1e-5, atol=1e-7)
    gradcheck(lambda a: ar.predictors(a)[-1], [k])


@verifies(ar.companion, ar.reflections)
@given(weights)
def test_stationary_means_eigenvalues_within_and_roots_outside_the_circle(phi):
    radius = np.abs(np.linalg.eigvals(host(ar.companion(tensor(phi))))).max()
    roots = np.roots(np.append(-phi[::-1], 1.0))  # of 1 − Σφ_i zⁱ, the highest power first
    assume(abs(radius - 1) > 1e-3 and phi[-1])
    assert (radius < 1) == bool((np.abs(roots) > 1).all())
    kappa = host(ar.reflections(tensor(phi)))
    assert (radius < 1) == bool((np.abs(kappa) < 1).all())
    if len(roots):
        close(radius, np.array(1 / np.abs(roots).min()), rtol=1e-6)


@verifies(ar.spectrum)
@given(processes())
@settings(max_examples=10)
def test_the_spectrum_integrates_to_the_autocovariances(process):
    phi, variance = process

    def density(omega):
        return host(ar.spectrum(tensor(phi), tensor(np.array(variance)), tensor(np.array([omega])))).item()

    gamma = acf(phi, variance, 3)
    for k in range(3):
        value, _ = scipy.integrate.quad(
            lambda w, k=k: 2 * density(w) * math.cos(k * w), 0, math.pi, epsabs=1e-9, limit=200
        )
        close(value, np.array(gamma[k]), rtol=1e-6, atol=1e-7)


@verifies(ar.spectrum)
@given(processes(), st.floats(-3.1, 3.1))
def test_the_spectrum_is_what_the_complex_formula_says(process, omega):
    phi, variance = process
    transfer = 1 - sum(phi[k] * np.exp(-1j * omega * (k + 1)) for k in range(len(phi)))
    got = ar.spectrum(tensor(phi), tensor(np.array(variance)), tensor(np.array([omega])))
    close(got, np.array([variance / (2 * math.pi * abs(transfer) ** 2)]), rtol=1e-9)


@verifies(ar.log_likelihood)
@given(processes(), seeds(), st.integers(1, 3), st.integers(0, 5))
def test_the_likelihood_is_that_of_the_toeplitz_gaussian(process, seed, count, more):
    phi, variance = process
    length = len(phi) + 1 + more
    x = np.random.default_rng(seed).normal(size=(count, length))
    law = scipy.stats.multivariate_normal(np.zeros(length), scipy.linalg.toeplitz(acf(phi, variance, length)))
    kappa = ar.reflections(tensor(phi))
    got = ar.log_likelihood(tensor(x.T @ x), count, kappa, tensor(np.array(variance)))
    close(got, np.array(np.sum(law.logpdf(x))), rtol=1e-6)


@verifies(ar.log_likelihood)
@given(processes(), seeds())
@settings(max_examples=10)
def test_the_likelihood_by_its_parameters_against_finite_differences(process, seed):
    phi, variance = process
    x = np.random.default_rng(seed).normal(size=(2, 7))
    kappa, s2 = tensors((host(ar.reflections(tensor(phi))), np.array(variance)))
    gradcheck(lambda k, v: ar.log_likelihood(tensor(x.T @ x), 2, k, v), [kappa, s2], rtol=1e-4)


@verifies(ar.log_likelihood)
@given(processes(high=2), seeds())
@settings(max_examples=5)
def test_the_most_likely_process_is_found(process, seed):
    """No slope is left, and none of those near it is likelier, by SciPy's Gaussian."""
    x = drawn(*process, 3, 30, seed)
    order = len(process[0])
    kappa, s2 = ar.most_likely(tensor(x.T @ x), 3, order)
    phi, variance = host(ar.predictors(kappa)[-1]), host(s2).item()

    def score(phi, variance):
        gamma = acf(phi, variance, 30)
        return scipy.stats.multivariate_normal(np.zeros(30), scipy.linalg.toeplitz(gamma)).logpdf(x).sum()

    best = score(phi, variance)
    close(ar.log_likelihood(tensor(x.T @ x), 3, kappa, s2), np.array(best), rtol=1e-7)
    for step in np.vstack([np.eye(order), -np.eye(order)]) * 3e-3:
        assert score(phi + step, variance) < best
    assert max(score(phi, variance * 1.01), score(phi, variance * 0.99)) < best


@verifies(ar.least_squares)
@given(seeds(), st.integers(1, 3), st.integers(1, 3))
def test_least_squares_is_a_regression_on_the_values_before(seed, count, order):
    x = np.random.default_rng(seed).normal(size=(count, 12))
    rows = [x[n, t - order : t][::-1] for n in range(count) for t in range(order, 12)]
    after = np.array([x[n, t] for n in range(count) for t in range(order, 12)])
    expected, residual, *_ = np.linalg.lstsq(np.array(rows), after, rcond=None)
    phi, s2 = ar.least_squares(tensor(x.T @ x), count, order)
    close(phi, expected, rtol=1e-7, atol=1e-9)
    close(s2, residual[0] / len(after), rtol=1e-7)


@verifies(ar.least_squares, ar.autocovariance, ar.levinson_durbin, ar.log_likelihood)
@pytest.mark.parametrize("estimator", ["yule-walker", "least-squares", "likelihood"])
def test_each_estimator_recovers_the_process_from_many_sequences(estimator):
    phi, variance = np.array([1.1, -0.6]), 0.5
    x = drawn(phi, variance, 400, 60, 0)
    s = tensor(x.T @ x)
    if estimator == "least-squares":
        found, s2 = ar.least_squares(s, 400, 2)
    else:
        yule = ar.levinson_durbin(ar.autocovariance(s, 400, 2))
        kappa, s2 = ar.most_likely(s, 400, 2) if estimator == "likelihood" else yule
        found = ar.predictors(kappa)[-1]
    bias = 0.05 if estimator == "yule-walker" else 0.02  # γ̂ divides by T: its φ is drawn to 0 by p/T
    assert np.abs(host(found) - phi).max() < bias
    assert abs(host(s2).item() - variance) < 2 * bias


@verifies(ar.draw_sequence)
@given(processes(), st.integers(1, 7))
def test_sequences_are_stationary_from_the_first_value_on(process, length):
    """The draw is linear in its noise, x = R ε: then R Rᵀ is the covariance, here exactly the Toeplitz matrix."""
    phi, variance = process
    kappa = ar.reflections(tensor(phi))
    root = host(ar.draw_sequence(kappa, tensor(np.eye(length))))
    gamma = acf(phi, variance, length)
    close(root @ root.T, scipy.linalg.toeplitz(gamma / gamma[0]), rtol=1e-6, atol=1e-8)
    close(np.triu(root, 1), np.zeros((length, length)))


# ---------------------------------------------------------------- textures


@verifies(ar.neighbours)
@given(seeds(), st.integers(1, 3), st.sampled_from([1, 3]))
def test_neighbours_are_the_pixels_read_before(seed, reach, channels):
    n, h, w = 2, reach + 2, 2 * reach + 3
    x = np.random.default_rng(seed).normal(size=(n, channels, h, w))
    got = host(ar.neighbours(place(x), reach))
    assert got.shape == (n, h - reach, w - 2 * reach, (2 * reach**2 + 2 * reach) * channels)
    for a, i, j in np.ndindex(n, h - reach, w - 2 * reach):
        y, z = i + reach, j + reach
        window = [(u, v) for u in range(y - reach, y + 1) for v in range(z - reach, z + reach + 1) if (u, v) < (y, z)]
        close(got[a, i, j], np.concatenate([x[a, :, u, v] for u, v in window]))


def products_of(x, reach):
    """Of (1, neighbours, pixel) with each other, by NumPy."""
    before = host(ar.neighbours(place(x), reach))
    pixels = x[:, :, reach:, reach:-reach].transpose(0, 2, 3, 1)
    rows = np.concatenate([np.ones((*before.shape[:3], 1)), before, pixels], 3).reshape(
        -1, before.shape[3] + 1 + x.shape[1]
    )
    return rows, rows.T @ rows


@verifies(ar.fit_texture)
@given(seeds(), st.sampled_from([1, 3]))
def test_the_texture_is_a_regression_on_the_neighbours(seed, channels):
    x = np.random.default_rng(seed).normal(size=(2, channels, 9, 11))
    rows, products = products_of(x, 1)
    u, y = rows[:, :-channels], rows[:, -channels:]
    expected = np.linalg.lstsq(u, y, rcond=None)[0]
    got, sigma = (host(a) for a in ar.fit_texture(place(products), channels))
    close(got, expected, rtol=1e-4, atol=1e-4)  # the ridge is 10⁻⁶ of the mean square
    residual = y - u @ expected
    close(sigma, residual.T @ residual / len(u), rtol=1e-4, atol=1e-6)


@verifies(ar.draw_texture)
@given(seeds(), st.sampled_from([1, 3]), st.integers(1, 2))
@settings(max_examples=10)
def test_a_texture_leaves_the_noise_that_it_was_made_of(seed, channels, reach):
    """Take the prediction from the neighbours off a drawn picture: what is left is c + Σ^½ ε."""
    random = np.random.default_rng(seed)
    k = (2 * reach**2 + 2 * reach) * channels
    weights = random.normal(size=(1 + k, channels)) * 0.3 / k
    root, noise = random.normal(size=(channels, channels)) * 0.1, random.normal(size=(2, channels, 5, 6))
    root = root @ root.T
    start = random.uniform(size=channels)
    x = host(ar.draw_texture(place(weights), place(root), place(noise), place(start), reach))
    assert x.shape == noise.shape and np.abs(x - 0.5).max() < 1.5, "not held back, or the noise is lost"
    full = np.broadcast_to(start[:, None, None], (2, channels, 5 + reach, 6 + 2 * reach)).copy()
    full[:, :, reach:, reach : reach + 6] = x
    prediction = np.concatenate([np.ones((2, 5, 6, 1)), host(ar.neighbours(place(full), reach))], 3) @ weights
    close(x.transpose(0, 2, 3, 1) - prediction, noise.transpose(0, 2, 3, 1) @ root, rtol=1e-7, atol=1e-9)


@verifies(ar.fit_texture, ar.draw_texture)
def test_a_texture_that_was_drawn_is_found_again():
    weights = np.array([[0.05], [-0.2], [0.5], [0.1], [0.5]])  # c, NW, N, NE, W
    noise = np.random.default_rng(0).normal(size=(20, 1, 40, 60))
    x = host(ar.draw_texture(place(weights), place([[0.1]]), place(noise), place([0.5]), 1))
    got, sigma = (host(a) for a in ar.fit_texture(place(products_of(x, 1)[1]), 1))
    assert np.abs(got - weights).max() < 0.02
    assert abs(sigma.item() - 0.01) < 2e-4


def test_what_is_not_stable_is_held():
    x = host(
        ar.draw_texture(place(np.full((5, 1), 1.0)), place([[1.0]]), place(np.ones((1, 1, 9, 9))), place([0.5]), 1)
    )
    assert np.isfinite(x).all() and x.max() == 2.0


# ---------------------------------------------------------------- the algorithm


def data_of(shape, frames=0):
    c, h, w = shape
    return DataSpec(name="small", channels=c, height=h, width=w, count=30, frames=frames)


def images_of(shape, seed=0):
    return Batches(
        ArrayImages(np.random.default_rng(seed).integers(0, 256, (30, *shape)).astype(np.uint8)), 10, Stream(seed, "b")
    )


class Clips:
    """Films of a known process in each pixel, (n, t, c, h, w)."""

    def __init__(self, phi, variance, frames, shape, count=30):
        values = 0.4 + 0.05 * drawn(phi, variance, count * math.prod(shape), frames, 1)
        self.films = values.reshape(count, *shape, frames).transpose(0, 4, 1, 2, 3).astype(np.float32)

    def __len__(self):
        return len(self.films)

    def images(self, indices):
        return self.films[indices]

    def labels(self, indices):
        return None


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import autoregressive

    spec = next(s for s in autoregressive.tinygen_algorithms() if s.name == "ar")
    assert set(spec.verbs) == set(verbs_of(ar.AR))


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 7, 6)])
@given(seed=seeds())
@settings(max_examples=3)
def test_samples_and_films_have_their_shape_range_and_seed(shape, seed):
    made = ar.AR(ar.Config(margin=3, reach=1), data_of(shape), Stream(0, "ar"))
    step = next(made.fit(images_of(shape)))
    assert 0.2 < step.metrics["rmse"].item() < 0.35  # of even noise it is √(1/12)
    for draw, expected in (
        (lambda s: made.sample(4, s), (4, *shape)),
        (lambda s: made.animate(5, 2, s), (2, 5, *shape)),
    ):
        images = host(draw(Stream(seed, "s")))
        assert images.shape == expected and images.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.05
        assert np.array_equal(images, host(draw(Stream(seed, "s"))))
        assert not np.array_equal(images, host(draw(Stream(seed + 1, "s"))))
    close(made.sample(4, Stream(seed, "s"))[:2], host(made.sample(2, Stream(seed, "s"))), rtol=1e-6)


def test_before_training_it_draws_even_noise():
    made = ar.AR(ar.Config(reach=1, margin=1), data_of((1, 20, 20)), Stream(0, "ar"))
    images = host(made.sample(20, Stream(0, "s")))
    close(made.mean(), np.array([0.5]))
    assert abs(images.mean() - 0.5) < 0.02 and 0.24 < images.std() < 0.29  # √(1/12) = 0.289, less what is cut off
    assert abs(np.corrcoef(images[:, 0, :, 1:].ravel(), images[:, 0, :, :-1].ravel())[0, 1]) < 0.05


def test_batches_add_up():
    """Two batches of ten are one of twenty, and the fit is that of all their places."""
    shape, random = (1, 6, 7), np.random.default_rng(0)
    x = random.uniform(size=(20, *shape))
    apart, together = (ar.AR(ar.Config(reach=1), data_of(shape), Stream(0, "ar")) for _ in range(2))
    apart.add_images(place(x[:10]))
    apart.add_images(place(x[10:]))
    together.add_images(place(x))
    close(apart.texture, host(together.texture), rtol=1e-12)
    before = host(ar.AR(ar.Config(reach=1), data_of(shape), Stream(0, "ar")).texture)  # one pixel of noise
    close(apart.texture, before + products_of(x, 1)[1], rtol=1e-12)
    inner = x[:, :, 1:, 1:-1]
    close(apart.mean(), np.array([(inner.sum() + 0.5) / (inner.size + 1)]), rtol=1e-12)


@pytest.mark.parametrize("estimator", ["yule-walker", "least-squares", "likelihood"])
def test_from_clips_it_learns_the_process_of_time(estimator):
    phi, shape, frames = np.array([0.9, -0.5]), (1, 6, 6), 25
    clips = Clips(phi, 1.0, frames, shape)
    made = ar.AR(ar.Config(reach=1, margin=2, estimator=estimator), data_of(shape, frames), Stream(0, "ar"))
    step = next(made.fit(Batches(clips, 30, Stream(0, "b"))))
    kappa, s2 = made.over_time()
    assert np.abs(host(ar.predictors(kappa)[-1]) - phi).max() < 0.12
    assert abs(math.sqrt(host(s2).item()) - 0.05) < 0.005
    x = clips.films.transpose(0, 2, 3, 4, 1).reshape(-1, frames).astype(float)
    x -= x.mean()
    close(made.centred(), x.T @ x, rtol=1e-5, atol=1e-4)
    gamma = acf(host(ar.predictors(kappa)[-1]), host(s2).item(), frames)
    law = scipy.stats.multivariate_normal(np.zeros(frames), scipy.linalg.toeplitz(gamma))
    close(step.metrics["nats_per_value"], np.array(-law.logpdf(x).mean() / frames), rtol=1e-4)
    assert host(made.animate(4, 2, Stream(0, "s"))).shape == (2, 4, *shape)


def test_films_of_still_images_swing_as_asked():
    """Over many films, a frame and the one k later correlate as the damped swing of AR(2) says."""
    shape = (1, 5, 5)
    made = ar.AR(ar.Config(reach=1, margin=4, period=8, decay=0.9), data_of(shape), Stream(0, "ar"))
    noise = Batches(
        ArrayImages(np.random.default_rng(0).normal(128, 20, (60, *shape)).clip(0, 255).astype(np.uint8)),
        60,
        Stream(0, "b"),
    )
    next(made.fit(noise))
    films = host(made.animate(9, 400, Stream(0, "s"))).reshape(400, 9, -1).astype(float)
    phi = np.array([1.8 * math.cos(math.pi / 4), -0.81])
    gamma = acf(phi, 1.0, 9)
    for k in (1, 4, 8):
        seen = np.corrcoef(films[:, 0].ravel(), films[:, k].ravel())[0, 1]
        assert abs(seen - gamma[k] / gamma[0]) < 0.05
    assert abs(films[:, 0].std() / films[:, 8].std() - 1) < 0.05


def test_training_is_the_same_on_every_backend(backend):
    def figures():
        made = ar.AR(ar.Config(reach=1, margin=2, order=1), data_of((1, 5, 6), 4), Stream(0, "ar"))
        step = next(made.fit(Batches(Clips([0.5], 1.0, 4, (1, 5, 6)), 30, Stream(0, "b"))))
        return [v.item() for v in step.metrics.values()], host(made.animate(3, 2, Stream(0, "s")))

    here = figures()
    with library.using("strict" if backend.name == "numpy" else "numpy"):
        there = figures()
    close(np.array(here[0]), np.array(there[0]), rtol=1e-6)
    close(here[1], there[1], rtol=1e-5, atol=1e-6)


def test_options_and_data_that_do_not_fit_are_told_of():
    for options, message in (
        ({"reach": 0}, "reach must be from 1 to 16, got 0"),
        ({"estimator": "burg"}, "estimator must be one of yule-walker, least-squares, likelihood, got burg"),
        ({"decay": 1.0}, "decay must be from 0"),
    ):
        with pytest.raises(UsageError, match=message):
            ar.Config(**options)
    for options, data, message in (
        ({"reach": 3}, data_of((1, 6, 9)), "must be 7 pixels or more in height and width, got 6 × 9"),
        ({"order": 4}, data_of((1, 9, 9), 4), "order must be below the 4 frames of a clip, got 4"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            ar.AR(ar.Config(**options), data, Stream(0, "ar"))
        assert "\n" not in str(error.value) and error.value.hint
