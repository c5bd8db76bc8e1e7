"""What is near what: nearest neighbours, which show copies, and the two shares that k of them tell.

Points are rows of features or of pixels, (n, d) arrays of one backend.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.backend import Array, of

ROWS = 250  # points at a time: (ROWS, m) squared distances in float64 stay within tens of megabytes
SAME = 1e-12  # of ‖x‖² + ‖y‖²: below that a squared distance is what rounding leaves of 0


def nearest_neighbours(x: Array, y: Array, k: int = 1) -> tuple[Array, Array]:
    """The k rows of y nearest to each row of x, the nearest first: their distances ‖x_i − y_j‖ and their indices j.

    A sample that is a copy of a training image has the distance 0; compare with the distances of test images.

    x (n, d), y (m, d), k ≤ m. Returns (n, k) float64 and (n, k) int64; of equal distances, any comes first.
    Raises ValueError for arrays of other shapes and for a k that y has not.
    """
    _require_points("nearest_neighbours", x, y)
    if not 1 <= k <= len(y):
        raise ValueError(f"nearest_neighbours: k must be from 1 to the {len(y)} rows of y, got {k}")
    xp, distances, indices = of(x).xp, [], []
    for squares in _squared_distances(x, y):
        near = xp.argpartition(squares, k - 1, axis=1)[:, :k]
        order = xp.argsort(xp.take_along_axis(squares, near, axis=1), axis=1)
        near = xp.take_along_axis(near, order, axis=1)
        distances.append(xp.sqrt(xp.take_along_axis(squares, near, axis=1)))
        indices.append(near)
    return xp.concatenate(distances), xp.concatenate(indices)


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[Array, Array]:
    """The share of generated images that look real, and the share of real ones that are generated:

        precision = 1/M Σ_f f(φ_f, Φ_r),   recall = 1/N Σ_r f(φ_r, Φ_f),
        f(φ, Φ) = 1 if ‖φ − φ'‖ ≤ ‖φ' − NN_k(φ', Φ)‖ for at least one φ' in Φ, else 0,

    NN_k(φ', Φ) the k-th nearest to φ' of the others in Φ: each set is a union of balls that reach that far. A generator
    that gives one good image again and again has precision 1 and recall 0; one that gives noise has both 0. The shares
    depend on the features, on k and on the counts: state them.

    real (N, d), fake (M, d): features. k < N, M. Returns two numbers in [0, 1], float64.
    Raises ValueError for arrays of other shapes, and for sets of k points or fewer.
    Source: Kynkäänniemi et al. 2019, equations 1 and 2.
    """
    _require_points("precision_recall", real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"precision_recall: k must be from 1 to {min(len(real), len(fake)) - 1}, fewer than points, got {k}"
        )
    return _covered(fake, real, k), _covered(real, fake, k)


def _covered(points: Array, others: Array, k: int) -> Array:
    """The share of the points that lie within the ball of one of the others."""
    xp = of(points).xp
    reach = nearest_neighbours(others, others, k + 1)[0][:, -1]  # each is its own nearest, at 0
    inside = [(xp.sqrt(squares) <= reach).any(axis=1) for squares in _squared_distances(points, others)]
    return xp.concatenate(inside).astype("float64").mean()


def _squared_distances(x: Array, y: Array) -> Iterator[Array]:
    """‖x_i − y_j‖² for some rows of x after the other, (rows, m) float64; 0 for equals, and exact for whole numbers."""
    xp, origin = of(x).xp, y[0].astype("float64")  # far from all points the three terms would be large, their sum not
    y = y.astype("float64") - origin
    lengths = (y * y).sum(axis=1)
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS].astype("float64") - origin
        both = (rows * rows).sum(axis=1)[:, None] + lengths
        squares = both - 2 * (rows @ y.T)  # (n, m) = (n, d) @ (d, m)
        yield xp.where(squares <= SAME * both, 0.0, squares)


def _require_points(owner: str, x: Array, y: Array) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(f"{owner}: expected rows of as many features, one or more each, got {x.shape} and {y.shape}")
