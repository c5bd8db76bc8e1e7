"""Polynomial surfaces against np.linalg.lstsq, np.polynomial and SciPy; three ways to one fit; their law."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import backend
from tinygen.autograd import tensor
from tinygen.data import ArrayImages, Batches, DataSpec
from tinygen.errors import UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.procedural import polynomial, tinygen_algorithms

from .reference import device

degrees = st.integers(0, 4)
points = reals((2, 40), -1.0, 1.0)
SMALL = DataSpec(name="small", channels=2 + 1, height=9, width=10, count=30)


def powers(degree):
    return [(total - j, j) for total in range(degree + 1) for j in range(total + 1)]


def design(u, v, degree):
    """By NumPy's Vandermonde matrix of two variables, the terms of total degree picked out."""
    everything = np.polynomial.polynomial.polyvander2d(u, v, [degree, degree]).reshape(len(u), degree + 1, degree + 1)
    return np.stack([everything[:, i, j] for i, j in powers(degree)], axis=1)


def fitted(basis, values, weights, ridge=0.0):
    return host(polynomial.fit_surface(device(basis), device(values), device(weights), ridge))


# ---------------------------------------------------------------- the fit


@verifies(polynomial.design_matrix)
@given(points=points, degree=degrees)
def test_the_basis_is_numpy_s_of_total_degree(points, degree):
    found = polynomial.design_matrix(*map(device, points), degree)
    close(found, design(*points, degree), rtol=1e-9, atol=1e-12)
    assert found.shape[1] == (degree + 1) * (degree + 2) // 2


@verifies(polynomial.fit_surface)
@given(points=points, degree=degrees, values=reals((40, 2)), weights=reals((40,), 0.1, 2.0), ridge=st.floats(0, 5))
def test_the_fit_is_lstsq_s_and_leaves_nothing_along_the_basis(points, degree, values, weights, ridge):
    basis, root = design(*points, degree), np.sqrt(weights)[:, None]
    c = fitted(basis, values, weights, ridge)
    rows = np.vstack([root * basis, np.sqrt(ridge) * np.eye(basis.shape[1])])
    expected = np.linalg.lstsq(rows, np.vstack([root * values, np.zeros((basis.shape[1], 2))]))[0]
    close(c, expected, rtol=1e-6, atol=1e-7)
    close(basis.T @ (weights[:, None] * (values - basis @ c)), ridge * c, atol=1e-7)  # VᵀW(y − Vc) = λc


@verifies(polynomial.fit_surface)
@given(points=points, degree=degrees)
def test_the_hat_matrix_is_a_projection_on_p_dimensions(points, degree):
    basis = design(*points, degree)
    hat = basis @ fitted(basis, np.eye(40), np.ones(40))
    close(hat, hat.T, rtol=1e-7, atol=1e-7)
    close(hat @ hat, hat, rtol=1e-6, atol=1e-6)
    close(np.trace(hat), np.asarray(float(basis.shape[1])), rtol=1e-8)


@verifies(polynomial.fit_surface, polynomial.design_matrix)
@given(points=points, degree=degrees, values=reals((40, 1)), matrix=reals((2, 2)), shift=reals((2,)))
def test_fitted_values_do_not_depend_on_the_affine_coordinates(points, degree, values, matrix, shift):
    matrix = matrix / 6 + np.eye(2)  # diagonally dominant, so that it has an inverse
    basis = design(*points, degree)
    other = host(polynomial.design_matrix(*map(device, matrix @ points + shift[:, None] / 6), degree))
    ones = np.ones(40)
    close(other @ fitted(other, values, ones), basis @ fitted(basis, values, ones), rtol=1e-5, atol=1e-5)


@verifies(polynomial.fit_surface)
@given(points=points, degree=degrees, seed=seeds())
def test_a_polynomial_is_recovered_from_its_values(points, degree, seed):
    basis = design(*points, degree)
    c = np.random.default_rng(seed).normal(size=(basis.shape[1], 2))
    close(fitted(basis, basis @ c, np.ones(40)), c, rtol=1e-5, atol=1e-5)


