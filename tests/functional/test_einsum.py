"""einsum against NumPy's, which sums element by element; shapes, labels and layouts drawn."""

import itertools
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import functional as F
from tinygen.autograd import Function, gradcheck
from tinygen.testing import Row, check, close
from tinygen.testing.operations import row_test, tensors
from tinygen.testing.strategies import of_shapes, reals


def by_numpy(equation):
    return lambda *arrays: np.einsum(equation, *arrays, optimize=False)


ROWS = [
    Row(f"einsum {equation}", lambda *x, e=equation: F.einsum(e, *x), by_numpy(equation), of_shapes(*sizes), empty=0)
    for equation, *sizes in (
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
        ("nqhd,nkhd->nhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
        ("ii->i", (3, 3)),
        ("iji->j", (2, 3, 2)),
        ("iii", (2, 2, 2)),
        ("i,j->ji", (2,), (3,)),
        ("ij,ij->", (2, 3), (2, 3)),
        ("...i,ij->...j", (2, 3, 4), (4, 2)),
        ("i...,...->...i", (2, 3, 1), (4,)),
        ("ab,bc,cd,de->ea", (2, 3), (3, 2), (2, 4), (4, 2)),
        ("ij,kj,j->ik", (2, 3), (4, 3), (3,)),
        ("ijk->ki", (2, 3, 4)),
        ("ba", (2, 3)),
        (",i", (), (3,)),
    )
]
test_operation = row_test(ROWS)


@st.composite
def sums(draw):
    """(equation, arrays): up to four operands of up to three letters, repeated or not, and an ellipsis."""
    sizes = {letter: draw(st.integers(1, 3)) for letter in "abcd"}
    hidden = draw(st.lists(st.integers(1, 2), max_size=2))
    terms, arrays = [], []
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.text("abcd", max_size=3))
        shape, at = [sizes[letter] for letter in letters], draw(st.integers(0, len(letters)))
        own = draw(st.integers(0, len(hidden)))
        broadcast = [draw(st.sampled_from([1, size])) for size in hidden[len(hidden) - own :]]
        arrays.append(draw(reals((*shape[:at], *broadcast, *shape[at:]))))
        terms.append(f"{letters[:at]}...{letters[at:]}" if hidden else letters)
    equation = ",".join(terms)
    if draw(st.booleans()):
        used = draw(st.permutations(sorted(set(equation) - set(".,"))))
        output = "".join(used[: draw(st.integers(0, len(used)))])
        at = draw(st.integers(0, len(output)))
        equation += f"->{output[:at]}{'...' if hidden else ''}{output[at:]}"
    return equation, tuple(arrays)


@given(sums())
def test_any_sum(case):
    equation, arrays = case
    check(Row(equation, lambda *x: F.einsum(equation, *x), by_numpy(equation), st.nothing()), arrays)


@given(reals((2, 3)), reals((3, 4)), reals((2, 4)))
def test_the_gradient_is_a_sum_of_the_same_kind(a, b, g):
    """⟨einsum(a, b), g⟩ has the gradient einsum(g, b) by a."""
    ta, tb, tg = tensors((a, b, g))
    y = F.einsum("ij,jk->ik", ta, tb)
    close(tinygen.grad((y * tg).sum(), ta), np.einsum("ik,jk->ij", g, b), 1e-12, 1e-12)


def test_third_order():
    a, b = tensors((np.arange(6.0).reshape(2, 3) / 6, np.cos(np.arange(12.0)).reshape(3, 4)))
    gradcheck(lambda a, b: F.einsum("ij,jk,ik->", a * a, b, F.tanh(a @ b)), [a, b], order=3, name="einsum")


@given(reals((1, 3)), reals((2, 3)))
def test_a_size_of_one_is_repeated(a, b):
    """As in PyTorch, also where the label is summed; and an ellipsis that the output leaves out is."""
    ta, tb = tensors((a, b))
    close(F.einsum("ij,ij->j", ta, tb), (a * b).sum(0), 1e-12, 1e-12)
    close(F.einsum("ij,ij->", ta, tb), (a * b).sum(), 1e-12, 1e-12)
    close(F.einsum("i...->i", tb), b.sum(1), 1e-12, 1e-12)
    close(tinygen.grad(F.einsum("ij,ij->", ta, tb), ta), b.sum(0, keepdims=True), 1e-12, 1e-12)


