"""Total variation against closed forms, bounded least squares and linear programs of SciPy."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.host import verifies
from tinygen.testing import close, host
from tinygen.testing.strategies import reals, seeds
from tinygen_plugins.restoration import _variation

from .reference import device, matrix, variation

orders = st.sampled_from([1, 2])
images = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)).flatmap(lambda s: reals(s, 0.0, 1.0))
rows = st.integers(3, 8).flatmap(lambda n: reals((1, 1, n), 0.0, 1.0))  # one row: lengths are absolute values


def denoised(noisy, strength, order=1, steps=800):
    image, field = _variation.minimize_variation(device(noisy), None, strength, order, steps, 0.25)
    return host(image), field


@verifies(_variation.total_variation)
@given(image=images, order=orders)
def test_total_variation_is_the_sum_of_lengths_pixel_by_pixel(image, order):
    close(_variation.total_variation(device(image), order), np.asarray(variation(image, order)), rtol=1e-9, atol=1e-11)


@verifies(_variation.project)
@given(field=reals((2, 3, 3, 4)), strength=st.floats(0.1, 5))
def test_the_projection_is_the_nearest_field_that_is_nowhere_too_long(field, strength):
    found = host(_variation.project(device(field), strength))
    for y, x in np.ndindex(3, 4):
        vector, near = field[:, :, y, x].ravel(), found[:, :, y, x].ravel()
        length = np.linalg.norm(vector)
        close(near, vector if length <= strength else vector * strength / length, rtol=1e-9)
        others = np.random.default_rng(0).normal(size=(20, vector.size))
        others *= strength / np.linalg.norm(others, axis=1, keepdims=True)
        assert (np.linalg.norm(vector - others, axis=1) >= np.linalg.norm(vector - near) - 1e-12).all()


@verifies(_variation.duality_gap)
@given(noisy=images, seed=seeds(), strength=st.floats(0.01, 1), order=orders)
def test_the_gap_is_the_difference_of_the_two_energies_and_never_negative(noisy, seed, strength, order):
    random = np.random.default_rng(seed)
    image = random.random(noisy.shape)
    dense = matrix(*noisy.shape[1:], order)
    field = host(_variation.derivatives(device(random.normal(size=noisy.shape)), order))  # 0 where D is
    field = host(_variation.project(device(field), strength))
    gap = host(_variation.duality_gap(device(image), device(field), device(noisy), strength, order))
    primal = 0.5 * ((image - noisy) ** 2).sum() + strength * variation(image, order)
    # the dual energy is the least over x of the Lagrangian ½‖x − y‖² + ⟨Dx, p⟩, a parabola with its least at y − Dᵀp
    flat = np.concatenate(
        [
            part[:, : noisy.shape[1] - down, : noisy.shape[2] - right].reshape(len(noisy), -1)
            for part, (down, right) in zip(field, [(0, 1), (1, 0)] if order == 1 else [(0, 2), (2, 0), (1, 1)])
        ],
        axis=1,
    )
    pulled = (flat @ dense).reshape(noisy.shape)
    best = noisy - pulled
    dual = 0.5 * ((best - noisy) ** 2).sum() + (best * pulled).sum()
    close(gap, np.asarray(primal - dual), rtol=1e-9, atol=1e-10)
    assert gap >= -1e-12


@verifies(_variation.minimize_variation, _variation.total_variation)
@settings(max_examples=10)
@given(noisy=rows, strength=st.floats(0.01, 0.5), order=orders)
def test_denoising_of_a_row_is_the_bounded_least_squares_problem_of_its_dual(noisy, strength, order):
    dense = matrix(1, noisy.shape[2], order)
    dual = scipy.optimize.lsq_linear(dense.T, noisy.ravel(), (-strength, strength), tol=1e-14)
    expected = noisy - (dense.T @ dual.x).reshape(noisy.shape)
    found, _ = denoised(noisy, strength, order)
    close(found, expected, rtol=0, atol=2e-4 if order == 2 else 2e-5)


@verifies(_variation.minimize_variation)
@settings(max_examples=15)
@given(pair=reals((2,), 0.0, 1.0), strength=st.floats(0.01, 0.6), channels=st.integers(1, 3))
def test_two_pixels_come_nearer_by_the_strength_each_and_meet_in_the_middle(pair, strength, channels):
    noisy = np.repeat(pair.reshape(1, 1, 2), channels, axis=0)
    move = min(strength / np.sqrt(channels), abs(pair[1] - pair[0]) / 2)
    expected = pair + move * np.sign(pair[1] - pair[0]) * np.array([1, -1])
    close(denoised(noisy, strength)[0], np.repeat(expected.reshape(1, 1, 2), channels, axis=0), rtol=0, atol=1e-5)


@verifies(_variation.minimize_variation, _variation.duality_gap)
@settings(max_examples=6)
@given(noisy=reals((2, 6, 7), 0.0, 1.0), strength=st.floats(0.02, 0.3))
def test_denoising_keeps_the_mean_lowers_the_variation_and_closes_the_gap(noisy, strength):
    gaps = []
    for steps in (10, 100, 500):
        image, field = denoised(noisy, strength, 1, steps)
        close(image.mean(axis=(1, 2)), noisy.mean(axis=(1, 2)), rtol=1e-9)
        gaps.append(float(host(_variation.duality_gap(device(image), field, device(noisy), strength))))
        assert gaps[-1] >= -1e-10
    assert gaps[2] < 1e-4 and gaps[2] < gaps[0] / 10
    assert variation(image) <= variation(noisy)


@verifies(_variation.minimize_variation)
@settings(max_examples=10)
@given(noisy=reals((1, 4, 5), 0.0, 1.0))
def test_great_strength_leaves_the_mean_and_hardly_any_leaves_the_image(noisy):
    close(denoised(noisy, 20.0)[0], np.full(noisy.shape, noisy.mean()), rtol=0, atol=1e-3)
    close(denoised(noisy, 1e-9)[0], noisy, rtol=0, atol=1e-7)


@verifies(_variation.minimize_variation)
@settings(max_examples=6)
@given(row=st.integers(5, 6).flatmap(lambda n: reals((n,), 0.0, 1.0)), order=orders, seed=seeds())
def test_filling_of_a_row_has_the_least_variation_that_a_linear_program_finds(row, order, seed):
    known = np.random.default_rng(seed).random(len(row)) < 0.4
    known[0] = known[-1] = True
    known[1] = False
    dense = matrix(1, len(row), order)
    holes, count = (~known).sum(), len(dense)
    # min Σ t with −t ≤ D_H x_H + D_K y_K ≤ t
    held = dense[:, known] @ row[known]
    lower = np.block([[dense[:, ~known], -np.eye(count)], [-dense[:, ~known], -np.eye(count)]])
    best = scipy.optimize.linprog(
        np.r_[np.zeros(holes), np.ones(count)], lower, np.r_[-held, held], bounds=[(None, None)] * (holes + count)
    )
    start = np.where(known, row, 0.5)[None, None]
    found, _ = _variation.minimize_variation(device(start), device(known[None]), 1.0, order, 4000, 0.02)
    found = host(found)
    assert np.array_equal(found[0, 0, known], row[known])
    least = float(np.abs(dense @ found[0, 0]).sum())
    assert -1e-9 <= least - best.fun <= 1e-2  # never below the optimum, and near it after so many steps


@pytest.mark.parametrize("order", [1, 2])
def test_float32_stays_float32(order):
    noisy = device(np.random.default_rng(0).random((3, 6, 5)).astype("float32"))
    image, field = _variation.minimize_variation(noisy, None, 0.1, order, 3, 0.25)
    assert image.dtype == field.dtype == np.float32
