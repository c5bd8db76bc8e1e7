"""Homographies: the maps of the plane that keep straight lines straight, found from pairs of points.

A homography is a matrix H (3, 3), and it and its multiples are one map: (u, v, 1) ~ H (x, y, 1). Two photographs taken
from one place, or of one flat thing, are related by such a map. Four pairs of points determine it, `dlt` finds it from
four or more, and `ransac` from pairs of which many are wrong.

Points are (..., n, 2) arrays of (x, y); functions take any library's arrays, with leading axes for many sets at once.
"""

from __future__ import annotations

import math

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation
from tinygen.random import Stream

SAMPLE = 4  # pairs that determine a homography
BATCH, MOST = 256, 8192  # trials at a time, and in all
TINY = 1e-12


@equation(
    r"(u, v) = \left( \frac{h_1 \cdot \tilde x}{h_3 \cdot \tilde x}, \frac{h_2 \cdot \tilde x}{h_3 \cdot \tilde x}"
    r" \right), \quad \tilde x = (x, y, 1)",
    source="Hartley and Zisserman 2004, section 2.3",
)
def project(homography: Array, points: Array) -> Array:
    """Where a homography (..., 3, 3) takes points (..., n, 2); a point on its horizon goes to infinity."""
    where = backend.of(points)
    # (..., n, 3) = (..., n, 2) @ (..., 2, 3) + (..., 1, 3)
    mapped = points @ homography[..., :2].swapaxes(-1, -2) + homography[..., 2][..., None, :]
    with where.quiet():
        return mapped[..., :2] / mapped[..., 2:]


@equation(
    r"T = \begin{pmatrix} s & 0 & -s \bar x \\ 0 & s & -s \bar y \\ 0 & 0 & 1 \end{pmatrix}, \quad"
    r" s = \frac{\sqrt 2}{\frac{1}{n} \sum_i \|x_i - \bar x\|}",
    source="Hartley 1997: centroid 0 and mean distance √2, without which the system is badly conditioned",
)
def normalization(points: Array) -> Array:
    """The similarity T (..., 3, 3) that moves points (..., n, 2) to about the unit square."""
    xp = backend.of(points).xp
    centre = xp.mean(points, axis=-2)
    away = points - centre[..., None, :]
    distance = xp.mean(xp.sqrt(xp.sum(away * away, axis=-1)), axis=-1)
    scale = math.sqrt(2) / xp.maximum(distance, TINY)
    matrix = xp.zeros((*centre.shape[:-1], 3, 3), points.dtype)
    matrix[..., 0, 0] = matrix[..., 1, 1] = scale
    matrix[..., :2, 2] = -scale[..., None] * centre
    matrix[..., 2, 2] = 1.0
    return matrix


@equation(
    r"A = \begin{pmatrix} -x & -y & -1 & 0 & 0 & 0 & ux & uy & u \\ 0 & 0 & 0 & -x & -y & -1 & vx & vy & v \\"
    r" & & & & \vdots & & & & \end{pmatrix}, \quad A h = 0",
    source="Hartley and Zisserman 2004, section 4.1: two rows a pair, from (u, v, 1) × H (x, y, 1) = 0",
)
def dlt_matrix(points: Array, images: Array) -> Array:
    """The homogeneous system for h = (h_11, h_12, …, h_33): points, images (..., n, 2) give (..., 2n, 9)."""
    xp = backend.of(points).xp
    x, y, u, v = points[..., 0], points[..., 1], images[..., 0], images[..., 1]
    zero, one = xp.zeros_like(x), xp.ones_like(x)
    of_u = xp.stack([-x, -y, -one, zero, zero, zero, u * x, u * y, u], axis=-1)
    of_v = xp.stack([zero, zero, zero, -x, -y, -one, v * x, v * y, v], axis=-1)
    return xp.concatenate([of_u, of_v], axis=-2)


