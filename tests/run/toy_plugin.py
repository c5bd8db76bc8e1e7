"""A plugin for the tests of runs: a model small enough to train in a moment, with every kind of state, and its faults.

`toy` removes noise from images of dots: momentum, batch norm, dropout, a noise stream, and a history that grows.
`--fault` makes it go wrong in one of many ways at step `--at`. `stripes` needs no training.
"""

import os
import resource
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np

from tinygen import functional as F
from tinygen import nn, optim, tensor
from tinygen.data import ArrayImages, Dataset
from tinygen.errors import DataError, UsageError
from tinygen.host import AlgorithmSpec, DatasetSpec, Evaluable, Sampler, Step, Trainable, hookimpl


@dataclass(frozen=True)
class Config:
    """Options of the toy."""

    lr: float = 0.05
    """Step size."""
    batch_size: int = 6
    """Images a step."""
    widths: tuple[int, ...] = (8,)
    """Hidden units, layer by layer."""
    bias: bool = True
    """Whether the layers have one."""
    fault: str = ""
    """What goes wrong."""
    at: int = 7
    """The step at which it does."""
    pause: float = 0.0
    """Seconds that a step takes longer."""

    def __post_init__(self):
        if self.lr < 0:
            raise UsageError(f"--lr must be 0 or more, got {self.lr}", "for instance --lr 0.05")


@dataclass(frozen=True)
class Planned(Config):
    """Options of a toy that knows how long it is trained, as a schedule needs."""

    steps: int = 3
    """Steps in all."""


class Toy(Trainable, Sampler, Evaluable):
    def __init__(self, config, data, random):
        self.config, self.shape = config, data.shape
        sizes = [data.channels * data.height * data.width]
        layers = []
        for width in config.widths:
            layers += [nn.Linear(sizes[-1], width, bias=config.bias, random=random.child(f"layer {width}"))]
            layers += [nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2, random=random.child(f"dropout {width}"))]
            sizes.append(width)
        self.model = nn.Sequential(*layers, nn.Linear(sizes[-1], sizes[0], random=random.child("last")))
        self.optimizer = optim.SGD(self.model.parameters(), lr=config.lr, momentum=0.9)
        self.noise = random.child("noise")
        self.updates = 0
        self.best, self.extra = None, tensor([0.0])
        self.history = []

    def fit(self, batches):
        for images, _ in batches:
            self.updates += 1
            x = images.reshape(len(images), -1)  # (n, d)
            noisy = x + tensor(self.noise.normal(x.shape)) * 0.3
            difference = self.model(noisy) - x
            loss = (difference * difference).mean()
            if self.updates == self.config.at:
                loss = self.go_wrong(loss)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.history.append(tensor(x.data[:1]))
            del self.history[:-3]
            if self.updates % 2:  # a figure that only some steps have
                yield Step({"loss": loss, "odd": self.updates})
            else:
                self.best = self.updates
                yield Step({"loss": loss})
            time.sleep(self.config.pause)
            if self.updates == self.config.at:
                yield from self.yield_wrong()
                if self.config.fault == "end":
                    return

    def go_wrong(self, loss):
        fault = self.config.fault
        if fault == "log":
            return (loss * -1).log()
        if fault == "crash":
            raise ZeroDivisionError("the toy broke")
        if fault == "late attribute":
            self.late = 3
        if fault == "unkept":
            self.extra = {1, 2}
        if fault == "another shape":
            self.extra = tensor([1.0, 2.0])
        if fault == "nan state":
            self.extra = tensor([float("nan")])
        if fault == "infinite state":
            self.extra = tensor([float("inf")])
        if fault == "full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        if fault in ("SIGINT", "SIGTERM", "twice SIGINT", "twice SIGTERM"):
            for _ in range(2 if fault.startswith("twice") else 1):
                os.kill(os.getpid(), getattr(signal, fault.split()[-1]))
        return loss

    def yield_wrong(self):
        wrong = {
            "yield a dict": {"loss": 1.0},
            "yield nothing": None,
            "metrics are no mapping": Step(3),
            "metric is text": Step({"loss": "low"}),
            "metric is an array": Step({"loss": tensor([1.0, 2.0])}),
            "metric is infinite": Step({"loss": float("inf")}),
            "metric is called step": Step({"step": 1.0}),
        }
        if self.config.fault in wrong:
            yield wrong[self.config.fault]

    def sample(self, n, random):
        if self.config.fault == "wrong sample":
            return tensor(np.zeros((n, 3)))
        self.model.eval()
        z = tensor(random.normal((n, *self.shape))).reshape(n, -1)
        images = F.sigmoid(self.model(z)).reshape(n, *self.shape)
        self.model.train()
        return images

    def evaluate(self, data, random):
        if self.config.fault == "wrong figures":
            return [1, 2]
        images, _ = data.arrays("test")
        return {"brightness": images.mean(), "draw": tensor(random.uniform(())), "updates": self.updates}


