"""Pictures in [−1, 1]."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Forgets to bring its pictures back."""

    def sample(self, n, random):
        return super().sample(n, random) * 2 - 1


@hookimpl
def tinygen_algorithms():
    return [spec("out_of_range")]
