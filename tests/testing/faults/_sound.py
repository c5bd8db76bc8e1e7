"""A sound algorithm, which the plugins beside it spoil in one place each: a network that removes noise."""

from dataclasses import dataclass

import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import no_grad, tensor
from tinygen.host import AlgorithmSpec, Checks, Sampler, Step, Trainable, check_range, equation


@dataclass(frozen=True)
class Config:
    """Options of the network."""

    batch_size: int = 5
    """pictures in a batch"""
    width: int = 4
    """hidden units"""
    lr: float = 0.01
    """learning rate"""

    def __post_init__(self):
        for name, low, high in (("batch_size", 1, 100), ("width", 1, 100), ("lr", 1e-9, 1.0)):
            check_range("sound", name, getattr(self, name), low, high)


@equation(r"E = \tfrac1n \sum_i (y_i - x_i)^2", source="the mean of squares")
def squared_error(y, x):
    """Two tensors of one shape; a number."""
    return ((y - x) * (y - x)).mean()


class Network(nn.Module):
    """Two layers."""

    def __init__(self, pixels, width, random):
        super().__init__()
        self.encoder = nn.Linear(pixels, width, random=random.child("encoder"))
        self.decoder = nn.Linear(width, pixels, random=random.child("decoder"))

    def forward(self, x):
        return self.decoder(F.tanh(self.encoder(x)))


class Sound(Trainable, Sampler):
    """The network in training."""

    def __init__(self, config, data, random):
        self.config, self.shape = config, data.shape
        self.model = Network(data.channels * data.height * data.width, config.width, random.child("model"))
        self.optimizer = optim.Adam(self.model.parameters(), config.lr)
        self.noise = random.child("noise")

    def fit(self, batches):
        for images, _ in batches:
            yield Step(self.update(images.flatten(1)))

    def update(self, x):
        loss = self.loss(x)
        self.descend(loss)
        return {"loss": loss}

    def loss(self, x):
        return squared_error(self.model(x + 0.1 * tensor(self.noise.normal(x.shape))), x)

    def descend(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def sample(self, n, random):
        with no_grad():
            z = tensor(random.normal((n, self.config.width)))
            return F.sigmoid(self.model.decoder(z)).unflatten(1, self.shape)


def spec(module, verbs=("train", "sample"), config="Config", **more):
    """The spec of `module:Plugin`."""
    return AlgorithmSpec(
        name=module.replace("_", "-"), family="faults", summary="a plugin for tests", factory=f"{module}:Plugin",
        config=f"{module}:{config}", verbs=verbs, papers=("Nobody, 1900",), checks=Checks(**more),
    )  # fmt: skip
