"""What is checked: one algorithm, small, with all that the checks have in common.

Every check that changes an algorithm builds one of its own; `trained` is the one that is only looked at.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, tensor
from tinygen.backend import current
from tinygen.data import Batch, Batches, DataRequest, Dataset, ImageSet, data_folders
from tinygen.errors import PluginError
from tinygen.host import AlgorithmSpec, Registry, Step
from tinygen.host.providers import location
from tinygen.nn import Module
from tinygen.random import Stream
from tinygen.run import Origin, Run, capture, checkpoint
from tinygen.run.report import Means

STEPS = 3  # updates that make an algorithm a trained one, for a check


class Finding(AssertionError):
    """What a check finds wrong, in one line that says what and where."""


class Absent(Exception):
    """There is nothing to ask here, and why."""


class Subject:
    """An algorithm under check. `options` go over those that its spec calls small."""

    def __init__(self, registry: Registry, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.registry, self.name = registry, name
        self.spec: AlgorithmSpec = registry.algorithm(name)
        self.options = {**self.spec.checks.small, **(options or {})}
        self._trained: dict[str, Any] = {}

    # ------------------------------------------------------------ what it is made of

    @cached_property
    def factory(self) -> Any:
        return self.registry.load(self.spec.factory)

    @cached_property
    def config_kind(self) -> Any:
        return self.registry.load(self.spec.config)

    @cached_property
    def config(self) -> Any:
        known = getattr(self.config_kind, "__dataclass_fields__", self.options)
        for name in self.options:
            if name not in known:
                raise PluginError(f"{self.spec.name} has no option {name}", "look at small in the spec's Checks")
        return self.config_kind(**self.options)

    @cached_property
    def data(self) -> Dataset:
        spec, argument = self.registry.data(self.spec.checks.data or self.spec.data)
        return self.registry.load(spec.factory)(DataRequest(argument=argument, folders=data_folders()))

    @property
    def can_train(self) -> bool:
        return "train" in self.spec.verbs

    @cached_property
    def module(self) -> Any:
        """The module that the algorithm's class stands in."""
        return sys.modules[self.factory.__module__]

    @cached_property
    def folder(self) -> str:
        """The folder of the plugin's package, or the file of a plugin that is one: an error in it is the plugin's."""
        top = sys.modules[self.module.__name__.partition(".")[0]]
        folders = getattr(top, "__path__", None)
        return str(next(iter(folders))) if folders else inspect.getsourcefile(self.factory) or ""

    def place_of(self, error: BaseException) -> str:
        """`file:line` of the innermost place of an error in the plugin's files; "" where it lies in none."""
        return self.registry.place_of(error) or location(error, [str(Path.cwd())])

    # ------------------------------------------------------------ an algorithm of its own

    def run(
        self, seed: int = 0, data: Dataset | None = None, config: Any = None, random: Stream | None = None
    ) -> Run:  # fmt: skip
        """A run before its first step, whose algorithm is the caller's to change."""
        data, config = data or self.data, config or self.config
        values = checkpoint.config_values(config)
        origin = Origin(
            name=self.spec.name, provider="", config=values, seed=seed,
            data=data.name, image_size=None, grey=False, images=checkpoint.image_values(data.spec), digest="",
        )  # fmt: skip
        factory = self.factory if random is None else _WithStream(self.factory, random)
        return Run(Path(), origin, factory, config, data)

    def build(self, seed: int = 0) -> Any:
        """The algorithm before any training."""
        if self.can_train:
            return self.run(seed).algorithm
        return self.factory(self.config, None, Stream(seed, self.spec.name).child("algorithm"))

    @property
    def trained(self) -> Any:
        """The algorithm after some updates, where it can be trained: to look at, not to change."""
        backend = current().name
        if backend not in self._trained:
            if self.can_train:
                run = self.run()
                steps(run, STEPS)
                self._trained[backend] = run.algorithm
            else:
                self._trained[backend] = self.build()
        return self._trained[backend]

    def stream(self, name: str, seed: int = 0) -> Stream:
        return Stream(seed, self.spec.name).child(name)

    def pictures(self, n: int) -> Tensor:
        """n still images of the data, (n, c, h, w); frames, where the data are clips."""
        images = self.data.split("train").images(np.arange(n))
        return tensor(current().from_host(images[:, 0] if self.data.frames else images))


