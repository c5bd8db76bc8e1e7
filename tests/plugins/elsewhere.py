"""Training on one backend beside the same on another."""

from collections.abc import Callable, Mapping

from tinygen import backend as library
from tinygen.testing import close


def same_elsewhere(train: Callable[[], Mapping], backend: library.Backend, rtol: float, atol: float) -> None:
    """train() gives one state, arrays by name, on `backend` and on another one."""
    here = train()
    with library.using("strict" if backend.name == "numpy" else "numpy"):
        there = train()
    assert list(here) == list(there)
    for name in here:
        close(here[name], there[name], rtol=rtol, atol=atol)
