"""`tinygen list`: the algorithms by family, and the plugins that are broken with the reason."""

from __future__ import annotations

import argparse
from itertools import groupby
from typing import Any

from tinygen.cli import frame
from tinygen.host.registry import Row

HELP = "List the algorithms that there are, and explain the plugins that are broken or in conflict."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(args: argparse.Namespace, rest: list[str], out: frame.Output) -> None:
    rows = frame.registry(args).rows
    text = _columns(rows, out) if out.terminal else "\n".join(map(_tabbed, rows))
    out.result([row_document(row) for row in rows], text)


def row_document(row: Row) -> dict[str, Any]:
    """A row as JSON. `reason` and `hint` stand only where the status is not ok."""
    names = ["name", "family", "summary", "status", "verbs", "provider"]
    if row.status != "ok":
        names += ["reason", "hint"]
    return {name: getattr(row, name) for name in names}


def _tabbed(row: Row) -> str:
    """For other programs: name, family, status, verbs, provider, summary (the reason where the status is not ok)."""
    fields = (row.name, row.family, row.status, ",".join(row.verbs), row.provider, row.reason or row.summary)
    return "\t".join(fields)


def _columns(rows: list[Row], out: frame.Output) -> str:
    """For a person: a block a family, then what is not ok, explained."""
    fine = sorted((row for row in rows if row.status == "ok"), key=lambda row: row.family)
    name_width = max((len(row.name) for row in fine), default=0)
    verbs_width = max((len(" ".join(row.verbs)) for row in fine), default=0)
    lines: list[str] = []
    for family, members in groupby(fine, key=lambda row: row.family):
        lines.append(out.style(family, "bold"))
        for row in members:
            name, verbs = row.name.ljust(name_width), " ".join(row.verbs).ljust(verbs_width)
            lines.append(f"  {out.style(name, 'cyan')}  {out.style(verbs, 'dim')}  {row.summary}")
        lines.append("")
    for row in rows:
        if row.status != "ok":
            lines += explain(row, out)
    return "\n".join(lines).rstrip()


def explain(row: Row, out: frame.Output) -> list[str]:
    """What is wrong with a row, and what to do about it."""
    return [f"{out.style(row.status, 'red')}  {row.name}  {row.reason}", f"  hint: {row.hint}"]
