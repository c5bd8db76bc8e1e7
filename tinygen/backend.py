"""Array libraries behind one small object each: NumPy on the CPU, CuPy on the GPU.

The only file that may import cupy. A formula takes `xp` (the library) and reads like NumPy; where the two libraries
differ, or where speed needs its own path, the operation is a method here and has a NumPy and a CuPy version.

    from tinygen import backend
    backend.use("cupy")              # "numpy", "cupy", "auto" or "strict" (a NumPy that refuses what a GPU refuses)
    xp = backend.of(array).xp        # the library of an array at hand
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen import cpu, im2col, parallel
from tinygen.cpu import AdamRule, SGDRule
from tinygen.errors import BackendError, did_you_mean
from tinygen.im2col import CPUWorkshop, Geometry, Workshop
from tinygen.parallel import memory_order  # noqa: F401 - of any backend's arrays; wanted here by those above

Array = Any  # numpy.ndarray, cupy.ndarray or the strict backend's array: what `Backend.array_type` says


class Backend:
    """What the two libraries do differently. The base class is the NumPy way on `self.xp`."""

    name: str
    xp: Any
    array_type: type

    def __init__(self) -> None:
        self._required: deque[tuple[Array, Callable[[], Exception]]] = deque()

    def asarray(self, value: Any, dtype: Any = None) -> Array:
        """`value` (a scalar, a nested list or an array of this backend) as an array of this backend."""
        return self.xp.asarray(value, dtype)

    def from_host(self, array: np.ndarray) -> Array:
        """A NumPy array, moved to this backend."""
        raise NotImplementedError

    def to_host(self, array: Array) -> np.ndarray:
        """An array of this backend as a NumPy array (a copy where the device is not the host)."""
        raise NotImplementedError

    def scalar(self, array: Array) -> Any:
        """The one element of `array` as a Python number. Waits for the device."""
        self._ask()
        return array.item()

    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    def require(self, holds: Array, error: Callable[[], Exception]) -> None:
        """Raise `error()` unless `holds`, an array without dimensions, is true.

        A device is not waited for: it is asked when something is fetched from it next, and the error is raised there.
        """
        self._required.append((holds, error))
        if len(self._required) > 100:  # nothing fetched for long: the oldest is known by now
            self._ask(1)

    def _ask(self, least: int = 0) -> None:
        """Raise the error of a requirement that does not hold; of all of them, or of the oldest `least`."""
        for holds, error in [self._required.popleft() for _ in range(least or len(self._required))]:
            if not holds:
                raise error()

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] += values`, in place, adding up where the index names an element more than once."""
        raise NotImplementedError

    def solve_sparse(self, rows: Array, columns: Array, values: Array, right: Array, tolerance: float = 1e-10) -> Array:
        """x with A x = right, for a symmetric positive definite matrix A that is nearly all zeros.

        rows, columns, values: (m,) each, the entries of A, in any order; those at the same place add up.
        right: (n,), or (n, k) for k systems with the one matrix. tolerance: of ‖A x − right‖ by ‖right‖.
        Computed in float64; the solution has the shape and dtype of `right`. Waits for the device.
        """
        raise NotImplementedError

    def erf(self, x: Array) -> Array:
        """The error function, in the precision of `x`."""
        raise NotImplementedError

    def quiet(self) -> contextlib.AbstractContextManager:
        """Inside, 1/0 and the like give their IEEE results without a warning, where the formula means them."""
        return contextlib.nullcontext()

    @functools.cached_property
    def workshop(self) -> Workshop:
        """Where convolutions are made. On a device, chunks of 256 MiB of float32: few launches, bounded memory."""
        return Workshop(self.xp, 1 << 26)

    def convolve(self, x: Array, w: Array, geometry: Geometry, size: Sequence[int], bias: Array | None = None) -> Array:
        """x ⋆ w, of a given size; the formula is `functional.convolution.conv2d_formula`."""
        return im2col.convolve(self.workshop, x, w, geometry, size, bias)

    def convolve_input(self, y: Array, w: Array, geometry: Geometry, size: Sequence[int]) -> Array:
        """The transposed convolution of y with w, of a given size."""
        return im2col.convolve_input(self.workshop, y, w, geometry, size)

    def convolve_weight(self, x: Array, y: Array, geometry: Geometry, kernel: Sequence[int]) -> Array:
        """The kernel that y and x make: the gradient of ⟨y, x ⋆ w⟩ by w."""
        return im2col.convolve_weight(self.workshop, x, y, geometry, kernel)

    def sum_rows(self, rows: Array) -> Array:
        """(n, k) summed to (k,), as a product with ones: several times as fast as a sum over the first dimension."""
        return self.xp.ones(rows.shape[0], rows.dtype) @ rows

    def in_chunks(self, update: Callable[..., None], written: Sequence[Array], *read: Array) -> None:
        """update(*written, *read), elementwise and in place on `written`; on the CPU by cache-sized pieces."""
        update(*written, *read)

    def sgd_step(self, p: Array, g: Array, velocity: Array | None, rule: SGDRule) -> None:
        """One step of stochastic gradient descent on `p`, in place; the formula is `optim.sgd.sgd_formula`."""
        raise NotImplementedError

    def adam_step(self, p: Array, g: Array, m: Array, v: Array, rule: AdamRule) -> None:
        """One step of Adam on `p`, `m`, `v`, in place; the formula is `optim.adam.adam_formula`."""
        raise NotImplementedError


