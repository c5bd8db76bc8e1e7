"""A film from the global state of NumPy, where training and samples are sound."""

import numpy as np

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import tensor
from tinygen.backend import current
from tinygen.host import Animator, hookimpl


class Plugin(Sound, Animator):
    """Another film each time."""

    def animate(self, frames, n, random):
        film = np.random.random((n, frames, *self.shape)).astype(np.float32)  # here  # noqa: NPY002
        return tensor(current().from_host(film))


@hookimpl
def tinygen_algorithms():
    return [spec("global_film", ("train", "sample", "animate"))]
