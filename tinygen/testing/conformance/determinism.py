"""Determinism: one seed, one result; and a run that was stopped goes on as if it never had been."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tinygen.host import Animator, Sampler
from tinygen.random import Stream
from tinygen.run import checkpoint, draw
from tinygen.run.pictures import draw_films
from tinygen.testing.conformance.kit import CHECKS, check
from tinygen.testing.conformance.subject import Absent, Finding, Subject, first_difference, steps
from tinygen.testing.conformance.where import DATA, at, called_from, calling_line, first_line

SEED = 20020  # that no plugin has by chance
FRAMES = 8


@check(
    "determinism.global-state",
    "nothing draws from the global random state of NumPy or of Python",
    mend="draw from the Stream that __init__ or the verb was given, or from a `child` of it",
    needs=("contract.builds",),
)
def global_state(subject: Subject) -> None:
    def use() -> None:
        if subject.can_train:
            run = subject.run()
            steps(run, 2)
            algorithm = run.algorithm
        else:
            algorithm = subject.build()
        if isinstance(algorithm, Sampler):
            draw(algorithm, 2, subject.stream("sample"))
        for verb in subject.spec.verbs:
            if verb not in ("train", "sample"):
                with suppress(Exception):  # what is wrong with it, its own check tells
                    CHECKS[f"contract.{verb}"].function(subject)

    changed = _watch_globals()
    use()
    if changed():
        place = first_line(use, _watch_globals(), subject.folder)
        raise Finding(f"a global random state was drawn from{at(place)}")


def _watch_globals() -> Callable[[], bool]:
    """Tells whether either global random state has moved since this call."""

    def state() -> tuple[Any, ...]:
        words: Any = np.random.get_state()  # noqa: NPY002 - this is the state that nobody is to use
        return words[1].tobytes(), words[2:], random.getstate()

    before = state()
    return lambda: state() != before


@check(
    "determinism.streams",
    "training and sampling draw from streams of the run's seed alone",
    mend="draw from the Stream that __init__ or the verb was given, or from a `child` of it: no generator and no "
    "Stream with a seed of the plugin's own",
    needs=("contract.builds",),
)
def streams(subject: Subject) -> None:
    with _foreign_draws(subject.folder) as places:
        algorithm = subject.build(SEED)
        if subject.can_train:
            run = subject.run(SEED)
            steps(run, 2)
            algorithm = run.algorithm
        if isinstance(algorithm, Sampler):
            draw(algorithm, 2, subject.stream("sample", SEED))
    if places:
        raise Finding(f"drawn from a generator that does not know the run's seed{at(places[0])}")


@contextmanager
def _foreign_draws(folder: str) -> Iterator[list[str]]:
    """Where the plugin in `folder` draws from a Stream of another seed, or makes a generator of NumPy's."""
    places: list[str] = []
    make, placed = np.random.default_rng, Stream._place

    def note() -> None:
        if called_from(folder) and not called_from(DATA):
            places.append(calling_line(folder))

    def default_rng(*arguments: Any, **options: Any) -> Any:
        note()
        return make(*arguments, **options)

    def place(stream: Stream, host: Any) -> Any:
        if stream.seed != SEED:
            note()
        return placed(stream, host)

    with mock.patch.object(np.random, "default_rng", default_rng), mock.patch.object(Stream, "_place", place):
        yield places


@check(
    "determinism.seed",
    "one seed gives the same training bit for bit, another seed another one",
    mend="draw every number from the Stream that __init__ was given; keep nothing in variables of the module",
    needs=("contract.fit",),
    verbs=("train",),
)
def seed(subject: Subject) -> None:
    first, second, other = subject.run(0), subject.run(0), subject.run(1)
    for what, updates in (("built", 0), ("trained", 2)):
        a, b = steps(first, updates), steps(second, updates)
        different = first_difference(first.algorithm, second.algorithm)
        if different:
            raise Finding(f"{what} twice with seed 0, {different} is not the same")
        if a != b:
            raise Finding(f"trained twice with seed 0, the figures differ: {a[-1]} and {b[-1]}")
    steps(other, 2)
    if not first_difference(first.algorithm, other.algorithm):
        raise Finding("seeds 0 and 1 give the same algorithm after 2 updates")


