"""The command line: `frame` finds the verb and prints what comes of it; each verb is one file beside it."""

from tinygen.cli.frame import main

__all__ = ["main"]
