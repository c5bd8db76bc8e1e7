"""Parzen windows: what the equation's own tests (with the gan) leave out."""

import numpy as np
import pytest

from tinygen import backend
from tinygen.metrics import parzen
from tinygen.testing import close


def test_rows_in_pieces_are_rows_at_once(monkeypatch):
    random = np.random.default_rng(0)
    place = backend.current().from_host
    x, samples = place(random.random((11, 3), np.float32)), place(random.random((7, 3), np.float32))
    whole = parzen.parzen_log_likelihood(x, samples, 0.2)
    monkeypatch.setattr(parzen, "ROWS", 4)
    close(parzen.parzen_log_likelihood(x, samples, 0.2), backend.current().to_host(whole), rtol=1e-12)
    assert whole.dtype == np.float64


def test_refusals():
    place = backend.current().from_host
    with pytest.raises(ValueError, match=r"must be \(n, d\) and \(N, d\), got \(2, 3\) and \(2, 4\)"):
        parzen.parzen_log_likelihood(place(np.ones((2, 3))), place(np.ones((2, 4))), 0.1)
    for x, samples in ((0, 2), (2, 0), (0, 0)):
        with pytest.raises(ValueError, match=rf"one row or more, got \({x}, 3\) and \({samples}, 3\)"):
            parzen.parzen_log_likelihood(place(np.ones((x, 3))), place(np.ones((samples, 3))), 0.1)
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        parzen.parzen_log_likelihood(place(np.ones((2, 3))), place(np.ones((2, 3))), 0)