@check(
    "determinism.samples",
    "one stream gives the same samples, another stream others",
    mend="draw from the stream that `sample` is given, and change nothing of the algorithm",
    needs=("contract.sample",),
    verbs=("sample",),
    each_backend=True,
)
def samples(subject: Subject) -> None:
    algorithm = subject.trained
    images = draw(algorithm, 3, subject.stream("sample", 5))
    if not np.array_equal(images, draw(algorithm, 3, subject.stream("sample", 5))):
        raise Finding("sample gives other images from the same stream")
    if np.array_equal(images, draw(algorithm, 3, subject.stream("sample", 6))):
        raise Finding("sample gives the same images from another stream")


@check(
    "determinism.first-sample",
    "the first of several samples is the one that is drawn alone, where nothing is trained",
    mend="draw all that n images need in one call, with n as the first number of the shape",
    needs=("contract.sample",),
    verbs=("sample",),
)
def first_sample(subject: Subject) -> None:
    if subject.can_train:
        raise Absent("it is trained: a product of matrices may round otherwise for another n")
    several, alone = (draw(subject.trained, n, subject.stream("sample", 5)) for n in (3, 1))
    if not np.array_equal(several[:1], alone):
        raise Finding("sample(1) is another image than the first of sample(3), from the same stream")


@check(
    "determinism.previews",
    "pictures that are drawn in the midst of training change nothing of it",
    mend="draw from the stream that `sample` or `animate` is given, and leave the algorithm as it was, its networks in "
    "the mode that `fit` put them in: begin an update with train(), or end the pictures with it",
    needs=("determinism.seed",),
    verbs=("sample", "animate"),
)
def previews(subject: Subject) -> None:
    if not subject.can_train:
        raise Absent("it is not trained")
    straight, shown = subject.run(), subject.run()
    expected = steps(straight, 4)
    fit = shown.fit()
    figures = steps(shown, 2, fit)
    if isinstance(shown.algorithm, Sampler):
        draw(shown.algorithm, 2, subject.stream("sample"))
    if isinstance(shown.algorithm, Animator):
        draw_films(shown.algorithm, FRAMES, 2, subject.stream("animate"))
    figures += steps(shown, 2, fit)
    different = first_difference(straight.algorithm, shown.algorithm)
    if different:
        raise Finding(f"with pictures drawn after step 2, {different} is another one at step 4")
    if figures != expected:
        raise Finding(f"with pictures drawn after step 2, the figures of step 4 are {figures[-1]}, not {expected[-1]}")


@check(
    "determinism.resume",
    "a run that was saved and taken up again goes on bit for bit",
    mend="keep what must survive an update in an attribute of the algorithm: neither in a variable of `fit` or of the "
    "module, nor in an object whose state_dict leaves it out; do all work of an update before its yield",
    needs=("determinism.seed",),
    verbs=("train",),
    each_backend=True,
)
def resume(subject: Subject) -> None:
    straight, stopped, again = subject.run(), subject.run(), subject.run()
    expected = steps(straight, 4)
    steps(stopped, 2)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder), stopped.here())
        again.go_to(checkpoint.read(Path(folder)))
    got = steps(again, 2)
    different = first_difference(straight.algorithm, again.algorithm)
    if different:
        raise Finding(f"taken up at step 2, {different} is another one at step 4")
    if got != expected[2:] or again.batches.drawn != straight.batches.drawn:
        raise Finding(f"taken up at step 2, the figures of step 4 are {got[-1]} in place of {expected[-1]}")
    if isinstance(again.algorithm, Sampler):
        images = draw(straight.algorithm, 2, subject.stream("sample"))
        if not np.array_equal(images, draw(again.algorithm, 2, subject.stream("sample"))):
            raise Finding("taken up at step 2, the samples of step 4 are others")
