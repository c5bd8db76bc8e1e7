"""A spec that promises more than the class does."""

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


class Plugin(Sound):
    """Cannot repair."""


@hookimpl
def tinygen_algorithms():
    return [spec("overstated", ("train", "sample", "repair"))]
