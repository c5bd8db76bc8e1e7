r"""Q-learning with a table (Watkins and Dayan 1992), and a pen that learns by reward to draw pictures.

An agent in state s makes move a, receives the reward r and finds itself in s'. Q(s, a) is to tell the sum of rewards,
each next one discounted by γ, that is to be had from there on by the best moves. After each move it is corrected:

    Q(s, a) ← Q(s, a) + α [r + γ max_a' Q(s', a') − Q(s, a)].

Nothing of the world is known to the learner, neither chances nor rewards; and the best moves are learnt though others
are made, as a share ε of them are at random, to find out what they bring.

Where the episode ends there is no s': the target is r alone. An episode that is only cut off, because it has lasted
long enough, has not ended in that sense; there the target keeps its second term. Programs often confuse the two, and
then learn that time runs out, which no state tells.

A table of single numbers makes poor work for a processor, and worse for a GPU: here a crowd of agents moves at once,
each in a world of its own, and all write into one table. Those that meet in one (s, a) make one correction, with the
mean of their targets. And as corrections may be made in any order, those of a step are made from its last move back to
its first, so that what is found at the end is known at the beginning at once (Lin 1992).

Read from the equations down to `fit` and `move`. The worlds stand in `_environments.py`, whole and exact, so that
`evaluate` can say what the learnt moves are worth and what the best would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import tinygen.functional as F
from tinygen import metrics
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, current, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Curves, Evaluable, Illustrator, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.meta._environments import (
    DRAW,
    draw_actions,
    draw_one_of,
    draw_start,
    grid_environment,
    optimal_return,
    optimality_operator,
    pen_environment,
    pen_pixel,
    play_move,
    policy_values,
    return_of,
    returns_within,
    world_picture,
)

# The equations, by name, so that `tinygen show q_learning` prints them all.
__all__ = [
    "Config", "QLearning", "corrected", "double_target", "epsilon_greedy", "linear", "mean_where_met",
    "optimality_operator", "policy_values", "target", "visit_rate",
]  # fmt: skip

LIMITS = {"grid-world": 200, "cliff-walking": 200, "frozen-lake": 100, "frozen-lake-8x8": 200}  # moves an episode
EPISODES = 2000  # that `evaluate` plays

World = Literal["pen", "grid-world", "cliff-walking", "frozen-lake", "frozen-lake-8x8"]
Schedule = Literal["visits", "constant", "linear"]


@dataclass(frozen=True)
class Config:
    """The world, the learner, and how it explores."""

    environment: World = "pen"
    """the world: a pen that is to draw pictures of the data, or one of four on a grid"""
    steps: int = 1000
    """steps to train for, each of so many moves of all agents as `moves` says"""
    agents: int = 128
    """agents that move at once, each in a world of its own"""
    moves: int = 100
    """moves of each agent in a step"""
    gamma: float | None = None
    """discount of what comes a move later; None: 0.999 on ice, where a move costs nothing, else 1"""
    schedule: Schedule | None = None
    """learning rate: α divided by visits^power, constant, or falling evenly to 0; None: visits on ice, else constant,
    as where each move has one outcome only there is nothing to average"""
    alpha: float = 1.0
    """learning rate α to begin with"""
    power: float = 0.7
    """of the schedule visits: 1 for the mean of all targets so far; less forgets the first ones, which knew nothing"""
    epsilon: float = 0.5
    """share of moves at random to begin with; it falls evenly"""
    final_epsilon: float = 0.01
    """share of moves at random in the end"""
    explorers: float = 0.75
    """share of the agents whose episodes begin in any state, to learn of places where the best moves never lead"""
    double: bool = False
    """learn two tables, each of which judges the moves that the other thinks best"""
    limit: int = 0
    """moves after which an episode is cut off; 0: 100 on the small lake, 200 on other grids, 3 a pixel of the sheet"""
    side: int = 14
    """of the pen's sheet, in pixels: pictures are brought to that size"""
    batch_size: int = 16
    """pictures of the data that the pen learns to draw"""
    tremor: float = 0.003
    """share of moves at random when the pen draws samples"""

    def __post_init__(self) -> None:
        check_choice("q_learning", "environment", self.environment, list(get_args(World)))
        if self.schedule is not None:
            check_choice("q_learning", "schedule", self.schedule, list(get_args(Schedule)))
        if self.gamma is not None:
            check_range("q_learning", "gamma", self.gamma, 0.0, 1.0)
        for name, low, high in (
            ("steps", 1, 10**9), ("agents", 1, 4096), ("moves", 1, 10**6), ("alpha", 1e-6, 1.0), ("power", 0.5, 1.0),
            ("epsilon", 0.0, 1.0), ("final_epsilon", 0.0, 1.0), ("limit", 0, 10**9), ("side", 4, 64),
            ("explorers", 0.0, 1.0), ("batch_size", 1, 256), ("tremor", 0.0, 1.0),
        ):  # fmt: skip
            check_range("q_learning", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations


@equation(
    r"y = r + \gamma\, (1 - d) \max_{a'} Q(s', a')",
    source="Watkins and Dayan 1992; d = 1 where the episode ends, and not where it is only cut off",
)
def target(rewards: Array, ends: Array, values: Array, gamma: float) -> Array:
    """What Q(s, a) is drawn towards. rewards, ends: (n,); values: (n, A), Q(s', ·). Gives (n,)."""
    xp = of(values).xp
    return rewards + gamma * xp.where(ends, 0.0, xp.max(values, axis=1))


@equation(
    r"y = r + \gamma\, (1 - d)\, Q_B(s', \arg\max_{a'} Q_A(s', a'))", source="van Hasselt 2010, Double Q-learning"
)
def double_target(rewards: Array, ends: Array, own: Array, other: Array, gamma: float) -> Array:
    """The target of table A: what B thinks of the move that A prefers. own, other: (n, A), Q_A(s', ·) and Q_B(s', ·).

    The largest of several noisy numbers overestimates; here the noise that chooses is not the noise that judges.
    """
    xp = of(own).xp
    judged = xp.take_along_axis(other, xp.argmax(own, axis=1)[:, None], axis=1)[:, 0]
    return rewards + gamma * xp.where(ends, 0.0, judged)


@equation(r"Q(s, a) \leftarrow Q(s, a) + \alpha\, [y - Q(s, a)]", source="Watkins and Dayan 1992")
def corrected(values: Array, targets: Array, alpha: Array | float) -> Array:
    """The entries Q(s, a) (n,) after the correction."""
    return values + alpha * (targets - values)


@equation(
    r"\bar y_i = \frac{\sum_j [(s_j, a_j) = (s_i, a_i)]\, y_j}{\sum_j [(s_j, a_j) = (s_i, a_i)]}",
    source="the mean over the agents that are in the same place and make the same move",
)
def mean_where_met(pairs: Array, targets: Array) -> Array:
    """The targets (n,), each in place of it the mean of those with the same number in `pairs` (n,)."""
    same = (pairs[:, None] == pairs[None, :]).astype(targets.dtype)  # (n, n)
    return same @ targets / same.sum(1)


@equation(r"\alpha_n = \alpha\, n(s, a)^{-\omega}", source="Even-Dar and Mansour 2003; 1/n is ω = 1")
def visit_rate(visits: Array, alpha: float, power: float) -> Array:
    """The learning rate at the n-th visit of a pair, n = visits ≥ 1. It converges for 1/2 < ω ≤ 1; ω = 1 gives the
    mean of the targets, in which the first ones, made when Q knew nothing, weigh as much as the last."""
    return alpha * visits.astype("float32") ** -power


@equation(r"x_k = x_0 + (x_1 - x_0) \min(1, k / K)", source="the usual schedule of exploration")
def linear(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 evenly to `last` at step `steps`, which then stays."""
    return first + (last - first) * min(1.0, step / steps)


@equation(
    r"\pi(a \mid s) = \frac{\varepsilon}{|A|} + (1 - \varepsilon)\, "
    r"\frac{[Q(s, a) = \max Q(s, \cdot)]}{|\{a' : Q(s, a') = \max Q(s, \cdot)\}|}",
    source="Watkins 1989; moves that are equally good share",
)
def epsilon_greedy(values: Array, epsilon: float) -> Array:
    """The chance of each move, (n, A), from Q(s, ·), (n, A)."""
    xp = of(values).xp
    best = (values == xp.max(values, axis=1, keepdims=True)).astype(values.dtype)
    return epsilon / values.shape[1] + (1 - epsilon) * best / best.sum(1, keepdims=True)


# ---------------------------------------------------------------- the algorithm


class Move(NamedTuple):
    """One move of each of n agents: (n,) arrays."""

    states: Array
    actions: Array
    rewards: Array
    following: Array  # the states that they came to
    ends: Array  # whether the episode was over then


class QLearning(Trainable, Sampler, Evaluable, Illustrator):
    """A crowd of agents, and the table that they write together."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if config.environment == "pen" and data.count < config.batch_size:
            raise UsageError(
                f"q_learning: the pen is to learn {config.batch_size} pictures, the data have {data.count}",
                f"--batch-size {data.count}, or more data",
            )
        self.config = config
        xp, n = current().xp, config.agents
        ice, self.is_pen = config.environment.startswith("frozen-lake"), config.environment == "pen"
        self.gamma = (0.999 if ice else 1.0) if config.gamma is None else config.gamma
        self.schedule = config.schedule or ("visits" if ice else "constant")
        self.limit = config.limit or LIMITS.get(config.environment, 3 * config.side**2)
        self.targets = xp.zeros((config.batch_size, config.side, config.side), "float32")  # wanted of the pen
        self.has_targets = False
        self.environment = pen_environment(self.targets) if self.is_pen else grid_environment(config.environment)
        self.tables = xp.zeros((2 if config.double else 1, *self.environment.shape), "float32")  # (1 or 2, S, A)
        self.visits = xp.zeros(self.tables.shape, "int32")
        self.random = random.child("moves")
        self.explorers = min(round(config.explorers * n), n - 1)
        self.states = self.begin(self.random.uniform(n))
        self.ages = xp.zeros(n, "int32")  # moves in this episode
        self.returns = xp.zeros(n, "float32")  # rewards in this episode
        self.last_returns = xp.zeros(n, "float32")  # of the episode before
        self.finished = xp.zeros(n, bool)  # whether there was one
        self.step = 0

    def fit(self, batches: Batches) -> Iterator[Step]:
        """The pen is told what to draw; then all agents move, and learn from their moves, the last one first."""
        if self.is_pen and not self.has_targets:
            self.take_targets(next(batches).images)
        while True:
            numbers = self.random.uniform((self.config.moves, 4, self.config.agents))
            moves = [self.move(u) for u in numbers]
            for move, u in zip(moves[::-1], numbers[::-1]):
                self.learn(move, u[2])
            self.step += 1
            returns, finished = self.last_returns[self.explorers :], self.finished[self.explorers :]
            mean = returns.sum() / of(returns).xp.maximum(finished.sum(), 1)  # of the agents that have come to an end
            yield Step({"return": mean, "q_at_start": self.start_values().mean()})

    def move(self, u: Array) -> Move:
        """One move of every agent. u: (4, n) from [0, 1)."""
        xp, config = of(u).xp, self.config
        states = self.states
        epsilon = linear(config.epsilon, config.final_epsilon, self.step, config.steps)
        actions = draw_actions(epsilon_greedy(self.q(states), epsilon), u[0])
        following, rewards, ends = play_move(self.environment, states, actions, u[1])
        self.ages += 1
        self.returns += rewards
        over = ends | (self.ages >= self.limit)  # ended, or cut off
        self.last_returns = xp.where(over, self.returns, self.last_returns)
        self.finished = self.finished | over
        self.returns = xp.where(over, 0.0, self.returns).astype("float32")
        self.ages = xp.where(over, 0, self.ages).astype("int32")
        self.states = xp.where(over, self.begin(u[3]), following)
        return Move(states, actions, rewards, following, ends)

    def begin(self, u: Array) -> Array:
        """A state for each agent to begin an episode in, (n,): explorers come first. u: (n,) from [0, 1)."""
        xp, (count, _) = of(u).xp, self.environment.shape
        return xp.where(xp.arange(len(u)) < self.explorers, draw_one_of(count, u), draw_start(self.environment, u))

    def learn(self, move: Move, u: Array) -> None:
        """The corrections that follow from one move of every agent. u: (n,) from [0, 1), which of two tables learns."""
        xp = of(u).xp
        table = (u < 0.5).astype("int64") if self.config.double else xp.zeros(len(u), "int64")
        own = self.tables[table, move.following]  # (n, A)
        if self.config.double:
            other = self.tables[1 - table, move.following]
            targets = double_target(move.rewards, move.ends, own, other, self.gamma)
        else:
            targets = target(move.rewards, move.ends, own, self.gamma)
        self.correct((table, move.states, move.actions), targets)

    def correct(self, entries: tuple[Array, Array, Array], targets: Array) -> None:
        """Draw the entries (table, s, a), (n,) each, towards their targets. Agents that meet write the same."""
        table, states, actions = entries
        _, s, a = self.tables.shape
        targets = mean_where_met((table * s + states) * a + actions, targets)
        self.visits[entries] = self.visits[entries] + 1
        self.tables[entries] = corrected(self.tables[entries], targets, self.rate(entries))

    def rate(self, entries: tuple[Array, Array, Array]) -> Array | float:
        """The learning rate α of each entry, or of all."""
        config = self.config
        if self.schedule == "visits":
            return visit_rate(self.visits[entries], config.alpha, config.power)
        return linear(config.alpha, 0.0, self.step, config.steps) if self.schedule == "linear" else config.alpha

    def q(self, states: Array) -> Array:
        """Q(s, ·), (n, A): the mean of both tables where there are two."""
        return self.tables[:, states].mean(0)

    def start_values(self) -> Array:
        """What the table thinks that an episode is worth, for each state in which one may begin."""
        return self.q(self.environment.starts).max(1)

    def take_targets(self, images: Tensor) -> None:
        """Pictures (n, c, h, w) in [0, 1] become what the pen is to draw, in grey and in full contrast."""
        with no_grad():
            grey = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), self.config.side)  # (n, 1, side, side)
        xp, ink = of(grey.data).xp, grey.data[:, 0]
        self.targets = ink / xp.maximum(xp.max(ink, axis=(1, 2), keepdims=True), 1e-6)
        self.environment = pen_environment(self.targets)
        self.has_targets = True

    # ------------------------------------------------------------ what has been learnt

    def play(self, states: Array, random: Stream, epsilon: float) -> Iterator[tuple[Move, Array]]:
        """Episodes from the given states (n,) on, by the policy but for a share of the moves at random; nothing is
        learnt. Gives each move, and for each agent whether its episode was still going on, (n,)."""
        xp, policy, moves = of(states).xp, self.policy(), self.environment.shape[1]
        going = xp.ones(len(states), bool)
        for _ in range(self.limit):
            u = random.uniform((3, len(states)))
            actions = xp.where(u[0] < epsilon, draw_one_of(moves, u[2]), policy[states])
            following, rewards, ends = play_move(self.environment, states, actions, u[1])
            yield Move(states, actions, rewards, following, ends), going
            going = going & ~ends
            states = following

    def sample(self, n: int, random: Stream) -> Tensor:
        """Of the pen, n drawings (n, 1, side, side), each of a picture that chance chooses. Of another world, n
        pictures of it from above, (n, 3, h, w), with the best moves, and a trial of them in white."""
        states = draw_start(self.environment, random.uniform(n))
        if self.is_pen:
            return tensor(self.draw(states, random, self.config.tremor)[0][:, None])
        xp, values = of(self.tables).xp, self.tables.mean(0)  # (S, A)
        agents, visited = xp.arange(n), xp.zeros((n, len(values)), bool)
        for move, going in self.play(states, random, epsilon=0.0):
            visited[agents, move.states] |= going
        name, policy = self.config.environment, self.policy()
        return tensor(xp.stack([world_picture(name, xp.max(values, axis=1), policy, each) for each in visited]))

    def draw(self, states: Array, random: Stream, tremor: float) -> tuple[Array, Array]:
        """What the pen draws from the given states (n,) on: (n, side, side), and 1 where it has been, likewise."""
        xp, n, side = of(states).xp, len(states), self.config.side
        ink, passed, agents = xp.zeros((n, side**2), "float32"), xp.zeros((n, side**2), "float32"), xp.arange(n)
        for move, going in self.play(states, random, tremor):
            pixel = pen_pixel(move.states, side)
            for sheet, marks in ((passed, going), (ink, going & (move.actions == DRAW))):
                sheet[agents, pixel] = xp.maximum(sheet[agents, pixel], marks.astype("float32"))
        return ink.reshape(n, side, side), passed.reshape(n, side, side)

    def policy(self) -> Array:
        """The best move of each state by the table, (S,)."""
        return self.tables.mean(0).argmax(1)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """What the learnt moves bring in an episode, undiscounted, beside the most that any can bring: exactly, without
        end and within the limit, and as the mean of episodes that are played, with its interval of 95 %.

        Moves that never come to an end bring −∞. Of a pen, also the share of the pixels that are as they should be.
        """
        world, policy = self.environment, self.policy()
        where = of(policy)
        states = draw_start(world, random.uniform(EPISODES))
        played = sum(move.rewards * going for move, going in self.play(states, random, epsilon=0.0))
        mean, half = (where.scalar(each) for each in metrics.mean_interval(played))
        figures = {
            "learnt_return": return_of(world, policy),
            "optimal_return": optimal_return(world),
            "learnt_within_limit": where.scalar(returns_within(world, self.limit, policy)[-1]),
            "optimal_within_limit": where.scalar(returns_within(world, self.limit)[-1]),
            "played_return": mean,
            "played_low": mean - half,
            "played_high": mean + half,
            "limit": self.limit,
        }
        if self.is_pen:
            ink, _ = self.draw(world.starts, random, 0.0)
            figures["pixels_right"] = where.scalar(((ink > 0.5) == (self.targets > 0.5)).mean())
        return figures

    def illustrate(self, data: Dataset, random: Stream) -> Mapping[str, Tensor | Curves]:
        """What is to be had within so many moves; the world and the best moves; of a pen, what it was to draw, and
        what it draws: ink in white, its way in blue, in red what is missing and in yellow what is too much."""
        world, policy = self.environment, self.policy()
        where = of(policy)
        curves = {"learnt": returns_within(world, self.limit, policy), "optimal": returns_within(world, self.limit)}
        within = Curves(
            x=range(1, self.limit + 1),
            lines={name: where.to_host(curve).tolist() for name, curve in curves.items()},
            x_label="moves left", y_label="expected return",
        )  # fmt: skip
        if not self.is_pen:
            return {"world": self.sample(1, random), "within": within}
        ink, passed = self.draw(world.starts, random, 0.0)
        wanted = (self.targets > 0.5).astype("float32")
        missing, surplus, way = (1 - ink) * wanted, ink * (1 - wanted), (1 - ink) * (1 - wanted) * passed
        drawn = where.xp.stack([ink + missing, ink - 0.2 * surplus + 0.2 * way, ink - surplus + 0.5 * way], 1)
        return {"wanted": tensor(self.targets[:, None]), "drawn": tensor(drawn), "within": within}
