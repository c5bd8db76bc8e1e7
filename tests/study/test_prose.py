"""Docstrings as HTML."""

import inspect
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import functional as F
from tinygen.study import prose


def tree(text):
    return ElementTree.fromstring(f"<div>{prose.to_html(text)}</div>")


def test_blocks():
    found = tree(
        "One `name`\nand more.\n\n    y = x < 2\n      and so on\n\n- first\n  goes on\n- second\n\n1. a\n2. b"
    )
    assert [element.tag for element in found] == ["p", "pre", "ul", "ol"]
    assert found[0].find("code").text == "name"
    assert tree("of `a < b & c`")[0].find("code").text == "a < b & c"
    assert found[1].text == "y = x < 2\n  and so on"
    assert ["".join(item.itertext()) for item in found[2]] == ["first goes on", "second"]


def test_arguments():
    found = tree("x: an image\n    of any size\nmu, logvar: the law\nRaises nothing.")
    assert [element.tag for element in found] == ["dl", "p"]
    assert [e.text for e in found[0]] == ["x", "an image of any size", "mu, logvar", "the law"]
    assert [e.tag for e in tree("Note that: this is no argument\nof anything.")] == ["p"]
    assert [e.text for e in tree("kind one: a\nkind two: b")[0]] == ["kind one", "a", "kind two", "b"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60))
def test_any_line_is_kept_and_well_formed(text):
    shown = "".join(tree(text).itertext()) if text.strip() else ""
    kept = re.sub(r"[`\s\d.:-]", "", text)
    assert re.sub(r"[`\s\d.:-]", "", shown) == kept


@pytest.mark.parametrize("name", sorted(F.__all__))
def test_docstrings_of_the_library_are_well_formed(name):
    assert "".join(tree(inspect.getdoc(getattr(F, name))).itertext()).strip()


def test_papers_are_linked():
    assert prose.with_links("A & B, 2014, arXiv:1406.2661") == (
        'A &amp; B, 2014, <a href="https://arxiv.org/abs/1406.2661">arXiv:1406.2661</a>'
    )
