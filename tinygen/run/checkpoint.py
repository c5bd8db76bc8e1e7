"""A run's checkpoint: one safetensors file with the arrays, and beside them in its header, as JSON, all the rest.

The file can be opened wherever safetensors can be read: the names of a module's arrays are those of its `state_dict`.
It is written whole or not at all, so that at any moment the folder holds the last complete one. It carries a checksum
and is never unpickled: whatever a damaged or foreign file holds, reading it ends in a CheckpointError of one line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tinygen import __version__
from tinygen.data import DataSpec, write_atomically
from tinygen.errors import CheckpointError, PluginError, UsageError
from tinygen.host import AlgorithmSpec, Registry
from tinygen.random import Stream
from tinygen.run.state import Arrays, Table, restore

FILE = "checkpoint.safetensors"
FORMAT = "1"
_KEY, _SUM = "tinygen", "tinygen.crc32"  # under which the header holds the JSON, and the checksum of it all
_LEFT_OVER = re.compile(r"\.[0-9a-f]{32}\.partial")  # what `write_atomically` leaves where its process was killed


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run is made of. A run that goes on must be made of the same."""

    name: str  # the algorithm
    provider: str  # the plugin that brings it
    config: dict[str, Any]  # its options
    seed: int
    data: str  # as on the command line: "mnist", "folder:PATH"
    image_size: int | None
    grey: bool
    images: dict[str, Any]  # the fields of the DataSpec that the algorithm was built with
    digest: str  # of the training images: `Dataset.digest`

    @property
    def algorithm(self) -> str:
        """Its name with the plugin's, which nobody else has."""
        return f"{self.provider}:{self.name}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images."""
        return self.images["channels"], self.images["height"], self.images["width"]

    @property
    def options(self) -> dict[str, Any]:
        """What was chosen on the command line, by option. How many steps a run takes is not part of what it is."""
        own = {f"--{name.replace('_', '-')}": value for name, value in self.config.items() if name != "steps"}
        return own | {
            "--seed": self.seed, "--data": self.data, "--image-size": self.image_size, "--grey": self.grey,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run stands after `step` updates."""

    origin: Origin
    step: int
    drawn: int  # batches drawn
    seconds: float  # spent in training
    backend: str
    arrays: Arrays  # with `table`: what `state.capture` gave
    table: Table


_PLACE = ("step", "drawn", "seconds", "backend", "table")  # the fields that the header holds as they are

# What the header's JSON must hold: the types of the fields.
_HEADER = {
    "format": str, "versions": dict, "origin": dict, "step": int, "drawn": int, "seconds": (int, float),
    "backend": str, "table": dict,
}  # fmt: skip
_ORIGIN = {
    "name": str, "provider": str, "config": dict, "seed": int, "data": str, "image_size": (int, type(None)),
    "grey": bool, "images": dict, "digest": str,
}  # fmt: skip
_IMAGES = {"name": str, "channels": int, "height": int, "width": int, "count": int, "classes": list}
_TYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64")  # safetensors' names


# ---------------------------------------------------------------- the file


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint into a run's folder, in place of the one before, whole or not at all.

    Raises OutputError where it cannot be written; the one before is then untouched.
    """
    document = {
        "format": FORMAT,
        "versions": {"tinygen": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "origin": dataclasses.asdict(checkpoint.origin),
        **{name: getattr(checkpoint, name) for name in _PLACE},
    }
    text = json.dumps(document)
    content = safetensors.numpy.save(checkpoint.arrays, {_KEY: text, _SUM: _checksum(text, checkpoint.arrays)})
    write_atomically(folder / FILE, content)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Bring the folder's table of names to the disk, where the system can: the new file's name is in it."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):  # a file system may have no such thing
            os.fsync(handle)
        os.close(handle)


def remove_left_overs(folder: Path) -> None:
    """Remove the half-written files that a killed process left in a run's folder."""
    for place in (folder, folder / "samples"):
        for path in place.glob(".*.partial"):
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink(missing_ok=True)


def read(folder: Path) -> Checkpoint:
    """The checkpoint in a run's folder. Raises CheckpointError if it is missing, damaged or of another format."""
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"{folder}: there is no run, {FILE} is missing", "train one: tinygen train NAME --out …")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if not {_KEY, _SUM} <= header.keys():
                raise CheckpointError(f"{path}: not a checkpoint of tinygen", _USE_ANOTHER)
            names = file.keys()
            for name in names:
                if (found := file.get_slice(name).get_dtype()) not in _TYPES:
                    raise CheckpointError(f"{path}: {name} is of type {found}, which no checkpoint holds", _USE_ANOTHER)
            arrays = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: damaged or cut short: {_one_line(error)}", _USE_ANOTHER) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {_one_line(error)}", "check its permissions") from error
    if header[_SUM] != _checksum(header[_KEY], arrays):
        raise CheckpointError(f"{path}: damaged: its checksum is wrong", _USE_ANOTHER)
    return _from_document(path, header[_KEY], arrays)


def _checksum(text: str, arrays: Arrays) -> str:
    """CRC-32 of the JSON and of each array with its name, type and shape."""
    total = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return f"{total:08x}"


