"""The page of one algorithm: what it says on the left, the code that says it on the right, piece by piece.

A page is one HTML file that fetches nothing and needs no script. It is written from what is there already: the
docstrings, the equations with their ledger, the Config's fields, what `work` has seen, and the pictures of a run.
"""

from __future__ import annotations

import ast
import base64
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any

from tinygen import plot
from tinygen.data import Dataset
from tinygen.data.files import to_pillow
from tinygen.errors import PluginError
from tinygen.host import AlgorithmSpec, Equation, Registry
from tinygen.host.describe import describe_config, equations_of, verifications
from tinygen.host.equation import equations_in
from tinygen.random import Stream
from tinygen.run import draw
from tinygen.study import graph, prose, source
from tinygen.study.breaks import lines_of, pieces_of_line
from tinygen.study.mathml import to_mathml
from tinygen.study.rules import formula_of, rule_of
from tinygen.study.trace import Seen
from tinygen.study.work import at_work, small_config

STYLE = Path(__file__).with_name("style.css")
SAMPLES = 4  # of an algorithm that needs no training
LARGEST_PICTURE = 3 << 20  # bytes of a picture that is put into a page
KINDS = {".png": "png", ".gif": "gif"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that a page is written from."""

    spec: AlgorithmSpec
    config: type
    modules: tuple[ModuleType, ...]  # the algorithm's own file, then the helpers of its family that it uses
    equations: tuple[Equation, ...]
    tests: Mapping[str, Mapping[str, Mapping[str, Any]]]  # by equation's id and test: examples, largest error
    seen: Seen
    pictures: tuple[tuple[str, bytes, str], ...]  # (caption, file, "png" or "gif")

    @property
    def test_count(self) -> int:
        return len({test for tests in self.tests.values() for test in tests})

    @property
    def examples(self) -> int:
        once = {test: entry["examples"] for tests in self.tests.values() for test, entry in tests.items()}
        return sum(once.values())


def study(spec: AlgorithmSpec, registry: Registry, data_named: Callable[[str], Dataset], runs: Path) -> Study:
    """Look at an algorithm, and at its run in `runs` where there is one. Imports it and lets it work a little.

    Raises PluginError where it cannot be imported or has no source.
    """
    factory, kind = registry.load(spec.factory), registry.load(spec.config)
    modules = modules_of(factory)
    equations = tuple({each.id: each for each in _equations(spec, factory, modules)}.values())
    files = [file_of(each) for each in modules]
    seen = at_work(spec, factory, small_config(kind), files, data_named)
    return Study(
        spec=spec, config=kind, modules=modules, equations=equations, seen=seen,
        tests={equation.id: verifications(equation) for equation in equations},
        pictures=tuple(_pictures(spec, factory, kind, runs)),
    )  # fmt: skip


def _equations(spec: AlgorithmSpec, factory: Any, modules: Sequence[ModuleType]) -> Iterator[Equation]:
    """The equations of an algorithm, then those of the helpers, whose code the page shows too."""
    yield from equations_of(spec, factory)
    for module in modules:
        yield from equations_in(module)


def file_of(module: ModuleType) -> str:
    """The path of a module's source. Raises PluginError where there is none."""
    if not module.__file__ or not module.__file__.endswith(".py"):
        raise PluginError(f"{module.__name__} has no source that could be read", "install it as Python files")
    return module.__file__


def modules_of(factory: Any) -> tuple[ModuleType, ...]:
    """The module of an algorithm, and the helpers of its family that it uses."""
    module = sys.modules[factory.__module__]
    return module, *_helpers(module, set())


def files_of(factory: Any) -> list[str]:
    """The paths of their sources."""
    return [file_of(module) for module in modules_of(factory)]


def _helpers(module: ModuleType, known: set[str]) -> list[ModuleType]:
    """The files beside a module whose names begin with _, as far as it imports them, in the order of their use."""
    package = module.__name__.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source.read(file_of(module)))):
        if isinstance(node, ast.ImportFrom) and package:
            name = f"{package}.{node.module}" if node.level == 1 else node.module or ""
            is_helper = name.rpartition(".")[0] == package and name.rpartition(".")[2].startswith("_")
            if is_helper and name in sys.modules and name not in known:
                known.add(name)
                found += [sys.modules[name], *_helpers(sys.modules[name], known)]
    return found


# ---------------------------------------------------------------- pictures


