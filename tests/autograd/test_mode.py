"""The switches: as decorators of functions and generators, nested, and shared between threads."""

import threading

import pytest

import tinygen
from tinygen.autograd import detect_anomaly, enable_grad, is_grad_enabled, no_grad
from tinygen.errors import AnomalyError


@pytest.mark.parametrize("decorate", [no_grad, no_grad()])
def test_decorates_with_and_without_parentheses(decorate):
    @decorate
    def depth(n):
        """What it does."""
        assert not is_grad_enabled()
        return n and 1 + depth(n - 1)

    assert depth(3) == 3
    assert is_grad_enabled()
    assert (depth.__name__, depth.__doc__) == ("depth", "What it does.")

    @detect_anomaly
    def logarithm(x):
        return x.log()

    with pytest.raises(AnomalyError):
        logarithm(tinygen.tensor([-1.0]))


def test_a_switch_shared_by_threads_puts_back_each_threads_own():
    switch = no_grad()
    meet, seen = threading.Barrier(2, timeout=10), {}

    def first():
        meet.wait()  # 1: the other is inside
        with switch:
            meet.wait()  # 2: both are inside
            meet.wait()  # 3: the other has left
            seen["within first"] = is_grad_enabled()
        seen["after first"] = is_grad_enabled()

    def second():
        with no_grad():
            with switch:
                meet.wait()  # 1
                meet.wait()  # 2
            seen["after second"] = is_grad_enabled()
            meet.wait()  # 3

    threads = [threading.Thread(target=f) for f in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"within first": False, "after first": True, "after second": False}


@pytest.mark.parametrize("decorate", [no_grad, no_grad()])
def test_a_generators_body_runs_in_the_mode_and_its_reader_does_not(decorate):
    log = []

    @decorate
    def numbers(start):
        log.append(is_grad_enabled())
        try:
            got = yield start
            log.append(is_grad_enabled())
            try:
                yield got
            except KeyError:
                log.append(is_grad_enabled())
                yield "caught"
            with enable_grad():
                log.append(is_grad_enabled())
            return "end"
        finally:
            log.append(is_grad_enabled())

    steps = numbers(1)
    assert log == []
    assert (next(steps), is_grad_enabled()) == (1, True)
    assert (steps.send(2), is_grad_enabled()) == (2, True)
    assert (steps.throw(KeyError()), is_grad_enabled()) == ("caught", True)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert (end.value.value, is_grad_enabled()) == ("end", True)
    assert log == [False, False, False, True, False]

    log.clear()
    steps = numbers(1)
    next(steps)
    steps.close()
    assert (log, is_grad_enabled()) == ([False, False], True)
    steps = numbers(1)
    next(steps)
    with pytest.raises(ValueError, match="mine"):
        steps.throw(ValueError("mine"))
    assert is_grad_enabled()
