"""`tinygen adapt RUN --support FOLDER`: show a trained run a few examples of something new.

What comes of it depends on the algorithm: one that tells classes apart tells those of the pictures of --query, and one
that makes pictures, or learns on, is written with -o as a run of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.cli import frame, options
from tinygen.cli.train import require_no_run
from tinygen.data import Support, resize_and_crop
from tinygen.data.files import open_image, to_array
from tinygen.data.folder import list_images
from tinygen.errors import AnomalyError, DataError, PluginError, UsageError
from tinygen.run import Checkpoint, Origin, capture, checkpoint, load_algorithm
from tinygen.run.pictures import make_folder

HELP = "Adapt a trained run to a few examples: tell the classes of other pictures, or write the adapted run."
GIVE_FOLDER = "--support FOLDER, with a folder of pictures for each class, or with pictures alone for one class"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Pictures are brought to the size and the channels of the run's own. Their ink must be as there: mnist, glyphs "
        "and omniglot are light on black, and dark ink on white paper needs --invert. "
        "example: tinygen adapt runs/one_shot --support letters --query a.png b.png --invert"
    )
    parser.add_argument("source", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--support", metavar="FOLDER", type=Path, required=True,
        help="the examples: a folder of pictures for each class, or pictures alone, which are one class",
    )  # fmt: skip
    parser.add_argument("--query", metavar="FILES", type=Path, nargs="+", help="pictures to tell the classes of")
    parser.add_argument("--invert", action="store_true", help="turn dark into light in all of these pictures")
    parser.add_argument("-o", "--out", metavar="OUTRUN", type=Path, help="folder for the adapted run")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    algorithm, saved = _open(args)
    if args.query is None and args.out is None:
        raise UsageError(
            "adapt: nothing is asked of the adapted copy",
            "name pictures to be told apart with --query, or a folder for its run with -o",
        )
    if args.out is not None:
        require_no_run(args.out)
    name = saved.origin.name
    support = _support(args.support, saved.origin, args.invert)
    query = None if args.query is None else _read(args.query, saved.origin, args.invert)

    adapted = algorithm.adapt(support)
    if args.query is not None and not hasattr(adapted, "probabilities"):
        raise UsageError(f"{name} does not tell classes apart", "leave out --query, and write the run with -o")
    answers = [] if query is None else _answers(name, adapted, query, args.query, support.classes)
    if args.out is not None:
        _write(args.out, name, algorithm, adapted, saved)
    labels = support.labels.numpy()
    document = {
        "name": name, "support": {each: int((labels == place).sum()) for place, each in enumerate(support.classes)},
        "answers": answers, "out": None if args.out is None else str(args.out),
    }  # fmt: skip
    out.result(document, "\n".join([*_table(answers), *([] if args.out is None else [str(args.out)])]))


def _open(args: argparse.Namespace) -> tuple[Any, Checkpoint]:
    """The trained algorithm of the run, which can adapt, and its checkpoint."""
    registry = frame.registry(args)
    if not options.is_run(args.source):
        spec = registry.algorithm(args.source)
        train = f"tinygen train {spec.name} --out runs/{spec.name}"
        raise UsageError(f"{spec.name} has to be trained first", f"{train}, and then name that folder")
    algorithm, saved = load_algorithm(Path(args.source), registry)
    options.require_capability(saved.origin.name, algorithm, "adapt")
    return algorithm, saved


# ---------------------------------------------------------------- the pictures


def _support(root: Path, origin: Origin, invert: bool) -> Support:
    """The examples in a folder, the classes in the order of their names."""
    if not root.is_dir():
        raise DataError(f"{root}: {'is no folder' if root.exists() else 'there is no such folder'}", GIVE_FOLDER)
    try:
        paths, labels, classes = list_images(root)
    except DataError as error:
        raise DataError(error.message, GIVE_FOLDER) from error
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", "check its permissions") from error
    if labels is None:
        labels, classes = np.zeros(len(paths), np.int64), (root.resolve().name,)
    return Support(_read(paths, origin, invert), tensor(labels), classes)


def _read(paths: Sequence[Path], origin: Origin, invert: bool) -> Tensor:
    """The pictures of files as the run's images are, (n, c, h, w). Raises DataError, naming the file, as they do."""
    c, h, w = origin.shape
    pictures = []
    for path in paths:
        image = open_image(path)
        if h == w:
            image = resize_and_crop(image, h)
        if image.size != (w, h):
            raise DataError(
                f"{path}: is {image.width} × {image.height} pixels, the run's images are {w} × {h}",
                "bring it to that size first",
            )
        pictures.append(to_array(image, c))
    stacked = np.stack(pictures)
    return tensor(1 - stacked if invert else stacked)


# ---------------------------------------------------------------- what comes of it


def _answers(
    name: str, adapted: Any, query: Tensor, paths: Sequence[Path], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """For each picture its class, and how likely each of them is."""
    with no_grad():
        p = adapted.probabilities(query)
    expected = (len(paths), len(classes))
    if not isinstance(p, Tensor) or p.shape != expected:
        got = p.shape if isinstance(p, Tensor) else type(p).__name__
        raise PluginError(f"{name}: probabilities must give a Tensor {expected}, got {got}", "a row for each picture")
    rows = p.numpy().tolist()
    if not np.isfinite(rows).all():
        raise AnomalyError(f"{name}: probabilities gave numbers that are not finite", "look at the run's metrics.jsonl")
    answers = []
    for path, row in zip(paths, rows):
        best = max(range(len(row)), key=row.__getitem__)
        answers.append(
            {
                "file": str(path),
                "class": classes[best],
                "probability": row[best],
                "probabilities": dict(zip(classes, row)),
            }
        )
    return answers


def _table(answers: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each picture: file, class and probability."""
    file, label = (max((len(answer[key]) for answer in answers), default=0) for key in ("file", "class"))
    return [f"{a['file']:<{file}}  {a['class']:<{label}}  {a['probability']:.4f}" for a in answers]


def _write(folder: Path, name: str, algorithm: Any, adapted: Any, saved: Checkpoint) -> None:
    """The adapted algorithm as a run of the same origin. Raises UsageError where it is none of the run's kind."""
    if type(adapted) is not type(algorithm):
        raise UsageError(
            f"{name}: what comes of adapt is a {type(adapted).__name__}, and no run could hold it",
            "leave out -o, and name pictures with --query",
        )
    arrays, table = capture(adapted)
    make_folder(folder)
    checkpoint.write(folder, dataclasses.replace(saved, arrays=arrays, table=table))
