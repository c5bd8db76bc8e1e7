"""Documents: what a reader of the plugin finds explained."""

from __future__ import annotations

import dataclasses
import inspect

from tinygen.host.describe import equations_of, field_helps
from tinygen.testing.conformance.kit import check
from tinygen.testing.conformance.subject import Finding, Subject


@check(
    "documents.papers",
    "the spec names where the algorithm comes from",
    mend='write papers=("Authors, Title, year, arXiv:…",) in the spec',
)
def papers(subject: Subject) -> None:
    if not subject.spec.papers:
        raise Finding("the spec names no paper")


@check(
    "documents.options",
    "every option of the Config has a line of help",
    mend="write a string literal on the line after the field: `tinygen train NAME --help` prints it",
    needs=("contract.config",),
)
def options(subject: Subject) -> None:
    helps = field_helps(subject.config_kind)
    silent = [field.name for field in dataclasses.fields(subject.config_kind) if not helps.get(field.name)]
    if silent:
        raise Finding(f"{subject.spec.config}: no help for {', '.join(silent)}")


@check(
    "documents.docstrings",
    "the module, the class and every equation have a docstring",
    mend="say in one line what it computes, with the shapes of what goes in and comes out",
    needs=("contract.loads",),
)
def docstrings(subject: Subject) -> None:
    parts = [subject.module, subject.factory, *(each.function for each in equations_of(subject.spec, subject.factory))]
    silent = [part.__name__ for part in parts if not (inspect.getdoc(part) or "").strip() or not part.__doc__]
    if silent:
        raise Finding(f"no docstring: {', '.join(silent)}")
