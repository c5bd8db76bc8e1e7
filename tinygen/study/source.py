"""A Python file cut into pieces, each with its docstring apart from its code, and the code highlighted.

A piece is the head of the file, the statements between two definitions, a function, the head of a class, or a method
with a docstring; one without goes with what stands before it. On a page a piece stands beside its prose: docstrings,
and the literals that tell of a Config's fields, are set as prose, so that the code is shown without them; line numbers
stay those of the file.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

SECTION = re.compile(r"# -{8,}\s*(.*?)\s*-*$")  # a comment that begins a section
BUILT_IN = frozenset(name for name in vars(builtins) if not name.startswith("_"))
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Documented = Definition | ast.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some lines of a file that belong together."""

    kind: str  # "module", "code", "function", "class" or "method"
    name: str  # "GAN.fit"; of the head, the file's stem; of statements, ""
    doc: str  # the docstring, cleaned; "" where there is none
    section: str  # the heading of the section that it begins; "" where it begins none
    lines: tuple[int, ...]  # numbers of the lines of code, from 1 on
    line: int  # of the `def` or `class`; of others, the first


def pieces_of(text: str, stem: str) -> list[Piece]:
    """The pieces of a file's text, in their order. Raises SyntaxError where it is no Python."""
    tree = ast.parse(text)
    lines = text.splitlines()
    prose = set(_prose_lines(tree))
    cuts = list(_cuts(tree, lines))
    found = []
    ends = [start for start, *_ in cuts[1:]] + [len(lines) + 1]
    for (start, kind, name, node), end in zip(cuts, ends):
        section = ""
        numbers = []
        for number in range(start, end):
            match = SECTION.match(lines[number - 1])
            if match is not None:
                section = match.group(1)
            elif number not in prose:
                numbers.append(number)
        numbers = _trimmed(numbers, lines, prose)
        doc = ast.get_docstring(node) if node is not None else None
        if numbers or doc:
            line = node.lineno if isinstance(node, Definition) else (numbers or [start])[0]
            found.append(
                Piece(kind=kind, name=name or (stem if kind == "module" else ""), doc=doc or "", section=section,
                      lines=tuple(numbers), line=line)
            )  # fmt: skip
    return found


def _cuts(tree: ast.Module, lines: list[str]) -> Iterator[tuple[int, str, str, Documented | None]]:
    """Where each piece begins, its kind, its name and its definition."""
    yield 1, "module", "", tree
    inside = False  # a definition, which the statements after it do not belong to
    for node in tree.body:
        if isinstance(node, Definition):
            start = _first_line(node, lines)
            inside = True
            if isinstance(node, ast.ClassDef):
                yield start, "class", node.name, node
                for method in node.body:
                    if isinstance(method, Definition) and ast.get_docstring(method):  # else it goes with what is before
                        yield _first_line(method, lines), "method", f"{node.name}.{method.name}", method
            else:
                yield start, "function", node.name, node
        elif inside or (SECTION.match(lines[_first_line(node, lines) - 1]) and node.lineno > 1):
            yield _first_line(node, lines), "code", "", None
            inside = False


def _first_line(node: ast.stmt, lines: list[str]) -> int:
    """The first line of a statement, with its decorators and the comments right above it, sections included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    top = first
    while top > 1 and (not lines[top - 2].strip() or lines[top - 2].lstrip().startswith("#")):
        top -= 1
        if lines[top - 1].strip():
            first = top
    return first


def _prose_lines(tree: ast.Module) -> Iterator[int]:
    """The lines of all docstrings, and of the literals after a field of a class."""
    for owner in ast.walk(tree):
        if isinstance(owner, Documented):
            for place, node in enumerate(owner.body):
                match node:
                    case ast.Expr(value=ast.Constant(value=str())) if place == 0 or isinstance(owner, ast.ClassDef):
                        yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _trimmed(numbers: list[int], lines: list[str], prose: set[int]) -> list[int]:
    """Without blank lines at both ends and after a docstring, and with one in the place of several."""
    kept: list[int] = []
    for number in numbers:
        blank = not lines[number - 1].strip()
        if not blank or (kept and lines[kept[-1] - 1].strip() and number - 1 not in prose):
            kept.append(number)
    while kept and not lines[kept[-1] - 1].strip():
        kept.pop()
    return kept


# ---------------------------------------------------------------- highlighting


def highlight(text: str) -> list[str]:
    """The lines of a Python text as HTML: spans of class k (keyword), s (string), c (comment), n (number),
    d (what is defined), a (decorator), b (built in)."""
    lines = text.splitlines(keepends=True)
    spans: list[list[tuple[int, int, str]]] = [[] for _ in range(len(lines) + 1)]
    before, at_start, decorating = "", True, False
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (row, column), (last_row, last_column) = token.start, token.end
        if at_start and token.string == "@":
            decorating = True
        kind = _kind(token, before, decorating)
        for number in range(row, last_row + 1) if kind else ():
            left = column if number == row else 0
            right = last_column if number == last_row else len(lines[number - 1].rstrip("\n"))
            spans[number - 1].append((left, right, kind))
        if token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            at_start, decorating = True, False
        else:
            at_start, decorating = False, decorating and token.string != "("
        before = token.string
    return [_line_html(line.rstrip("\n"), found) for line, found in zip(lines, spans)]


def _kind(token: tokenize.TokenInfo, before: str, decorating: bool) -> str:
    """The class of a token's span; "" for none."""
    if token.type == tokenize.COMMENT:
        return "c"
    if token.type in (tokenize.STRING, *F_STRINGS):
        return "s"
    if token.type == tokenize.NUMBER:
        return "n"
    if decorating:
        return "a"
    if token.type != tokenize.NAME:
        return ""
    if before in ("def", "class"):
        return "d"
    if keyword.iskeyword(token.string) or (not before.strip() and _opens_match(token)):
        return "k"
    return "b" if token.string in BUILT_IN and before != "." else ""


def _opens_match(token: tokenize.TokenInfo) -> bool:
    """True for `match` and `case` before what is matched, False where they are names of variables."""
    return token.string in ("match", "case") and not re.match(r"\s*[=.,:\])]", token.line[token.end[1] :])


# From Python 3.12 on, an f-string is several tokens.
F_STRINGS = tuple(getattr(tokenize, name) for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
                  if hasattr(tokenize, name))  # fmt: skip


def _line_html(line: str, spans: list[tuple[int, int, str]]) -> str:
    html, place = "", 0
    for left, right, kind in spans:
        before, marked = escape(line[place:left], quote=False), escape(line[left:right], quote=False)
        html += f'{before}<span class="{kind}">{marked}</span>'
        place = right
    return html + escape(line[place:], quote=False)


def read(path: str | Path) -> str:
    """The text of a Python file, in the encoding that it declares."""
    with tokenize.open(path) as file:
        return file.read()
