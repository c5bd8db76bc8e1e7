"""A network that pictures leave in the wrong mode."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen import nn
from tinygen.host import hookimpl


class Plugin(Sound):
    """Trains without dropout, once it has been looked at."""

    def __init__(self, config, data, random):
        super().__init__(config, data, random)
        self.model.dropout = nn.Dropout(0.5, random=random.child("dropout"))

    def loss(self, x):
        return squared_error(self.model(self.model.dropout(x)), x)

    def sample(self, n, random):
        self.model.eval()
        return super().sample(n, random)


@hookimpl
def tinygen_algorithms():
    return [spec("left_in_eval")]
