"""Options of any value, without a word of help."""

from dataclasses import dataclass

from tests.testing.faults._sound import Config, Sound, spec, squared_error  # noqa: F401
from tinygen.host import hookimpl


@dataclass(frozen=True)
class Loose:
    """Options."""

    batch_size: int = 5
    """pictures in a batch"""
    width: int = 4
    """hidden units"""
    lr: float = 0.01


class Plugin(Sound):
    """Takes what it is given."""


@hookimpl
def tinygen_algorithms():
    return [spec("unchecked", config="Loose")]