class _WithStream:
    """A factory that builds with a stream of the caller's, whatever the run says."""

    def __init__(self, factory: Any, random: Stream) -> None:
        self.factory, self.random = factory, random
        self.films = getattr(factory, "films", False)

    def __call__(self, config: Any, data: Any, random: Stream) -> Any:
        return self.factory(config, data, self.random)


# ---------------------------------------------------------------- training by the step


def steps(run: Run, n: int, fit: Iterator[Any] | None = None) -> list[dict[str, float]]:
    """n updates more, of a `fit` that goes on or of a new one; the figures of each.

    Raises PluginError for a `fit` that ends, or yields no Step.
    """
    fit, figures = run.fit() if fit is None else fit, []
    for _ in range(n):
        step = next(fit, None)
        if not isinstance(step, Step) or not isinstance(step.metrics, Mapping):
            got = "nothing more" if step is None else type(step).__name__
            raise PluginError(f"fit gave {got} at step {run.step + 1}", "yield Step({name: value}), for ever")
        means = Means()
        means.add(step.metrics)
        figures.append(means.take())
        run.step += 1
    return figures


def named_parameters(algorithm: Any) -> Iterator[tuple[str, Tensor]]:
    """The parameters of an algorithm's networks that are learnt, each once."""
    seen: set[int] = set()
    for attribute, value in vars(algorithm).items():
        for key, p in value.named_parameters() if isinstance(value, Module) else [("", value)]:
            if isinstance(p, Tensor) and p.requires_grad and p.node is None and id(p) not in seen:
                seen.add(id(p))
                yield f"{attribute}.{key}".rstrip("."), p


def first_difference(a: Any, b: Any) -> str:
    """The name of the first part of two algorithms' state that is not the same, bit for bit; "" where none differs."""
    (a_arrays, a_table), (b_arrays, b_table) = capture(a), capture(b)
    for name in [*a_table, *b_table]:
        here, there = a_arrays.get(name), b_arrays.get(name)
        if a_table.get(name) != b_table.get(name):
            return name
        if here is not None and (there is None or here.tobytes() != there.tobytes()):
            return name
    return next((name for name in a_arrays if a_arrays[name].tobytes() != b_arrays[name].tobytes()), "")


class WatchedBatches(Batches):
    """Batches that remember what they handed out, to see whether it was written into."""

    def __init__(self, batches: Batches) -> None:
        super().__init__(batches.split, batches.size, batches.random)
        self.given: list[tuple[Tensor, np.ndarray]] = []

    def __next__(self) -> Batch:
        batch = super().__next__()
        self.given += [(x, np.array(x.numpy())) for x in batch if x is not None]
        return batch

    def written(self) -> bool:
        return any(x.numpy().tobytes() != copy.tobytes() for x, copy in self.given)


class OneBatch(Batches):
    """The same batch again and again."""

    def __init__(self, batches: Batches) -> None:
        super().__init__(batches.split, batches.size, batches.random)

    def __next__(self) -> Batch:
        self.drawn = 0
        return super().__next__()


class Noise:
    """An image set of random pixels, for data of any shape."""

    def __init__(self, count: int, shape: tuple[int, ...], classes: int) -> None:
        random = np.random.default_rng(0)
        self._images = random.random((count, *shape), np.float32)
        self._labels = np.arange(count) % classes

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self._images[indices]

    def labels(self, indices: np.ndarray) -> np.ndarray:
        return self._labels[indices]


class Few:
    """The first images of a split."""

    def __init__(self, images: ImageSet, count: int) -> None:
        self._images, self._count = images, min(count, len(images))

    def __len__(self) -> int:
        return self._count

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self._images.images(indices)

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return self._images.labels(indices)


def few(data: Dataset, count: int) -> Dataset:
    """A data set with the first images of each split."""
    return dataclasses.replace(data, splits={name: Few(split, count) for name, split in data.splits.items()})
