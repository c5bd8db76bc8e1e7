"""MAML: its equations against closed forms on quadratics and finite differences."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tests.plugins.meta.test_learners import perceptron, regression
from tinygen import backend as library
from tinygen.autograd import Tensor, tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec, Support
from tinygen.errors import DataError, UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, gradcheck, host, tensors
from tinygen.testing.strategies import seeds
from tinygen.testing.strict import counting
from tinygen_plugins.meta import _learners, maml

rates = st.floats(0.01, 0.4)


class Quadratics:
    """L_i(θ) = ½ (θ − c_i)ᵀ H_i (θ − c_i) + l_iᵀ θ for t tasks, with its slope by hand."""

    def __init__(self, seed, t=3, d=2, curved=1.0, linear=0.0):
        random = np.random.default_rng(seed)
        root = random.normal(size=(t, d, d))
        self.h = curved * (root @ root.swapaxes(1, 2) / d + 0.3 * np.eye(d))
        self.c, self.l = random.normal(size=(t, d)), linear * random.normal(size=(t, d))

    def losses(self, theta):
        h, c, l = tensors((self.h, self.c, self.l))  # noqa: E741 - the formula's letter
        away = theta[0] - c
        return 0.5 * (away.unsqueeze(1) @ h @ away.unsqueeze(2)).flatten() + (theta[0] * l).sum(1)

    def value(self, theta):
        away = theta - self.c
        return 0.5 * np.einsum("ti,tij,tj->t", away, self.h, away) + (theta * self.l).sum(1)

    def slope(self, theta):
        return np.einsum("tij,tj->ti", self.h, theta - self.c) + self.l


def start(seed, d=2):
    (theta,) = tensors((np.random.default_rng(seed).normal(size=d),))
    return theta


def meta_loss(theta, support, query, alpha, steps=1, second_order=True):
    """The loss for three tasks that all start from θ (d,)."""
    return maml.meta_loss([theta.expand(3, 2)], support.losses, query.losses, [[alpha]] * steps, second_order)


# ---------------------------------------------------------------- equations


@verifies(maml.inner_step, maml.meta_loss)
@given(seeds(), rates, st.integers(1, 3))
def test_steps_on_quadratics_are_powers_of_a_matrix(seed, alpha, steps):
    tasks, theta = Quadratics(seed), start(seed + 1)
    after = theta.expand(3, 2)
    for _ in range(steps):
        (after,) = maml.inner_step([after], tasks.losses, [alpha])
    powers = np.stack([np.linalg.matrix_power(np.eye(2) - alpha * h, steps) for h in tasks.h])
    expected = tasks.c + np.einsum("tij,tj->ti", powers, host(theta) - tasks.c)
    close(after, expected, rtol=1e-9, atol=1e-12)
    loss = meta_loss(theta, tasks, tasks, alpha, steps)
    close(loss, np.array(tasks.value(expected).mean()), rtol=1e-9)


@verifies(maml.meta_loss)
@given(seeds(), rates, st.integers(1, 3))
def test_the_meta_gradient_is_the_product_of_jacobians(seed, alpha, steps):
    """29a: (1/t) Σ (I − αH)^k g(θ'), with g the slope of the query's loss."""
    support, query, theta = Quadratics(seed), Quadratics(seed + 1), start(seed + 2)
    loss = meta_loss(theta, support, query, alpha, steps)
    powers = np.stack([np.linalg.matrix_power(np.eye(2) - alpha * h, steps) for h in support.h])
    after = support.c + np.einsum("tij,tj->ti", powers, host(theta) - support.c)
    expected = np.einsum("tji,tj->i", powers, query.slope(after)) / 3
    close(tinygen.grad(loss, theta), expected, rtol=1e-8, atol=1e-10)


@verifies(maml.inner_step, maml.meta_loss)
@settings(max_examples=15)
@given(seeds(), st.integers(1, 2))
def test_the_meta_gradient_of_a_network_by_finite_differences(seed, steps):
    """29a on the learner itself: the post-update loss, written in NumPy with steps by finite differences, too."""
    arrays, (x, y, query_x, query_y) = regression(seed)
    learner, alpha = _learners.Regressor(3, Stream(0, "r")), 0.05

    def after_steps(*theta):
        copies = [p.expand(2, *p.shape) for p in theta]
        examples = [tensor(a) for a in (x, y, query_x, query_y)]
        support, query = learner.losses(*examples[:2]), learner.losses(*examples[2:])
        return maml.meta_loss(copies, support, query, [[alpha] * 6] * steps)

    def by_differences(i):
        flat = np.concatenate([a.ravel() for a in arrays])
        cuts = np.cumsum([a.size for a in arrays])[:-1]

        def loss(flat, x, y):
            theta = [part.reshape(a.shape) for part, a in zip(np.split(flat, cuts), arrays)]
            return ((perceptron(theta, x[i]) - y[i]) ** 2).mean()

        for _ in range(steps):
            flat = flat - alpha * scipy.optimize.approx_fprime(flat, loss, 1e-7, x, y)
        return loss(flat, query_x, query_y)

    theta = tensors(arrays)
    close(after_steps(*theta), np.array(np.mean([by_differences(i) for i in range(2)])), rtol=1e-4, atol=1e-5)
    gradcheck(after_steps, theta, rtol=1e-4)


@verifies(maml.meta_loss, maml.inner_step)
@given(seeds(), rates)
def test_first_order_drops_alpha_h_g(seed, alpha):
    """29b: FOMAML − MAML = αHg(θ'), which is 0 where the support's loss is linear."""
    query = Quadratics(seed + 1)
    for curved in (1.0, 0.0):
        support, theta = Quadratics(seed, curved=curved, linear=1.0), start(seed + 2)
        losses = [meta_loss(theta, support, query, alpha, second_order=order) for order in (False, True)]
        first, second = (host(tinygen.grad(loss, theta)) for loss in losses)
        after = host(theta) - alpha * support.slope(host(theta))
        close(first, query.slope(after).mean(0), rtol=1e-9, atol=1e-11)
        gap = alpha * np.einsum("tij,tj->ti", support.h, query.slope(after)).mean(0)
        close(first - second, gap, rtol=1e-7, atol=1e-11)
        assert (np.abs(gap).max() > 0) == (curved > 0)


@verifies(maml.meta_loss)
@given(seeds(), st.integers(1, 3))
def test_without_a_rate_it_is_joint_training(seed, steps):
    """29c: at α = 0 the gradient of the mean loss of the queries at θ."""
    support, query, theta = Quadratics(seed), Quadratics(seed + 1), start(seed + 2)
    loss = meta_loss(theta, support, query, 0.0, steps)
    close(tinygen.grad(loss, theta), query.slope(host(theta)).mean(0), rtol=1e-9, atol=1e-12)


@verifies(maml.meta_loss)
@given(seeds(), rates)
def test_the_best_start_for_quadratics_in_closed_form(seed, alpha):
    """29d: θ* = (Σ M)⁻¹ Σ M c with M = (I − αH) H (I − αH)."""
    tasks = Quadratics(seed)
    shrink = np.eye(2) - alpha * tasks.h
    m = shrink @ tasks.h @ shrink
    best = np.linalg.solve(m.sum(0), np.einsum("tij,tj->i", m, tasks.c))

    def loss(at):
        (theta,) = tensors((at,))
        value = meta_loss(theta, tasks, tasks, alpha)
        return value.item(), host(tinygen.grad(value, theta))

    value, slope = loss(best)
    close(slope, np.zeros(2), atol=1e-8 * max(1.0, np.abs(tasks.h).max()))
    for away in ([0.1, 0.0], [-0.1, 0.05], [0.0, 0.2]):
        expected = value + np.array(away) @ m.mean(0) @ away / 2
        close(loss(best + away)[0], np.array(expected), rtol=1e-8)


@verifies(maml.inner_step, maml.meta_loss)
@given(seeds(), rates)
def test_the_start_is_not_touched_and_tasks_may_come_in_any_order(seed, alpha):
    """29e; and task i's step depends on task i alone."""
    tasks, theta = Quadratics(seed), start(seed + 1)
    before = host(theta).copy()
    slope = host(tinygen.grad(meta_loss(theta, tasks, tasks, alpha), theta))
    (after,) = maml.inner_step([theta.expand(3, 2)], tasks.losses, [alpha])
    assert np.array_equal(before, host(theta))
    for name in ("h", "c", "l"):
        setattr(tasks, name, getattr(tasks, name)[[2, 0, 1]])
    close(tinygen.grad(meta_loss(theta, tasks, tasks, alpha), theta), slope, rtol=1e-9, atol=1e-12)
    close(maml.inner_step([theta.expand(3, 2)], tasks.losses, [alpha])[0], host(after)[[2, 0, 1]], rtol=1e-12)


@verifies(maml.inner_step)
@settings(max_examples=15)
@given(seeds())
def test_hessian_times_vector_is_the_slope_of_a_gradient(seed):
    """29e: the derivative of ⟨θ', v⟩ is v − αHv, with Hv by differences of the gradient."""
    arrays, (x, y, *_) = regression(seed, t=1)
    directions = [np.random.default_rng(seed + 1).normal(size=a.shape) for a in arrays]
    losses, alpha = _learners.Regressor(3, Stream(0, "r")).losses(tensor(x), tensor(y)), 0.1

    def gradients(step):
        theta = tensors([(a + step * v)[None] for a, v in zip(arrays, directions)])
        return [host(g) for g in tinygen.grad(losses(theta).sum(), theta)]

    theta = tensors([a[None] for a in arrays])
    after = maml.inner_step(theta, losses, [alpha] * 6)
    along = sum((p * tensor(v[None])).sum() for p, v in zip(after, directions))
    for slope, v, up, down in zip(tinygen.grad(along, theta), directions, gradients(1e-6), gradients(-1e-6)):
        close(slope, v - alpha * (up - down) / 2e-6, rtol=1e-4, atol=1e-5)


@verifies(maml.annealing)
@given(st.integers(1, 50))
def test_the_rate_falls_from_all_to_a_hundredth(steps):
    falls = [maml.annealing(k, steps) for k in range(steps + 3)]
    close(np.array([falls[0], falls[steps], falls[-1]]), np.array([1, 0.01, 0.01]), rtol=1e-12)
    assert falls == sorted(falls, reverse=True)
    close(np.array(falls[: steps + 1]) + falls[steps::-1], np.full(steps + 1, 1.01), rtol=1e-12)


# ---------------------------------------------------------------- the algorithm

SMALL = maml.Config(filters=2, way=3, queries=2, batch_size=2, episodes=3, test_steps=2, lr=0.01)
CURVES = maml.Config(tasks="sinusoid", batch_size=8, steps=300, episodes=100, joint_steps=20, lr=4e-3)
DATA = DataSpec(name="noise", channels=1, height=8, width=8, count=60)


def characters():
    """Six classes of noisy patterns."""
    random = np.random.default_rng(0)
    patterns = np.repeat(random.integers(0, 200, (6, 1, 8, 8)), 20, 0)
    images = ArrayImages(
        (patterns + random.integers(0, 50, patterns.shape)).astype(np.uint8), np.repeat(np.arange(6), 20)
    )
    return Dataset("patterns", {"train": images, "test": images}, (1, 8, 8))


def model(config=SMALL, seed=0):
    return maml.MAML(config, DATA, Stream(seed, "maml"))


def batches(data=None):
    return Batches((data or characters()).split("train"), 2, Stream(0, "batches"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "maml"]
    assert set(spec.verbs) == set(verbs_of(maml.MAML))


@pytest.mark.parametrize("order", ["second", "first"])
def test_every_parameter_and_every_rate_gets_a_gradient(order):
    learner = model(maml.Config(filters=2, way=3, inner_steps=2, batch_size=2, learned_rates=True, order=order))
    tasks = next(learner.tasks(batches(), 1, 2))
    with counting() as counts:
        next(learner.updates(iter([tasks])))
    assert counts.synchronizations == 0
    for name, p in learner.learner.named_parameters():
        assert np.abs(p.grad.numpy()).max() > 0, f"{name} gets no gradient"
    assert (np.abs(learner.rates.grad.numpy()) > 0).all()


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        learner = model()
        fit = learner.fit(batches())
        next(fit), next(fit)
        assert all(p.backend is library.current() for p in learner.learner.parameters())
        return learner.learner.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-4, atol=1e-5)


def test_it_learns_to_fit_sinusoids_in_a_step():
    learner = model(CURVES)
    before = learner.evaluate(characters(), Stream(0, "e"))
    fit = learner.fit(batches())
    for _ in range(300):
        next(fit)
    after = learner.evaluate(characters(), Stream(0, "e"))
    assert after["error_1"] < 0.7 * before["error_1"] and after["error_1"] < 0.7 * after["error_0"]
    assert after["times_better_1"] == after["joint_error_1"] / after["error_1"]
    drawn = learner.illustrate(characters(), Stream(0, "i"))
    assert set(drawn) == {"error-by-step", "fit-1", "fit-2"}
    assert list(drawn["fit-1"].lines) == ["sinusoid", "after 0 steps", "after 1 step", "after 10 steps"]


def test_figures_and_pictures_of_characters():
    learner, data = model(), characters()
    figures = learner.evaluate(data, Stream(0, "e"))
    shares = []
    for tasks in learner.test_episodes(data, 3, Stream(0, "e")):
        theta = learner.adapted(tasks.x, tasks.y, 2)
        labels = host(learner.learner(theta, tasks.query_x)).argmax(-1)
        shares += list((labels == host(tasks.query_y)).mean(1))
    close(figures["accuracy_transductive"], np.array(100 * np.mean(shares)), rtol=1e-5)
    half = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(shares)
    close(figures["accuracy_transductive_interval"], np.array(100 * half), rtol=1e-4)
    assert 0 <= figures["accuracy_alone"] <= 100 and figures["episodes"] == 3
    (drawn,) = learner.illustrate(data, Stream(0, "i")).values()
    assert set(drawn.lines) == {"transductive", "alone"} and len(drawn.lines["alone"]) == len(drawn.x) == 11


def test_a_support_is_adapted_to_and_the_start_stays():
    learner, data = model(), characters()
    images, labels = (Tensor(library.current().from_host(a[::20][:3])) for a in data.arrays("train"))
    before = learner.learner.state_dict()
    adapted = learner.adapt(Support(images, labels, ("a", "b", "c")))
    chances = host(adapted.probabilities(images))
    close(chances.sum(1), np.ones(3), rtol=1e-5)
    assert chances.shape == (3, 3) and chances.dtype == np.float32
    close(adapted.probabilities(images[1:2]), chances[1:2], rtol=1e-4)
    for name, array in learner.learner.state_dict().items():
        assert np.array_equal(array, before[name])
    with pytest.raises(UsageError, match="tells 3 classes, the support has 2"):
        learner.adapt(Support(images, labels, ("a", "b")))
    with pytest.raises(UsageError, match=r"images are \(1, 4, 8\), this run was trained on \(1, 8, 8\)"):
        learner.adapt(Support(images[:, :, :4], labels, ("a", "b", "c")))
    with pytest.raises(UsageError, match="fit sinusoids, not to tell images"):
        model(CURVES).adapt(Support(images, labels, ("a", "b", "c")))


def test_rates_of_further_steps_are_alpha():
    learner = model(maml.Config(filters=2, way=3, inner_steps=2, learned_rates=True, alpha=0.3))
    learner.rates.data = learner.rates.data * 0 + 0.1
    found = [float(row[0]) if k == 2 else row[0].item() for k, row in enumerate(learner.alphas(3))]
    close(np.array(found), np.array([0.1, 0.1, 0.3]), rtol=1e-6)
    assert [len(row) for row in learner.alphas(1)] == [14]
    assert model(maml.Config(filters=2, way=3, learned_rates=False)).alphas(2) == [[0.4] * 14] * 2


def test_data_and_options_that_do_not_fit_are_refused_at_once():
    images = ArrayImages(np.zeros((9, 1, 8, 8), np.uint8))
    with pytest.raises(DataError, match="no labels"):
        model().fit(batches(Dataset("plain", {"train": images}, (1, 8, 8))))
    with pytest.raises(DataError, match="7-way"):
        model(maml.Config(way=7)).fit(batches())
    for options, message in (
        ({"way": 1}, "way must be from 2"), ({"shot": 0}, "shot must be from 1"), ({"alpha": -1.0}, "alpha must be"),
        ({"tasks": "sinus"}, "tasks must be one of"), ({"order": "third"}, "order must be one of"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            maml.Config(**options)
