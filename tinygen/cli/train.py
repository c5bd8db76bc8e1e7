"""`tinygen train NAME`: train an algorithm on a data set, or go on with a run that was stopped.

Everything that can be wrong is looked at before a folder is made: options, data, shapes, the algorithm's state.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

from tinygen import backend
from tinygen.cli import frame, options
from tinygen.errors import CheckpointError, OutputError, UsageError
from tinygen.host import AlgorithmSpec, Registry, verbs_of
from tinygen.run import Checkpoint, Every, Origin, Run, checkpoint, report, train
from tinygen.run.pictures import make_folder

HELP = "Train an algorithm on a data set; or, with --resume, go on with a run as if it had never stopped."
TAKES_REST = True
RUNS = Path("runs")  # where runs without --out go
DEFAULT_STEPS = 1000  # where the Config has no field `steps`
OF_A_RUN = (checkpoint.FILE, "metrics.jsonl", "samples", "samples.png", "samples.gif", "pictures", "curves.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an algorithm, as `tinygen list` names it")
    options.add_data_arguments(parser, "the algorithm's, mostly glyphs, or the run's own with --resume")
    group = parser.add_argument_group("run")
    group.add_argument("--steps", type=int, metavar="N", help="steps in all, also with --resume; default: the plugin's")
    group.add_argument("--seed", type=int, metavar="S", help="seed of every random number; default: 0")
    group.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: runs/NAME, runs/NAME-2, …")
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, else with the last runs/NAME…"
    )
    group.add_argument("--log-every", type=int, metavar="K", help="steps between figures; default: 50 or fewer")
    group.add_argument("--sample-every", type=int, metavar="K", help="steps between pictures, 0: none; default: N/10")
    group.add_argument("--checkpoint-every", type=int, metavar="K", help="steps between checkpoints; default: N/10")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    group.add_argument(
        "--explain", action="store_true",
        help="take one step, print each operation with its shapes, time, memory and gradient, and leave nothing behind",
    )  # fmt: skip


def more_help(args: argparse.Namespace) -> str:
    registry = frame.registry(args)
    return options.config_help(registry.load(registry.algorithm(args.name).config), hidden=("steps",))


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    if "train" not in spec.verbs:
        raise UsageError(f"{spec.name} has no verb train", f"it has {', '.join(spec.verbs)}")
    folder, saved = _where(args, spec.name)
    training = _prepare(args, rest, registry, spec, folder, saved)
    steps = args.steps if args.steps is not None else getattr(training.config, "steps", DEFAULT_STEPS)
    every = _every(args, options.at_least(1, "--steps", steps))
    if training.step > steps:
        raise UsageError(f"{folder} is at step {training.step}, beyond --steps {steps}", "ask for more steps")

    if args.explain:
        return _explain(training, out)
    if saved is None:
        training.checked()  # what cannot be trained or kept is told of before there is a folder
        training.folder = claim_folder(args.out, spec.name)
    elif saved.backend != backend.current().name:
        out.note(f"made on backend {saved.backend}: on {backend.current().name} the last digits will differ")
    checkpoint.remove_left_overs(training.folder)
    progress = report.for_stderr(quiet=args.quiet or out.json)
    plugins = frame.plugin_options(args)
    again = [*plugins, *(["--data-dir", args.data_dir] if args.data_dir else [])]
    metrics = train(training, steps, every, progress, registry.callbacks(training), shlex.join(again))
    _tell(training, metrics, plugins, again, out, quiet=args.quiet or out.json)


def _explain(training: Run, out: frame.Output) -> None:
    """The receipt of the next step."""
    from tinygen.study import receipt
    from tinygen.study.page import files_of
    from tinygen.study.work import first_step

    fit = training.fit()
    with receipt.recording(files_of(training.factory)) as recorded:
        first_step(fit)
    fit.close()
    document = {
        "name": training.origin.name, "step": training.step + 1, "seconds": recorded.seconds,
        "operations": recorded.rows(),
    }  # fmt: skip
    out.result(document, recorded.table())


# ---------------------------------------------------------------- what to train


def _prepare(
    args: argparse.Namespace, rest: list[str], registry: Registry, spec: AlgorithmSpec, folder: Path,
    saved: Checkpoint | None,
) -> Run:  # fmt: skip
    """The run that the command line asks for; where one is `saved`, made of the same and at its place."""
    provider = options.provider_of(registry, args.name)
    fresh = Origin(
        name=spec.name, provider=provider, config={}, seed=0, data=spec.data, image_size=None, grey=False,
        images={}, digest="",
    )  # fmt: skip
    before = saved.origin if saved else fresh
    checkpoint.require_same(folder, {"algorithm": before.algorithm}, {"algorithm": fresh.algorithm})

    config = _config(args, rest, registry, spec, folder, saved)
    said = {name: getattr(args, name) for name in ("seed", "data", "image_size", "grey")}
    said = {name: value for name, value in said.items() if value is not None}
    if "data" in said:
        said["data"] = options.from_anywhere(registry, said["data"])
    origin = dataclasses.replace(before, config=checkpoint.config_values(config), **said)
    options.at_least(0, "--seed", origin.seed)
    if saved:
        checkpoint.require_same(folder, before.options, origin.options)

    data = options.load_data(registry, origin.data, args.data_dir, origin.image_size, origin.grey)
    origin = dataclasses.replace(origin, images=checkpoint.image_values(data.spec), digest=data.digest())
    training = Run(folder, origin, registry.load(spec.factory), config, data)
    if saved:
        checkpoint.require_same_data(folder, before, origin)
        training.go_to(saved)
    return training


def _config(
    args: argparse.Namespace, rest: list[str], registry: Registry, spec: AlgorithmSpec, folder: Path,
    saved: Checkpoint | None,
) -> Any:  # fmt: skip
    """The algorithm's options: those said, over those of the run that goes on, over the plugin's defaults."""
    kind = registry.load(spec.config)
    parser = frame.Parser(prog="tinygen train")
    add_arguments(parser)
    default = checkpoint.config_from(kind, saved.origin.config, folder) if saved else None
    config = options.parse_config(kind, rest, parser, default)
    if args.steps is not None and hasattr(config, "steps"):
        options.at_least(1, "--steps", args.steps)
        config = dataclasses.replace(config, steps=args.steps)
    return config


def _every(args: argparse.Namespace, steps: int) -> Every:
    default = Every.default(steps)
    said = {name: getattr(args, f"{name}_every") for name in ("log", "sample", "checkpoint")}
    for name, value in said.items():
        if value is not None:
            options.at_least(1 if name == "log" else 0, f"--{name}-every", value)
    return dataclasses.replace(default, **{name: value for name, value in said.items() if value is not None})


# ---------------------------------------------------------------- where it lies


def _where(args: argparse.Namespace, name: str) -> tuple[Path, Checkpoint | None]:
    """The folder of the run, and with --resume what is saved there. A new run's folder is not made yet."""
    if args.resume:
        folder = args.out or last_folder(name)
        return folder, checkpoint.read(folder)
    if args.out:
        require_no_run(args.out)
    return args.out or RUNS / name, None


