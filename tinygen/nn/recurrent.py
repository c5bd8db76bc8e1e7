"""Recurrent layers, and their cells for one step; see tinygen/functional/recurrent.py for the formulas.

Shapes: t steps, n batch, i input_size, d hidden_size, l = num_layers · (2 if bidirectional else 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.functional.recurrent import recurrence
from tinygen.nn.init import kaiming_uniform
from tinygen.nn.module import Module, Parameter
from tinygen.random import Stream

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}  # how many of d rows each
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Recurrent(Module):
    """What layers and cells hold: weights of each layer and direction, uniform in ±1/√hidden_size."""

    def __init__(self, mode: str, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size and hidden_size must be at least 1, "
                f"got {input_size} and {hidden_size}"
            )
        self.mode, self.input_size, self.hidden_size, self.bias = mode, input_size, hidden_size, bias

    def _make_weights(self, suffix: str, inputs: int, random: Stream) -> None:
        rows, d = GATES[self.mode] * self.hidden_size, self.hidden_size
        for name, shape in zip(WEIGHTS, ((rows, inputs), (rows, d), (rows,), (rows,))):
            made = name.startswith("weight") or self.bias
            setattr(self, name + suffix, Parameter(kaiming_uniform(shape, d, random)) if made else None)

    def _weights(self, suffix: str) -> list[Parameter]:
        return [w for name in WEIGHTS if (w := getattr(self, name + suffix)) is not None]

    def _states(self, given: Any, shape: tuple[int, ...], x: Tensor) -> list[Tensor]:
        """The states to begin with, (h,) or (h, c): those given, or zeros."""
        names = ("h_0", "c_0") if self.mode == "LSTM" else ("h_0",)
        if given is None:
            return [Tensor(x.backend.xp.zeros(shape, x.dtype)) for _ in names]
        states = [given] if isinstance(given, Tensor) else list(given)
        if len(states) != len(names):
            raise ValueError(f"{type(self).__name__}: hx must be ({', '.join(names)}), got {len(states)} tensors")
        for name, state in zip(names, states):
            if state.shape != shape or state.dtype != x.dtype:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be {x.dtype} {shape} for x {x.shape}, "
                    f"got {state.dtype} {state.shape}"
                )
        return states

    def _check_input(self, x: Tensor, layouts: dict[int, str]) -> None:
        """layouts: the shapes that x may have, by number of dimensions."""
        kind = type(self).__name__
        if x.ndim not in layouts or 0 in x.shape[:-1]:
            raise ValueError(f"{kind}: x must be {' or '.join(layouts.values())}, none of them 0, got {x.shape}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"{kind}: x must have {self.input_size} features, got {x.shape[-1]}: x {x.shape}")
        weight = next(self.parameters())
        if x.dtype != weight.dtype:
            raise ValueError(f"{kind}: x must be {weight.dtype} as the weights, got {x.dtype}; use x.to()")


# ---------------------------------------------------------------- layers


class _Layers(_Recurrent):
    """Layers over a whole sequence, the next on the outputs of the one before."""

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
        dropout: float, bidirectional: bool, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(mode, input_size, hidden_size, bias)
        if num_layers < 1:
            raise ValueError(f"{type(self).__name__}: num_layers must be at least 1, got {num_layers}")
        if not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be in [0, 1), got {dropout}")
        if dropout and num_layers == 1:
            raise ValueError(
                f"{type(self).__name__}: dropout comes between layers, and num_layers is 1; use nn.Dropout after it"
            )
        self.num_layers, self.batch_first, self.bidirectional = num_layers, batch_first, bidirectional
        self.dropout, self.random = dropout, random.child("dropout")
        for layer in range(num_layers):
            inputs = hidden_size * self.directions if layer else input_size
            for direction in range(self.directions):
                self._make_weights(_suffix(layer, direction), inputs, random)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def forward(self, x: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """(h of the last layer at all steps, the states after the last step): see the class."""
        batched = "(n, t, i)" if self.batch_first else "(t, n, i)"
        self._check_input(x, {2: "(t, i)", 3: batched})
        single, count = x.ndim == 2, self.num_layers * self.directions
        swap = self.batch_first and not single
        n = () if single else (x.shape[0 if self.batch_first else 1],)
        states = self._states(hx, (count, *n, self.hidden_size), x)
        if single:
            x, states = F.unsqueeze(x, 1), [F.unsqueeze(s, 1) for s in states]
        y, after = self._run(F.transpose(x, 0, 1) if swap else x, states)
        if single:
            y, after = F.squeeze(y, 1), [F.squeeze(s, 1) for s in after]
        return F.transpose(y, 0, 1) if swap else y, tuple(after) if self.mode == "LSTM" else after[0]

    def _run(self, y: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                y = F.dropout(y, self.dropout, self.training, self.random)
            outputs = []
            for direction in range(self.directions):
                here = [s[layer * self.directions + direction] for s in states]
                weights = self._weights(_suffix(layer, direction))
                h, last = recurrence(self.mode, y, here, weights, reverse=direction == 1)
                outputs.append(h)
                after.append(last)
            y = F.cat(outputs, 2) if self.bidirectional else outputs[0]  # (t, n, d · directions)
        return y, [F.stack(each) for each in zip(*after)]

    def extra_repr(self) -> str:
        more = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        changed = [f", {name}={getattr(self, name)}" for name, usual in more.items() if getattr(self, name) != usual]
        return f"{self.input_size}, {self.hidden_size}{''.join(changed)}"


def _suffix(layer: int, direction: int) -> str:
    return f"_l{layer}{'_reverse' if direction else ''}"


class RNN(_Layers):
    """h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or max(0, …) with nonlinearity="relu", at each step (Elman 1990).

    x (t, n, i), or (n, t, i) with batch_first, or (t, i) for one sequence; hx (l, n, d), zeros if None. Gives
    (h of the last layer at all steps, (t, n, d) or (t, n, 2d) if bidirectional; h after the last step (l, n, d)).
    Parameters of layer k: weight_ih_lk (d, i), for k > 0 (d, d · directions); weight_hh_lk (d, d); bias_ih_lk and
    bias_hh_lk (d,); those of the other direction end with _reverse. In training, dropout falls on what one layer gives
    to the next.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *, random: Stream,
    ) -> None:  # fmt: skip
        mode = _rnn_mode("RNN", nonlinearity)
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, random
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(_Layers):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        c' = σ(f) c + σ(i) tanh(g);  h' = σ(o) tanh(c');  (i, f, g, o) = w_ih x + b_ih + w_hh h + b_hh.

    As nn.RNN, with hx the pair (h_0, c_0) and the pair (h_n, c_n) as second result, and 4d rows in all parameters.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, *, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, random
        )  # fmt: skip


