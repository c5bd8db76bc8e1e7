"""`tinygen list` and `tinygen show`: the shapes of their documents, and what a person reads."""

import dataclasses
import json
from typing import Literal

import pytest

from tests.host.plugin_files import TOY, algorithm, plugin, write
from tinygen.cli import main
from tinygen.host.describe import describe_config

PLUGIN = (
    plugin(algorithm("toy", "toys", ', papers=("Nobody, A toy, 1900",)'))
    + TOY
    + """
from tinygen.host import equation

@equation(r"y = x^2", source="Nobody 1900, eq. 1")
def square(x):
    return x * x
"""
)
BROKEN = "def broken(:\n"
KEYS = ["name", "family", "summary", "status", "verbs", "provider"]


@pytest.fixture
def toys(tmp_path):
    return write(tmp_path / "toys.py", PLUGIN)


@pytest.fixture
def ask(capsys, monkeypatch):
    """Run a command; gives its exit code and what it says: the document with --json, else the text."""
    monkeypatch.delenv("TINYGEN_PLUGINS_DIR", raising=False)
    monkeypatch.delenv("TINYGEN_DISABLE", raising=False)

    def call(*argv):
        code = main(argv)
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in argv else out + err

    return call


# ---------------------------------------------------------------- list


def test_list_is_an_array_of_rows(ask, toys):
    code, rows = ask("list", "--json", "-p", toys)
    assert code == 0
    assert [list(row) for row in rows if row["status"] == "ok"] == [KEYS] * len(rows)
    assert rows[-1] == dict(zip(KEYS, ["toy", "toys", "A toy.", "ok", ["sample"], "toys"]))


def test_list_explains_what_is_not_ok_and_goes_on(ask, toys, tmp_path):
    broken = write(tmp_path / "broken.py", BROKEN)
    twin = write(tmp_path / "twin.py", PLUGIN)
    files = ["-p", toys, "-p", broken, "-p", twin]
    code, rows = ask("list", "--json", *files)
    assert code == 0
    bad = [row for row in rows if row["status"] != "ok"]
    assert [(row["name"], row["status"], row["provider"]) for row in bad] == [
        ("broken", "broken", "broken"),
        ("toy", "conflict", "twin"),
    ]
    assert [list(row) for row in bad] == [[*KEYS, "reason", "hint"]] * 2
    assert bad[0]["reason"] == f"SyntaxError: invalid syntax ({broken}:1)"
    code, text = ask("list", *files)
    assert code == 0
    assert f"broken\t\tbroken\t\tbroken\tSyntaxError: invalid syntax ({broken}:1)\n" in text
    code, text = ask("list", "--strict", *files)
    assert code == 3
    assert text.startswith("tinygen: error: plugin broken: SyntaxError")


def test_list_on_a_terminal_is_grouped_and_aligned(ask, tmp_path, monkeypatch):
    first = write(tmp_path / "b.py", plugin(algorithm("zebra"), algorithm("ox")).replace("toys", "later"))
    second = write(tmp_path / "a.py", plugin(algorithm("toad")).replace("toys", "early"))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("tinygen.host.providers.FIRST_PARTY", "tinygen_has_no_plugins")
    monkeypatch.setenv("NO_COLOR", "1")
    torn = write(tmp_path / "broken.py", BROKEN)
    _, text = ask("list", "-p", first, "-p", second, "-p", torn)
    assert text == (
        "early\n  toad   sample  A toy.\n\nlater\n  zebra  sample  A toy.\n  ox     sample  A toy.\n\n"
        f"broken  broken  SyntaxError: invalid syntax ({torn}:1)\n"
        "  hint: mend it, or leave it out with --disable broken\n"
    )


# ---------------------------------------------------------------- show


def test_show_tells_options_and_equations(ask, toys):
    code, document = ask("show", "toy", "--json", "-p", toys)
    assert code == 0
    line = PLUGIN[: PLUGIN.index("def square")].count("\n") + 1
    assert document == {
        "name": "toy",
        "family": "toys",
        "summary": "A toy.",
        "papers": ["Nobody, A toy, 1900"],
        "verbs": ["sample"],
        "config": [
            {"name": "size", "type": "int", "default": 8, "help": "Pixels a side."},
            {"name": "rate", "type": "float", "default": 1e-3, "help": ""},
        ],
        "equations": [
            {
                "name": "square", "latex": "y = x^2", "source": "Nobody 1900, eq. 1", "file": toys, "line": line,
                "verified_by": [],
            }
        ],
    }  # fmt: skip


def test_show_as_text(ask, toys):
    code, text = ask("show", "toy", "-p", toys)
    assert code == 0
    for part in (
        "toy  A toy.",
        "paper   Nobody",
        "--size  8      Pixels a side.  int",
        "y = x^2",
        "verified by no test",
    ):
        assert part in text


