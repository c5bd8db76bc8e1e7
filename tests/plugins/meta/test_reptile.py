"""Reptile: its steps against closed forms, expansions in the rate, and the parallel descent that it is."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tests.plugins.elsewhere import same_elsewhere
from tests.plugins.meta.test_maml import Quadratics, batches, characters, start
from tinygen import backend as library
from tinygen.autograd import Tensor
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec, Support
from tinygen.errors import DataError, UsageError
from tinygen.host import verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, host, tensors
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.meta import maml, reptile

rates = st.floats(0.01, 0.4)
parts = st.floats(0, 1)


def learnt(theta, tasks, alpha, steps):
    """Where so many steps of gradient descent on each of three tasks lead from θ (d,): (3, d)."""
    after = theta.expand(3, 2)
    for _ in range(steps):
        gradients = tinygen.grad(tasks.losses([after]).sum(), [after], create_graph=True)
        (after,) = reptile.sgd_step([after], gradients, alpha)
    return after


# ---------------------------------------------------------------- equations


@verifies(reptile.sgd_step, reptile.outer_step)
@given(seeds(), rates, parts)
def test_one_inner_step_is_descent_on_the_mean_loss(seed, alpha, epsilon):
    """30a: k = 1 moves φ by −ε α times the slope of the mean loss."""
    tasks, theta = Quadratics(seed), start(seed + 1)
    (moved,) = reptile.outer_step([theta], [learnt(theta, tasks, alpha, 1)], epsilon)
    slope = scipy.optimize.approx_fprime(host(theta), lambda at: tasks.value(at).mean(), 1e-7)
    close(moved, host(theta) - epsilon * alpha * slope, rtol=1e-4, atol=1e-6)


@verifies(reptile.sgd_step)
@given(seeds(), rates, st.integers(1, 5))
def test_what_is_learnt_of_quadratics_in_closed_form(seed, alpha, steps):
    """30b: φ − φ̃ = α Σ g_i = (I − (I − αH)^k)(φ − c)."""
    tasks, theta = Quadratics(seed), start(seed + 1)
    powers = np.stack([np.linalg.matrix_power(np.eye(2) - alpha * h, steps) for h in tasks.h])
    expected = np.einsum("tij,tj->ti", np.eye(2) - powers, host(theta) - tasks.c)
    close(host(theta) - host(learnt(theta, tasks, alpha, steps)), expected, rtol=1e-8, atol=1e-10)
    total = sum(tasks.slope(host(learnt(theta, tasks, alpha, j))) for j in range(steps))
    close(alpha * total, expected, rtol=1e-8, atol=1e-10)


@verifies(reptile.sgd_step, reptile.outer_step, maml.meta_loss)
@settings(max_examples=30)
@given(seeds())
def test_two_steps_expanded_in_the_rate(seed):
    """30c: to first order in α, with g and H of the two minibatches at φ, the updates are
    MAML g_2 − α H_2 g_1 − α H_1 g_2, FOMAML g_2 − α H_2 g_1, Reptile g_1 + g_2 − α H_2 g_1."""
    first, second, theta = Quadratics(seed), Quadratics(seed + 1), start(seed + 2)
    g1, g2 = first.slope(host(theta)), second.slope(host(theta))
    h2g1, h1g2 = (np.einsum("tij,tj->ti", tasks.h, g) for tasks, g in ((second, g1), (first, g2)))
    scale = np.abs(h2g1).max() + np.abs(h1g2).max() + np.abs(first.h @ second.h).max() * np.abs(g2).max()

    def updates(alpha):
        slopes = []
        for order in (True, False):
            loss = maml.meta_loss([theta.expand(3, 2)], first.losses, second.losses, [[alpha]], order)
            slopes.append(host(tinygen.grad(loss, theta)))
        after = theta.expand(3, 2)
        for tasks in (first, second):
            gradients = tinygen.grad(tasks.losses([after]).sum(), [after], create_graph=True)
            (after,) = reptile.sgd_step([after], gradients, alpha)
        (moved,) = reptile.outer_step([theta], [after], 1.0)
        return *slopes, (host(theta) - host(moved)) / alpha

    alpha = 1e-5
    for found, constant, linear in zip(updates(alpha), (g2, g2, g1 + g2), (h2g1 + h1g2, h2g1, h2g1)):
        close((found - constant.mean(0)) / alpha, -linear.mean(0), atol=1e-3 * (1 + scale))


@verifies(reptile.outer_step)
@given(reals((2, 3)), reals((4, 2, 3)), parts)
def test_the_update_is_a_convex_combination(phi, ends, epsilon):
    """30d: and ε = 1 with one task goes all the way, ε = 0 nowhere; the mean of t is parallel SGD's."""
    p, w = tensors((phi, ends))
    close(reptile.outer_step([p], [w[:1]], 1.0)[0], ends[0], rtol=1e-12, atol=1e-12)
    close(reptile.outer_step([p], [w], 0.0)[0], phi, rtol=1e-12, atol=1e-12)
    (moved,) = reptile.outer_step([p], [w], epsilon)
    close(moved, (1 - epsilon) * phi + epsilon * np.mean(list(ends), 0), rtol=1e-9, atol=1e-10)
    serial = [host(reptile.outer_step([p], [w[i : i + 1]], epsilon)[0]) for i in range(4)]
    close(moved, np.mean(serial, 0), rtol=1e-9, atol=1e-10)