class GRU(_Layers):
    """The gated recurrent unit (Cho et al. 2014, with the reset gate after the product):

        r, z = σ(w_ih x + b_ih + w_hh h + b_hh);  m = tanh(w_im x + b_im + r (w_hm h + b_hm));  h' = (1 − z) m + z h.

    As nn.RNN, with 3d rows in all parameters: r, z, m.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, *, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, random
        )  # fmt: skip


# ---------------------------------------------------------------- cells


class _Cell(_Recurrent):
    """One step of one layer."""

    def __init__(self, mode: str, input_size: int, hidden_size: int, bias: bool, random: Stream) -> None:
        super().__init__(mode, input_size, hidden_size, bias)
        self._make_weights("", input_size, random)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """The state after the step: see the class."""
        self._check_input(x, {1: "(i,)", 2: "(n, i)"})
        states = self._states(hx, (*x.shape[:-1], self.hidden_size), x)
        rows, batch = (1, -1, self.input_size), (-1, self.hidden_size)
        _, after = recurrence(self.mode, x.reshape(rows), [s.reshape(batch) for s in states], self._weights(""))
        made = tuple(new.reshape(old.shape) for new, old in zip(after, states))
        return made if self.mode == "LSTM" else made[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or max(0, …) with nonlinearity="relu".

    x (n, i) or (i,); hx (n, d) or (d,), zeros if None; h' as hx. Parameters weight_ih (d, i), weight_hh (d, d),
    bias_ih, bias_hh (d,).
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, random: Stream
    ) -> None:
        super().__init__(_rnn_mode("RNNCell", nonlinearity), input_size, hidden_size, bias, random)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """One step of nn.LSTM: x (n, i) or (i,), hx = (h, c) each (n, d) or (d,), zeros if None; gives (h', c').

    Parameters weight_ih (4d, i), weight_hh (4d, d), bias_ih, bias_hh (4d,): the gates i, f, g, o.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, random: Stream) -> None:
        super().__init__("LSTM", input_size, hidden_size, bias, random)


class GRUCell(_Cell):
    """One step of nn.GRU: x (n, i) or (i,), hx (n, d) or (d,), zeros if None; gives h'.

    Parameters weight_ih (3d, i), weight_hh (3d, d), bias_ih, bias_hh (3d,): r, z, m.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, random: Stream) -> None:
        super().__init__("GRU", input_size, hidden_size, bias, random)


def _rnn_mode(name: str, nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'{name}: nonlinearity must be "tanh" or "relu", got {nonlinearity!r}')
    return f"RNN_{nonlinearity.upper()}"
