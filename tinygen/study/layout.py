"""Boxes in layers: the drawing of a graph that flows one way (Sugiyama, Tagawa and Toda 1981).

1. A box stands one layer above the lowest that needs it, so that all arrows point down and none is longer than it must.
2. An arrow that passes layers gets a point in each of them, which takes part in the next steps as a narrow box.
3. In each layer boxes are ordered by the mean place of their neighbours, which leaves few crossings.
4. Each box then comes as near to the mean of its neighbours, those below and those above in turn, as the order and the
   gaps allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
POINT = 10.0  # width of a point on an arrow


@dataclass(frozen=True)
class Layout:
    """Where boxes stand: x of their middles, and the number of their layer; arrows as paths through (x, layer)."""

    x: list[float]
    layer: list[int]
    paths: list[list[tuple[float, int]]]
    width: float
    layers: int


def lay_out(sources: Sequence[Sequence[int]], width: float, gap: float) -> Layout:
    """The layout of boxes `width` wide. sources: for each box the numbers of those that arrows come from; no circle."""
    layer = _layers(sources)
    boxes, count = len(sources), max(layer, default=-1) + 1
    chains, layer, widths = _with_points(sources, layer, width)
    above: list[list[int]] = [[] for _ in layer]
    below: list[list[int]] = [[] for _ in layer]
    for chain in chains:
        for upper, lower in pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    rows = [[node for node, at in enumerate(layer) if at == number] for number in range(count)]
    _order(rows, above, below)
    x = _places(rows, above, below, widths, gap)
    left = min((x[node] - widths[node] / 2 for node in range(len(x))), default=0.0)
    right = max((x[node] + widths[node] / 2 for node in range(len(x))), default=0.0)
    x = [place - left for place in x]
    paths = [[(x[node], layer[node]) for node in chain] for chain in chains]
    return Layout(x[:boxes], layer[:boxes], paths, right - left, count)


def _layers(sources: Sequence[Sequence[int]]) -> list[int]:
    """The layer of each box, 0 at the top."""
    users: list[list[int]] = [[] for _ in sources]
    for box, froms in enumerate(sources):
        for source in froms:
            users[source].append(box)
    missing = [len(box_users) for box_users in users]
    ready = [box for box, count in enumerate(missing) if count == 0]
    up = [0] * len(sources)  # layers above the lowest
    while ready:
        box = ready.pop()
        for source in sources[box]:
            up[source] = max(up[source], up[box] + 1)
            missing[source] -= 1
            if missing[source] == 0:
                ready.append(source)
    top = max(up, default=0)
    return [top - height for height in up]


def _with_points(
    sources: Sequence[Sequence[int]], layer: list[int], width: float
) -> tuple[list[list[int]], list[int], list[float]]:
    """Each arrow as a chain of boxes and points, and the layers and widths of both."""
    layer, widths = list(layer), [width] * len(layer)
    chains = []
    for box, froms in enumerate(sources):
        for source in froms:
            chain = [source]
            for between in range(layer[source] + 1, layer[box]):
                chain.append(len(layer))
                layer.append(between)
                widths.append(POINT)
            chains.append([*chain, box])
    return chains, layer, widths


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Order each row by the mean place of the neighbours above, then of those below, and so on."""
    for sweep in range(SWEEPS):
        place = {node: at - (len(row) - 1) / 2 for row in rows for at, node in enumerate(row)}
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            neighbours = above if down else below
            row.sort(key=lambda node: _mean([place[other] for other in neighbours[node]], place[node]))
            for at, node in enumerate(row):
                place[node] = at - (len(row) - 1) / 2


def _places(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], widths: list[float], gap: float
) -> list[float]:
    x = [0.0] * len(widths)
    for row in rows:
        for node, place in zip(row, _apart([0.0] * len(row), [widths[node] for node in row], gap)):
            x[node] = place
    for sweep in range(SWEEPS):
        up = sweep % 2 == 0  # the last sweep goes down, so that what has one source stands right below it
        neighbours = below if up else above
        for row in reversed(rows) if up else rows:
            wished = [_mean([x[other] for other in neighbours[node]], x[node]) for node in row]
            for node, place in zip(row, _apart(wished, [widths[node] for node in row], gap)):
                x[node] = place
    return x


def _apart(wished: list[float], widths: list[float], gap: float) -> list[float]:
    """The places nearest to those wished for, in least squares, at which boxes in this order do not touch.

    With the distances that must be taken off, this is a regression on rising numbers: neighbours that fall are pooled.
    """
    offset, offsets = 0.0, []
    for at, box in enumerate(widths):
        offset += (widths[at - 1] + box) / 2 + gap if at else 0.0
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # (mean, how many)
    for value in (w - o for w, o in zip(wished, offsets)):
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + o for mean, o in zip(means, offsets)]


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
