"""Sums of products named by their indices, made of the operations that exist already.

How an equation is worked off, `bij, bjk, k -> bi` for an example:

    1. the ellipsis gets a label for each dimension that it stands for, counted from the last one;
    2. a label that an operand has twice leaves its diagonal; one that a single operand has and the result lacks is
       summed; a size of 1 that meets a larger one is dropped, as broadcasting would repeat it;
    3. two operands at a time, those with the smallest product first, become one: what both have and nobody else needs
       is contracted by a product of matrices, (b, left, inner) @ (b, inner, right);
    4. the labels are put into the order that the result asks for.

Each step is differentiable, so the gradient is the same kind of sum, and gradients of gradients need no further rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from tinygen.autograd.tensor import Tensor
from tinygen.functional.elementwise import where
from tinygen.functional.linear import matmul
from tinygen.functional.reduction import sum
from tinygen.functional.shape import permute, reshape

Labels = tuple[str, ...]
Sizes = dict[str, int]


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """y[output] = Σ x₀[term₀] · x₁[term₁] ⋯ over the labels that the output lacks.  gx₀ is y's sum with gy for x₀.

    equation: terms of letters, one an operand, `ij,jk->ik`; spaces count for nothing. Without `->` the output is the
    letters that occur once, in alphabetical order, after the ellipsis. A letter twice in a term is that term's
    diagonal. `...` stands for any dimensions, which broadcast; left out of the output, they are summed. Of one label,
    sizes must agree or be 1.
    ValueError names the term that does not fit.

    >>> einsum("nhqd,nhkd->nhqk", query, key)
    """
    terms, output = _parse(equation, operands)
    sizes = _sizes(equation, terms, operands)
    for label in output:
        if label not in sizes:
            raise ValueError(f'einsum: the output label {label} of "{equation}" is in no term')
    factors = [_distinct(x, term, sizes) for x, term in zip(operands, terms)]
    counts = Counter(label for _, labels in factors for label in labels)
    factors = [_without(factor, {c for c in factor[1] if counts[c] == 1 and c not in output}) for factor in factors]
    while len(factors) > 1:
        i, j = min(combinations(range(len(factors)), 2), key=lambda ij: _cost(factors, ij, output, sizes))
        second, first = factors.pop(j), factors.pop(i)
        needed = {*output, *(label for _, labels in factors for label in labels)}
        factors.append(_product(first, second, needed, sizes))
    return _in_order(*factors[0], output)


# ---------------------------------------------------------------- the equation


def _parse(equation: str, operands: Sequence[Tensor]) -> tuple[list[Labels], Labels]:
    """The labels of each operand's dimensions and of the result's; those of the ellipsis are "…0", counted from the
    last one."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(f'einsum: "{equation}" has {len(terms)} terms for {len(operands)} operands')
    for term in (*terms, right):
        letters = term.replace("...", "", 1)
        if letters and not (letters.isascii() and letters.isalpha()):
            raise ValueError(f'einsum: a term is letters and at most one "...", got "{term}" in "{equation}"')
    hidden = []
    for term, x in zip(terms, operands):
        hidden.append(x.ndim - len(term.replace("...", "")))
        if hidden[-1] < 0 or (hidden[-1] and "..." not in term):
            raise ValueError(f'einsum: term "{term}" of "{equation}" does not name the dimensions of {x.shape}')
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = "..." + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    output = _labels(right, max((n for n, term in zip(hidden, terms) if "..." in term), default=0))
    if len(set(output)) < len(output):
        raise ValueError(f'einsum: the output "{right}" of "{equation}" names a label twice')
    return [_labels(term, n) for term, n in zip(terms, hidden)], output


def _labels(term: str, hidden: int) -> Labels:
    before, dots, after = term.partition("...")
    return (*before, *(f"…{i}" for i in reversed(range(hidden)) if dots), *after)


