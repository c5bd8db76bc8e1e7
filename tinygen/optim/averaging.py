"""A running average of a module's parameters, which makes better samples than the last of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygen.nn import Module


class EMA:
    """Exponential moving average θ̄ ← θ̄ + (1 − decay)(θ − θ̄), so that after n updates from θ̄₀

        θ̄_n = (1 − decay) Σ_k decay^(n−k) θ_k + decayⁿ θ̄₀.

    averaged: a module built like `source`; it starts as its copy and then holds θ̄. Buffers, such as running means,
    are copied as they are. Source: Polyak and Juditsky 1992; for generators Yazıcı et al. 2019.
    """

    def __init__(self, averaged: Module, source: Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), got {decay}")
        averaged.load_state_dict(source.state_dict())
        averaged.requires_grad_(False)
        self.averaged, self.decay = averaged.eval(), decay
        self._parameters = list(zip(averaged.parameters(), source.parameters()))
        self._buffers = list(zip(averaged.buffers(), source.buffers()))

    def update(self) -> None:
        """Take in the source's parameters of this moment."""
        for mean, now in self._parameters:
            mean.backend.lerp(mean.data, now.data, 1 - self.decay)
            mean.written()
        for copy, buffer in self._buffers:
            copy.data = buffer.data.copy()

    def state_dict(self) -> dict[str, Any]:
        """The averaged module's."""
        return self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from an average that `state_dict` gave."""
        self.averaged.load_state_dict(state)
