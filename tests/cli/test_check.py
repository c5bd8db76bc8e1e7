"""`tinygen check`: its table, its document, its exit codes."""

import json
from pathlib import Path

import pytest

from tinygen.cli import main
from tinygen.testing.conformance import CHECKS

FAULTS = Path(__file__).parents[1] / "testing" / "faults"


@pytest.fixture
def ask(capsys):
    """Run `tinygen check words…`; gives its exit code and what it says: the document with --json, else the text."""

    def call(*words):
        code = main(["check", *map(str, words)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in words else out + err

    return call


def test_findings_leave_with_4_and_say_where_and_how_to_mend(ask):
    code, text = ask(FAULTS / "wrong_factor.py", "--only", "mathematics.derivatives", "--only", "training")
    assert code == 4
    lines = text.splitlines()
    assert lines[0] == "wrong-factor"
    (found,) = [place for place, line in enumerate(lines) if line.startswith("  FAILED")]
    assert "mathematics.derivatives" in lines[found] and "wrong_factor.py:25" in lines[found]
    assert lines[found + 1].strip().startswith("to mend it: look for a wrong rule")
    assert any(line.startswith("  ok        training.loss-falls") for line in lines)
    assert "1 failed" in text


def test_nothing_found_leaves_with_0(ask):
    code, text = ask(FAULTS / "sound.py", "--only", "training")
    assert code == 0
    assert " passed" in text and "failed" not in text


def test_the_document(ask):
    code, document = ask(FAULTS / "excused.py", "--only", "mathematics.derivatives", "--json")
    assert code == 0
    assert list(document) == ["source", "algorithms", "checks", "counts", "seconds"]
    assert document["algorithms"] == ["excused"]
    last = document["checks"][-1]
    assert list(last) == ["algorithm", "id", "group", "status", "title", "message", "mend", "seconds"]
    assert (last["id"], last["status"], last["message"]) == (
        "mathematics.derivatives", "expected", "the penalty is a figure",
    )  # fmt: skip
    assert sum(document["counts"].values()) == len(document["checks"])


def test_options_of_the_algorithm_are_taken(ask):
    assert ask("bezier", "--size", "16", "--only", "contract.sample")[0] == 0
    code, text = ask("bezier", "--sise", "16", "--only", "contract.sample")
    assert code == 2 and 'did you mean "--size"?' in text


def test_the_list_of_checks(ask):
    code, document = ask("--list", "--json")
    assert code == 0
    assert [each["id"] for each in document] == list(CHECKS)
    assert "contract.loads" in ask("--list")[1]


def test_what_cannot_be_checked_is_said_in_one_line(ask, tmp_path):
    (tmp_path / "torn.py").write_text("def torn(:\n")
    for code, words, said in (
        (2, [], "check needs the path or the name of a plugin"),
        (2, ["gam"], 'did you mean "gan"?'),
        (2, [tmp_path / "absent.py"], "no such file or folder"),
        (2, ["gan", "--only", "maths"], 'there is no check "maths"'),
        (3, [tmp_path / "torn.py"], "SyntaxError: invalid syntax"),
    ):
        got, text = ask(*words)
        assert got == code and said in text and len(text.splitlines()) <= 2, text
