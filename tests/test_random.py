"""Random streams: named, seeded, equal on every backend, resumable."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend
from tinygen.random import Stream

DRAWS = {
    "uniform": lambda s: s.uniform((3, 4), -1, 2),
    "normal": lambda s: s.normal((3, 4), 1.0, 0.5),
    "normal64": lambda s: s.normal(5, dtype="float64"),
    "integers": lambda s: s.integers(0, 7, (10,)),
    "bernoulli": lambda s: s.bernoulli(0.3, (10,)),
    "poisson": lambda s: s.poisson(3.0),
    "permutation": lambda s: s.permutation(9),
}


def host(array):
    return backend.of(array).to_host(array)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@given(seed=st.integers(0, 2**63), name=st.text(max_size=8))
def test_equal_seeds_and_names_give_equal_numbers_on_both_backends(draw, seed, name):
    results = []
    for where in ("numpy", "strict", *(["cupy"] if backend.cupy_available() else [])):
        with backend.using(where):
            array = draw(Stream(seed, name))
            assert backend.of(array).name == where
            results.append(host(array))
    for other in results[1:]:
        assert results[0].dtype == other.dtype
        assert np.array_equal(results[0], other)


def test_equal_seeds_and_names_give_equal_numbers_on_every_machine():
    """Written down once: with other numbers, no earlier run could be repeated."""
    root = Stream(7, "run")
    assert host(root.integers(0, 1000, 6)).tolist() == [60, 155, 736, 295, 54, 283]
    assert host(root.child("noise").integers(0, 1000, 6)).tolist() == [216, 338, 815, 727, 773, 107]
    assert host(root.permutation(6)).tolist() == [5, 1, 0, 4, 3, 2]


@given(seed=st.integers(0, 2**31), n=st.integers(0, 20), low=st.integers(-5, 5), width=st.integers(1, 6))
def test_permutations_and_integers_are_what_they_say(seed, n, low, width):
    stream = Stream(seed)
    assert sorted(host(stream.permutation(n)).tolist()) == list(range(n))
    draws = host(stream.integers(low, low + width, 200))
    assert set(draws.tolist()) <= set(range(low, low + width))
    assert width > 3 or set(draws.tolist()) == set(range(low, low + width))  # 3 · (2/3)²⁰⁰ < 10⁻³⁴


@given(seed=st.integers(0, 2**31), skip=st.integers(0, 3))
def test_state_resumes_at_the_very_number(seed, skip):
    stream = Stream(seed, "a")
    for _ in range(skip):
        DRAWS["uniform"](stream), DRAWS["bernoulli"](stream), stream.integers(0, 5, 3, "int32")
    state = stream.state_dict()
    after = [host(draw(stream)) for draw in DRAWS.values()]
    other = Stream(seed + 1, "b")
    other.load_state_dict(state)
    assert all(np.array_equal(a, host(draw(other))) for a, draw in zip(after, DRAWS.values()))


def test_children_do_not_depend_on_order_or_on_draws():
    root = Stream(5, "run")
    first = host(root.child("a").uniform(4))
    root.uniform(100)
    assert np.array_equal(first, host(root.child("a").uniform(4)))
    assert not np.array_equal(first, host(root.child("b").uniform(4)))
    assert not np.array_equal(first, host(Stream(6, "run").child("a").uniform(4)))
    assert np.array_equal(first, host(Stream(5, "run/a").uniform(4)))


def test_distributions():
    stream = Stream(0, "distributions")
    assert scipy.stats.kstest(host(stream.uniform(5000, -1, 2)), scipy.stats.uniform(-1, 3).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(host(stream.normal(5000, 1, 2)), scipy.stats.norm(1, 2).cdf).pvalue > 1e-3
    counts = np.bincount(host(stream.integers(0, 5, 5000)), minlength=5)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert abs(host(stream.bernoulli(0.3, 5000)).mean() - 0.3) < 0.03
    poisson = host(stream.poisson(np.full(5000, 4.0)))
    assert abs(poisson.mean() - 4) < 0.15 and abs(poisson.var() - 4) < 0.4
    assert stream.normal(3).dtype == np.float32


def test_bad_seeds_and_states():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        Stream(-1)
    with pytest.raises(ValueError, match="a state has 6 words, got 2"):
        Stream(0).load_state_dict({"pcg64": [1, 2]})
