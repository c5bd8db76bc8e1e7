"""Noise from a generator with a seed of its own."""

import numpy as np

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import tensor
from tinygen.backend import of
from tinygen.host import hookimpl


class Plugin(Sound):
    """Draws the same whatever the seed of the run."""

    def loss(self, x):
        noise = np.random.default_rng(7).normal(size=x.shape).astype(np.float32)  # here
        return squared_error(self.model(x + 0.1 * tensor(of(x.data).from_host(noise))), x)


@hookimpl
def tinygen_algorithms():
    return [spec("own_generator")]
