"""The pages of docs: their Python blocks run, their links lead somewhere, and the tests that they name exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.documents import ROOT, blocks, run
from tinygen import backend
from tinygen.cli import main
from tinygen.cli.frame import VERBS

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
IN_A_ROW = ["docs/reading.md", "docs/backends.md"]  # each block goes on where the one before it ended


@pytest.mark.parametrize("page", IN_A_ROW)
def test_the_python_blocks_run_one_after_the_other(page):
    before, space = backend.current().name, {}
    try:
        if page == "docs/reading.md":
            backend.use("numpy")
        for block in blocks(page, "python"):
            space = run(block, page, **{name: value for name, value in space.items() if name != "__name__"})
    finally:
        backend.use(before)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)):
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_are_named_exist(page):
    for file, test in re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", (ROOT / page).read_text(encoding="utf-8")):
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_that_are_shown_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for verb in re.findall(r"(?:^|`|/)tinygen ([a-z]+)\b", text, re.MULTILINE):
        assert verb in VERBS, f"tinygen {verb}"


def test_every_misprint_has_a_test_that_tells_it_apart():
    text = (ROOT / "docs/misprints.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) >= 8
    for section in sections:
        assert "Printed:" in section and "Right:" in section and "::test_" in section, section.splitlines()[0]


def test_the_hooks_page_shows_plugins_that_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    grain, ramps, callbacks = blocks("docs/hooks.md", "python")
    Path("grain.py").write_text(grain)
    Path("ramps.py").write_text(ramps)
    Path("best.py").write_text(callbacks)
    assert main(["sample", "grain", "-p", "grain.py", "-n", "4", "-o", "grain.png"]) == 0
    small = ["--hidden", "8", "--latent", "2", "--batch-size", "4", "--quiet"]
    plugins = ["-p", "ramps.py", "-p", "best.py"]
    assert main(["train", "gan", "--data", "ramps", *plugins, "--steps", "4", "--out", "run", *small]) == 0
    step, loss = Path("run/best.txt").read_text().split()
    assert 1 <= int(step) <= 4 and np.isfinite(float(loss))
    capsys.readouterr()


def test_the_tutorial_is_walked_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plugin, tests = blocks("docs/tutorial.md", "python")
    commands = [line.split() for block in blocks("docs/tutorial.md", "sh") for line in block.splitlines()]
    begin, train, prove, check, *_ = commands
    assert main(begin[1:]) == 0
    assert sorted(os.listdir()) == ["rbm.ledger.json", "rbm.py", "test_rbm.py"]
    Path("rbm.py").write_text(plugin)
    Path("test_rbm.py").write_text(tests)
    proved = subprocess.run([sys.executable, "-m", *prove], capture_output=True, text=True, check=True).stdout
    assert "rbm:free_energy" in proved and "4 passed" in proved
    small = ["--steps", "20", "--hidden", "16", "--batch-size", "16", "--quiet"]
    assert main([*train[1:], *small]) == 0
    assert Path("runs/rbm/samples.png").is_file()
    assert main(check[1:]) == 0
    assert "28 passed" in capsys.readouterr().out


def test_the_glossary_is_in_order_and_complete():
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) \|$", (ROOT / "docs/glossary.md").read_text("utf-8"), re.MULTILINE)[
        1:
    ]
    terms = [english.lower() for english, _, _ in rows]
    assert terms == sorted(terms, key=lambda term: re.sub("[^a-z ]", "", term.replace("é", "e"))) and len(terms) > 80
    assert all(re.search("[\u4e00-\u9fff]", chinese) for _, chinese, _ in rows)
