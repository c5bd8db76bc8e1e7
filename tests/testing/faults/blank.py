"""Pictures in which nothing is to be seen."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Draws grey."""

    def sample(self, n, random):
        return super().sample(n, random) * 0 + 0.5


@hookimpl
def tinygen_algorithms():
    return [spec("blank")]
