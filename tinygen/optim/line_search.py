"""A step length that fulfils the strong Wolfe conditions, for LBFGS.

Along x + t·d let φ(t) be the loss and φ'(t) its slope. Wanted is a t with

    φ(t) ≤ φ(0) + c₁ t φ'(0)     (it goes down enough)     |φ'(t)| ≤ c₂ |φ'(0)|     (and is flat enough there)

Source: Nocedal and Wright 2006, algorithms 3.5 (bracket) and 3.6 (zoom), with the interpolation and the safeguards of
minFunc (Schmidt 2005), which PyTorch's search has as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

C1, C2 = 1e-4, 0.9


@dataclass(frozen=True)
class Point:
    """A point on the line: its place, loss, slope along the line, and gradient."""

    t: float
    loss: float
    slope: float
    gradient: Any


def strong_wolfe(
    at: Callable[[float], Point], t: float, start: Point, reach: float, tolerance: float, limit: int
) -> tuple[Point, int]:
    """The point found, and how often `at` was called.

    t: the first length to try; start: the point at 0; reach: the largest |d|; tolerance: the zoom ends where the
    bracket times the reach is smaller; limit: of the lengths tried after the first.
    """
    now, before, tried = at(t), start, 0
    low, high = start, now
    while tried < limit:  # ever further, until the conditions hold or a point that fulfils them has been passed
        if now.loss > start.loss + C1 * now.t * start.slope or (tried > 1 and now.loss >= before.loss):
            low, high = _ordered(before, now)
            break
        if abs(now.slope) <= -C2 * start.slope:
            return now, tried + 1
        if now.slope >= 0:
            low, high = _ordered(before, now)
            break
        t = _cubic_minimum(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
        before, now = now, at(t)
        tried += 1
    else:
        low, high = _ordered(start, now)

    near_edge = False  # the last length tried was close to an edge of the bracket
    while tried < limit and abs(high.t - low.t) * reach >= tolerance:
        left, right = min(low.t, high.t), max(low.t, high.t)
        t = _cubic_minimum(low, high, left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if near_edge or t >= right or t <= left:  # no progress: away from the edge
                t = right - margin if right - t < t - left else left + margin
                near_edge = False
            else:
                near_edge = True
        else:
            near_edge = False
        now = at(t)
        tried += 1
        if now.loss > start.loss + C1 * t * start.slope or now.loss >= low.loss:
            low, high = _ordered(low, now)
        else:
            if abs(now.slope) <= -C2 * start.slope:
                return now, tried + 1
            low, high = now, low if now.slope * (high.t - low.t) >= 0 else high
    return low, tried + 1


def _ordered(a: Point, b: Point) -> tuple[Point, Point]:
    """The one with the lower loss first."""
    return (a, b) if a.loss <= b.loss else (b, a)


def _cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic with the losses and slopes of both points has its minimum, held within [low, high]; the middle
    where it has none. Source: Nocedal and Wright 2006, eq. 3.59."""
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    steepness = b.slope - a.slope + 2 * d2
    if steepness == 0:
        return (low + high) / 2
    return min(max(b.t - (b.t - a.t) * (b.slope + d2 - d1) / steepness, low), high)
