"""Watching an algorithm at work: which shapes come about on which line, and what the tape of a training step holds.

    with watch(files, algorithm) as seen:
        next(algorithm.fit(batches))
    seen.shapes[path, 95]       # {"fake": ["(2, 1, 28, 28)"]}
    seen.backward_passes[0]     # the recorded operations that a loss came from

Shapes are looked up in the local variables by Python's own tracing, in the frames of `files` alone, so that they are
found for arrays as for tensors. The tape is recorded where every operation passes, `Function.__call__`, which is
replaced while one watches: the library itself has nothing to do with it, and costs nothing more when nobody does.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tinygen.autograd import engine
from tinygen.autograd.function import Function
from tinygen.nn import Module
from tinygen.study import source

SHAPES_A_NAME = 3  # that are told apart, where a line is run with different ones
PASSES = 6  # backward passes that are kept, one of each line


class Enough(BaseException):
    """The time is up. No Exception: an algorithm that handles those must not go on."""


@dataclass(eq=False, slots=True)
class Operation:
    """One node of the tape."""

    function: type[Function]
    name: str
    inputs: tuple[str, ...]  # shapes
    outputs: tuple[str, ...]
    sources: list[Operation]  # that made those of its inputs that need a gradient
    leaves: list[str]  # names of the parameters among its inputs
    frame: FrameType | None  # of the innermost call in the watched files
    path: str  # its file
    line: int
    owner: str  # the name of that function: "Generator.forward"
    layers: list[tuple[FrameType, Module]]  # the calls of modules that it happened in, outermost first
    is_gradient: bool  # made by a backward that is differentiated itself


@dataclass(eq=False, slots=True)
class BackwardPass:
    """A walk back over the tape."""

    roots: list[Operation]  # what made the losses
    path: str
    line: int
    owner: str


@dataclass
class Seen:
    """What was seen."""

    shapes: dict[tuple[str, int], dict[str, list[str]]] = field(default_factory=dict)
    backward_passes: list[BackwardPass] = field(default_factory=list)
    modules: dict[int, str] = field(default_factory=dict)  # by id, the names of the algorithm's layers
    remarks: list[str] = field(default_factory=list)  # what could not be seen, and why

    def name_of(self, module: Module) -> str:
        return self.modules.get(id(module), "")


@contextmanager
def watch(files: Sequence[str], algorithm: Any, seconds: float = 2.0, seen: Seen | None = None) -> Iterator[Seen]:
    """Watch what happens in the block, in the code of `files`; after `seconds` of computing it is left, silently.

    seen: where what is seen is added; None for a new one.
    """
    seen = seen or Seen()
    deadline = time.process_time() + seconds
    lines = _Lines(files, seen, deadline)
    tape = _Tape(set(files), seen, algorithm, deadline)
    call, walk, before = Function.__call__, engine.backpropagate, sys.gettrace()
    Function.__call__ = tape.recording(call)  # type: ignore[method-assign]
    engine.backpropagate = tape.walking(walk)
    sys.settrace(lines.enter)
    try:
        yield seen
    except Enough:
        pass
    finally:
        sys.settrace(before)
        engine.backpropagate = walk
        Function.__call__ = call  # type: ignore[method-assign]


# ---------------------------------------------------------------- shapes


class _Lines:
    """Python's trace function: after each statement, the shapes of the variables that it assigns."""

    def __init__(self, files: Sequence[str], seen: Seen, deadline: float) -> None:
        self.seen, self.deadline = seen, deadline
        self.statements = {path: _statements(source.read(path)) for path in files}
        self.at: dict[FrameType, tuple[int, tuple[str, ...]]] = {}  # the statement that each frame is in

    def enter(self, frame: FrameType, event: str, argument: Any) -> Callable | None:
        path = frame.f_code.co_filename
        if path not in self.statements or frame.f_code.co_name == "<module>":
            return None
        code = frame.f_code
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        line = self.statements[path].get(-code.co_firstlineno, (code.co_firstlineno, ()))[0]
        self.note(path, line, {name: frame.f_locals.get(name) for name in arguments if name != "self"})
        return self.step

    def step(self, frame: FrameType, event: str, argument: Any) -> Callable:
        if time.process_time() > self.deadline:
            raise Enough
        if event not in ("line", "return"):
            return self.step
        path = frame.f_code.co_filename
        line, names = self.at.get(frame, (0, ()))
        now = self.statements[path].get(frame.f_lineno, (frame.f_lineno, ()))
        if line and (now[0] != line or event == "return"):
            self.note(path, line, {name: _look_up(frame, name) for name in names})
        if event == "return":
            self.at.pop(frame, None)
            if names == ("return",):
                self.note(path, line, {"returns": argument})
        else:
            self.at[frame] = now
        return self.step

    def note(self, path: str, line: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            shape = shape_of(value)
            if shape:
                known = self.seen.shapes.setdefault((path, line), {}).setdefault(name, [])
                if shape not in known and len(known) < SHAPES_A_NAME:
                    known.append(shape)


def shape_of(value: Any) -> str:
    """The shape of a tensor or array, of those in a short list or tuple too; "" for anything else."""
    if isinstance(value, (list, tuple)) and 0 < len(value) <= 4:
        shapes = [shape_of(item) for item in value]
        return ", ".join(shapes) if all(shapes) else ""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not hasattr(value, "dtype") or getattr(value, "ndim", None) != len(shape):
        return ""
    return f"({', '.join(map(str, shape))})" if shape else "a number"


def _look_up(frame: FrameType, name: str) -> Any:
    """A local variable, or an attribute of self."""
    owner, _, attribute = name.rpartition(".")
    if owner:
        return vars(frame.f_locals[owner]).get(attribute) if hasattr(frame.f_locals.get(owner), "__dict__") else None
    return frame.f_locals.get(name)


def _statements(text: str) -> dict[int, tuple[int, tuple[str, ...]]]:
    """By line, the first line of the innermost statement there and the names that it assigns. A definition stands
    under minus the line that its code begins on, which is that of its first decorator."""
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    for node in ast.walk(ast.parse(text)):  # outer statements first, inner ones over them
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[-min([node.lineno, *(d.lineno for d in node.decorator_list)])] = (node.lineno, ())
        elif isinstance(node, ast.Return):
            _put(found, node, ("return",))
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            _put(found, node, tuple(name for target in targets for name in _names(target)))
        elif isinstance(node, (ast.Expr, ast.Raise, ast.Assert)):
            _put(found, node, ())
        elif isinstance(node, ast.For):
            found[node.lineno] = (node.lineno, tuple(_names(node.target)))
    return found


def _put(found: dict, node: ast.stmt, names: tuple[str, ...]) -> None:
    for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        found[line] = (node.lineno, names)


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        yield f"{target.value.id}.{target.attr}"
    elif isinstance(target, ast.Starred):
        yield from _names(target.value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        for item in target.elts:
            yield from _names(item)


# ---------------------------------------------------------------- the tape


def place_in(files: Collection[str]) -> tuple[str, int]:
    """Where in `files` the program is: path and line of the innermost call; ("", 0) where it is in none of them."""
    frame = _frame_in(files)
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)


def _frame_in(files: Collection[str]) -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (frame.f_code.co_filename not in files or frame.f_code.co_name[0] == "<"):
        frame = frame.f_back
    return frame


class _Tape:
    """Keeps an Operation for each node, by the node's number in the order of creation."""

    def __init__(self, files: set[str], seen: Seen, algorithm: Any, deadline: float) -> None:
        self.files, self.seen, self.deadline = files, seen, deadline
        self.operations: dict[int, Operation] = {}
        self.walks = 0  # that go on now
        self.leaves: dict[int, str] = {}
        self.kept: list[Any] = []  # an id belongs to its object only while that lives
        for name, value in vars(algorithm).items():
            if isinstance(value, Module):
                self.kept.append(value)
                for path, module in value.named_modules(name):
                    seen.modules.setdefault(id(module), path)
                for path, parameter in value.named_parameters():
                    self.leaves.setdefault(id(parameter), f"{name}.{path}")

    def recording(self, call: Callable) -> Callable:
        def record(function: Function, *inputs: Any) -> Any:
            result = call(function, *inputs)
            if function.sequence >= 0:
                self.operations[function.sequence] = self.operation(function, inputs, result)
            if time.process_time() > self.deadline:
                raise Enough
            return result

        return record

    def operation(self, function: Function, inputs: tuple, result: Any) -> Operation:
        edges = [edge[0] for edge in function.edges if edge is not None]
        made = (self.operations.get(getattr(source, "sequence", -1)) for source in edges)
        frame, path, line, owner, layers = self.place()
        return Operation(
            function=type(function), name=function.name, inputs=tuple(shape_of(x) for x in inputs if shape_of(x)),
            outputs=tuple(shape_of(y) for y in (result if isinstance(result, tuple) else (result,))),
            sources=list(dict.fromkeys(operation for operation in made if operation is not None)),
            leaves=[self.leaves[id(leaf)] for leaf in edges if id(leaf) in self.leaves],
            frame=frame, path=path, line=line, owner=owner, layers=layers, is_gradient=self.walks > 0,
        )  # fmt: skip

    def place(self) -> tuple[FrameType | None, str, int, str, list[tuple[FrameType, Module]]]:
        """Where in the watched files the program is, and in which modules."""
        innermost, layers = _frame_in(self.files), []
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if frame.f_code is _CALL:
                layers.append((frame, frame.f_locals["self"]))
            frame = frame.f_back
        if innermost is None:
            return None, "", 0, "", layers[::-1]
        code = innermost.f_code
        return innermost, code.co_filename, innermost.f_lineno, code.co_qualname, layers[::-1]

    def walking(self, walk: Callable) -> Callable:
        def backpropagate(seeds: Any, *arguments: Any, **options: Any) -> Any:
            roots = [self.operations[y.node.sequence] for y, _ in seeds
                     if y.node is not None and y.node.sequence in self.operations]  # fmt: skip
            _, path, line, owner, _ = self.place()
            known = [(walk.path, walk.line) for walk in self.seen.backward_passes]
            if roots and len(known) < PASSES and (path, line) not in known:
                self.seen.backward_passes.append(BackwardPass(roots, path, line, owner))
            self.walks += 1
            try:
                return walk(seeds, *arguments, **options)
            finally:
                self.walks -= 1

        return backpropagate


_CALL = Module.__call__.__code__