def test_show_reads_which_tests_verify_from_the_ledger(ask, toys, tmp_path):
    entry = {"name": "square", "latex": "", "source": "", "tests": {"tests/b.py::test_b": {}, "tests/a.py::test_a": {}}}
    ledger = tmp_path / "toys.ledger.json"
    ledger.write_text(json.dumps({"equations": {"toys:square": entry, "toys:other": entry}}))
    _, document = ask("show", "toy", "--json", "-p", toys)
    assert document["equations"][0]["verified_by"] == ["tests/a.py::test_a", "tests/b.py::test_b"]
    _, text = ask("show", "toy", "-p", toys)
    assert "verified by tests/a.py::test_a" in text


@pytest.mark.parametrize("text", ["{", "[]", '{"equations": []}', "\x00", '{"equations": {"toys:square": 3}}'])
def test_a_damaged_ledger_is_named(ask, toys, tmp_path, text):
    (tmp_path / "toys.ledger.json").write_text(text)
    code, document = ask("show", "toy", "--json", "-p", toys)
    assert code == 3
    assert document["error"]["message"] == f"{tmp_path / 'toys.ledger.json'} is not a ledger of equations"


def test_equations_of_a_package_that_re_exports_its_class(ask, tmp_path):
    """Those beside the class and those beside the name that the spec refers to, each once."""
    equation = PLUGIN.partition("from tinygen.host import equation")[2]
    module = "from tinygen.host import equation" + equation
    exporting = plugin(algorithm("toy", "pack")) + "from .model import Config, Toy\n"
    write(tmp_path / "pack" / "__init__.py", exporting + module.replace("def square", "def cube"))
    write(tmp_path / "pack" / "model.py", TOY + module)
    _, document = ask("show", "toy", "--json", "-p", str(tmp_path / "pack"))
    assert [equation["name"] for equation in document["equations"]] == ["cube", "square"]


def test_show_explains_what_it_cannot_show(ask, toys, tmp_path):
    code, text = ask("show", "tooy", "-p", toys)
    assert code == 2
    assert 'did you mean "toy"?' in text
    broken = write(tmp_path / "broken.py", BROKEN)
    code, document = ask("show", "broken", "--json", "-p", broken)
    assert code == 3
    assert document["error"]["message"] == f"plugin broken is broken: SyntaxError: invalid syntax ({broken}:1)"
    no_class = write(tmp_path / "no_class.py", plugin(algorithm("lost", "no_class")))
    code, document = ask("show", "lost", "--json", "-p", no_class)
    assert code == 3
    assert "has no Toy" in document["error"]["message"]
    plain = write(
        tmp_path / "plain.py", plugin(algorithm("plain", "plain")) + TOY.replace("@dataclass(frozen=True)", "")
    )
    code, document = ask("show", "plain", "--json", "-p", plain)
    assert code == 3
    assert "must be a dataclass" in document["error"]["message"]


@dataclasses.dataclass(frozen=True)
class Base:
    """Not the help of any field."""

    width: int = 1
    """Of the base."""
    depth: "int | None" = None
    """First line,
    and the second."""


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    width: float = 2.0
    """Told anew."""
    names: tuple[str, ...] = ("a", "b")
    "not" "e"  # fmt: skip
    limit: float = float("inf")
    table: dict[str, int] = dataclasses.field(default_factory=lambda: {"x": 1})
    kind: type = int

    def method(self):
        """Not the help of a field."""


def test_options_are_described_by_their_fields():
    described = {field["name"]: (field["type"], field["default"], field["help"]) for field in describe_config(Derived)}
    assert described == {
        "width": ("float", 2.0, "Told anew."),
        "depth": ("int | None", None, "First line,\nand the second."),
        "names": ("tuple[str, ...]", ["a", "b"], "note"),
        "limit": ("float", "inf", ""),
        "table": ("dict[str, int]", {"x": 1}, ""),
        "kind": ("type", "<class 'int'>", ""),
    }


Direction = Literal["up", "down"]


@dataclasses.dataclass(frozen=True)
class WithAlias:
    way: "Direction" = "up"
    back: "Direction | None" = None


def test_the_name_of_choices_is_told_as_the_choices():
    choices = 'Literal["up", "down"]'
    assert [field["type"] for field in describe_config(WithAlias)] == [choices, f"{choices} | None"]


def test_a_config_without_source_has_no_help():
    made = dataclasses.make_dataclass("Made", [("size", int, 3)])
    assert describe_config(made) == [{"name": "size", "type": "int", "default": 3, "help": ""}]
