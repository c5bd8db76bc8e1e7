"""Recurrent networks: a whole sequence, one layer and one direction, as one node of the tape.

Why not a node for each step? The weights' gradient is then one product over all steps instead of a small one and an
addition for each; and the products of the inputs, which wait for nothing, are one product in front of the loop. Each
network is written twice: as the field writes it (the `…_cell` formulas, on tensors), and as `forward` and `gradient` on
arrays, which are fast. The gradient's own derivative is the tape's way through the formulas, hence right in any order.

Shapes: t steps, n batch, i input features, d features of the state, g gates side by side (d, 3d or 4d).
x (t, n, i); states (n, d); w_ih (g, i), w_hh (g, d), b_ih, b_hh (g).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygen.autograd.engine import grad
from tinygen.autograd.function import Function
from tinygen.autograd.mode import enable_grad, is_grad_enabled
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import relu, sigmoid, tanh
from tinygen.functional.linear import linear
from tinygen.functional.shape import chunk, reshape, stack

Cell = Callable[..., tuple[Tensor, ...]]  # (x's part of the gates, h's part, *states) to the states after

# ---------------------------------------------------------------- the formulas, one step each


def rnn_tanh_formula(ax: Tensor, ah: Tensor, h: Tensor) -> tuple[Tensor]:
    """h' = tanh(a)."""
    return (tanh(ax + ah),)


def rnn_relu_formula(ax: Tensor, ah: Tensor, h: Tensor) -> tuple[Tensor]:
    """h' = max(a, 0)."""
    return (relu(ax + ah),)


