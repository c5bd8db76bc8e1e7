"""The guides as pages: their links, headings, code and tables."""

import re
from html.parser import HTMLParser

import pytest

from tinygen.study import book, guide

TEXT = """# A title

The opening, with `code` and a [link](other.md#part). More.

## Part one & two

| a | b |
|---|---|
| 1 | 2 |

```python
x = "a < b"  # a comment
```

```sh
tinygen list > file
```

## Part one & two

[away](https://example.org) [a file](../x.py) [unknown](third.md)
"""


def test_links_lead_to_pages_of_the_book_or_are_words():
    html = guide.to_html(TEXT, ["other"])
    assert '<a href="guide-other.html#part">link</a>' in html
    assert '<a href="https://example.org">away</a>' in html
    assert "<span>a file</span>" in html and "<span>unknown</span>" in html


def test_headings_have_names_of_their_own():
    assert re.findall(r'<h\d id="([^"]+)">', guide.to_html(TEXT)) == ["a-title", "part-one--two", "part-one--two-1"]


def test_python_is_highlighted_and_all_is_escaped():
    html = guide.to_html(TEXT)
    assert '<span class="s">' in html and "a &lt; b" in html and '<span class="c"># a comment</span>' in html
    assert "tinygen list &gt; file" in html
    assert '<div class="scroll"><table>' in html
    assert "x =" in guide.to_html("```python\nx = (\n```\n")  # what is no whole program is shown as it is


def test_titles_and_openings():
    assert guide.title_of(TEXT) == "A title"
    assert guide.opening_of(TEXT) == "The opening, with code and a link."


class _Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.pictures = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        if tag not in ("meta", "link", "br", "hr", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.pictures += [dict(attributes)] if tag == "img" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def files():
    return guide.pages(guide.guides())


def test_all_guides_become_whole_pages_whose_links_resolve(files):
    assert len(files) >= 12
    parsed = {}
    for name, html in files.items():
        parsed[name] = _Balanced()
        parsed[name].feed(html)
        assert parsed[name].open == [] and len(set(parsed[name].ids)) == len(parsed[name].ids)
    pictures = [picture for page in parsed.values() for picture in page.pictures]
    assert len(pictures) >= 4
    assert all(picture["src"].startswith("data:image/") and picture["alt"] for picture in pictures)
    for page in parsed.values():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if link.startswith("https://") or target == "index.html":
                continue
            assert target in files or not target, link
            assert not anchor or anchor in (parsed[target].ids if target else page.ids), link


def test_the_index_names_them_in_the_order_in_which_to_read(files):
    html = book.pages([])["index.html"]
    names = re.findall(r'class="title" href="(guide-[\w-]+\.html)"', html)
    assert names == list(files) and names[0] == "guide-tutorial.html"
    assert 'data-text="tutorial write a plugin' in html


def test_without_guides_the_book_is_whole(monkeypatch):
    monkeypatch.setattr(guide, "folder", lambda: None)
    pages = book.pages([])
    assert list(pages) == ["index.html", "formulas.html"] and "guides" not in pages["index.html"].split("<script>")[0]
