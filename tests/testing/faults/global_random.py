"""Noise from the global state of NumPy."""

import numpy as np

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import tensor
from tinygen.backend import of
from tinygen.host import hookimpl


class Plugin(Sound):
    """Draws where nobody can repeat it."""

    def loss(self, x):
        noise = np.random.normal(size=x.shape).astype(np.float32)  # here  # noqa: NPY002
        return squared_error(self.model(x + 0.1 * tensor(of(x.data).from_host(noise))), x)


@hookimpl
def tinygen_algorithms():
    return [spec("global_random")]