@equation(
    r"H = T'^{-1} \hat H\, T, \quad \hat h = \arg\min_{\|h\| = 1} \|\hat A h\|",
    source="the normalised direct linear transform: Hartley 1997; Hartley and Zisserman 2004, Algorithm 4.2",
)
def dlt(points: Array, images: Array) -> Array:
    """The homography that takes points (..., n, 2) to images (..., n, 2), n ≥ 4: exactly for four pairs of which no
    three points are in line, by least squares for more. Returns (..., 3, 3) of Frobenius norm 1.

    ĥ is the right singular vector of Â, the matrix of the normalised points, with the smallest singular value.
    """
    xp = backend.of(points).xp
    here, there = normalization(points), normalization(images)
    matrix = dlt_matrix(project(here, points), project(there, images))
    # A row of zeros changes nothing, and makes the matrix of four pairs, 8 × 9, show its null vector as well.
    matrix = xp.concatenate([matrix, xp.zeros_like(matrix[..., :1, :])], axis=-2)
    _, _, vectors = xp.linalg.svd(matrix, full_matrices=False)
    normalized = vectors[..., -1, :].reshape(*points.shape[:-2], 3, 3)
    homography = xp.linalg.inv(there) @ normalized @ here
    return homography / xp.sqrt(xp.sum(homography * homography, axis=(-2, -1), keepdims=True))


@equation(
    r"d = \frac{\sigma_8}{\sigma_1}, \quad \sigma_1 \ge \dots \ge \sigma_9 \text{ the singular values of } \hat A",
    source="Hartley and Zisserman 2004, section 4.1.3: degenerate pairs",
)
def determination(points: Array, images: Array) -> Array:
    """How well the pairs determine a homography, in [0, 1): 0 where more than one fits, as for points in line."""
    xp = backend.of(points).xp
    matrix = dlt_matrix(project(normalization(points), points), project(normalization(images), images))
    singular = xp.linalg.svd(matrix, full_matrices=False, compute_uv=False)
    return singular[..., 7] / singular[..., 0]


@equation(r"e_i = \|x'_i - H x_i\|", source="Hartley and Zisserman 2004, section 4.2.2: transfer error")
def transfer_error(homography: Array, points: Array, images: Array) -> Array:
    """Distance in pixels from where H (..., 3, 3) takes points (n, 2) to their images (n, 2): (..., n)."""
    where = backend.of(points)
    away = project(homography, points) - images
    with where.quiet():
        return where.xp.sqrt(where.xp.sum(away * away, axis=-1))


@equation(r"N = \frac{\log(1 - p)}{\log(1 - w^s)}", source="Fischler and Bolles 1981, section II.B")
def ransac_trials(share: float, confidence: float, sample: int = SAMPLE) -> float:
    """Trials after which, with probability p = `confidence`, some sample held right pairs only.

    share: w, the part of the pairs that are right. sample: s, the pairs drawn in a trial. 0 gives infinity, 1 gives 1.
    """
    good = share**sample
    if good <= 0:
        return math.inf
    return 1.0 if good >= 1 else max(math.log1p(-confidence) / math.log1p(-good), 1.0)


def ransac(
    points: Array, images: Array, random: Stream, threshold: float = 2.0, confidence: float = 0.999
) -> tuple[Array, Array]:
    """The homography that most pairs agree with, and which these are: (3, 3), (n,) bool. Fischler and Bolles 1981.

    Each trial draws four pairs and counts the pairs within `threshold` pixels of where their homography takes them.
    When the trials suffice for the best share of right pairs seen so far, its homography is fitted anew to all the
    pairs that agree, until these are the same twice. Trials are computed a batch at a time.

    points, images: (n, 2) on the host, n ≥ 4. random: on the host, too.
    """
    xp = backend.of(points).xp
    count = len(points)
    best, trials = xp.zeros(count, bool), 0
    while trials < min(ransac_trials(float(best.mean()), confidence), MOST):
        draw = xp.argsort(random.uniform((BATCH, count)), axis=1)[:, :SAMPLE]  # four different pairs, a row a trial
        homographies = dlt(points[draw], images[draw])
        agree = transfer_error(homographies, points, images) < threshold  # (trials, n); NaN does not
        counts = xp.sum(agree, axis=1)
        top = int(xp.argmax(counts))
        if counts[top] > best.sum():
            best = agree[top]
        trials += BATCH
    return refit(points, images, best, threshold)


def refit(points: Array, images: Array, agree: Array, threshold: float) -> tuple[Array, Array]:
    """The homography of all pairs that agree, again for those that agree with it, until they stay the same."""
    xp = backend.of(points).xp
    homography = xp.eye(3)
    for _ in range(10):
        if agree.sum() < SAMPLE:
            break
        homography = dlt(points[agree], images[agree])
        now = transfer_error(homography, points, images) < threshold
        if bool((now == agree).all()):
            break
        agree = now
    return homography, agree
