"""An array of the host among tensors of the device."""

import numpy as np

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Weighs pixels by an array that never left the host."""

    def loss(self, x):
        weights = np.full(x.shape[1:], 0.5, np.float32)
        return squared_error(self.model(x) * weights, x * weights)  # here


@hookimpl
def tinygen_algorithms():
    return [spec("host_array")]
