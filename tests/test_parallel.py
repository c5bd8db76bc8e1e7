"""Work in pieces: the whole's result, whatever the pieces, layouts and threads."""

import contextlib
import functools
import gc
import os
import queue
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import parallel


@pytest.fixture(params=[1, 2, 3])
def workers(request, monkeypatch):
    """So many threads, and small chunks."""
    monkeypatch.setattr(parallel, "threads", lambda: request.param)
    monkeypatch.setattr(parallel, "CHUNK", 7)
    return request.param


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in rows, in columns, or as every second element of a larger array."""
    if layout == "apart":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return np.array(array, order=layout)


layouts = st.sampled_from(["C", "F", "apart"])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=3), layouts, layouts, st.integers(0, 99))
def test_an_update_in_chunks_is_the_update(workers, shape, layout_p, layout_g, seed):
    random = np.random.default_rng(seed)
    p, m, g = random.standard_normal((3, *shape))

    def update(p, m, g):
        m *= 0.5
        m += g
        p -= m * m

    expected_m = 0.5 * m + g
    expected_p = p - expected_m * expected_m
    p, m, g = laid_out(p, layout_p), laid_out(m, layout_p), laid_out(g, layout_g)
    parallel.in_chunks(update, (p, m), g)
    np.testing.assert_array_equal(p, expected_p)
    np.testing.assert_array_equal(m, expected_m)


def test_written_arrays_of_different_layouts_are_all_written(workers):
    p, m = np.zeros((20, 30)), np.zeros((20, 30), order="F")

    def update(p, m):
        p += 1
        m += 2

    parallel.in_chunks(update, (p, m))
    parallel.in_chunks(lambda m, p: update(p, m), (m, p))
    assert (p == 2).all() and (m == 4).all()


def test_every_task_runs_and_the_first_error_is_raised_when_all_are_done(workers):
    done: list[int] = []

    def task(i: int) -> None:
        done.append(i)
        if i in (0, 2):
            raise ValueError(f"task {i}")

    with pytest.raises(ValueError, match="task 0"):
        parallel.run([functools.partial(task, i) for i in range(4)])
    assert sorted(done) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="task 2"):
        parallel.run([functools.partial(task, i) for i in (1, 3, 2)])


def test_tasks_within_a_task_run_one_after_the_other(workers):
    done: list[int] = []
    inner = [functools.partial(done.append, i) for i in range(3)]
    finished = threading.Thread(target=parallel.run, args=([functools.partial(parallel.run, inner)] * 4,), daemon=True)
    finished.start()
    finished.join(10)
    assert not finished.is_alive() and sorted(done) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_an_error_leaves_no_cycle_behind(workers):
    class Fault(Exception):
        pass

    def fail(array):
        raise Fault

    array = np.zeros(3)
    gone = weakref.ref(array)
    gc.disable()
    try:
        with contextlib.suppress(Fault):
            parallel.run([functools.partial(fail, array)] * 3)
        del array
        assert gone() is None
    finally:
        gc.enable()


def test_an_interrupt_waits_for_the_others(monkeypatch):
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    done: list[str] = []

    class Interrupted(queue.SimpleQueue):
        def get(self):
            if not done:
                time.sleep(0.01)
                done.append("interrupted")
                raise KeyboardInterrupt
            return super().get()

    def slow() -> None:
        time.sleep(0.1)
        done.append("slow")

    parallel.run([lambda: None] * 2)  # the worker has its own queue by now
    monkeypatch.setattr(parallel.queue, "SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.run([lambda: None, slow])
    assert done == ["interrupted", "slow"]


def test_nothing_of_a_task_lives_on(workers):
    array = np.zeros(3)
    gone = weakref.ref(array)
    parallel.run([functools.partial(np.copy, array)] * 3)
    del array
    assert gone() is None


def test_a_forked_process_has_workers_of_its_own(workers):
    parallel.run([lambda: None] * 3)
    child = os.fork() if hasattr(os, "fork") else 0
    if child == 0 and hasattr(os, "fork"):
        parallel.run([lambda: None] * 3)
        os._exit(7)
    assert child == 0 or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_blas_is_held_to_one_thread_and_put_back():
    held = parallel.one_blas_thread()

    def pass_through() -> None:
        with held:
            pass

    set_before = [get() for get, _ in held.libraries]
    assert set_before, "no BLAS library was found"
    try:
        for _, set_number in held.libraries:
            set_number(2)
        two = [get() for get, _ in held.libraries]
        with held:
            inner = threading.Thread(target=pass_through)  # another thread comes and goes: not its turn to put back
            inner.start()
            inner.join()
            seen = [get() for get, _ in held.libraries]
        assert set(seen) == {1}
        assert [get() for get, _ in held.libraries] == two

        entered, leave = threading.Event(), threading.Event()

        def stay() -> None:
            with held:
                entered.set()
                leave.wait()

        other = threading.Thread(target=stay)
        with held:  # the thread that came first leaves first: the last one out puts back
            other.start()
            entered.wait()
        assert {get() for get, _ in held.libraries} == {1}
        leave.set()
        other.join()
        assert [get() for get, _ in held.libraries] == two
    finally:
        for (_, set_number), number in zip(held.libraries, set_before):
            set_number(number)
