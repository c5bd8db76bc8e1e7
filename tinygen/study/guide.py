"""The guides, docs/*.md, as pages of the book.

They are Markdown, set by markdown-it; what is added is the highlighting of Python, anchors of headings, and links that
lead to the pages of the book instead of files. A link to a file that is no guide is left as its words, and a picture
becomes a part of the page.
"""

from __future__ import annotations

import base64
import itertools
import re
import tokenize
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tinygen.study import source
from tinygen.study.page import document

ORDER = (  # for a reader; what is not named comes after these
    "tutorial", "reading", "hooks", "checks", "testing", "backends", "misprints", "operations", "results",
    "performance", "architecture", "decisions", "glossary",
)  # fmt: skip
PICTURES = {".png": "png", ".jpg": "jpeg"}


def folder() -> Path | None:
    """Where the guides lie: within the installed package, or beside it in a clone; None where neither is."""
    package = Path(__file__).parents[1]
    return next((path for path in (package / "docs", package.parent / "docs") if (path / "reading.md").is_file()), None)


def guides() -> dict[str, str]:
    """The texts by name, in the order in which to read them."""
    place = folder()
    found = {} if place is None else {path.stem: path for path in place.glob("*.md")}
    ordered = sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return {name: found[name].read_text(encoding="utf-8") for name in ordered}


def title_of(text: str) -> str:
    """The first heading."""
    return next((line.removeprefix("# ").strip() for line in text.splitlines() if line.startswith("# ")), "")


def opening_of(text: str) -> str:
    """The first sentence after it, without its marks."""
    paragraph = next((part for part in text.split("\n\n")[1:] if part[:1] not in "#|`-<"), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace("`", "").replace("*", "")
    return re.split(r"(?<=[.:]) (?=[A-Z])", plain)[0]


def file_name(name: str) -> str:
    return f"guide-{name}.html"


def pages(texts: dict[str, str]) -> dict[str, str]:
    """The files by name."""
    names = list(texts)
    return {file_name(name): _page(name, texts[name], names) for name in names}


def _page(name: str, text: str, names: Sequence[str]) -> str:
    place = names.index(name)
    links = ['<a href="index.html">tinygen</a>']
    links += [f'<a href="{file_name(names[place - 1])}" rel="prev">← {names[place - 1]}</a>'] if place else []
    after = names[place + 1 : place + 2]
    links += [f'<a href="{file_name(next_one)}" rel="next">{next_one} →</a>' for next_one in after]
    nav = f'<header><nav aria-label="book">{"".join(links)}</nav></header>'
    body = f'{nav}<main class="guide">{to_html(text, names)}</main>'
    return document(f"{title_of(text)} · tinygen", opening_of(text), body)


def to_html(text: str, names: Sequence[str] = ()) -> str:
    """Markdown as HTML. names: the guides that there are pages of."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")
    tokens = reader.parse(text)
    known: dict[str, int] = {}
    for here, after in itertools.pairwise(tokens):
        if here.type == "heading_open":
            here.attrSet("id", _anchor(after.content, known))
    for token in tokens:
        inside = token.children or []
        for place, child in enumerate(inside):
            if child.type == "image":
                child.attrSet("src", _embedded(str(child.attrGet("src"))))
            elif child.type == "link_open":
                to = _target(str(child.attrGet("href")), names)
                if to:
                    child.attrSet("href", to)
                else:
                    end = next(i for i in range(place, len(inside)) if inside[i].type == "link_close")
                    child.tag = inside[end].tag = "span"
                    child.attrs = {}
    html = reader.renderer.render(tokens, reader.options, {})
    return html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def _embedded(link: str) -> str:
    """A picture beside the guides as part of the page; what is not there shows its words."""
    place = folder()
    path = place / link if place is not None else None
    if path is None or path.suffix not in PICTURES or not path.is_file():
        return "data:,"
    return f"data:image/{PICTURES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _target(link: str, names: Sequence[str]) -> str:
    """Where a link of a guide leads in the book; "" for a file that is not in it."""
    if link.startswith(("https://", "http://", "#")):
        return link
    path, _, anchor = link.partition("#")
    name = path.removesuffix(".md")
    return file_name(name) + (f"#{anchor}" if anchor else "") if name in names and path.endswith(".md") else ""


def _anchor(heading: str, known: dict[str, int]) -> str:
    """The name of a heading, as common readers of Markdown make it; numbered where it comes again."""
    words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    known[words] = known.get(words, -1) + 1
    return words + (f"-{known[words]}" if known[words] else "")


def _highlighted(code: str, language: str, attributes: str) -> str:
    """A block of code; Python in the colours of the pages."""
    if language == "python":
        try:
            lines = source.highlight(code)
        except (SyntaxError, tokenize.TokenError):
            lines = [escape(line) for line in code.splitlines()]
    else:
        lines = [escape(line) for line in code.splitlines()]
    inside = "".join(f'<span class="l">{line}\n</span>' for line in lines)
    return f'<pre class="code"><code>{inside}</code></pre>'
