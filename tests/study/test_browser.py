"""The pages in a real browser: they render, fetch nothing, fit a phone, and the search finds."""

import pytest

from tests.study.browser import Browser, find
from tinygen.study.book import pages

FITS = "[document.documentElement.scrollWidth, document.body.scrollWidth, window.innerWidth]"
BROKEN = """[...document.querySelectorAll('a[href^="#"]')].filter(
    (a) => !document.getElementById(decodeURIComponent(a.getAttribute("href").slice(1)))).length"""
INK = "getComputedStyle(document.documentElement).color"


@pytest.fixture(scope="module")
def browser():
    path = find()
    if path is None:
        pytest.skip("there is no Chromium to look at the pages with (apt install chromium, or set TINYGEN_CHROMIUM)")
    browser = Browser(path)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def site(toy, gan, tmp_path_factory):
    """The book of two algorithms, as a folder."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in pages([toy, gan]).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["index.html", "gan.html", "toy.html", "formulas.html"])
def test_a_page_fits_and_fetches_nothing(browser, site, name):
    for width in (1280, 390, 320):
        browser.requests.clear()
        browser.errors.clear()
        browser.open((site / name).as_uri(), width, 844)
        page, body, window = browser.evaluate(FITS)
        assert page <= window and body <= window, f"{name} is {page} wide on a screen of {width}"
        assert window == width
        assert browser.requests == [(site / name).as_uri()]
        assert not browser.errors
        assert browser.evaluate(BROKEN) == 0


def test_code_scrolls_within_its_box_on_a_phone(browser, site):
    browser.open((site / "gan.html").as_uri(), 390, 844)
    wide = "[...document.querySelectorAll('.code')].filter((box) => box.scrollWidth > box.clientWidth).length"
    assert browser.evaluate(wide) > 5
    columns = "getComputedStyle(document.querySelector('.row')).gridTemplateColumns.split(' ').length"
    assert browser.evaluate(columns) == 1
    browser.open((site / "gan.html").as_uri(), 1280, 844)
    assert browser.evaluate(columns) == 2


def test_formulas_are_set_as_mathematics(browser, site):
    """A fraction is higher than a letter, and a sum has its index below it."""
    browser.open((site / "gan.html").as_uri())
    height = "(tag) => Math.max(...[...document.querySelectorAll(tag)].map((e) => e.getBoundingClientRect().height))"
    assert browser.evaluate(f"({height})('mfrac')") > 1.5 * browser.evaluate(f"({height})('mi')")
    below = """[...document.querySelectorAll('munderover')].every((e) =>
        e.children[1].getBoundingClientRect().top >= e.children[0].getBoundingClientRect().bottom - 4)"""
    assert browser.evaluate(below)


def test_light_dark_and_paper(browser, site):
    page = (site / "toy.html").as_uri()
    browser.open(page)
    light = browser.evaluate(INK)
    browser.open(page, dark=True)
    assert browser.evaluate(INK) != light
    browser.open(page, paper=True)
    assert browser.evaluate("getComputedStyle(document.querySelector('.l')).whiteSpace") == "pre-wrap"
    assert browser.evaluate("getComputedStyle(document.querySelector('.row')).display") == "block"


def test_shapes_appear_under_the_pointer(browser, site):
    browser.open((site / "toy.html").as_uri())
    place = browser.evaluate("""(() => { const line = document.querySelector('.l.has');
        line.scrollIntoView({block: 'center'}); const box = line.getBoundingClientRect();
        return [box.x + 200, box.y + 5]; })()""")
    shown = "getComputedStyle(document.querySelector('.l.has > .shapes')).display"
    assert browser.evaluate(shown) == "none"
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    assert browser.evaluate(shown) == "block"


def test_the_search_finds(browser, site):
    browser.open((site / "index.html").as_uri())
    shown = ".family:not(#guides) [data-text]:not([hidden]) .title"
    left = f"[...document.querySelectorAll('{shown}')].map((a) => a.textContent)"
    look = """(words) => { const field = document.getElementById('search');
        field.value = words; field.dispatchEvent(new Event('input')); }"""
    assert browser.evaluate(left) == ["gan", "toy"]
    for words, found in [("minimax", ["gan"]), ("TOY", ["toy"]), ("goodfellow game", ["gan"]), ("zebra", [])]:
        browser.evaluate(f"({look})({words!r})")
        assert browser.evaluate(left) == found
        assert browser.evaluate("document.querySelectorAll('.family:not(#guides):not([hidden])').length") == len(found)
    browser.evaluate(f"({look})('')")
    assert browser.evaluate(left) == ["gan", "toy"]
