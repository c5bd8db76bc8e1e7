"""Episodes: what they hold, on what they depend, how likely each class and image is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen.data import ArrayImages, Batches, DataRequest, DrawnImages, Episodes, FeatureImages, episodes_from
from tinygen.data.glyphs import glyphs
from tinygen.errors import DataError
from tinygen.random import Stream
from tinygen.testing.strategies import seeds
from tinygen.testing.strict import counting

from .expect import refused


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """Episodes are on the backend in use."""


def numbered(counts: tuple[int, ...] = (4, 3, 5, 1), seed: int = 0) -> ArrayImages:
    """Image i of pixel i; class k has counts[k] images, in mixed order, and the labels are 10 k."""
    labels = np.random.default_rng(seed).permutation(np.repeat(10 * np.arange(len(counts)), counts))
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return ArrayImages(pixels, labels)


def ids(images: tinygen.Tensor) -> list[int]:
    return np.rint(images.numpy()[:, 0, 0, 0] * 255).astype(int).tolist()


def draw(number: int = 0, way: int = 2, shot: int = 1, queries: int = 2, seed: int = 0, images=None):
    return Episodes(images or numbered(), way, shot, queries, Stream(seed, "episodes"))[number]


# ---------------------------------------------------------------- what they hold


@given(seeds(), st.integers(2, 3), st.integers(1, 2), st.integers(0, 1))
def test_classes_are_distinct_and_no_image_is_in_support_and_query(seed, way, shot, queries):
    images = numbered()
    episode = draw(seed % 7, way, shot, queries, seed, images)
    assert len(set(episode.classes)) == way == len(episode.classes)
    support, query = ids(episode.support), ids(episode.query)
    assert len(support) == way * shot and len(query) == way * queries
    assert len({*support, *query}) == way * (shot + queries)
    for part, labels in ((support, episode.support_labels), (query, episode.query_labels)):
        assert labels.dtype == np.int64
        assert labels.numpy().tolist() == np.repeat(np.arange(way), len(part) // way).tolist()
        for place, label in zip(part, labels.numpy().tolist()):
            assert images.classes[place] == episode.classes[label]


def test_classes_with_too_few_images_are_left_out():
    seen = {label for number in range(60) for label in draw(number, way=2, shot=2, queries=2).classes}
    assert seen == {0, 20}  # ten has three images, thirty has one


def test_each_class_and_each_image_is_as_likely_as_any_other():
    episodes = Episodes(numbered((3, 3, 3, 3)), 2, 1, 1, Stream(0, "episodes"))
    drawn = [episodes[number] for number in range(600)]
    classes = np.bincount([label // 10 for episode in drawn for label in episode.classes])
    images = np.bincount([place for episode in drawn for place in ids(episode.query)], minlength=12)
    for counts in (classes, images):
        assert scipy.stats.chisquare(counts).pvalue > 1e-4


# ---------------------------------------------------------------- on what they depend


@given(seeds())
@settings(max_examples=20)
def test_an_episode_depends_on_seed_and_number_alone(seed):
    first, again = draw(5, seed=seed), draw(5, seed=seed)
    assert ids(first.support) == ids(again.support) and ids(first.query) == ids(again.query)
    assert first.classes == again.classes
    rows = [(*ids(e.support), *ids(e.query)) for e in (draw(n, seed=s) for n in range(6) for s in (seed, seed + 1))]
    assert len(set(rows)) > 1


def test_the_place_in_the_row_of_episodes_is_the_batches_count():
    batches = Batches(numbered(), 3, Stream(4, "batches"))
    episodes = episodes_from(batches, 2, 1, 1)
    drawn = [next(episodes) for _ in range(4)]
    assert batches.drawn == 4
    again = Batches(numbered(), 3, Stream(4, "batches"))
    again.load_state_dict({"drawn": np.array(2)})
    for episode, expected in zip(episodes_from(again, 2, 1, 1), drawn[2:]):
        assert ids(episode.support) == ids(expected.support) and ids(episode.query) == ids(expected.query)
    rows = Episodes(numbered(), 2, 1, 1, Stream(4, "batches"))
    assert [ids(rows[n].support) for n in range(4)] == [ids(episode.support) for episode in drawn]


def test_an_episode_waits_for_no_device(backend):
    episodes = Episodes(numbered(), 2, 1, 1, Stream(0, "episodes"))
    with counting() as counts:
        episodes[0], episodes[1]
    assert counts.to_host == counts.synchronizations == 0


def test_labels_alone_draw_no_image():
    drawn = []

    def picture(index):
        drawn.append(index)
        return np.full((1, 2, 2), index, np.uint8), index % 3

    images = DrawnImages(30, (1, 2, 2), picture, lambda index: index % 3)
    episode = draw(images=images, way=2, shot=1, queries=1)
    assert len(drawn) == 4 and sorted(drawn) == sorted(ids(episode.support) + ids(episode.query))
    assert images.labels(np.arange(30)).tolist() == [i % 3 for i in range(30)]


def test_the_labels_of_glyphs_are_known_before_they_are_drawn():
    places = np.arange(0, 400, 10)
    alone, drawn = (glyphs(DataRequest(argument="all")).split("test") for _ in range(2))
    drawn.images(places)
    assert alone.labels(places).tolist() == drawn.labels(places).tolist()
    alone.images(places)
    assert alone.labels(places).tolist() == drawn.labels(places).tolist()
    assert len(set(alone.labels(places).tolist())) > 10


# ---------------------------------------------------------------- features in the place of images


def test_episodes_of_features_are_those_of_the_images_embedded_once():
    images, calls = numbered(), []

    def embed(part):
        calls.append(len(part))
        return part.reshape(len(part), 1) * 255.0 + 1.0

    features = FeatureImages(images, embed, piece=5)
    assert calls == [5, 5, 3] and len(features) == 13 and features.class_count == 4
    for number in range(5):
        here, there = draw(number, images=features), draw(number, images=images)
        for ours, theirs in ((here.support, there.support), (here.query, there.query)):
            np.testing.assert_allclose(ours.numpy()[:, 0], np.array(ids(theirs)) + 1, rtol=1e-6)
        assert here.classes == there.classes


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((1, 1, 1), "way must be at least 2, got 1"),
        ((2, 0, 1), "shot must be at least 1, got 0"),
        ((2, 1, -1), "queries must be at least 0, got -1"),
        ((5, 1, 0), "5-way episodes with 1 images of each class need 5 such classes, got 4 of 4 classes"),
        ((3, 2, 2), "need 3 such classes, got 2 of 4 classes"),
    ],
)
def test_what_the_data_cannot_give_is_refused_at_once(words, said):
    with refused(DataError, said):
        Episodes(numbered(), *words, Stream(0, "episodes"))
    with refused(DataError, said):
        episodes_from(Batches(numbered(), 3, Stream(0, "batches")), *words)


def test_data_without_labels_are_refused():
    with refused(DataError, "the data have no labels", "--data omniglot"):
        draw(images=ArrayImages(np.zeros((9, 1, 2, 2), np.uint8)))
