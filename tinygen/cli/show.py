"""`tinygen show NAME`: an algorithm's options, its equations, and the tests that verify each of them."""

from __future__ import annotations

import argparse
from typing import Any

from tinygen.cli import frame
from tinygen.host.describe import describe_algorithm

HELP = "Show one algorithm: its options, its equations and the tests that verify them."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="an algorithm, as `tinygen list` names it")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    registry = frame.registry(args)
    spec = registry.algorithm(args.name)
    document = describe_algorithm(spec, registry)
    out.result(document, _text(document, out))


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
