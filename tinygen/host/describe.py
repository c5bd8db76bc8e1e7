"""What is known of an algorithm, as JSON: its options, its equations, and the tests that verify each of them.

`tinygen show` prints it and `tinygen read` sets it; what is told of tests stands in the ledger, see `equation`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import typing
from typing import Any

from tinygen.errors import PluginError
from tinygen.host.contract import AlgorithmSpec
from tinygen.host.equation import Equation, equations_in, ledger_path
from tinygen.host.registry import Registry


def describe_algorithm(spec: AlgorithmSpec, registry: Registry) -> dict[str, Any]:
    """All that is known of an algorithm, as JSON. Imports it. Raises PluginError where that fails."""
    factory, config = registry.load(spec.factory), registry.load(spec.config)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise PluginError(f"{spec.config} must be a dataclass, got {config!r}", "write @dataclass above it")
    return {
        "name": spec.name,
        "family": spec.family,
        "summary": spec.summary,
        "papers": list(spec.papers),
        "verbs": list(spec.verbs),
        "config": describe_config(config),
        "equations": [describe_equation(equation) for equation in equations_of(spec, factory)],
    }


def equations_of(spec: AlgorithmSpec, factory: Any) -> list[Equation]:
    """The equations that an algorithm declares or uses by name. `factory` is what its spec refers to."""
    homes = {spec.factory.partition(":")[0], factory.__module__}  # two where a package re-exports its class
    equations = {equation.id: equation for home in sorted(homes) for equation in equations_in(sys.modules[home])}
    return list(equations.values())


# ---------------------------------------------------------------- options


def describe_config(config: type) -> list[dict[str, Any]]:
    """Name, type, default and help of each field of a Config dataclass."""
    helps = field_helps(config)
    return [
        {
            "name": field.name,
            "type": _type_of(config, field),
            "default": _default(field),
            "help": helps.get(field.name, ""),
        }
        for field in dataclasses.fields(config)
    ]


def _type_of(config: type, field: dataclasses.Field[Any]) -> str:
    """A field's type as its source has it; the name of a Literal as the choices that it stands for."""
    text = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    known = vars(sys.modules[config.__module__])

    def told(part: str) -> str:
        choices = typing.get_args(known[part]) if typing.get_origin(known.get(part)) is typing.Literal else ()
        return f"Literal[{', '.join(map(json.dumps, choices))}]" if choices else part

    return " | ".join(map(told, text.split(" | ")))


def field_helps(config: type) -> dict[str, str]:
    """The help of each field: the string literal on the line after it, as documentation tools read it too."""
    helps: dict[str, str] = {}
    for owner in reversed(config.__mro__[:-1]):  # a base class first, so that a field told again is told anew
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        except (OSError, TypeError):  # a class without source: made at run time, or built in
            continue
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:]):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(help_text))):
                    helps[name] = inspect.cleandoc(help_text)
    return helps


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's default as JSON; what JSON does not have, as Python writes it."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = None if field.default is dataclasses.MISSING else field.default
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return repr(value)


# ---------------------------------------------------------------- equations


def describe_equation(equation: Equation) -> dict[str, Any]:
    """A formula, where it is printed, where it is computed, and which tests verify it."""
    return {
        "name": equation.name,
        "latex": equation.latex,
        "source": equation.source,
        "file": equation.file,
        "line": equation.line,
        "verified_by": verified_by(equation),
    }


def verified_by(equation: Equation) -> list[str]:
    """The ids of the tests that verify an equation; [] where none does. Raises as `verifications` does."""
    return sorted(verifications(equation))


def verifications(equation: Equation) -> dict[str, dict[str, Any]]:
    """By test, how many examples and what largest error the ledger tells. Raises as `ledger_entry` does."""
    return dict(ledger_entry(equation)["tests"])


def ledger_entry(equation: Equation) -> dict[str, Any]:
    """What the ledger that ships with an equation's package tells of it: its formula then, its source, its tests.

    All of them empty where it tells nothing. Raises PluginError for a ledger that cannot be read.
    """
    path = ledger_path(sys.modules[equation.function.__module__])
    nothing = {"latex": "", "source": "", "tests": {}}
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
        entries = {_within_package(key): entry for key, entry in ledger["equations"].items()}
        found = entries.get(_within_package(equation.id), nothing)
        return {**nothing, **found, "tests": dict(found["tests"])}
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PluginError(f"{path} is not a ledger of equations", "write it anew with pytest --equations") from error


def _within_package(identity: str) -> str:
    """An equation's id without its top-level package: a plugin file has one name here and another in its tests."""
    module, _, function = identity.partition(":")
    return f"{module.partition('.')[2]}:{function}"
