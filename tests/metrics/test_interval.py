"""The mean of draws and its interval against SciPy, and against the share of intervals that hold the true mean."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend, metrics
from tinygen.testing import close


def interval(values, *level):
    return metrics.mean_interval(backend.current().from_host(np.asarray(values)), *level)


@given(st.integers(0, 2**31), st.integers(2, 40), st.floats(0.5, 0.999))
def test_against_scipys_interval(seed, n, level):
    values = np.random.default_rng(seed).normal(3, 2, n)
    low, high = scipy.stats.t.interval(level, n - 1, values.mean(), scipy.stats.sem(values))
    mean, half = interval(values, level)
    close(mean, np.array((low + high) / 2), rtol=1e-9)
    close(half, np.array((high - low) / 2), rtol=1e-6)


def test_the_true_mean_is_in_as_many_intervals_as_the_level_says():
    rounds, inside = 4000, 0
    for values in np.random.default_rng(0).normal(1, 5, (rounds, 4)):
        mean, half = interval(values, 0.9)
        inside += abs(float(mean) - 1) < float(half)
    assert abs(inside / rounds - 0.9) < 4 * np.sqrt(0.9 * 0.1 / rounds)


def test_float32_values_are_added_up_in_float64_and_equal_ones_leave_no_doubt():
    mean, half = interval(np.full(1000, 0.1, np.float32))
    assert mean.dtype == half.dtype == np.float64
    close(mean, np.array(np.float64(np.float32(0.1))), rtol=1e-12)
    close(half, np.array(0.0), atol=1e-12)


def test_refusals():
    with pytest.raises(ValueError, match=r"two or more values \(n,\), got \(1,\)"):
        interval([1.0])
    with pytest.raises(ValueError, match=r"level must be between 0 and 1, got 1\.5"):
        interval([1.0, 2.0], 1.5)
