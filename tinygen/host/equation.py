r"""Equations as objects: a function, its formula, its source, and the property tests that verify it.

    @equation(r"\mathcal{L}_G = -\mathbb{E}_z[\log D(G(z))]", source="Goodfellow et al. 2014, section 3")
    def generator_loss(fake_logits): ...

The decorated function is returned as it is, so that what training calls is what is shown and tested, at no cost.

    @verifies(gan.generator_loss)
    @given(...)
    def test_generator_loss_is_the_cross_entropy(...): ...

`pytest --equations` runs the tests, prints the ledger and writes it beside the plugin's package, where `tinygen show`
reads it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from tinygen.errors import PluginError

F = TypeVar("F", bound=Callable[..., Any])
ATTRIBUTE = "__tinygen_equation__"
VERIFIES = "__tinygen_verifies__"


@dataclass(frozen=True, slots=True)
class Equation:
    """A formula with its source and the function that computes it."""

    name: str  # "discriminator_loss"
    latex: str
    source: str
    function: Callable[..., Any]

    @property
    def id(self) -> str:
        """module:function, the same in every process."""
        return f"{self.function.__module__}:{self.function.__qualname__}"

    @property
    def file(self) -> str:
        return inspect.getsourcefile(self.function) or "?"

    @property
    def line(self) -> int:
        """The line of the `def` itself."""
        lines, first = inspect.getsourcelines(self.function)
        return first + next((i for i, text in enumerate(lines) if text.lstrip().startswith(("def ", "class "))), 0)


def equation(latex: str, *, source: str) -> Callable[[F], F]:
    """Tie a function to the formula (LaTeX, without dollars) that it computes and to where that is printed."""
    for name, value in (("latex", latex), ("source", source)):
        if not isinstance(value, str) or not value.strip():
            raise PluginError(f"equation: {name} must be text, got {value!r}", 'write @equation(r"…", source="…")')

    def attach(function: F) -> F:
        setattr(function, ATTRIBUTE, Equation(function.__name__, latex, source, function))
        return function

    return attach


def equation_of(function: Callable[..., Any]) -> Equation | None:
    """The equation that a function computes, if it was declared as one."""
    return getattr(function, ATTRIBUTE, None)


def equations_in(module: ModuleType) -> list[Equation]:
    """The equations that a module declares or uses by name, in the order of their appearance."""
    found = {e.id: e for value in vars(module).values() if callable(value) and (e := equation_of(value)) is not None}
    return list(found.values())


def verifies(*equations: Callable[..., Any]) -> Callable[[F], F]:
    """Mark a test as a verification of these equations. Stands above `@given`."""
    ids = []
    for function in equations:
        found = equation_of(function)
        if found is None:
            name = getattr(function, "__qualname__", repr(function))
            raise PluginError(f"verifies: {name} is not an equation", "decorate it with @equation")
        ids.append(found.id)

    def mark(test: F) -> F:
        setattr(test, VERIFIES, (*getattr(test, VERIFIES, ()), *ids))
        return test

    return mark


def ledger_path(module: ModuleType) -> Path:
    """Where the ledger of a module's equations lies: in its top-level package, or beside a single-file plugin."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    folders = getattr(top, "__path__", None)
    if folders:
        return Path(next(iter(folders))) / "ledger.json"
    return Path(top.__file__ or "").with_suffix(".ledger.json")