@given(seeds())
def test_avg_grad_inner_aligns_the_gradients_of_two_minibatches(seed):
    """30e: E[H_2 g_1] = ½ ∂_φ E[g_1 · g_2], over both orders of any two of exchangeable minibatches."""
    minibatches, theta = Quadratics(seed, t=4), host(start(seed + 1))
    g = minibatches.slope(theta)
    inner = np.mean([minibatches.h[j] @ g[i] for i in range(4) for j in range(4) if i != j], 0)

    def alignment(at):
        g = minibatches.slope(at)
        return np.mean([g[i] @ g[j] for i in range(4) for j in range(4) if i != j])

    close(inner, scipy.optimize.approx_fprime(theta, alignment, 1e-7) / 2, rtol=1e-4, atol=1e-5)


@verifies(reptile.adam_step)
@given(seeds(), rates, st.integers(1, 4))
def test_adam_without_momentum(seed, alpha, steps):
    """v is the weighted mean of squares, by hand; at first the step is α times the gradient's sign."""
    gradients = np.random.default_rng(seed).normal(size=(steps, 3)) + 0.01
    phi, v = tensors((np.zeros(3),)), tensors((np.zeros(3),))
    at = np.zeros(3)
    for j in range(1, steps + 1):
        phi, v = reptile.adam_step(phi, tensors((gradients[j - 1],)), v, j, alpha)
        weights = 0.999 ** np.arange(j)[::-1]
        mean_square = (weights[:, None] * gradients[:j] ** 2).sum(0) / weights.sum()
        at = at - alpha * gradients[j - 1] / (np.sqrt(mean_square) + 1e-8)
        close(phi[0], at, rtol=1e-7, atol=1e-9)
        if j == 1:
            close(phi[0], -alpha * np.sign(gradients[0]), rtol=1e-4)


@verifies(reptile.step_size)
@given(parts, st.integers(1, 50))
def test_the_part_of_the_way_falls_to_nothing(epsilon, steps):
    found = [reptile.step_size(epsilon, k, steps) for k in range(steps + 3)]
    close(np.array(found), np.append(np.linspace(epsilon, 0, steps + 1), [0, 0]), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- the algorithm

SMALL = reptile.Config(filters=2, way=3, train_shot=4, inner_batch=5, batch_size=2, episodes=3, test_steps=2)
CURVES = reptile.Config(tasks="sinusoid", steps=250, episodes=100, joint_steps=20)
DATA = DataSpec(name="noise", channels=1, height=8, width=8, count=60)


def model(config=SMALL, seed=0):
    return reptile.Reptile(config, DATA, Stream(seed, "reptile"))


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "reptile"]
    assert set(spec.verbs) == set(verbs_of(reptile.Reptile))


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_every_parameter_moves_and_nothing_waits(inner):
    learner = model(reptile.Config(filters=2, way=3, batch_size=2, train_shot=4, inner=inner))
    tasks, before = next(learner.tasks(batches(), 4, 0)), learner.learner.state_dict()
    with counting() as counts:
        next(learner.updates(iter([tasks])))
    assert counts.synchronizations == 0
    for name, array in learner.learner.state_dict().items():
        assert array.dtype == np.float32 and not np.array_equal(array, before[name]), f"{name} did not move"


