"""A constant in float64 makes everything after it float64."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.autograd import tensor
from tinygen.backend import of
from tinygen.host import hookimpl


class Plugin(Sound):
    """Weighs pixels twice as wide as they are."""

    def loss(self, x):
        weights = of(x.data).xp.linspace(0.5, 1.0, x.shape[1])
        return squared_error(self.model(x) * tensor(weights), x)  # here


@hookimpl
def tinygen_algorithms():
    return [spec("float64_leak")]
