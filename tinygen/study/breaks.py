"""Where a formula may be broken: browsers do not break MathML, so that a long one is set as several."""

from __future__ import annotations

from collections.abc import Iterator

from tinygen.study.mathml import TOKEN
from tinygen.study.symbols import CLOSE, OPEN, RELATIONS

LONG = 28  # signs of a line that may have to be broken
BREAKS = ("=", "+", "-", "\\le", "\\ge", "\\sim", "\\propto", "\\leftarrow", "\\approx", "\\iff")


def lines_of(latex: str) -> list[str]:
    r"""A formula cut at the \quad that stand in no braces: the parts may come to stand below each other."""
    parts = [""]
    for token, depth in _with_depth(latex):
        if depth == 0 and token in ("\\quad", "\\qquad"):
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts if part.strip()]


def pieces_of_line(latex: str) -> list[str]:
    """A long line cut before the relations and sums that stand in no brackets: where it may be broken in two."""
    tokens = list(_with_depth(latex))
    if sum(token not in ("{", "}", "_", "^") and not token.isspace() for token, _ in tokens) < LONG:
        return [latex]
    pieces, before = [""], "("
    for token, depth in tokens:
        is_sign = before in ("=", "(", "_", "^", "+", "-", ",", "*") or before.removeprefix("\\") in RELATIONS
        if depth == 0 and token in BREAKS and not is_sign:
            pieces.append("")
        pieces[-1] += token
        before = before if token.isspace() else token
    return [piece.strip() for piece in pieces]


def _with_depth(latex: str) -> Iterator[tuple[str, int]]:
    """The tokens, each with the number of brackets of any kind that it stands in, its own included."""
    depth, bars = 0, {"|": 0, "\\|": 0}
    for token in TOKEN.findall(latex):
        if token in bars and depth == 0:
            bars[token] ^= 1
        opens = token in ("{", "(", "[", "\\{", "\\begin", "\\left") or token.removeprefix("\\") in OPEN
        closes = token in ("}", ")", "]", "\\}", "\\end", "\\right") or token.removeprefix("\\") in CLOSE
        depth += opens
        yield token, depth + sum(bars.values())
        depth -= closes