def _pictures(spec: AlgorithmSpec, factory: Callable, kind: type, runs: Path) -> Iterable[tuple[str, bytes, str]]:
    """The pictures of a run, or else a fresh sample of an algorithm that needs no training."""
    folder = runs / spec.name
    if folder.is_dir():
        found = [folder / f"samples{suffix}" for suffix in KINDS]
        found += [*sorted((folder / "pictures").glob("*.png")), folder / "curves.png"]
        for path in found:
            if path.is_file() and path.stat().st_size <= LARGEST_PICTURE:
                words = path.stem.replace("-", " ")
                yield f"{words} of the run {folder}", path.read_bytes(), KINDS[path.suffix]
    elif "sample" in spec.verbs and (spec.untrained or "train" not in spec.verbs):
        try:
            algorithm = factory(kind(), None, Stream(0, spec.name).child("algorithm"))
            images = draw(algorithm, SAMPLES, Stream(0, spec.name).child("sample"))
        except Exception:  # `work` has told of it
            return
        file = io.BytesIO()
        to_pillow(plot.grid(images, columns=SAMPLES)).save(file, "PNG")
        yield f"tinygen sample {spec.name} -n {SAMPLES} --seed 0", file.getvalue(), "png"


# ---------------------------------------------------------------- the page


def page(seen: Study, links: str = "") -> str:
    """The whole file. links: HTML of what leads to the book's other pages."""
    files = [(stem_of(module), source.read(file_of(module)), file_of(module)) for module in seen.modules]
    body = [_head(seen, links)]
    if seen.pictures:
        body.append(f'<section class="pictures">{"".join(map(_figure, seen.pictures))}</section>')
    body.append("<main>")
    for place, (stem, text, path) in enumerate(files):
        if place:
            body.append(f'<h2 id="{stem}">From <code>{stem}.py</code></h2>')
        body += _rows(seen, stem, text, path)
    body += ["</main>", _graphs(seen, files), _foot(seen)]
    return document(f"{seen.spec.name} · tinygen", seen.spec.summary, "\n".join(body))


def document(title: str, description: str, body: str) -> str:
    """A file around its body."""
    style = STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<meta name="description" content="{escape(description, quote=True)}">\n'
        f'<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def stem_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _head(seen: Study, links: str) -> str:
    spec = seen.spec
    papers = "".join(f"<p>{prose.with_links(paper)}</p>" for paper in spec.papers)
    counts = f"{counted(len(seen.equations), 'equation')}, {counted(seen.test_count, 'property test')}"
    if seen.examples:
        counts += f", {seen.examples:_} examples".replace("_", "\u202f")
    names = " ".join(f'<a href="#{_anchor(equation)}">{equation.name}</a>' for equation in seen.equations)
    contents = f'<nav class="contents" aria-label="equations"><b>equations</b> {names}</nav>' if names else ""
    return (
        f'<header>{links}<h1>{escape(spec.name)}</h1><p class="summary">{escape(spec.summary)}</p>'
        f'<div class="facts">{papers}<p>{escape(spec.family)} · {" · ".join(spec.verbs)}</p><p>{counts}</p></div>'
        f"{contents}</header>"
    )


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _anchor(equation: Equation) -> str:
    module, _, name = equation.id.partition(":")
    return f"{module.rpartition('.')[2]}.{name}"


def _figure(picture: tuple[str, bytes, str]) -> str:
    caption, file, kind = picture
    data = base64.b64encode(file).decode("ascii")
    words = escape(caption, quote=True)
    return f'<figure><img src="data:image/{kind};base64,{data}" alt="{words}"><figcaption>{words}</figcaption></figure>'


# ---------------------------------------------------------------- rows


def _rows(seen: Study, stem: str, text: str, path: str) -> Iterable[str]:
    """The pieces of a file, each with its prose beside its code."""
    highlighted = source.highlight(text)
    shapes = {line: found for (file, line), found in seen.seen.shapes.items() if file == path}
    equations = {equation.name: equation for equation in seen.equations if file_of_equation(equation) == path}
    for piece in source.pieces_of(text, stem):
        if piece.section:
            yield f"<h2>{prose.inline(piece.section)}</h2>"
        lines = "".join(_line(stem, number, highlighted[number - 1], shapes.get(number)) for number in piece.lines)
        name = f' id="{stem}.{piece.name}"' if piece.name else ""
        said = _prose(seen, piece, equations.get(piece.name), stem)
        shown = f'<pre class="code"><code>{lines}</code></pre>' if lines else ""
        yield f'<section class="row"{name}><div class="prose">{said}</div>{shown}</section>'


def file_of_equation(equation: Equation) -> str:
    return sys.modules[equation.function.__module__].__file__ or ""


def _line(stem: str, number: int, html: str, shapes: Mapping[str, list[str]] | None) -> str:
    """A line of code with its number, and what was seen there."""
    anchor = f"{stem}.L{number}"
    if not shapes:
        return f'<span class="l" id="{anchor}"><a href="#{anchor}">{number}</a>{html}\n</span>'
    told = escape("   ".join(f"{name} {' or '.join(found)}" for name, found in shapes.items()))
    return (
        f'<span class="l has" id="{anchor}"><a href="#{anchor}" aria-label="line {number}: {told}">{number}</a>{html}\n'
        f'<span class="shapes">{told}</span></span>'
    )


