"""Schedules against PyTorch's recursions, written out, and resumed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.optim.test_optim import changed, parameter
from tinygen import optim
from tinygen.testing import close


def rates(make, steps, lr=0.5):
    optimizer = optim.SGD([parameter([1.0])], lr)
    schedule = make(optimizer)
    out = [optimizer.lr]
    for _ in range(steps):
        schedule.step()
        assert schedule.get_last_lr() == [optimizer.lr]
        out.append(optimizer.lr)
    return np.array(out)


def recursion(start, steps, following):
    """lr by lr: following(k, lr) gives that of step k from the one before."""
    out = [start]
    for k in range(1, steps + 1):
        out.append(following(k, out[-1]))
    return np.array(out)


@given(st.integers(1, 7), st.floats(0.1, 1.5))
def test_step_lr(step_size, gamma):
    expected = recursion(0.5, 20, lambda k, lr: lr * gamma if k % step_size == 0 else lr)
    close(rates(lambda o: optim.StepLR(o, step_size, gamma), 20), expected, 1e-10)


@given(st.floats(0.05, 1), st.floats(0, 1), st.integers(1, 9))
def test_linear_lr(start, end, total):
    def following(k, lr):
        if k > total:
            return lr
        return lr + 0.5 * (end - start) / total

    expected = recursion(0.5 * start, 15, following)
    close(rates(lambda o: optim.LinearLR(o, start, end, total), 15), expected, 1e-9, 1e-12)


@given(st.integers(2, 12), st.floats(0, 0.1))
def test_cosine_annealing_lr(total, least):
    def following(k, lr):
        ratio = (1 + math.cos(math.pi * k / total)) / (1 + math.cos(math.pi * (k - 1) / total))
        return ratio * (lr - least) + least

    close(rates(lambda o: optim.CosineAnnealingLR(o, total, least), total),
          recursion(0.5, total, following), 1e-9, 1e-9)  # fmt: skip
    whole = rates(lambda o: optim.CosineAnnealingLR(o, total, least), 2 * total)
    close(whole, whole[::-1], 1e-9, 1e-12)
    assert abs(whole[total] - least) < 1e-15 and whole[0] == 0.5


def test_lambda_lr_and_defaults():
    close(rates(lambda o: optim.LambdaLR(o, lambda k: 0.9**k), 4), 0.5 * 0.9 ** np.arange(5), 1e-12)
    close(rates(optim.LinearLR, 6), 0.5 * np.array([1 / 3, 7 / 15, 0.6, 11 / 15, 13 / 15, 1, 1]), 1e-12)
    close(rates(lambda o: optim.StepLR(o, 2), 4), 0.5 * np.array([1, 1, 0.1, 0.1, 0.01]), 1e-12)


def test_a_schedule_resumes():
    def make():
        optimizer = optim.SGD([parameter([1.0])], 0.5)
        return optimizer, optim.CosineAnnealingLR(optimizer, 10, 0.01)

    optimizer, schedule = make()
    for _ in range(4):
        schedule.step()
    other, again = make()
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    assert other.lr == optimizer.lr
    for _ in range(4):
        schedule.step()
        again.step()
        assert other.lr == optimizer.lr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(steps=None), "steps is missing"),
        (changed(steps=np.array(1.0)), r"steps is float64 \(\), expected int64 \(\)"),
        (changed(steps=np.array([1])), r"steps is int64 \(1,\), expected int64 \(\)"),
        (changed(steps=np.array(-1)), "steps must be 0 or more, got -1"),
        (changed(base_lr=np.array(math.nan)), "base_lr must be 0 or more, got nan"),
        (changed(gamma=np.array(1.0)), "gamma is unexpected"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    schedule = optim.StepLR(optim.SGD([parameter([1.0])], 0.5), 2)
    with pytest.raises(ValueError, match=f"StepLR: {message}"):
        schedule.load_state_dict(change(schedule.state_dict()))
    assert schedule.steps == 0 and schedule.base_lr == 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: optim.StepLR(o, 0), ValueError, "StepLR: step_size must be at least 1, got 0"),
        (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "CosineAnnealingLR: T_max must be at least 1, got 0"),
        (lambda o: optim.LinearLR(o, 0.0), ValueError, "LinearLR: start_factor must be in"),
        (lambda o: optim.LinearLR(o, total_iters=0), ValueError, "LinearLR: total_iters must be at least 1"),
        (lambda o: optim.StepLR(0.1, 2), TypeError, "StepLR: expected an optimizer, got float"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make(optim.SGD([parameter([1.0])], 0.5))
