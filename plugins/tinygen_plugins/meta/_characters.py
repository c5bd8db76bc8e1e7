"""What one_shot has beside its methods: how training images are moved, a baseline that learns nothing, and pictures."""

from __future__ import annotations

from collections.abc import Callable

import tinygen
import tinygen.functional as F
from tinygen.autograd import Tensor
from tinygen.backend import Array, of
from tinygen.data import Episode
from tinygen.host import equation


@equation(
    r"x'(p) = x(A p + t), \quad A = s \begin{pmatrix} \cos\theta & -\sin\theta \\ \sin\theta & \cos\theta \end{pmatrix}"
    r" \begin{pmatrix} 1 & k \\ 0 & 1 \end{pmatrix}",
    source="Koch et al. 2015, section 3.2: affine distortions of the training images, 0 outside the image",
)
def move(images: Tensor, theta: Array, k: Array, s: Array, t: Array) -> Tensor:
    """Each of the images (n, c, h, w) turned by θ, sheared by k, scaled by 1/s and moved by −t.

    theta (in radians), k and s (n,); t (n, 2). The image reaches from −1 to 1.
    """
    xp = of(theta).xp
    cos, sin = s * xp.cos(theta), s * xp.sin(theta)
    rows = [[cos, k * cos - sin, t[:, 0]], [sin, k * sin + cos, t[:, 1]]]
    matrix = xp.stack([xp.stack(row, axis=1) for row in rows], axis=1)  # (n, 2, 3)
    return F.grid_sample(images, F.affine_grid(Tensor(matrix), images.shape))


# ---------------------------------------------------------------- the nearest drawing


@equation(
    r"\max\Big(\frac{1}{|A|} \sum_{a \in A} \min_{b \in B} \|a - b\|,\;"
    r" \frac{1}{|B|} \sum_{b \in B} \min_{a \in A} \|a - b\|\Big)",
    source="Dubuisson and Jain 1994: the modified Hausdorff distance, a baseline that learns nothing",
)
def modified_hausdorff(a: Array, b: Array) -> Array:
    """The distance of two sets of points, (n, 2) and (m, 2)."""
    xp = of(a).xp
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)  # (n, m)
    nearest = [xp.sqrt(xp.maximum(squares.min(axis=axis), 0)).mean() for axis in (1, 0)]
    return xp.maximum(*nearest)


def nearest_accuracy(episode: Episode, distance: Callable[[Array, Array], Array]) -> Tensor:
    """The share of an episode's query whose nearest drawing in the support is of its class: a number (0-d).

    distance: of the ink of two drawings, points (n, 2) and (m, 2) seen from their centres of mass.
    """
    support, query = ([_points(image) for image in part] for part in (episode.support, episode.query))
    xp = episode.support.backend.xp
    distances = xp.stack([xp.stack([distance(a, b) for b in support]) for a in query])  # (q, n)
    answers = episode.support_labels.data[distances.argmin(axis=1)]
    return Tensor((answers == episode.query_labels.data).astype("float64")).mean()


def _points(image: Tensor) -> Array:
    """Where the ink of an image (1, h, w) is, (n, 2) in pixels, seen from its centre of mass."""
    points = of(image.data).xp.argwhere(image.data[0] > 0.5).astype("float64")
    return points - points.mean(axis=0)


# ---------------------------------------------------------------- pictures


def in_columns(episode: Episode, p: Tensor) -> Tensor:
    """An episode of one shot with its answers, as one picture (1, c, h, w).

    Each column begins with the example of a class; under the line are the images of the query for which this class has
    the largest p (q, N), and those that are not of it are dark on light.
    """
    answers = p.argmax(1)
    wrong = Tensor((answers.data != episode.query_labels.data).astype(p.dtype))[:, None, None, None]
    shown, chosen = wrong + (1 - 2 * wrong) * episode.query, answers.numpy().tolist()  # 1 − x where it is wrong
    columns = [[shown[i] for i, answer in enumerate(chosen) if answer == k] for k in range(len(episode.support))]
    rows = max(map(len, columns))
    blank = tinygen.zeros_like(episode.support[0])
    line = tinygen.ones_like(blank[:, :1])
    padded = [column + [blank] * (rows - len(column)) for column in columns]
    return F.cat([F.cat([first, line, *column], 1) for first, column in zip(episode.support, padded)], 2)[None]


def in_plane(features: Tensor, images: Tensor, side: int = 480) -> Tensor:
    """One square picture (1, c, s, s): each of the images (n, c, h, w), two or more, where its features (n, d) lie in
    the plane of their two principal components, the axes along which they differ most. s is `side`, or twice the
    larger side of the images where that is more."""
    xp, (c, h, w) = of(features.data).xp, images.shape[1:]
    side = max(side, 2 * h, 2 * w)
    centred = features.data - features.data.mean(axis=0)
    variances, axes = xp.linalg.eigh(centred @ centred.T)  # (n, n), as d may be large; the last have the most variance
    plane = axes[:, -2:] * xp.sqrt(xp.maximum(variances[-2:], 0))  # (n, 2)
    low, high = plane.min(axis=0), plane.max(axis=0)
    places = Tensor((plane - low) / xp.maximum(high - low, 1e-12)).numpy()
    picture = xp.zeros((c, side, side), features.dtype)
    for (u, v), image in zip(places.tolist(), images):
        top, left = round(u * (side - h)), round(v * (side - w))
        window = picture[:, top : top + h, left : left + w]
        picture[:, top : top + h, left : left + w] = xp.maximum(window, image.data)
    return Tensor(picture[None])
