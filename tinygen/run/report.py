"""What a run tells while it goes: figures in `metrics.jsonl`, and progress on stderr.

`Means` gathers the figures of single steps, `MetricsLog` keeps the file, and a Report shows how far the run is: as a
bar on a terminal, as plain lines in a pipe or a log file, or not at all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.data.files import write_atomically
from tinygen.errors import CheckpointError, OutputError, PluginError

OWN_KEYS = ("step", "seconds")  # of a line of metrics.jsonl; a plugin's figures have other names


# ---------------------------------------------------------------- figures


class Means:
    """The mean of each figure over the steps since the last `take`.

    On a device, a step costs one addition a figure and no waiting: numbers are fetched by `take` alone.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add one step's figures: numbers, or tensors or arrays of one element. A step may leave some out."""
        for name, value in metrics.items():
            number = value.data if isinstance(value, Tensor) else value
            try:
                self._sums[name] = self._sums.get(name, 0.0) + number
            except (TypeError, ValueError) as error:
                raise _no_number(name, value) from error
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means, as Python numbers; then start anew. Raises PluginError for what is no number."""
        means = {name: _number(name, total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means


def _number(name: str, value: Any) -> float:
    if name in OWN_KEYS or not isinstance(name, str):
        raise PluginError(f"metric {name!r}: the name is taken", "give the figure another name")
    try:
        return float(value if isinstance(value, (int, float)) else backend.of(value).scalar(value))
    except (TypeError, ValueError) as error:
        raise _no_number(name, value) from error


def _no_number(name: object, value: Any) -> PluginError:
    shape = f" of shape {value.shape}" if hasattr(value, "shape") else f" {value!r:.40}"
    return PluginError(
        f"metric {name}: expected a number or a tensor of one element, got a {type(value).__name__}{shape}",
        "yield Step({name: loss}) with scalars, for instance a mean",
    )


class MetricsLog:
    """The file metrics.jsonl: a line {"step", "seconds", figures…} each time figures are taken."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a line. Raises OutputError where it cannot be written."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}", "free some space") from error

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines. The last one may be torn, where the process was killed as it wrote; it is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        whole = lines[:-1]  # what follows the last line break is torn, or empty
        try:
            return [json.loads(line) for line in whole]
        except ValueError as error:
            raise CheckpointError(f"{self.path}: damaged: {error}", "mend the line, or delete the file") from error

    def drop_after(self, step: int) -> None:
        """Forget the lines beyond `step`: a run that goes on from there writes them again."""
        if self.path.exists():
            kept = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
            write_atomically(self.path, "".join(kept).encode())


# ---------------------------------------------------------------- progress


class Report:
    """Tells nothing: for --quiet, for --json, and for a run started from Python."""

    def start(self, name: str, step: int, steps: int) -> None:
        """The run stands at `step` of `steps`."""

    def step(self, step: int) -> None:
        """One more step is done; called after each, so it must cost next to nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Figures were taken."""

    def note(self, text: str) -> None:
        """Something to know."""

    def stop(self) -> None:
        """The run has ended, one way or another."""


class Lines(Report):
    """A plain line each time figures are taken."""

    def start(self, name: str, step: int, steps: int) -> None:
        self._steps, self._first, self._began = steps, step, time.perf_counter()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        rate = (step - self._first) / max(time.perf_counter() - self._began, 1e-9)
        self.note(f"step {step}/{self._steps}  {rate:.3g} steps/s  {_shown(metrics)}")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bar(Report):
    """A progress bar with rate, time to go and the last figures. Redrawn by `step`, ten times a second at most."""

    INTERVAL = 0.1  # seconds

    def start(self, name: str, step: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"),
            console=Console(stderr=True), auto_refresh=False,
        )  # fmt: skip
        self._task = self._progress.add_task(name, total=steps, completed=step, rate="", metrics="")
        self._first, self._began, self._next = step, time.perf_counter(), 0.0
        self._progress.start()

    def step(self, step: int) -> None:
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + self.INTERVAL
            rate = (step - self._first) / max(now - self._began, 1e-9)
            self._progress.update(self._task, completed=step, rate=f"{rate:.3g} steps/s", refresh=True)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=step, metrics=_shown(metrics))

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        self._progress.refresh()
        self._progress.stop()


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def for_stderr(quiet: bool) -> Report:
    """The report that suits: none where `quiet`, a bar on a terminal, else lines."""
    if quiet:
        return Report()
    return Bar() if sys.stderr.isatty() else Lines()