class NumpyBackend(Backend):
    """NumPy on the host."""

    name = "numpy"
    xp = np
    array_type = np.ndarray

    def __init__(self) -> None:
        super().__init__()
        cpu.keep_freed_memory()

    @functools.cached_property
    def workshop(self) -> Workshop:
        return CPUWorkshop()

    def from_host(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array)

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array

    def scalar(self, array: np.ndarray) -> Any:
        return array.item()

    def require(self, holds: np.ndarray, error: Callable[[], Exception]) -> None:
        if not holds:
            raise error()

    def scatter_add(self, target: np.ndarray, index: Any, values: np.ndarray) -> None:
        cpu.scatter_add(target, index, values)

    def solve_sparse(
        self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, right: np.ndarray, tolerance: float = 1e-10
    ) -> np.ndarray:
        return cpu.solve_sparse(rows, columns, values, right, tolerance)

    def erf(self, x: np.ndarray) -> np.ndarray:
        return cpu.erf(x)

    def quiet(self) -> contextlib.AbstractContextManager:
        return np.errstate(all="ignore")

    def sum_rows(self, rows: np.ndarray) -> np.ndarray:
        with parallel.one_blas_thread():  # it waits for the memory, not for the cores
            return super().sum_rows(rows)

    def in_chunks(self, update: Callable[..., None], written: Sequence[np.ndarray], *read: np.ndarray) -> None:
        parallel.in_chunks(update, written, *read)

    def sgd_step(self, p: np.ndarray, g: np.ndarray, velocity: np.ndarray | None, rule: SGDRule) -> None:
        cpu.sgd_step(p, g, velocity, rule)

    def adam_step(self, p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, rule: AdamRule) -> None:
        cpu.adam_step(p, g, m, v, rule)


