"""`tinygen check PATH_OR_NAME`: whether a plugin keeps what the host promises of it, check by check.

The checks are those of tinygen.testing.conformance; docs/checks.md tells each of them and how to mend what it finds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from typing import Any

from tinygen.cli import frame, options
from tinygen.errors import UsageError

HELP = "Check a plugin: its contract, mathematics, training, determinism, backends and documents."
TAKES_REST = True
FINDINGS = 4  # the exit code
COLOURS = {"passed": "green", "failed": "red", "expected": "yellow", "skipped": "yellow", "absent": "dim"}
WORDS = {"passed": "ok", "failed": "FAILED", "expected": "expected", "skipped": "skipped", "absent": "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="PATH_OR_NAME",
        help="a plugin's file, package folder or project; or the name of an algorithm or of a plugin",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID_OR_GROUP",
        help="one check or group, with what it needs; may be repeated",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the checks that there are, and do nothing")


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> int:
    from tinygen.testing.conformance import Result, Subject, as_document, chosen, find_subjects, run_checks

    checks = chosen(args.only)
    if args.list:
        out.result(
            [{"id": each.id, "group": each.group, "title": each.title, "mend": each.mend} for each in checks],
            "\n".join(f"{each.id:<28}{each.title}" for each in checks),
        )
        return 0
    if args.source is None:
        raise UsageError("check needs the path or the name of a plugin", "for instance tinygen check my_plugin.py")
    subjects = find_subjects(args.source, frame.registry(args))
    if rest:
        subjects = [Subject(each.registry, each.name, _options(each, rest)) for each in subjects]
    results: list[Result] = []
    began = time.perf_counter()
    for subject in subjects:
        if not out.json:
            out.note(f"{subject.spec.name}: asking {sum(each.concerns(subject.spec) for each in checks)} checks")
        results += run_checks(subject, checks)
    counts = Counter[str](result.status for result in results)
    document = {
        "source": args.source,
        "algorithms": [subject.spec.name for subject in subjects],
        "checks": [as_document(result) for result in results],
        "counts": {status: counts[status] for status in WORDS},
        "seconds": round(time.perf_counter() - began, 3),
    }
    out.result(document, _text(document, out))
    return FINDINGS if counts["failed"] else 0


def _options(subject: Any, rest: list[str]) -> dict[str, Any]:
    """What the command line says of the algorithm's own options, over those in Checks.small."""
    import dataclasses

    parser = frame.Parser(prog="tinygen check")
    add_arguments(parser)
    config = options.parse_config(subject.config_kind, rest, parser, subject.config)
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


# ---------------------------------------------------------------- text


def _text(document: dict[str, Any], out: frame.Output) -> str:
    lines: list[str] = []
    for name in document["algorithms"]:
        lines += [out.style(name, "bold")]
        for each in document["checks"]:
            if each["algorithm"] == name:
                lines += _result_lines(each, out)
        lines.append("")
    counts = document["counts"]
    said = ", ".join(f"{counts[status]} {status}" for status in WORDS if counts[status])
    lines.append(out.style(f"{said} in {document['seconds']:.1f} s", "red" if counts["failed"] else "green"))
    return "\n".join(lines)


def _result_lines(result: dict[str, Any], out: frame.Output) -> list[str]:
    """A line a check, and what was found below it."""
    status = result["status"]
    line = f"  {out.style(WORDS[status].ljust(9), COLOURS[status])} {result['id']:<28}"
    if status == "passed":
        return [f"{line} {result['title']}"]
    message = result["message"].replace(f"{os.getcwd()}{os.sep}", "")
    if status != "failed":
        return [f"{line} {message}"]
    return [f"{line} {message}", f"{' ' * 12}to mend it: {result['mend']}"]
