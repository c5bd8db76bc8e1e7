"""`tinygen stylize NAME_OR_RUN IMAGE --style PAINTING`: paint a photograph in the style of a painting.

The picture is written to its file as it gets better, whole each time, so that a viewer shows it on its way; Ctrl-C
keeps the last one.

Two options work with every algorithm. Where it has one of that name itself, `--strength` and `--keep-colour` are its
own. Where it has none, and for a run, whose options were settled in training, the finished picture is mixed with the
photograph, and given its colours.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, tensor
from tinygen.cli import frame, options, pictures
from tinygen.data import read_alpha, read_image, write_image
from tinygen.data.files import require_image_file
from tinygen.data.transforms import luma, resize
from tinygen.errors import DataError, PluginError, TinygenError, UsageError
from tinygen.run import report as reports
from tinygen.run.pictures import require_pictures

HELP = "Paint a photograph in the style of a painting, or in a style that a run has learnt."
TAKES_REST = True
USAGE = "tinygen stylize NAME_OR_RUN IMAGE [options]"
SMALLEST, USUAL, LARGEST = 32, 512, 4096  # pixels of a side
PREVIEW = 2.0  # seconds from one picture on the way to the next


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: tinygen stylize gatys photo.png --style painting.jpg -o out.png"
    parser.add_argument("source", metavar="NAME_OR_RUN", help="an algorithm that needs no training, or a run's folder")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the photograph, in any format that Pillow reads")
    parser.add_argument(
        "--style", metavar="FILE", type=Path, action="append", default=[],
        help="a painting; may be repeated. A run that has learnt its style needs none",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=int, metavar="PIXELS",
        help=f"longer side of the picture; default: the photograph's own, but at most {USUAL}",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=float, metavar="S",
        help="how much of the style: the algorithm's own option, or for a run from 0, the photograph, to 1; default: 1",
    )  # fmt: skip
    parser.add_argument(
        "--keep-colour", "--keep-color", nargs="?", const="luminance", metavar="HOW",
        help="keep the photograph's colours: luminance, or another way that the algorithm knows; default: luminance",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the result; default: IMAGE-NAME.png")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(0, "--seed", args.seed)
    if args.size is not None and not SMALLEST <= args.size <= LARGEST:
        raise UsageError(
            f"--size must be from {SMALLEST} to {LARGEST}, got {args.size}", f"for instance --size {USUAL}"
        )
    parser = frame.Parser(prog="tinygen stylize")
    add_arguments(parser)
    photo = _scaled(args, _picture(args.image, rest, out), out)  # (3, h, w)
    paintings = [tensor(_picture(path, rest, out)) for path in args.style]

    own = _own_options(args)
    words = [word for option, value in own.items() for word in (f"--{option.replace('_', '-')}", str(value))]
    name, algorithm = pictures.open_algorithm(args, [*rest, *words], parser, "stylize")
    path = args.out or pictures.free_path(f"{args.image.stem}-{name}")
    require_image_file(path)
    finish = _Finish(args, name, photo, own)

    began = time.perf_counter()
    steps = _paint(name, algorithm, tensor(photo), paintings, path, finish, reports.for_stderr(args.quiet or out.json))
    document = {
        "name": name, "image": str(args.image), "styles": [str(each) for each in args.style], "out": str(path),
        "width": photo.shape[2], "height": photo.shape[1], "steps": steps,
        "seconds": round(time.perf_counter() - began, 3), "seed": args.seed,
    }  # fmt: skip
    out.result(document, str(path))


# ---------------------------------------------------------------- pictures in


def _picture(path: Path, rest: list[str], out: frame.Output) -> np.ndarray:
    """The picture of a file in colour, (3, h, w), large enough to be looked at."""
    pictures.read_pictures([path], rest, USAGE)  # says so where an option of the algorithm stands before it
    picture = read_image(path, channels=3)
    _, height, width = picture.shape
    if min(height, width) < SMALLEST:
        raise DataError(
            f"{path}: too small, {width} × {height} pixels", f"take a picture of {SMALLEST} pixels or more each way"
        )
    if (read_alpha(path) < 1).any():
        out.note(f"tinygen: {path}: what is transparent is laid on white")
    return picture


def _scaled(args: argparse.Namespace, photo: np.ndarray, out: frame.Output) -> np.ndarray:
    """The photograph (3, h, w) in the size to work at."""
    _, height, width = photo.shape
    longest = args.size or min(max(height, width), USUAL)
    scale = longest / max(height, width)
    size = round(height * scale), round(width * scale)
    if size == (height, width):
        return photo
    if min(size) < SMALLEST:
        raise DataError(
            f"{args.image}: {width} × {height} pixels become {size[1]} × {size[0]}, too narrow to look at",
            f"crop it, or set --size larger; {SMALLEST} pixels are needed each way",
        )
    if args.size is None:
        out.note(
            f"tinygen: {args.image}: {width} × {height} pixels become {size[1]} × {size[0]}; --size says otherwise"
        )
    return resize(photo, size)


# ---------------------------------------------------------------- options of every algorithm


def _own_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was said of strength and colour that is the algorithm's own affair, by its Config."""
    if options.is_run(args.source):
        return {}
    registry = frame.registry(args)
    config = registry.load(registry.algorithm(args.source).config)
    fields = {field.name for field in dataclasses.fields(config)}
    said = {name: getattr(args, name) for name in ("strength", "keep_colour")}
    return {name: value for name, value in said.items() if value is not None and name in fields}


