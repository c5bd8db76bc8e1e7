"""The kernel distance against loops over all pairs, the moments that it compares, and its mean over samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend
from tinygen.metrics import kernel, kernel_distance
from tinygen.testing import close, host
from tinygen.testing.strategies import seeds


def distance(x, y):
    place = backend.current().from_host
    return kernel_distance(place(np.asarray(x)), place(np.asarray(y)))


def cubic(a, b):
    return (sum(p * q for p, q in zip(a, b)) / len(a) + 1) ** 3


@given(seeds(), st.integers(1, 4), st.integers(2, 6), st.integers(2, 6))
def test_the_sums_pair_by_pair(seed, d, n, m):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, d)), 0.5 + 2 * random.normal(size=(m, d))
    within_x = np.mean([cubic(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([cubic(a, b) for a, b in itertools.permutations(y, 2)])
    between = np.mean([cubic(a, b) for a in x for b in y])
    expected = np.array(within_x + within_y - 2 * between)
    scale = abs(within_x) + abs(within_y) + abs(between) + 1
    close(distance(x, y), expected, rtol=1e-9, atol=1e-10 * scale)
    close(distance(y, x), expected, rtol=1e-9, atol=1e-10 * scale)


@given(seeds())
def test_it_is_the_distance_of_the_first_three_moments(seed):
    """k(a, b) = Σ_j C(3, j) ⟨a^⊗j, b^⊗j⟩ in one dimension, so that with bias it is Σ_j C(3, j) (E x^j − E y^j)²;
    without, the pairs of a point with itself are left out."""
    x, y = np.random.default_rng(seed).normal([[0], [1]], [[1], [2]], (2, 7))

    def mean_within(points):
        power_sums = [np.sum(points**j) ** 2 - np.sum(points ** (2 * j)) for j in range(4)]
        return np.dot([1, 3, 3, 1], power_sums) / (7 * 6)

    between = np.dot([1, 3, 3, 1], [np.mean(x**j) * np.mean(y**j) for j in range(4)])
    expected = mean_within(x) + mean_within(y) - 2 * between
    close(distance(x[:, None], y[:, None]), np.array(expected), rtol=1e-8, atol=1e-8)


def test_its_mean_is_nought_for_one_law_and_grows_with_the_shift():
    """No bias: over all ways to draw samples from a small alphabet, the mean is exactly the distance of the laws."""
    alphabet, p, q = np.array([[-1.0], [0.0], [2.0]]), [0.2, 0.5, 0.3], [0.6, 0.1, 0.3]

    def expectation(first, second):
        total = 0.0
        for a, b in itertools.product(itertools.product(range(3), repeat=2), repeat=2):
            weight = np.prod([first[i] for i in a]) * np.prod([second[i] for i in b])
            total += weight * float(host(distance(alphabet[list(a)], alphabet[list(b)])))
        return total

    close(expectation(p, p), np.array(0.0), atol=1e-10)
    moments = [np.dot(p, alphabet[:, 0] ** j) - np.dot(q, alphabet[:, 0] ** j) for j in range(4)]
    close(expectation(p, q), np.array(np.dot([1, 3, 3, 1], np.square(moments))), rtol=1e-9)


def test_some_rows_at_a_time_are_all_at_once(monkeypatch):
    x, y = np.random.default_rng(0).random((2, 11, 3), np.float32)
    whole = distance(x, y)
    monkeypatch.setattr(kernel, "ROWS", 4)
    close(distance(x, y), host(whole), rtol=1e-9)
    assert whole.dtype == np.float64 and whole.shape == ()


def test_refusals():
    for x, y in (((1, 2), (3, 2)), ((3, 2), (3, 4)), ((3,), (3, 2))):
        with pytest.raises(ValueError, match="two or more rows of features each, got") as caught:
            distance(np.ones(x), np.ones(y))
        assert str(x) in str(caught.value)
