"""Worlds to act in: finite Markov decision processes, told exactly, and how a crowd of agents moves through one.

A process is a table: move a in state s has m outcomes, each with its chance, its reward, the state that follows, and
whether the episode ends there. Nothing of it is hidden from the exact methods of `q_learning`, which solve it; the
learner only plays.

- "grid-world"       the maze of Sutton and Barto, Reinforcement Learning, 2nd edition, example 8.1: −1 a move;
- "cliff-walking"    example 6.6: −1 a move, −100 for a step off the cliff, which leads back to the start;
- "frozen-lake"      the lake of Gymnasium, 4 × 4 and 8 × 8: 1 for reaching the goal; two moves of three slip aside;
- "pen"              a pen above a sheet, which is to draw given pictures: see `pen_environment`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

# S start, G goal, # wall, C cliff, H hole, . floor
MAPS = {
    "grid-world": (".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", "........."),
    "cliff-walking": ("............", "............", "............", "SCCCCCCCCCCG"),
    "frozen-lake": ("S...", ".H.H", "...H", "H..G"),
    "frozen-lake-8x8": (
        "S.......", "........", "...H....", ".....H..", "...H....", ".HH...H.", ".H..H.H.", "...H...G",
    ),
}  # fmt: skip
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left: rows grow downwards
FALL = -100.0  # off the cliff

LEFT, RIGHT, DOWN, DRAW = range(4)  # what the pen can do
HEADINGS, INKS = 3, 2  # how the pen moved in this row: not yet, left, right; and whether there is ink under it
PRICE = 0.01  # of each thing that the pen does


@dataclass
class Environment:
    """A finite Markov decision process of S states with A moves of m outcomes each.

    following: (S, A, m) whole numbers, the state after each outcome. chances, rewards: (S, A, m) float64.
    ends: (S, A, m) booleans, whether the episode is over then: what follows counts nothing.
    starts: (k,) states in which an episode may begin, all equally likely.
    """

    following: Array
    chances: Array
    rewards: Array
    ends: Array
    starts: Array

    @property
    def shape(self) -> tuple[int, int]:
        """How many states and moves there are."""
        states, actions, _ = self.following.shape
        return states, actions


def draw_start(environment: Environment, u: Array) -> Array:
    """A state to begin in for each u (n,) from [0, 1)."""
    return environment.starts[draw_one_of(len(environment.starts), u)]


def draw_one_of(count: int, u: Array) -> Array:
    """One of the numbers 0 … count − 1, all as likely, for each u (n,) from [0, 1)."""
    return backend.of(u).xp.minimum((u * count).astype("int64"), count - 1)


def draw_actions(chances: Array, u: Array) -> Array:
    """A move for each agent: chances (n, A), u (n,) from [0, 1)."""
    xp = backend.of(u).xp
    passed = u[:, None] >= xp.cumsum(chances, axis=1)
    return xp.minimum(xp.sum(passed, axis=1), chances.shape[1] - 1)


def play_move(environment: Environment, states: Array, actions: Array, u: Array) -> tuple[Array, Array, Array]:
    """What follows the moves of n agents, (n,) each: states, rewards, and whether the episode ends.

    u: (n,) from [0, 1), which of the outcomes it is.
    """
    xp = backend.of(states).xp
    chances = environment.chances[states, actions]  # (n, m)
    passed = u[:, None] >= xp.cumsum(chances, axis=1)  # outcomes that u lies beyond
    outcome = xp.minimum(xp.sum(passed, axis=1), chances.shape[1] - 1)
    chosen = states, actions, outcome
    return environment.following[chosen], environment.rewards[chosen].astype("float32"), environment.ends[chosen]


# ---------------------------------------------------------------- worlds on a grid


def grid_environment(name: str) -> Environment:
    """The world of MAPS under that name; state row · width + column, moves as in MOVES.

    Who would leave the map or enter a wall stays where he is. On ice a move goes where it should, or to either side of
    that, each with one chance in three.
    """
    layout, is_ice = MAPS[name], name.startswith("frozen-lake")
    height, width = len(layout), len(layout[0])
    price, prize = (0.0, 1.0) if is_ice else (-1.0, -1.0)
    start = "".join(layout).index("S")

    def outcome(row: int, column: int, move: int) -> tuple[int, float, bool]:
        """The state, the reward, and whether the episode ends."""
        here = row * width + column
        if layout[row][column] in "GH":  # where nobody moves any more
            return here, 0.0, True
        row, column = row + MOVES[move][0], column + MOVES[move][1]
        if not (0 <= row < height and 0 <= column < width) or layout[row][column] == "#":
            return here, price, False
        letter = layout[row][column]
        if letter == "C":
            return start, FALL, False
        return row * width + column, prize if letter == "G" else price, letter in "GH"

    turns = (-1, 0, 1) if is_ice else (0,)
    table = [
        [[outcome(row, column, (move + turn) % 4) for turn in turns] for move in range(4)]
        for row in range(height)
        for column in range(width)
    ]
    place = backend.current().asarray
    following, rewards, ends = ([[[each[i] for each in move] for move in state] for state in table] for i in range(3))
    return Environment(
        following=place(following, "int64"),
        chances=backend.current().xp.full((height * width, 4, len(turns)), 1 / len(turns)),
        rewards=place(rewards, "float64"),
        ends=place(ends, "bool"),
        starts=place([start], "int64"),
    )


# ---------------------------------------------------------------- the pen


def pen_environment(targets: Array) -> Environment:
    """A pen that is to draw the pictures `targets` (g, h, w), the ink wanted in [0, 1], one an episode.

    The pen begins at the top left of the sheet and goes left, right, down, or draws; going down from the last row ends
    the episode. A drop of ink earns 2 · target − 1: as much as it fits, less as much
    as it does not; one on ink earns −1. Everything costs PRICE.

    What the sheet holds would be a state of 2^(h w) kinds. But within a row the pen may not turn back, and never goes
    up, so that it meets no ink but that right under it: the state is (picture, row, column, heading in this row, ink
    under the pen), 6 h w for a picture, and the process is exact. To fill a row the pen must enter it at one end, and
    has to see to that in the row above.
    """
    xp = backend.of(targets).xp
    pictures, height, width = targets.shape
    shape = (pictures, height, width, HEADINGS, INKS)
    picture, row, column, heading, ink = xp.indices(shape)  # the state as five coordinates

    def state(row: Array, column: Array, heading: Array | int, ink: Array | int) -> Array:
        return (((picture * height + row) * width + column) * HEADINGS + heading) * INKS + ink

    here = state(row, column, heading, ink)
    goes_left = (column > 0) & (heading != RIGHT + 1)
    goes_right = (column < width - 1) & (heading != LEFT + 1)
    following = (
        xp.where(goes_left, state(row, column - 1, LEFT + 1, 0), here),
        xp.where(goes_right, state(row, column + 1, RIGHT + 1, 0), here),
        xp.where(row < height - 1, state(row + 1, column, 0, 0), here),
        state(row, column, heading, 1),
    )
    nothing = xp.zeros(shape)
    fits = 2 * targets.astype("float64")[..., None, None] - 1  # (g, h, w, 1, 1)
    drawn = xp.where(ink == 1, -1.0, fits + nothing)
    goes_on = xp.zeros(shape, bool)
    ends = (goes_on, goes_on, row == height - 1, goes_on)

    def table(each: tuple[Array, ...]) -> Array:
        """An entry a move, of the states' shape each, as (S, A, 1)."""
        return xp.stack(each, axis=-1).reshape(-1, len(each), 1)

    rewards = table((nothing, nothing, nothing, drawn)) - PRICE
    starts = xp.arange(pictures) * (height * width * HEADINGS * INKS)
    return Environment(table(following), xp.ones(rewards.shape), rewards, table(ends), starts)


