"""A running average of a module's parameters, which makes better samples than the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinygen.autograd import Tensor
from tinygen.backend import Array
from tinygen.nn import Module


class EMA:
    """Exponential moving average θ̄ ← θ̄ + (1 − decay)(θ − θ̄), so that after n updates from θ̄₀

        θ̄_n = (1 − decay) Σ_k decay^(n−k) θ_k + decayⁿ θ̄₀.

    averaged: a module built like `source`; it starts as its copy and then holds θ̄. Buffers, such as running means,
    are copied as they are. Source: Polyak and Juditsky 1992; for generators Yazıcı et al. 2019.

    Raises ValueError where the two differ in the names or shapes of their parameters and buffers, or share some.
    """

    def __init__(self, averaged: Module, source: Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), got {decay}")
        self._parameters = _pairs(averaged.named_parameters(), source.named_parameters())
        self._buffers = _pairs(averaged.named_buffers(), source.named_buffers())
        averaged.load_state_dict(source.state_dict())
        averaged.requires_grad_(False)
        self.averaged, self.decay = averaged.eval(), decay

    def update(self) -> None:
        """Take in the source's parameters of this moment."""
        for mean, now in self._parameters:
            mean.backend.in_chunks(self._move, (mean.data,), now.data)
            mean.written()
        for copy, buffer in self._buffers:
            copy.data = buffer.data.copy()

    def _move(self, mean: Array, now: Array) -> None:
        step = now - mean
        step *= 1 - self.decay
        mean += step

    def state_dict(self) -> dict[str, Any]:
        """The averaged module's."""
        return self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from an average that `state_dict` gave."""
        self.averaged.load_state_dict(state)


def _pairs(averaged: Iterator[tuple[str, Tensor]], source: Iterator[tuple[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The tensors of one name in the two modules."""
    here, there = dict(averaged), dict(source)
    differ = here.keys() ^ there.keys()  # also where one of them uses a tensor twice and the other has two
    if differ:
        raise ValueError(f"EMA: averaged and source differ in {', '.join(sorted(differ))}; build them alike")
    shared = [name for name in here if here[name] is there[name]]
    if shared:
        raise ValueError(f"EMA: averaged and source share {', '.join(shared)}; build a second module")
    return [(here[name], there[name]) for name in here]