_USE_ANOTHER = "restore the file from a copy, or train anew with another --out"


def _from_document(path: Path, text: str, arrays: Arrays) -> Checkpoint:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is damaged: {_one_line(error)}", _USE_ANOTHER) from error
    if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
        versions = document.get("versions")
        writer = versions.get("tinygen") if isinstance(versions, dict) else None
        raise CheckpointError(
            f"{path}: format {document['format']}, this tinygen reads format {FORMAT}",
            f"it was written by tinygen {writer}: install that version" if writer else _USE_ANOTHER,
        )
    _require_fields(path, "the header", document, _HEADER)
    _require_fields(path, "origin", document["origin"], _ORIGIN)
    images = document["origin"]["images"]
    optional = {"frames": int} if isinstance(images, dict) and "frames" in images else {}
    _require_fields(path, "origin.images", images, _IMAGES | optional)
    place = {name: document[name] for name in _PLACE}
    return Checkpoint(origin=Origin(**document["origin"]), arrays=arrays, **place)


def _require_fields(path: Path, owner: str, values: Any, types: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless `values` is an object with these fields, of these types, and no others."""
    if not isinstance(values, dict):
        raise _damaged(path, f"{owner} is a {type(values).__name__}, expected an object")
    if missing := [name for name in types if name not in values]:
        raise _damaged(path, f"{owner} lacks {', '.join(missing)}")
    if unknown := [name for name in values if name not in types]:
        raise _damaged(path, f"{owner} has the unknown {', '.join(unknown)}")
    for name, kinds in types.items():
        value = values[name]
        fits = isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))  # True is an int in Python
        if not fits:
            raise _damaged(path, f"{name} of {owner} is {value!r:.40}")


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: its header is damaged: {what}", _USE_ANOTHER)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# ---------------------------------------------------------------- what a run is made of


def require_same(folder: Path, saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise CheckpointError, naming both values, where a run is asked to go on as something else than it was."""
    names = [*saved, *(name for name in asked if name not in saved)]
    different = [name for name in names if saved.get(name) != asked.get(name)]
    if different:
        made = (f"made with {name} {saved.get(name)}, not {asked.get(name)}" for name in different)
        raise CheckpointError(
            f"{folder}: {'; '.join(made)}",
            "ask for the same to go on with this run, or start a new one with another --out",
        )


def require_same_data(folder: Path, saved: Origin, now: Origin) -> None:
    """Raise CheckpointError where the data are not those that a run was made with."""
    images = ({f"data {name}": value for name, value in origin.images.items()} for origin in (saved, now))
    require_same(folder, *images)
    if saved.digest != now.digest:
        raise CheckpointError(
            f"{folder}: {now.data} holds other images or labels than it was made with "
            f"(digest {now.digest}, not {saved.digest})",
            "put the data back as they were, or start a new run with another --out",
        )


def image_values(spec: DataSpec) -> dict[str, Any]:
    """The fields of a DataSpec as JSON holds them; `frames` for clips only."""
    values = json.loads(json.dumps(dataclasses.asdict(spec)))
    if not spec.frames:
        del values["frames"]
    return values


def config_values(config: Any) -> dict[str, Any]:
    """The fields of a Config as JSON holds them. Raises PluginError for a field that JSON does not hold."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name, value in values.items():
        try:
            values[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"{type(config).__name__}.{name}: a checkpoint cannot keep a {type(value).__name__}",
                "use numbers, strings, None, or tuples of these; for a choice, Literal",
            ) from error
    return values


def config_from(kind: type, values: dict[str, Any], folder: Path) -> Any:
    """The Config that `config_values` was told of. JSON knows lists alone: they come back as tuples."""
    unknown = values.keys() - {field.name for field in dataclasses.fields(kind)}
    if unknown:
        raise CheckpointError(
            f"{folder}: made with the options {', '.join(sorted(unknown))}, which the plugin has no more",
            "use the version of the plugin that the run was made with",
        )
    try:
        return kind(**{name: _tuples(value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: made with options that the plugin does not take: {_one_line(error)}",
            "use the version of the plugin that the run was made with",
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


# ---------------------------------------------------------------- an algorithm out of a run's folder


def load_algorithm(folder: Path, registry: Registry) -> tuple[Any, Checkpoint]:
    """The trained algorithm of a run, and its checkpoint.

    Raises CheckpointError for a folder that does not hold one, UsageError where its plugin is not there.
    """
    saved = read(folder)
    origin = saved.origin
    spec = _find_algorithm(origin, registry)
    config = config_from(registry.load(spec.config), origin.config, folder)
    images = DataSpec(**{name: _tuples(value) for name, value in origin.images.items()})
    factory = registry.load(spec.factory)
    algorithm = factory(config, images, Stream(origin.seed, origin.name).child("algorithm"))
    restore(algorithm, saved.arrays, saved.table)
    return algorithm, saved


def _find_algorithm(origin: Origin, registry: Registry) -> AlgorithmSpec:
    """The spec of the algorithm that a run was made with."""
    try:
        return registry.algorithm(origin.algorithm)
    except UsageError as error:
        raise UsageError(error.message, "name the plugin that the run was made with: --plugin FILE") from error