@verifies(polynomial.fit_surface)
@given(u=reals((30,), -1.0, 1.0), values=reals((30,)), degree=st.integers(0, 6))
def test_along_one_axis_it_is_numpy_s_chebyshev_fit(u, values, degree):
    basis = np.stack([u**i for i in range(degree + 1)], axis=1)
    curve = np.polynomial.Chebyshev.fit(u, values, degree, domain=[-1, 1])
    close(basis @ fitted(basis, values[:, None], np.ones(30))[:, 0], curve(u), rtol=1e-6, atol=1e-6)


@verifies(polynomial.fit_surface)
@given(points=points, degree=st.integers(0, 3), values=reals((40, 1)), scale=st.floats(-3, 3), level=st.floats(-3, 3))
def test_the_fit_follows_scale_and_level_and_is_nearer_with_each_degree(points, degree, values, scale, level):
    basis, ones = design(*points, degree), np.ones(40)
    c = fitted(basis, values, ones)
    first = np.eye(basis.shape[1])[:, :1]
    close(fitted(basis, scale * values + level, ones), scale * c + level * first, rtol=1e-6, atol=1e-6)
    higher = design(*points, degree + 1)
    residual, nearer = values - basis @ c, values - higher @ fitted(higher, values, ones)
    assert np.linalg.norm(nearer) <= np.linalg.norm(residual) + 1e-9


@verifies(polynomial.fit_surface)
@given(basis=reals((3, 5)), values=reals((3, 2)))
def test_a_great_ridge_gives_zero_and_a_small_one_the_least_norm(basis, values):
    close(fitted(basis, values, np.ones(3), 1e12), np.zeros((5, 2)), atol=1e-9)
    least = np.linalg.pinv(basis) @ values
    smallest = np.linalg.svd(basis, compute_uv=False)[-1]
    bound = 1e-9 / (smallest**2 + 1e-9) * np.linalg.norm(least, 2) * 10 + 1e-5  # the share that the ridge takes
    close(fitted(basis, values, np.ones(3), 1e-9), least, rtol=0, atol=bound)


@verifies(polynomial.likelihood)
@given(points=points, degree=st.integers(0, 3), values=reals((40, 2)), weights=reals((40,), 0.1, 3.0))
def test_the_likelihood_is_scipy_s_and_largest_at_least_squares(points, degree, values, weights):
    basis = design(*points, degree)
    values = (
        values + np.sin(1.7 * np.arange(40))[:, None]
    )  # no polynomial, though the values may be drawn as u and v are
    c = fitted(basis, values, weights)
    variance, log_likelihood = map(
        host, polynomial.likelihood(device(basis), device(values), device(weights), device(c))
    )
    for k in range(2):

        def nats(coefficients, s2, k=k):
            return scipy.stats.norm.logpdf(values[:, k], basis @ coefficients, np.sqrt(s2 / weights)).sum()

        close(log_likelihood[k], np.asarray(nats(c[:, k], variance[k])), rtol=1e-8, atol=1e-8)
        best = scipy.optimize.minimize_scalar(
            lambda t, f=nats, k=k: -f(c[:, k], np.exp(t)), bounds=(-8, 4), method="bounded", options={"xatol": 1e-9}
        )
        close(np.log(variance[k]), np.asarray(best.x), rtol=1e-4, atol=1e-4)
        moved = c[:, k] + 0.1 * np.random.default_rng(0).normal(size=len(c))
        assert nats(moved, variance[k]) <= log_likelihood[k]