def _prose(seen: Study, piece: source.Piece, equation: Equation | None, stem: str) -> str:
    parts = []
    if piece.kind != "module" and piece.name:
        parts.append(f"<h3><code>{escape(piece.name)}</code></h3>")
    if equation is not None:
        parts.append(formula(equation.latex))
        parts.append(
            f'<p class="source">{escape(equation.source)} · <a href="#{stem}.L{piece.line}">line {piece.line}</a></p>'
        )
    parts.append(prose.to_html(piece.doc))
    if piece.kind == "class" and piece.name == seen.config.__name__ and stem == stem_of(seen.modules[0]):
        parts.append(_options(seen.config))
    if equation is not None:
        parts.append(_tests(seen.tests.get(equation.id, {})))
    return "\n".join(part for part in parts if part)


def formula(latex: str) -> str:
    """A formula as MathML, its parts free to stand below each other; as it is written where it cannot be set."""
    try:
        lines = ["<wbr>".join(to_mathml(piece, goes_on=place > 0) for place, piece in enumerate(pieces_of_line(line)))
                 for line in lines_of(latex)]  # fmt: skip
    except PluginError:
        return f'<p class="formula"><code>{escape(latex)}</code></p>'
    return '<p class="formula">' + " ".join(f"<span>{line}</span>" for line in lines) + "</p>"


def _options(config: type) -> str:
    entries = [
        f"<dt>{escape(option['name'])} <b>{escape(str(option['default']))}</b></dt>"
        f"<dd>{prose.inline(option['help'])}</dd>"
        for option in describe_config(config)
    ]
    return f'<dl class="options">{"".join(entries)}</dl>' if entries else ""


def _tests(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """The property tests of an equation: as sentences, with what their last run came to."""
    if not tests:
        return '<ul class="tests"><li class="none">no test in the ledger</li></ul>'
    items = []
    for identity, entry in tests.items():
        name = identity.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        facts = [counted(entry["examples"], "example")]
        if entry["largest_error"] is not None:
            facts.append("exact" if entry["largest_error"] == 0 else f"error ≤ {entry['largest_error']:.1e}")
        items.append(
            f'<li title="{escape(identity, quote=True)}">{escape(name)} <span>· {" · ".join(facts)}</span> '
            f"· {', '.join(entry['backends'])}</li>"
        )
    return f'<ul class="tests">{"".join(items)}</ul>'


# ---------------------------------------------------------------- graphs


def _graphs(seen: Study, files: list[tuple[str, str, str]]) -> str:
    """The graphs of the backward passes that were seen, and the rules of their operations."""
    if not seen.seen.backward_passes:
        return ""
    links = {path: f"#{stem}.L" for stem, _, path in files}
    figures = [
        f'<figure><div class="scroll">{graph.svg(walk, seen.seen, links)}</div>'
        f"<figcaption>{escape(graph.caption(walk))}</figcaption></figure>"
        for walk in seen.seen.backward_passes
    ]
    rows = []
    for function, name, count in graph.operations_in(seen.seen.backward_passes):
        rule = rule_of(function)
        told = f"<pre><code>{escape(rule.text)}</code></pre>" if rule.is_code else prose.inline(rule.text)
        said = prose.inline(formula_of(function))
        rows.append(f"<tr><td><code>{name}</code></td><td>{count}</td><td>{said}</td><td>{told}</td></tr>")
    what = "One training step" if "train" in seen.spec.verbs else "The first step"
    return (
        f'<section><h2 id="graph">{what} as a graph</h2>'
        '<p class="small">Data flows down to the loss; the gradient takes the same way up, by the rules below. Tinted '
        "boxes have parameters that learn. Each box leads to its line, and tells its operations when pointed at.</p>"
        f'<div class="graphs">{"".join(figures)}</div><h2 id="rules">Rules of derivation</h2>'
        '<div class="scroll"><table><thead><tr><th>operation</th><th>times</th><th>what it computes</th>'
        "<th>how the gradient passes: gy arrives, gx goes on to x</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _foot(seen: Study) -> str:
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in seen.seen.remarks)
    shapes = "Line numbers with a bar know the shapes seen there in a small run, on hover. " if seen.seen.shapes else ""
    return (
        f"<footer><p>{shapes}Line numbers are those of the files, whose docstrings stand on the left.</p>"
        f"{remarks}<p>tinygen read {escape(seen.spec.name)}</p></footer>"
    )
