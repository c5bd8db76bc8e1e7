"""The derivative rule of an operation, as its docstring tells it; where it does not, as its code computes it.

The public function of the same name says what the derivative is; what has none is a helper of others, whose own
docstring or, at last, whose `backward` is shown.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import NamedTuple

from tinygen import functional
from tinygen.autograd.function import Function

TELLS = re.compile(r"\bg[a-z](?:\d|_\w)?s?\b|\b[Gg]radient|dy/dx")  # gy, gx0, gws
SENTENCE = re.compile(r"(?<=[.;]) +(?=[^\W\d_])")  # what stands between two
LONGEST = 320  # letters of a rule
ELSEWHERE = {  # operations that the public functions are made of, under other names
    "mat_mul": "matmul", "log_sum_exp": "logsumexp", "max_pool": "max_pool2d", "conv2d_input": "conv_transpose2d",
    "huber": "huber_loss", "rows": "embedding", "amax": "amax", "weights": "scaled_dot_product_attention",
    "gelu_tanh": "gelu", "sample": "grid_sample", "get_item": "", "put_item": "",
}  # fmt: skip


class Rule(NamedTuple):
    text: str
    is_code: bool


def rule_of(function: type[Function]) -> Rule:
    """How the gradient passes an operation."""
    for text in _docstrings(function):
        told = _told(text)
        if told:
            return Rule(told, False)
    return Rule(_code(function), True)


def formula_of(function: type[Function]) -> str:
    """What an operation computes, as the first paragraph of its docstring tells it; "" where none does."""
    for text in _docstrings(function):
        paragraph = " ".join(text.split("\n\n")[0].split())
        told = " ".join(sentence for sentence in SENTENCE.split(paragraph) if not TELLS.search(sentence))
        if told:
            return _shortened(told)
    return ""


def _docstrings(function: type[Function]) -> list[str]:
    """Those of the public function, where there is one, and of the class itself."""
    name = function.__new__(function).name
    public = getattr(functional, ELSEWHERE.get(name, name), None)
    return [inspect.cleandoc(owner.__doc__ or "") for owner in (public, function) if owner is not None]


def _told(text: str) -> str:
    """What a docstring says of the derivative: its sentences about it."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    sentences = (sentence for paragraph in paragraphs for sentence in SENTENCE.split(paragraph))
    about = " ".join(sentence for sentence in sentences if TELLS.search(sentence))
    return _shortened(about)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] + " …"


def _code(function: type[Function]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function.backward)).strip()
    except (OSError, TypeError):
        return "—"
