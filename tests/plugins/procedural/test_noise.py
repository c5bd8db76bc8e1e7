"""The four kinds of noise against SciPy's laws, and the pictures and images that they are laid on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from tinygen import backend
from tinygen.autograd import tensor
from tinygen.data import DataSpec
from tinygen.errors import UsageError
from tinygen.host import verifies
from tinygen.metrics import psnr
from tinygen.random import Stream
from tinygen.testing import close, host
from tinygen.testing.strategies import pairs, reals, seeds
from tinygen_plugins.procedural import noise

from .reference import device

images = pairs(1, 6).flatmap(lambda size: reals((3, *size), 0.0, 1.0))
plain = st.floats(0.05, 0.95)  # the value of an image without details
LARGE = (3, 64, 64)
N = math.prod(LARGE)


def make(**options):
    return noise.Noise(noise.Config(**options), None, Stream(0))


def filled(value, dtype="float64"):
    """An image without details."""
    return device(np.full(LARGE, value, dtype))


def is_law(values, law):
    """A Kolmogorov–Smirnov test that chance fails once in ten million; so good a fit would be no chance either."""
    assert 1e-7 < stats.kstest(values.ravel(), law.cdf).pvalue < 1 - 1e-7


def has_moments(values, mean, variance, kurtosis=0.0):
    """Mean and variance of independent numbers, within six standard errors."""
    n = values.size
    assert abs(values.mean() - mean) < 6 * math.sqrt(variance / n)
    assert abs(values.var() - variance) < 6 * variance * math.sqrt((kurtosis + 2) / n)


# ---------------------------------------------------------------- Gaussian


@verifies(noise.gaussian_noise)
@settings(max_examples=8)
@given(value=plain, sigma=st.floats(0.01, 1.0), seed=seeds())
def test_gaussian_noise_is_normal_with_the_same_spread_everywhere(value, sigma, seed):
    noisy = host(noise.gaussian_noise(filled(value), Stream(seed), sigma))
    is_law(noisy, stats.norm(value, sigma))
    has_moments(noisy, value, sigma**2)


@verifies(noise.gaussian_noise)
@settings(max_examples=8)
@given(sigma=st.floats(0.01, 0.5), seed=seeds())
def test_the_psnr_of_gaussian_noise_is_minus_twenty_log_sigma(sigma, seed):
    clean = device(np.random.default_rng(seed).random(LARGE))
    noisy = noise.gaussian_noise(clean, Stream(seed), sigma)
    decibels = host(psnr(noisy, clean)).item()
    spread = 10 / math.log(10) * math.sqrt(2 / N)  # of a mean square of N normal numbers, in decibels
    assert abs(decibels + 20 * math.log10(sigma)) < 6 * spread


def test_25_of_255_is_20_decibels():
    clean = filled(0.5)
    decibels = host(psnr(noise.gaussian_noise(clean, Stream(0), 25 / 255), clean)).item()
    assert abs(decibels - 20.17) < 0.2


@verifies(noise.gaussian_noise)
@settings(max_examples=8)
@given(first=st.floats(0.01, 0.5), second=st.floats(0.01, 0.5), seed=seeds())
def test_the_variances_of_two_passes_add_up(first, second, seed):
    random, clean = Stream(seed), filled(0.5)
    twice = noise.gaussian_noise(noise.gaussian_noise(clean, random, first), random, second)
    once = noise.gaussian_noise(clean, Stream(seed, "other"), math.hypot(first, second))
    is_law(host(twice), stats.norm(0.5, math.hypot(first, second)))
    assert stats.ks_2samp(host(twice).ravel(), host(once).ravel()).pvalue > 1e-7


@verifies(noise.gaussian_noise)
@settings(max_examples=5)
@given(copies=st.integers(2, 12), seed=seeds())
def test_the_mean_of_k_noisy_copies_gains_ten_log_k_decibels(copies, seed):
    random, clean = Stream(seed), filled(0.5)
    noisy = [noise.gaussian_noise(clean, random, 0.2) for _ in range(copies)]
    gain = host(psnr(sum(noisy) / copies, clean)) - host(psnr(noisy[0], clean))
    spread = 10 / math.log(10) * math.sqrt(2 * 2 / N)
    assert abs(gain.item() - 10 * math.log10(copies)) < 6 * spread


# ---------------------------------------------------------------- Poisson


@verifies(noise.poisson_noise)
@settings(max_examples=10)
@given(value=plain, photons=st.floats(0.5, 500.0), seed=seeds())
def test_poisson_noise_counts_photons(value, photons, seed):
    noisy = host(noise.poisson_noise(filled(value), Stream(seed), photons))
    counts = noisy * photons
    close(counts, np.round(counts), rtol=0, atol=1e-6)
    law = stats.poisson(photons * value)
    has_moments(noisy, value, value / photons, float(law.stats("k")))
    # Frequencies of the counts, those that are rare taken together.
    edges = np.unique(law.ppf(np.linspace(0.05, 0.95, 12)))
    expected = N * np.diff([0.0, *law.cdf(edges), 1.0])
    found = np.bincount(np.searchsorted(edges, np.round(counts.ravel())), minlength=len(expected))
    assert stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue > 1e-7


@verifies(noise.poisson_noise)
@given(seed=seeds(), photons=st.floats(1.0, 1000.0))
def test_black_pixels_catch_no_photons(seed, photons):
    image = np.zeros((3, 4, 4))
    image[:, 1] = 0.5
    noisy = host(noise.poisson_noise(device(image), Stream(seed), photons))
    assert not noisy[image == 0].any()


def test_negative_light_is_refused():
    with pytest.raises(ValueError, match="lam"):
        noise.poisson_noise(device(np.full((1, 2, 2), -0.1)), Stream(0), 10.0)


# ---------------------------------------------------------------- salt and pepper


@verifies(noise.salt_and_pepper_noise)
@settings(max_examples=8)
@given(share=st.floats(0.0, 1.0), seed=seeds())
def test_salt_and_pepper_take_their_share_of_the_pixels_half_each(share, seed):
    clean = 0.2 + 0.6 * np.random.default_rng(seed).random(LARGE)
    noisy = host(noise.salt_and_pepper_noise(device(clean), Stream(seed), share))
    lost = (noisy != clean).all(axis=0)
    assert np.array_equal(noisy[:, ~lost], clean[:, ~lost])  # whole pixels or none
    values = noisy[:, lost]
    assert np.array_equal(values, np.broadcast_to(values[:1], values.shape)) and np.isin(values, (0.0, 1.0)).all()
    pixels = lost.size
    for count, p in ((lost.sum(), share), ((noisy[0] == 1).sum(), share / 2), ((noisy[0] == 0).sum(), share / 2)):
        assert abs(count - p * pixels) < 6 * math.sqrt(pixels * p * (1 - p)) + 1


# ---------------------------------------------------------------- speckle


@verifies(noise.speckle_noise)
@settings(max_examples=8)
@given(value=plain, sigma=st.floats(0.01, 1.0), seed=seeds())
def test_speckle_is_normal_in_proportion_to_the_brightness(value, sigma, seed):
    noisy = host(noise.speckle_noise(filled(value), Stream(seed), sigma))
    is_law(noisy, stats.norm(value, value * sigma))
    has_moments(noisy, value, (value * sigma) ** 2)


@verifies(noise.speckle_noise)
@given(image=images, sigma=st.floats(0.0, 1.0), factor=st.floats(0.0, 4.0), seed=seeds())
def test_speckle_of_a_brighter_image_is_brighter_speckle(image, sigma, factor, seed):
    noisy = host(noise.speckle_noise(device(image), Stream(seed), sigma))
    close(noise.speckle_noise(device(factor * image), Stream(seed), sigma), factor * noisy, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- clipping


@verifies(noise.clipped)
@given(image=images, away=reals((3, 6, 6), -3.0, 3.0))
def test_clipping_is_the_projection_on_the_range(image, away):
    noisy = image + away[:, : image.shape[1], : image.shape[2]]
    result = host(noise.clipped(device(noisy)))
    assert (np.abs(result - image) <= np.abs(noisy - image)).all()
    nearest = [optimize.minimize_scalar(lambda x, y=y: (x - y) ** 2, bounds=(0, 1), method="bounded").x
               for y in noisy.ravel()[:5]]  # fmt: skip
    close(result.ravel()[:5], np.array(nearest), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- the landscape


@verifies(noise.skyline)
@given(waves=st.integers(1, 12).flatmap(lambda k: reals((2, k))), beta=st.floats(0, 4), more=st.integers(1, 20))
def test_the_power_of_a_skyline_falls_with_the_frequency(waves, beta, more):
    count = 2 * waves.shape[1] + more  # samples of a period: enough for the highest frequency
    line = host(noise.skyline(device(np.arange(count) / count), device(waves), beta))
    spectrum = np.fft.rfft(line) / count  # c_k = (a_k − i b_k) k^(−β/2) / 2
    k = np.arange(1, waves.shape[1] + 1)
    expected = np.zeros(len(spectrum), complex)
    expected[k] = (waves[0] - 1j * waves[1]) / 2 / np.sqrt(k**beta)
    close(spectrum.real, expected.real, atol=1e-11)
    close(spectrum.imag, expected.imag, atol=1e-11)


@settings(max_examples=10)
@given(seed=seeds(), size=pairs(8, 60))
def test_a_landscape_has_light_above_and_dark_mountains_below(seed, size):
    picture = host(noise.landscape(Stream(seed, backend=backend.NUMPY), *size))
    assert picture.shape == (3, *size) and picture.dtype == np.float32
    assert picture.min() > -0.01 and picture.max() < 1.01
    brightness = picture.mean(axis=(0, 2))
    assert brightness[size[0] // 2] > brightness[-1] + 0.05


def test_a_landscape_is_the_same_picture_at_any_size():
    for seed in range(3):
        small, large = (host(noise.landscape(Stream(seed, backend=backend.NUMPY), n, n)) for n in (64, 192))
        shrunk = large.reshape(3, 64, 3, 64, 3).mean(axis=(2, 4))
        assert np.abs(small - shrunk).mean() < 0.02


# ---------------------------------------------------------------- the algorithm


@settings(max_examples=10)
@given(seed=seeds(), channels=st.sampled_from([1, 3]), kind=st.sampled_from(["auto", *noise.KINDS]))
def test_a_sample_is_its_seed_s_and_each_picture_its_own(seed, channels, kind):
    model = make(size=16, channels=channels, kind=kind)
    pictures = model.sample(3, Stream(seed)).numpy()
    assert pictures.shape == (3, channels, 16, 16) and pictures.dtype == np.float32
    assert pictures.min() >= 0 and pictures.max() <= 1
    assert np.array_equal(pictures, model.sample(3, Stream(seed)).numpy())
    assert np.array_equal(pictures[:1], model.sample(1, Stream(seed)).numpy())
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures, model.sample(3, Stream(seed + 1)).numpy())
    with backend.using("numpy"):
        close(pictures, model.sample(3, Stream(seed)).numpy(), rtol=0, atol=1e-5)


def test_a_sample_has_noise_of_every_kind():
    # Without any strength, salt and pepper and the counting of few photons still show.
    drawn = make(size=32, sigma=0.0, photons=4.0, share=0.3).sample(24, Stream(0)).numpy()
    clean = [host(noise.landscape(Stream(0, f"/image {i}/landscape", backend.NUMPY), 32, 32)) for i in range(24)]
    counted = [np.abs(4 * picture - np.round(4 * picture)).max() < 1e-5 for picture in drawn]
    unchanged = [np.abs(picture - np.clip(before, 0, 1)).max() < 1e-5 for picture, before in zip(drawn, clean)]
    salted = [not c and not u for c, u in zip(counted, unchanged)]
    assert sum(counted) > 2 and sum(unchanged) > 4 and sum(salted) > 2


FUNCTIONS = {
    "gaussian": lambda x, random: noise.gaussian_noise(x, random, 0.3),
    "poisson": lambda x, random: noise.poisson_noise(x, random, 20.0),
    "salt_and_pepper": lambda x, random: noise.salt_and_pepper_noise(x, random, 0.4),
    "speckle": lambda x, random: noise.speckle_noise(x, random, 0.3),
}


@pytest.mark.parametrize("kind", noise.KINDS)
@given(seed=seeds(), channels=st.sampled_from([1, 3]))
@settings(max_examples=5)
def test_an_image_given_gets_the_noise_asked_for(kind, seed, channels):
    image = device(np.random.default_rng(seed).random((channels, 5, 7)).astype("float32"))
    model = make(kind=kind, sigma=0.3, photons=20.0, share=0.4)
    noisy = model.compose([tensor(image)], None, Stream(seed)).numpy()
    expected = host(FUNCTIONS[kind](image, Stream(seed)))
    assert noisy.dtype == np.float32 and expected.dtype == np.float32
    assert np.array_equal(noisy, np.clip(expected, 0, 1))


def test_an_image_given_gets_gaussian_noise_by_default_and_only_where_the_mask_says():
    image = np.random.default_rng(0).random((3, 6, 8)).astype("float32")
    mask = np.zeros((6, 8), "float32")
    mask[2:, 3:] = 1
    x = tensor(device(image))
    everywhere = make().compose([x], None, Stream(1)).numpy()
    assert np.array_equal(everywhere, make(kind="gaussian").compose([x], None, Stream(1)).numpy())
    masked = make().compose([x], tensor(device(mask)), Stream(1)).numpy()
    assert np.array_equal(masked[:, mask == 0], image[:, mask == 0])
    assert np.array_equal(masked[:, mask == 1], everywhere[:, mask == 1])
    assert np.array_equal(host(x), image)


def test_pictures_have_the_shape_of_the_data():
    data = DataSpec(name="wide", channels=1, height=20, width=37, count=1)
    assert noise.Noise(noise.Config(), data, Stream(0)).sample(2, Stream(0)).shape == (2, 1, 20, 37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, ("size", "8", "7")),
        ({"channels": 2}, ("channels", "1", "3", "2")),
        ({"kind": "gausian"}, ("kind", "gaussian", "gausian")),
        ({"sigma": -0.1}, ("sigma", "0.0", "-0.1")),
        ({"sigma": math.nan}, ("sigma", "nan")),
        ({"photons": 0.0}, ("photons", "0.001", "0.0")),
        ({"share": 1.5}, ("share", "1.0", "1.5")),
    ],
)
def test_a_wrong_option_is_told_in_one_line_with_a_hint(options, words):
    with pytest.raises(UsageError) as caught:
        noise.Config(**options)
    assert all(word in caught.value.message for word in ("noise", *words))
    assert caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "mask", "words"), [(0, None, ("one", "0")), (2, None, ("one", "2")), (1, (4, 5), ("(4, 4)", "(4, 5)"))]
)
def test_other_images_and_masks_are_refused_in_one_line_with_a_hint(count, mask, words):
    images = [tensor(device(np.ones((3, 4, 4), "float32")))] * count
    with pytest.raises(UsageError) as caught:
        make().compose(images, None if mask is None else tensor(device(np.ones(mask, "float32"))), Stream(0))
    assert all(word in caught.value.message for word in ("noise", *words))
    assert caught.value.hint and "\n" not in str(caught.value)
