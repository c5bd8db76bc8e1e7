"""`tinygen graph NAME`: the computation graph of one training step as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinygen.cli import frame, options, read
from tinygen.errors import TinygenError, UsageError

HELP = "Draw what the loss of one training step is computed from, each operation with its derivative rule, as SVG."
TAKES_REST = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an algorithm, as `tinygen list` names it")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE",
        help="the picture; default: NAME-graph.svg; where a step goes back several times, FILE, FILE-2, …",
    )  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="folder of data sets, before $TINYGEN_DATA")


def more_help(args: argparse.Namespace) -> str:
    registry = frame.registry(args)
    return options.config_help(registry.load(registry.algorithm(args.name).config))


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    from tinygen.study import graph, work
    from tinygen.study.page import files_of

    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    parser = frame.Parser(prog="tinygen graph")
    add_arguments(parser)
    kind, factory = registry.load(spec.config), registry.load(spec.factory)
    config = options.parse_config(kind, rest, parser, default=work.small_config(kind))
    path = args.out or Path(f"{spec.name}-graph.svg")
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{path}: the picture is an SVG", f"for instance -o {path.with_suffix('.svg')}")

    seen = work.at_work(spec, factory, config, files_of(factory), read.data_named(registry, args.data_dir), verbs=False)
    if not seen.backward_passes:
        why = seen.remarks[0] if seen.remarks else f"{spec.name} takes no gradient by the tape"
        raise TinygenError(f"there is no graph to draw: {why}", "tinygen graph gan draws one")
    written = []
    for number, walk in enumerate(seen.backward_passes, 1):
        file = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        read.write(file, graph.svg(walk, seen, style=graph.STYLE))
        written.append({"out": str(file), "backward": graph.caption(walk), "boxes": len(graph.boxes_of(walk, seen))})
    out.result({"name": spec.name, "graphs": written}, "\n".join(str(entry["out"]) for entry in written))
