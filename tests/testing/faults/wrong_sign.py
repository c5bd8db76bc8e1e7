"""The loss is climbed."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Climbs."""

    def descend(self, loss):
        super().descend(-loss)


@hookimpl
def tinygen_algorithms():
    return [spec("wrong_sign")]
