"""Poisson's equation on a region of an image, solved by conjugate gradients with a multigrid preconditioner.

Pixels are joined to their neighbours above, below, left and right. With `differences` between neighbours and their
`divergence`, the Laplacian is one after the other, and the equation Δf = div v reads

    Σ_q (f_p − f_q) = Σ_q v_pq   for each pixel p of the region,   f_p = f*_p elsewhere,

where q runs over the neighbours that p has: at the image's border there are three or two (Pérez et al. 2003, eq. 7).

Read `seamless_clone` at the end; above it stand the field, the operator, and the solver. The matrix is never built:
A is `region_laplacian`, and M⁻¹ is `v_cycle`, a rough solution on coarser and coarser grids. With it the number of
steps hardly depends on the size of the region, where plain conjugate gradients need some steps for each pixel across.
"""

from __future__ import annotations

from collections.abc import Callable

from tinygen import backend
from tinygen.backend import Array
from tinygen.host import equation

DAMPING = 0.8  # ω of Jacobi's iteration
SWEEPS = 2  # before and after each visit to the coarser grid
COARSEST, COARSEST_SWEEPS = 4, 12  # the side of the last grid, and how often it is swept

# ---------------------------------------------------------------- the field


def differences(image: Array) -> tuple[Array, Array]:
    """f_q − f_p for each pair of neighbours, q below p and right of p: (..., h − 1, w) and (..., h, w − 1)."""
    return image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]


@equation(
    r"(\operatorname{div} v)_p = \sum_{q \in N_p} v_{pq}, \quad v_{qp} = -v_{pq}", source="Pérez et al. 2003, eq. 7"
)
def divergence(down: Array, right: Array) -> Array:
    """What flows out of each pixel, of a field given by −v_pq for q below p and right of p, as `differences` has it.

    down: (..., h − 1, w). right: (..., h, w − 1). Returns (..., h, w); its sum is 0.
    """
    xp = backend.of(down).xp
    flow = xp.zeros((*right.shape[:-1], down.shape[-1]), down.dtype)
    flow[..., :-1, :] -= down
    flow[..., 1:, :] += down
    flow[..., :-1] -= right
    flow[..., 1:] += right
    return flow


@equation(
    r"v_{pq} = \begin{cases} f^*_p - f^*_q & \text{if } |f^*_p - f^*_q| > |g_p - g_q| \\ g_p - g_q & \text{otherwise}"
    r" \end{cases}",
    source="Pérez et al. 2003, eq. 13",
)
def mixed_differences(source: Array, target: Array) -> Array:
    """The stronger of two images' differences, pair by pair: arrays of one shape, as `differences` gives them."""
    xp = backend.of(source).xp
    return xp.where(xp.abs(target) > xp.abs(source), target, source)


# ---------------------------------------------------------------- the operator


@equation(
    r"(A u)_p = |N_p|\, u_p - \sum_{q \in N_p \cap \Omega} u_q, \quad p \in \Omega", source="Pérez et al. 2003, eq. 7"
)
def region_laplacian(u: Array, inside: Array) -> Array:
    """The left-hand side of the equation on a region Ω, u being 0 outside it. Symmetric and positive definite.

    u: (..., h, w), 0 outside. inside: (h, w), 1 or 0. Returns (..., h, w), 0 outside.
    """
    result = neighbours(u) * u
    result[..., 1:, :] -= u[..., :-1, :]
    result[..., :-1, :] -= u[..., 1:, :]
    result[..., 1:] -= u[..., :-1]
    result[..., :-1] -= u[..., 1:]
    result *= inside
    return result


def neighbours(image: Array) -> Array:
    """|N_p| for each pixel of (..., h, w): 4, less at the border; (h, w), and 1 where a pixel is all alone."""
    xp = backend.of(image).xp
    height, width = image.shape[-2:]
    count = xp.full((height, width), 4.0, image.dtype)
    count[:1] -= 1
    count[-1:] -= 1
    count[:, :1] -= 1
    count[:, -1:] -= 1
    return xp.maximum(count, 1.0)


# ---------------------------------------------------------------- the solver


@equation(
    r"\alpha = \frac{r^T z}{p^T A p}, \quad x \leftarrow x + \alpha p, \quad r \leftarrow r - \alpha A p, \quad"
    r" z = M^{-1} r, \quad \beta = \frac{r^T z}{r_{-}^T z_{-}}, \quad p \leftarrow z + \beta p",
    source="Hestenes and Stiefel 1952; with a preconditioner: Golub and Van Loan, Matrix Computations, section 11.5",
)
def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array],
    tolerance: float,
    limit: int,
) -> Array:
    """The solution x of A x = b for a symmetric, positive definite A, from x = 0.

    apply: v ↦ A v. precondition: r ↦ M⁻¹ r with M⁻¹ symmetric and near A⁻¹, so that z is near the error of x.
    b: (..., h, w), a system for each of the leading indices. Stops when no |z| exceeds the tolerance, or after `limit`
    steps. Waits for the device once a step.
    """
    where = backend.of(b)
    xp = where.xp

    def inner(u: Array, v: Array) -> Array:
        return xp.sum(u * v, axis=(-2, -1), keepdims=True)

    def ratio(numerator: Array, denominator: Array) -> Array:
        return numerator / xp.where(denominator > 0, denominator, 1.0)  # a system that is solved stays as it is

    x, r = xp.zeros_like(b), b
    z = precondition(r)
    p, rz = z, inner(r, z)
    for _ in range(limit):
        if where.scalar(xp.max(xp.abs(z))) <= tolerance:
            break
        step = apply(p)
        alpha = ratio(rz, inner(p, step))
        x = x + alpha * p
        r = r - alpha * step
        z = precondition(r)
        before, rz = rz, inner(r, z)
        p = z + ratio(rz, before) * p
    return x


