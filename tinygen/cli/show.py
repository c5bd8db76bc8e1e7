"""`tinygen show NAME`: an algorithm's options, its equations, and the tests that verify each of them."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import textwrap
from typing import Any

from tinygen.cli import frame
from tinygen.errors import PluginError
from tinygen.host.contract import AlgorithmSpec
from tinygen.host.equation import Equation, equations_in, ledger_path
from tinygen.host.registry import Registry

HELP = "Show one algorithm: its options, its equations and the tests that verify them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an algorithm, as `tinygen list` names it")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    document = describe_algorithm(spec, registry)
    out.result(document, _text(document, out))


def describe_algorithm(spec: AlgorithmSpec, registry: Registry) -> dict[str, Any]:
    """All that is known of an algorithm, as JSON. Imports it. Raises PluginError where that fails."""
    factory, config = registry.load(spec.factory), registry.load(spec.config)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise PluginError(f"{spec.config} must be a dataclass, got {config!r}", "write @dataclass above it")
    homes = {spec.factory.partition(":")[0], factory.__module__}  # two where a package re-exports its class
    equations = {equation.id: equation for home in sorted(homes) for equation in equations_in(sys.modules[home])}
    return {
        "name": spec.name,
        "family": spec.family,
        "summary": spec.summary,
        "papers": list(spec.papers),
        "verbs": list(spec.verbs),
        "config": describe_config(config),
        "equations": [describe_equation(equation) for equation in equations.values()],
    }


# ---------------------------------------------------------------- options


def describe_config(config: type) -> list[dict[str, Any]]:
    """Name, type, default and help of each field of a Config dataclass."""
    helps = field_helps(config)
    return [
        {
            "name": field.name,
            "type": field.type if isinstance(field.type, str) else inspect.formatannotation(field.type),
            "default": _default(field),
            "help": helps.get(field.name, ""),
        }
        for field in dataclasses.fields(config)
    ]


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
    """The ids of the tests that verify an equation, by the ledger that ships with its package; [] where none does.

    Raises PluginError for a ledger that cannot be read.
    """
    path = ledger_path(sys.modules[equation.function.__module__])
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
        entries = {_within_package(key): entry for key, entry in ledger["equations"].items()}
        return sorted(entries.get(_within_package(equation.id), {"tests": {}})["tests"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PluginError(f"{path} is not a ledger of equations", "write it anew with pytest --equations") from error


def _within_package(identity: str) -> str:
    """An equation's id without its top-level package: a plugin file has one name here and another in its tests."""
    module, _, function = identity.partition(":")
    return f"{module.partition('.')[2]}:{function}"


# ---------------------------------------------------------------- text


def _text(document: dict[str, Any], out: frame.Output) -> str:
    lines = [f"{out.style(document['name'], 'bold')}  {document['summary']}"]
    lines += ["", f"family  {document['family']}", f"verbs   {' '.join(document['verbs'])}"]
    lines += [f"paper   {paper}" for paper in document["papers"]]
    if document["config"]:
        lines += ["", out.style("options", "bold"), *_option_lines(document["config"], out)]
    if document["equations"]:
        lines += ["", out.style("equations", "bold")]
        for equation in document["equations"]:
            lines += _equation_lines(equation, out)
    return "\n".join(lines).rstrip()


def _option_lines(config: list[dict[str, Any]], out: frame.Output) -> list[str]:
    flags = ["--" + option["name"].replace("_", "-") for option in config]
    values = [str(option["default"]) for option in config]
    flag_width, value_width = max(map(len, flags)), max(map(len, values))
    return [
        f"  {out.style(flag.ljust(flag_width), 'cyan')}  {value.ljust(value_width)}  "
        f"{option['help']}  {out.style(option['type'], 'dim')}"
        for flag, value, option in zip(flags, values, config)
    ]


def _equation_lines(equation: dict[str, Any], out: frame.Output) -> list[str]:
    tests = equation["verified_by"]
    return [
        f"  {out.style(equation['name'], 'cyan')}  {equation['source']}",
        f"    {equation['latex']}",
        out.style(f"    {equation['file']}:{equation['line']}", "dim"),
        *(f"    {out.style('verified by', 'green')} {test}" for test in tests),
        *([] if tests else [f"    {out.style('verified by no test', 'yellow')}"]),
        "",
    ]
