"""docs/operations.md, made from the docstrings of `tinygen.functional` and the rows that test them:
`python -m tests.operations` writes it, and a test holds it to what it would be."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

from tinygen import functional as F

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "operations.md"
HEAD = """\
# Operations

<!-- written by `python -m tests.operations` from the docstrings; change those -->

Every operation of `tinygen.functional`, of which most are methods of a tensor, too: the formula, its derivative,
shapes, and the rule where it has none. `gy` is what arrives, the gradient of the result; `gx` is what x gets. Names,
arguments and defaults are PyTorch's.

{operations} operations, certified by {rows} rows of the suite's table: value, gradient and gradient of the gradient
against an independent reference and finite differences, in float64 and float32, over drawn shapes and memory layouts,
on each backend. Its rows stand after each operation.
"""


def rows() -> dict[str, list[str]]:
    """By operation, the rows that test it, as file: name."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests" / "functional").glob("test_*.py")):
        theme = importlib.import_module(f"tests.functional.{path.stem}")
        for row in getattr(theme, "ROWS", ()):
            operation = re.match(r"\w+", row.name)
            assert operation is not None, f"{path.name}: the row {row.name!r} begins with no operation's name"
            found.setdefault(operation.group(), []).append(f"{path.stem}: {row.name}")
    return found


def page() -> str:
    """The whole text."""
    by_operation, themes = rows(), {}
    for name in F.__all__:
        themes.setdefault(getattr(F, name).__module__, []).append(name)
    text = [HEAD.format(operations=len(F.__all__), rows=sum(len(names) for names in by_operation.values()))]
    for module, names in themes.items():
        theme = importlib.import_module(module)
        about = (inspect.getdoc(theme) or "").split("\n\n")[0].replace("\n", " ")
        text.append(f"## {module.rpartition('.')[2].capitalize()}\n\n{about}\n")
        text += [_entry(name, by_operation[name]) for name in names]
    return "\n".join(text)


def _entry(name: str, tested: list[str]) -> str:
    function = getattr(F, name)
    signature = re.sub(r"'", "", str(inspect.signature(function)))
    source = Path(inspect.getsourcefile(function) or "").relative_to(ROOT)
    return (
        f"### {name}\n\n```text\n{name}{signature}\n\n{inspect.getdoc(function)}\n```\n\n"
        f"[{source}](../{source}) · {'; '.join(tested)}\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
