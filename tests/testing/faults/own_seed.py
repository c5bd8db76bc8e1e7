"""Weights from a stream with a seed of its own."""

from tests.testing.faults._sound import Config, Network, Sound, spec, squared_error  # noqa: F401
from tinygen import optim
from tinygen.host import hookimpl
from tinygen.random import Stream


class Plugin(Sound):
    """Begins at the same place whatever the seed of the run."""

    def __init__(self, config, data, random):
        super().__init__(config, data, random)
        pixels = data.channels * data.height * data.width
        self.model = Network(pixels, config.width, Stream(0, "model"))  # here
        self.optimizer = optim.Adam(self.model.parameters(), config.lr)


@hookimpl
def tinygen_algorithms():
    return [spec("own_seed")]
