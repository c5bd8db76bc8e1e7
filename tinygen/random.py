"""Seeded random streams: every draw of a run comes from a stream with a name, derived from the run's seed.

    random = Stream(seed=0)
    noise, order = random.child("noise"), random.child("order")   # independent; the order of creation is irrelevant
    z = noise.normal((64, 100))                                   # an array on the current backend

The numbers are drawn on the host by PCG64 and then moved, so that one seed gives the same numbers on every backend.
A stream's state is a small array: a checkpoint holds it, and a resumed run draws on as if never stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygen import backend as _backend
from tinygen.backend import Array, Backend

Shape = int | tuple[int, ...]
_MASK64 = (1 << 64) - 1


class Stream:
    """A source of random arrays. Equal `(seed, name)` give equal draws, on every backend and machine.

    seed: a whole number ≥ 0.
    name: which stream of that seed; `child` extends it as a path does.
    backend: where the arrays go; None means the backend in use at each draw.
    """

    def __init__(self, seed: int, name: str = "", backend: Backend | None = None) -> None:
        if seed < 0:
            raise ValueError(f"Stream: seed must be 0 or more, got {seed}")
        self.seed, self.name, self._where = int(seed), name, backend
        digest = hashlib.sha256(name.encode()).digest()
        key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))

    def child(self, name: str) -> Stream:
        """The stream `name` below this one. It depends on the seed and the names alone, not on what was drawn."""
        return Stream(self.seed, f"{self.name}/{name}", self._where)

    def _place(self, host: Any) -> Array:
        return (self._where or _backend.current()).from_host(np.asarray(host))

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: str = "float32") -> Array:
        """Independent draws from [low, high)."""
        u = self._generator.random(shape, dtype)  # type: ignore[call-overload]
        return self._place(u if (low, high) == (0.0, 1.0) else low + (high - low) * u)

    def normal(self, shape: Shape, mean: float = 0.0, std: float = 1.0, dtype: str = "float32") -> Array:
        """Independent draws from N(mean, std²)."""
        x = self._generator.standard_normal(shape, dtype)  # type: ignore[call-overload]
        return self._place(x if (mean, std) == (0.0, 1.0) else mean + std * x)

    def integers(self, low: int, high: int, shape: Shape, dtype: str = "int64") -> Array:
        """Independent draws from {low, …, high − 1}."""
        return self._place(self._generator.integers(low, high, shape, dtype))

    def bernoulli(self, p: float, shape: Shape) -> Array:
        """Independent booleans, True with probability p."""
        return self._place(self._generator.random(shape, "float32") < p)

    def poisson(self, rate: Any, dtype: str = "float32") -> Array:
        """Independent Poisson counts, one for each entry of `rate` (an array of any backend)."""
        host = _backend.of(rate).to_host(rate) if not isinstance(rate, (int, float)) else rate
        return self._place(np.asarray(self._generator.poisson(host), dtype))

    def permutation(self, n: int) -> Array:
        """The numbers 0 … n − 1 in random order."""
        return self._place(self._generator.permutation(n))

    def state_dict(self) -> dict[str, np.ndarray]:
        """The place in the stream, as one array of six 64-bit words."""
        state = self._generator.bit_generator.state
        words = [part >> shift & _MASK64 for part in state["state"].values() for shift in (64, 0)]
        return {"pcg64": np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place that `state_dict` told."""
        words = [int(word) for word in state["pcg64"]]
        if len(words) != 6:
            raise ValueError(f"Stream: a state has 6 words, got {len(words)}")
        self._generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": words[0] << 64 | words[1], "inc": words[2] << 64 | words[3]},
            "has_uint32": words[4],
            "uinteger": words[5],
        }

    def __repr__(self) -> str:
        return f"Stream(seed={self.seed}, name={self.name!r})"
