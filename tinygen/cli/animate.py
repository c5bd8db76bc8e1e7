"""`tinygen animate NAME_OR_RUN`: films by a trained run, or by an algorithm that needs no training."""

from __future__ import annotations

import argparse

from tinygen import plot
from tinygen.autograd import no_grad
from tinygen.cli import frame, options, pictures
from tinygen.errors import UsageError
from tinygen.random import Stream
from tinygen.run.pictures import require_pictures

HELP = "Make films by a trained run, or by an algorithm that needs no training, and show them side by side."
TAKES_REST = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: tinygen animate particles -n 1 --frames 60 --fps 20 -o film.gif"
    parser.add_argument("source", metavar="NAME_OR_RUN", help="an algorithm that needs no training, or a run's folder")
    parser.add_argument("-n", type=int, default=4, metavar="N", help="how many films; default: 4")
    parser.add_argument("--frames", type=int, default=20, metavar="T", help="frames in each of them; default: 20")
    parser.add_argument(
        "--fps", type=float, default=12.0, metavar="F", help=f"frames a second, at most {plot.FASTEST}; default: 12"
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="film.gif, or FOLDER/ for a numbered PNG a frame; default: NAME.gif"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(1, "-n", args.n)
    options.at_least(1, "--frames", args.frames)
    options.at_least(0, "--seed", args.seed)
    if not 0 < args.fps <= plot.FASTEST:
        raise UsageError(f"--fps must be above 0 and at most {plot.FASTEST}, got {args.fps:g}", "for instance --fps 12")
    parser = frame.Parser(prog="tinygen animate")
    add_arguments(parser)
    name, algorithm = pictures.open_algorithm(args, rest, parser, "animate")
    path = args.out or str(pictures.free_path(name, ".gif"))
    plot.require_film(path)

    with no_grad():
        result = algorithm.animate(args.frames, args.n, Stream(args.seed, name).child("animate"))
    shape = (args.n, args.frames, "c", "h", "w")
    films = require_pictures(f"{name}: animate", result, shape, "return n films of so many frames each")
    plot.save_film(path, films, args.fps)
    document = {
        "name": name, "out": path, "n": args.n, "frames": args.frames, "fps": args.fps, "seed": args.seed,
    }  # fmt: skip
    out.result(document, path)
