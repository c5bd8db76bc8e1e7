"""Study pages: algorithms set as a book, their prose beside their code, with what their tests and their tape tell.

What a page is made of: `prose`, docstrings as HTML; `mathml`, formulas, with their `symbols` and `breaks`; `source`, a
file in highlighted pieces; `work`, a small training step that `trace` watches; `graph`, its tape as a picture, by
`layout` and `rules`. `page` puts the page of one algorithm together, `book` all of them.
"""
