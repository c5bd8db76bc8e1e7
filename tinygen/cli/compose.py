"""`tinygen compose NAME_OR_RUN IMAGES…`: make one picture out of several."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tinygen.autograd import Tensor, tensor
from tinygen.cli import frame, options, pictures
from tinygen.data import read_alpha, read_mask, write_image
from tinygen.data.files import require_image_file
from tinygen.random import Stream
from tinygen.run.pictures import require_pictures

HELP = "Make one picture out of several: blend, stitch, or what the algorithm does with them."
TAKES_REST = True
USAGE = "tinygen compose NAME_OR_RUN IMAGES [options]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: tinygen compose blend ground.png figure.png --mask mask.png -o both.png"
    parser.add_argument("source", metavar="NAME_OR_RUN", help="an algorithm that needs no training, or a run's folder")
    parser.add_argument(
        "images", metavar="IMAGES", type=Path, nargs="+", help="the pictures, in the order that the algorithm expects"
    )
    parser.add_argument(
        "--mask", metavar="FILE", type=Path,
        help="a picture as large as the first of IMAGES; what white and black stand for is the algorithm's to say",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the result; default: NAME.png, NAME-2.png, …")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(0, "--seed", args.seed)
    parser = frame.Parser(prog="tinygen compose")
    add_arguments(parser)
    images = pictures.read_pictures(args.images, rest, USAGE)  # (c, h, w) each
    for path in args.images:
        if (read_alpha(path) < 1).any():
            out.note(f"tinygen: {path}: what is transparent is laid on white")
    mask = None if args.mask is None else _mask(args.mask, images[0])
    name, algorithm = pictures.open_algorithm(args, rest, parser, "compose")
    path = args.out or pictures.free_path(name)
    require_image_file(path)

    random = Stream(args.seed, name).child("compose")
    result = algorithm.compose([tensor(image) for image in images], mask, random)
    write_image(path, require_pictures(f"{name}: compose", result, ("c", "h", "w"), "return one image"))
    document = {"name": name, "images": [str(each) for each in args.images], "out": str(path), "seed": args.seed}
    out.result(document, str(path))


def _mask(path: Path, image: np.ndarray) -> Tensor:
    """The mask of a file, (h, w) in [0, 1]: its greys are kept, as they make soft edges."""
    mask = read_mask(path)
    pictures.require_size(path, mask, "first picture", image)
    return tensor(mask)
