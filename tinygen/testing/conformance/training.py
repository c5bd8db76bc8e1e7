"""Training: that an update does what an update is for."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tinygen.host import Illustrator
from tinygen.run.pictures import save_illustrations
from tinygen.testing.conformance.kit import check
from tinygen.testing.conformance.subject import (
    Absent,
    Finding,
    OneBatch,
    Subject,
    WatchedBatches,
    few,
    named_parameters,
    steps,
)
from tinygen.testing.conformance.where import at, first_line

FALLING_STEPS = 40  # updates on one batch, over which the loss must fall


@check(
    "training.parameters-learn",
    "every parameter that requires a gradient is moved by three updates",
    mend="look for a `detach`, `.data` or `numpy()` between the parameter and the loss, and for a network that no "
    "optimizer was given; call requires_grad_(False) on what is not to learn",
    needs=("contract.fit",),
    verbs=("train",),
    each_backend=True,
)
def parameters_learn(subject: Subject) -> None:
    run = subject.run()
    before = {name: p.numpy() for name, p in named_parameters(run.algorithm)}
    steps(run, 3)
    after = {name: p.numpy() for name, p in named_parameters(run.algorithm)}
    stayed = [name for name in before if name in after and np.array_equal(before[name], after[name])]
    if stayed:
        more = f", and {len(stayed) - 1} more" if len(stayed) > 1 else ""
        raise Finding(f"{stayed[0]}{more} stayed as it was: no gradient reaches it")


@check(
    "training.loss-falls",
    f'the figure called "loss" falls over {FALLING_STEPS} updates on one batch',
    mend="look at the sign of what `backward` is called on, and at the learning rate",
    needs=("contract.fit",),
    verbs=("train",),
)
def loss_falls(subject: Subject) -> None:
    run = subject.run()
    run.batches = OneBatch(run.batches)
    first = steps(run, 1)[0]
    if "loss" not in first:
        raise Absent('no figure is called "loss"')
    losses = [first["loss"]] + [figures["loss"] for figures in steps(run, FALLING_STEPS - 1) if "loss" in figures]
    ends = max(1, len(losses) // 4)
    before, after = float(np.mean(losses[:ends])), float(np.mean(losses[-ends:]))
    if not after < before:
        raise Finding(f"the loss went from {before:.6g} to {after:.6g} on one batch in {FALLING_STEPS} updates")


@check(
    "training.inputs-untouched",
    "an update leaves the batch that it was given as it was",
    mend="compute into a new tensor: x = x * 2 - 1, not x.data *= 2",
    needs=("contract.fit",),
    verbs=("train",),
)
def inputs_untouched(subject: Subject) -> None:
    run = subject.run()
    watched = run.batches = WatchedBatches(run.batches)
    steps(run, 1)
    if watched.written():
        again = subject.run()
        watched = again.batches = WatchedBatches(again.batches)
        place = first_line(lambda: steps(again, 1), watched.written, subject.folder)
        raise Finding(f"fit wrote into a batch{at(place)}")


@check(
    "training.illustrations",
    "the pictures that it draws of what it has learnt can be drawn",
    mend="give images (n, c, h, w) in [0, 1] or Curves, by names of words joined by -",
    needs=("contract.fit",),
    verbs=("train",),
)
def illustrations(subject: Subject) -> None:
    if not isinstance(subject.trained, Illustrator):
        raise Absent("it draws no pictures but samples")
    data = few(subject.data, 30 * max(1, len(subject.data.classes)))
    with tempfile.TemporaryDirectory() as folder:
        save_illustrations(Path(folder), subject.trained, data, subject.stream("illustrate"))
