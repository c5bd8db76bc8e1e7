r"""LaTeX to MathML: the part of LaTeX that the formulas of equations are written in.

    to_mathml(r"\frac{1}{n} \sum_i x_i")      # <math displaystyle="true">…</math>

Browsers set MathML themselves: it is drawn in the reader's colours and size, can be selected, and is read aloud. Each
atom of a row has one of TeX's classes (The TeXbook, chapter 17), which decides the space around it: MathML's own
dictionary spaces most operators, so that only the space around names of functions, and which minus is a sign, is
decided here. What is not known is refused by name, and a page then shows the formula as it is written.
"""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple

from tinygen.errors import PluginError
from tinygen.study.symbols import (
    ACCENTS,
    ALPHABETS,
    CLOSE,
    FENCES,
    FUNCTIONS,
    LARGE,
    LETTERS,
    LIMITS,
    OPEN,
    OPERATORS,
    RELATIONS,
    SPACES,
    WIDE,
    in_alphabet,
)

TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)
SIZES = ("\\big", "\\Big", "\\bigg", "\\Bigg")
BIG_CLOSE = "a size and a closing bracket"
BRACKETS = ("(", "[", "{", "⌊", "⌈", "⟨")
FRACTIONS = ("\\frac", "\\tfrac", "\\dfrac", "\\binom")
UPRIGHT = ("mathrm", "mathit", "operatorname", "mathsf", "mathtt")
TEXTS = ("text", "mbox", "textrm", "textit", "mathop")
ROWS = {  # environments: fences, alignment of the columns
    "pmatrix": ("(", ")", "center"), "bmatrix": ("[", "]", "center"), "vmatrix": ("|", "|", "center"),
    "matrix": ("", "", "center"), "cases": ("{", "", "left"), "aligned": ("", "", "right left"),
}  # fmt: skip


class Atom(NamedTuple):
    """A piece of a row, and its class: TeX's ord, bin, rel, open, close, punct, inner; in the place of op one of op (a
    function's name), limit (one that scripts stand below) and large (a sum); sign, fence and space."""

    xml: str
    kind: str = "ord"
    limits: bool = False  # scripts stand below and above it


def to_mathml(latex: str, goes_on: bool = False) -> str:
    """A `<math>` element in display style. goes_on: it follows another, so that a minus at its beginning is no sign.

    Raises PluginError for what is not known.
    """
    parser = _Parser(latex)
    row = parser.row((), "ord" if goes_on else "open")
    parser.end()
    return f'<math displaystyle="true">{row}</math>'


