"""Q-learning against exact methods that share nothing with it: linear programs, policy iteration, enumeration."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.elsewhere import same_elsewhere
from tinygen import backend as library
from tinygen.data import ArrayImages, Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Curves, verbs_of, verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen.testing.strict import counting
from tinygen_plugins.meta import q_learning
from tinygen_plugins.meta._environments import MAPS, Environment, grid_environment

gammas = st.floats(0.0, 0.95)
DATA = DataSpec(name="noise", channels=1, height=8, width=8, count=20)


def place(array, dtype=None):
    return library.current().from_host(np.asarray(array, dtype))


def process(seed, states=4, moves=3, ending=True):
    """A random process: p(s'|s, a) (S, A, S), rewards (S, A, S), which outcomes end it; and the same as Environment."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(states, 0.5), size=(states, moves))
    r = random.uniform(-1, 1, size=p.shape)
    ends = random.uniform(size=p.shape) < (0.15 if ending else 0)
    following = np.broadcast_to(np.arange(states), p.shape).copy()
    world = Environment(place(following), place(p), place(r), place(ends), place(np.arange(states)))
    return p, r, ends, world


def by_linear_program(p, r, ends, gamma):
    """min Σ V with V(s) ≥ Σ p (r + γ V(s')) for all moves: its solution is the value of the best policy."""
    states = len(p)
    rows = np.eye(states)[:, None, :] - gamma * p * ~ends  # (S, A, S)
    solved = scipy.optimize.linprog(
        np.ones(states), -rows.reshape(-1, states), -(p * r).sum(2).ravel(), bounds=(None, None)
    )
    assert solved.success
    return solved.x


def by_policy_iteration(p, r, ends, gamma):
    """The values (S,) of the best policy: solve, improve, until nothing changes."""
    states, policy = np.arange(len(p)), np.zeros(len(p), int)
    while True:
        transitions = (p * ~ends)[states, policy]
        values = np.linalg.solve(np.eye(len(p)) - gamma * transitions, (p * r).sum(2)[states, policy])
        q = (p * (r + gamma * ~ends * values)).sum(2)
        better = np.where(q.max(1) > q[states, policy] + 1e-12, q.argmax(1), policy)
        if np.array_equal(better, policy):
            return values, q
        policy = better


def swept(world, gamma, sweeps=600):
    q = place(np.zeros(world.shape))
    for _ in range(sweeps):
        q = q_learning.optimality_operator(q, world, gamma)
    return host(q)


# ---------------------------------------------------------------- equations


@verifies(q_learning.optimality_operator)
@given(seeds(), gammas, st.data())
def test_the_optimality_operator_contracts_by_gamma(seed, gamma, data):
    world = process(seed)[-1]
    a, b = (data.draw(reals(world.shape, -5, 5)) for _ in range(2))
    left, right = (host(q_learning.optimality_operator(place(q), world, gamma)) for q in (a, b))
    assert np.abs(left - right).max() <= gamma * np.abs(a - b).max() + 1e-12
    raised = host(q_learning.optimality_operator(place(a + 1.0), world, gamma))
    survives = (host(world.chances) * ~host(world.ends)).sum(2)
    close(raised - left, gamma * survives, rtol=1e-9, atol=1e-12)  # the bound is met where nothing ends


@verifies(q_learning.optimality_operator)
@given(seeds(), st.floats(0.1, 0.9))
def test_its_fixed_point_solves_the_linear_program_and_ends_policy_iteration(seed, gamma):
    p, r, ends, world = process(seed)
    q = swept(world, gamma)
    close(q.max(1), by_linear_program(p, r, ends, gamma), rtol=1e-6, atol=1e-7)
    close(q, by_policy_iteration(p, r, ends, gamma)[1], rtol=1e-8, atol=1e-10)


@verifies(q_learning.optimality_operator, q_learning.target)
@given(seeds(), st.floats(-3, 3), st.floats(0.1, 0.9))
def test_without_a_future_the_mean_reward_and_with_one_a_shift_by_c(seed, c, gamma):
    p, r, _, world = process(seed, ending=False)
    close(swept(world, 0.0, 2), (p * r).sum(2), rtol=1e-9, atol=1e-12)
    shifted = Environment(world.following, world.chances, world.rewards + c, world.ends, world.starts)
    close(swept(shifted, gamma), swept(world, gamma) + c / (1 - gamma), rtol=1e-7, atol=1e-8)


@verifies(q_learning.target)
@given(reals((5, 3), -4, 4), reals((5,), -2, 2), gammas)
def test_the_target_counts_nothing_beyond_an_end(values, rewards, gamma):
    ends = np.array([True, False, True, False, False])
    found = host(q_learning.target(place(rewards), place(ends), place(values), gamma))
    for i in range(5):
        best = max(rewards[i] + gamma * v for v in values[i])
        close(found[i], np.array(rewards[i] if ends[i] else best), rtol=1e-12)


@verifies(q_learning.target, q_learning.double_target)
@given(seeds(), st.integers(2, 6))
def test_the_largest_of_noisy_values_is_too_large_and_double_is_not(seed, moves):
    """All moves are worth 0, known up to unit noise: E max of so many normals, by quadrature, against 0 (25f)."""
    random, n = np.random.default_rng(seed), 20_000
    own, other = (place(random.normal(size=(n, moves))) for _ in range(2))
    nothing, on = place(np.zeros(n)), place(np.zeros(n, bool))
    single = host(q_learning.target(nothing, on, own, 1.0)).mean()
    double = host(q_learning.double_target(nothing, on, own, other, 1.0)).mean()
    law, x = scipy.stats.norm, np.linspace(-9, 9, 4001)
    expected = np.trapezoid(x * moves * law.pdf(x) * law.cdf(x) ** (moves - 1), x)
    assert abs(single - expected) < 5 / math.sqrt(n)
    assert abs(double) < 5 / math.sqrt(n) < expected


@verifies(q_learning.double_target)
@given(reals((4, 3), -4, 4), reals((4, 3), -4, 4), reals((4,), -2, 2), gammas)
def test_double_asks_the_other_table_about_its_own_best_move(own, other, rewards, gamma):
    ends = np.array([False, True, False, False])
    found = host(q_learning.double_target(place(rewards), place(ends), place(own), place(other), gamma))
    for i in range(4):
        move = max(range(3), key=lambda a: own[i][a])
        close(found[i], np.array(rewards[i] + (0 if ends[i] else gamma * other[i][move])), rtol=1e-12)


@verifies(q_learning.corrected, q_learning.visit_rate)
@given(reals((7,), -3, 3), st.floats(-2, 2))
def test_corrections_by_one_over_n_make_the_mean(targets, first):
    value = place(np.array([first]))
    for n, y in enumerate(targets, 1):
        rate = q_learning.visit_rate(place(np.array([n]), "int32"), 1.0, 1.0)
        value = q_learning.corrected(value, place(np.array([y])), rate)
    close(value, np.array([targets.mean()]), rtol=1e-5, atol=1e-6)


@verifies(q_learning.corrected)
@given(reals((4,), -3, 3), reals((4,), -3, 3), st.floats(0, 1))
def test_a_correction_goes_part_of_the_way(values, targets, alpha):
    expected = [np.interp(alpha, [0, 1], [v, y]) for v, y in zip(values, targets)]
    close(q_learning.corrected(place(values), place(targets), alpha), np.array(expected), rtol=1e-9, atol=1e-12)


@verifies(q_learning.visit_rate)
@given(st.floats(0.1, 1), st.floats(0.5, 1))
def test_the_rate_of_visits_in_logarithms(alpha, power):
    found = host(q_learning.visit_rate(place(np.array([1, 10, 100]), "int32"), alpha, power))
    close(np.log10(found), math.log10(alpha) - power * np.arange(3), rtol=1e-5, atol=1e-6)


@verifies(q_learning.mean_where_met)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.data())
def test_those_that_meet_share_their_mean(pairs, data):
    targets = data.draw(reals((len(pairs),), -3, 3, layouts=False))
    expected = [np.mean([y for other, y in zip(pairs, targets) if other == pair]) for pair in pairs]
    close(q_learning.mean_where_met(place(pairs), place(targets)), np.array(expected), rtol=1e-9, atol=1e-12)


