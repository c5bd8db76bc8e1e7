"""Nothing is wrong here."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """As it is."""


@hookimpl
def tinygen_algorithms():
    return [spec("sound")]
