"""Episodes: small classification tasks drawn from a labelled split, for algorithms that learn to learn.

An N-way K-shot episode takes N of the split's classes, K images of each as the support, from which the task is to be
learnt, and some more of each as the query, on which what was learnt is measured. Within an episode its classes are
numbered 0 to N − 1. Episode i depends on the stream's seed and i alone, so that the place in their endless row is one
number.

Source: Vinyals et al., Matching Networks for One Shot Learning, 2016, arXiv:1606.04080, §3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from tinygen.autograd import Tensor, tensor
from tinygen.backend import NUMPY, current
from tinygen.data.dataset import Batches, ImageSet
from tinygen.errors import DataError
from tinygen.random import Stream


class Support(NamedTuple):
    """A few examples to adapt to: images (n, c, h, w) in [0, 1]; labels (n,) int64, places in `classes`."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


class Episode(NamedTuple):
    """Images (N·K, c, h, w) and (N·Q, c, h, w) in [0, 1], class after class; labels int64 in 0 … N − 1."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    classes: tuple[int, ...]  # which of the split's labels 0 … N − 1 stand for


@runtime_checkable
class FixedEpisodes(Protocol):
    """An ImageSet with episodes that its authors have fixed, as `omniglot-runs` has: figures on it are of these."""

    def episodes(self) -> Sequence[Episode]:
        """All of them, in their order."""
        ...


class Episodes:
    """The episodes of a split by number: `episodes[i]`.

    way: classes N. shot: images K of each in the support. queries: images Q of each in the query.
    Raises DataError where the split has no labels, or too few classes with K + Q images.
    """

    def __init__(self, images: ImageSet, way: int, shot: int, queries: int, random: Stream) -> None:
        for name, value, least in (("way", way, 2), ("shot", shot, 1), ("queries", queries, 0)):
            if value < least:
                raise DataError(f"episodes: {name} must be at least {least}, got {value}")
        self.way, self.shot, self.queries = way, shot, queries
        self._images, self._random = images, random
        self._classes = _places_by_class(images, shot + queries, way)

    def __getitem__(self, number: int) -> Episode:
        name = f"{self._random.name}/episode {number}"
        random = Stream(self._random.seed, name, NUMPY)  # which images they are is the host's affair
        chosen = random.permutation(len(self._classes))[: self.way]
        each = self.shot + self.queries
        places = []
        for place in chosen:
            _, members = self._classes[place]
            places.append(members[random.permutation(len(members))[:each]])
        indices = np.stack(places)  # (N, K + Q)
        classes = tuple(self._classes[place][0] for place in chosen)
        support, support_labels = self._part(indices[:, : self.shot])
        query, query_labels = self._part(indices[:, self.shot :])
        return Episode(support, support_labels, query, query_labels, classes)

    def _part(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """The images of indices (N, k), and their numbers within the episode."""
        place_on = current().from_host
        images = self._images.images(indices.reshape(-1))
        labels = np.repeat(np.arange(self.way), indices.shape[1])
        return tensor(place_on(images)), tensor(place_on(labels))


class FeatureImages:
    """A split with features in the place of its images, so that many episodes compute each of them once.

    embed: images (n, c, h, w) to features (n, …); it is called with some of the images at a time.
    """

    def __init__(self, split: ImageSet, embed: Callable[[Tensor], Tensor], piece: int = 500) -> None:
        every = np.arange(len(split))
        pieces = [split.images(every[start : start + piece]) for start in range(0, len(split), piece)]
        self._features = np.concatenate([embed(tensor(current().from_host(each))).numpy() for each in pieces])
        self._labels = split.labels(every)
        self.class_count = 0 if self._labels is None else len(np.unique(self._labels))

    def __len__(self) -> int:
        return len(self._features)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The features, (n, …)."""
        return self._features[indices]

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self._labels is None else self._labels[indices]


def _places_by_class(images: ImageSet, least: int, way: int) -> list[tuple[int, np.ndarray]]:
    """The classes that have enough images: each label with the indices of its images."""
    labels = images.labels(np.arange(len(images)))
    if labels is None:
        raise DataError("episodes: the data have no labels", "for instance --data omniglot, or a folder of classes")
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    members = np.split(order, starts[1:]) if len(values) else []
    enough = [(int(value), places) for value, places in zip(values, members) if len(places) >= least]
    if len(enough) < way:
        raise DataError(
            f"episodes: {way}-way episodes with {least} images of each class need {way} such classes, "
            f"got {len(enough)} of {len(values)} classes",
            "ask for fewer classes or images, or choose other data",
        )
    return enough


def episodes_from(batches: Batches, way: int, shot: int, queries: int) -> Iterator[Episode]:
    """Episodes of the split that `batches` walks through, for ever, counted in `batches.drawn`: a run goes on with
    the episode at which it stopped. Raises DataError at once, as `Episodes` does.
    """
    episodes = Episodes(batches.split, way, shot, queries, batches.random)

    def walk() -> Iterator[Episode]:
        while True:
            batches.drawn += 1
            yield episodes[batches.drawn - 1]

    return walk()
