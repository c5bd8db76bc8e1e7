"""A training step taken apart: every loss of it as a function of the parameters, in float64.

`Replay` builds the algorithm anew in float64 and can run its first update as often as wanted, each time from the same
state, batches and streams, with the parameters where `at` says. While it runs,

- every operation computes in float64, whatever dtype its constants have;
- no update takes effect: a parameter that was written to is put back before the next operation reads it, so that each
  loss is a function of the parameters that the step began with, also the second of two players;
- every call of `backward` or `grad` that reaches a parameter is kept, with the loss and its gradient.

A loss is what the call was made on, Σ ⟨output, weight⟩ where it was given weights. Its gradient is what the tape says;
how the loss really changes, `mathematics` measures by another replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.autograd import Tensor, engine
from tinygen.autograd.function import Function
from tinygen.backend import array_types, current, of
from tinygen.functional.shape import Cast
from tinygen.random import Stream
from tinygen.run import capture, restore
from tinygen.run.kinds import is_constant, is_plain_object
from tinygen.testing.conformance.subject import Subject, named_parameters, steps
from tinygen.testing.conformance.where import calling_line

JITTER = 0.02  # parameters are moved by this, off the kinks that zeros of an initialisation lie on
Arrays = dict[str, np.ndarray]


class DoubleStream(Stream):
    """The same draws, in float64."""

    def child(self, name: str) -> DoubleStream:
        return DoubleStream(self.seed, f"{self.name}/{name}", self._where)

    def _place(self, host: Any) -> Any:
        array = np.asarray(host)
        return super()._place(array.astype(np.float64) if array.dtype.kind == "f" else array)


@dataclass
class Loss:
    """One call of `backward` or `grad` in the step."""

    place: str  # file:line of the plugin where it was made
    value: float
    gradient: Arrays  # by the parameters that it reaches
    curvature: Arrays  # the derivative of ⟨gradient, along⟩, where there was an `along`


class Replay:
    """The first update of an algorithm, over and over."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        stream = DoubleStream(0, subject.spec.name).child("algorithm")
        with _doubled():
            self._run = subject.run(random=stream)
        _to_double(self._run.algorithm, set())
        arrays, self._table = capture(self._run.algorithm)
        self._arrays = {name: array.copy() for name, array in arrays.items()}
        random = np.random.default_rng(0)
        self.start = {
            name: p.numpy() + JITTER * random.standard_normal(p.shape)
            for name, p in named_parameters(self._run.algorithm)
        }

    def at(self, point: Arrays, along: Arrays | None = None) -> list[Loss]:
        """The losses of the step with the parameters at `point`; with the curvature where `along` is given."""
        run = self._run
        _to_double(run.algorithm, set())  # what the last replay put in the place of an array
        restore(run.algorithm, self._arrays, self._table)
        run.batches.load_state_dict({"drawn": 0})
        run.step = 0
        frozen = {}
        for name, p in named_parameters(run.algorithm):
            p.data = current().from_host(point[name].copy())
            p.grad = None
            frozen[p] = name
        probe = _Probe(frozen, point, along, self.subject.folder)
        with _doubled(probe.put_back), _entered(probe):
            run.fit().close()
            steps(run, 1)
        return probe.losses


