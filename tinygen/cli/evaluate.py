"""`tinygen evaluate RUN`: the field's figures for a trained run, or for an algorithm that needs no training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tinygen.cli import frame, options
from tinygen.data import Dataset
from tinygen.errors import DataError, PluginError, UsageError
from tinygen.host import Judge
from tinygen.random import Stream
from tinygen.run import Origin, load_algorithm
from tinygen.run.judged import judged
from tinygen.run.loop import require_kind

HELP = "Measure a trained run, or an algorithm that needs no training, on a data set."
TAKES_REST = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_NAME", help="a run's folder, or an algorithm that needs no training")
    options.add_data_arguments(parser, "the run's own, or the algorithm's, mostly glyphs")
    parser.add_argument(
        "--judge", metavar="RUN",
        help="the run of a classifier, such as cnn: measure samples in its features, instead of the usual figures",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of every random number; default: 0")


def more_help(args: argparse.Namespace) -> str:
    return options.source_help(args)


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    options.at_least(0, "--seed", args.seed)
    parser = frame.Parser(prog="tinygen evaluate")
    add_arguments(parser)
    if options.is_run(args.source):
        origin, algorithm = options.open_run(args, rest, parser)
        name, data = origin.name, _data_like(origin, args)
    else:
        data = _data(args, frame.registry(args).algorithm(args.source).data)
        name, algorithm = options.build_untrained(args, rest, parser, data.spec)
    options.require_capability(name, algorithm, "sample" if args.judge else "evaluate")
    require_kind(name, type(algorithm), data)

    random = Stream(args.seed, name).child("evaluate")
    if args.judge:
        metrics = judged(algorithm, _judge(args, data), data, random)
    else:
        metrics = _figures(name, algorithm.evaluate(data, random))
    width = max(map(len, metrics), default=0)
    text = "\n".join(f"{figure.ljust(width)}  {value:.6g}" for figure, value in metrics.items())
    out.result({"name": name, "data": data.name, "metrics": metrics}, text)


def _judge(args: argparse.Namespace, data: Dataset) -> Judge:
    """The classifier that --judge names. Raises UsageError for one that cannot judge, or knows other images."""
    judge, saved = load_algorithm(Path(args.judge), frame.registry(args))
    if not isinstance(judge, Judge):
        raise UsageError(f"--judge {args.judge}: {saved.origin.name} cannot judge samples", "name a run of cnn")
    shape = saved.origin.shape
    if shape != data.shape:
        raise UsageError(
            f"--judge {args.judge} knows images of {shape}, {data.name} has {data.shape}", "train one on it"
        )
    return judge


def _data(args: argparse.Namespace, default: str) -> Dataset:
    text = default if args.data is None else args.data
    return options.load_data(frame.registry(args), text, args.data_dir, args.image_size, bool(args.grey))


def _data_like(origin: Origin, args: argparse.Namespace) -> Dataset:
    """The data that was asked for, or the run's own. Raises DataError where its images are not those of the model."""
    if args.data is None and args.image_size is None and args.grey is None:
        registry = frame.registry(args)
        data = options.load_data(registry, origin.data, args.data_dir, origin.image_size, origin.grey)
    else:
        data = _data(args, origin.data)
    shape = origin.shape
    if data.shape != shape:
        raise DataError(
            f"{args.source} was trained on images of {shape}, {data.name} has {data.shape}",
            f"bring them to its shape: --image-size {shape[1]}" + " --grey" * (shape[0] == 1),
        )
    if data.frames and data.frames != origin.images.get("frames"):
        raise DataError(
            f"{args.source} was trained on clips of {origin.images.get('frames', 0)} frames, {data.name} has "
            f"{data.frames}",
            "evaluate it on clips of that length",
        )
    return data


def _figures(name: str, figures: Any) -> dict[str, float]:
    """What `evaluate` gave, as Python numbers."""
    try:
        return {str(figure): float(value) for figure, value in figures.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise PluginError(
            f"{name}: evaluate must give numbers by name, got {figures!r:.60}", "return a dict"
        ) from error
