"""The pages and the book: whole, linked within themselves, and fetching nothing."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.study.conftest import data_named
from tinygen.host.describe import verifications
from tinygen.study import source
from tinygen.study.book import pages
from tinygen.study.page import file_of, page, study

VOID = {"meta", "link", "img", "wbr", "input", "br"}


class Page(HTMLParser):
    """What a test asks of a page; an element that is not closed where it was opened is an error."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.open, self.words = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found[name] for name in ("src", "srcset", "data", "action") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def gan_page(gan):
    return page(gan)


def test_a_page_is_whole(gan, gan_page):
    found = Page(gan_page)
    assert len(found.ids) == len(set(found.ids))
    inner = [link[1:] for link in found.links if link.startswith("#")]
    assert set(inner) <= set(found.ids)
    for equation in gan.equations:
        assert f"gan.{equation.name}" in found.ids
        assert f"gan.L{equation.line}" in inner
    assert len(re.findall("<math ", gan_page)) >= len(gan.equations)


def test_a_page_fetches_nothing(gan_page):
    found = Page(gan_page)
    assert all(source.startswith("data:") for source in found.sources)
    outer = [link for link in found.links if not link.startswith(("#", "data:"))]
    assert outer == ["https://arxiv.org/abs/1406.2661"]  # a link for the reader, and no file of the page
    assert "<script" not in gan_page
    assert not re.search(r"@import|url\(", gan_page)


def test_a_page_tells_of_every_test(gan, gan_page):
    for equation in gan.equations:
        tests = verifications(equation)
        assert tests
        for identity, entry in tests.items():
            assert f'title="{identity}"' in gan_page
            assert f"{entry['examples']} examples" in gan_page
            if entry["largest_error"]:
                assert f"error ≤ {entry['largest_error']:.1e}" in gan_page


def test_the_code_of_a_page_is_that_of_the_file(gan, gan_page):
    text = source.read(file_of(gan.modules[0])).splitlines()
    shown = re.findall(r'id="gan\.L(\d+)"><a[^>]*>\1</a>(.*?)\n', gan_page)
    assert len(shown) > 150
    for number, line in shown:
        plain = re.sub("<[^>]+>", "", line)
        assert plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text[int(number) - 1]


def test_the_page_of_the_toy(toy):
    text = page(toy)
    assert "<title>toy · tinygen</title>" in text
    assert "a &lt;toy&gt; &amp; more" in text
    assert "1 equation, 0 property tests" in text
    assert "no test in the ledger" in text
    assert "<dt>width <b>5</b></dt><dd>units</dd>" in text
    assert '<span class="shapes">a (2, 5)   slope (2, 1, 28, 28)</span>' in text
    assert text.count("<svg") == 2
    assert "gx = gy · (1 − y²)." in text
    Page(text)


def test_a_formula_that_cannot_be_set_is_shown_as_written(toy):
    (equation,) = toy.equations
    text = page(replace(toy, equations=(replace(equation, latex=r"\strange{x} < y"),)))
    assert r"<code>\strange{x} &lt; y</code>" in text


def test_helpers_of_the_family_are_on_the_page(registry, tmp_path):
    seen = study(registry.algorithm("pixels"), registry, data_named(registry), tmp_path)
    text = page(seen)
    found = Page(text)
    stems = [module.__name__.rpartition(".")[2] for module in seen.modules]
    assert stems[0] == "pixels" and all(stem.startswith("_") for stem in stems[1:])
    assert all(stem in found.ids for stem in stems[1:])
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    (source_of_picture,) = found.sources  # it needs no training: a fresh sample
    picture = Image.open(io.BytesIO(base64.b64decode(source_of_picture.partition(",")[2])))
    assert min(picture.size) > 32
    assert "tinygen sample pixels -n 4 --seed 0" in text
    assert text == page(study(registry.algorithm("pixels"), registry, data_named(registry), tmp_path))  # and the same


def test_an_equation_of_a_helper_has_its_formula_and_its_tests_too(registry, tmp_path):
    seen = study(registry.algorithm("blend"), registry, data_named(registry), tmp_path)
    (each,) = [equation for equation in seen.equations if equation.id.endswith("._poisson:divergence")]
    text = page(seen)
    row = text.partition('<section class="row" id="_poisson.divergence">')[2].partition("</section>")[0]
    assert "<math" in row and f">line {each.line}</a>" in row
    assert all(f'title="{test}"' in row for test in verifications(each)) and verifications(each)
    assert len({equation.id for equation in seen.equations}) == len(seen.equations)


def test_the_pictures_of_a_run_are_on_the_page(registry, tmp_path):
    folder = tmp_path / "toy"
    (folder / "pictures").mkdir(parents=True)
    for name in ("samples.png", "curves.png", "pictures/feature-maps.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / name)
    seen = study(registry.algorithm("toy"), registry, data_named(registry), tmp_path)
    assert [caption for caption, _, _ in seen.pictures] == [
        f"{name} of the run {folder}" for name in ("samples", "feature maps", "curves")
    ]
    assert page(seen).count("data:image/png;base64,") == 3


def test_the_book(toy, gan):
    files = pages([toy, gan], [("broken", "SyntaxError: <it>")])
    algorithms = sorted(name for name in files if not name.startswith("guide-"))
    assert algorithms == ["formulas.html", "gan.html", "index.html", "toy.html"]
    parsed = {name: Page(text) for name, text in files.items()}
    for name, found in parsed.items():
        for link in found.links:
            if link.startswith(("https://", "data:")):
                continue
            file, _, anchor = link.partition("#")
            assert (file or name) in files, link
            assert not anchor or anchor in parsed[file or name].ids, link
    index = files["index.html"]
    assert index.index(">adversarial<") < index.index(">toys<")
    assert "2 algorithms" in index and "8 equations" in index
    assert "SyntaxError: &lt;it&gt;" in index
    assert 'rel="next">toy' in files["gan.html"] and 'rel="prev">← gan' in files["toy.html"]
    assert files["formulas.html"].count("<dt>") == 8


def test_what_cannot_be_done_here_is_noted(registry, tmp_path, toy):
    def no_data(text):
        from tinygen.errors import DataError

        raise DataError(f"no {text} here")

    seen = study(registry.algorithm("gan"), registry, no_data, tmp_path)
    assert seen.seen.remarks == ["gan could not be built: no glyphs here"]
    text = page(seen)
    assert "no glyphs here" in text and "<svg" not in text
