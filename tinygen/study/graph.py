"""The computation graph of one backward pass as a picture: what the loss is made of, down to the parameters.

The tape has a node for each operation. What happens within one layer is drawn as one box, and where that is still too
much for one look, what happens on one line, then in one function. Data flows down to the loss, gradients flow up.
Boxes that would lie on a circle, since a loop comes back to its line, become one. See `layout` for the drawing.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from html import escape
from types import FrameType

from tinygen.nn import Module, ModuleDict, ModuleList, Sequential
from tinygen.study.layout import Layout, lay_out
from tinygen.study.rules import rule_of
from tinygen.study.trace import BackwardPass, Operation, Seen

AT_ONE_LOOK = 48  # boxes
CONTAINERS = (Sequential, ModuleList, ModuleDict)
WIDTH, HEIGHT = 208, 42  # of a box, in pixels
ACROSS, DOWN = 22, 30  # gaps between boxes
MARGIN = 14
NO_LINKS: Mapping[str, str] = {}
STYLE = """<style>
.graph { background: #fffdf9; color-scheme: light dark; }
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #23211c; }
.name { font-weight: bold; } .shape { text-anchor: end; } .place { fill: #6d675b; font-size: 10px; }
rect { fill: #fffdf9; stroke: #a39b8a; } .learns rect { fill: #e8eef6; } .loss rect { fill: #f8e6dd; }
.edge { fill: none; stroke: #a39b8a; }
@media (prefers-color-scheme: dark) {
  .graph { background: #191a1c; } text { fill: #dcd8ce; } .place { fill: #9b9587; }
  rect { fill: #191a1c; stroke: #77725f; } .learns rect { fill: #26303d; } .loss rect { fill: #40302a; }
}
</style>"""  # of a picture that stands alone; a page has its own


@dataclass(eq=False)
class Box:
    """Operations that are drawn as one."""

    operations: list[Operation] = field(default_factory=list)
    title: str = ""
    place: str = ""  # the layer, or the function that it is called in
    shape: str = ""
    sources: list[Box] = field(default_factory=list)

    @property
    def parameters(self) -> list[str]:
        return list(dict.fromkeys(leaf for operation in self.operations for leaf in operation.leaves))


def boxes_of(walk: BackwardPass, seen: Seen) -> list[Box]:
    """The boxes of a backward pass, in the order of their creation: as fine as can be taken in at one look."""
    operations = _reachable(walk.roots)
    boxes: list[Box] = []
    for key_of in (_by_layer, _by_line, _by_call, _by_function):
        boxes = _grouped(operations, key_of)
        if len(boxes) <= AT_ONE_LOOK:
            break
    for box in boxes:
        _name(box, seen)
    return boxes


def _reachable(roots: list[Operation]) -> list[Operation]:
    """The operations that the roots are made of, oldest first."""
    found = dict.fromkeys(roots)
    stack = list(roots)
    while stack:
        for operation in stack.pop().sources:
            if operation not in found:
                found[operation] = None
                stack.append(operation)
    return _in_order(list(found))


def _in_order(operations: list[Operation]) -> list[Operation]:
    """Sources before what is made of them: a walk in depth, without recursion."""
    done: dict[Operation, None] = {}
    for start in operations:
        stack = [(start, False)]
        while stack:
            operation, ready = stack.pop()
            if ready:
                done[operation] = None
            elif operation not in done:
                stack.append((operation, True))
                stack += [(source, False) for source in reversed(operation.sources) if source not in done]
    return list(done)


# ---------------------------------------------------------------- which operations are one box


def _by_layer(operation: Operation) -> Hashable:
    """Each layer of tinygen.nn, each time it is called; other operations alone; a gradient as a whole."""
    if operation.is_gradient:
        return "gradient", operation.line
    layer = _layer(operation)
    return layer[0] if layer is not None else operation


def _by_line(operation: Operation) -> Hashable:
    """Each line, each time that its function is called."""
    if operation.is_gradient:
        return "gradient", operation.line
    return operation.frame, operation.line


def _by_call(operation: Operation) -> Hashable:
    return operation.owner, operation.frame


def _by_function(operation: Operation) -> Hashable:
    return operation.owner


def _layer(operation: Operation) -> tuple[FrameType, Module] | None:
    """The outermost call of a layer of tinygen.nn that an operation happened in, None where there is none."""
    for frame, module in operation.layers:
        if type(module).__module__.startswith("tinygen.nn") and not isinstance(module, CONTAINERS):
            return frame, module
    return None


def _grouped(operations: list[Operation], key_of: Callable[[Operation], Hashable]) -> list[Box]:
    """Boxes of the operations with one key; those on a circle are put together."""
    boxes: dict[Hashable, Box] = {}
    place = {operation: at for at, operation in enumerate(operations)}
    of: dict[Operation, Box] = {}
    for operation in operations:
        of[operation] = box = boxes.setdefault(key_of(operation), Box())
        box.operations.append(operation)
    links = {box: {of[s] for o in box.operations for s in o.sources} - {box} for box in boxes.values()}
    merged: dict[Box, Box] = {}
    found = []
    for circle in _circles(list(boxes.values()), links):
        box = Box(sorted((operation for part in circle for operation in part.operations), key=place.__getitem__))
        found.append(box)
        merged.update(dict.fromkeys(circle, box))
    for part, sources in links.items():
        box = merged[part]
        box.sources += [merged[s] for s in sources if merged[s] is not box and merged[s] not in box.sources]
    return found


def _circles(boxes: list[Box], links: dict[Box, set[Box]]) -> list[list[Box]]:
    """The strongly connected parts, sources first (Tarjan 1972), without recursion."""
    number: dict[Box, int] = {}
    low: dict[Box, int] = {}
    waiting: list[Box] = []
    is_waiting: set[Box] = set()
    found: list[list[Box]] = []
    for start in boxes:
        if start in number:
            continue
        work = [(start, iter(links[start]))]
        number[start] = low[start] = len(number)
        waiting.append(start)
        is_waiting.add(start)
        while work:
            box, sources = work[-1]
            for source in sources:
                if source not in number:
                    number[source] = low[source] = len(number)
                    waiting.append(source)
                    is_waiting.add(source)
                    work.append((source, iter(links[source])))
                    break
                if source in is_waiting:
                    low[box] = min(low[box], number[source])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[box])
                if low[box] == number[box]:
                    circle: list[Box] = []
                    while not circle or circle[-1] is not box:
                        circle.append(waiting.pop())
                        is_waiting.discard(circle[-1])
                    found.append(circle[::-1])
    return found


def _name(box: Box, seen: Seen) -> None:
    """What stands in a box: the layer or the operation, where, and the shape of what it makes."""
    last = box.operations[-1]
    layers = {layer[0]: layer[1] for o in box.operations if (layer := _layer(o)) is not None}
    box.place, box.shape = _without_locals(last.owner), ", ".join(last.outputs[:1])
    if last.is_gradient:
        box.title = f"∇ ({len(box.operations)} operations)"
    elif len(layers) == 1 and all(_layer(o) for o in box.operations):
        (module,) = layers.values()
        box.title, box.place = type(module).__name__, seen.name_of(module) or box.place
    elif len({operation.name for operation in box.operations}) == 1:
        box.title = last.name
    else:
        box.title = f"{len(box.operations)} operations"
        if len({(operation.path, operation.line) for operation in box.operations}) == 1:
            box.place = linecache.getline(last.path, last.line).strip() or box.place


# ---------------------------------------------------------------- the picture


def svg(walk: BackwardPass, seen: Seen, links: Mapping[str, str] = NO_LINKS, style: str = "") -> str:
    """The picture. links: by file, what comes before a line's number in a link to it. style: CSS of its own."""
    boxes, roots = boxes_of(walk, seen), set(walk.roots)
    place = {box: at for at, box in enumerate(boxes)}
    layout = lay_out([[place[source] for source in box.sources] for box in boxes], WIDTH, ACROSS)
    width = layout.width + 2 * MARGIN
    height = layout.layers * (HEIGHT + DOWN) - DOWN + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" class="graph">',
        f"<title>{escape(caption(walk))}</title>{style}",
    ]
    parts += [_edge(layout, path) for path in layout.paths]
    parts += [_box(box, layout, at, links, not roots.isdisjoint(box.operations)) for at, box in enumerate(boxes)]
    return "\n".join([*parts, "</svg>"])


def caption(walk: BackwardPass) -> str:
    """Where a backward pass begins, in words."""
    return f"{_without_locals(walk.owner) or 'backward'}, line {walk.line}" if walk.line else "backward"


def _without_locals(name: str) -> str:
    """The name of a function that is defined within another, without Python's mark of that."""
    return name.replace("<locals>.", "")


def _box(box: Box, layout: Layout, at: int, links: Mapping[str, str], is_root: bool) -> str:
    x, y = layout.x[at] + MARGIN, layout.layer[at] * (HEIGHT + DOWN) + MARGIN
    kind = "box loss" if is_root else "box learns" if box.parameters else "box"
    title, place = _short(box.title, 30 - len(box.shape)), _short(box.place, 31, from_the_end=" " not in box.place)
    left, right = x - WIDTH / 2 + 9, x + WIDTH / 2 - 9
    drawn = (
        f"<title>{escape(_tooltip(box))}</title>"
        f'<rect x="{x - WIDTH / 2:.1f}" y="{y:.1f}" width="{WIDTH}" height="{HEIGHT}" rx="3"/>'
        f'<text x="{left:.1f}" y="{y + 17:.1f}" class="name">{escape(title)}</text>'
        f'<text x="{right:.1f}" y="{y + 17:.1f}" class="shape">{escape(box.shape)}</text>'
        f'<text x="{left:.1f}" y="{y + 33:.1f}" class="place">{escape(place)}</text>'
    )
    last = box.operations[-1]
    if last.path in links:
        drawn = f'<a href="{escape(links[last.path])}{last.line}">{drawn}</a>'
    return f'<g class="{kind}">{drawn}</g>'


def _edge(layout: Layout, path: list[tuple[float, int]]) -> str:
    """A curve through the points (x, layer) of a path, from the lower edge of a box to the upper one of another."""
    points = [(x + MARGIN, layer * (HEIGHT + DOWN) + MARGIN) for x, layer in path]
    (x, y), rest = points[0], points[1:]
    drawn = f"M{x:.1f} {y + HEIGHT:.1f}"
    for place, (to_x, to_y) in enumerate(rest):
        from_y = y + HEIGHT
        drawn += f" C{x:.1f} {from_y + DOWN / 2:.1f} {to_x:.1f} {to_y - DOWN / 2:.1f} {to_x:.1f} {to_y:.1f}"
        if place < len(rest) - 1:
            drawn += f" V{to_y + HEIGHT:.1f}"
        x, y = to_x, to_y
    return f'<path class="edge" d="{drawn}"/>'


def _tooltip(box: Box) -> str:
    """The operations of a box with their shapes and derivative rules, and the parameters that it has."""
    lines = [f"{box.title}, {box.place}, line {box.operations[-1].line}"]
    for operation in box.operations[:8]:
        shapes = f"{' '.join(operation.inputs)} → {' '.join(operation.outputs)}"
        lines.append(f"{operation.name}  {shapes}\n    {rule_of(operation.function).text}")
    if len(box.operations) > 8:
        lines.append(f"… and {len(box.operations) - 8} more")
    if box.parameters:
        lines.append("learns: " + ", ".join(box.parameters[:6]))
    return "\n".join(lines)


def _short(text: str, letters: int, from_the_end: bool = False) -> str:
    if len(text) <= letters:
        return text
    return "…" + text[1 - letters :] if from_the_end else text[: letters - 1] + "…"


def operations_in(walks: list[BackwardPass]) -> list[tuple[type, str, int]]:
    """The kinds of operations in backward passes: the class, its name, how many; in order of first appearance."""
    counts: dict[type, int] = {}
    names: dict[type, str] = {}
    for operation in dict.fromkeys(o for walk in walks for o in _reachable(walk.roots)):
        counts[operation.function] = counts.get(operation.function, 0) + 1
        names[operation.function] = operation.name
    return [(function, names[function], count) for function, count in counts.items()]
