"""Poisson's equation on a region: its parts as dense matrices, its solution by numpy.linalg, and cloning."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import seeds
from tinygen_plugins.composition import _poisson

from .reference import cloudy, device, regions

sizes = st.tuples(st.integers(2, 9), st.integers(2, 9))


def graph(size):
    """The pairs of neighbours (p, q) of an image, q right of p or below it, as flat indices."""
    index = np.arange(size[0] * size[1]).reshape(size)
    pairs = [*zip(index[:, :-1].ravel(), index[:, 1:].ravel()), *zip(index[:-1].ravel(), index[1:].ravel())]
    return [(int(p), int(q)) for p, q in pairs]


def dense_laplacian(region):
    """The matrix of eq. 7 over all pixels, rows and columns outside the region being 0."""
    matrix = np.zeros((region.size, region.size))
    for p, q in graph(region.shape):
        matrix[p, p] += 1
        matrix[q, q] += 1
        matrix[p, q] -= 1
        matrix[q, p] -= 1
    keep = np.diag(region.ravel())
    return keep @ matrix @ keep


def solve(matrix, b, region):
    """The u that is 0 outside a region and solves the equations of its pixels."""
    inside = np.flatnonzero(region.ravel())
    u = np.zeros(region.size)
    u[inside] = np.linalg.solve(matrix[np.ix_(inside, inside)], b.ravel()[inside])
    return u.reshape(region.shape)


# ---------------------------------------------------------------- the field and the operator


@verifies(_poisson.divergence)
@given(size=sizes, seed=seeds())
def test_divergence_adds_up_what_leaves_for_each_neighbour(size, seed):
    image = np.random.default_rng(seed).standard_normal(size)
    expected = np.zeros(image.size)
    for p, q in graph(size):
        expected[p] += image.flat[p] - image.flat[q]
        expected[q] += image.flat[q] - image.flat[p]
    flow = _poisson.divergence(*_poisson.differences(device(image)))
    close(flow, expected.reshape(size), atol=1e-11)
    close(host(flow).sum(), 0.0, atol=1e-11)


@verifies(_poisson.mixed_differences)
@given(seed=seeds())
def test_of_two_differences_the_larger_in_size_is_kept_and_the_source_s_if_equal(seed):
    random = np.random.default_rng(seed)
    source, target = random.integers(-3, 4, (2, 4, 5)).astype(float)
    mixed = host(_poisson.mixed_differences(device(source), device(target)))
    for place, value in np.ndenumerate(mixed):
        close(value, max((source[place], target[place]), key=abs))  # max keeps the first of equals


@verifies(_poisson.region_laplacian)
@given(size=sizes, seed=seeds())
def test_the_operator_is_the_matrix_of_the_neighbours(size, seed):
    region = regions(seed, size)
    u = np.random.default_rng(seed).standard_normal(size) * region
    expected = (dense_laplacian(region) @ u.ravel()).reshape(size)
    close(_poisson.region_laplacian(device(u), device(region)), expected, atol=1e-11)


# ---------------------------------------------------------------- the solver


def bilinear_matrix(size):
    """P along one axis: pixels of twice the width to `size` pixels, weights ¾ and ¼, the outermost going on."""
    coarse = -(-size // 2)
    matrix = np.zeros((size, coarse))
    for i in range(size):
        near, far = i // 2, i // 2 + (1 if i % 2 else -1)
        matrix[i, near] += 0.75
        matrix[i, min(max(far, 0), coarse - 1)] += 0.25
    return matrix


@given(size=sizes, seed=seeds())
def test_restriction_is_the_transpose_of_interpolation(size, seed):
    random = np.random.default_rng(seed)
    rows, columns = (bilinear_matrix(length) for length in size)
    coarse = random.standard_normal((rows.shape[1], columns.shape[1]))
    fine = random.standard_normal(size)
    close(_poisson.prolong(device(coarse), size), rows @ coarse @ columns.T, atol=1e-11)
    close(_poisson.restrict(device(fine)), rows.T @ fine @ columns, atol=1e-11)


def jacobi(matrix, region, sweeps):
    """So many damped sweeps from 0, as a matrix: Σ_k (I − ωD⁻¹A)ᵏ ωD⁻¹."""
    count = np.zeros(region.size)
    for p, q in graph(region.shape):
        count[p] += 1
        count[q] += 1
    inverse = np.diag(0.8 * region.ravel() / np.maximum(count, 1))
    step = np.eye(region.size) - inverse @ matrix
    return sum(np.linalg.matrix_power(step, k) for k in range(sweeps)) @ inverse, step


@verifies(_poisson.v_cycle)
@settings(max_examples=20)
@given(size=sizes, seed=seeds())
def test_a_cycle_on_two_grids_is_the_product_of_its_matrices(size, seed):
    region = regions(seed, size)
    small = host(_poisson.coarser(device(region)))
    r = np.random.default_rng(seed).standard_normal(size) * region
    fine, coarse = dense_laplacian(region), dense_laplacian(small)
    smooth, step = jacobi(fine, region, 2)
    below, _ = jacobi(coarse, small, 12)
    transfer = np.diag(region.ravel()) @ np.kron(*(bilinear_matrix(length) for length in size)) @ np.diag(small.ravel())
    first = smooth @ r.ravel()
    second = first + transfer @ below @ transfer.T @ (r.ravel() - fine @ first)
    expected = step @ step @ second + smooth @ r.ravel()
    cycle = _poisson.v_cycle(device(r), [device(region), device(small)])
    close(cycle, expected.reshape(size), atol=1e-10)


@verifies(_poisson.v_cycle)
@settings(max_examples=15)
@given(size=st.tuples(st.integers(5, 24), st.integers(5, 24)), seed=seeds())
def test_a_cycle_is_symmetric_and_positive(size, seed):
    region = regions(seed, size)
    grids = [device(region)]
    while min(grids[-1].shape) > 4:
        grids.append(_poisson.coarser(grids[-1]))
    a, b = np.random.default_rng(seed).standard_normal((2, *size)) * region
    of_a, of_b = (host(_poisson.v_cycle(device(r), grids)) for r in (a, b))
    close((b * of_a).sum(), (a * of_b).sum(), rtol=1e-9, atol=1e-9)
    assert (a * of_a).sum() > 0


@verifies(_poisson.conjugate_gradients)
@given(size=st.integers(1, 8), seed=seeds(), systems=st.integers(1, 3))
def test_conjugate_gradients_solve_any_positive_definite_system_in_as_many_steps_as_it_has_rows(size, seed, systems):
    random = np.random.default_rng(seed)
    root = random.standard_normal((size, size))
    matrix, scale = root @ root.T + np.eye(size), random.uniform(0.5, 2, size)
    b = random.standard_normal((systems, 1, size))
    on_device, weights = device(matrix), device(scale)
    x = _poisson.conjugate_gradients(lambda v: v @ on_device, device(b), lambda r: weights * r, 0.0, size + 2)
    close(x, np.linalg.solve(matrix, b[:, 0].T).T[:, None], rtol=1e-6, atol=1e-6)


@verifies(_poisson.conjugate_gradients, _poisson.region_laplacian)
@settings(max_examples=20)
@given(size=st.tuples(st.integers(2, 14), st.integers(2, 14)), seed=seeds())
def test_the_solution_is_the_direct_one_and_leaves_no_residual(size, seed):
    region = regions(seed, size)
    b = np.random.default_rng(seed).standard_normal((2, *size))
    u = host(_poisson.solve_on_region(device(b), device(region), 1e-12, 300))
    matrix = dense_laplacian(region)
    close(u, np.stack([solve(matrix, each, region) for each in b]), rtol=1e-7, atol=1e-8)
    residual = [(matrix @ each.ravel() - (right * region).ravel()) for each, right in zip(u, b)]
    close(np.stack(residual), np.zeros((2, region.size)), atol=1e-9)


def test_a_system_that_is_solved_stays_so_beside_one_that_is_not():
    region = regions(0, (12, 12))
    b = np.stack([np.zeros((12, 12)), np.random.default_rng(0).standard_normal((12, 12))])
    u = host(_poisson.solve_on_region(device(b), device(region), 1e-10))
    assert (u[0] == 0).all() and np.isfinite(u).all() and np.abs(u[1]).max() > 0


def test_the_number_of_steps_hardly_grows_with_the_image():
    counts = []
    for side in (32, 128):
        region = np.zeros((side, side))
        region[1:-1, 1:-1] = 1.0
        grids = [device(region)]
        while min(grids[-1].shape) > 4:
            grids.append(_poisson.coarser(grids[-1]))
        calls = []

        def precondition(r, grids=grids, calls=calls):
            calls.append(1)
            return _poisson.v_cycle(r, grids)

        b = device(region * np.random.default_rng(0).standard_normal((side, side)))
        _poisson.conjugate_gradients(
            lambda u, grids=grids: _poisson.region_laplacian(u, grids[0]), b, precondition, 1e-6, 200
        )
        counts.append(len(calls))
    assert counts[1] <= counts[0] + 5 and counts[1] < 20


# ---------------------------------------------------------------- cloning


def clone(source, target, region, mixed=False):
    return host(_poisson.seamless_clone(device(source), device(target), device(region), mixed))


@verifies(_poisson.seamless_clone)
@settings(max_examples=15)
@given(size=st.tuples(st.integers(3, 12), st.integers(3, 12)), seed=seeds(), mixed=st.booleans())
def test_a_clone_is_the_direct_solution_of_the_paper_s_equations(size, seed, mixed):
    random = np.random.default_rng(seed)
    region = regions(seed, size)
    source, target = random.random((2, 1, *size))
    matrix, right = np.zeros((region.size, region.size)), np.zeros(region.size)
    inside = region.ravel() > 0
    f, g = target.ravel(), source.ravel()
    for a, b in graph(size):
        for p, q in ((a, b), (b, a)):
            if inside[p]:
                v = g[p] - g[q]
                if mixed and abs(f[p] - f[q]) > abs(v):
                    v = f[p] - f[q]
                matrix[p, p] += 1
                right[p] += v
                if inside[q]:
                    matrix[p, q] -= 1
                else:
                    right[p] += f[q]
    expected = f.copy()
    expected[inside] = np.linalg.solve(matrix[np.ix_(inside, inside)], right[inside])
    close(clone(source, target, region, mixed), expected.reshape(1, *size), rtol=0, atol=2e-3)  # the solver's 1e-4


@verifies(_poisson.seamless_clone)
@settings(max_examples=20)
@given(seed=seeds(), constant=st.floats(-2, 2), mixed=st.booleans())
def test_the_target_s_own_differences_give_the_target_back_whatever_the_level(seed, constant, mixed):
    target, region = cloudy(seed, (3, 12, 15)), regions(seed, (12, 15))
    close(clone(target + constant, target, region, mixed), target, atol=1e-9)


@verifies(_poisson.seamless_clone)
@settings(max_examples=20)
@given(seed=seeds(), constant=st.floats(-2, 2))
def test_a_constant_added_to_the_source_changes_nothing(seed, constant):
    source, target, region = cloudy(seed, (1, 12, 15)), cloudy(seed + 1, (1, 12, 15)), regions(seed, (12, 15))
    close(clone(source + constant, target, region), clone(source, target, region), atol=1e-9)


@verifies(_poisson.seamless_clone)
@settings(max_examples=20)
@given(seed=seeds())
def test_without_a_field_no_pixel_inside_lies_above_or_below_the_border_s(seed):
    target, region = cloudy(seed, (1, 14, 14)), regions(seed, (14, 14))
    filled = clone(np.zeros((1, 14, 14)), target, region)
    outside = target[0][region == 0]
    assert outside.min() - 1e-3 <= filled.min() and filled.max() <= outside.max() + 1e-3
    assert (filled[0][region == 0] == outside).all()


@settings(max_examples=4)
@given(shape=st.sampled_from([(4, 1000), (16, 1500), (1, 300), (700, 5)]))
def test_thin_regions_are_solved_as_well(shape):
    """A ramp over the length, held at its two ends: without a source its values are the straight line's."""
    long = max(shape)
    ramp = np.broadcast_to(
        np.linspace(0, 1, long)[None, :] if shape[1] == long else np.linspace(0, 1, long)[:, None], shape
    )
    inside = np.ones(shape)
    inside[(slice(None), [0, -1]) if shape[1] == long else ([0, -1], slice(None))] = 0
    held = np.where(inside > 0, 0.0, ramp)[None]
    excess = -np.asarray(host(_poisson.region_laplacian(device(held), device(np.ones(shape)))))
    found = held[0] + host(_poisson.solve_on_region(device(excess), device(inside)))[0]
    assert np.abs(found - ramp).max() < 5e-3
