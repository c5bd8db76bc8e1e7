"""The operations as operators and methods of Tensor: `x + 1`, `x.sum(0)`, `x[:, 1]`.

One table, read twice: a type checker takes it as Tensor's base class, and importing this file attaches its entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinygen.autograd.mode import mode
from tinygen.autograd.tensor import Tensor
from tinygen.functional import elementwise, index, reduction, shape
from tinygen.functional.linear import matmul


class Methods:
    """What Tensor can do beside the tape."""

    __slots__ = ()

    __add__ = elementwise.add
    __sub__ = elementwise.subtract
    __mul__ = elementwise.multiply
    __truediv__ = elementwise.divide
    __pow__ = elementwise.power
    __neg__ = elementwise.negative
    __matmul__ = matmul
    __radd__ = elementwise.add
    __rmul__ = elementwise.multiply
    __abs__ = elementwise.abs
    __getitem__ = shape.getitem

    def __rsub__(self: Any, other: Any) -> Tensor:
        return elementwise.subtract(other, self)

    def __rtruediv__(self: Any, other: Any) -> Tensor:
        return elementwise.divide(other, self)

    def __rpow__(self: Any, other: Any) -> Tensor:
        return elementwise.power(other, self)

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        return matmul(Tensor(other), self)

    def __setitem__(self: Any, where: Any, value: Any) -> None:
        """Write into the memory, outside the tape. Refused where a gradient would have to follow."""
        if self.requires_grad and mode.recording:
            raise RuntimeError(
                "setitem: this tensor requires a gradient; use where() or cat(), or write under no_grad()"
            )
        items = where if isinstance(where, tuple) else (where,)
        plain = tuple(i.data if isinstance(i, Tensor) else i for i in items)
        self._data[plain] = value.data if isinstance(value, Tensor) else value
        self.written()

    def __iter__(self: Any) -> Iterator[Tensor]:
        return iter([self[i] for i in range(len(self))])

    # comparisons give tensors of booleans, without a gradient
    def __eq__(self: Any, other: Any) -> Any:
        return Tensor(self._data == _plain(other)) if other is not None else NotImplemented

    def __ne__(self: Any, other: Any) -> Any:
        return Tensor(self._data != _plain(other)) if other is not None else NotImplemented

    def __lt__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data < _plain(other))

    def __le__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data <= _plain(other))

    def __gt__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data > _plain(other))

    def __ge__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data >= _plain(other))

    def __invert__(self: Any) -> Tensor:
        return Tensor(~self._data)

    def __and__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data & _plain(other))

    def __or__(self: Any, other: Any) -> Tensor:
        return Tensor(self._data | _plain(other))

    @property
    def T(self: Any) -> Tensor:
        """All dimensions in reverse order."""
        return shape.permute(self, *reversed(range(self.ndim)))

    exp, log, sqrt, sin, cos = elementwise.exp, elementwise.log, elementwise.sqrt, elementwise.sin, elementwise.cos
    tanh, sigmoid, relu, erf = elementwise.tanh, elementwise.sigmoid, elementwise.relu, elementwise.erf
    abs, pow, clamp = elementwise.abs, elementwise.power, elementwise.clamp
    maximum, minimum = elementwise.maximum, elementwise.minimum

    sum, sum_to, mean, var, std = reduction.sum, reduction.sum_to, reduction.mean, reduction.var, reduction.std
    amax, amin, max, min = reduction.amax, reduction.amin, reduction.max, reduction.min
    argmax, argmin, norm = reduction.argmax, reduction.argmin, reduction.norm
    logsumexp, softmax, log_softmax = reduction.logsumexp, reduction.softmax, reduction.log_softmax
    cumsum = reduction.cumsum

    reshape, flatten, unflatten = shape.reshape, shape.flatten, shape.unflatten
    permute, transpose, expand = shape.permute, shape.transpose, shape.expand
    squeeze, unsqueeze, flip, roll, to = shape.squeeze, shape.unsqueeze, shape.flip, shape.roll, shape.to
    split, chunk = shape.split, shape.chunk

    gather, index_select, masked_fill = index.gather, index.index_select, index.masked_fill
    matmul = matmul


def _plain(value: Any) -> Any:
    return value._data if isinstance(value, Tensor) else value


for _name, _value in vars(Methods).items():
    if _name not in ("__module__", "__doc__", "__slots__", "__hash__", "__dict__", "__weakref__", "__qualname__"):
        setattr(Tensor, _name, _value)
