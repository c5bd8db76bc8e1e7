"""Tensor: an array, and how it came about.

A leaf that requires a gradient is where `backward` puts `grad`. Any other tensor that requires one points to the
`node` (a Function) that made it, and nothing points back from node to tensor: a graph that is dropped is freed at once.
Operators and methods such as `x.sum()` are attached by `tinygen.functional.methods`; this file is the tape's alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen import backend as _backend
from tinygen.backend import Array, Backend

if TYPE_CHECKING:  # the methods are attached at run time; a type checker reads their table
    from tinygen.autograd.function import Function
    from tinygen.functional.methods import Methods as _Base
else:
    _Base = object


class Tensor(_Base):
    """An n-dimensional array that remembers how it was computed.

    data: an array of one backend, kept as it is (`tinygen.tensor` copies and converts).
    requires_grad: True makes it a leaf whose gradient `backward` collects; floating-point data only.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_version", "index", "node", "requires_grad")
    __array_ufunc__ = None  # array ∘ tensor asks the tensor's reflected operator instead of looping over elements

    n_outputs, sequence = 1, -1  # what the engine asks of nodes and leaves alike: a leaf has no age
    _grad: Tensor | None
    node: Function | None  # the operation that made this tensor; None for a leaf
    index: int  # which of the node's outputs it is
    requires_grad: bool

    def __init__(self, data: Array, requires_grad: bool = False) -> None:
        self._data = data
        self._version = [0]  # shared by views: one count for one memory
        self._grad = self.node = None
        self.index = 0
        self.requires_grad = False
        if requires_grad:
            self.requires_grad_()

    # ------------------------------------------------------------------ what it holds

    @property
    def data(self) -> Array:
        """The backend's array. Assigning replaces it and counts as a write; views keep the old one."""
        return self._data

    @data.setter
    def data(self, array: Array) -> None:
        if not any(isinstance(array, kind) for kind in _backend.array_types):
            raise TypeError(f"data: expected an array, got {type(array).__name__}; use tensor(…).data")
        if self.requires_grad and array.dtype.kind != "f":
            raise TypeError(
                f"data: a tensor that requires a gradient needs a floating-point array, got {array.dtype}; "
                "cast it, or call requires_grad_(False) first"
            )
        self._data = array
        self._version = [self._version[0] + 1]

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` collected, of the same shape and dtype, or None. Assignable."""
        return self._grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            if not isinstance(gradient, Tensor):
                raise TypeError(f"grad: expected a tensor or None, got {type(gradient).__name__}; use tensor()")
            if gradient.shape != self.shape or gradient.dtype != self.dtype or gradient.backend is not self.backend:
                raise ValueError(
                    f"grad: expected {self.shape} {self.dtype} on {self.backend.name} as the tensor, "
                    f"got {gradient.shape} {gradient.dtype} on {gradient.backend.name}"
                )
        self._grad = gradient

    @property
    def backend(self) -> Backend:
        return _backend.of(self._data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a tensor without dimensions")
        return self._data.shape[0]

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        return np.array(self.backend.to_host(self._data))

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a tensor is not turned into a NumPy array unasked (it would leave the tape); use .numpy()")

    def item(self) -> Any:
        """The one element as a Python number."""
        if self._data.size != 1:
            raise ValueError(f"item: expected one element, got shape {self.shape}; use .numpy()")
        return self.backend.scalar(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    # ------------------------------------------------------------------ the tape

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make this leaf collect its gradient, or not."""
        if requires_grad and self._data.dtype.kind != "f":
            raise TypeError(f"requires_grad: only floating-point tensors have gradients, this one is {self.dtype}")
        if self.node is not None:
            raise ValueError(f"requires_grad: this tensor is a result of {self.node.name}; detach() it first")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same memory as a leaf that requires no gradient."""
        out = Tensor(self._data)
        out._version = self._version
        return out

    def written(self) -> None:
        """Tell the tape that the array was changed in place: a graph that saved it will refuse to use it."""
        self._version[0] += 1

    def backward(
        self, gradient: Tensor | None = None, create_graph: bool = False, retain_graph: bool | None = None
    ) -> None:
        """Add d self / d leaf, contracted with `gradient`, to the `grad` of every leaf that requires it.

        gradient: shape of self; may be left out where self has one element, and is 1 then.
        create_graph: record the computation of the gradients, so that they can be differentiated again.
        retain_graph: keep the graph for another backward; by default as `create_graph`.
        """
        from tinygen.autograd.engine import backward

        backward(self, gradient, create_graph, create_graph if retain_graph is None else retain_graph)

    def __repr__(self) -> str:
        body = np.array2string(self.backend.to_host(self._data), separator=", ", prefix="tensor(", threshold=200)
        how = f", node={self.node.name}" if self.node is not None else ", requires_grad" * self.requires_grad
        kind = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        where = "" if self.backend.name == "numpy" else f", backend={self.backend.name}"
        return f"tensor({body}{kind}{where}{how})"

    __hash__ = object.__hash__  # by identity, although == compares elements


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A tensor on a copy of `data`: a number, a nested list, an array of any backend or a tensor.

    Python floats become float32 and integers int64; arrays keep their dtype. Host data go to the backend in use.
    TypeError for what is no real number or truth value: text, objects, complex numbers.
    """
    if isinstance(data, Tensor):
        data = data._data
    if not isinstance(data, (bool, int, float, list, tuple, np.generic, *_backend.array_types)):
        raise TypeError(f"tensor: expected a number, a nested list of them or an array, got {type(data).__name__}")
    for given in (dtype, getattr(data, "dtype", None)):
        if given is not None and np.dtype(given).kind not in "fiub":
            raise TypeError(f"tensor: expected real numbers or truth values, got {np.dtype(given)}")
    if isinstance(data, (bool, int, float, list, tuple)):
        try:
            host = np.asarray(data)
        except ValueError:
            host = np.empty(0, object)
        if host.dtype.kind not in "fiub":
            raise TypeError(f"tensor: expected real numbers in a regular nesting, got {data!r:.60}")
        kind = np.float32 if host.dtype.kind == "f" else host.dtype
        array = _backend.current().from_host(host.astype(dtype or kind))
    elif isinstance(data, (np.ndarray, np.generic)):
        array = _backend.current().from_host(np.array(data, dtype))
    else:
        array = _backend.of(data).xp.array(data, dtype, copy=True)
    return Tensor(array, requires_grad)