class _Probe:
    """What watches one replay."""

    def __init__(self, frozen: dict[Tensor, str], point: Arrays, along: Arrays | None, folder: str) -> None:
        self.names = {id(p): name for p, name in frozen.items()}
        self.versions = {id(p): p._version[0] for p in frozen}
        self.point, self.along, self.folder = point, along, folder
        self.losses: list[Loss] = []

    def put_back(self, x: Tensor) -> None:
        """Undo an update, as soon as an operation reads the parameter."""
        if id(x) in self.names and x._version[0] != self.versions[id(x)]:
            x._data = current().from_host(self.point[self.names[id(x)]].copy())
            self.versions[id(x)] = x._version[0]

    def see(self, seeds: Any, targets: frozenset) -> None:
        """Keep a call of the engine, if it reaches parameters."""
        leaves = [x for x in (targets or _leaves([y for y, _ in seeds])) if id(x) in self.names]
        if not leaves:
            return
        leaves.sort(key=lambda x: self.names[id(x)])
        outputs, weights = [y for y, _ in seeds], [g.detach() for _, g in seeds]
        gradients = engine.grad(outputs, leaves, weights, create_graph=self.along is not None, retain_graph=True)
        curvatures = [None] * len(leaves) if self.along is None else self._curvatures(leaves, gradients)
        host = of(outputs[0].data).to_host
        self.losses.append(
            Loss(
                place=calling_line(self.folder),
                value=sum(float((host(y.data) * host(w.data)).sum()) for y, w in zip(outputs, weights)),
                gradient=self._by_name(leaves, gradients),
                curvature=self._by_name(leaves, curvatures),
            )
        )

    def _curvatures(self, leaves: list[Tensor], gradients: Any) -> Any:
        assert self.along is not None
        slope: Any = 0.0
        for leaf, gradient in zip(leaves, gradients):
            if gradient is not None and gradient.requires_grad:
                slope = slope + (gradient * Tensor(current().from_host(self.along[self.names[id(leaf)]]))).sum()
        if not isinstance(slope, Tensor):
            return [None] * len(leaves)
        return engine.grad(slope, leaves, retain_graph=True)

    def _by_name(self, leaves: list[Tensor], tensors: Any) -> Arrays:
        pairs = zip((self.names[id(leaf)] for leaf in leaves), tensors)
        return {name: np.zeros_like(self.point[name]) if x is None else x.numpy() for name, x in pairs}


def _leaves(outputs: list[Tensor]) -> list[Tensor]:
    """The leaves that a gradient of these outputs arrives at."""
    stack: list[Any] = [y.node or y for y in outputs]
    seen, found = set(map(id, stack)), []
    while stack:
        node = stack.pop()
        if isinstance(node, Tensor):
            found.append(node)
            continue
        for edge in node.edges:
            if edge is not None and id(edge[0]) not in seen:
                seen.add(id(edge[0]))
                stack.append(edge[0])
    return found


# ---------------------------------------------------------------- float64 throughout


@contextmanager
def _doubled(read: Callable[[Tensor], None] | None = None) -> Iterator[None]:
    """Operations cast what is float32 among their inputs; `read` sees every tensor that one takes."""
    call = Function.__call__

    def double(self: Function, *inputs: Any) -> Any:
        if read is not None:
            for x in inputs:
                if isinstance(x, Tensor):
                    read(x)
        return call(self, *(inputs if isinstance(self, Cast) else map(_double, inputs)))

    Function.__call__ = double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Function.__call__ = call  # type: ignore[method-assign]


def _double(x: Any) -> Any:
    if isinstance(x, Tensor) and x.dtype == np.float32:
        return x.to("float64") if x.requires_grad else Tensor(x.data.astype(np.float64))
    if type(x) in array_types and x.dtype == np.float32:
        return x.astype(np.float64)
    return x


def _to_double(value: Any, seen: set[int]) -> None:
    """Cast every tensor and array that an algorithm's attributes hold, in place."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if value.dtype == np.float32:
            value.data = value.data.astype(np.float64)
            value.grad = None
    elif isinstance(value, (list, dict)):
        for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if type(item) in array_types and item.dtype == np.float32:
                value[key] = item.astype(np.float64)
            else:
                _to_double(item, seen)
    elif isinstance(value, tuple):
        for item in value:
            _to_double(item, seen)
    elif is_plain_object(value):
        for name, item in list(vars(value).items()):
            if type(item) in array_types and item.dtype == np.float32:
                setattr(value, name, item.astype(np.float64))
            elif not is_constant(item):
                _to_double(item, seen)


@contextmanager
def _entered(probe: _Probe) -> Iterator[None]:
    """Let a probe see every call of the engine, but those that it makes itself and those of operations."""
    backpropagate, busy = engine.backpropagate, False

    def entry(seeds: Any, *arguments: Any, **keywords: Any) -> Any:
        nonlocal busy
        if not busy:
            busy = True
            try:
                targets = keywords.get("targets", arguments[3] if len(arguments) > 3 else frozenset())
                probe.see(seeds, targets)
                return backpropagate(seeds, *arguments, **keywords)
            finally:
                busy = False
        return backpropagate(seeds, *arguments, **keywords)

    engine.backpropagate = entry
    try:
        yield
    finally:
        engine.backpropagate = backpropagate