def test_serial_and_batched_updates_agree():
    """An update on two tasks is the mean of the updates on each, minibatch by minibatch."""
    tasks, ends = next(model().tasks(batches(), 4, 0)), []
    for part in (slice(0, 2), slice(0, 1), slice(1, 2)):
        learner = model()
        next(learner.updates(iter([type(tasks)(*(a[part] for a in tasks))])))
        ends.append(learner.learner.state_dict() | {f"v {i}": host(v) for i, v in enumerate(learner.squares)})
    for name, both in ends[0].items():
        close(both, (ends[1][name] + ends[2][name]) / 2, rtol=2e-4, atol=1e-6)


def test_minibatches_go_through_all_examples_before_any_comes_again():
    learner = model(reptile.Config(inner_batch=2))
    x = Tensor(library.current().xp.arange(12.0, dtype="float32").reshape(2, 6, 1))
    drawn = learner.minibatches(x, x)
    for _ in range(3):
        epoch = [next(drawn) for _ in range(3)]
        seen = np.concatenate([host(images)[0, :, 0] for images, _ in epoch])
        assert sorted(seen) == [0, 1, 2, 3, 4, 5]
        for images, labels in epoch:
            close(images[1] - images[0], np.full((2, 1), 6.0, np.float32))
            close(labels, host(images))


def test_training_is_the_same_on_every_backend(backend):
    def two_steps():
        learner = model(reptile.Config(filters=2, way=3, train_shot=4, batch_size=2, inner="sgd"))
        fit = learner.fit(batches())
        next(fit), next(fit)
        return learner.learner.state_dict()

    same_elsewhere(two_steps, backend, rtol=1e-4, atol=1e-5)


def test_it_learns_to_fit_sinusoids():
    learner = model(CURVES)
    assert learner.inner == "sgd"
    before = learner.evaluate(characters(), Stream(0, "e"))
    fit = learner.fit(batches())
    figures = [next(fit).metrics for _ in range(250)]
    after = learner.evaluate(characters(), Stream(0, "e"))
    assert after["error_10"] < 0.8 * before["error_10"] and after["error_10"] < 0.5 * after["error_0"]
    assert figures[-1]["loss_last"].item() < figures[-1]["loss_first"].item()
    assert set(learner.illustrate(characters(), Stream(0, "i"))) == {"error-by-step", "fit-1", "fit-2"}


def test_figures_and_a_support_that_is_adapted_to():
    learner, data = model(), characters()
    figures = learner.evaluate(data, Stream(0, "e"))
    assert 0 <= figures["accuracy_alone"] <= 100 and figures["accuracy_transductive_interval"] > 0
    images, labels = (Tensor(library.current().from_host(a[::20][:3])) for a in data.arrays("train"))
    before = learner.learner.state_dict()
    chances = host(learner.adapt(Support(images, labels, ("a", "b", "c"))).probabilities(images))
    close(chances.sum(1), np.ones(3), rtol=1e-5)
    for name, array in learner.learner.state_dict().items():
        assert np.array_equal(array, before[name])
    with pytest.raises(UsageError, match="tells 3 classes, the support has 2"):
        learner.adapt(Support(images, labels, ("a", "b")))


def test_data_and_options_that_do_not_fit_are_refused_at_once():
    images = ArrayImages(np.zeros((9, 1, 8, 8), np.uint8))
    plain = Batches(Dataset("plain", {"train": images}, (1, 8, 8)).split("train"), 2, Stream(0, "b"))
    with pytest.raises(DataError, match="no labels"):
        model().fit(plain)
    for options, message in (
        ({"way": 1}, "way must be from 2"), ({"epsilon": 1.5}, "epsilon must be from 0.0 to 1.0"),
        ({"inner": "lbfgs"}, "inner must be one of adam, sgd"), ({"train_shot": 0}, "train_shot must be from 1"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            reptile.Config(**options)
