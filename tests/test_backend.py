"""Choosing a backend, and the operations in which backends differ."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special

from tinygen import backend
from tinygen.errors import BackendError


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_environment_chooses_and_use_overrides():
    show = "from tinygen import backend; print(backend.current().name)"
    assert run(show, TINYGEN_BACKEND="strict").stdout == "strict\n"
    assert run(show, TINYGEN_BACKEND="").stdout == "numpy\n"
    assert (
        run("from tinygen import backend; backend.use('numpy');" + show, TINYGEN_BACKEND="strict").stdout == "numpy\n"
    )
    failed = run(show, TINYGEN_BACKEND="numpi")
    assert 'backend "numpi" is unknown (did you mean "numpy"?)' in failed.stderr


def test_auto_is_cupy_only_with_a_device():
    assert backend.get("auto").name == ("cupy" if backend.cupy_available() else "numpy")
    if not backend.cupy_available():
        with pytest.raises(BackendError, match=r"CuPy (is not installed|finds no CUDA device)"):
            backend.get("cupy")


def test_using_is_undone_also_after_an_error():
    before = backend.current()

    def fail():
        with backend.using("strict"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert backend.current() is before


def test_importing_tinygen_imports_no_array_library():
    done = run("import sys, tinygen, tinygen.host; print({'numpy', 'cupy', 'matplotlib', 'scipy'} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr


def test_of_knows_its_arrays_and_refuses_others():
    with pytest.raises(TypeError, match="expected an array of numpy"):
        backend.of([1.0])
    assert backend.of(np.ma.ones(2)).name == "numpy"


@pytest.mark.parametrize("shape", [(30,), (30, 3)])
@pytest.mark.parametrize("steps", [400, 1])  # of conjugate gradients, before it gives way to a factorization
def test_solve_sparse_is_numpy_s_dense_solution(backend, monkeypatch, shape, steps):
    monkeypatch.setattr("tinygen.cpu.CG_STEPS", steps)
    random = np.random.default_rng(0)
    factor = np.where(random.random((30, 30)) < 0.1, random.normal(size=(30, 30)), 0)
    matrix = factor @ factor.T + np.eye(30)
    rows, columns = np.nonzero(matrix)
    entries = rows, columns, matrix[rows, columns]
    halves = [np.concatenate([a, a]) for a in entries[:2]] + [np.concatenate([entries[2], entries[2]]) / 2]
    right = random.normal(size=shape)
    for each in (entries, halves):  # what stands at the same place adds up
        found = backend.solve_sparse(*(backend.from_host(a) for a in each), backend.from_host(right))
        np.testing.assert_allclose(backend.to_host(found), np.linalg.solve(matrix, right), rtol=1e-7, atol=1e-8)
    small = backend.solve_sparse(*(backend.from_host(a) for a in each), backend.from_host(right.astype("float32")))
    assert small.dtype == np.float32
    zero = backend.solve_sparse(*(backend.from_host(a) for a in each), backend.from_host(0 * right))
    assert not backend.to_host(zero).any()


def test_scatter_add_and_erf(backend):
    target = backend.from_host(np.zeros((3, 2)))
    index = backend.from_host(np.array([0, 2, 0]))
    backend.scatter_add(target, (index, 1), backend.from_host(np.array([1.0, 2.0, 3.0])))
    assert np.array_equal(backend.to_host(target), [[0, 4], [0, 0], [0, 2]])
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    erf = backend.erf(backend.from_host(x))
    assert erf.dtype == np.float32
    np.testing.assert_allclose(backend.to_host(erf), scipy.special.erf(x.astype(float)), rtol=1e-6)
    assert backend.scalar(backend.asarray(2.5)) == 2.5
