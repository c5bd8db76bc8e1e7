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
import scipy.special

from tinygen import im2col, parallel
from tinygen.errors import BackendError, did_you_mean
from tinygen.im2col import CPUWorkshop, Geometry, Workshop
from tinygen.parallel import in_chunks

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

    def matmul(self, a: Array, b: Array) -> Array:
        """a @ b for matrices, or stacks of them."""
        return a @ b

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        """`target[index] += values`, in place, adding up where the index names an element more than once."""
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

    def lerp(self, mean: Array, value: Array, weight: float) -> None:
        """mean ← mean + weight · (value − mean), in place."""
        mean += weight * (value - mean)

    def sgd_step(self, p: Array, g: Array, velocity: Array | None, rule: SGDRule) -> None:
        """One step of stochastic gradient descent on `p`, in place; the formula is `optim.sgd.sgd_formula`."""
        raise NotImplementedError

    def adam_step(self, p: Array, g: Array, m: Array, v: Array, rule: AdamRule) -> None:
        """One step of Adam on `p`, `m`, `v`, in place; the formula is `optim.adam.adam_formula`."""
        raise NotImplementedError


class SGDRule:
    """The numbers of one SGD step."""

    __slots__ = ("dampening", "first", "lr", "momentum", "nesterov", "weight_decay")

    def __init__(
        self, lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, first: bool
    ) -> None:
        self.lr, self.momentum, self.dampening = lr, momentum, dampening
        self.weight_decay, self.nesterov, self.first = weight_decay, nesterov, first


class AdamRule:
    """The numbers of one Adam step. `step` counts from 1; `decoupled` makes it AdamW."""

    __slots__ = ("beta1", "beta2", "decoupled", "eps", "lr", "root_correction2", "step_size", "weight_decay")

    def __init__(
        self, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, step: int
    ) -> None:
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.step_size = lr / (1 - beta1**step)
        self.root_correction2 = (1 - beta2**step) ** 0.5


class NumpyBackend(Backend):
    """NumPy on the host."""

    name = "numpy"
    xp = np
    array_type = np.ndarray

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

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return parallel.matmul(a, b)

    def scatter_add(self, target: np.ndarray, index: Any, values: np.ndarray) -> None:
        np.add.at(target, index, values)

    def erf(self, x: np.ndarray) -> np.ndarray:
        return scipy.special.erf(x)

    def quiet(self) -> contextlib.AbstractContextManager:
        return np.errstate(all="ignore")

    def lerp(self, mean: np.ndarray, value: np.ndarray, weight: float) -> None:
        def update(mean: np.ndarray, value: np.ndarray) -> None:
            t = value - mean
            t *= weight
            mean += t

        in_chunks(update, (mean,), value)

    def sgd_step(self, p: np.ndarray, g: np.ndarray, velocity: np.ndarray | None, rule: SGDRule) -> None:
        def update(p: np.ndarray, *rest: np.ndarray) -> None:
            *state, g = rest
            if rule.weight_decay:
                g = g + rule.weight_decay * p
            for u in state:
                if rule.first:
                    u[...] = g
                else:
                    u *= rule.momentum
                    u += (1 - rule.dampening) * g
                g = g + rule.momentum * u if rule.nesterov else u
            p -= rule.lr * g

        in_chunks(update, (p,) if velocity is None else (p, velocity), g)

    def adam_step(self, p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, rule: AdamRule) -> None:
        root = rule.root_correction2

        def update(p: np.ndarray, m: np.ndarray, v: np.ndarray, g: np.ndarray) -> None:
            if rule.weight_decay and rule.decoupled:
                p *= 1 - rule.lr * rule.weight_decay
            elif rule.weight_decay:
                g = g + rule.weight_decay * p
            # m ← m + (1 − β1)(g − m)
            t = g - m
            t *= 1 - rule.beta1
            m += t
            # v ← v + (1 − β2)(g² − v)
            np.multiply(g, g, out=t)
            t -= v
            t *= 1 - rule.beta2
            v += t
            # p ← p − lr/(1 − β1ᵗ) · m / (√v/√(1 − β2ᵗ) + ε), the fraction expanded by √(1 − β2ᵗ)
            np.sqrt(v, out=t)
            t += rule.eps * root
            np.divide(m, t, out=t)
            t *= rule.step_size * root
            p -= t

        in_chunks(update, (p, m, v), g)


def _make_cupy_backend() -> Backend:  # pragma: no cover - runs where a GPU is
    import cupy
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
