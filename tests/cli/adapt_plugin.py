"""A plugin for the tests of adapt: one that tells classes apart, one that gives a copy of itself, and faults."""

from dataclasses import dataclass

import numpy as np

from tinygen import nn, optim, stack, tensor
from tinygen.data import ArrayImages, Dataset
from tinygen.host import Adapter, AlgorithmSpec, DatasetSpec, Evaluable, Sampler, Step, Trainable, hookimpl


@dataclass(frozen=True)
class Config:
    """Options of all of them."""

    fault: str = ""
    """What goes wrong."""


class Mean(Trainable, Sampler, Evaluable, Adapter):
    """Samples one image: the mean of what it saw last. Adapted, it is another of its kind."""

    def __init__(self, config, data, random):
        self.config, self.shape, self.data, self.random = config, data.shape, data, random
        self.image = nn.Parameter(random.uniform(data.shape))
        self.optimizer = optim.SGD([self.image], 0.1)

    def fit(self, batches):
        for images, _ in batches:
            self.image.data = self.image.data * 0.5 + images.mean(0).data * 0.5
            yield Step({"mean": self.image.detach().mean()})

    def sample(self, n, random):
        return stack([self.image.detach().clamp(0, 1)] * n)

    def evaluate(self, data, random):
        return {"mean": self.image.mean().item()}

    def adapt(self, support):
        if self.config.fault == "nothing":
            return None
        copy = Mean(self.config, self.data, self.random)
        copy.image.data = support.images.mean(0).data
        return copy


class Nearest(Mean):
    """Tells the class whose mean image is nearest."""

    def adapt(self, support):
        return Judge(self.config.fault, support)


class Judge:
    def __init__(self, fault, support):
        self.fault = fault
        means = [support.images[support.labels.data == k].mean(0) for k in range(len(support.classes))]
        self.means = stack(means).flatten(1)

    def probabilities(self, images):
        x = images.flatten(1)
        squares = ((x[:, None] - self.means) ** 2).sum(2)
        p = (-squares).softmax(1)
        return {"a row": p[0], "an array": p.data, "nan": p * tensor(float("nan"))}.get(self.fault, p)


class Plain(Trainable):
    """Cannot adapt."""

    def __init__(self, config, data, random):
        self.weight = nn.Parameter(random.uniform(1))

    def fit(self, batches):
        for _ in batches:
            yield Step({"weight": self.weight.sum()})


def wide(request):
    """Black images that are wider than high."""
    return Dataset("wide", {"train": ArrayImages(np.zeros((8, 1, 4, 6), np.uint8))}, (1, 4, 6))


def _spec(name, factory, *verbs):
    return AlgorithmSpec(
        name=name, family="toys", summary=f"{name}, for tests", factory=f"adapt_plugin:{factory}",
        config="adapt_plugin:Config", verbs=verbs, data="dots",
    )  # fmt: skip


@hookimpl
def tinygen_algorithms():
    every = ("train", "sample", "evaluate", "adapt")
    return [_spec("mean", "Mean", *every), _spec("nearest", "Nearest", *every), _spec("plain", "Plain", "train")]


@hookimpl
def tinygen_datasets():
    return [DatasetSpec(name="wide", summary="not square", factory="adapt_plugin:wide")]
