"""What the tape does at this moment, in this thread: record or not, and look for numbers that are not finite or not."""

from __future__ import annotations

import contextlib
import threading
from typing import Any


class _Mode(threading.local):
    recording = True
    anomaly = False


mode = _Mode()


class _Switch(contextlib.ContextDecorator):
    """Sets one flag of `mode` for a with block or a decorated function, and puts it back."""

    flag, value = "recording", True
    _before: Any = None

    def __enter__(self) -> None:
        self._before = (getattr(mode, self.flag), self._before)  # a stack: the same object may nest
        setattr(mode, self.flag, self.value)

    def __exit__(self, *error: object) -> None:
        value, self._before = self._before
        setattr(mode, self.flag, value)


class no_grad(_Switch):
    """Inside, operations are computed but not recorded: their results require no gradient."""

    value = False


class enable_grad(_Switch):
    """Inside, operations are recorded, also within `no_grad`."""


class detect_anomaly(_Switch):
    """Inside, the first operation, forward or backward, that makes a NaN or an infinity out of finite numbers raises
    AnomalyError with its name and the line that called it; and an array that the graph saved is compared with a
    fingerprint at backward, so that any write into it is found. Several times slower: for finding a fault."""

    flag = "anomaly"


def is_grad_enabled() -> bool:
    """True where operations are recorded."""
    return mode.recording
