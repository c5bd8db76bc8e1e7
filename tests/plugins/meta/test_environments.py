"""The worlds of `q_learning`: their chances, their moves, and the pen's account of its ink."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend as library
from tinygen.testing import close, host
from tinygen.testing.strategies import seeds
from tinygen_plugins.meta import _environments as worlds

NAMES = list(worlds.MAPS)


def place(array, dtype=None):
    return library.current().from_host(np.asarray(array, dtype))


def tables(world):
    return [host(each) for each in (world.following, world.chances, world.rewards, world.ends, world.starts)]


def pen(seed, g=2, h=4, w=5):
    targets = np.random.default_rng(seed).uniform(size=(g, h, w)).astype(np.float32)
    return targets, worlds.pen_environment(place(targets))


@pytest.mark.parametrize("name", [*NAMES, "pen"])
def test_every_move_leads_somewhere_with_certainty(name, backend):
    world = pen(0)[1] if name == "pen" else worlds.grid_environment(name)
    following, chances, rewards, ends, starts = tables(world)
    states, moves = world.shape
    assert following.shape == chances.shape == rewards.shape == ends.shape == (states, moves, chances.shape[2])
    close(chances.sum(2), np.ones((states, moves)), rtol=1e-12)
    assert following.min() >= 0 and following.max() < states and ends.dtype == bool
    assert set(starts) <= set(range(states))


@pytest.mark.parametrize(("name", "expected"), [("cliff-walking", 13), ("grid-world", 14), ("frozen-lake", 6)])
def test_the_shortest_way_by_a_search_in_breadth(name, expected):
    """Walked on the map's letters alone: the known lengths of these examples."""
    layout = worlds.MAPS[name]
    cells = {(r, c): letter for r, row in enumerate(layout) for c, letter in enumerate(row)}
    edge, met, steps = {next(p for p, letter in cells.items() if letter == "S")}, set(), 0
    while not any(cells[p] == "G" for p in edge):
        met |= edge
        around = {(r + dr, c + dc) for r, c in edge for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
        edge, steps = {p for p in around if cells.get(p, "#") in ".SG"} - met, steps + 1
    assert steps == expected


def test_moves_of_the_cliff_and_of_the_ice():
    following, _, rewards, ends, starts = tables(worlds.grid_environment("cliff-walking"))
    assert starts.tolist() == [36]
    assert (following[36, 1, 0], rewards[36, 1, 0], ends[36, 1, 0]) == (36, -100, False)  # off the cliff: back
    assert (following[36, 0, 0], rewards[36, 0, 0]) == (24, -1)
    assert (following[0, 0, 0], following[0, 3, 0], following[11, 1, 0]) == (0, 0, 11)  # at the rim
    assert (following[35, 2, 0], rewards[35, 2, 0], ends[35, 2, 0]) == (47, -1, True)
    following, chances, rewards, ends, _ = tables(worlds.grid_environment("frozen-lake"))
    assert sorted(following[6, 2]) == [5, 7, 10]  # down from between two holes: down, or into either
    close(chances[6, 2], np.full(3, 1 / 3))
    assert ends[6, 2].tolist().count(True) == 2 and not rewards[6].any()
    assert rewards[14].sum() == 3 and ends[14][rewards[14] == 1].all()  # from beside the goal, three ways into it
    maze, *_ = tables(worlds.grid_environment("grid-world"))
    assert maze[19, 1, 0] == 19  # a wall


@given(seeds())
def test_outcomes_come_as_often_as_their_chances_say(seed):
    random = np.random.default_rng(seed)
    chances = random.dirichlet(np.ones(3), size=(1, 1))
    world = worlds.Environment(
        place(np.array([[[0, 1, 2]]])), place(chances), place(np.array([[[5.0, 6.0, 7.0]]])),
        place(np.array([[[False, True, False]]])), place(np.array([0])),
    )  # fmt: skip
    n, zeros = 4000, place(np.zeros(4000, np.int64))
    states, rewards, ends = map(host, worlds.play_move(world, zeros, zeros, place(random.uniform(size=n), np.float32)))
    assert scipy.stats.chisquare(np.bincount(states, minlength=3), chances[0, 0] * n).pvalue > 1e-6
    assert np.array_equal(rewards, states + 5) and np.array_equal(ends, states == 1)


@given(st.integers(1, 5), seeds())
def test_every_start_is_equally_likely(count, seed):
    starts = np.arange(count) * 3
    world = worlds.Environment(*[place(np.zeros((1, 1, 1)))] * 4, place(starts))
    u = np.append(np.random.default_rng(seed).uniform(size=3000), np.nextafter(np.float32(1), np.float32(0)))
    drawn = host(worlds.draw_start(world, place(u, np.float32)))
    assert set(drawn) <= set(starts)
    assert scipy.stats.chisquare(np.bincount(drawn // 3, minlength=count)).pvalue > 1e-6 or count == 1


@given(seeds(), st.integers(0, 1))
def test_a_pen_at_random_is_paid_for_the_ink_on_its_sheet(seed, picture):
    """Against a pen that keeps the whole sheet: the small state of the table loses nothing."""
    targets, world = pen(seed)
    following, _, rewards, ends, starts = tables(world)
    _, height, width = targets.shape
    random = np.random.default_rng(seed)
    state, row, column, facing, over = starts[picture], 0, 0, 0, False
    sheet = np.zeros((height, width), bool)
    for _ in range(200):
        move = random.integers(4)
        gain = 0.0
        if move == worlds.DRAW:
            gain = -1.0 if sheet[row, column] else 2 * float(targets[picture, row, column]) - 1
            sheet[row, column] = True
        elif move == worlds.DOWN:
            over, facing, row = row == height - 1, 0, min(row + 1, height - 1)
        else:
            way = -1 if move == worlds.LEFT else 1
            if facing != -way and 0 <= column + way < width:
                column, facing = column + way, way
        close(rewards[state, move, 0], np.array(gain - worlds.PRICE), rtol=1e-6, atol=1e-9)
        assert ends[state, move, 0] == over
        if over:
            break
        state = following[state, move, 0]
    else:
        raise AssertionError("the pen came to no end")


def test_a_picture_of_a_world_shows_walls_values_and_the_way():
    name = "grid-world"
    count = len("".join(worlds.MAPS[name]))
    values, policy = place(np.arange(count), np.float64), place(np.full(count, 1))
    seen = place(np.arange(count) == 0)
    picture = host(worlds.world_picture(name, values, policy, seen))
    side = worlds.CELL
    assert picture.shape == (3, 6 * side, 9 * side) and picture.dtype == np.float32
    assert picture.min() >= 0 and picture.max() <= 1
    cells = picture.reshape(3, 6, side, 9, side)
    assert np.array_equal(cells[:, 1, 2, 2, 0], np.float32(worlds.FIXED["#"]))
    close(cells[:, 0, 0, 0, 0], np.float32(worlds.WORTHLESS), rtol=1e-6)
    assert (cells[:, 0, side // 2, 0, side // 2] == 1).all()  # the arrow of a visited state
    assert not (cells[:, 0, side // 2, 1, side // 2] == 1).any()
    assert (np.diff(cells[1, 0, 0, :7, 0]) > 0).all()  # worth more to the right, and greener
