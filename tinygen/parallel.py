"""The cores of the CPU, for the NumPy backend: convolutions and in-place updates in pieces, a thread each.

NumPy's loops and products run without the interpreter's lock. Where our threads make products side by side, the BLAS
library is held to one thread for each, and what the user had set is put back. A product by itself is left to the
library: its threads wait in a loop, so that it starts them faster than we could ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

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
        _this_thread.works = True
        while True:
            task, done = self.tasks.get()
            error = _error_of(task)
            del task  # what it holds must not live on until the next one comes
            done.put(error)
            del done, error


_this_thread = threading.local()  # `works` is set in a worker
_once = threading.Lock()  # around what is made once for the whole process
_made: list[_Worker] = []


def _error_of(task: Callable[[], object]) -> BaseException | None:
    try:
        task()
    except BaseException as error:
        return error
    return None


def _workers(count: int) -> list[_Worker]:
    with _once:
        while len(_made) < count:
            _made.append(_Worker(len(_made) + 1))
    return _made[:count]


def run(tasks: Sequence[Callable[[], object]]) -> None:
    """Run the first task here and the others beside it; return when all are done, or raise the first error then.

    Within a task, tasks run one after the other: all threads are at work already. An interrupt waits for the others.
    """
    if len(tasks) < 2 or threads() < 2 or hasattr(_this_thread, "works"):
        workers, beside = [], []
    else:
        workers, beside = _workers(threads() - 1), list(tasks[1:])
    done = queue.SimpleQueue[BaseException | None]()
    for i, task in enumerate(beside):
        workers[i % len(workers)].tasks.put((task, done))
    errors = [_error_of(task) for task in tasks[: len(tasks) - len(beside)]]
    while len(errors) < len(tasks):
        try:
            errors.append(done.get())
        except BaseException as interrupt:  # the others still write into their arrays
            errors.insert(0, interrupt)
            tasks = [*tasks, _nothing]
    error = next((error for error in errors if error is not None), None)
    del errors
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, and this frame must not hold it


def _nothing() -> None:
    pass


# ---------------------------------------------------------------- the library's threads


class _OneBlasThread(contextlib.AbstractContextManager):
    """Inside, BLAS uses one thread; several of our threads may be inside at once.

    The libraries are asked directly, as threadpoolctl hears only one thread of a process.
    """

    def __init__(self) -> None:
        from threadpoolctl import threadpool_info

        paths = [library["filepath"] for library in threadpool_info() if library["user_api"] == "blas"]
        self.libraries = [found for path in paths if (found := _thread_functions(path)) is not None]
        self._lock, self._inside, self._before = threading.Lock(), 0, [0] * len(self.libraries)

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [get() for get, _ in self.libraries]
                for _, set_number in self.libraries:
                    set_number(1)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for (_, set_number), number in zip(self.libraries, self._before):
                    set_number(number)


def _thread_functions(path: str) -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The functions of a BLAS library that tell and set how many threads it uses; None where it has none we know."""
    library = ctypes.CDLL(path)
    names = [
        (f"{before}openblas_get_num_threads{after}", f"{before}openblas_set_num_threads{after}")
        for before in ("", "scipy_")
        for after in ("", "64_", "_64")
    ]
    for get, set_number in [*names, ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]:
        if hasattr(library, get) and hasattr(library, set_number):
            return getattr(library, get), getattr(library, set_number)
    return None


_held: _OneBlasThread | None = None


def one_blas_thread() -> _OneBlasThread:
    """`with one_blas_thread():` holds BLAS to one thread."""
    global _held
    if _held is None:
        with _once:
            _held = _held or _OneBlasThread()
    return _held


def _forget() -> None:
    """In a forked process, which has the objects but not the threads."""
    global _held, _once
    _made.clear()
    _held, _once = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# ---------------------------------------------------------------- what is done in pieces


def memory_order(array: Any) -> list[int]:
    """The dimensions from the outermost in memory to the innermost. Those of size 1 come first, in their own order:
    their strides mean nothing, and differ between arrays that lie alike."""
    shape, strides = array.shape, array.strides
    return sorted(range(len(shape)), key=lambda axis: (shape[axis] != 1, -abs(strides[axis]) * (shape[axis] != 1)))


def in_chunks(update: Callable[..., None], written: Sequence[np.ndarray], *read: np.ndarray) -> None:
    """update(*written, *read), elementwise and in place on `written`, by cache-sized pieces on all threads.

    All arrays have one shape. How the pieces are spread over the threads changes no bit of the result.
    """
    arrays = [*written, *read]
    if not written[0].flags.c_contiguous:  # its axes as they lie in memory
        arrays = [a.transpose(memory_order(written[0])) for a in arrays]
    if not all(a.flags.c_contiguous for a in arrays[: len(written)]):
        return update(*arrays)  # no flat view to cut
    flat = [a.reshape(-1) for a in arrays]

    def work(starts: range) -> None:
        for start in starts:
            update(*[a[start : start + CHUNK] for a in flat])

    size = flat[0].size
    workers = min(threads(), size // (2 * CHUNK)) or 1
    run([functools.partial(work, range(i * CHUNK, size, workers * CHUNK)) for i in range(workers)])
