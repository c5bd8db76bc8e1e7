"""Where in a plugin something happens: the line that calls, or the line after which a condition first holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tinygen import data

DATA = os.path.dirname(data.__file__)  # the folder of what draws batches and episodes


def calling_line(folder: str) -> str:
    """`file:line` of the innermost caller in the plugin's `folder`; "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _lies_in(frame.f_code.co_filename, folder):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""


def called_from(folder: str) -> bool:
    """Whether code of a folder is at work."""
    return calling_line(folder) != ""


def _lies_in(file: str, folder: str) -> bool:
    """Whether a file is `folder`, a plugin that is one file, or lies in it."""
    return file == folder or file.startswith(folder + os.sep)


def first_line(action: Callable[[], Any], happened: Callable[[], bool], folder: str) -> str:
    """`file:line` of the line of the plugin in `folder` after which `happened()` is first true; "" where none is.

    The action runs under a trace, slowly; whatever it raises is of no interest here.
    """
    last, found = "", ""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal last, found
        file = frame.f_code.co_filename
        if found or not _lies_in(file, folder):
            return None
        if last and happened():
            found = last
            return None
        if event in ("line", "call"):
            last = f"{file}:{frame.f_lineno}"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Exception:
        pass
    finally:
        sys.settrace(before)
    return found or (last if happened() else "")


def at(place: str) -> str:
    """` (file:line)`, or nothing where the place is not known."""
    return f" ({place})" if place else ""