class _Parser:
    """Recursive descent over the tokens: a row is atoms, an atom may have scripts, a command takes its arguments."""

    def __init__(self, latex: str) -> None:
        self.latex, self.tokens, self.place = latex, TOKEN.findall(latex), 0

    # ------------------------------------------------------------ tokens

    def peek(self) -> str:
        """The next token that is no white space; "" at the end."""
        while self.place < len(self.tokens) and self.tokens[self.place].isspace():
            self.place += 1
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def expect(self, wanted: str) -> None:
        token = self.take()
        if token != wanted:
            raise self.unknown(f"{wanted} is missing" if not token else f"{token} stands where {wanted} should")

    def end(self) -> None:
        if self.peek():
            raise self.unknown(f"{self.peek()} has no beginning")

    def unknown(self, what: str) -> PluginError:
        return PluginError(f"the formula {self.latex}: {what}", "tinygen/study/symbols.py lists what is known")

    def raw(self) -> str:
        """The text of an argument in braces, as it stands."""
        self.expect("{")
        text, depth = "", 1
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            self.place += 1
            depth += (token == "{") - (token == "}")
            if depth == 0:
                return text
            text += token
        raise self.unknown("} is missing")

    # ------------------------------------------------------------ rows

    def row(self, stops: tuple[str, ...], before: str = "open") -> str:
        """The MathML of all atoms up to a token of `stops`, which is left standing, or to the end."""
        atoms: list[Atom] = []
        while (token := self.peek()) and token not in stops and not (BIG_CLOSE in stops and self.closes_big()):
            if token in ("\\textstyle", "\\displaystyle"):
                self.take()
                style = "true" if token == "\\displaystyle" else "false"
                atoms.append(Atom(f'<mstyle displaystyle="{style}">{self.row(stops)}</mstyle>'))
                continue
            atoms.append(self.scripted(atoms[-1].kind if atoms else before))
        return _joined(atoms)

    def scripted(self, before: str) -> Atom:
        """An atom with what stands below and above it."""
        base = self.atom(before)
        below = above = primes = ""
        while (token := self.peek()) in ("_", "^", "'"):
            self.take()
            if token == "'":
                primes += "′"
            elif token == "_":
                below = self.argument()
            else:
                above = self.argument()
        if primes:  # no superscript: the sign is high and small already
            mark = f'<mo lspace="0" rspace="0">{primes}</mo>'
            base = Atom(f"<mrow>{base.xml}{mark}</mrow>", base.kind, base.limits)
        if not below and not above:
            return base
        under, over = ("munder", "mover") if base.limits else ("msub", "msup")
        if below and above:
            tag = under + over.removeprefix("m")
            return Atom(f"<{tag}>{base.xml}{below}{above}</{tag}>", base.kind)
        tag, script = (under, below) if below else (over, above)
        return Atom(f"<{tag}>{base.xml}{script}</{tag}>", base.kind)

    def argument(self) -> str:
        """What a command or a script takes: a group in braces, or one atom."""
        if self.peek() == "{":
            return self.group()
        return self.atom("open", single=True).xml

    def group(self) -> str:
        self.expect("{")
        row = self.row(("}",))
        self.expect("}")
        return f"<mrow>{row}</mrow>"

    # ------------------------------------------------------------ atoms

    def atom(self, before: str, single: bool = False) -> Atom:
        """The next atom. before: the class of the one on its left, which tells a sign from an operation.
        single: of a number, one digit."""
        token = self.take()
        if not token:
            raise self.unknown("something is missing at its end")
        if token == "{":
            self.place -= 1
            return Atom(self.group())
        if token.startswith("\\"):
            return self.command(token, before)
        if token.isdigit() and token.isascii():
            while not single and re.fullmatch(r"[0-9.]", following := self._next_raw()):
                if following == "." and not self._digit_after():
                    break
                token += self.take()
            return Atom(f"<mn>{token}</mn>")
        if token.isalpha():
            return Atom(f"<mi>{escape(token)}</mi>")
        if token in "([":
            return Atom(f'<mo stretchy="false">{token}</mo>', "open")
        if token in ")]!":
            return Atom(f'<mo stretchy="false">{token}</mo>', "close")
        if token in ",;":
            return Atom(f"<mo>{token}</mo>", "punct")
        if token in "+-*/":
            return _operator({"-": "−", "*": "∗"}.get(token, token), before)
        if token in "=<>:":
            return Atom(f"<mo>{escape(token)}</mo>", "rel")
        if token == "|":
            return _fence("|")
        if token in SPACES:
            return _space(SPACES[token])
        if token == ".":
            return Atom("<mo>.</mo>", "ord")
        raise self.unknown(f"{token} is not known here")

    def _next_raw(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def _digit_after(self) -> bool:
        return self.place + 1 < len(self.tokens) and self.tokens[self.place + 1].isdigit()

    def command(self, token: str, before: str) -> Atom:
        """A token that begins with a backslash, with its arguments."""
        name = token[1:]
        if name in LETTERS:
            upright = ' mathvariant="normal"' if not LETTERS[name].isalpha() or name[0].isupper() else ""
            return Atom(f"<mi{upright}>{LETTERS[name]}</mi>")
        if name in RELATIONS:
            return Atom(f"<mo>{RELATIONS[name]}</mo>", "rel")
        if name in OPERATORS:
            return _operator(OPERATORS[name], before)
        if name in LARGE:
            limits = "int" not in name
            return Atom(f'<mo movablelimits="{str(limits).lower()}">{LARGE[name]}</mo>', "large", limits)
        if name in FUNCTIONS:
            return Atom(f"<mi>{name}</mi>", "op")
        if name in LIMITS:
            return Atom(_limit_name(name), "limit", True)
        if name in OPEN or token == "\\{":
            return Atom(f'<mo stretchy="false">{OPEN.get(name, "{")}</mo>', "open")
        if name in CLOSE or token == "\\}":
            return Atom(f'<mo stretchy="false">{CLOSE.get(name, "}")}</mo>', "close")
        if name in FENCES or token == "\\|":
            return _fence(FENCES.get(name, "‖"))
        if token in SPACES:
            return _space(SPACES[token])
        if token in ("\\%", "\\#", "\\&", "\\_", "\\$"):
            return Atom(f"<mo>{escape(name)}</mo>")
        return self.structure(token, name)

    def structure(self, token: str, name: str) -> Atom:
        """A command that is built of rows: fractions, roots, accents, alphabets, fences, matrices."""
        if token in FRACTIONS:
            return self.fraction(token)
        if name == "sqrt":
            if self.peek() != "[":
                return Atom(f"<msqrt>{self.argument()}</msqrt>")
            self.take()
            degree = self.row(("]",))
            self.expect("]")
            return Atom(f"<mroot>{self.argument()}<mrow>{degree}</mrow></mroot>")
        if name in ACCENTS:
            stretchy = "true" if name in WIDE else "false"
            mark = f'<mo stretchy="{stretchy}">{ACCENTS[name]}</mo>'
            return Atom(f'<mover accent="true">{self.argument()}{mark}</mover>')
        if name in ALPHABETS:
            return Atom(f"<mi>{in_alphabet(self.raw() if self.peek() == '{' else self.take(), name)}</mi>")
        if name in UPRIGHT:
            return self.upright(name)
        if name == "operatorname*":
            return Atom(_limit_name(_plain(self.raw())), "limit", True)
        if name in TEXTS:
            return Atom(f"<mtext>{escape(self.raw()).replace(' ', chr(160))}</mtext>")
        if name == "not":
            return Atom(self.argument().replace("</mo>", "\u0338</mo>"), "rel")
        if name in ("mathrel", "mathbin"):
            return Atom(self.argument().replace("<mo>", '<mo lspace="0" rspace="0">'), "rel")
        if name == "left":
            return self.fenced()
        if token.rstrip("lr") in SIZES:
            return self.big()
        if name in ("underbrace", "overbrace"):
            tag, brace = ("munder", "⏟") if name == "underbrace" else ("mover", "⏞")
            return Atom(f'<{tag}>{self.argument()}<mo stretchy="true">{brace}</mo></{tag}>', "ord", True)
        if name == "begin":
            return self.environment(self.raw())
        raise self.unknown(f"{token} is not known")

    def fraction(self, token: str) -> Atom:
        above, below = self.argument(), self.argument()
        if token == "\\binom":
            pair = f'<mfrac linethickness="0">{above}{below}</mfrac>'
            return Atom(f"<mrow><mo>(</mo>{pair}<mo>)</mo></mrow>")
        xml = f"<mfrac>{above}{below}</mfrac>"
        style = {"\\tfrac": "false", "\\dfrac": "true"}.get(token)
        return Atom(f'<mstyle displaystyle="{style}">{xml}</mstyle>' if style else xml)

    def upright(self, name: str) -> Atom:
        """A word in upright letters: a name such as KL is followed by its argument as log is."""
        word = _plain(self.raw() if self.peek() == "{" else self.take())
        variant = ' mathvariant="normal"' if len(word) == 1 and name != "mathit" else ""
        return Atom(f"<mi{variant}>{escape(word)}</mi>", "op" if name == "operatorname" else "ord")

    def delimiter(self) -> str:
        """The character of a fence; "" for the dot that stands for none."""
        token = self.take()
        name = token.removeprefix("\\")
        known = {**OPEN, **CLOSE, **FENCES, "|": "‖" if token == "\\|" else "|", "{": "{", "}": "}", ".": ""}
        return escape(known.get(name, name))

    def fenced(self) -> Atom:
        r"""\left( … \right): fences as high as what stands between them."""
        left = self.delimiter()
        row = self.row(("\\right",))
        self.expect("\\right")
        right = self.delimiter()
        return Atom(_between(left, f"<mrow>{row}</mrow>", right), "inner")

    def big(self) -> Atom:
        r"""\big( … \big): as \left and \right; a line between two parts stands alone."""
        left = self.delimiter()
        if left not in BRACKETS:
            return Atom(f'<mo stretchy="true" symmetric="true" minsize="1.5em" maxsize="1.5em">{left}</mo>', "fence")
        row = self.row((BIG_CLOSE,))
        if not self.closes_big():
            raise self.unknown(f"what closes {left} is missing")
        self.take()
        return Atom(_between(left, f"<mrow>{row}</mrow>", self.delimiter()), "inner")

    def closes_big(self) -> bool:
        """True at a command such as \\big that a closing bracket follows."""
        here = self.peek()
        following = next((token for token in self.tokens[self.place + 1 :] if not token.isspace()), "")
        return here.rstrip("lr") in SIZES and (following in (")", "]", "\\}") or following[1:] in CLOSE)

    def environment(self, name: str) -> Atom:
        r"""\begin{name} … \end{name}: cells between &, rows between \\."""
        if name not in ROWS:
            raise self.unknown(f"the environment {name} is not known")
        left, right, align = ROWS[name]
        rows, cells = [], []
        while True:
            cells.append(self.row(("&", "\\\\", "\\end")))
            token = self.take()
            if token == "&":
                continue
            if any(cells):
                rows.append(cells)
            cells = []
            if token != "\\\\":
                break
        if token != "\\end" or self.raw() != name:
            raise self.unknown(f"\\end{{{name}}} is missing")
        sides = align.split()
        table = "".join(
            "<mtr>" + "".join(_cell(cell, sides[place % len(sides)]) for place, cell in enumerate(cells)) + "</mtr>"
            for cells in rows
        )
        style = ' displaystyle="true"' if name == "aligned" else ""
        return Atom(_between(left, f'<mtable{style} class="{name}">{table}</mtable>', right), "inner")


def _cell(xml: str, side: str) -> str:
    return f'<mtd style="text-align:{side}">{xml}</mtd>'


def _between(left: str, xml: str, right: str) -> str:
    """A row between fences that grow with it; an empty one is left out."""
    before = f'<mo fence="true" stretchy="true" form="prefix">{left}</mo>' if left else ""
    after = f'<mo fence="true" stretchy="true" form="postfix">{right}</mo>' if right else ""
    return f"<mrow>{before}{xml}{after}</mrow>"


def _joined(atoms: list[Atom]) -> str:
    """Atoms in a row, with TeX's thin space beside names of functions and large operators."""
    xml = ""
    for place, atom in enumerate(atoms):
        before = atoms[place - 1].kind if place else ""
        if (atom.kind in ("op", "limit") and before in ("ord", "close", "inner", "op", "limit")) or (
            before in ("op", "limit") and atom.kind in ("ord", "inner", "large")
        ):
            xml += '<mspace width="0.1667em"/>'
        xml += atom.xml
    return xml


def _operator(character: str, before: str) -> Atom:
    """A binary operation, or a sign where nothing stands before it that it could join."""
    if before in ("open", "bin", "rel", "punct", "op", "limit", "large") and character in "+−±∓":
        return Atom(f'<mo form="prefix">{character}</mo>', "sign")
    if character in "/":
        return Atom('<mo lspace="0" rspace="0">/</mo>', "bin")
    return Atom(f'<mo form="infix">{character}</mo>', "bin")


def _fence(character: str) -> Atom:
    """A line that opens or closes: nothing tells which, so that it takes no space."""
    return Atom(f'<mo stretchy="false" lspace="0" rspace="0">{character}</mo>', "fence")


def _space(width: float) -> Atom:
    return Atom(f'<mspace width="{width}em"/>', "space")


def _limit_name(name: str) -> str:
    """A name that scripts stand below, such as max."""
    return f'<mo movablelimits="true" lspace="0" rspace="0" form="prefix">{escape(name)}</mo>'


def _plain(text: str) -> str:
    r"""The letters of a word such as arg\,min."""
    return re.sub(r"\\[,;: ]|~", " ", text).strip()
