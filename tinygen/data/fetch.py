"""Downloads: a file from one of its addresses, known by its sum, whole or not at all.

The bytes go to a hidden name beside the file that they are to become, are counted and summed as they arrive, and take
its place in one step once the sum is right. Whatever goes wrong before, nothing of it is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinygen.errors import DataError, OutputError

CHUNK = 1 << 16  # bytes read at a time
TIMEOUT = 30.0  # seconds in which nothing arrives

Progress = Callable[[int, int | None], None]  # bytes that are there, and how many there will be, where that is told


class _Refused(Exception):
    """Why an address did not give the file, in a few words."""


def fetch_file(
    path: str | Path, urls: Sequence[str], sha256: str, progress: Progress = lambda done, total: None,
    timeout: float = TIMEOUT,
) -> None:  # fmt: skip
    """Make `path` the file with that sum, from the first of `urls` that gives it. Its folder is made where needed.

    Raises DataError where no address gives it, OutputError where it cannot be written; whatever `path` was before is
    then untouched.
    """
    path, refusals = Path(path), []
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                _download(url, partial, sha256, progress, timeout)
            except _Refused as refusal:
                refusals.append(f"{url}: {refusal}")
            else:
                os.replace(partial, path)
                return
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}", "make room, or choose another --data-dir"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that cannot be entered holds no part of it
            partial.unlink()
    raise DataError(
        f"{path.name} cannot be downloaded: {'; '.join(refusals) or 'no address is known'}",
        f"put it into {path.parent} by hand; its sha256 is {sha256}",
    )


def _download(url: str, path: Path, sha256: str, progress: Progress, timeout: float) -> None:
    """The bytes at an address to the file `path`. Raises _Refused, and OSError for the file alone."""
    response = _asked(lambda: urllib.request.urlopen(_request(url), timeout=timeout))
    total, done, digest = response.length, 0, hashlib.sha256()
    with response, path.open("wb") as file:
        while chunk := _asked(lambda: response.read(CHUNK)):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise _Refused(f"broke off after {done} of {total} bytes")
    if digest.hexdigest() != sha256:
        raise _Refused(f"is another file, with the sha256 {digest.hexdigest()}")


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "tinygen"})  # some servers refuse Python's own name


def _asked(question: Callable[[], Any]) -> Any:
    """What the network answers. Raises _Refused for all that can go wrong there."""
    try:
        return question()
    except urllib.error.HTTPError as error:
        raise _Refused(f"{error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _Refused(str(error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Refused(" ".join(str(error).split()) or type(error).__name__) from error
