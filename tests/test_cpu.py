"""The NumPy backend's own ways, each against what they stand for."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from tinygen import cpu
from tinygen.testing.strategies import reals, shapes


@given(reals(shapes(0, 3), -6.0, 6.0), st.sampled_from(["float16", "float32", "float64"]))
def test_erf_in_each_precision(x, dtype):
    y = cpu.erf(np.asarray(x, dtype))
    assert y.dtype == dtype and y.shape == x.shape
    bound = {"float16": 1e-3, "float32": 5e-7, "float64": 1e-15}[dtype]
    np.testing.assert_allclose(y, scipy.special.erf(np.asarray(x, dtype).astype("float64")), rtol=0, atol=bound)


def test_float32_erf_everywhere():
    x = np.concatenate([np.linspace(-10, 10, 200_001), [np.inf, -np.inf, 1e-30, 0.0]]).astype("float32")
    y = cpu.erf(x)
    np.testing.assert_allclose(y, scipy.special.erf(x.astype("float64")), rtol=0, atol=5e-7)
    assert (np.diff(y[:200_001]) >= -5e-7).all() and np.isnan(cpu.erf(np.array([np.nan], "float32"))).all()
    np.testing.assert_allclose(cpu.erf(np.float32([1e-6])), [1e-6 * 2 / np.sqrt(np.pi)], rtol=1e-5)


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 4), st.booleans(), st.integers(0, 99))
def test_scatter_add_adds_up(size, count, width, negative, seed):
    random = np.random.default_rng(seed)
    rows = random.integers(-size if negative else 0, size, count)
    target, values = random.standard_normal((size, width)), random.standard_normal((count, width))
    expected = target.copy()
    for i, value in zip(rows, values):
        expected[i] += value
    for index in (rows, (rows,)):
        found = target.copy()
        cpu.scatter_add(found, index, values)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    if count:
        with pytest.raises(IndexError, match="out of bounds"):
            cpu.scatter_add(target, (np.full(count, size),), values)