@pytest.mark.parametrize("equation", ["ij,jk->ik", "bij,bjk->bik", "nqhd,nkhd->nhqk", "ab,bc,cd->ad", "i,i->"])
def test_contractions_are_products_of_matrices(monkeypatch, equation):
    made, call = [], Function.__call__
    monkeypatch.setattr(Function, "__call__", lambda self, *x: made.append(self.name) or call(self, *x))
    operands = [tinygen.ones([2] * len(term)) for term in equation.partition("->")[0].split(",")]
    F.einsum(equation, *operands)
    assert made.count("mat_mul") == len(operands) - 1
    assert not {"multiply", "sum"} & {*made}


def test_the_smallest_product_comes_first(monkeypatch):
    """A chain of matrices that ends in a vector is worked off from the vector."""
    made, call = [], F.matmul
    monkeypatch.setattr("tinygen.functional.contraction.matmul", lambda a, b: made.append(a.shape) or call(a, b))
    F.einsum("ij,jk,k->i", tinygen.ones(50, 40), tinygen.ones(40, 30), tinygen.ones(30))
    assert made == [(40, 30), (50, 40)]


def test_whole_numbers_stay():
    x = tinygen.arange(4).reshape(2, 2)
    close(F.einsum("ii", x), np.array(3))
    close(F.einsum("ij,jk", x, x), np.array([[2, 3], [6, 11]]))
    assert F.einsum("ij->j", x).dtype == np.int64


@given(st.permutations(string.ascii_letters[:6]))
def test_letters_are_names_only(letters):
    x = tinygen.arange(24.0).reshape(2, 3, 4)
    a, b, c, *_ = letters
    close(F.einsum(f"{a} {b} {c} -> {c}{a}{b}", x), x.numpy().transpose(2, 0, 1))
    order = np.argsort([a, b, c])
    close(F.einsum(f"{a}{b}{c}", x), x.numpy().transpose(order))
    assert tinygen.einsum is F.einsum


@pytest.mark.parametrize(
    ("equation", "sizes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "has 2 terms for 1 operands"),
        ("ij->i", [(2, 3, 4)], r'term "ij" of "ij->i" does not name the dimensions of \(2, 3, 4\)'),
        ("ij...->i", [(2,)], "does not name the dimensions"),
        ("ij,jk->ik", [(2, 3), (4, 5)], r"label j .* has different sizes: operands \(2, 3\), \(4, 5\)"),
        ("ii->i", [(2, 3)], "label i"),
        ("ii->i", [(1, 3)], "label i"),
        ("ij->ii", [(2, 3)], 'the output "ii" of "ij->ii" names a label twice'),
        ("ij->k", [(2, 3)], 'the output label k of "ij->k" is in no term'),
        ("i1->i", [(2, 3)], 'a term is letters and at most one "...", got "i1"'),
        ("i......->i", [(2, 3)], 'a term is letters and at most one "..."'),
        ("...,...->...", [(2, 3), (2, 2)], "different sizes"),
    ],
)
def test_errors(equation, sizes, message):
    with pytest.raises(ValueError, match=f"einsum: .*{message}|einsum: {message}"):
        F.einsum(equation, *map(tinygen.ones, sizes))


def test_every_order_of_operands():
    arrays = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(((2, 3), (3, 4), (4, 2), (2,)))]
    terms = ["ij", "jk", "kl", "l"]
    for order in itertools.permutations(range(4)):
        equation = ",".join(terms[i] for i in order) + "->i"
        y = F.einsum(equation, *tensors([arrays[i] for i in order]))
        close(y, arrays[0] @ arrays[1] @ arrays[2] @ arrays[3], 1e-12, 1e-12)
