"""Formulas as MathML: each registered equation is set, whole and well formed; what is not known is refused."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.errors import PluginError
from tinygen.host import Registry
from tinygen.host.describe import equations_of
from tinygen.study.breaks import lines_of, pieces_of_line
from tinygen.study.mathml import TOKEN, to_mathml
from tinygen.study.symbols import LETTERS, OPERATORS, RELATIONS


def registered():
    """The formulas of all algorithms that are there, by equation."""
    registry = Registry.discover(disabled=["_"])
    found = {}
    for row in registry.rows:
        if row.status == "ok":
            spec = registry.algorithm(row.name)
            found |= {equation.id: equation.latex for equation in equations_of(spec, registry.load(spec.factory))}
    return found


def tree(latex, **options):
    return ElementTree.fromstring(to_mathml(latex, **options))


def text(latex):
    return "".join(tree(latex).itertext())


def tags(latex):
    return [element.tag for element in tree(latex).iter()]


def test_every_registered_equation_is_set():
    formulas = registered()
    assert len(formulas) >= 166
    for name, latex in formulas.items():
        for line in lines_of(latex):
            for place, piece in enumerate(pieces_of_line(line)):
                try:
                    shown = "".join(tree(piece, goes_on=place > 0).itertext())
                except PluginError as error:
                    pytest.fail(f"{name}: {error}")
                assert shown.strip() and "\\" not in shown.replace("\\setminus", ""), name


def test_scripts_stand_below_where_they_should():
    assert tags(r"\sum_{i=1}^n x_i")[1] == "munderover"
    assert tags(r"\max_k z")[1] == "munder"
    assert tags(r"\operatorname*{arg\,min}_c z")[1] == "munder"
    assert tags(r"\log_2 z")[1] == "msub"
    assert tags(r"\int_0^1 x")[1] == "msubsup"
    assert tags(r"x_i^2")[1] == "msubsup"
    base, below, above = tree(r"\sum_a^b")[0]
    assert (base.text, below.text, above.text) == ("∑", "a", "b")


def test_a_minus_is_a_sign_or_an_operation():
    def forms(latex, **options):
        return [e.get("form") for e in tree(latex, **options).iter("mo") if e.text == "−"]

    assert forms("-x - y") == ["prefix", "infix"]
    assert forms("a = -b") == ["prefix"]
    assert forms("(-a, -b)") == ["prefix", "prefix"]
    assert forms(r"\log -a") == ["prefix"]
    assert forms("x^2 - y") == ["infix"]
    assert forms("- y", goes_on=True) == ["infix"]


def test_a_function_keeps_its_distance():
    def spaced(latex):
        return [e.tag for e in tree(latex)].count("mspace")

    assert spaced(r"\log x") == 1
    assert spaced(r"\log(x)") == 0
    assert spaced(r"x \log x") == 2
    assert spaced(r"x \max(x)") == 1


def test_fractions_take_one_sign_each():
    assert [e.text for e in tree(r"\frac12")[0]] == ["1", "2"]
    assert [e.text for e in tree(r"\frac1n x")[0]] == ["1", "n"]
    assert [e.text for e in tree("12.5")] == ["12.5"]
    assert [e.text for e in tree("1, 2")] == ["1", ",", "2"]
    assert tree(r"\binom{n}{i}")[0][1].get("linethickness") == "0"
    assert tree(r"\tfrac12")[0].get("displaystyle") == "false"


def test_fences_grow_and_brackets_do_not():
    fences = tree(r"\left( \frac ab \right)").iter("mo")
    assert [(e.text, e.get("stretchy")) for e in fences] == [("(", "true"), (")", "true")]
    assert [(e.text, e.get("stretchy")) for e in tree(r"\Big[x\Big]").iter("mo")] == [("[", "true"), ("]", "true")]
    assert {e.get("stretchy") for e in tree("(x)").iter("mo")} == {"false"}
    assert tags(r"\big(x\big)^2")[1] == "msup"


def test_tables_have_rows_and_cells():
    table = tree(r"\begin{cases} 1 & x > 0 \\ 0 & \text{else it is} \end{cases}").find(".//mtable")
    assert [["".join(cell.itertext()) for cell in row] for row in table] == [["1", "x>0"], ["0", "else\xa0it\xa0is"]]
    fences = tree(r"\begin{pmatrix} a \\ b \end{pmatrix}").iter("mo")
    assert [e.text for e in fences] == ["(", ")"]


def test_letters_of_other_alphabets():
    assert text(r"\mathbb{E}\mathbb R\mathcal{L}\mathcal{N}\mathrm{data}") == "𝔼ℝℒ𝒩data"
    assert text(r"x' \hat p \| \not\subset \mathrel{+}=") == "x′p^‖⊄+="


@pytest.mark.parametrize(
    ("latex", "word"),
    [(r"\nonsense x", "nonsense"), (r"\frac{a}{b", "}"), (r"\left( x", "right"), ("a}", "}"),
     (r"\begin{array} a \end{array}", "array"), (r"\begin{cases} a", "end"), ("§", "§"), ("x_", "end"),
     (r"\big( x", "closes")],
)  # fmt: skip
def test_what_is_not_known_is_refused_in_a_line(latex, word):
    with pytest.raises(PluginError, match=re.escape(word)) as raised:
        to_mathml(latex)
    assert "\n" not in str(raised.value)


atoms = st.sampled_from(["x", "7", r"\alpha", "A", r"\ell", "+", "=", r"\cdot", r"\sim", "-", ",", r"\log", r"\max"])
formulas = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(" ".join),
        st.tuples(inner, inner).map(lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
        inner.map(lambda x: rf"\left( {x} \right)"),
        inner.map(lambda x: rf"\sqrt{{{x}}}"),
        inner.map(lambda x: f"( {x} )"),
        st.tuples(inner, inner).map(lambda p: f"{{{p[0]}}}_{{{p[1]}}}"),
        inner.map(lambda x: rf"\sum^{{{x}}} \hat{{{x}}}"),
    ),
    max_leaves=12,
)


def signs(latex):
    """What a formula shows, without what only groups."""
    named = {**LETTERS, **RELATIONS, **OPERATORS, "log": "log", "max": "max", "sum": "∑", "hat": "^"}
    tokens = [t for t in TOKEN.findall(latex) if not t.isspace() and t not in ("{", "}", "_", "^", "\\left", "\\right")]
    found = (named.get(t[1:], "") if t.startswith("\\") else "−" if t == "-" else t for t in tokens)
    return sorted("".join(found))


@given(formulas)
def test_every_sign_comes_out_once(latex):
    assert sorted(text(latex)) == signs(latex)


@given(st.lists(formulas, min_size=1, max_size=3))
def test_a_formula_in_pieces_is_the_same_formula(parts):
    latex = r" \quad ".join(parts)
    pieces = [piece for line in lines_of(latex) for piece in pieces_of_line(line)]
    assert sorted("".join("".join(tree(piece).itertext()) for piece in pieces)) == signs(latex)


def test_a_long_line_breaks_before_its_sums():
    line = r"V(D, G) = \mathbb{E}_{x \sim p}[\log D(x) + 1] + \mathbb{E}_z[\log(1 - D(G(z)))] + |a - b|"
    assert pieces_of_line(line) == [
        "V(D, G)", r"= \mathbb{E}_{x \sim p}[\log D(x) + 1]", r"+ \mathbb{E}_z[\log(1 - D(G(z)))]", "+ |a - b|"
    ]  # fmt: skip
    assert len(pieces_of_line(r"p(x | y) = a + b + c + d + e + f + g + h + i + j + k + l + m + n + o")) == 16
    assert pieces_of_line("a = b + c") == ["a = b + c"]
    assert lines_of(r"a, \quad \left( b \quad c \right), \qquad d") == ["a,", r"\left( b \quad c \right),", "d"]
