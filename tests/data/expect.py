"""What the tests of this folder ask of an error: its type, one line, and the words that matter in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tinygen.errors import DataError, TinygenError


@contextlib.contextmanager
def refused(kind: type[TinygenError], *words: object) -> Iterator[None]:
    """The block raises exactly `kind`; message and hint are one line each and together hold all `words`."""
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    assert "\n" not in error.message and "\n" not in error.hint
    for word in words:
        assert str(word) in f"{error.message} | {error.hint}"


def read_or_refused(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray | None:
    """What `read(path)` gives, or None if it refuses the file in one line that names it."""
    try:
        return read(path)
    except DataError as error:
        message = error.message
    assert str(path) in message and "\n" not in message
    return None
