"""`tinygen repair NAME_OR_RUN IMAGE`: fill in what is missing from a picture, or take the noise out of it.

Which pixels are missing is told by one of (`_missing`)

    --mask FILE            a picture as large as IMAGE, light where pixels are missing
    --mask-colour COLOUR   the pixels of IMAGE that have this colour
    --missing PART         so many of them, drawn at random: IMAGE is then the truth that the result is compared with
    none of these          the pixels of IMAGE that are not wholly opaque

and where no pixel of IMAGE is transparent either, none is missing, but every one is taken as noisy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageColor

from tinygen import metrics
from tinygen.autograd import tensor
from tinygen.backend import NUMPY
from tinygen.cli import frame, options, pictures
from tinygen.data import read_alpha, read_image, read_mask, write_image
from tinygen.data.files import require_image_file
from tinygen.errors import DataError, PluginError, UsageError
from tinygen.random import Stream
from tinygen.run.pictures import require_pictures

HELP = "Fill in what is missing from a picture, or, where nothing is, take the noise out of it."
TAKES_REST = True
USAGE = "tinygen repair NAME_OR_RUN IMAGE [options]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: tinygen repair least_squares broken.png --mask mask.png -o fixed.png"
    parser.add_argument("source", metavar="NAME_OR_RUN", help="an algorithm that needs no training, or a run's folder")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the picture, in any format that Pillow reads")
    missing = parser.add_argument_group(
        "what is missing",
        "At most one of these. With none, what is transparent is missing, and where nothing is, every pixel is noisy.",
    ).add_mutually_exclusive_group()
    missing.add_argument("--mask", metavar="FILE", type=Path, help="a picture that is light where pixels are missing")
    missing.add_argument(
        "--mask-colour", "--mask-color", metavar="COLOUR", help="what is painted in this colour: '#ff00ff', red"
    )
    missing.add_argument(
        "--missing", type=float, metavar="PART", help="0.8: so many, drawn at random; the result is compared with IMAGE"
    )
    parser.add_argument(
        "--truth", metavar="FILE", type=Path, help="the undamaged picture: tells how near the result is"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the result; default: IMAGE-repaired.png")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(0, "--seed", args.seed)
    if args.missing is not None and not 0 < args.missing < 1:
        raise UsageError(f"--missing must lie between 0 and 1, got {args.missing:g}", "for instance --missing 0.8")
    if args.missing is not None and args.truth is not None:
        raise UsageError("--truth beside --missing: IMAGE itself is the truth there", "leave --truth out")
    parser = frame.Parser(prog="tinygen repair")
    add_arguments(parser)

    (image,) = pictures.read_pictures([args.image], rest, USAGE)  # (c, h, w)
    missing = _missing(args, image, out)  # (h, w) of booleans, or None
    truth = image if args.missing is not None else _truth(args.truth, image)
    name, algorithm = pictures.open_algorithm(args, rest, parser, "repair")
    path = args.out or pictures.free_path(f"{args.image.stem}-repaired")
    require_image_file(path)
    if missing is not None:
        image = np.where(missing, np.float32(0), image)  # what lies there cannot help, wittingly or not

    repaired = _repaired(name, algorithm, image, missing, Stream(args.seed, name).child("repair"))
    write_image(path, repaired)
    damaged = _write_damaged(args, path, image, missing, out)
    figures = _figures(repaired, truth)
    document = {
        "name": name, "image": str(args.image), "out": str(path), "seed": args.seed,
        "missing": 0 if missing is None else int(missing.sum()), "damaged": damaged, "metrics": figures,
    }  # fmt: skip
    out.result(document, "\n".join([str(path), *(f"{figure}  {value:.6g}" for figure, value in figures.items())]))


# ---------------------------------------------------------------- what is missing


def _missing(args: argparse.Namespace, image: np.ndarray, out: frame.Output) -> np.ndarray | None:
    """Where `image` (c, h, w) has lost its pixels, (h, w); None where none is lost. At least one is known."""
    opaque = read_alpha(args.image) == 1
    transparent = "what is transparent is laid on white"
    if args.mask is not None:
        missing, cause = _in_file(args.mask, image), args.mask
    elif args.mask_colour is not None:
        missing = _of_colour(args.mask_colour, args.image, image) & opaque
        cause = f"--mask-colour {args.mask_colour}"
        if not missing.any():
            raise DataError(f"{args.image}: no opaque pixel has the colour {args.mask_colour}", "leave the option out")
    elif args.missing is not None:
        missing, cause = _at_random(args.missing, image, args.seed), f"--missing {args.missing:g}"
    elif opaque.all():
        return None
    else:
        missing, cause = ~opaque, "its transparency"
        transparent = f"{missing.sum()} transparent pixels are taken as missing"
    if missing.all():
        raise DataError(f"{args.image}: every pixel is missing by {cause}", "leave some pixels known")
    if not opaque.all():
        out.note(f"tinygen: {args.image}: {transparent}")
    return missing


def _in_file(path: Path, image: np.ndarray) -> np.ndarray:
    """Where a mask file is light."""
    mask = read_mask(path)
    pictures.require_size(path, mask, "picture", image)
    if not (mask >= 0.5).any():
        raise DataError(
            f"{path}: marks no pixel as missing: the lightest is at {mask.max():.2g} of full light",
            "paint white, on black, what is missing; without --mask the noise of every pixel is removed",
        )
    return mask >= 0.5


def _of_colour(text: str, path: Path, image: np.ndarray) -> np.ndarray:
    """Where the image has a colour, byte for byte."""
    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        raise UsageError(f'--mask-colour: there is no colour "{text}"', "for instance '#ff00ff' in quotes") from None
    if len(colour) != 3:
        raise UsageError(f"--mask-colour: {text} has an opacity, and opaque pixels are looked for", f"say {text[:7]}")
    levels = np.rint(image * 255).astype(int)
    distance = np.abs(levels - np.array(colour)[:, None, None]).max(axis=0)  # (h, w); a grey image has R = G = B
    if distance.min() > 0:
        row, column = np.unravel_index(distance.argmin(), distance.shape)
        nearest = "#" + "".join(f"{value:02x}" for value in np.broadcast_to(levels[:, row, column], 3))
        raise DataError(
            f"{path}: no pixel has the colour {text}; the nearest is {nearest}",
            "name that one, or mark the damage in a picture of its own with --mask FILE; JPEG changes colours",
        )
    return distance == 0


def _at_random(part: float, image: np.ndarray, seed: int) -> np.ndarray:
    """So many of the pixels, but at least one: the same ones for every algorithm."""
    h, w = image.shape[-2:]
    missing = np.zeros(h * w, bool)
    order = Stream(seed, "damage", NUMPY).permutation(h * w)
    missing[order[: max(1, round(part * h * w))]] = True
    return missing.reshape(h, w)


# ---------------------------------------------------------------- what comes of it


def _repaired(name: str, algorithm: Any, image: np.ndarray, missing: np.ndarray | None, random: Stream) -> np.ndarray:
    """The image that the algorithm makes, on the host. Raises PluginError where it breaks the contract."""
    mask = None if missing is None else tensor(missing.astype(np.float32))
    result = algorithm.repair(tensor(image), mask, random)
    repaired = require_pictures(f"{name}: repair", result, image.shape, "return the image in its own shape")
    if missing is not None:
        changed = int((repaired != image).any(axis=0)[~missing].sum())
        if changed:
            raise PluginError(
                f"{name}: repair must give known pixels back as they are, it changed {changed}",
                "end with image * (1 - mask) + filled * mask",
            )
    return np.clip(repaired, 0, 1)


def _write_damaged(
    args: argparse.Namespace, path: Path, image: np.ndarray, missing: np.ndarray | None, out: frame.Output
) -> str | None:
    """With --missing the damaged picture, beside the result at `path`: what is missing is transparent, so that it can
    be repaired again as it is. Returns where it is."""
    if args.missing is None or missing is None:
        return None
    damaged = pictures.free_path(str(path.with_name(f"{args.image.stem}-damaged")))
    write_image(damaged, image, alpha=1 - missing)
    out.note(f"tinygen: the damaged picture is {damaged}")
    return str(damaged)


def _truth(path: Path | None, image: np.ndarray) -> np.ndarray | None:
    """The undamaged picture, in as many channels as the image."""
    if path is None:
        return None
    truth = read_image(path, channels=len(image))
    pictures.require_size(path, truth, "picture", image)
    return truth


def _figures(repaired: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    """How near the result is to the truth; images under 11 pixels have no SSIM."""
    if truth is None:
        return {}
    figures = {"psnr": metrics.psnr(repaired, truth)}
    if min(truth.shape[-2:]) >= metrics.quality.WINDOW:
        figures["ssim"] = metrics.ssim(repaired, truth)
    return {figure: float(value) for figure, value in figures.items()}