def _sizes(equation: str, terms: list[Labels], operands: Sequence[Tensor]) -> Sizes:
    """The size of each label: the one that is not 1, if there is."""
    sizes: Sizes = {}
    for term, x in zip(terms, operands):
        own = dict(zip(term, x.shape))
        for label, size in zip(term, x.shape):
            known = sizes.get(label, 1)
            if size != own[label] or (known != 1 and size not in (1, known)):
                raise ValueError(f'einsum: label {label} of "{equation}" has different sizes: operands '
                                 f'{", ".join(str(x.shape) for x in operands)}')  # fmt: skip
            sizes[label] = size if known == 1 else known
    return sizes


# ---------------------------------------------------------------- the work

Factor = tuple[Tensor, Labels]


def _distinct(x: Tensor, labels: Labels, sizes: Sizes) -> Factor:
    """The operand with each label once, and without sizes of 1 that would broadcast."""
    kept = [i for i, label in enumerate(labels) if x.shape[i] == sizes[label]]
    x, labels = _shaped(x, [x.shape[i] for i in kept]), tuple([labels[i] for i in kept])
    for label in set(labels):
        while labels.count(label) > 1:
            x, labels = _diagonal(x, labels, label)
    return x, labels


def _diagonal(x: Tensor, labels: Labels, label: str) -> Factor:
    """Of the label's first and last dimension the diagonal, which stays in the first one's place."""
    xp, first, last = x.backend.xp, labels.index(label), len(labels) - 1 - labels[::-1].index(label)
    i, j = (xp.arange(x.shape[at]).reshape([-1 if k == at else 1 for k in range(x.ndim)]) for at in (first, last))
    return sum(where(i == j, x, 0), last), (*labels[:last], *labels[last + 1 :])


def _without(factor: Factor, labels: set[str]) -> Factor:
    """The factor summed over these labels."""
    x, old = factor
    dims = [i for i, label in enumerate(old) if label in labels]
    return (sum(x, dims), tuple([label for label in old if label not in labels])) if dims else factor


def _cost(factors: list[Factor], pair: tuple[int, int], output: Labels, sizes: Sizes) -> int:
    """How many elements the product of two factors has."""
    others = {label for k, (_, labels) in enumerate(factors) if k not in pair for label in labels}
    made = {label for k in pair for label in factors[k][1] if label in others or label in output}
    return math.prod([sizes[label] for label in made])


def _product(first: Factor, second: Factor, needed: set[str], sizes: Sizes) -> Factor:
    """Two factors as one, summed over what both have and is not needed any more."""
    (a, in_a), (b, in_b) = first, second
    both = tuple([label for label in in_a if label in in_b])
    batch = tuple([label for label in both if label in needed])
    inner = tuple([label for label in both if label not in needed])
    left = tuple([label for label in in_a if label not in both])
    right = tuple([label for label in in_b if label not in both])
    result = (*batch, *left, *right)

    def shape(labels: Labels) -> list[int]:
        return [sizes[label] for label in labels]

    if not inner:  # (batch, left, 1) · (batch, 1, right)
        a = _shaped(_in_order(a, in_a, (*batch, *left)), [*shape(batch), *shape(left), *[1] * len(right)])
        b = _shaped(_in_order(b, in_b, (*batch, *right)), [*shape(batch), *[1] * len(left), *shape(right)])
        return a * b, result
    # (batch, left, right) = (batch, left, inner) @ (batch, inner, right); what is several labels becomes one dimension
    rows, columns, depth = (math.prod(shape(labels)) for labels in (left, right, inner))
    a = _shaped(_in_order(a, in_a, (*batch, *left, *inner)), [*shape(batch), rows, depth])
    b = _shaped(_in_order(b, in_b, (*batch, *inner, *right)), [*shape(batch), depth, columns])
    return _shaped(matmul(a, b), shape(result)), result


def _in_order(x: Tensor, labels: Labels, order: Labels) -> Tensor:
    return x if labels == order else permute(x, [labels.index(label) for label in order])


def _shaped(x: Tensor, shape: list[int]) -> Tensor:
    return x if list(x.shape) == shape else reshape(x, shape)
