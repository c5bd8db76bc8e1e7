"""`tinygen sample RUN_OR_NAME`: draw images from a trained run, or from an algorithm that needs no training."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinygen import plot
from tinygen.cli import frame, options, pictures
from tinygen.data.files import require_image_file
from tinygen.random import Stream
from tinygen.run import draw

HELP = "Draw images from a trained run, or from an algorithm that needs no training, and write them as one grid."
TAKES_REST = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_NAME", help="a run's folder, or an algorithm that needs no training")
    parser.add_argument("-n", type=int, default=64, metavar="N", help="how many images; default: 64")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the picture; default: NAME.png, NAME-2.png, …")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(1, "-n", args.n)
    options.at_least(0, "--seed", args.seed)
    parser = frame.Parser(prog="tinygen sample")
    add_arguments(parser)
    name, algorithm = pictures.open_algorithm(args, rest, parser, "sample")

    path = args.out or pictures.free_path(name)
    require_image_file(path)
    plot.save_grid(path, draw(algorithm, args.n, Stream(args.seed, name).child("sample")))
    out.result({"name": name, "out": str(path), "n": args.n, "seed": args.seed}, str(path))
