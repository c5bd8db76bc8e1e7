"""Impulse defects: single wrong pixels, found as the extremes of their surroundings and replaced by medians.

Values of a channel are looked at on their own: salt and pepper seldom fall on all three at once.
"""

from __future__ import annotations

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation


def windows(image: Array, at: tuple[Array, Array, Array], radius: int) -> Array:
    """The values around m places of (c, h, w), mirrored at the border: (m, (2r + 1)²)."""
    xp = backend.of(image).xp
    wide = xp.pad(image, [(0, 0), (radius, radius), (radius, radius)], mode="symmetric")
    step = xp.arange(2 * radius + 1)
    channel, row, column = (index[:, None, None] for index in at)
    return wide[channel, row + step[:, None], column + step].reshape(-1, (2 * radius + 1) ** 2)


def _is_extreme(image: Array) -> Array:
    """True where a value is the least or largest of its 3×3 window: (c, h, w) bool."""
    xp = backend.of(image).xp
    wide = xp.pad(image, [(0, 0), (1, 1), (1, 1)], mode="symmetric")
    least = xp.minimum(xp.minimum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
    largest = xp.maximum(xp.maximum(wide[:, :-2], wide[:, 1:-1]), wide[:, 2:])
    least = xp.minimum(xp.minimum(least[..., :-2], least[..., 1:-1]), least[..., 2:])
    largest = xp.maximum(xp.maximum(largest[..., :-2], largest[..., 1:-1]), largest[..., 2:])
    return (image <= least) | (image >= largest)


@equation(
    r"p \in D \iff \lnot(z_{\min} < x_p < z_{\max}) \,\land\, |x_p - z_{\mathrm{med}}| > \tau \text{ in } W_r(p), \quad"
    r" r = \min\{r \le R : z_{\min} < z_{\mathrm{med}} < z_{\max}\} \text{ or } R",
    source="Hwang and Haddad 1995, levels A and B of the adaptive median filter; τ spares the peaks of textures",
)
def find_impulses(image: Array, largest: int, threshold: float) -> Array:
    """Which values are impulses: extremes of the smallest window around them whose median is not itself an extreme.

    Where no window up to the largest is such, as on a flat ground, the largest decides by τ alone.
    image: (c, h, w). largest: 2R + 1, the side of the largest window, odd. threshold: τ. Returns (c, h, w) bool.
    """
    xp = backend.of(image).xp
    found = xp.zeros(image.shape, bool)
    # What is no extreme of its 3×3 window is none of a larger one.
    at = xp.nonzero(_is_extreme(image))
    for radius in range(1, largest // 2 + 1):
        if not at[0].size:
            break
        value = image[at]
        ordered = xp.sort(windows(image, at, radius), axis=1)
        least, median, most = ordered[:, 0], ordered[:, ordered.shape[1] // 2], ordered[:, -1]
        decided = (least < median) & (median < most)
        last = radius == largest // 2
        extreme = (value <= least) | (value >= most) | ~decided
        found[at] = (decided | last) & extreme & (xp.abs(value - median) > threshold)
        at = tuple(index[~decided] for index in at)
    return found


@equation(
    r"\hat x_p = \operatorname{med} \{ x_q : q \in W_1(p) \setminus D \}, \quad"
    r" D \leftarrow D \setminus \{ p : W_1(p) \not\subset D \}, \text{ again until } D = \varnothing",
    source="Wang and Zhang 1999, Progressive switching median filter: filled pixels help to fill the next",
)
def fill_by_medians(image: Array, defects: Array) -> Array:
    """The image with its defects filled, from their edges inwards, by the median of what is sound in the 3×3 window.

    image: (c, h, w). defects: (c, h, w) bool, not True throughout a channel. All other values stay as they are.
    Between the two middle ones of an even number of values stands their mean.
    """
    xp = backend.of(image).xp
    result, sound = image.copy(), ~defects
    step = xp.arange(3)
    at = xp.nonzero(defects)
    while at[0].size:
        channel, row, column = (index[:, None, None] for index in at)
        border = [(0, 0), (1, 1), (1, 1)]
        around = (channel, row + step[:, None], column + step)
        usable = xp.pad(sound, border, mode="constant")[around].reshape(-1, 9)
        values = xp.pad(result, border, mode="constant")[around].reshape(-1, 9)
        ordered = xp.sort(xp.where(usable, values, xp.inf), axis=1)  # the sound ones come first
        count = xp.sum(usable, axis=1)
        middle = xp.stack([xp.maximum(count - 1, 0) // 2, count // 2], axis=1)
        median = xp.mean(xp.take_along_axis(ordered, middle, axis=1), axis=1)

        can = count > 0
        filled = tuple(index[can] for index in at)
        result[filled] = median[can]
        sound[filled] = True
        at = tuple(index[~can] for index in at)
    return result
