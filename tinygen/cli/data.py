"""`tinygen data`: the data sets that there are, where their files lie, and the download of those that can be had.

Files are looked for in the data folders (`tinygen.data.find`); downloads go into `--data-dir`, else into the user's
cache. Trained weights are files of the same kind and stand in the same list.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygen.cli import frame
from tinygen.errors import DataError, UsageError, did_you_mean
from tinygen.host.contract import DatasetSpec, Source

HELP = "List the data sets and where their files lie, or download one: tinygen data fetch NAME."
ACTIONS = ["list", "fetch"]


@dataclass(frozen=True)
class Weights:
    """Trained weights, told as a DatasetSpec tells of data."""

    name: str
    summary: str
    folder: str
    files: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    argument: str = ""


WEIGHTS = (
    Weights(
        "squeezenet1_1", "weights of SqueezeNet 1.1, trained on ImageNet, for the style family",
        "squeezenet1_1", ("squeezenet1_1_imagenet.npz",),
    ),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", default="list", metavar="list|fetch", help="default: list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to fetch: a data set, or weights")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of data sets, before $TINYGEN_DATA; fetch writes here"
    )
    parser.add_argument("--again", action="store_true", help="download also what is at hand")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    if args.action not in ACTIONS:
        raise UsageError(f'data: there is nothing to do called "{args.action}"', did_you_mean(args.action, ACTIONS))
    known: list[DatasetSpec | Weights] = [*frame.registry(args).datasets.values(), *WEIGHTS]
    if args.action == "fetch":
        fetch(args, known, out)
        return
    if args.name is not None or args.again:
        raise UsageError("data list takes no NAME and no --again", "tinygen data fetch NAME downloads")
    rows = describe_all(known, args.data_dir)
    out.result(rows, _columns(rows, out) if out.terminal else "\n".join(map(_tabbed, rows)))


# ---------------------------------------------------------------- what is at hand


def describe_all(specs: Iterable[DatasetSpec | Weights], folder: str | None = None) -> list[dict[str, Any]]:
    """A row for each, as JSON. `folder`: what `--data-dir` names."""
    return [describe(spec, folder) for spec in specs]


def describe(spec: DatasetSpec | Weights, folder: str | None = None) -> dict[str, Any]:
    """Whether the files of a data set are at hand: `ready`, the folders `found`, the files that are `missing`, which
    of those `download` can bring, and a hint that says what to put where."""
    found: list[str] = []
    missing: list[str] = []
    hint = ""
    for file in spec.files:
        try:
            place = str(_find(spec, file, folder).parent)
            found += [place] if place not in found else []
        except DataError as error:
            missing.append(file)
            hint = hint or error.hint
    sources = {source.file for source in spec.sources}
    return {
        "name": spec.name, "summary": spec.summary, "argument": spec.argument, "ready": not missing, "found": found,
        "missing": missing, "download": [file for file in missing if file in sources], "hint": hint,
    }  # fmt: skip


def _find(spec: DatasetSpec | Weights, file: str, folder: str | None) -> Path:
    from tinygen.data.find import data_folders, find  # imports NumPy, without which the doctor works too

    return find(spec.folder, file, data_folders(folder))


def _status(row: dict[str, Any]) -> tuple[str, str]:
    """In a word how it is with a data set, and where."""
    if row["missing"]:
        return "missing", "tinygen data fetch " + row["name"] if row["download"] == row["missing"] else row["hint"]
    if row["found"]:
        return "at hand", ", ".join(row["found"])
    return ("yours", f"--data {row['name']}:PATH") if row["argument"] == "PATH" else ("generated", "")


def _tabbed(row: dict[str, Any]) -> str:
    """For other programs: name, status, place or remedy, summary."""
    return "\t".join((row["name"], *_status(row), row["summary"]))


def _columns(rows: list[dict[str, Any]], out: frame.Output) -> str:
    """For a person: a line each, and where it lies or what to do below it."""
    width, lines = max(len(row["name"]) for row in rows), []
    for row in rows:
        status, place = _status(row)
        word = out.style(f"{status:<9}", "yellow" if status == "missing" else "green")
        lines.append(f"{out.style(row['name'].ljust(width), 'cyan')}  {word}  {row['summary']}")
        lines += [out.style(f"{'':<{width}}             {place}", "dim")] if place else []
    return "\n".join(lines)


# ---------------------------------------------------------------- downloads


def fetch(args: argparse.Namespace, known: list[DatasetSpec | Weights], out: frame.Output) -> None:
    """Download the files of one data set that are missing, or all with --again."""
    from tinygen.data.fetch import fetch_file
    from tinygen.data.find import data_folders

    names = [spec.name for spec in known if spec.files]
    if args.name is None:
        raise UsageError("data fetch needs a NAME", f"one of {', '.join(spec.name for spec in known if spec.sources)}")
    spec = next((spec for spec in known if spec.name == args.name), None)
    if spec is None:
        raise UsageError(f'there are no data called "{args.name}"', did_you_mean(args.name, names))
    if not spec.files:
        raise UsageError(f"data {spec.name} has no files to fetch: {spec.summary}", f"use it as --data {spec.name}")
    target = Path(args.data_dir or data_folders()[-1], spec.folder)
    wanted = spec.files if args.again else describe(spec, args.data_dir)["missing"]
    sources = {source.file: source for source in spec.sources}
    homeless = [file for file in wanted if file not in sources]
    if homeless:
        raise DataError(
            f"data {spec.name}: no download is known for {', '.join(homeless)}",
            f"put it into {os.path.join(target, '')}",
        )
    for place, file in enumerate(wanted):
        try:
            with _Progress(file, out) as progress:
                fetch_file(target / file, sources[file].urls, sources[file].sha256, progress)
        except DataError as error:
            hint = f"put {', '.join(wanted[place:])} into {os.path.join(target, '')} by hand"
            raise DataError(f"data {spec.name}: {error.message}", hint) from error
    row = describe(spec, args.data_dir)
    document = {"name": spec.name, "fetched": [str(target / file) for file in wanted], "found": row["found"]}
    out.result(document, "\n".join(document["fetched"]) or f"data {spec.name} are at hand in {', '.join(row['found'])}")


class _Progress:
    """How far a download is: a line on stderr that grows on a terminal, and a line at the end elsewhere."""

    def __init__(self, file: str, out: frame.Output) -> None:
        self.file, self.out = file, out
        self.alive, self.text, self.ended = sys.stderr.isatty(), "", True

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, done: int, total: int | None) -> None:
        text = f"{self.file}  {done / 1e6:.1f}" + (f" of {total / 1e6:.1f} MB" if total else " MB")
        if self.alive and text != self.text:
            sys.stderr.write(f"\r{text}")
            sys.stderr.flush()
        self.text = text

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.alive and self.text:
            sys.stderr.write("\n")
        elif kind is None:
            self.out.note(self.text)
