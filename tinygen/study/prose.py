"""Docstrings as HTML: paragraphs, formulas that stand by themselves, lists, and what each argument means.

Nothing is marked up in a docstring but names in backquotes, so that it reads as well in the source.
"""

from __future__ import annotations

import re
from html import escape

ITEM = re.compile(r"(?:- |\d+\. )(?=\S)")
TERM = re.compile(r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*: (?=\S)")
TERMS = re.compile(r"[A-Za-z_]\w*(?: \w+){1,2}: (?=\S)")  # of several words: where one does not come alone
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def to_html(text: str) -> str:
    """A cleaned docstring as HTML."""
    return "\n".join(_block(block) for block in re.split(r"\n[ \t]*\n", text.strip("\n")) if block.strip())


def _block(block: str) -> str:
    """What stands between two blank lines."""
    lines = block.splitlines()
    if all(line.startswith("    ") or not line for line in lines):
        indent = min(len(line) - len(line.lstrip()) for line in lines if line)
        return f'<pre class="display">{inline(chr(10).join(line[indent:] for line in lines))}</pre>'
    html, kind = "", ""
    paragraph: list[str] = []
    items: list[str] = []
    several = sum(TERMS.match(line) is not None for line in lines) > 1
    for line in lines:
        item, term = ITEM.match(line), TERM.match(line) or (several and TERMS.match(line))
        if item:
            kind = "ol" if line[0].isdigit() else "ul"
            items.append(line[item.end() :])
        elif term and (items or not paragraph) and (kind in ("", "dl")):
            kind = "dl"
            items.append(line)
        elif items and line.startswith(" "):
            items[-1] += " " + line.strip()
        elif items:  # the list has come to its end
            html += _list(kind, items)
            kind, items = "", []
            paragraph.append(line)
        else:
            paragraph.append(line.strip())
            continue
        if paragraph and items:
            html += f"<p>{inline(' '.join(paragraph))}</p>"
            paragraph = []
    if items:
        html += _list(kind, items)
    if paragraph:
        html += f"<p>{inline(' '.join(paragraph))}</p>"
    return html


def _list(kind: str, items: list[str]) -> str:
    if kind == "dl":
        pairs = (item.split(": ", 1) for item in items)
        return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{inline(b)}</dd>" for a, b in pairs) + "</dl>"
    return f"<{kind}>" + "".join(f"<li>{inline(item)}</li>" for item in items) + f"</{kind}>"


def inline(text: str) -> str:
    """Running text: names in backquotes as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    return "".join(f"<code>{escape(part)}</code>" if place % 2 else escape(part) for place, part in enumerate(parts))


def with_links(text: str) -> str:
    """A reference, its arXiv number linked."""
    return ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', escape(text))
