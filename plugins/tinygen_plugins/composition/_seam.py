"""The cheapest seam through what two images share: where they differ least, found by dynamic programming.

The seam runs from one side of the canvas to the other, between the image on the left and the one on the right; where
one lies above the other, everything is done on the transposed canvas.
"""

from __future__ import annotations

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

FINEST = 512  # blocks along the longer side, among which a rectangle is looked for


@equation(
    r"E_{ij} = e_{ij} + \min(E_{i-1,j-1}, E_{i-1,j}, E_{i-1,j+1}), \quad E_{1j} = e_{1j}",
    source="Efros and Freeman 2001, section 2.1: the minimum error boundary cut",
)
def path_costs(costs: Array) -> Array:
    """The cost of the cheapest path from the first row to each place: (h, w) gives (h, w)."""
    xp = backend.of(costs).xp
    total = costs.copy()
    for row in range(1, len(costs)):
        before = total[row - 1]
        least = before.copy()
        least[1:] = xp.minimum(least[1:], before[:-1])
        least[:-1] = xp.minimum(least[:-1], before[1:])
        total[row] += least
    return total


def cheapest_path(costs: Array) -> list[int]:
    """The column in each row of the path from top to bottom with the least sum, a step aside at most from row to row.

    costs: (h, w). Traced back on the host, from the cheapest end upwards.
    """
    total = backend.of(costs).to_host(path_costs(costs))
    column = int(total[-1].argmin())
    columns = [column]
    for row in reversed(total[:-1]):
        low = max(column - 1, 0)
        column = low + int(row[low : column + 2].argmin())
        columns.append(column)
    return columns[::-1]


def seam_mask(first: Array, second: Array, first_covered: Array, second_covered: Array) -> Array:
    """Where the second image is taken: (h, w) bool, all that it alone covers, and its side of the cheapest seam.

    first, second: (c, h, w) on one canvas. first_covered, second_covered: (h, w) bool, where each has pixels.
    The cost of a pixel that both cover is the squared difference of the two; a path through what one alone covers
    costs most, as that pixel is no choice and the seam would follow the edge of the image.
    """
    where = backend.of(first)
    xp = where.xp
    both, either = first_covered & second_covered, first_covered | second_covered
    difference = first - second
    costs = xp.where(both, xp.sum(difference * difference, axis=0), 0.0)
    costs = xp.where(either & ~both, xp.max(costs) + 1.0, costs + 1e-4)  # the last: of equal paths the shorter one

    right, down = (b - a for a, b in zip(_centre(first_covered), _centre(second_covered)))
    beside = abs(right) >= abs(down)
    path = where.asarray(cheapest_path(costs if beside else costs.T))
    along = xp.arange(costs.shape[1] if beside else costs.shape[0])
    after = along >= path[:, None]  # (h, w) or (w, h)
    after = after if beside else after.T
    after = after if (right if beside else down) >= 0 else ~after
    return second_covered & (after | ~first_covered)


def _centre(covered: Array) -> tuple[float, float]:
    """The mean (x, y) of the covered pixels."""
    where = backend.of(covered)
    xp = where.xp
    height, width = covered.shape
    region = covered.astype("float64")
    total = xp.maximum(xp.sum(region), 1.0)
    x = where.scalar(xp.sum(xp.sum(region, axis=0) * xp.arange(width)) / total)
    y = where.scalar(xp.sum(xp.sum(region, axis=1) * xp.arange(height)) / total)
    return x, y


def largest_rectangle(covered: Array) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest rectangle of covered pixels, by heights of columns and a stack.

    covered: (h, w) bool. On the host. Above 512 pixels a side it is made of blocks, and so only nearly the largest.
    """
    block = -(-max(covered.shape) // FINEST)
    height, width = (length // block for length in covered.shape)
    blocks = covered[: height * block, : width * block].reshape(height, block, width, block)
    blocks = backend.of(covered).xp.all(blocks, axis=(1, 3))
    top, left, height, width = _largest(backend.of(covered).to_host(blocks).tolist())
    return top * block, left * block, height * block, width * block


def _largest(rows: list[list[bool]]) -> tuple[int, int, int, int]:
    """`largest_rectangle` of a list of rows: a column's height is how far it reaches up without a gap."""
    heights = [0] * len(rows[0])
    best = (0, 0, 0, 0)
    for bottom, row in enumerate(rows, 1):
        heights = [height + 1 if inside else 0 for height, inside in zip(heights, row)]
        open_: list[tuple[int, int]] = []  # (left, height) of rectangles that may go on, lower ones first
        for right, height in enumerate([*heights, 0]):
            left = right
            while open_ and open_[-1][1] >= height:
                left, tall = open_.pop()
                if tall * (right - left) > best[2] * best[3]:
                    best = (bottom - tall, left, tall, right - left)
            open_.append((left, height))
    return best