@verifies(polynomial.surface_loss)
@given(basis=reals((7, 3)), values=reals((7, 2)), c=reals((3, 2)))
def test_the_loss_of_descent_and_its_slope(basis, values, c):
    v, y, x = tensors((basis, values, c))
    residual = basis @ c - values
    close(polynomial.surface_loss(v, y, x), np.asarray(0.5 * np.square(residual).sum() / 7), rtol=1e-9)
    gradcheck(lambda coefficients: polynomial.surface_loss(v, y, coefficients), [x])
    from tinygen import grad

    close(grad(polynomial.surface_loss(v, y, x), x), basis.T @ residual / 7, rtol=1e-9, atol=1e-11)


@settings(max_examples=4)
@given(seed=seeds(), degree=st.integers(1, 4))
def test_qr_likelihood_and_descent_agree(seed, degree):
    values = np.random.default_rng(seed).random((90, 3))
    u, v = map(host, polynomial.coordinates(backend.current().xp, 9, 10))
    basis = design(u, v, degree)
    by_qr = fitted(basis, values, np.ones(90))
    close(polynomial.descend(device(basis), device(values)), by_qr, rtol=0, atol=1e-5)
    likeliest = scipy.optimize.minimize(
        lambda c: -scipy.stats.norm.logpdf(values[:, 0], basis @ c, 0.3).sum(), np.zeros(len(by_qr)), method="BFGS"
    )
    close(by_qr[:, 0], likeliest.x, rtol=0, atol=1e-4)


# ---------------------------------------------------------------- the law


@verifies(polynomial.add_to_moments)
@given(vectors=reals((11, 4)), cuts=st.lists(st.integers(1, 10), min_size=1, max_size=4, unique=True))
def test_moments_of_batches_are_numpy_s_of_all(vectors, cuts):
    mean, scatter, count = device(np.zeros(4)), device(np.zeros((4, 4))), 0
    for part in np.split(vectors, sorted(cuts)):
        mean, scatter = polynomial.add_to_moments(count, mean, scatter, device(part.copy()))
        count += len(part)
    close(mean, vectors.mean(axis=0), rtol=1e-9, atol=1e-11)
    close(host(scatter) / 10, np.cov(vectors.T), rtol=1e-8, atol=1e-10)


@verifies(polynomial.draw_coefficients)
@given(mean=reals((4,)), factor=st.integers(1, 4).flatmap(lambda rank: reals((4, rank))))
def test_drawn_coefficients_have_the_mean_and_covariance_of_any_rank(mean, factor):
    covariance = factor @ factor.T
    unit = np.concatenate([np.zeros((1, 4)), np.eye(4)])
    drawn = host(polynomial.draw_coefficients(device(mean), device(covariance), device(unit)))
    close(drawn[0], mean)
    root = drawn[1:] - mean  # rows: what each z adds
    close(root.T @ root, covariance, rtol=1e-7, atol=1e-7)


# ---------------------------------------------------------------- the plugin


def make(data=None, **options):
    return polynomial.Polynomial(polynomial.Config(**{"size": 16, "degree": 3} | options), data, Stream(0))


