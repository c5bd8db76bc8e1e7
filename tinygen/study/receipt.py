"""A receipt of one training step: each operation with its shapes, time, memory, and the gradient that came back to it.

    with recording(files) as receipt:
        next(algorithm.fit(batches))
    print(receipt.table())

Forward, an operation passes `Function.__call__`; backward, `engine._gradients_of`. Both are replaced while one records,
so that it costs nothing when nobody does. What a walk back computes belongs to the operations whose gradients these
are, unless the gradients are themselves on the tape.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, engine
from tinygen.autograd.function import Function
from tinygen.backend import of
from tinygen.study.rules import formula_of, rule_of
from tinygen.study.trace import place_in, shape_of

SHOWN = 4  # numbers of an array


@dataclass(eq=False)
class Entry:
    """One operation of the step."""

    function: type[Function]
    name: str
    inputs: tuple[str, ...]  # shapes; numbers as they are
    output: str
    numbers: str  # the first of its result
    place: str  # "gan.py:213"
    on_tape: bool
    seconds: float  # forward
    bytes: int  # of its result
    back_seconds: float = 0.0
    gradient: float | None = None  # the norm of what came back to it
    arrived: str = ""  # the first numbers of that
    sent: tuple[str, ...] = ()  # and of what it sent on, by input


@dataclass
class Receipt:
    """What was recorded: the operations in the order in which they ran, and those that a gradient came back to, in the
    order in which it came."""

    entries: list[Entry] = field(default_factory=list)
    backward: list[Entry] = field(default_factory=list)
    seconds: float = 0.0  # of the whole step

    def rows(self) -> list[dict[str, Any]]:
        """The entries as plain values, for a document."""
        return [
            {
                "operation": entry.name, "inputs": list(entry.inputs), "output": entry.output, "place": entry.place,
                "forward_us": round(entry.seconds * 1e6, 1), "backward_us": round(entry.back_seconds * 1e6, 1),
                "bytes": entry.bytes, "gradient_norm": entry.gradient,
            }
            for entry in self.entries
        ]  # fmt: skip

    def table(self) -> str:
        """A line for each operation, and the sums."""
        head = ("operation", "inputs", "output", "forward µs", "backward µs", "KiB", "|gradient|", "line")
        lines = [head]
        for entry in self.entries:
            gradient = "" if entry.gradient is None else f"{entry.gradient:.3g}"
            back = f"{entry.back_seconds * 1e6:.0f}" if entry.gradient is not None else ""
            forward, size = f"{entry.seconds * 1e6:.0f}", f"{entry.bytes / 1024:.1f}"
            inputs = " ".join(entry.inputs)
            lines.append((entry.name, inputs, entry.output, forward, back, size, gradient, entry.place))
        widths = [min(44, max(map(len, column))) for column in zip(*lines)]
        right = (False, False, False, True, True, True, True, False)
        text = ["  ".join(_fit(cell, width, end) for cell, width, end in zip(line, widths, right)) for line in lines]
        return "\n".join([*(line.rstrip() for line in text), "", *self.sums()])

    def sums(self) -> list[str]:
        """Where the time went, and what the tape held."""
        forward, back = sum(e.seconds for e in self.entries), sum(e.back_seconds for e in self.entries)
        tape = [entry for entry in self.entries if entry.on_tape]
        rest = max(0.0, self.seconds - forward - back)
        return [
            f"{len(self.entries)} operations, {len(tape)} of them on the tape, whose results hold "
            f"{sum(entry.bytes for entry in tape) / 2**20:.2f} MiB",
            f"{self.seconds * 1e3:.1f} ms: forward {forward * 1e3:.1f}, backward {back * 1e3:.1f}, "
            f"the optimizer, the data and the loop {rest * 1e3:.1f}",
        ]

    def walk(self) -> Iterator[str]:
        """The tape forward, then back: a paragraph for each operation, its formula and its numbers."""
        number = {id(entry): i for i, entry in enumerate(self.entries, 1)}
        yield "forward"
        for entry in self.entries:
            tape = "" if entry.on_tape else "   (not on the tape)"
            yield "\n".join(
                [
                    f"{number[id(entry)]:4}  {entry.name}   {entry.place}{tape}",
                    f"      {formula_of(entry.function)}",
                    f"      {' , '.join(entry.inputs)} → {entry.output}: {entry.numbers}",
                ]
            )
        yield "backward"
        for entry in self.backward:
            sent = [f"gx{i} = {text}" for i, text in enumerate(entry.sent) if text]
            yield "\n".join(
                [
                    f"{number[id(entry)]:4}  {entry.name}   {entry.place}",
                    f"      {_first_line(rule_of(entry.function).text)}",
                    f"      gy = {entry.arrived}",
                    *(f"      {line}" for line in sent),
                ]
            )


def _fit(text: str, width: int, right: bool) -> str:
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.rjust(width) if right else text.ljust(width)


def _first_line(text: str) -> str:
    return " ".join(text.split()) if "\n" not in text else text.splitlines()[0] + " …"


@contextmanager
def recording(files: Sequence[str]) -> Iterator[Receipt]:
    """Record what runs in the block; `files` are those whose lines count as places."""
    receipt = Receipt()
    recorder = _Recorder(set(files), receipt)
    call, send, walk = Function.__call__, engine._gradients_of, engine.backpropagate
    Function.__call__ = recorder.calling(call)  # type: ignore[method-assign]
    engine._gradients_of, engine.backpropagate = recorder.sending(send), recorder.walking(walk)
    began = time.perf_counter()
    try:
        yield receipt
    finally:
        receipt.seconds = time.perf_counter() - began - recorder.own
        Function.__call__ = call  # type: ignore[method-assign]
        engine._gradients_of, engine.backpropagate = send, walk


class _Recorder:
    def __init__(self, files: set[str], receipt: Receipt) -> None:
        self.files, self.receipt = files, receipt
        self.by_number: dict[int, Entry] = {}  # by a node's number in the order of creation
        self.walks = 0  # that go on now
        self.own = 0.0  # seconds that recording takes

    def calling(self, call: Callable) -> Callable:
        def timed(function: Function, *inputs: Any) -> Any:
            start = time.perf_counter()
            result = call(function, *inputs)
            end = time.perf_counter()
            if not self.walks or function.sequence >= 0:
                self.note(function, inputs, result, end - start)
                self.own += time.perf_counter() - end
            return result

        return timed

    def note(self, function: Function, inputs: tuple, result: Any, seconds: float) -> None:
        results = result if isinstance(result, tuple) else (result,)
        entry = Entry(
            function=type(function), name=function.name,
            inputs=tuple(shape_of(x) or f"{x:.4g}" for x in inputs if shape_of(x) or isinstance(x, (int, float))),
            output=", ".join(map(shape_of, results)), numbers=numbers_of(results[0]),
            place=_place(self.files), on_tape=function.sequence >= 0, seconds=seconds,
            bytes=0 if function.is_view else sum(y.data.nbytes for y in results),
        )  # fmt: skip
        self.receipt.entries.append(entry)
        if function.sequence >= 0:
            self.by_number[function.sequence] = entry

    def walking(self, walk: Callable) -> Callable:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.walks += 1
            try:
                return walk(*arguments, **options)
            finally:
                self.walks -= 1

        return counted

    def sending(self, send: Callable) -> Callable:
        def timed(node: Function, slots: list) -> Any:
            entry = self.by_number.get(node.sequence)
            if entry is None:
                return send(node, slots)
            start = time.perf_counter()
            gradients = send(node, slots)
            end = time.perf_counter()
            entry.back_seconds += end - start
            self.receipt.backward.append(entry)
            entry.gradient = math.sqrt(sum(_squared(g) for g in slots if g is not None))
            entry.arrived = next((numbers_of(g) for g in slots if g is not None), "")
            entry.sent = tuple("" if g is None else numbers_of(g) for g in gradients)
            self.own += time.perf_counter() - end
            return gradients

        return timed


def _squared(gradient: Tensor) -> float:
    host = gradient.numpy()
    return float(np.vdot(host, host))


def _place(files: set[str]) -> str:
    path, line = place_in(files)
    return f"{os.path.basename(path)}:{line}" if path else ""


def numbers_of(tensor: Tensor) -> str:
    """The first numbers of a tensor, and how many more there are."""
    host = of(tensor.data).to_host(tensor.data).reshape(-1)
    shown = " ".join(f"{value:.4g}" for value in host[:SHOWN].tolist())
    return shown + (f" … ({host.size} in all)" if host.size > SHOWN else "")
