"""Files in pieces: every line of code once, no docstring among them, and the highlighting changes no sign."""

import ast
import html
import importlib.util
import re
from pathlib import Path

import pytest

from tinygen.study import source

PLUGINS = Path(importlib.util.find_spec("tinygen_plugins").submodule_search_locations[0])
FILES = sorted(path for path in PLUGINS.rglob("*.py") if path.name != "__init__.py")

TEXT = '''"""The head.

More of it."""

import math

LIMIT = 3  # of all


# ---------------------------------------------------------------- first part


@decorated(
    r"a formula"
)
def f(x: int = 1) -> str:
    """Computes f."""

    match = f"{x} & <{LIMIT}>"
    match match:
        case "a":
            return None
    return """not a
docstring"""


class C(Base):
    """A class."""

    size: int = 3
    """Its size."""

    def __init__(self):
        self.x = 1

    # why it is so
    def method(self):
        """Does it."""
        return self.x


TABLE = {f: 1}
'''


def test_the_pieces_of_a_file():
    pieces = source.pieces_of(TEXT, "toy")
    assert [(p.kind, p.name, p.doc, p.section, p.line) for p in pieces] == [
        ("module", "toy", "The head.\n\nMore of it.", "", 5),
        ("function", "f", "Computes f.", "first part", 16),
        ("class", "C", "A class.", "", 27),
        ("method", "C.method", "Does it.", "", 37),
        ("code", "", "", "", 42),
    ]
    lines = TEXT.splitlines()
    assert [[lines[number - 1] for number in p.lines] for p in pieces][2] == [
        "class C(Base):", "    size: int = 3", "    def __init__(self):", "        self.x = 1"
    ]  # fmt: skip
    assert pieces[3].lines[0] == 36  # the comment above goes with the method
    assert lines[pieces[1].lines[-1] - 1] == 'docstring"""'  # a string that is no docstring stays


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_of_code_stands_in_one_piece(path):
    text = source.read(path)
    lines = text.splitlines()
    pieces = source.pieces_of(text, path.stem)
    shown = [number for piece in pieces for number in piece.lines]
    assert shown == sorted(set(shown))
    missing = {n for n, line in enumerate(lines, 1) if line.strip() and not source.SECTION.match(line)} - set(shown)
    docs = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs |= set(range(node.lineno, node.end_lineno + 1))
    assert missing <= docs
    for piece in pieces:
        if piece.kind in ("function", "class", "method"):
            assert re.match(r"\s*(async )?(def|class) " + piece.name.rpartition(".")[2], lines[piece.line - 1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_highlighting_changes_no_sign(path):
    text = source.read(path)
    plain = [re.sub(r'<span class="\w">|</span>', "", line) for line in source.highlight(text)]
    assert not any("<" in line or ">" in line for line in plain)
    assert [html.unescape(line) for line in plain] == text.splitlines()


def test_the_classes_of_what_is_highlighted():
    shown = source.highlight(TEXT)
    marked = {(kind, word) for line in shown for kind, word in re.findall(r'<span class="(\w)">([^<]+)</span>', line)}
    for pair in [("k", "import"), ("c", "# of all"), ("n", "3"), ("a", "decorated"), ("d", "f"), ("d", "C"),
                 ("b", "int"), ("k", "match"), ("k", "case"), ("k", "None"), ("s", 'r"a formula"')]:  # fmt: skip
        assert pair in marked, pair
    assert shown[18].lstrip().startswith("match = ")  # a variable, and no keyword
