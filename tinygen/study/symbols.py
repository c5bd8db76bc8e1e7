"""The signs that formulas may use, by their names in LaTeX and by the class that decides the space around them."""

from __future__ import annotations

from html import escape


def _pairs(text: str) -> dict[str, str]:
    """A table written as name sign name sign …"""
    words = text.split()
    return dict(zip(words[::2], words[1::2]))


LETTERS = _pairs("""
    alpha α  beta β  gamma γ  delta δ  epsilon ϵ  varepsilon ε  zeta ζ  eta η  theta θ  iota ι  kappa κ
    lambda λ  mu μ  nu ν  xi ξ  pi π  rho ρ  sigma σ  tau τ  phi ϕ  varphi φ  chi χ  psi ψ  omega ω  Gamma Γ
    Delta Δ  Theta Θ  Lambda Λ  Xi Ξ  Pi Π  Sigma Σ  Phi Φ  Psi Ψ  Omega Ω  ell ℓ  partial ∂  nabla ∇  infty ∞
    hbar ℏ  Re ℜ  Im ℑ  vartheta ϑ  upsilon υ  varnothing ∅  emptyset ∅  top ⊤  bot ⊥  dots …  ldots …
    cdots ⋯  vdots ⋮  ddots ⋱  forall ∀  exists ∃  bigcirc ○  prime ′  lnot ¬  neg ¬  star ⋆  aleph ℵ
""")
RELATIONS = _pairs("""
    le ≤  leq ≤  ge ≥  geq ≥  ne ≠  neq ≠  approx ≈  equiv ≡  sim ∼  simeq ≃  propto ∝  in ∈  notin ∉
    subset ⊂  subseteq ⊆  supset ⊃  mid ∣  to →  rightarrow →  leftarrow ←  gets ←  mapsto ↦  Rightarrow ⇒
    implies ⟹  iff ⟺  ll ≪  gg ≫  parallel ∥  perp ⟂  prec ≺  succ ≻  leftrightarrow ↔  coloneqq ≔  vdash ⊢
""")
OPERATORS = _pairs("""
    cdot ·  times ×  odot ⊙  oplus ⊕  otimes ⊗  circ ∘  pm ±  mp ∓  setminus ∖  cup ∪  cap ∩  land ∧  wedge ∧
    lor ∨  vee ∨  ast ∗  bullet ∙  div ÷  bmod mod
""")
LARGE = _pairs("""
    sum ∑  prod ∏  int ∫  bigcup ⋃  bigcap ⋂  bigoplus ⨁  oint ∮  iint ∬
""")
OPEN = _pairs("""
    lfloor ⌊  lceil ⌈  langle ⟨  lVert ‖  lvert |  lbrace {  lbrack [
""")
CLOSE = _pairs("""
    rfloor ⌋  rceil ⌉  rangle ⟩  rVert ‖  rvert |  rbrace }  rbrack ]
""")
FENCES = _pairs("""
    Vert ‖  vert |
""")
ACCENTS = _pairs("""
    hat ^  bar ¯  tilde ~  dot ˙  ddot ¨  vec →  widehat ^  widetilde ~  overline ‾  check ˇ  breve ˘
""")
WIDE = ("widehat", "widetilde", "overline", "vec")  # accents that grow with what is below them
FUNCTIONS = ("log", "ln", "lg", "exp", "sin", "cos", "tan", "cot", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan",
             "arg", "det", "dim", "ker", "deg", "Pr")  # fmt: skip
LIMITS = ("max", "min", "sup", "inf", "lim", "limsup", "liminf", "argmax", "argmin")  # scripts stand below them
SPACES = {"\\,": 0.1667, "\\:": 0.2222, "\\;": 0.2778, "\\ ": 0.25, "\\!": -0.1667, "~": 0.25}  # in em
SPACES |= {"\\quad": 1.0, "\\qquad": 2.0}
ALPHABETS = {  # the first of the capitals, of the small letters, and those that Unicode has elsewhere
    "mathbb": (0x1D538, 0x1D552, _pairs("C ℂ  H ℍ  N ℕ  P ℙ  Q ℚ  R ℝ  Z ℤ")),
    "mathcal": (0x1D49C, 0x1D4B6, _pairs("B ℬ  E ℰ  F ℱ  H ℋ  I ℐ  L ℒ  M ℳ  R ℛ  e ℯ  g ℊ  o ℴ")),
    "mathbf": (0x1D400, 0x1D41A, {}),
    "boldsymbol": (0x1D468, 0x1D482, {}),
}


def in_alphabet(text: str, alphabet: str) -> str:
    """Letters as Unicode's mathematical ones; others as they are."""
    capital, small, elsewhere = ALPHABETS[alphabet]

    def letter(c: str) -> str:
        if c in elsewhere:
            return elsewhere[c]
        if "A" <= c <= "Z":
            return chr(capital + ord(c) - ord("A"))
        return chr(small + ord(c) - ord("a")) if "a" <= c <= "z" else escape(c)

    return "".join(map(letter, text))
