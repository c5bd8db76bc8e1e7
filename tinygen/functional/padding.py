"""What surrounds an image: pad, and the cropping that is its opposite.

Margins are (before, after) for each dimension that has some, counted from the last one backwards. A negative margin
crops, so the adjoint of padding with zeros is padding by the same margins with the other sign.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.shape import whole

Margins = tuple[tuple[int, int], ...]
MODES = ("constant", "reflect", "replicate", "circular")


class Pad(Function):
    """A number around x."""

    def __init__(self, margins: Margins, value: float) -> None:
        self.margins, self.value = margins, value

    def forward(self, x: Array) -> Array:
        y = of(x).xp.full_like(x, self.value, shape=_padded(x.shape, self.margins))
        y[_inside(y.ndim, self.margins)] = x[_inside(x.ndim, _opposite(self.margins))]
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return Pad(_opposite(self.margins), 0.0)(gy)


class Surround(Function):
    """x's own elements around x: along one dimension after the other, each margin is a copy of a part of the result."""

    def __init__(self, margins: Margins, mode: str) -> None:
        self.margins, self.mode = margins, mode

    def forward(self, x: Array) -> Array:
        y = of(x).xp.empty_like(x, shape=_padded(x.shape, self.margins))
        y[_inside(y.ndim, self.margins)] = x
        for margin, source in _copies(y.shape, self.margins, self.mode):
            y[margin] = y[source]
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return Surrounded(self.margins, self.mode)(gy)


class Surrounded(Function):
    """The adjoint of Surround: each margin is added to what it was copied from; the dimensions' order is all one."""

    def __init__(self, margins: Margins, mode: str) -> None:
        self.margins, self.mode = margins, mode

    def forward(self, y: Array) -> Array:
        y = y.copy(order="K")
        for margin, source in _copies(y.shape, self.margins, self.mode):
            part, given = y[source], y[margin]
            for dim, size in enumerate(part.shape):
                if size != given.shape[dim]:  # the one edge that "replicate" has repeated
                    given = given.sum(axis=dim, keepdims=True)
            part += given
        return y[_inside(y.ndim, self.margins)]

    def backward(self, gx: Tensor) -> Tensor:
        return Surround(self.margins, self.mode)(gx)


def _opposite(margins: Margins) -> Margins:
    return tuple((-before, -after) for before, after in margins)


def _padded(shape: tuple[int, ...], margins: Margins) -> tuple[int, ...]:
    """The shape with its margins."""
    new = list(shape)
    for i, (before, after) in enumerate(margins):
        new[-1 - i] += before + after
    return tuple(new)


def _inside(ndim: int, margins: Margins) -> tuple[slice, ...]:
    """Where x lies in a result with margins; a negative one takes nothing away."""
    ends = [slice(max(before, 0), -after if after > 0 else None) for before, after in reversed(margins)]
    return (slice(None),) * (ndim - len(margins)) + tuple(ends)


def _copies(shape: tuple[int, ...], margins: Margins, mode: str) -> list[tuple[tuple, tuple]]:
    """(margin, source) for each margin of a result of this shape, as indices into it, in the order of copying."""
    copies = []
    for i, (before, after) in enumerate(margins):
        dim = len(shape) - 1 - i
        end = shape[dim] - after  # x lies in [before, end)
        left, right = slice(0, before), slice(end, end + after)
        if mode == "reflect":  # x₂ x₁ x₀ x₁ x₂ x₁ x₀: the edge itself is not repeated
            sources = slice(2 * before, before, -1), slice(end - 2, end - 2 - after if end - 2 >= after else None, -1)
        elif mode == "replicate":
            sources = slice(before, before + 1), slice(end - 1, end)
        else:
            sources = slice(end - before, end), slice(before, before + after)
        for size, margin, source in zip((before, after), (left, right), sources):
            if size:
                copies.append(((slice(None),) * dim + (margin,), (slice(None),) * dim + (source,)))
    return copies


# ---------------------------------------------------------------- public


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """x with margins: `pad` is (before, after) of the last dimension, then of the one before it, and so on.

        constant    v v [a b c d] v v           reflect     c b [a b c d] c b       (less than the size)
        replicate   a a [a b c d] d d           circular    c d [a b c d] a b       (at most the size)

    A negative margin crops: after the others are made, and with "circular" before.
    gx is the adjoint: each element of x gets the sum of gy over all places that show it.

    ValueError for margins that do not come in pairs, more of them than x has dimensions, margins that the mode cannot
    fill or that crop more than there is, and a value with a mode that shows none.
    """
    margins = _margins(x, pad)
    if mode not in MODES:
        raise ValueError(f'pad: mode must be one of {", ".join(MODES)}, got "{mode}"')
    if mode == "constant":
        return Pad(margins, float(value))(x) if any(map(any, margins)) else x
    if value:
        raise ValueError(f'pad: mode "{mode}" shows no value, got {value}; use mode="constant"')
    grown = tuple((max(before, 0), max(after, 0)) for before, after in margins)
    cropped = tuple((min(before, 0), min(after, 0)) for before, after in margins)
    if mode == "circular":
        x = Pad(cropped, 0.0)(x) if any(map(any, cropped)) else x
    for i, pair in enumerate(grown):
        size = x.shape[-1 - i]
        most = {"reflect": size - 1, "replicate": max(pair) if size else 0, "circular": size}[mode]
        if max(pair) > max(most, 0):
            raise ValueError(
                f'pad: mode "{mode}" makes margins of at most {max(most, 0)} from the {size} elements of '
                f"dim {x.ndim - 1 - i}, got {pair}: x {x.shape}"
            )
    y = Surround(grown, mode)(x) if any(map(any, grown)) else x
    return Pad(cropped, 0.0)(y) if mode != "circular" and any(map(any, cropped)) else y


def _margins(x: Tensor, pad: Sequence[int]) -> Margins:
    numbers = [whole("pad", "a margin", p) for p in pad]
    if len(numbers) % 2 or len(numbers) > 2 * x.ndim:
        raise ValueError(f"pad: margins come in pairs, one for each of at most {x.ndim} dimensions, got {tuple(pad)}")
    margins = tuple(zip(numbers[::2], numbers[1::2]))
    for i, (before, after) in enumerate(margins):
        if x.shape[-1 - i] + min(before, 0) + min(after, 0) < 0:
            raise ValueError(
                f"pad: margins {before, after} crop more than the {x.shape[-1 - i]} elements of dim {x.ndim - 1 - i}: "
                f"x {x.shape}"
            )
    return margins
