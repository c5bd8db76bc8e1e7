"""`tinygen read NAME`: an algorithm as a page to study, its prose beside its code; `--all` for the book of them all."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tinygen.cli import frame, options
from tinygen.data import Dataset, write_atomically
from tinygen.errors import OutputError, UsageError
from tinygen.host import Registry
from tinygen.host.providers import describe

HELP = "Write an algorithm as one HTML page: its prose and equations on the left, its code on the right."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="an algorithm, as `tinygen list` names it")
    parser.add_argument("--all", action="store_true", help="a folder with a page for each, an index and all formulas")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="PATH", help="the file, or with --all the folder; default: NAME.html, or site"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR",
        help="where DIR/NAME may be a run of it; default: runs",
    )  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="folder of data sets, before $TINYGEN_DATA")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    if bool(args.name) == args.all:
        raise UsageError("read takes the NAME of an algorithm, or --all", "for instance tinygen read gan")
    if args.all:
        read_all(args, out)
    else:
        read_one(args, out)


def read_one(args: argparse.Namespace, out: frame.Output) -> None:
    """The page of one algorithm."""
    from tinygen.study.page import page, study

    began = time.perf_counter()
    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    path = args.out or Path(f"{spec.name}.html")
    seen = study(spec, registry, data_named(registry, args.data_dir), args.runs)
    write(path, page(seen))
    document = {
        "name": spec.name, "out": str(path), "equations": len(seen.equations), "tests": seen.test_count,
        "graphs": len(seen.seen.backward_passes), "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    out.result(document, str(path))


def read_all(args: argparse.Namespace, out: frame.Output) -> None:
    """The book. An algorithm that cannot be read is left out, with a remark."""
    from tinygen.study.book import pages
    from tinygen.study.page import study

    began = time.perf_counter()
    registry = frame.registry(args)
    folder = args.out or Path("site")
    data = data_named(registry, args.data_dir)
    studies, left_out = [], []
    for row in registry.rows:
        try:
            if row.status == "ok":
                studies.append(study(registry.algorithm(row.name), registry, data, args.runs))
            else:
                left_out.append((row.name, row.reason))
        except Exception as error:  # whatever a plugin raises, the others are read
            left_out.append((row.name, describe(error, registry.place_of(error))))
    for name, why in left_out:
        out.note(f"tinygen: {name} is left out: {why}")
    files = pages(studies, left_out)
    for name, text in files.items():
        write(folder / name, text)
    document = {
        "out": str(folder / "index.html"), "pages": sorted(files), "left_out": [name for name, _ in left_out],
        "seconds": round(time.perf_counter() - began, 3),
    }  # fmt: skip
    out.result(document, str(folder / "index.html"))


def data_named(registry: Registry, folder: str | None) -> Callable[[str], Dataset]:
    """The data set of a name, opened once."""
    return cache(lambda text: options.load_data(registry, text, folder, None, False))


def write(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, and its folder where there is none. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}", "choose another -o") from error
    write_atomically(path, text.encode("utf-8"))