@verifies(q_learning.linear)
@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 30), st.integers(1, 20))
def test_a_linear_schedule(first, last, step, steps):
    close(q_learning.linear(first, last, step, steps), np.interp(step, [0, steps], [first, last]), atol=1e-12)


@verifies(q_learning.epsilon_greedy)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=5), st.floats(0, 1))
def test_epsilon_greedy_by_enumeration(row, epsilon):
    best = [a for a, q in enumerate(row) if q == max(row)]
    expected = np.zeros(len(row))
    for any_move in range(len(row)):
        expected[any_move] += epsilon / len(row)
    for a in best:
        expected[a] += (1 - epsilon) / len(best)
    close(q_learning.epsilon_greedy(place([row], "float64"), epsilon), expected[None], rtol=1e-9, atol=1e-12)
    u = (np.arange(2000) + 0.5) / 2000
    chances = place(np.repeat(expected[None], 2000, 0))
    drawn = np.bincount(host(q_learning.draw_actions(chances, place(u))), minlength=len(row)) / 2000
    close(drawn, expected, rtol=1e-9, atol=1.01e-3)


@verifies(q_learning.policy_values)
@given(seeds(), gammas)
def test_values_of_a_policy_are_the_sum_of_its_future(seed, gamma):
    p, r, ends, _ = process(seed)
    transitions, rewards = (p * ~ends)[:, 0], (p * r).sum(2)[:, 0]
    expected, now = np.zeros(len(p)), np.eye(len(p))
    for _ in range(800):  # Neumann's series
        expected, now = expected + now @ rewards, gamma * now @ transitions
    close(q_learning.policy_values(place(transitions), place(rewards), gamma), expected, rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------- the worlds, exactly


def test_the_headline_figures_of_the_worlds(backend):
    lake, cliff, maze = (grid_environment(name) for name in ("frozen-lake", "cliff-walking", "grid-world"))
    close(q_learning.optimal_return(lake), np.array(14 / 17), rtol=1e-9)
    close(q_learning.returns_within(lake, 100)[-1], np.array(0.74419), atol=5e-6)
    assert q_learning.optimal_return(cliff) == -13 and q_learning.optimal_return(maze) == -14


@verifies(q_learning.policy_values)
@settings(max_examples=8)
@given(seeds())
def test_the_return_of_any_moves_on_the_lake(seed):
    """Against episodes of 5,000 moves at most, their chances added up in NumPy."""
    world = grid_environment("frozen-lake")
    policy = np.random.default_rng(seed).integers(4, size=16)
    following, chances, rewards, ends = (
        host(each)[np.arange(16), policy] for each in (world.following, world.chances, world.rewards, world.ends)
    )
    here, gained = np.eye(16)[0], 0.0
    for _ in range(5000):
        gained += (here[:, None] * chances * rewards).sum()
        onward = here[:, None] * chances * ~ends
        here = np.bincount(following.ravel(), onward.ravel(), minlength=16)
    close(q_learning.return_of(world, place(policy)), np.array(gained), rtol=1e-7, atol=1e-9)
    within = host(q_learning.returns_within(world, 3, place(policy)))
    assert within.shape == (3,) and (within <= gained + 1e-12).all()


def test_moves_without_an_end_bring_minus_infinity():
    world = grid_environment("cliff-walking")
    assert q_learning.return_of(world, place(np.zeros(48, int))) == -math.inf
    up_along_and_down = np.ones(48, int)
    up_along_and_down[36], up_along_and_down[35] = 0, 2
    assert q_learning.return_of(world, place(up_along_and_down)) == -13


# ---------------------------------------------------------------- the algorithm


def learner(seed=0, **options):
    settled = {"agents": 8, "moves": 10, "side": 6, "batch_size": 3, "steps": 20, **options}
    return q_learning.QLearning(q_learning.Config(**settled), DATA, Stream(seed, "q"))


def batches(size=3):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    return Batches(ArrayImages(pixels), size, Stream(0, "b"))


def trained(count, world=None, **options):
    model = learner(**{"steps": count, **options})
    if world is not None:
        model.environment = world
        model.tables, model.visits = (
            place(np.zeros((len(host(model.tables)), *world.shape)), kind) for kind in ("float32", "int32")
        )
        model.states = model.begin(place(np.zeros(model.config.agents), np.float32))
    fit = model.fit(batches())
    for _ in range(count):
        next(fit)
    return model


@pytest.mark.parametrize("double", [False, True])
@verifies(q_learning.corrected, q_learning.target, q_learning.double_target)
@settings(max_examples=3)
@given(st.integers(0, 100))
def test_it_converges_to_value_iteration_on_random_processes(double, seed):
    """25c: α = 1/n; moves at random; the table within 0.05 of the values by policy iteration."""
    p, r, ends, world = process(seed)
    options = {"environment": "frozen-lake", "schedule": "visits", "power": 1.0, "gamma": 0.5, "double": double}
    model = trained(30, world, epsilon=1.0, final_epsilon=1.0, agents=48, moves=60, limit=50, **options)
    assert np.abs(host(model.tables) - by_policy_iteration(p, r, ends, 0.5)[1]).max() < 0.05


@pytest.mark.parametrize(("name", "best"), [("cliff-walking", -13.0), ("grid-world", -14.0)])
def test_it_learns_the_best_way(name, best, backend):
    model = trained(60, environment=name, agents=32, moves=30)
    assert q_learning.return_of(model.environment, model.policy()) == best
    figures = model.evaluate(Dataset("none", {}, (1, 8, 8)), Stream(0, "e")) if backend.name == "numpy" else None
    if figures:
        assert figures["learnt_return"] == figures["optimal_return"] == figures["played_return"] == best
        assert figures["played_low"] == figures["played_high"] == figures["learnt_within_limit"] == best


def test_the_interval_of_what_is_played_is_students():
    """On ice an episode brings 0 or 1, so that the share of ones tells the variance."""
    figures = trained(20, environment="frozen-lake").evaluate(Dataset("none", {}, (1, 8, 8)), Stream(0, "e"))
    share, n = figures["played_return"], q_learning.EPISODES
    assert 0 < share < 1
    half = scipy.stats.t.ppf(0.975, n - 1) * math.sqrt(share * (1 - share) / (n - 1))
    close(np.array([figures["played_low"], figures["played_high"]]), share + np.array([-half, half]), rtol=1e-6)


def test_what_is_played_is_what_the_policy_brings_where_moves_tie():
    """A table of zeros: all moves are as good, and the first of them is the policy's."""
    figures = learner(environment="frozen-lake").evaluate(Dataset("none", {}, (1, 8, 8)), Stream(0, "e"))
    assert figures["learnt_within_limit"] == figures["played_return"] == 0


def test_an_episode_that_is_cut_off_has_not_ended():
    """One state, reward 1 a move for ever: worth 1/(1 − γ), though episodes last three moves. Ended, it is worth 1."""
    for ends, worth in ((False, 2.0), (True, 1.0)):
        one = Environment(*(place(np.full((1, 1, 1), x)) for x in (0, 1.0, 1.0, ends)), place(np.array([0])))
        model = trained(5, one, environment="cliff-walking", gamma=0.5, limit=3, agents=2)
        close(model.tables, np.full((1, 1, 1), worth), rtol=1e-6)
        assert host(model.ages).max() < 3
        close(model.last_returns, np.full(2, 1.0 if ends else 3.0))


@verifies(q_learning.double_target)
def test_of_two_tables_one_learns_and_the_other_judges():
    model = learner(environment="cliff-walking", double=True, gamma=0.5, agents=2)
    model.tables = place(np.stack([np.tile([1.0, 2, 3, 4], (48, 1)), np.tile([8.0, 7, 6, 5], (48, 1))]), "float32")
    states, following = place([0, 1]), place([2, 3])
    move = q_learning.Move(states, states, place([0.0, 0.0], "float32"), following, place([False, False]))
    model.learn(move, place([0.9, 0.1], "float32"))  # the first agent's correction goes to A, the second's to B
    tables = host(model.tables)
    close(tables[0, 0], np.array([2.5, 2, 3, 4]))  # A prefers move 3, of which B thinks 5
    close(tables[1, 1], np.array([8, 0.5, 6, 5]))  # B prefers move 0, of which A thinks 1
    assert (tables[0, 1:] == [1, 2, 3, 4]).all() and (tables[1, 0] == [8, 7, 6, 5]).all()


def test_the_last_move_is_learnt_first_so_that_a_reward_is_known_at_once():
    """A corridor of five: after one step, the first state knows what lies at its end."""
    following = np.arange(1, 6).reshape(5, 1, 1) % 5
    rewards, ends = np.zeros((5, 1, 1)), np.zeros((5, 1, 1), bool)
    rewards[4], ends[4] = 1.0, True
    world = Environment(*map(place, (following, np.ones((5, 1, 1)), rewards, ends, np.array([0]))))
    model = trained(1, world, environment="cliff-walking", moves=5, agents=1, explorers=0.0)
    close(model.tables, np.ones((1, 5, 1)))


def test_the_pen_draws_what_it_is_rewarded_for():
    model = trained(60, agents=48, moves=60)
    (world, policy), random = (model.environment, model.policy()), Stream(0, "e")
    figures = model.evaluate(Dataset("none", {}, (1, 8, 8)), random)
    assert figures["pixels_right"] > 0.95
    assert 0.95 * figures["optimal_return"] < figures["learnt_return"] <= figures["optimal_return"] + 1e-9
    ink, passed = map(host, model.draw(world.starts, random, 0.0))
    assert ((ink == 0) | (passed == 1)).all()
    targets = host(model.targets)
    gained = (ink * (2 * targets - 1)).sum() / 3
    moves = (gained - q_learning.return_of(world, policy)) * 100
    assert 6 <= moves <= 108 and abs(moves - round(moves * 3) / 3) < 1e-2  # every move costs 0.01
    pictures = model.illustrate(Dataset("none", {}, (1, 8, 8)), random)
    assert pictures["wanted"].shape == (3, 1, 6, 6) and pictures["drawn"].shape == (3, 3, 6, 6)
    assert host(pictures["drawn"]).min() >= 0 and host(pictures["drawn"]).max() <= 1
    assert isinstance(pictures["within"], Curves) and len(pictures["within"].lines["learnt"]) == 108
    assert model.visits.dtype == np.int32 and model.tables.dtype == np.float32


@pytest.mark.parametrize("name", ["pen", *MAPS])
def test_samples_are_pictures_of_the_seed(name, backend):
    model = trained(2, environment=name, limit=30)
    images = host(model.sample(4, Stream(3, "s")))
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    size = (1, 6, 6) if name == "pen" else (3, 16 * len(MAPS[name]), 16 * len(MAPS[name][0]))
    assert images.shape == (4, *size)
    assert np.array_equal(images, host(model.sample(4, Stream(3, "s"))))
    assert np.isfinite(host(next(model.fit(batches())).metrics["return"]))


@pytest.mark.parametrize("double", [False, True])
def test_training_is_the_same_on_every_backend_and_waits_for_nothing(backend, double):
    def three_steps():
        model = trained(1, double=double, schedule="visits")
        fit = model.fit(batches())
        with counting() as counts:
            next(fit), next(fit)
        assert counts.to_host == counts.synchronizations == 0
        return {"tables": host(model.tables), "visits": host(model.visits), "states": host(model.states)}

    same_elsewhere(three_steps, backend, rtol=1e-5, atol=1e-6)


def test_the_spec_tells_the_verbs_of_the_class():
    from tinygen_plugins import meta

    (spec,) = [spec for spec in meta.tinygen_algorithms() if spec.name == "q_learning"]
    assert set(spec.verbs) == set(verbs_of(q_learning.QLearning))


def test_what_does_not_fit_is_refused():
    for options, message in (
        ({"environment": "frozen-pond"}, "environment must be one of pen, grid-world, .*, got frozen-pond"),
        ({"schedule": "never"}, "schedule must be one of visits, constant, linear, got never"),
        ({"gamma": 1.5}, "gamma must be from 0.0 to 1.0, got 1.5"),
        ({"epsilon": -0.1}, "epsilon must be from 0.0 to 1.0"),
        ({"agents": 0}, "agents must be from 1 to 4096, got 0"),
        ({"power": 0.4}, "power must be from 0.5 to 1.0"),
    ):
        with pytest.raises(UsageError, match=message):
            q_learning.Config(**options)
    with pytest.raises(UsageError, match="the pen is to learn 30 pictures, the data have 20"):
        learner(batch_size=30)