def _make_cupy_backend() -> Backend:  # pragma: no cover - runs where a GPU is
    import cupy
    import cupyx.scipy.sparse
    import cupyx.scipy.sparse.linalg
    import cupyx.scipy.special

    sgd_kernel = cupy.ElementwiseKernel(
        "T g, T lr, T momentum, T undamped, T decay, bool nesterov, bool first, bool has_velocity",
        "T p, T u",
        """
        T d = g + decay * p;
        if (has_velocity) {
            u = first ? d : momentum * u + undamped * d;
            d = nesterov ? d + momentum * u : u;
        }
        p -= lr * d;
        """,
        "tinygen_sgd",
    )
    adam_kernel = cupy.ElementwiseKernel(
        "T g, T step_size, T weight1, T weight2, T eps, T root_correction2, T coupled_decay, T shrink",
        "T p, T m, T v",
        """
        T d = g + coupled_decay * p;
        p *= shrink;
        m += weight1 * (d - m);
        v += weight2 * (d * d - v);
        p -= step_size * m / (sqrt(v) / root_correction2 + eps);
        """,
        "tinygen_adam",
    )

    class CupyBackend(Backend):
        """CuPy on the current CUDA device."""

        name = "cupy"
        xp = cupy
        array_type = cupy.ndarray

        def from_host(self, array: np.ndarray) -> Array:
            return cupy.asarray(array)

        def to_host(self, array: Array) -> np.ndarray:
            self._ask()
            return cupy.asnumpy(array)

        def synchronize(self) -> None:
            cupy.cuda.get_current_stream().synchronize()

        def scatter_add(self, target: Array, index: Any, values: Array) -> None:
            cupy.add.at(target, index, values)

        def solve_sparse(
            self, rows: Array, columns: Array, values: Array, right: Array, tolerance: float = 1e-10
        ) -> Array:
            wide = right.reshape(len(right), -1).astype("float64")
            places = rows.astype("int32"), columns.astype("int32")
            entries = cupyx.scipy.sparse.coo_matrix((values.astype("float64"), places), shape=(len(wide), len(wide)))
            matrix, linalg = entries.tocsr(), cupyx.scipy.sparse.linalg
            scaled, found = cupyx.scipy.sparse.diags(1 / matrix.diagonal()).tocsr(), cupy.empty_like(wide)
            for k in range(wide.shape[1]):
                column = wide[:, k].copy()
                x, missed = linalg.cg(matrix, column, rtol=tolerance, maxiter=10 * cpu.CG_STEPS, M=scaled)
                found[:, k] = linalg.splu(matrix, **cpu.SYMMETRIC).solve(column) if missed else x
            return found.reshape(right.shape).astype(right.dtype)

        def erf(self, x: Array) -> Array:
            return cupyx.scipy.special.erf(x)

        def sgd_step(self, p: Array, g: Array, velocity: Array | None, rule: SGDRule) -> None:
            has_velocity = velocity is not None
            u = velocity if has_velocity else cupy.empty_like(p)
            undamped = 1 - rule.dampening
            sgd_kernel(
                g, rule.lr, rule.momentum, undamped, rule.weight_decay, rule.nesterov, rule.first, has_velocity, p, u
            )

        def adam_step(self, p: Array, g: Array, m: Array, v: Array, rule: AdamRule) -> None:
            coupled = 0.0 if rule.decoupled else rule.weight_decay
            shrink = 1 - rule.lr * rule.weight_decay if rule.decoupled else 1.0
            weights = 1 - rule.beta1, 1 - rule.beta2  # taken here, as float32 would lose three digits of 1 − 0.999
            adam_kernel(g, rule.step_size, *weights, rule.eps, rule.root_correction2, coupled, shrink, p, m, v)

    return CupyBackend()


# ---------------------------------------------------------------- the table of backends and the one in use

NUMPY = NumpyBackend()
array_types: dict[type, Backend] = {np.ndarray: NUMPY}
_by_name: dict[str, Backend] = {"numpy": NUMPY}
_elsewhere = {"strict": "tinygen.testing.strict"}  # registers itself when imported
_current: Backend | None = None


def register(backend: Backend) -> Backend:
    """Make a backend known by its name and its array type."""
    _by_name[backend.name] = backend
    array_types[backend.array_type] = backend
    return backend


def cupy_available() -> bool:
    """True where CuPy is installed and finds a CUDA device."""
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.is_available())


def get(name: str) -> Backend:
    """The backend called `name`: numpy, cupy, strict, or auto (cupy where there is a device, else numpy)."""
    if name == "auto":
        name = "cupy" if cupy_available() else "numpy"
    if name in _by_name:
        return _by_name[name]
    if name in _elsewhere:
        importlib.import_module(_elsewhere[name])
        return _by_name[name]
    if name == "cupy":
        if importlib.util.find_spec("cupy") is None:
            raise BackendError(
                "backend cupy: CuPy is not installed", "pip install 'tinygen[cuda12]' or 'tinygen[cuda13]'"
            )
        if not cupy_available():
            raise BackendError("backend cupy: CuPy finds no CUDA device", "use --backend numpy, or check nvidia-smi")
        return register(_make_cupy_backend())
    raise BackendError(f'backend "{name}" is unknown', did_you_mean(name, ["numpy", "cupy", "auto", "strict"]))


def current() -> Backend:
    """The backend that new arrays are made on: the last `use`, else $TINYGEN_BACKEND, else numpy."""
    global _current
    if _current is None:
        _current = get(os.environ.get("TINYGEN_BACKEND") or "numpy")
    return _current


def use(name: str) -> Backend:
    """Make `name` the backend that new arrays are made on. Tensors that exist stay where they are."""
    global _current
    _current = get(name)
    return _current


@contextlib.contextmanager
def using(name: str) -> Iterator[Backend]:
    """`use` for the length of a with block."""
    global _current
    before = current()
    try:
        yield use(name)
    finally:
        _current = before


def of(array: Array) -> Backend:
    """The backend that `array` belongs to; a Python or NumPy scalar belongs to the current one."""
    found = array_types.get(type(array))
    if found is not None:
        return found
    if isinstance(array, (bool, int, float, np.generic)):
        return current()
    for array_type, candidate in array_types.items():
        if isinstance(array, array_type):
            return candidate
    raise TypeError(f"expected an array of {' or '.join(_by_name)}, got {type(array).__name__}")
