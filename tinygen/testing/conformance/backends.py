"""Backends: float32 throughout, nothing of the host among device arrays, and no waiting within an update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen import backend
from tinygen.autograd import Tensor
from tinygen.autograd.function import Function
from tinygen.functional.shape import Cast
from tinygen.host import Sampler
from tinygen.run import capture, draw
from tinygen.testing import strict as strict_backend
from tinygen.testing.conformance.kit import check
from tinygen.testing.conformance.subject import Finding, Subject, steps
from tinygen.testing.conformance.where import DATA, at, called_from, calling_line


@check(
    "backends.float32",
    "nothing becomes float64 in a float32 run, unless by a cast that asks for it",
    mend="use Python numbers as constants, and give arrays of your own dtype=float32",
    needs=("contract.builds",),
)
def float32(subject: Subject) -> None:
    leaks: list[str] = []
    asked: dict[int, Tensor] = {}  # what a plugin has cast to float64, and what was made of that
    call = Function.__call__

    def watching(self: Function, *inputs: Any) -> Any:
        result = call(self, *inputs)
        wide = [x for x in inputs if _dtype(x) == np.float64]
        made = [y for y in (result if isinstance(result, tuple) else (result,)) if y.dtype == np.float64]
        if any(id(x) not in asked for x in wide) or (made and not wide and not isinstance(self, Cast)):
            leaks.append(f"{self.name} {'takes' if wide else 'makes'} float64{at(calling_line(subject.folder))}")
        asked.update({id(y): y for y in made})
        return result

    Function.__call__ = watching  # type: ignore[method-assign]
    try:
        algorithm = subject.build()
        if subject.can_train:
            run = subject.run()
            steps(run, 2)
            algorithm = run.algorithm
        if isinstance(algorithm, Sampler):
            draw(algorithm, 2, subject.stream("sample"))
    finally:
        Function.__call__ = call  # type: ignore[method-assign]
    if leaks:
        raise Finding(leaks[0])
    arrays, table = capture(algorithm)
    for name, array in arrays.items():
        entry = table[name]
        kind = entry.get("kind") if isinstance(entry, dict) else ""
        if array.dtype == np.float64 and kind == "tensor":
            raise Finding(f"{name} is float64")


def _dtype(x: Any) -> Any:
    return x.dtype if isinstance(x, Tensor) or type(x) in backend.array_types else None


@check(
    "backends.strict",
    "it trains and samples on the strict backend, which refuses what a GPU does, with the same numbers",
    mend="take `xp` and arrays from the backend (tinygen.backend.of(x).xp, tensor(…)); no NumPy beside tensors",
    needs=("contract.builds",),
)
def strict(subject: Subject) -> None:
    here = _figures_and_samples(subject)
    with backend.using("strict"):
        there = _figures_and_samples(subject)
    for name in here:
        if not np.allclose(here[name], there[name], rtol=1e-3, atol=1e-4):
            raise Finding(f"{name}: {np.ravel(there[name])[0]:.6g} on strict, {np.ravel(here[name])[0]:.6g} on numpy")


def _figures_and_samples(subject: Subject) -> dict[str, Any]:
    found: dict[str, Any] = {}
    algorithm = subject.build()
    if subject.can_train:
        run = subject.run()
        for number, figures in enumerate(steps(run, 2), 1):
            found.update({f"{name} of step {number}": value for name, value in figures.items()})
        algorithm = run.algorithm
    if isinstance(algorithm, Sampler):
        found["the samples"] = draw(algorithm, 2, subject.stream("sample"))
    return found


@check(
    "backends.waits",
    "an update does not wait for the device: nothing is fetched to the host",
    mend="give figures as tensors, and decide by F.where in place of `if` on a tensor",
    needs=("backends.strict", "contract.fit"),
    verbs=("train",),
)
def waits(subject: Subject) -> None:
    with backend.using("strict"):
        run = subject.run()
        steps(run, 2)  # the first may look at its data once
        fit = run.fit()
        with _fetches(subject.folder) as places:
            next(fit)
    if places:
        raise Finding(f"the third update fetches from the device {len(places)} times{at(places[0])}")


@contextmanager
def _fetches(folder: str) -> Iterator[list[str]]:
    """Where the plugin makes the host wait; what draws batches and episodes decides on the host, and is left out."""
    places: list[str] = []
    waits = strict_backend._waits

    def watching() -> None:
        if not called_from(DATA):
            places.append(calling_line(folder))
        waits()

    strict_backend._waits = watching
    try:
        yield places
    finally:
        strict_backend._waits = waits