class List(Trainable):
    """`fit` is no generator."""

    def __init__(self, config, data, random):
        pass

    def fit(self, batches):
        return [Step()]


class Broken(Trainable):
    """Is not a number from the beginning."""

    def __init__(self, config, data, random):
        self.scale = tensor([float("nan")])

    def fit(self, batches):
        yield Step()


class Locked(Trainable):
    """Holds what no checkpoint can."""

    def __init__(self, config, data, random):
        self.cache = {"open files": sys.stderr}

    def fit(self, batches):
        yield Step()


class Unfit:
    """Says that it can be trained, but cannot."""

    def __init__(self, config, data, random):
        pass


@dataclass(frozen=True)
class Stripes:
    """Options of the stripes."""

    size: int = 8
    """Side in pixels."""


class StripeSampler(Sampler, Evaluable):
    def __init__(self, config, data, random):
        self.size, self.shift, self.data = config.size, random.uniform(()), data

    def sample(self, n, random):
        rows = random.uniform((n, 1, self.size, 1))
        return tensor(rows) * tensor(np.ones((1, 1, 1, self.size), np.float32)) * tensor(self.shift)

    def evaluate(self, data, random):
        return {"count": len(data.split("train")), "channels": self.data.channels}


def _set(count, shape, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return ArrayImages(pixels, np.arange(count) % 2)


def dots(request):
    """20 random images, 4 × 4 and grey, or as asked for; "few" makes it 10. $TOY_DOTS is their seed."""
    shape = (1 if request.grey else 3, request.size or 4, request.size or 4)
    splits = {
        "train": _set(10 if request.argument == "few" else 20, shape, int(os.environ.get("TOY_DOTS", 0))),
        "test": _set(5, shape, 1),
    }
    return Dataset("dots", splits, shape, classes=("even", "odd"))


def missing(request):
    raise DataError(f"missing: no files in {request.folders[0]}", "put them there")


def not_data(request):
    return [1, 2, 3]


def _spec(name, factory, config="Config", verbs=("train",)):
    return AlgorithmSpec(
        name=name, family="toys", summary=f"{name}, for tests", factory=f"toy_plugin:{factory}",
        config=f"toy_plugin:{config}", verbs=verbs,
    )  # fmt: skip


@hookimpl
def tinygen_algorithms():
    return [
        _spec("toy", "Toy", verbs=("train", "sample", "evaluate")),
        _spec("planned", "Toy", "Planned"),
        _spec("list", "List"),
        _spec("broken", "Broken"),
        _spec("locked", "Locked"),
        _spec("unfit", "Unfit"),
        _spec("stripes", "StripeSampler", "Stripes", ("sample", "evaluate")),
    ]


@hookimpl
def tinygen_datasets():
    return [
        DatasetSpec(name="dots", summary="random dots", factory="toy_plugin:dots", argument="HOW?"),
        DatasetSpec(name="placed", summary="random dots", factory="toy_plugin:dots", argument="PLACE"),
        DatasetSpec(name="missing", summary="files that are not there", factory="toy_plugin:missing"),
        DatasetSpec(name="plain", summary="random dots", factory="toy_plugin:dots"),
        DatasetSpec(name="not-data", summary="no data at all", factory="toy_plugin:not_data"),
    ]