def require_no_run(folder: Path) -> None:
    """Raise UsageError for a folder that holds a run, or what is left of one: nothing is overwritten."""
    found = [name for name in OF_A_RUN if (folder / name).exists()]
    if found:
        raise UsageError(
            f"{folder} already holds a run ({', '.join(found)})", "go on with it by --resume, or choose another --out"
        )


def last_folder(name: str) -> Path:
    """The folder of the last run without --out: of runs/NAME, runs/NAME-2, … the one with the highest number."""
    pattern = re.compile(re.escape(name) + r"(?:-(\d+))?")
    found = [(int(match[1] or 1), path) for path in RUNS.glob(f"{name}*") if (match := pattern.fullmatch(path.name))]
    runs = [(number, path) for number, path in found if (path / checkpoint.FILE).is_file()]
    if not runs:
        raise CheckpointError(f"there is no run of {name} in {RUNS}/", "name the run's folder with --out")
    return max(runs)[1]


def claim_folder(out: Path | None, name: str) -> Path:
    """Make the folder of a new run: --out, else the first of runs/NAME, runs/NAME-2, … that is not there yet."""
    if out is not None:
        make_folder(out)
        return out
    make_folder(RUNS)
    return next(folder for each in options.numbered(name) if _make_new(folder := RUNS / each))


def _make_new(folder: Path) -> bool:
    """Make a folder; False where it is there already, if only since this very moment."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}", "choose another folder with --out") from error
    return True


# ---------------------------------------------------------------- what came of it


def _tell(
    training: Run, metrics: dict[str, float], plugins: list[str], again: list[str], out: frame.Output, quiet: bool
) -> None:
    """The run's last picture, and what to type next."""
    document = {
        "name": training.origin.name, "out": str(training.folder), "steps": training.step,
        "seconds": round(training.seconds, 3), "metrics": metrics,
    }  # fmt: skip
    made = (training.folder / name for name in ("samples.png", "samples.gif"))
    drawn = sorted((training.folder / "pictures").glob("*.png"))
    others = (training.folder / name for name in ("curves.png", checkpoint.FILE))
    out.result(document, str(next(path for path in (*made, *drawn, *others) if path.is_file())))
    if not quiet:
        out.note(_next_commands(training, plugins, again))


def _next_commands(training: Run, plugins: list[str], again: list[str]) -> str:
    """What to type next; a plugin that was named by its file must be named again, and so must a folder of data."""
    verbs, folder = verbs_of(type(training.algorithm)), str(training.folder)
    resume = ["train", training.origin.name, "--out", folder, "--resume", "--steps", str(2 * training.step), *again]
    commands = {
        "sample": ["sample", folder, "-n", "64", "-o", "grid.png", *plugins],
        "animate": ["animate", folder, "-n", "4", "-o", "film.gif", *plugins],
        "evaluate": ["evaluate", folder, *again],
        "train": resume,
    }
    return "next:" + "".join(f"\n  tinygen {shlex.join(commands[verb])}" for verb in commands if verb in verbs)
