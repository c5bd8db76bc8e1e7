"""Where the files of a data set lie: `<data folder>/<name>/<file>`, in the first data folder that has it.

Data folders, in the order in which they are searched: `--data-dir`, then $TINYGEN_DATA, then the user's cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tinygen.errors import DataError


def data_folders(extra: str | None = None) -> tuple[str, ...]:
    """The folders in which data sets are looked for; `extra` is what `--data-dir` names. They need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    named = (extra, os.environ.get("TINYGEN_DATA"), os.path.join(cache, "tinygen"))
    return tuple(folder for folder in named if folder)


def find(name: str, file: str, folders: Sequence[str] = ()) -> Path:
    """The path of `<folder>/<name>/<file>` in the first of `folders` that has it.

    A file called `….gz` may as well lie there unpacked, without the suffix. Without `folders`: `data_folders()`.
    Raises DataError, with the place where the file is expected, if none has it.
    """
    folders = tuple(folders) or data_folders()
    for folder in folders:
        for candidate in (file, file.removesuffix(".gz")):
            path = os.path.join(folder, name, candidate)
            if os.path.isfile(path):
                return Path(path)
    searched = ", ".join(os.path.join(folder, name) for folder in folders)
    raise DataError(
        f"data {name.replace('_', '-')}: {file} is not in {searched}",
        f"put {file} into {os.path.join(folders[0], name, '')} or set TINYGEN_DATA to the folder that holds {name}/",
    )
