"""Small films for the tests of this folder, and a network whose parameters can be put in from outside."""

import numpy as np

from tinygen.data import Batches, Dataset, DataSpec
from tinygen.random import Stream

SHAPE, FRAMES, COUNT = (1, 8, 16), 6, 20
DATA = DataSpec(name="films", channels=1, height=8, width=16, count=COUNT, frames=FRAMES)


class Films:
    """Random clips (n, t, c, h, w)."""

    def __init__(self, seed=0, count=COUNT, frames=FRAMES, shape=SHAPE):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, frames, *shape))
        self.pixels = (pixels / 255).astype(np.float32)

    def __len__(self):
        return len(self.pixels)

    def images(self, indices):
        return self.pixels[indices]

    def labels(self, indices):
        return None


def batches(size=4, seed=0):
    return Batches(Films(), size, Stream(seed, "batches"))


def data_set(test=10):
    return Dataset("films", {"train": Films(), "test": Films(1, test)}, SHAPE, frames=FRAMES)


def clips(n=3, frames=FRAMES, seed=2):
    """(t, n, c, h, w) float64 on the host."""
    return np.random.default_rng(seed).uniform(size=(frames, n, *SHAPE))


def in_double(*modules):
    """The modules' parameters, brought to float64."""
    for module in modules:
        for parameter in module.parameters():
            parameter.data = parameter.data.astype("float64")
    return [p for m in modules for p in m.parameters()]


def with_parameters(objective, *modules):
    """`objective()` as a function of all parameters of the modules, in their order."""
    names = [(m, name) for m in modules for name, _ in m.named_parameters()]

    def function(*values):
        before = []
        for (module, name), value in zip(names, values):
            *path, last = name.split(".")
            for part in path:
                module = getattr(module, part)
            before.append((module, last, getattr(module, last)))
            object.__setattr__(module, last, value)
        try:
            return objective()
        finally:
            for module, last, parameter in before:
                object.__setattr__(module, last, parameter)

    return function
