"""What the NumPy backend does its own way, for speed: each has its formula beside it in the tests or in optim.

All of it is elementwise or nearly so, and bound by memory: hence chunks that stay within the cache, one trip to memory
for a whole chain of operations, and memory that is used again instead of being asked of the system.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import scipy.special

from tinygen.parallel import in_chunks

# ---------------------------------------------------------------- memory

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 512 << 20  # bytes at the end of the heap that are not given back
MAPPED = 32 << 20  # bytes from which an array is mapped apart; glibc takes no more


def keep_freed_memory() -> None:
    """Let the C library keep what arrays leave free, as a training step makes the same arrays again and again.

    By default glibc returns the end of its heap to the system, and every page of a new array then costs a fault: a
    third of an attention step. What the user set by MALLOC_… or GLIBC_TUNABLES stays as it is.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MAPPED)
        mallopt(_TRIM_THRESHOLD, KEPT)


# ---------------------------------------------------------------- operations

# erf(x) = x P(x²)/Q(x²), with x held within ±4: the rational approximation that Eigen uses for single precision
_ERF_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
          -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
          -1.42647390514189e-02)  # fmt: skip


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, in the precision of x; float32 within 5e-7 and seven times as fast as SciPy's."""
    if x.dtype != np.float32:
        return np.asarray(scipy.special.erf(x), x.dtype)
    y = np.empty_like(x)
    if y.ndim:
        in_chunks(_erf, (y,), x)
    else:
        _erf(y, x)
    return y


def _erf(y: np.ndarray, x: np.ndarray) -> None:
    np.clip(x, -4, 4, out=y)
    square = y * y
    for factors, first in ((_ERF_P, True), (_ERF_Q, False)):
        polynomial = np.full_like(square, factors[0])
        for factor in factors[1:]:
            polynomial *= square
            polynomial += np.float32(factor)
        if first:
            y *= polynomial
        else:
            y /= polynomial


CG_STEPS = 400  # of conjugate gradients, after which a factorization of the matrix is the faster way
SYMMETRIC: dict[str, Any] = {  # SuperLU's settings for a symmetric positive definite matrix: pivots on the diagonal
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}


def scatter_add(target: np.ndarray, index: Any, values: np.ndarray) -> None:
    """`target[index] += values`, adding up where the index names an element more than once."""
    rows = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    is_rows = isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu" and target.ndim == 2
    is_half = target.dtype.itemsize < 4  # sparse matrices have no such numbers
    if not is_rows or is_half or values.shape != (len(rows), target.shape[1]) or not len(rows) or rows.min() < 0:
        np.add.at(target, index, values)
        return
    if rows.max() >= len(target):
        raise IndexError(f"index {rows.max()} is out of bounds for axis 0 with size {len(target)}")
    # whole rows: a product with the matrix that has a 1 where value row j goes to target row i
    ones, columns = np.ones(len(rows), values.dtype), np.arange(len(rows))
    target += scipy.sparse.csr_matrix((ones, (rows, columns)), shape=(len(target), len(rows))) @ values


def solve_sparse(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, right: np.ndarray, tolerance: float
) -> np.ndarray:
    """Conjugate gradients, as they win where the unknowns hang together in small groups; a factorization where not."""
    size = len(right)
    wide = np.asarray(right, np.float64).reshape(size, -1)  # (n, k)
    matrix = scipy.sparse.csr_matrix((np.asarray(values, np.float64), (rows, columns)), shape=(size, size))
    # All systems as one: a trip through the matrix then serves k columns. Divided by its diagonal, its unknowns are
    # of one scale.
    all_at_once, diagonal = (wide.size, wide.size), matrix.diagonal()[:, None]
    found, missed = scipy.sparse.linalg.cg(
        scipy.sparse.linalg.LinearOperator(all_at_once, lambda x: (matrix @ x.reshape(wide.shape)).ravel()),
        wide.ravel(),
        rtol=tolerance,
        maxiter=CG_STEPS,
        M=scipy.sparse.linalg.LinearOperator(all_at_once, lambda r: (r.reshape(wide.shape) / diagonal).ravel()),
    )
    if missed:
        found = scipy.sparse.linalg.splu(matrix.tocsc(), **SYMMETRIC).solve(wide)
    return found.reshape(right.shape).astype(right.dtype)


# ---------------------------------------------------------------- updates in place


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


def sgd_step(p: np.ndarray, g: np.ndarray, velocity: np.ndarray | None, rule: SGDRule) -> None:
    """The formula is `optim.sgd.sgd_formula`."""

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


def adam_step(p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, rule: AdamRule) -> None:
    """The formula is `optim.adam.adam_formula`."""
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