@equation(
    r"\begin{aligned} u &\leftarrow u + \omega D^{-1} (r - A u), \quad"
    r" e \approx A_H^{-1} P^T (r - A u), \\ u &\leftarrow u + P e, \quad"
    r" u \leftarrow u + \omega D^{-1} (r - A u) \end{aligned}",
    source="Brandt 1977; as a preconditioner: Tatebe 1993. D is the diagonal of A, P bilinear interpolation",
)
def v_cycle(r: Array, inside: list[Array]) -> Array:
    """About A⁻¹ r, linear and symmetric in r: smooth the error by Jacobi's iteration, and leave what is smooth to a
    grid of half the size, which does the same.

    r: (..., h, w), 0 outside the region. inside: the region on this grid and on all coarser ones, `coarser` of each
    other. Returns (..., h, w), 0 outside.
    """
    region = inside[0]
    weight = DAMPING * region / neighbours(region)

    def smooth(u: Array) -> Array:
        return u + weight * (r - region_laplacian(u, region))

    u = weight * r  # the first sweep, from u = 0
    for _ in range((SWEEPS if len(inside) > 1 else COARSEST_SWEEPS) - 1):
        u = smooth(u)
    if len(inside) > 1:
        remainder = r - region_laplacian(u, region)
        u = u + region * prolong(v_cycle(inside[1] * restrict(remainder), inside[1:]), r.shape[-2:])
        for _ in range(SWEEPS):
            u = smooth(u)
    return u


def prolong(coarse: Array, size: tuple[int, int]) -> Array:
    """P: bilinear interpolation from pixels twice as wide to (..., h, w), size = (h, w).

    Each pixel becomes 2×2, blurred with (1, 2, 1)/4: a new pixel sees the old ones around it with weights ¾ and ¼.
    """
    xp = backend.of(coarse).xp
    fine = _blur(xp.repeat(xp.repeat(coarse, 2, axis=-2), 2, axis=-1))
    return fine[..., : size[0], : size[1]]


def restrict(fine: Array) -> Array:
    """Pᵀ: (..., h, w) gives (..., ⌈h/2⌉, ⌈w/2⌉)."""
    height, width = fine.shape[-2:]
    widths = [(0, 0)] * (fine.ndim - 2) + [(0, height % 2), (0, width % 2)]
    blurred = _blur(backend.of(fine).xp.pad(fine, widths))
    rows = blurred[..., 0::2, :] + blurred[..., 1::2, :]
    return rows[..., 0::2] + rows[..., 1::2]


def _blur(image: Array) -> Array:
    """(1, 2, 1)/4 along both axes; beyond the border the outermost pixels go on, which keeps it symmetric."""
    for _ in range(2):
        blurred = 0.5 * image
        blurred[..., 1:] += 0.25 * image[..., :-1]
        blurred[..., :-1] += 0.25 * image[..., 1:]
        blurred[..., :1] += 0.25 * image[..., :1]
        blurred[..., -1:] += 0.25 * image[..., -1:]
        image = blurred.swapaxes(-2, -1)
    return image


def coarser(inside: Array) -> Array:
    """The region on pixels twice as wide: those that lie wholly in it, the image's border aside."""
    xp = backend.of(inside).xp
    height, width = inside.shape
    even = xp.pad(inside, [(0, height % 2), (0, width % 2)], mode="edge")
    return even[0::2, 0::2] * even[1::2, 0::2] * even[0::2, 1::2] * even[1::2, 1::2]


def solve_on_region(b: Array, inside: Array, tolerance: float = 1e-4, limit: int = 200) -> Array:
    """The u that is 0 outside a region and has A u = b inside, to about `tolerance` in each pixel.

    b: (..., h, w). inside: (h, w), 1 or 0, not 1 everywhere, where u would be open by a constant.
    """
    grids = [inside]
    while max(grids[-1].shape) > COARSEST:
        grids.append(coarser(grids[-1]))
    return conjugate_gradients(
        lambda u: region_laplacian(u, inside), b * inside, lambda r: v_cycle(r, grids), tolerance, limit
    )


# ---------------------------------------------------------------- cloning


@equation(
    r"\Delta f = \operatorname{div} v \text{ in } \Omega, \quad f = f^* \text{ elsewhere}, \qquad"
    r" A (f - f^*) = \operatorname{div} v - \operatorname{div} \nabla f^*",
    source="Pérez, Gangnet and Blake 2003, eq. 4 and 7",
)
def seamless_clone(source: Array, target: Array, inside: Array, mixed: bool = False) -> Array:
    """The target f* with the details of the source g in a region: only g's differences are used, not its level.

    source, target: (c, h, w). inside: (h, w), 1 in the region and 0 elsewhere. mixed: v is the stronger difference of
    both images instead of g's, so that textures of the target shine through. Returns (c, h, w); pixels outside the
    region are the target's own, those inside may leave [0, 1].
    """
    xp = backend.of(source).xp
    of_target, field = differences(target), differences(source)
    if mixed:
        field = mixed_differences(field[0], of_target[0]), mixed_differences(field[1], of_target[1])
    excess = divergence(field[0] - of_target[0], field[1] - of_target[1])
    return xp.where(inside > 0, target + solve_on_region(excess, inside), target)
