"""The errors that a user meets: one line that says what and where, and a hint that says what to do.

The command line prints `message` and `hint` and leaves with `exit_code`; `--json` prints `code` beside them.
Inside the library, a wrong argument of an operation stays a ValueError, TypeError or IndexError as in NumPy.
"""

from __future__ import annotations


class TinygenError(Exception):
    """Something the user can mend. `hint` tells how; `code` names the kind for programs."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(TinygenError):
    """A command line that cannot be meant: unknown name, option or value."""

    code = "usage"
    exit_code = 2


class PluginError(TinygenError):
    """A plugin that does not keep the contract of the host."""

    code = "plugin"
    exit_code = 3


class DataError(TinygenError):
    """A data set, folder or file that is missing, damaged or of the wrong shape."""

    code = "data"


class CheckpointError(TinygenError):
    """A run's folder or checkpoint that is missing, damaged or belongs to something else."""

    code = "checkpoint"


class OutputError(TinygenError):
    """A file or folder that cannot be written."""

    code = "output"


class BackendError(TinygenError):
    """An array library that is not there, or arrays of two of them in one operation."""

    code = "backend"


class AnomalyError(TinygenError, FloatingPointError):
    """A number that is not finite, with the operation that made it."""

    code = "not-finite"


def did_you_mean(name: str, known: list[str]) -> str:
    """'did you mean "gan"?' where one of `known` is close to `name`, else the list of what there is."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return "there is " + ", ".join(sorted(known)) if known else "there is none"