def batches(size=10):
    """Images that are quadratic surfaces with random coefficients, of 30 for three channels."""
    random = np.random.default_rng(0)
    v, u = np.mgrid[-1:1:9j, -1:1:10j]
    terms = np.stack([np.ones_like(u), u, v, u * v])
    factors = random.normal(size=(30, 3, 4)) * 0.1
    factors[..., 0] += 0.5
    pixels = np.clip(np.einsum("nck,khw->nchw", factors, terms), 0, 1)
    return Batches(ArrayImages(np.rint(pixels * 255).astype(np.uint8)), size, Stream(0, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    (spec,) = [spec for spec in tinygen_algorithms() if spec.name == "polynomial"]
    assert set(spec.verbs) == set(verbs_of(polynomial.Polynomial))


@settings(max_examples=5)
@given(seed=seeds(), channels=st.sampled_from([1, 3]))
def test_a_sample_is_its_seed_s_and_each_image_its_own(seed, channels):
    trained = make(SMALL)
    next(trained.fit(batches()))
    for model, shape in ((make(channels=channels), (channels, 16, 16)), (trained, (3, 9, 10))):
        images = model.sample(3, Stream(seed)).numpy()
        assert images.shape == (3, *shape) and images.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1
        assert np.array_equal(images, model.sample(3, Stream(seed)).numpy())
        assert np.array_equal(images[:1], model.sample(1, Stream(seed)).numpy())
        assert not np.array_equal(images[0], images[1])
        assert not np.array_equal(images, model.sample(3, Stream(seed + 1)).numpy())


def test_samples_of_a_trained_model_have_the_mean_and_spread_of_its_images():
    model, data = make(SMALL, degree=2), batches(30)
    metrics = next(model.fit(data)).metrics
    assert float(metrics["rmse"].item()) < 0.01  # quadratic but for rounding and clipping
    drawn = model.sample(400, Stream(1)).numpy()
    images = next(batches(30)).images.numpy()
    assert np.abs(drawn.mean(axis=0) - images.mean(axis=0)).max() < 0.06
    close(drawn.std(axis=0).mean(), np.asarray(images.std(axis=0).mean()), rtol=0.15)


def test_training_by_descent_tells_how_far_it_is_from_qr():
    metrics = next(make(SMALL, fit="descent").fit(batches())).metrics
    assert set(metrics) == {"rmse", "nats_per_pixel", "away_from_qr"}
    assert metrics["away_from_qr"].item() < 1e-5


@settings(max_examples=10)
@given(seed=seeds(), slopes=reals((3, 3), -0.15, 0.15))
def test_repair_keeps_known_pixels_bit_for_bit_and_recovers_a_surface(seed, slopes):
    v, u = np.mgrid[-1:1:9j, -1:1:12j]
    surface = (0.5 + slopes[:, :1, None] * u + slopes[:, 1:2, None] * v + slopes[:, 2:, None] * u * v).astype("float32")
    mask = np.random.default_rng(seed).random((9, 12)) < 0.6
    broken = np.where(mask, np.nan, surface).astype("float32")
    model = make(degree=2)
    fixed = model.repair(tensor(device(broken)), tensor(device(mask.astype("float32"))), Stream(0)).numpy()
    assert np.array_equal(fixed[:, ~mask], surface[:, ~mask]) and fixed.dtype == np.float32
    close(fixed, surface, rtol=0, atol=1e-4)
    close(model.repair(tensor(device(surface)), None, Stream(0)), surface, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mask", "value", "words"),
    [
        (np.ones((9, 12)), 0.5, ("0 pixels are known", "10")),
        (np.ones((9, 11)), 0.5, ("(9, 12)", "(9, 11)")),
        (np.zeros((9, 12)), np.inf, ("not finite",)),
    ],
)
def test_what_cannot_be_repaired_is_told_in_one_line_with_a_hint(mask, value, words):
    image = tensor(device(np.full((3, 9, 12), value, "float32")))
    with pytest.raises(UsageError) as caught:
        make().repair(image, tensor(device(mask.astype("float32"))), Stream(0))
    assert all(word in caught.value.message for word in ("polynomial", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "7")),
        ({"degree": 17}, ("degree", "16", "17")),
        ({"dots": 1}, ("dots", "2", "1")),
        ({"fit": "rq"}, ("fit", "qr", "rq")),
        ({"light": "dusk"}, ("light", "day", "dusk")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        polynomial.Config(**options)
    assert all(word in caught.value.message for word in ("polynomial", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


def test_one_known_row_is_enough_for_an_answer():
    """It leaves most coefficients open; those are then as small as can be, and nothing is thrown or swings away."""
    image = np.random.default_rng(0).random((1, 40, 50)).astype("float32")
    mask = np.ones((40, 50), "float32")
    mask[20] = 0
    model = polynomial.Polynomial(polynomial.Config(), None, Stream(0))
    found = model.repair(tensor(device(image)), tensor(device(mask)), Stream(0)).numpy()
    assert np.array_equal(found[0, 20], image[0, 20]) and np.isfinite(found).all()
