"""What the tape does at this moment, in this thread: record or not, and look for numbers that are not finite or not."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any


class _Mode(threading.local):
    recording = True
    anomaly = False


mode = _Mode()


class _Switch(contextlib.ContextDecorator, threading.local):
    """Sets one flag of `mode` for a with block or a decorated function, and puts it back.

    Decorates with or without parentheses. One object may nest, and threads may share it: each has its own `_before`.
    """

    flag, value = "recording", True
    _before: Any = None

    def __new__(cls, function: Callable | None = None) -> Any:
        switch = super().__new__(cls)
        return switch if function is None else switch(function)

    def __call__(self, function: Callable) -> Any:
        if inspect.isgeneratorfunction(function):
            return _resumed_in(type(self), function)
        return super().__call__(function)

    def __enter__(self) -> None:
        self._before = (getattr(mode, self.flag), self._before)  # a stack
        setattr(mode, self.flag, self.value)

    def __exit__(self, *error: object) -> None:
        value, self._before = self._before
        setattr(mode, self.flag, value)


def _resumed_in(switch: type[_Switch], function: Callable) -> Callable:
    """A generator function whose body, but not the loop that reads it, runs within `switch`."""

    @functools.wraps(function)
    def generate(*arguments: Any, **options: Any) -> Generator:
        body = function(*arguments, **options)
        resume: Callable = functools.partial(next, body)
        while True:
            try:
                with switch():
                    item = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = functools.partial(body.send, (yield item))
            except BaseException as error:  # what a reader throws in, or GeneratorExit, is the body's to handle
                resume = functools.partial(body.throw, error)

    return generate


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
