"""What the README shows works: its Python blocks run, and its plugin draws."""

from pathlib import Path

from tests.documents import blocks, run
from tinygen.cli import main

README = "README.md"


def test_the_python_blocks_run():
    for block in blocks(README, "python"):
        run(block, README)


def test_the_plugin_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (plugin,) = (block for block in blocks(README, "python") if "hookimpl" in block)
    Path("flat.py").write_text(plugin)
    assert main(["sample", "flat", "-p", "flat.py", "-o", "flat.png", "-n", "4"]) == 0
    assert capsys.readouterr().out == "flat.png\n"
    assert Path("flat.png").stat().st_size > 100
    assert main(["show", "flat", "-p", "flat.py"]) == 0
    assert "x_{ij} = u" in capsys.readouterr().out


def test_the_two_commands_name_what_there_is():
    first, second, *_ = blocks(README, "sh")
    assert ".venv/bin/tinygen train gan" in first
    assert ".venv/bin/pytest" in second
