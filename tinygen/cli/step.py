"""`tinygen step NAME`: one training step walked forward and back over its tape, node by node, in the terminal."""

from __future__ import annotations

import argparse
import sys

from tinygen.cli import frame, options, read
from tinygen.errors import TinygenError, UsageError
from tinygen.host import Trainable
from tinygen.random import Stream

HELP = "Walk through one training step, operation by operation: formulas and numbers forward, rules and numbers back."
TAKES_REST = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "on a terminal, Enter goes on, a number goes on by so many, q leaves; in a pipe all is printed"
    parser.add_argument("name", metavar="NAME", help="an algorithm, as `tinygen list` names it")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of data sets, before $TINYGEN_DATA")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    registry = frame.registry(args)
    return options.config_help(registry.load(registry.algorithm(args.name).config))


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    from tinygen.study import receipt, work
    from tinygen.study.page import files_of

    options.at_least(0, "--seed", args.seed)
    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    if "train" not in spec.verbs:
        raise UsageError(f"{spec.name} has no verb train", f"it has {', '.join(spec.verbs)}")
    parser = frame.Parser(prog="tinygen step")
    add_arguments(parser)
    kind, factory = registry.load(spec.config), registry.load(spec.factory)
    config = options.parse_config(kind, rest, parser, default=work.small_config(kind))
    data = work.first_of(read.data_named(registry, args.data_dir)(spec.data))
    algorithm = factory(config, data.spec, Stream(args.seed, spec.name).child("algorithm"))
    if not isinstance(algorithm, Trainable):
        raise TinygenError(f"{spec.name} cannot be trained", "tinygen step gan is one that can")
    with receipt.recording(files_of(factory)) as recorded:
        work.train_once(algorithm, config, data)
    if out.json:
        return out.result({"name": spec.name, "operations": recorded.rows()}, "")
    _tell(list(recorded.walk()), out)


def _tell(paragraphs: list[str], out: frame.Output) -> None:
    """All of them; on a terminal as many at a time as the reader asks for."""
    if not (out.terminal and sys.stdin.isatty()):
        return out.result(None, "\n".join(paragraphs))
    ahead = 1
    for place, paragraph in enumerate(paragraphs, 1):
        out.result(None, paragraph)
        ahead -= 1
        if ahead <= 0 and place < len(paragraphs):
            try:
                answer = input(f"[{place} of {len(paragraphs)}] ").strip().lower()
            except EOFError:
                return
            if answer.startswith("q"):
                return
            ahead = int(answer) if answer.isdigit() else 1
