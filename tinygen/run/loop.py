"""Training runs: `Run` is one training with its folder, and `train` drives it.

The algorithm's own loop is the generator `fit`; the host takes one step after the other from it and does the rest
between the steps: figures, sample pictures, checkpoints, signals. Nothing of this draws from the run's random streams,
so that how often it happens changes no number, and a run that was stopped goes on bit for bit as if it never had been.

A run's folder holds `checkpoint.safetensors`, `metrics.jsonl`, `samples/step-….png`, and at the end `samples.png` and
`curves.png`; samples of an algorithm that makes films are GIFs, and an Illustrator's pictures lie in `pictures/`. The
streams of a run are those of its seed under the algorithm's name: "…/algorithm", "…/batches", "…/preview" and
"…/illustrate".
"""

from __future__ import annotations

import math
import shlex
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinygen import backend, plot
from tinygen.autograd import detect_anomaly
from tinygen.data import Batches, Dataset
from tinygen.errors import AnomalyError, CheckpointError, PluginError, TinygenError, UsageError
from tinygen.host import Animator, Sampler, Step, Trainable
from tinygen.random import Stream
from tinygen.run import checkpoint
from tinygen.run.checkpoint import Checkpoint, Origin
from tinygen.run.pictures import make_folder, save_illustrations, save_pictures
from tinygen.run.report import OWN_KEYS, Means, MetricsLog, Report
from tinygen.run.state import capture, restore

DEFAULT_BATCH = 64  # images, where the Config has no batch_size
PREVIEW_IMAGES, FINAL_IMAGES = 16, 64


@dataclass
class Run:
    """One training: what it is made of, the algorithm, and how far it is."""

    folder: Path
    origin: Origin
    factory: Callable[..., Any]  # builds the algorithm: factory(config, data, random)
    config: Any
    data: Dataset
    algorithm: Any = field(init=False)
    batches: Batches = field(init=False)
    step: int = field(init=False, default=0)
    seconds: float = field(init=False, default=0.0)  # spent in training, however often the run was taken up
    _fit: Generator[Any, None, None] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        require_kind(self.origin.name, self.factory, self.data)
        self.algorithm = self.factory(self.config, self.data.spec, self.stream("algorithm"))
        size = getattr(self.config, "batch_size", DEFAULT_BATCH)
        self.batches = Batches(self.data.split("train"), size, self.stream("batches"))
        if not isinstance(self.algorithm, Trainable):
            raise PluginError(
                f"{self.origin.name}: {type(self.algorithm).__name__} cannot be trained",
                'inherit Trainable, or leave "train" out of the verbs',
            )

    def stream(self, name: str) -> Stream:
        """A random stream of this run, at its beginning."""
        return Stream(self.origin.seed, self.origin.name).child(name)

    def fit(self) -> Generator[Any, None, None]:
        """The algorithm's `fit` where it stands; called once, as a `fit` that hands on a generator may do something.

        Raises PluginError where it is no generator.
        """
        if getattr(self._fit, "gi_frame", None) is None:  # there is none yet, or it was closed
            fit = self.algorithm.fit(self.batches)
            if not isinstance(fit, Generator):
                raise PluginError(
                    f"{self.origin.name}: fit must be a generator, it returned {type(fit).__name__}",
                    "let fit contain `yield Step(...)` after each update",
                )
            self._fit = fit
        assert self._fit is not None
        return self._fit

    def checked(self) -> Checkpoint:
        """Where the run stands, once it is sure that it can begin: to be asked before there is a folder.

        Raises PluginError for a `fit` that is no generator and for state that cannot be kept, AnomalyError for NaN.
        """
        self.fit()
        here = self.here()
        broken = [name for name, array in here.arrays.items() if _has_nan(array)]
        if broken:
            raise AnomalyError(f"step {self.step}: {broken[0]} is NaN before training", "look at how it is made")
        return here

    def anew(self) -> Run:
        """The same run before its first step, with an algorithm of its own."""
        return replace(self)

    def go_to(self, saved: Checkpoint) -> None:
        """Stand where a checkpoint says. Raises CheckpointError if it does not fit."""
        restore(self.algorithm, saved.arrays, saved.table)
        self.batches.load_state_dict({"drawn": saved.drawn})
        self.step, self.seconds = saved.step, saved.seconds

    def here(self) -> Checkpoint:
        """Where the run stands. Its arrays may share memory with the algorithm: write it before the next step."""
        arrays, table = capture(self.algorithm)
        return Checkpoint(
            origin=self.origin, step=self.step, drawn=self.batches.drawn, seconds=self.seconds,
            backend=backend.current().name, arrays=arrays, table=table,
        )  # fmt: skip