def lstm_formula(ax: Tensor, ah: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'), with (i, f, g, o) side by side in a."""
    i, f, g, o = chunk(ax + ah, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_formula(ax: Tensor, ah: Tensor, h: Tensor) -> tuple[Tensor]:
    """h' = (1 − σ(z)) m + σ(z) h, m = tanh(x's part + σ(r) · h's part), with (r, z, m) side by side in a."""
    (rx, zx, mx), (rh, zh, mh) = chunk(ax, 3, 1), chunk(ah, 3, 1)
    z = sigmoid(zx + zh)
    m = tanh(mx + sigmoid(rx + rh) * mh)
    return (m + z * (h - m),)


def sequence_formula(
    cell: Cell, reverse: bool, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """h of all steps (t, n, d), then the last of each further state; the oracle of the fast paths."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (None, None)
    h = [states[0]] * len(x)
    for t in _order(len(x), reverse):
        states = cell(linear(x[t], w_ih, b_ih), linear(states[0], w_hh, b_hh), *states)
        h[t] = states[0]
    return stack(h), *states[1:]


def _order(steps: int, reverse: bool) -> range:
    return range(steps)[::-1] if reverse else range(steps)


# ---------------------------------------------------------------- the same, fast


class _Sequence(Function):
    """(x, *states, w_ih, w_hh, b_ih, b_hh) to (h of all steps, *further states at the end); biases may be absent.

    `forward` keeps what `gradient` is computed from in `kept`. h of before the first step stands in one array with
    those of all steps, so that the weights' gradient finds the h before each step without a copy.
    """

    formula: Cell
    n_states = 1
    saves_outputs = (0,)  # part of what is kept
    kept: tuple[Array, ...]

    def __init__(self, reverse: bool) -> None:
        self.reverse = reverse

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        return range(len(needs)), self.saves_outputs

    def backward(self, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs = self.saved[: len(self.needs)]
        wanted = [i for i, need in enumerate(self.needs) if need]
        found = iter(SequenceGradient(self, wanted)(*gradients, *inputs))
        return tuple([next(found) if need else None for need in self.needs])

    def gradient(self, gradients: Sequence[Array], w_hh: Array) -> tuple[Array, Array, Sequence[Array]]:
        """From those of the outputs, the gradients of x's part of the gates and of h's part (t, n, g), and of the
        states before the first step."""
        raise NotImplementedError

    # ------------------------------------------------------------ what the networks share

    def before(self, h: Array) -> Array:
        """Of an array of t + 1 states: those before each step."""
        return h[1:] if self.reverse else h[:-1]

    def after(self, h: Array) -> Array:
        """Of an array of t + 1 states: those after each step."""
        return h[:-1] if self.reverse else h[1:]

    def begin(self, steps: int, state: Array) -> Array:
        """Room for t + 1 states, with the one before the first step in its place."""
        h = of(state).xp.empty((steps + 1, *state.shape), state.dtype)
        h[-1 if self.reverse else 0] = state
        return h

    @staticmethod
    def inputs_part(x: Array, w_ih: Array, bias: Array | None) -> Array:
        """x's part of the gates, of all steps at once: (t, n, g) = (t·n, i) @ (i, g)."""
        a = x.reshape(-1, x.shape[2]) @ w_ih.T
        if bias is not None:
            a += bias
        return a.reshape(*x.shape[:2], -1)


class SequenceGradient(Function):
    """(gradients of the outputs, inputs) of a sequence to the gradients of its inputs at `wanted`."""

    def __init__(self, node: _Sequence, wanted: Sequence[int]) -> None:
        self.like, self.wanted = type(node)(node.reverse), wanted
        self.like.kept = node.kept

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        return range(len(needs)), ()

    def forward(self, *arrays: Array) -> tuple[Array, ...]:
        n = self.like.n_states
        gradients, x, (w_ih, w_hh) = arrays[:n], arrays[n], arrays[2 * n + 1 : 2 * n + 3]
        gax, gah, gstates = self.like.gradient(gradients, w_hh)
        by_x, by_h = gax.reshape(-1, gax.shape[2]), gah.reshape(-1, gah.shape[2])  # (t·n, g)
        h = self.like.before(self.like.kept[0])
        rules = [
            lambda: (by_x @ w_ih).reshape(x.shape),  # (t·n, i) = (t·n, g) @ (g, i)
            *[lambda g=g: g for g in gstates],
            lambda: by_x.T @ x.reshape(-1, x.shape[2]),  # (g, i) = (g, t·n) @ (t·n, i)
            lambda: by_h.T @ h.reshape(-1, h.shape[2]),  # (g, d) = (g, t·n) @ (t·n, d)
            lambda: by_x.sum(axis=0),
            lambda: by_h.sum(axis=0),
        ]
        return tuple([rules[i]() for i in self.wanted])

    def backward(self, *ggs: Tensor) -> tuple[Tensor | None, ...]:
        """The tape's derivative of the tape's derivative of the formula."""
        recording, n = is_grad_enabled(), self.like.n_states
        with enable_grad():
            inputs = [_apart(x) for x in self.saved]
            gys, x, states, weights = inputs[:n], inputs[n], inputs[n + 1 : 2 * n + 1], inputs[2 * n + 1 :]
            ys = sequence_formula(type(self.like).formula, self.like.reverse, x, states, weights)
            found = grad(ys, [inputs[n + i] for i in self.wanted], gys, create_graph=True)
        asked = [x for x, need in zip(inputs, self.needs) if need]
        arriving = iter(grad(found, asked, ggs, create_graph=recording))
        return tuple([next(arriving) if need else None for need in self.needs])


def _apart(x: Tensor) -> Tensor:
    """x as a tensor of its own on the tape: a derivative by it does not run through what it was made from, or into
    another input."""
    return reshape(x, x.shape) if x.requires_grad else x.detach().requires_grad_()


class RNN(_Sequence):
    """h' = tanh(a), a = w_ih x + b_ih + w_hh h + b_hh."""

    formula = staticmethod(rnn_tanh_formula)

    @staticmethod
    def activate(a: Array, h: Array) -> None:
        of(a).xp.tanh(a, out=h)

    @staticmethod
    def slope(h: Array) -> Array:
        """dh'/da, in terms of h'."""
        return 1 - h * h

    def forward(self, x: Array, h0: Array, w_ih: Array, w_hh: Array, *biases: Array) -> tuple[Array, ...]:
        a = self.inputs_part(x, w_ih, biases[0] + biases[1] if biases else None)
        hs = self.begin(len(x), h0)
        w = _transposed(w_hh)
        for t in _order(len(x), self.reverse):
            a[t] += self.before(hs)[t] @ w  # (n, d) = (n, d) @ (d, d)
            self.activate(a[t], self.after(hs)[t])
        self.kept = (hs,)
        return (self.after(hs),)

    def gradient(self, gradients: Sequence[Array], w_hh: Array) -> tuple[Array, Array, Sequence[Array]]:
        (gy,), hs = gradients, self.after(self.kept[0])
        ga, gh = self.slope(hs), 0.0
        for t in _order(len(gy), not self.reverse):
            ga[t] *= gy[t] + gh
            gh = ga[t] @ w_hh  # (n, d) = (n, d) @ (d, d)
        return ga, ga, (gh,)


class RNNRelu(RNN):
    """h' = max(a, 0); at a = 0 the slope is 0."""

    formula = staticmethod(rnn_relu_formula)

    @staticmethod
    def activate(a: Array, h: Array) -> None:
        of(a).xp.maximum(a, 0, out=h)

    @staticmethod
    def slope(h: Array) -> Array:
        return (h > 0).astype(h.dtype)


class LSTM(_Sequence):
    """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'); kept are the open gates s and u = tanh c'."""

    formula = staticmethod(lstm_formula)
    n_states = 2

    def forward(self, x: Array, h0: Array, c0: Array, w_ih: Array, w_hh: Array, *biases: Array) -> tuple[Array, ...]:
        xp, d = of(x).xp, h0.shape[1]
        # σ(a) = ½ + ½ tanh(a/2), so that one tanh opens all gates: half is (½, ½, 1, ½), a row's own in the weights
        half = xp.full((4, d), 0.5, x.dtype)
        half[2] = 1
        half = half.reshape(-1)
        rest, w = 1 - half, _transposed(w_hh) * half
        s = self.inputs_part(x, w_ih * half[:, None], (biases[0] + biases[1]) * half if biases else None)
        hs, cs = self.begin(len(x), h0), self.begin(len(x), c0)
        us = xp.empty((len(x), *h0.shape), h0.dtype)
        for t in _order(len(x), self.reverse):
            a, c, u = s[t], self.after(cs)[t], us[t]
            a += self.before(hs)[t] @ w  # (n, 4d) = (n, d) @ (d, 4d)
            xp.tanh(a, out=a)
            a *= half
            a += rest
            xp.multiply(a[:, d : 2 * d], self.before(cs)[t], out=c)
            c += a[:, :d] * a[:, 2 * d : 3 * d]
            xp.tanh(c, out=u)
            xp.multiply(a[:, 3 * d :], u, out=self.after(hs)[t])
        self.kept = hs, cs, s, us
        return self.after(hs), cs[0 if self.reverse else -1]

    def gradient(self, gradients: Sequence[Array], w_hh: Array) -> tuple[Array, Array, Sequence[Array]]:
        (gy, gc), (_, cs, ss, us) = gradients, self.kept
        xp, d = of(gy).xp, gy.shape[2]
        gas, gh = xp.empty_like(ss), 0.0
        for t in _order(len(gy), not self.reverse):
            ga, s, c, u = gas[t], ss[t], self.before(cs)[t], us[t]
            i, f, g, o = (s[:, k * d : (k + 1) * d] for k in range(4))
            gh = gh + gy[t]
            xp.multiply(gh, u, out=ga[:, 3 * d :])
            gh *= o
            gh *= 1 - u * u
            gc = gc + gh
            xp.multiply(gc, g, out=ga[:, :d])
            xp.multiply(gc, c, out=ga[:, d : 2 * d])
            xp.multiply(gc, i, out=ga[:, 2 * d : 3 * d])
            gc *= f
            square = s * s
            slope = s - square
            slope[:, 2 * d : 3 * d] = 1 - square[:, 2 * d : 3 * d]
            ga *= slope
            gh = ga @ w_hh  # (n, d) = (n, 4d) @ (4d, d)
        return gas, gas, (gh, gc)


class GRU(_Sequence):
    """h' = m + z (h − m), m = tanh(x's part + r · h's part); kept are s = (r, z, m) and h's part of m."""

    formula = staticmethod(gru_formula)

    def forward(self, x: Array, h0: Array, w_ih: Array, w_hh: Array, *biases: Array) -> tuple[Array, ...]:
        owner, d = of(x), h0.shape[1]
        xp, w = owner.xp, _transposed(w_hh)
        ss = self.inputs_part(x, w_ih, biases[0] if biases else None)
        hs = self.begin(len(x), h0)
        mhs = xp.empty((len(x), *h0.shape), h0.dtype)
        with owner.quiet():
            for t in _order(len(x), self.reverse):
                s, h, after = ss[t], self.before(hs)[t], self.after(hs)[t]
                ah = h @ w  # (n, 3d) = (n, d) @ (d, 3d)
                if biases:
                    ah += biases[1]
                mhs[t] = ah[:, 2 * d :]
                gates, m = s[:, : 2 * d], s[:, 2 * d :]
                gates += ah[:, : 2 * d]
                _sigmoid_(gates)
                m += gates[:, :d] * ah[:, 2 * d :]
                xp.tanh(m, out=m)
                xp.subtract(h, m, out=after)
                after *= gates[:, d:]
                after += m
        self.kept = hs, ss, mhs
        return (self.after(hs),)

    def gradient(self, gradients: Sequence[Array], w_hh: Array) -> tuple[Array, Array, Sequence[Array]]:
        (gy,), (hs, ss, mhs) = gradients, self.kept
        xp, d = of(gy).xp, gy.shape[2]
        gax, gah, gh = xp.empty_like(ss), xp.empty_like(ss), 0.0
        for t in _order(len(gy), not self.reverse):
            h, s, by_x, by_h = self.before(hs)[t], ss[t], gax[t], gah[t]
            r, z, m = (s[:, k * d : (k + 1) * d] for k in range(3))
            gh = gh + gy[t]
            gm = gh * (1 - z)
            gm *= 1 - m * m
            by_x[:, 2 * d :] = gm
            xp.multiply(gm, r, out=by_h[:, 2 * d :])
            xp.multiply(gm, mhs[t], out=by_x[:, :d])
            xp.multiply(gh, h - m, out=by_x[:, d : 2 * d])
            gates = s[:, : 2 * d]
            by_x[:, : 2 * d] *= gates - gates * gates
            by_h[:, : 2 * d] = by_x[:, : 2 * d]
            gh *= z
            gh += by_h @ w_hh  # (n, d) = (n, 3d) @ (3d, d)
        return gax, gah, (gh,)


def _transposed(w: Array) -> Array:
    """wᵀ, laid out for one product after the other."""
    return of(w).xp.ascontiguousarray(w.T)


def _sigmoid_(a: Array) -> None:
    """a ← 1/(1 + e⁻ᵃ), in place."""
    xp = of(a).xp
    xp.negative(a, out=a)
    xp.exp(a, out=a)
    a += 1
    xp.divide(1, a, out=a)


# ---------------------------------------------------------------- public

MODES: dict[str, type[_Sequence]] = {"RNN_TANH": RNN, "RNN_RELU": RNNRelu, "LSTM": LSTM, "GRU": GRU}


def recurrence(
    mode: str, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], reverse: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer of a network over a sequence, in one direction: h of all steps, and the states after the last one.

        RNN_TANH   h' = tanh(a),  a = w_ih x + b_ih + w_hh h + b_hh;   RNN_RELU   h' = max(a, 0), slope 0 at a = 0
        LSTM       c' = σ(f) c + σ(i) tanh(g),  h' = σ(o) tanh(c'),  with a = (i, f, g, o)
        GRU        h' = (1 − z) m + z h,  (r, z) = σ(a_r, a_z),
                   m = tanh(w_ih,m x + b_ih,m + r (w_hh,m h + b_hh,m)),  with a = (r, z, m)

    x (t, n, i), t ≥ 1; states (h,), of the LSTM (h, c), each (n, d); weights (w_ih (g, i), w_hh (g, d)) and after them
    perhaps (b_ih (g,), b_hh (g,)), with g = d, 4d, 3d. reverse: from the last step of x to the first.
    Source: Elman 1990; Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; Cho et al. 2014.
    """
    node = MODES[mode](reverse)
    result = node(x, *states, *weights)
    y, *rest = result if isinstance(result, tuple) else (result,)
    return y, (y[0 if reverse else -1], *rest)
