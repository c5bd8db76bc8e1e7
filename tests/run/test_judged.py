"""Samples measured in a classifier's features: what is known of them comes out."""

import numpy as np
import pytest

from tests.run.command import tinygen
from tinygen import functional as F
from tinygen import tensor
from tinygen.data import ArrayImages, Dataset
from tinygen.errors import UsageError
from tinygen.host import Judge, Sampler
from tinygen.random import Stream
from tinygen.run.judged import judged


def bits(n, seed, share=0.5):
    """Images (n, 1, 4, 4), the left half as white in `share` of them as the right half in the others."""
    random = np.random.default_rng(seed)
    left = random.random(n) < share
    pixels = random.integers(0, 60, (n, 1, 4, 4))
    pixels[left, :, :, :2] += 180
    pixels[~left, :, :, 2:] += 180
    return pixels.astype(np.uint8)


@pytest.fixture
def data():
    return Dataset("halves", {"train": ArrayImages(bits(400, 0)), "test": ArrayImages(bits(300, 1))}, (1, 4, 4))


class Halves(Judge):
    """Features: the light of each half. Class 0: the left one is lighter."""

    def features(self, images):
        return F.stack([images[..., :2].mean((1, 2, 3)), images[..., 2:].mean((1, 2, 3))], 1)

    def probabilities(self, images):
        return F.softmax(self.features(images) * 20, 1)


class Pool(Sampler):
    """Draws from given images."""

    def __init__(self, pixels):
        self.pixels, self.at = pixels.astype(np.float32) / 255, 0

    def sample(self, n, random):
        self.at += n
        return tensor(self.pixels[self.at - n : self.at])


def test_images_like_those_of_the_data_are_near_them(data):
    found = judged(Pool(bits(300, 2)), Halves(), data, Stream(0), count=300)
    assert found["frechet"] < 3 * found["frechet_floor"] + 1e-3
    assert found["precision"] > 0.9 and found["recall"] > 0.9
    assert found["class_least_percent"] + found["class_most_percent"] == pytest.approx(100)
    assert 40 < found["class_least_percent"] <= 50 and found["confidence_percent"] > 99
    assert found["nearest"] == pytest.approx(found["nearest_of_test"], rel=0.1)
    assert found["samples"] == 300 and found["test_images"] == 300


def test_the_distance_is_that_of_the_moments(data):
    pool = Pool(bits(300, 2, share=1.0))
    found = judged(pool, Halves(), data, Stream(0), count=300)

    def moments(pixels):
        x = pixels.reshape(-1, 4, 4) / 255
        rows = np.stack([x[..., :2].mean((1, 2)), x[..., 2:].mean((1, 2))], 1)
        return rows.mean(0), np.cov(rows.T)

    (m1, s1), (m2, s2) = moments(bits(300, 2, share=1.0)), moments(data.splits["test"].pixels)
    root = np.sqrt(np.linalg.eigvals(s1 @ s2).real).sum()  # tr (S₁ S₂)^½
    assert found["frechet"] == pytest.approx(((m1 - m2) ** 2).sum() + np.trace(s1 + s2) - 2 * root, rel=1e-4)
    assert found["class_least_percent"] == 0 and found["class_most_percent"] == 100
    assert found["recall"] < 0.6 < found["precision"]  # only half of what there is, and that looks real


def test_copies_are_told(data):
    found = judged(Pool(data.splits["train"].pixels), Halves(), data, Stream(0), count=300)
    assert found["nearest"] == 0 < found["nearest_of_test"]


def test_samples_of_another_shape_are_refused(data):
    with pytest.raises(UsageError, match=r"the samples are \(1, 4, 3\), halves has \(1, 4, 4\)"):
        judged(Pool(bits(50, 0)[..., :3]), Halves(), data, Stream(0), count=50)


def test_the_shape_is_looked_at_before_all_samples_are_drawn(data):
    pool = Pool(bits(1000, 0)[..., :3])
    with pytest.raises(UsageError, match="the samples are"):
        judged(pool, Halves(), data, Stream(0), count=1000)
    assert pool.at == 500


def test_a_judge_must_be_one(tmp_path):
    small = ["--steps", 1, "--hidden", 4, "--latent", 2, "--batch-size", 4, "--quiet", "--sample-every", 0]
    assert tinygen("train", "gan", *small, "--out", tmp_path / "gan").code == 0
    done = tinygen("evaluate", tmp_path / "gan", "--judge", tmp_path / "gan")
    assert done.code == 2 and "gan cannot judge samples" in done.err
