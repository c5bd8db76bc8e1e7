"""Function: one operation, and the node that it leaves on the tape.

    class Multiply(Function):
        saves_inputs = (0, 1)                    # explicit: nothing else is kept alive

        def forward(self, x0, x1):               # raw arrays or Python numbers
            return x0 * x1

        def backward(self, gy):                  # tensors: a gradient is a computation as any other, hence
            x0, x1 = self.saved                  # gradients of gradients need no further rule
            return gy * x1, gy * x0

`needs[i]` tells whether input i's gradient is asked for; a costly rule looks at it, and gives None otherwise.
"""

from __future__ import annotations

import itertools
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen import backend as _backend
from tinygen.autograd.mode import mode
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array
from tinygen.errors import AnomalyError, BackendError

_count = itertools.count().__next__
_array_types = _backend.array_types
_NUMBERS = (bool, int, float)


class Function:
    """Base of all operations. An instance is used once: `Multiply()(x0, x1)`."""

    saves_inputs: tuple[int, ...] = ()
    saves_outputs: tuple[int, ...] = ()  # where the derivative is written in the result, as that of exp
    fills_zeros = True  # several outputs: backward gets zeros for an output that nothing used; False gives None
    is_view = False  # the output shares the first input's memory, where the library need not copy

    # Filled in where the call is recorded; `release` empties the instance again.
    # per input that needs a gradient: (the node that made it, or the leaf itself; which of the node's outputs; shape;
    # dtype), None for the others
    edges: Sequence[Any] = ()
    needs: Sequence[bool] = ()
    outputs: Sequence[Any] = ()  # per output, where there are several: (backend, shape, dtype)
    n_outputs = 1
    sequence = -1  # creation order; a node is always younger than what it was made from
    site = ""
    _saved: Sequence[Any] = ()
    _made: Sequence[Any] = ()

    def forward(self, *arrays: Any) -> Any:
        raise NotImplementedError

    def backward(self, *gradients: Any) -> Any:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The operation's name in messages: the class in lower case with underscores."""
        text = type(self).__name__
        return "".join(
            "_" * (i > 0 and c.isupper() and not text[i - 1].isupper()) + c.lower() for i, c in enumerate(text)
        )

    def __call__(self, *inputs: Any) -> Any:
        """Compute on the inputs' arrays, and record the step where an input requires a gradient."""
        arrays, owner, record = [], None, False
        for x in inputs:
            if isinstance(x, Tensor):
                record = record or x.requires_grad
                x = x._data
            arrays.append(x)
            kind = type(x)
            if kind is not owner and kind is not float and kind is not int:
                if owner is None and kind in _array_types:
                    owner = kind
                else:
                    arrays[-1] = self._operand(x, arrays)
        result = self.forward(*arrays)
        if type(result) is tuple:
            result = outputs = tuple([Tensor(y if type(y) in _array_types else _as_array(y, owner)) for y in result])
        else:
            result = Tensor(result if type(result) in _array_types else _as_array(result, owner))
            outputs = (result,)
        if self.is_view and isinstance(inputs[0], Tensor):
            for y in outputs:
                if _same_memory(arrays[0], y._data):
                    y._version = inputs[0]._version
        if mode.anomaly:
            self._check_finite(arrays, outputs)
        if record and mode.recording:
            self._record(inputs, arrays, outputs)
        return result

    def _record(self, inputs: tuple, arrays: list, outputs: tuple[Tensor, ...]) -> None:
        """Become a node of the tape."""
        self.sequence = _count()
        edges: list[Any] = []
        needs: list[bool] = []
        self.edges, self.needs = edges, needs
        for x in inputs:
            if isinstance(x, Tensor) and x.requires_grad:
                edges.append((x.node or x, x.index, x._data.shape, x._data.dtype))
                needs.append(True)
            else:
                edges.append(None)
                needs.append(False)
        for index, y in enumerate(outputs):
            if y._data.dtype.kind == "f":  # whole numbers and truth values have no gradient
                y.node, y.index, y.requires_grad = self, index, True
        if index:
            self.n_outputs = len(outputs)
            self.outputs = [(y.backend, y.shape, y.dtype) for y in outputs]
        # inputs as tensors, with the count of writes into their memory; outputs as bare arrays, or node and tensor
        # would be a cycle that only the garbage collector frees
        from_inputs, from_outputs = self.saves(needs)
        self._saved = saved = []
        for i in from_inputs:
            x = inputs[i]
            saved.append((x, x._version[0]) if isinstance(x, Tensor) else (arrays[i], 0))
        if from_outputs:
            made = [outputs[i] for i in from_outputs]
            self._made = [(y._data, y._version, y._version[0], y.index) for y in made]
        if mode.anomaly:
            self.site = _call_site()
            self._prints = [_fingerprint(x) for x in self.saved]

    def saves(self, needs: list[bool]) -> tuple[Sequence[int], Sequence[int]]:
        """Which inputs and outputs the gradients of the inputs in `needs` are computed from."""
        return self.saves_inputs, self.saves_outputs

    @property
    def saved(self) -> list[Any]:
        """The saved inputs, then the saved outputs, as tensors of the graph (numbers stay numbers)."""
        values = []
        for x, version in self._saved:
            if isinstance(x, Tensor):
                if x._version[0] != version:
                    self._refuse_written(x.shape)
            elif type(x) in _array_types:
                x = Tensor(x)
            values.append(x)
        for array, counter, version, index in self._made:
            if counter[0] != version:
                self._refuse_written(array.shape)
            y = Tensor(array)
            y._version = counter
            if array.dtype.kind == "f":
                y.node, y.index, y.requires_grad = self, index, True
            values.append(y)
        if self.site and "_prints" in self.__dict__:
            for x, fingerprint in zip(values, self._prints):
                if _fingerprint(x) != fingerprint:
                    self._refuse_written(x.shape)
        return values

    def release(self) -> None:
        """Let go of everything saved and of the nodes before."""
        self.__dict__.clear()

    def fit_gradient(self, gradient: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
        """Bring a gradient to its input's shape and dtype: sum what was broadcast, cast what was promoted."""
        given = gradient.shape
        new = len(given) - len(shape)
        if new < 0 or any(s not in (1, g) for s, g in zip(shape, given[new:])):
            raise RuntimeError(f"{self.name}: backward gave an input of shape {shape} a gradient of shape {given}")
        return gradient.sum_to(shape).to(dtype)

    # ------------------------------------------------------------------ refusals

    def _operand(self, value: Any, arrays: list) -> Any:
        """What forward gets for an input that is neither a float, an int nor an array as those before it."""
        value = plain_number(value)
        if isinstance(value, _NUMBERS):
            return value
        if not isinstance(value, tuple(_array_types)):
            raise TypeError(
                f"{self.name}: expected tensors, arrays or numbers, got {type(value).__name__}; use tensor()"
            )
        names = dict.fromkeys(_backend.of(a).name for a in arrays if not isinstance(a, _NUMBERS))
        if len(names) > 1:
            raise BackendError(f"{self.name}: its inputs are on {' and '.join(names)}", "move them to one backend")
        return value

    def _refuse_written(self, shape: tuple) -> None:
        raise RuntimeError(
            f"{self.name}: an array of shape {shape} that its gradient needs was written to after the forward pass"
            f"{self.site and ' at ' + self.site}; write after backward, or into a copy"
        )

    def _check_finite(self, arrays: list, results: tuple) -> None:
        if all(_finite(a) for a in arrays) and not all(_finite(y._data) for y in results):
            shapes = ", ".join(str(getattr(a, "shape", a)) for a in arrays)
            raise AnomalyError(f"{self.name} makes a number that is not finite out of ({shapes}) at {_call_site()}")


def plain_number(value: Any) -> Any:
    """A NumPy scalar as the Python number it holds, which takes the dtype of the array beside it; else `value`."""
    if isinstance(value, np.generic) and value.dtype.kind in "fiub":
        return float(value) if value.dtype.kind == "f" else value.item()
    return value


def _same_memory(x: Array, y: Array) -> bool:
    """Whether y, elements of x in another order or shape, is a view. Of an array in C order it always is."""
    return x.flags.c_contiguous or bool(_backend.of(x).xp.may_share_memory(x, y))


def _as_array(value: Any, owner: type | None) -> Array:
    """A NumPy scalar (NumPy reduces results without dimensions to those) as an array."""
    return (_array_types[owner] if owner else _backend.of(value)).asarray(value)


def _finite(value: Any) -> bool:
    array = np.asarray(value) if isinstance(value, _NUMBERS) else _backend.of(value).to_host(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _fingerprint(value: Any) -> int:
    array = value._data if isinstance(value, Tensor) else value
    return zlib.crc32(_backend.of(array).to_host(array).tobytes()) if type(array) in _array_types else 0


def _call_site() -> str:
    """file:line of the innermost caller outside this library's own operations and layers."""
    frame = sys._getframe(1)
    inside = ("tinygen.autograd", "tinygen.functional", "tinygen.nn")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(inside):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