def pen_pixel(states: Array, side: int) -> Array:
    """Where the pen is in these states, row · side + column, on a square sheet."""
    return states // (HEADINGS * INKS) % side**2


# ---------------------------------------------------------------- what moves are worth, exactly


@equation(
    r"(T Q)(s, a) = \sum_{s', r, d} p(s', r, d \mid s, a)\, [r + \gamma\, (1 - d) \max_{a'} Q(s', a')]",
    source="Bellman 1957: the optimality operator, of which the best Q is the fixed point",
)
def optimality_operator(q: Array, environment: Environment, gamma: float) -> Array:
    """One sweep of value iteration over all states and moves: (S, A) to (S, A)."""
    xp = backend.of(q).xp
    return expected(xp.max(q, axis=1), environment, gamma)


@equation(r"V_\pi = (I - \gamma P_\pi)^{-1} r_\pi", source="Bellman's equation of a fixed policy, a linear system")
def policy_values(transitions: Array, rewards: Array, gamma: float) -> Array:
    """The values (k,) of k states under fixed moves. transitions: (k, k) chances of going on to each state, those that
    end the episode left out; rewards: (k,) expected."""
    xp = backend.of(rewards).xp
    return xp.linalg.solve(xp.eye(len(rewards)) - gamma * transitions, rewards)


def expected(values: Array, environment: Environment, gamma: float) -> Array:
    """What each move brings, (S, A), if the states that follow are worth `values` (S,)."""
    follows = backend.of(values).xp.where(environment.ends, 0.0, values[environment.following])  # (S, A, m)
    return (environment.chances * (environment.rewards + gamma * follows)).sum(2)


def optimal_return(environment: Environment) -> float:
    """The largest expected sum of rewards from a start on, by value iteration."""
    where = backend.of(environment.rewards)
    xp, q = where.xp, where.xp.zeros(environment.shape)
    for _ in range(1000):
        before = q
        for _ in range(100):
            q = optimality_operator(q, environment, 1.0)
        if where.scalar(xp.max(xp.abs(q - before))) < 1e-12:
            break
    return where.scalar(q[environment.starts].max(1).mean())


