"""What the verbs share that take pictures or make them: the algorithm, the files they read, and the file they write."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.cli import options
from tinygen.data import read_image
from tinygen.errors import DataError, UsageError


def open_algorithm(
    args: argparse.Namespace, rest: Sequence[str], parser: argparse.ArgumentParser, verb: str
) -> tuple[str, Any]:
    """The algorithm that `args.source` means, a run's folder or a name, and what it is called; it can do `verb`."""
    if options.is_run(args.source):
        origin, algorithm = options.open_run(args, rest, parser)
        name = origin.name
    else:
        name, algorithm = options.build_untrained(args, rest, parser)
    options.require_capability(name, algorithm, verb)
    return name, algorithm


def read_pictures(paths: Sequence[Path], rest: Sequence[str], usage: str) -> list[np.ndarray]:
    """The pictures of files, (c, h, w) each: in colour if one of them is.

    rest: the words that the verb does not know. The parser cannot tell the value of an algorithm's option from a
        picture, so an option that stands before the pictures takes their place; `usage` tells the order.
    Raises UsageError for that, DataError for a file that cannot be read.
    """
    for path in paths:
        if rest and not path.exists():
            hint = f"the pictures stand before the options of the algorithm: {usage}"
            raise UsageError(f"{path}: there is no such file", hint)
    pictures = [read_image(path) for path in paths]
    channels = max(map(len, pictures))
    return [np.repeat(picture, channels // len(picture), axis=0) for picture in pictures]


def free_path(name: str, suffix: str = ".png") -> Path:
    """The first of NAME.png, NAME-2.png, … that is not there yet, so that nothing is overwritten unasked."""
    return next(path for each in options.numbered(name) if not os.path.lexists(path := Path(f"{each}{suffix}")))


def require_size(path: Path, picture: np.ndarray, other: str, image: np.ndarray) -> None:
    """Raise DataError unless the picture of a file is as large as the other one; both (..., h, w)."""
    if picture.shape[-2:] != image.shape[-2:]:
        wanted, got = (f"{w} × {h} pixels" for *_, h, w in (image.shape, picture.shape))
        raise DataError(f"{path}: must be as large as the {other}, {wanted}, got {got}", "bring both to one size first")
