"""A cut that is meant so, with its reason, and one that is not true."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Has a penalty that is not to teach."""

    def loss(self, x):
        y = self.model(x)
        return squared_error(y, x) + 0.5 * (y * y.detach()).mean()


@hookimpl
def tinygen_algorithms():
    expected = {"mathematics.derivatives": "the penalty is a figure", "determinism.seed": "not so"}
    return [spec("excused", expected=expected)]
