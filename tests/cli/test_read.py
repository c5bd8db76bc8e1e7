"""`tinygen read` and `tinygen graph`: what they write, what they say, what they refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinygen.cli import main

TOY = str(Path(__file__).parents[1] / "study" / "toy.py")


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder; gives its exit code, its stdout and its stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYGEN_PLUGINS_DIR", raising=False)
    monkeypatch.setattr("tinygen.host.providers.FIRST_PARTY", "tinygen_has_no_plugins")

    def run(*words):
        code = main([*words, "-p", TOY])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_read_writes_a_page(call):
    code, out, err = call("read", "toy")
    assert (code, out, err) == (0, "toy.html\n", "")
    assert Path("toy.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, _ = call("read", "toy", "-o", "deep/er/page.html", "--json")
    document = json.loads(out)
    assert code == 0 and document.pop("seconds") > 0
    assert document == {"name": "toy", "out": "deep/er/page.html", "equations": 1, "tests": 0, "graphs": 2}
    assert Path("deep/er/page.html").is_file()
    assert sorted(path.name for path in Path("deep/er").iterdir()) == ["page.html"]


def test_read_all_writes_the_book(call, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def broken(:\n")
    code, out, err = call("read", "--all", "-p", str(broken), "--json")
    document = json.loads(out)
    assert code == 0
    assert document["out"] == "site/index.html"
    algorithms = [name for name in document["pages"] if not name.startswith("guide-")]
    assert algorithms == ["formulas.html", "index.html", "toy.html"] and "guide-tutorial.html" in document["pages"]
    assert document["left_out"] == ["broken"]
    assert err.startswith("tinygen: broken is left out: SyntaxError")
    assert sorted(path.name for path in Path("site").iterdir()) == document["pages"]


SPOILT = f"""
import runpy
toys = runpy.run_path({TOY!r})
from tinygen.host import AlgorithmSpec, hookimpl
from dataclasses import dataclass

class Unbuilt(toys["Toy"]):
    def __init__(self, config, data, random):
        raise ValueError("no such thing")

class Short(toys["Toy"]):
    def fit(self, batches):
        yield from ()

Config = toys["Config"]

class Odd:
    pass

@hookimpl
def tinygen_algorithms():
    return [
        AlgorithmSpec(name=name.lower(), family="toys", summary="spoilt", factory=f"spoilt:{{name}}",
                      config=f"spoilt:{{config}}", verbs=("train", "sample"))
        for name, config in (("Unbuilt", "Config"), ("Short", "Config"), ("Oddly", "Odd"))
    ]

class Oddly(toys["Toy"]):
    pass
"""


def test_a_plugin_that_raises_does_not_spoil_the_book(call, tmp_path):
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(SPOILT)
    code, out, err = call("read", "--all", "-p", str(spoilt), "--json")
    assert code == 0
    assert {"short.html", "toy.html", "unbuilt.html"} <= {*json.loads(out)["pages"]}
    assert json.loads(out)["left_out"] == ["oddly"] and "oddly is left out: TypeError" in err
    said = {name: Path(f"site/{name}.html").read_text(encoding="utf-8") for name in ("unbuilt", "short")}
    assert "unbuilt could not be built: no such thing" in said["unbuilt"]
    assert "train: fit ended before its first step" in said["short"]


def test_a_step_that_never_comes_is_told_of(call, tmp_path):
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(SPOILT)
    for words in (["step", "short"], ["train", "short", "--explain"], ["graph", "short"]):
        code, _, err = call(*words, "-p", str(spoilt))
        assert code in (1, 3) and "fit ended before its first step" in err, err


def test_read_takes_a_run_s_pictures(call):
    from PIL import Image

    Path("trained/toy").mkdir(parents=True)
    Image.new("L", (3, 3)).save("trained/toy/samples.png")
    assert call("read", "toy", "--runs", "trained")[0] == 0
    assert "data:image/png;base64," in Path("toy.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("read",), 2, "takes the NAME of an algorithm, or --all"),
        (("read", "toy", "--all"), 2, "takes the NAME of an algorithm, or --all"),
        (("read", "tooy"), 2, 'did you mean "toy"?'),
        (("read", "toy", "-o", "/dev/null/x.html"), 1, "cannot be written"),
        (("graph", "toy", "-o", "graph.png"), 2, "for instance -o graph.svg"),
        (("graph", "toy", "--width", "many"), 2, "width"),
        (("graph", "toy", "--widht", "3"), 2, 'did you mean "--width"?'),
    ],
)
def test_refusals_are_a_line_and_a_hint(call, words, code, said):
    got, out, err = call(*words)
    assert (got, out) == (code, "")
    assert said in err and len(err.splitlines()) <= 2
    assert not list(Path().iterdir())


def test_only_plain_files_are_replaced(call, tmp_path):
    """A pipe, as a device, must not become a file; a link stays one."""
    os.mkfifo("pipe")
    code, _, err = call("read", "toy", "-o", "pipe")
    assert code == 1 and "pipe: is not a plain file" in err and not Path("pipe").is_file()
    Path("page.html").touch()
    Path("link.html").symlink_to("page.html")
    assert call("read", "toy", "-o", "link.html")[0] == 0
    assert Path("link.html").is_symlink() and Path("page.html").stat().st_size > 0


def test_graph_writes_a_picture_for_each_backward_pass(call):
    code, out, err = call("graph", "toy", "--width", "7")
    assert (code, out, err) == (0, "toy-graph.svg\ntoy-graph-2.svg\n", "")
    for name in out.split():
        picture = ElementTree.parse(name).getroot()
        assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert "(2, 7)" in Path("toy-graph.svg").read_text(encoding="utf-8")
    code, out, _ = call("graph", "toy", "--json")
    assert [entry["backward"].partition(",")[0] for entry in json.loads(out)["graphs"]] == ["Toy.fit", "Toy.fit"]
    code, out, _ = call("graph", "toy", "--help")
    assert code == 0 and "--width int" in out


def test_graph_of_what_has_none_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["graph", "pixels"]) == 1
    said = capsys.readouterr().err
    assert "there is no graph to draw: pixels takes no gradient by the tape" in said


def test_listing_does_not_import_the_study():
    script = (
        "import sys; from tinygen.cli import main; code = main(['list', '--json']); "
        "assert not [n for n in sys.modules if n.startswith(('tinygen.study', 'numpy', 'matplotlib'))]; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
