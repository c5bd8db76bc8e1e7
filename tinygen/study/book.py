"""The book: a page for each algorithm, an index by family, all formulas on one page, and the guides.

Each page is whole by itself; the links between them are relative, so that the folder can lie anywhere. The search on
the index is a few lines of script, without which the page only lacks the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from tinygen.study import guide, prose
from tinygen.study.page import Study, counted, document, formula, page

SEARCH = Path(__file__).with_name("search.js")


def pages(studies: Sequence[Study], left_out: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The files of the book by name. left_out: (name, why) of algorithms that could not be read."""
    ordered = sorted(studies, key=lambda seen: seen.spec.family)
    texts = guide.guides()
    files = {"index.html": _index(ordered, left_out, texts), "formulas.html": _formulas(ordered), **guide.pages(texts)}
    for place, seen in enumerate(ordered):
        before = ordered[place - 1].spec.name if place else ""
        after = ordered[place + 1].spec.name if place + 1 < len(ordered) else ""
        files[f"{seen.spec.name}.html"] = page(seen, _links(seen, before, after))
    return files


def _links(seen: Study, before: str, after: str) -> str:
    """What leads from a page to the others."""
    links = ['<a href="index.html">tinygen</a>', f'<a href="index.html#{seen.spec.family}">{seen.spec.family}</a>']
    links += [f'<a href="{before}.html" rel="prev">← {before}</a>'] if before else []
    links += [f'<a href="{after}.html" rel="next">{after} →</a>'] if after else []
    return f'<nav aria-label="book">{"".join(links)}</nav>'


def _index(studies: Sequence[Study], left_out: Sequence[tuple[str, str]], texts: Mapping[str, str]) -> str:
    equations = {equation.id for seen in studies for equation in seen.equations}
    tests = {test for seen in studies for entries in seen.tests.values() for test in entries}
    to_guides = ', <a href="#guides">guides</a>' if texts else ""
    parts = [
        "<header><h1>tinygen</h1>"
        '<p class="summary">Algorithms of image generation, each to be read beside its code.</p>'
        f'<div class="facts"><p>{counted(len(studies), "algorithm")}, <a href="formulas.html">'
        f"{counted(len(equations), 'equation')}</a>, {counted(len(tests), 'property test')}"
        f"{to_guides}</p></div>"
        '<p class="search" hidden><input type="search" id="search" placeholder="search: a name, a word, an equation" '
        'aria-label="search"> <span id="found" class="small" role="status"></span></p></header><main>'
    ]
    for family, members in groupby(studies, key=lambda seen: seen.spec.family):
        cards = "".join(map(_card, members))
        parts.append(
            f'<section class="family" id="{family}"><h2>{escape(family)}</h2><ul class="cards">{cards}</ul></section>'
        )
    if texts:
        cards = "".join(_guide_card(name, text) for name, text in texts.items())
        parts.append(f'<section class="family" id="guides"><h2>guides</h2><ul class="cards">{cards}</ul></section>')
    parts.append("</main>")
    if left_out:
        items = "".join(f"<li><code>{escape(name)}</code> {escape(why)}</li>" for name, why in left_out)
        parts.append(f'<section><h2>Left out</h2><ul class="small">{items}</ul></section>')
    parts.append("<footer><p>tinygen read --all</p></footer>")
    script = SEARCH.read_text(encoding="utf-8")
    return document(
        "tinygen", "Algorithms of image generation, each to be read beside its code.",
        "\n".join(parts) + f"\n<script>\n{script}</script>",
    )  # fmt: skip


def _card(seen: Study) -> str:
    spec = seen.spec
    words = [spec.name, spec.family, spec.summary, *spec.verbs, *spec.papers]
    words += [f"{equation.name} {equation.name.replace('_', ' ')} {equation.source}" for equation in seen.equations]
    text = escape(" ".join(words).lower(), quote=True)
    return (
        f'<li data-text="{text}"><a class="title" href="{spec.name}.html">{spec.name}</a><p>{escape(spec.summary)}</p>'
        f'<p class="small">{counted(len(seen.equations), "equation")} · {counted(seen.test_count, "test")} · '
        f"{' · '.join(spec.verbs)}</p></li>"
    )


def _guide_card(name: str, text: str) -> str:
    words = escape(" ".join([name, guide.title_of(text), guide.opening_of(text)]).lower(), quote=True)
    return (
        f'<li data-text="{words}"><a class="title" href="{guide.file_name(name)}">{escape(guide.title_of(text))}</a>'
        f"<p>{escape(guide.opening_of(text))}</p></li>"
    )


def _formulas(studies: Sequence[Study]) -> str:
    """All formulas, each leading to where it is computed; one that several algorithms use stands with the first."""
    parts = ['<header><nav><a href="index.html">tinygen</a></nav><h1>Formulas</h1></header><main class="formulas">']
    known: set[str] = set()
    for seen in studies:
        entries = []
        for equation in seen.equations:
            if equation.id not in known:
                known.add(equation.id)
                anchor = f"{equation.function.__module__.rpartition('.')[2]}.{equation.name}"
                entries.append(
                    f'<div><dt><a href="{seen.spec.name}.html#{anchor}">{equation.name}</a></dt>'
                    f"<dd>{formula(equation.latex)}"
                    f'<span class="small">{prose.inline(equation.source)}</span></dd></div>'
                )
        if entries:
            parts.append(f"<section><h2>{seen.spec.name}</h2><dl>{''.join(entries)}</dl></section>")
    return document("Formulas · tinygen", "Every equation of tinygen.", "\n".join([*parts, "</main>"]))
