"""Padding in each mode against numpy.pad, cropping against slices, the adjoint identity, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals, shapes

NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def by_numpy(margins, mode, value=0.0):
    """numpy.pad with the last dimension's margins first; negative ones crop, "circular" before and others after."""

    def pad(x):
        pairs = [(0, 0)] * (x.ndim - len(margins) // 2) + list(zip(margins[::2], margins[1::2]))[::-1]
        cut = tuple(slice(-min(a, 0), n + min(b, 0)) for n, (a, b) in zip(x.shape, pairs))
        if mode == "circular":
            return np.pad(x[cut], [(max(a, 0), max(b, 0)) for a, b in pairs], "wrap")
        grown = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in pairs], NUMPY_MODES[mode],
                       **({"constant_values": value} if mode == "constant" else {}))  # fmt: skip
        return grown[tuple(slice(-min(a, 0), n + min(b, 0)) for n, (a, b) in zip(grown.shape, pairs))]

    return pad


ROWS = [
    Row("pad", lambda x: F.pad(x, (1, 2, 0, 3), value=0.5), by_numpy((1, 2, 0, 3), "constant", 0.5),
        of_shapes((2, 3, 4, 5))),
    Row("pad, cropping", lambda x: F.pad(x, (-1, 2, 1, -2)), by_numpy((-1, 2, 1, -2), "constant"),
        of_shapes((2, 3, 4))),
    Row("pad reflect", lambda x: F.pad(x, (3, 1, 2, 0), "reflect"), by_numpy((3, 1, 2, 0), "reflect"),
        of_shapes((2, 2, 3, 4))),
    Row("pad replicate", lambda x: F.pad(x, (3, 1, 0, 5), "replicate"), by_numpy((3, 1, 0, 5), "replicate"),
        of_shapes((2, 1, 3, 2))),
    Row("pad circular", lambda x: F.pad(x, (4, 1, 2, 3), "circular"), by_numpy((4, 1, 2, 3), "circular"),
        of_shapes((2, 1, 3, 4))),
]  # fmt: skip

test_operation = row_test(ROWS)


@given(st.sampled_from(sorted(NUMPY_MODES)), reals(shapes(1, 4, 4)), st.data())
def test_pad(mode, x, data):
    margins = []
    for n in reversed(x.shape[data.draw(st.integers(0, x.ndim - 1)) :]):
        cut = data.draw(st.tuples(st.integers(0, n), st.integers(0, n)).filter(lambda cut, n=n: sum(cut) <= n))
        left = n - sum(cut) if mode == "circular" else n
        most = {"constant": 3, "reflect": n - 1, "replicate": 3, "circular": left}[mode]
        margins += [-c if c else data.draw(st.integers(0, most)) for c in cut]
    value = data.draw(st.sampled_from([0.0, 1.5])) if mode == "constant" else 0.0
    row = Row(f"pad {mode}", lambda x: F.pad(x, margins, mode, value), by_numpy(margins, mode, value), st.nothing())
    check(row, (x,))


@pytest.mark.parametrize("mode", sorted(NUMPY_MODES))
@given(reals((2, 3, 4, 5)), st.data())
def test_the_gradient_is_the_adjoint(mode, x, data):
    """⟨pad(x), y⟩ = ⟨x, padᵀ(y)⟩, and a padding of nothing is x."""
    margins = (2, 1, 1, 2)
    y = data.draw(reals((2, 3, 7, 8)))
    tx, ty = tensors((x, y))
    padded = F.pad(tx, margins, mode)
    back = tinygen.grad(padded, tx, ty)
    assert abs((padded * ty).sum().item() - (tx * back).sum().item()) <= 1e-11
    assert F.pad(tx, (0, 0, 0, 0), mode) is tx


@pytest.mark.parametrize("mode", sorted(NUMPY_MODES))
def test_channels_last_memory_stays(mode):
    x = tinygen.zeros((2, 5, 6, 3)).permute(0, 3, 1, 2).requires_grad_()
    y = F.pad(x, (1, 1, 1, 1), mode)
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous
    strides = tinygen.grad(y, x, y.detach()).data.strides
    assert strides[1] == min(strides)


def test_paddings_result_is_no_view():
    x = tinygen.ones((1, 1, 2, 2), requires_grad=True)
    y = F.pad(x, (-1, 0, 0, 0))
    with tinygen.no_grad():
        y[...] = 5.0
    close(x, np.ones((1, 1, 2, 2)))


@pytest.mark.parametrize(
    ("margins", "mode", "message"),
    [
        ((1,), "constant", r"pad: margins come in pairs, one for each of at most 2 dimensions, got \(1,\)"),
        ((1, 1, 1, 1, 1, 1), "constant", "of at most 2 dimensions"),
        ((1, 1), "mirror", 'pad: mode must be one of constant, reflect, replicate, circular, got "mirror"'),
        ((-2, -2), "constant", r"pad: margins \(-2, -2\) crop more than the 3 elements of dim 1: x \(2, 3\)"),
        ((-4, 2), "replicate", "crop more than the 3 elements"),
        ((0, 3), "reflect", r"margins of at most 2 from the 3 elements of dim 1, got \(0, 3\): x \(2, 3\)"),
        ((0, 0, 2, 0), "reflect", "margins of at most 1 from the 2 elements of dim 0"),
        ((4, 0), "circular", "margins of at most 3 from the 3 elements of dim 1"),
        ((-2, 2), "circular", "margins of at most 1 from the 1 elements of dim 1"),
    ],
)
def test_errors(margins, mode, message):
    with pytest.raises(ValueError, match=message):
        F.pad(tinygen.ones((2, 3)), margins, mode)


def test_errors_of_kind():
    with pytest.raises(TypeError, match="pad: a margin must be a whole number, got"):
        F.pad(tinygen.ones((2, 3)), (1.5, 0))
    with pytest.raises(ValueError, match=r'pad: mode "reflect" shows no value, got 1\.0; use mode="constant"'):
        F.pad(tinygen.ones((2, 3)), (1, 0), "reflect", 1.0)
    for mode, margin in itertools.product(("reflect", "replicate", "circular"), ((1, 0), (0, 1))):
        with pytest.raises(ValueError, match="margins of at most 0 from the 0 elements"):
            F.pad(tinygen.ones((2, 0)), margin, mode)
