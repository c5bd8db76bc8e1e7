"""The shares of classes against counting one by one, and units of likelihood against codes that have a length."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinygen import backend
from tinygen.metrics import bits_per_dim, class_balance, nats_per_image
from tinygen.testing import close


def balance(labels, classes):
    return class_balance(backend.current().from_host(np.asarray(labels)), classes)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(5, 8))
def test_a_share_counts_one_by_one(labels, classes):
    expected = np.array([labels.count(k) / len(labels) for k in range(classes)])
    close(balance(labels, classes), expected, rtol=1e-12)
    assert balance(labels, classes).dtype == np.float64


def test_what_are_no_labels_is_refused():
    for labels in ([0.5], [], [[1]]):
        with pytest.raises(ValueError, match=r"class_balance: labels must be \(n,\) whole numbers, got"):
            balance(np.array(labels), 3)
    with pytest.raises(ValueError, match="class_balance: labels must be below 3, got 3"):
        balance([0, 3], 3)


@given(st.integers(1, 8), st.integers(1, 300), st.floats(-1e4, 1e4))
def test_bits_and_nats_are_each_others_inverse(power, dimensions, nats):
    close(nats_per_image(bits_per_dim(nats, dimensions, 2**power), dimensions, 2**power), np.array(nats), atol=1e-8)


@given(st.integers(0, 8), st.integers(1, 50))
def test_pixels_that_are_equally_likely_take_as_many_bits_as_their_levels_have(power, dimensions):
    """Property 2c: 256 levels, 8 bits, whether told by probabilities of levels or by a density on [0, 1]."""
    by_levels = dimensions * -stats.randint(0, 2**power).logpmf(0)
    close(bits_per_dim(by_levels, dimensions), np.array(float(power)), atol=1e-12)
    by_density = dimensions * -stats.uniform().logpdf(0.3)
    close(bits_per_dim(by_density, dimensions, 2**power), np.array(float(power)), atol=1e-12)


def test_a_known_figure():
    """89.78 nats of a binarized 28 × 28 image."""
    close(bits_per_dim(89.78, 784), np.array(89.78 / 784 * math.log2(math.e)), rtol=1e-12)


def test_counts_must_be_one_or_more():
    for dimensions, levels in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"must be 1 or more, got {dimensions} and {levels}"):
            bits_per_dim(1.0, dimensions, levels)
        with pytest.raises(ValueError, match="nats_per_image: dimensions and levels"):
            nats_per_image(1.0, dimensions, levels)
