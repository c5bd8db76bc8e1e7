"""An object with a state_dict that leaves a buffer out."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Average:
    """A running mean of pictures, of which a checkpoint keeps the count alone."""

    def __init__(self):
        self.count, self.mean = 0, 0.0

    def add(self, x):
        self.count += 1
        self.mean = self.mean + (x.mean(0).detach() - self.mean) * (1.0 / self.count)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Plugin(Sound):
    """Subtracts a mean that does not come back."""

    def __init__(self, config, data, random):
        super().__init__(config, data, random)
        self.average = Average()

    def loss(self, x):
        self.average.add(x)
        return super().loss(x - self.average.mean)


@hookimpl
def tinygen_algorithms():
    return [spec("forgotten_buffer")]