class _Finish:
    """What is done to a picture of an algorithm that has no strength or no keep_colour of its own."""

    def __init__(self, args: argparse.Namespace, name: str, photo: np.ndarray, own: dict[str, Any]) -> None:
        self.photo = photo
        self.strength = 1.0 if args.strength is None or "strength" in own else args.strength
        self.colour = None if "keep_colour" in own else args.keep_colour
        if not 0 <= self.strength <= 1:
            raise UsageError(
                f"--strength must be from 0 to 1 for {name}, got {self.strength:g}", "1 is all of the style"
            )
        if self.colour not in (None, "luminance"):
            raise UsageError(f"--keep-colour {self.colour}: {name} has luminance alone", "leave out what follows it")

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        if self.colour:
            picture = self.photo + (luma(picture) - luma(self.photo))  # the photograph's I and Q with another Y
        return np.clip(self.photo + self.strength * (picture - self.photo), 0, 1)


# ---------------------------------------------------------------- the picture on its way


def _paint(
    name: str, algorithm: Any, photo: Tensor, paintings: list[Tensor], path: Path, finish: _Finish,
    report: reports.Report,
) -> int:  # fmt: skip
    """Write what the algorithm makes as it gets better. Returns how many pictures it made."""
    stages, step, written = algorithm.stages(photo), 0, 0
    last: Any = None

    def write() -> None:
        shape = ("c", photo.shape[1], photo.shape[2])
        picture = require_pictures(f"{name}: stylize", last, shape, "yield the picture, as large as the photograph")
        write_image(path, finish(picture))

    report.start(name, 0, stages)
    due = time.perf_counter() + PREVIEW
    try:
        with closing(algorithm.stylize(photo, paintings)) as stylized:
            for picture in stylized:
                last, step = picture, step + 1
                report.step(step)
                if time.perf_counter() >= due:
                    write()
                    written = step
                    due = time.perf_counter() + PREVIEW
                if step % max(1, stages // 10) == 0:
                    report.log(step, {})
    except KeyboardInterrupt:
        if not step:
            raise
        write()
        raise TinygenError(f"stopped after step {step} of {stages}; the picture so far is {path}") from None
    finally:
        report.stop()
    if not step:
        raise PluginError(f"{name}: stylize yielded nothing", "yield a picture at least once")
    if written != step:
        write()
    return step