def returns_within(environment: Environment, moves: int, policy: Array | None = None) -> Array:
    """The expected sum of rewards of the first 1, 2, … moves from a start on, (moves,): of the policy (S,), or of the
    best moves, which may then depend on how many are left."""
    xp, states = backend.of(environment.rewards).xp, backend.of(environment.rewards).xp.arange(environment.shape[0])
    values, returns = xp.zeros(len(states)), []
    for _ in range(moves):
        q = expected(values, environment, 1.0)
        values = q.max(1) if policy is None else q[states, policy]
        returns.append(values[environment.starts].mean())
    return xp.stack(returns)


def return_of(environment: Environment, policy: Array) -> float:
    """The expected sum of rewards from a start on under a policy (S,); −∞ where it may go on for ever."""
    where = backend.of(policy)
    xp, states = where.xp, where.xp.arange(len(policy))
    following, chances, rewards, ends = (
        table[states, policy]  # (S, m)
        for table in (environment.following, environment.chances, environment.rewards, environment.ends)
    )
    going = chances * ~ends
    total = 0.0
    for start in environment.starts:
        met, count = states == start, 0  # the states that the policy comes to from here
        while count < (count := where.scalar(met.sum())):
            met[xp.where(ends, start, following)[met].ravel()] = True
        here, place = xp.nonzero(met)[0], xp.cumsum(met) - 1
        transitions = xp.zeros((count, count))
        where.scatter_add(transitions, (xp.arange(count)[:, None], place[following[here]]), going[here])
        closing, before = transitions.sum(1) < 1 - 1e-9, -1  # those from which an end can be reached
        while before < (before := where.scalar(closing.sum())):
            closing = closing | (transitions @ closing.astype("float64") > 0)
        if before < count:
            return -math.inf
        gains = (chances * rewards).sum(1)[here]
        total += where.scalar(policy_values(transitions, gains, 1.0)[place[start]])
    return total / len(environment.starts)


# ---------------------------------------------------------------- pictures

CELL = 16  # pixels along a side
WORTHLESS, MIDDLING, DEAR = (0.27, 0.10, 0.42), (0.13, 0.55, 0.55), (0.97, 0.88, 0.28)  # colours of values
FIXED = {"#": (0.62, 0.62, 0.62), "C": (0.05, 0.05, 0.06), "H": (0.05, 0.05, 0.06), "G": (1.0, 1.0, 1.0)}


def world_picture(name: str, values: Array, policy: Array, visited: Array) -> Array:
    """A world of MAPS from above, (3, h, w) of CELL pixels a state: the brighter, the more a state is worth.

    values: (S,), of which the walls, holes and cliffs show nothing. policy: (S,), the move that each arrow shows,
    white where `visited` (S,), booleans, dark elsewhere.
    """
    xp = backend.of(values).xp
    letters = "".join(MAPS[name])
    floor = xp.asarray([letter in ".S" for letter in letters])
    lowest = xp.min(xp.where(floor, values, xp.inf))
    highest = xp.max(xp.where(floor, values, -xp.inf))
    worth = ((values - lowest) / xp.maximum(highest - lowest, 1e-9)).clip(0, 1)[:, None]  # (S, 1)
    low, middle, high = (xp.asarray(colour) for colour in (WORTHLESS, MIDDLING, DEAR))
    colours = low + xp.minimum(2 * worth, 1) * (middle - low) + xp.maximum(2 * worth - 1, 0) * (high - middle)
    fixed = xp.asarray([FIXED.get(letter, (0.0, 0.0, 0.0)) for letter in letters])
    colours = xp.where(floor[:, None], colours, fixed)[:, None, None]  # (S, 1, 1, 3)

    centres = (xp.arange(CELL) - (CELL - 1) / 2) / (CELL / 2)  # of the pixels of a cell, in [−1, 1]
    y, x = centres[:, None], centres[None, :]
    arrows = []
    for down, right in MOVES:  # a triangle with its tip ahead
        ahead, aside = down * y + right * x, right * y - down * x
        arrows.append((ahead > -0.35) & (xp.abs(aside) < 0.6 * (0.55 - ahead)))
    rim = xp.maximum(xp.abs(y), xp.abs(x)) > 1 - 1.5 / CELL
    shown = (xp.stack(arrows)[policy] & floor[:, None, None])[..., None]  # (S, CELL, CELL, 1)
    strength = xp.where(visited, 1.0, 0.35)[:, None, None, None]
    ink = xp.where(visited, 1.0, 0.0)[:, None, None, None]
    pixels = xp.where(shown, strength * ink + (1 - strength) * colours, colours)
    begins = xp.asarray([letter == "S" for letter in letters])[:, None, None, None]
    pixels = xp.where(begins & rim[..., None], 1.0, pixels)
    height, width = len(MAPS[name]), len(MAPS[name][0])
    pixels = pixels.reshape(height, width, CELL, CELL, 3).transpose(4, 0, 2, 1, 3)  # (3, h, CELL, w, CELL)
    return pixels.reshape(3, height * CELL, width * CELL).astype("float32")
