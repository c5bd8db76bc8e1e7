"""Random pixels: the law of their levels, and what follows from it, against SciPy and the Fourier transform."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, entropy, randint

from tinygen import backend
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.procedural import pixels

from .reference import device

level_counts = st.integers(2, 256)


def make(**options):
    return pixels.Pixels(pixels.Config(**options), None, Stream(0))


# ---------------------------------------------------------------- the levels


@verifies(pixels.uniform_levels)
@given(levels=level_counts, uniform=reals((3, 50), 0.0, 1.0))
def test_a_level_is_the_equal_part_of_the_interval_that_the_number_falls_in(levels, uniform):
    part = np.searchsorted(np.arange(1, levels) / levels, uniform, side="right")
    close(pixels.uniform_levels(device(uniform), levels), part / (levels - 1))


@verifies(pixels.uniform_levels)
@given(levels=level_counts, each=st.integers(1, 5))
def test_evenly_spread_numbers_hit_every_level_equally_often(levels, each):
    count = levels * each
    values = host(pixels.uniform_levels(device((np.arange(count) + 0.5) / count), levels))
    found, counts = np.unique(values, return_counts=True)
    close(found, np.linspace(0, 1, levels))
    assert (counts == each).all()


@verifies(pixels.uniform_levels)
@given(levels=level_counts)
def test_the_largest_number_below_one_is_white_and_no_more(levels):
    ends = device(np.array([0.0, np.nextafter(np.float32(1), np.float32(0))], "float32"))
    values = host(pixels.uniform_levels(ends, levels))
    assert values.dtype == np.float32 and values.tolist() == [0.0, 1.0]


@verifies(pixels.uniform_levels)
@settings(max_examples=8)
@given(seed=seeds())
def test_pixels_have_mean_variance_and_frequencies_of_the_uniform_law(seed):
    values = make(size=64).sample(4, Stream(seed)).numpy().astype("float64") * 255
    n = values.size  # 49,152: the bounds are six standard errors
    assert abs(values.mean() - 127.5) < 6 * math.sqrt(5461.25 / n)
    fourth = randint(0, 256).stats(moments="k") + 3  # E(x − μ)⁴ / σ⁴
    assert abs(values.var() - 5461.25) < 6 * 5461.25 * math.sqrt((fourth - 1) / n)
    counts = np.bincount(values.round().astype(int).ravel(), minlength=256)
    assert 1e-7 < chisquare(counts).pvalue < 1 - 1e-7  # 255 degrees of freedom; too even would be no chance either


# ---------------------------------------------------------------- what follows


@verifies(pixels.log_likelihood)
@given(levels=level_counts, shape=st.tuples(*[st.integers(1, 4)] * 4), seed=seeds())
def test_log_likelihood_is_the_sum_of_the_pixels_log_probabilities(levels, shape, seed):
    level = np.random.default_rng(seed).integers(0, levels, shape)
    expected = randint(0, levels).logpmf(level).sum(axis=(1, 2, 3))
    close(pixels.log_likelihood(device(level / (levels - 1)), levels), expected, rtol=1e-10)


@verifies(pixels.log_likelihood)
@settings(max_examples=8)
@given(seed=seeds(), channels=st.sampled_from([1, 3]))
def test_every_image_costs_eight_bits_a_value(seed, channels):
    images = make(size=16, channels=channels).sample(2, Stream(seed)).data
    nats = -host(pixels.log_likelihood(images, 256)).astype("float64")
    close(nats / math.log(2) / (channels * 16 * 16), np.full(2, 8.0), rtol=1e-6)


@verifies(pixels.entropy)
@given(levels=level_counts, count=st.integers(1, 400), seed=seeds())
def test_entropy_is_scipy_s(levels, count, seed):
    random = np.random.default_rng(seed)
    level = random.integers(0, random.integers(1, levels + 1), count)  # some levels do not occur
    expected = entropy(np.bincount(level), base=2)
    close(pixels.entropy(device(level / (levels - 1)), levels), np.asarray(expected), rtol=1e-9, atol=1e-9)


@verifies(pixels.entropy)
@settings(max_examples=8)
@given(seed=seeds(), levels=st.sampled_from([2, 16, 256]))
def test_entropy_of_a_sample_nears_its_bound_from_below(seed, levels):
    images = make(size=64, levels=levels).sample(4, Stream(seed)).data
    bits = float(pixels.entropy(images, levels))
    below = (levels - 1) / (2 * images.size * math.log(2))  # Miller's bias of the estimate, half the mean of a χ²
    spread = math.sqrt(2 * (levels - 1)) / (2 * images.size * math.log(2))
    # χ² less its mean lies above −6 of its standard deviations; upwards its tail is longer, most of all at one degree.
    assert math.log2(levels) - below - 25 * spread < bits <= math.log2(levels) + 1e-12
    assert bits < math.log2(levels) - below + 6 * spread


@verifies(pixels.autocorrelation)
@given(images=reals((2, 3, 5, 7), 0.0, 1.0), lag=st.tuples(st.integers(-6, 6), st.integers(-6, 6)))
def test_autocorrelation_is_the_power_spectrum_s_transform(images, lag):
    deviation = images - images.mean(axis=(2, 3), keepdims=True)
    covariance = np.fft.ifft2(np.abs(np.fft.fft2(deviation)) ** 2).real  # Wiener and Khinchin
    expected = covariance[:, :, lag[0] % 5, lag[1] % 7] / covariance[:, :, 0, 0]
    close(pixels.autocorrelation(device(images), lag), expected, rtol=1e-9, atol=1e-9)


@verifies(pixels.autocorrelation)
@settings(max_examples=8)
@given(seed=seeds(), lag=st.tuples(st.integers(0, 31), st.integers(0, 63)).filter(any))
def test_pixels_of_a_sample_are_uncorrelated_at_any_distance(seed, lag):
    images = make(size=64).sample(4, Stream(seed)).data
    assert np.abs(host(pixels.autocorrelation(images, lag))).max() < 6 / math.sqrt(64 * 64)
    close(pixels.autocorrelation(images, (0, 0)), np.ones((4, 3)), rtol=1e-6)


@verifies(pixels.autocorrelation)
@pytest.mark.parametrize("lag", [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (5, 3), (32, 32)])
def test_neighbours_of_a_known_picture_are_uncorrelated_to_four_standard_errors(lag):
    images = make(size=64).sample(1, Stream(2024)).data
    assert np.abs(host(pixels.autocorrelation(images, lag))).max() < 4 / math.sqrt(64 * 64)


# ---------------------------------------------------------------- images


@settings(max_examples=8)
@given(seed=seeds(), channels=st.sampled_from([1, 3]), levels=level_counts)
def test_a_sample_is_its_seed_s_and_each_image_its_own(seed, channels, levels):
    model = make(size=12, channels=channels, levels=levels)
    images = model.sample(3, Stream(seed)).numpy()
    assert images.shape == (3, channels, 12, 12) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, model.sample(3, Stream(seed)).numpy())
    assert np.array_equal(images[:1], model.sample(1, Stream(seed)).numpy())
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images, model.sample(3, Stream(seed + 1)).numpy())
    with backend.using("numpy"):
        close(images, model.sample(3, Stream(seed)).numpy(), rtol=0, atol=1e-7)


def test_images_have_the_shape_of_the_data():
    data = DataSpec(name="wide", channels=1, height=20, width=37, count=1)
    assert pixels.Pixels(pixels.Config(), data, Stream(0)).sample(2, Stream(0)).shape == (2, 1, 20, 37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "8", "7")),
        ({"channels": 4}, ("channels", "1", "3", "4")),
        ({"levels": 1}, ("levels", "2", "1")),
        ({"levels": 257}, ("levels", "256", "257")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        pixels.Config(**options)
    assert all(word in caught.value.message for word in ("pixels", *words))
    assert caught.value.hint and "\n" not in str(caught.value)
