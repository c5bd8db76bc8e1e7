"""Nearest neighbours, precision and recall against loops over all pairs, SciPy's tree, and sets of known overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from scipy.stats import binom

from tinygen import backend
from tinygen.metrics import neighbours
from tinygen.metrics.neighbours import nearest_neighbours, precision_recall
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds


def device(array):
    return backend.current().from_host(np.asarray(array))


def nearest(x, y, k):
    return tuple(host(part) for part in nearest_neighbours(device(x), device(y), k))


def shares(real, fake, k):
    return tuple(float(host(share)) for share in precision_recall(device(real), device(fake), k))


def within_a_ball(points, others, k):
    """The share of points within reach of one of the others, pair by pair."""
    hits = 0
    for point in points:
        for i, centre in enumerate(others):
            reach = sorted(np.linalg.norm(centre - other) for j, other in enumerate(others) if j != i)[k - 1]
            if np.linalg.norm(point - centre) <= reach * (1 + 1e-12):
                hits += 1
                break
    return hits / len(points)


def clouds(low=4, high=9):
    """Two sets of points of one dimension, apart by something."""
    return st.integers(1, 3).flatmap(
        lambda d: st.tuples(
            st.integers(low, high).flatmap(lambda n: reals((n, d), -1, 1)),
            st.integers(low, high).flatmap(lambda n: reals((n, d), -1, 1)),
            st.floats(-2, 2),
        )
    ).map(lambda drawn: (drawn[0], drawn[1] + drawn[2]))  # fmt: skip


# ---------------------------------------------------------------- nearest neighbours


@given(sets=clouds(), k=st.integers(1, 4))
def test_neighbours_are_those_of_scipys_tree(sets, k):
    x, y = sets
    distances, indices = nearest(x, y, k)
    expected, places = cKDTree(y).query(x, k)
    close(distances, expected.reshape(len(x), k), rtol=1e-9, atol=1e-9)
    assert np.array_equal(indices, places.reshape(len(x), k))
    assert distances.dtype == np.float64


def test_the_nearest_of_many_comes_first():
    """NumPy leaves only long rows unsorted when it takes their k smallest."""
    x, y = np.split(np.random.default_rng(0).normal(size=(3010, 2)), [10])
    distances, indices = nearest(x, y, 600)
    expected, places = cKDTree(y).query(x, 600)
    close(distances, expected, rtol=1e-9)
    assert np.array_equal(indices, places)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(4))), st.integers(0, 4))
def test_a_copy_has_the_distance_nought_and_bytes_do_not_wrap_around(pixels, index):
    distances, indices = nearest(pixels[[index % len(pixels)]], pixels, 1)
    assert distances[0, 0] == 0 and np.array_equal(pixels[indices[0, 0]], pixels[index % len(pixels)])
    black, white = np.zeros((1, 3), np.uint8), np.full((1, 3), 255, np.uint8)
    assert nearest(black, white, 1)[0][0, 0] == np.sqrt(3 * 255.0**2)


@given(seeds(), st.sampled_from([1e3, 1e6]))
def test_points_far_from_the_origin_are_told_apart(seed, away):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, 6, 3))
    close(nearest(x + away, y + away, 2)[0], cKDTree(y).query(x, 2)[0], rtol=1e-8 * away, atol=1e-12 * away)
    assert (nearest(x + away, x + away, 1)[0] == 0).all()


def test_some_rows_at_a_time_are_all_at_once(monkeypatch):
    x, y = np.random.default_rng(0).random((2, 11, 3))
    whole, shared = nearest(x, y, 4), shares(x, y, 3)
    monkeypatch.setattr(neighbours, "ROWS", 4)
    parts = nearest(x, y, 4)
    close(parts[0], whole[0], rtol=1e-12)
    assert np.array_equal(parts[1], whole[1])
    assert shares(x, y, 3) == shared


# ---------------------------------------------------------------- precision and recall


@given(sets=clouds(), k=st.integers(1, 3))
def test_shares_are_those_of_all_pairs(sets, k):
    real, fake = sets
    precision, recall = shares(real, fake, k)
    close(precision, np.array(within_a_ball(fake, real, k)))
    close(recall, np.array(within_a_ball(real, fake, k)))
    assert shares(fake, real, k) == (recall, precision)


@given(
    hnp.arrays(np.uint8, (6, 2), elements=st.integers(0, 3)), hnp.arrays(np.uint8, (7, 2), elements=st.integers(0, 3))
)
def test_a_point_on_the_rim_is_inside(real, fake):
    """On a lattice many distances are equal: ≤ is meant, and whole numbers are exact."""
    precision, recall = shares(real, fake, 2)
    close(precision, np.array(within_a_ball(fake.astype(float), real.astype(float), 2)))
    close(recall, np.array(within_a_ball(real.astype(float), fake.astype(float), 2)))


@given(seeds(), st.integers(1, 3))
def test_sets_of_known_overlap(seed, k):
    x = np.random.default_rng(seed).normal(size=(12, 2))
    assert shares(x, x, k) == (1, 1)
    assert shares(x, x + 100, k) == (0, 0)
    same_again = np.repeat(x[:1], 8, axis=0)  # a generator that has collapsed
    assert shares(x, same_again, k) == (1, 1 / 12)
    half = np.concatenate([x, x + 1000])  # a generator of one of two modes
    precision, recall = shares(half, x, k)
    assert precision == 1 and recall == 0.5


def test_the_kth_neighbour_of_a_line():
    """Real points 0, 1, 2, …, 9: a ball reaches to the k-th neighbour, 1 for k ≤ 2 inside the line."""
    line = np.arange(10.0)[:, None]
    fake = np.array([[-1.0], [-1.001], [10.0], [12.0], [12.001], [4.5]])
    assert shares(line, fake, 1)[0] == 3 / 6  # −1, 10 and 4.5
    assert shares(line, fake, 3)[0] == 5 / 6  # the ends' third neighbour is 3 away
    assert shares(line, fake, 2)[0] == 4 / 6  # their second 2


def test_two_samples_of_one_law_nearly_cover_each_other():
    random = np.random.default_rng(0)
    precision, recall = shares(random.normal(size=(400, 2)), random.normal(size=(400, 2)), 3)
    least = binom.ppf(1e-6, 400, 0.9) / 400
    assert precision > least and recall > least


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(("x", "y"), [((2, 3), (2, 4)), ((2,), (2, 2)), ((0, 2), (3, 2)), ((3, 2), (0, 2))])
def test_what_are_no_points_is_refused(x, y):
    for figure in (nearest_neighbours, precision_recall):
        with pytest.raises(ValueError, match=f"{figure.__name__}: expected rows of as many features") as caught:
            figure(device(np.zeros(x)), device(np.zeros(y)), 1)
        assert str(x) in str(caught.value) and str(y) in str(caught.value)


def test_a_neighbour_that_there_is_not_is_refused():
    x = device(np.zeros((3, 2)))
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"nearest_neighbours: k must be from 1 to the 3 rows of y, got {k}"):
            nearest_neighbours(x, x, k)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"precision_recall: k must be from 1 to 2, fewer than points, got {k}"):
            precision_recall(x, x, k)
