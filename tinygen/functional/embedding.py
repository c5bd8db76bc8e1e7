"""Rows of a table by number, and numbers as rows of an identity matrix."""

from __future__ import annotations

from tinygen.autograd.function import Function
from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.index import expect_indices
from tinygen.functional.shape import whole


class Rows(Function):
    """y = w[i]: (…, d) out of w (rows, d) for i (…)."""

    saves_inputs = (1,)

    def forward(self, w: Array, i: Array) -> Array:
        self.rows = w.shape[0]
        return w[i]

    def backward(self, gy: Tensor) -> tuple[Tensor, None]:
        (i,) = self.saved
        return AddRows(self.rows)(gy, i), None


class AddRows(Function):
    """w (rows, d) with w[k] = Σ y over the places where i is k: the adjoint of Rows."""

    saves_inputs = (1,)

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def forward(self, y: Array, i: Array) -> Array:
        owner = of(y)
        w = owner.xp.zeros((self.rows, y.shape[-1]), y.dtype)
        owner.scatter_add(w, (i.reshape(-1),), y.reshape(-1, y.shape[-1]))
        return w

    def backward(self, gw: Tensor) -> tuple[Tensor, None]:
        (i,) = self.saved
        return Rows()(gw, i), None


class PaddedRows(Rows):
    """Rows, but the row `padding` gets no gradient."""

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def backward(self, gy: Tensor) -> tuple[Tensor, None]:
        (i,) = self.saved
        kept = (i.data != self.padding).astype(gy.dtype)
        return AddRows(self.rows)(gy * Tensor(kept.reshape(*i.shape, 1)), i), None


# ---------------------------------------------------------------- public


def padding_row(name: str, padding_idx: int | None, rows: int) -> int | None:
    """padding_idx counted from the front; ValueError where there is no such row."""
    if padding_idx is None:
        return None
    at = whole(name, "padding_idx", padding_idx)
    if not -rows <= at < rows:
        raise ValueError(f"{name}: padding_idx must be in {-rows} … {rows - 1}, got {padding_idx}")
    return at % rows


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """y = the rows of `weight` that `input` names.  gweight adds up each row's gy over the places that name it.

    input (…) whole numbers, weight (rows, d); y (…, d).  padding_idx: a row that is read like any other and has the
    gradient 0, which stands for the places where there is nothing. IndexError where a number names no row, on a device
    when it is asked next.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight must be (rows, d), got {weight.shape}")
    expect_indices("embedding", input, weight.shape[0])
    at = padding_row("embedding", padding_idx, weight.shape[0])
    return (Rows() if at is None else PaddedRows(at))(weight, input)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """y[…, k] = 1 where input[…] is k, else 0, as int64; has no gradient.

    input (…) classes as whole numbers, y (…, num_classes).  num_classes −1 means the largest class + 1: that waits for
    the device. IndexError for a class that is out of range.
    """
    classes = whole("one_hot", "num_classes", num_classes)
    if classes == -1:
        if not input.numel():
            raise ValueError(f"one_hot: num_classes=-1 needs at least one class to look at, got input {input.shape}")
        classes = int(input.max().item()) + 1
    if classes < 1:
        raise ValueError(f"one_hot: num_classes must be at least 1, or −1 for as many as there are, got {num_classes}")
    expect_indices("one_hot", input, classes)
    xp, i = input.backend.xp, input.data
    return Tensor((i.reshape(*i.shape, 1) == xp.arange(classes)).astype("int64"))
