"""The Fréchet distance against closed forms and SciPy's matrix square root."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from tinygen import backend, metrics
from tinygen.testing import close


def distance(x, y):
    place = backend.current().from_host
    return metrics.frechet_distance(place(x), place(y))


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_against_scipys_square_root(seed, d):
    random = np.random.default_rng(seed)
    x, y = (random.normal(size=(d + 6, d)) @ random.normal(size=(d, d)) for _ in range(2))
    s1, s2 = (np.atleast_2d(np.cov(a.T)) for a in (x, y))
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    close(distance(x, y), np.array(expected), rtol=1e-6, atol=1e-8)
    close(distance(y, x), np.array(expected), rtol=1e-6, atol=1e-8)
    close(distance(x, x), np.array(0.0), atol=1e-8 * (1 + np.trace(s1)))
    assert float(distance(x, x + 1)) > 0.99 * d


@given(st.integers(0, 2**31))
def test_in_one_dimension(seed):
    x, y = np.random.default_rng(seed).normal([[0], [1]], [[1], [3]], (2, 50))[:, :, None]
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    close(distance(x, y), np.array(expected), rtol=1e-7)


def test_fewer_rows_than_features():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 5, 12))
    s1, s2 = np.cov(x.T), np.cov(y.T)
    # tr (S₁S₂)^½ is the sum of the singular values of X₁ᵀX₂ for centred rows
    singular = np.linalg.svd((x - x.mean(0)) @ (y - y.mean(0)).T / 4, compute_uv=False).sum()
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s1 + s2) - 2 * singular
    close(distance(x, y), np.array(expected), rtol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match=r"two or more rows of features each, got \(1, 2\)"):
        distance(np.ones((1, 2)), np.ones((3, 2)))