def require_kind(name: str, factory: Callable[..., Any], data: Dataset) -> None:
    """Raise UsageError unless the algorithm learns from what the data are: clips, or still images."""
    films = getattr(factory, "films", False)
    if films and not data.frames:
        raise UsageError(
            f"{name} learns from films, and data {data.name} are still images", "for instance --data moving-glyphs"
        )
    if data.frames and not films:
        raise UsageError(
            f"{name} learns from still images, and data {data.name} are films", "for instance --data mnist"
        )


@dataclass(frozen=True, kw_only=True)
class Every:
    """How many steps lie between one log line, sample picture or checkpoint and the next; 0 for never."""

    log: int
    sample: int
    checkpoint: int

    @classmethod
    def default(cls, steps: int) -> Every:
        """Ten pictures and checkpoints, and twenty log lines or more, over so many steps."""
        tenth = max(1, steps // 10)
        return cls(log=max(1, min(50, steps // 20)), sample=tenth, checkpoint=tenth)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


# ---------------------------------------------------------------- training


def train(
    run: Run, steps: int, every: Every | None = None, report: Report | None = None, callbacks: Sequence[Any] = (),
    options: str = "",
) -> dict[str, float]:  # fmt: skip
    """Train until `steps` steps are done in all, from where `run` stands. Returns the last figures.

    options: what `tinygen train --resume` must be told besides to find the run's plugins, as in "-p toys.py".

    The first SIGINT or SIGTERM lets the step at hand end, saves, and raises TinygenError; the second acts at once.
    Raises AnomalyError, with the operation's name, where a number is not finite; PluginError for a `fit` that does
    not keep its contract; OutputError where the folder cannot be written. The last good checkpoint then stays.
    """
    training = _Training(run, steps, every or Every.default(steps), report or Report(), callbacks, options)
    training.report.start(run.origin.name, run.step, steps)
    try:
        training.train()
        training.end()
    finally:
        training.report.stop()
    return training.metrics


class _Training:
    """One call of `train`: what stands between the steps of `fit`."""

    def __init__(
        self, run: Run, steps: int, every: Every, report: Report, callbacks: Sequence[Any], options: str
    ) -> None:
        _require_own_place(run)
        self.run, self.steps, self.every, self.report, self.callbacks = run, steps, every, report, callbacks
        self.options = options
        self.log = MetricsLog(run.folder / "metrics.jsonl")
        self.log.drop_after(run.step)
        self.metrics = _figures(self.log.rows())
        self.means = Means()
        self.began = time.perf_counter() - run.seconds
        self.saved_step = -1
        self.proven: object = None  # the layout of the last state that was seen to come back
        self.infinite: frozenset[str] = frozenset()  # arrays that were not finite before the first step: masks

    def train(self) -> None:
        """Step by step to the end, or to a signal."""
        run, every = self.run, self.every
        with _StopSignal() as stop, closing(run.fit()) as fit:
            self.start()
            while run.step < self.steps and not stop.name:
                self.means.add(_next_step(fit, run, self.steps).metrics)
                run.step += 1
                self.report.step(run.step)
                save = _due(run.step, every.checkpoint)
                if save or _due(run.step, every.log):
                    self.take_figures()
                if save:
                    self.save()
                if _due(run.step, every.sample):
                    self.preview()
            if self.saved_step != run.step:
                self.take_figures()
                self.save()
        if run.step < self.steps:
            raise TinygenError(f"stopped by {stop.name} after step {run.step} of {self.steps}, and saved", self.go_on())

    def start(self) -> None:
        """Before the first step: everything that must be saved can be, and the folder can be written."""
        here = self.run.checked()
        self.infinite = frozenset(name for name, array in here.arrays.items() if not _is_finite(array))
        make_folder(self.run.folder)
        if self.run.step == 0:
            checkpoint.write(self.run.folder, here)
        self.saved_step = self.run.step
        self.call("on_start")

    def take_figures(self) -> None:
        """The means since the last time, to the log and to the report."""
        figures = self.means.take()
        if not figures:
            return
        self.run.seconds = time.perf_counter() - self.began
        for name, value in figures.items():
            if not math.isfinite(value):
                self.find_anomaly(f"{name} is {value}")
        self.metrics = figures
        self.log.append({"step": self.run.step, "seconds": round(self.run.seconds, 3), **figures})
        self.report.log(self.run.step, figures)
        self.call("on_log", self.run.step, figures)

    def save(self) -> None:
        """Write the checkpoint; never one with numbers that are not finite, nor one that cannot be read back."""
        self.run.seconds = time.perf_counter() - self.began
        here = self.run.here()
        for name, array in here.arrays.items():
            if _has_nan(array) or (name not in self.infinite and not _is_finite(array)):
                self.find_anomaly(f"{name} is not finite")
        if self.proven != _layout(here):
            _prove(self.run, here)
            self.proven = _layout(here)
        checkpoint.write(self.run.folder, here)
        self.saved_step = self.run.step
        self.call("on_checkpoint", self.run.step)

    def preview(self) -> None:
        """Sample pictures on the way, always from the same random stream, so that they can be compared."""
        if isinstance(self.run.algorithm, (Sampler, Animator)):
            folder = self.run.folder / "samples"
            make_folder(folder)
            stem = folder / f"step-{self.run.step:06d}"
            save_pictures(stem, self.run.algorithm, PREVIEW_IMAGES, self.run.stream("preview"))

    def end(self) -> None:
        """The pictures of a run that is complete."""
        run = self.run
        save_pictures(run.folder / "samples", run.algorithm, FINAL_IMAGES, run.stream("preview"))
        save_illustrations(run.folder / "pictures", run.algorithm, run.data, run.stream("illustrate"))
        rows = self.log.rows()
        if _figures(rows):
            plot.curves(self.run.folder / "curves.png", rows)
        self.call("on_end")

    def call(self, method: str, *arguments: Any) -> None:
        """Tell the callbacks that have this method."""
        for callback in self.callbacks:
            if hasattr(callback, method):
                getattr(callback, method)(self.run, *arguments)

    def go_on(self) -> str:
        """What to type to go on from here."""
        run = self.run
        words = ["tinygen", "train", run.origin.name, "--out", str(run.folder), "--steps", str(self.steps), "--resume"]
        return f"go on with: {shlex.join(words)} {self.options}".rstrip()

    def find_anomaly(self, symptom: str) -> NoReturn:
        """Repeat the steps since the last checkpoint, watching each operation, and raise what is found."""
        self.report.note(f"step {self.run.step}: {symptom}; looking for the operation that made it")
        saved = checkpoint.read(self.run.folder)
        hint = f"a lower learning rate often helps; the checkpoint of step {saved.step} is kept in {self.run.folder}"
        replay = self.run.anew()
        replay.go_to(saved)
        with detect_anomaly(), closing(replay.fit()) as fit:
            while replay.step < self.run.step:
                step = replay.step + 1
                try:
                    metrics = _next_step(fit, replay, self.steps).metrics
                except AnomalyError as error:
                    raise AnomalyError(f"step {step}: {error.message}", hint) from error
                means = Means()
                means.add(metrics)
                wrong = [f"{name} is {value}" for name, value in means.take().items() if not math.isfinite(value)]
                if wrong:
                    raise AnomalyError(f"step {step}: {wrong[0]}, and no operation on tensors made it so", hint)
                replay.step = step
        raise AnomalyError(f"step {self.run.step}: {symptom}, and no operation on tensors made it so", hint)


def _figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of the last line of metrics.jsonl."""
    return {name: value for name, value in rows[-1].items() if name not in OWN_KEYS} if rows else {}


def _next_step(fit: Generator[Any, None, None], run: Run, steps: int) -> Step:
    """The next update."""
    try:
        step = next(fit)
    except StopIteration:
        raise PluginError(
            f"{run.origin.name}: fit ended after step {run.step} of {steps}", "let it go on for ever: `while True:`"
        ) from None
    if not isinstance(step, Step) or not isinstance(step.metrics, Mapping):
        got = f"Step({step.metrics!r:.40})" if isinstance(step, Step) else type(step).__name__
        raise PluginError(f"{run.origin.name}: fit must yield Step, it yielded {got}", "yield Step({name: value})")
    return step


def _has_nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _require_own_place(run: Run) -> None:
    """Raise CheckpointError where another run lies, or this one at another step: it would be overwritten."""
    if (run.folder / checkpoint.FILE).is_file():
        saved = checkpoint.read(run.folder)
        checkpoint.require_same(run.folder, {"step": saved.step}, {"step": run.step})


def _layout(here: Checkpoint) -> object:
    """What is kept, apart from the values: the names, shapes and kinds."""
    kinds = {name: entry for name, entry in here.table.items() if isinstance(entry, dict)}
    return kinds, {name: (array.shape, array.dtype) for name, array in here.arrays.items()}


def _prove(run: Run, here: Checkpoint) -> None:
    """See that a fresh algorithm can be brought to this state, now rather than when somebody wants to go on."""
    try:
        run.anew().go_to(here)
    except CheckpointError as error:
        raise PluginError(
            f"{run.origin.name}: a run could not go on from step {run.step}: {error.message}",
            "make every attribute in __init__, in its final shape; what grows belongs into a list",
        ) from error


# ---------------------------------------------------------------- signals


class _StopSignal:
    """In its block the first SIGINT or SIGTERM only leaves its `name` here; the next one does what it did before."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _StopSignal:
        if threading.current_thread() is threading.main_thread():  # Python's rule: no other may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background jobs
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: Any) -> None:
        self.name = signal.Signals(number).name
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def __exit__(self, *error: object) -> None:
        self._put_back()
