"""A plugin that is watched: a layer, a loop, a gradient of a gradient."""

from dataclasses import dataclass

import tinygen
from tinygen import functional as F
from tinygen import nn, optim
from tinygen.host import AlgorithmSpec, Sampler, Step, Trainable, equation, hookimpl


@hookimpl
def tinygen_algorithms():
    return [
        AlgorithmSpec(
            name="toy", family="toys", summary="a <toy> & more", factory="toy:Toy", config="toy:Config",
            verbs=("train", "sample"), papers=("Nobody, A Toy, arXiv:1406.2661",),
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Its options."""

    width: int = 5
    """units"""
    batch_size: int = 64
    """images"""


@equation(r"\mathcal{L} = \frac1n \sum_i a_i^2 + \|\nabla a\|^2", source="Nobody 1900, eq. 1")
def loss_of(a, slope):
    """The loss."""
    square = a * a
    return square.mean() + (slope * slope).sum()


class Toy(Trainable, Sampler):
    """It learns nothing."""

    def __init__(self, config, data, random):
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, config.width, random=random), nn.ReLU())
        self.weight = tinygen.ones(config.width, requires_grad=True)
        self.optimizer = optim.SGD([*self.net.parameters(), self.weight], 0.1)

    def fit(self, batches):
        """For ever."""
        while True:
            images = next(batches).images
            x = tinygen.tensor(images.data, requires_grad=True)
            a = self.net(x)
            for _ in range(3):
                a = F.tanh(a)
                a = a * self.weight
            slope = tinygen.grad(a.sum(), x, create_graph=True)
            loss = loss_of(a, slope)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield Step({"loss": loss})

    def sample(self, n, random):
        images = random.uniform((n, 1, 28, 28))
        return tinygen.tensor(images)
