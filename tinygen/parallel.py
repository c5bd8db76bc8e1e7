"""The cores of the CPU, for the NumPy backend: convolutions and in-place updates in pieces, a thread each.

NumPy's loops and products run without the interpreter's lock. Where our threads make products side by side, the BLAS
library is held to one thread for each, and what the user had set is put back. A product by itself is left to the
library: its threads wait in a loop, so that it starts them faster than we could ours.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence

import numpy as np

# Elements an in-place update handles at a time: the operands of one chunk (float32) stay within the L2 cache, so that
# ten passes over a parameter cost one trip to memory. Measured best from 32k.
CHUNK = 65_536


@functools.cache
def threads() -> int:
    """How many threads this process may use: what the user set for the linear algebra, else the cores it may run on."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A thread that does what is put into its queue. A round trip costs 8 µs, a fifth of an executor's."""

    def __init__(self, number: int) -> None:
        self.tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tinygen {number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            task, done = self.tasks.get()
            error = _error_of(task)
            del task  # what it holds must not live on until the next one comes
            done.put(error)
            del done, error


def _error_of(task: Callable[[], object]) -> BaseException | None:
    try:
        task()
    except BaseException as error:
        return error
    return None


@functools.cache
def _workers(count: int) -> list[_Worker]:
    return [_Worker(i + 1) for i in range(count)]


if hasattr(os, "register_at_fork"):  # a forked process has the queues but not the threads
    os.register_at_fork(after_in_child=_workers.cache_clear)


def run(tasks: Sequence[Callable[[], object]]) -> None:
    """Run the first task here and the others beside it; return when all are done, or raise the first error then."""
    workers, done = _workers(threads() - 1), queue.SimpleQueue[BaseException | None]()
    beside = tasks[1:] if workers else []
    for i, task in enumerate(beside):
        workers[i % len(workers)].tasks.put((task, done))
    errors = [_error_of(task) for task in tasks[: len(tasks) - len(beside)]]
    errors += [done.get() for _ in beside]
    for error in errors:
        if error is not None:
            raise error


# ---------------------------------------------------------------- the library's threads


class _OneBlasThread(contextlib.AbstractContextManager):
    """Inside, BLAS uses one thread; several of our threads may be inside at once."""

    def __init__(self) -> None:
        from threadpoolctl import ThreadpoolController

        found = ThreadpoolController().select(user_api="blas").lib_controllers
        self._libraries = [library for library in found if library.get_num_threads() is not None]
        self._lock, self._inside, self._before = threading.Lock(), 0, [0] * len(self._libraries)

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [library.get_num_threads() for library in self._libraries]
                for library in self._libraries:
                    library.set_num_threads(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, number in zip(self._libraries, self._before):
                    library.set_num_threads(number)


one_blas_thread = functools.cache(_OneBlasThread)


# ---------------------------------------------------------------- what is done in pieces


def in_chunks(update: Callable[..., None], written: Sequence[np.ndarray], *read: np.ndarray) -> None:
    """update(*written, *read), elementwise and in place on `written`, by cache-sized pieces on all threads.

    All arrays have one shape. How the pieces are spread over the threads changes no bit of the result.
    """
    arrays = [*written, *read]
    if not written[0].flags.c_contiguous:  # its axes as they lie in memory
        strides = written[0].strides
        axes = sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
        arrays = [a.transpose(axes) for a in arrays]
    if not all(a.flags.c_contiguous for a in arrays[: len(written)]):
        return update(*arrays)  # no flat view to cut
    flat = [a.reshape(-1) for a in arrays]

    def work(starts: range) -> None:
        for start in starts:
            update(*[a[start : start + CHUNK] for a in flat])

    size = flat[0].size
    workers = min(threads(), size // (2 * CHUNK)) or 1
    run([functools.partial(work, range(i * CHUNK, size, workers * CHUNK)) for i in range(workers)])
