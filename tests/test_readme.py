"""What the README shows works: its Python blocks run, and its plugin draws."""

import re
from pathlib import Path

from tinygen.cli import main

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_blocks_run():
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_the_plugin_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (plugin,) = (block for block in blocks("python") if "hookimpl" in block)
    Path("flat.py").write_text(plugin)
    assert main(["sample", "flat", "-p", "flat.py", "-o", "flat.png", "-n", "4"]) == 0
    assert capsys.readouterr().out == "flat.png\n"
    assert Path("flat.png").stat().st_size > 100
    assert main(["show", "flat", "-p", "flat.py"]) == 0
    assert "x_{ij} = u" in capsys.readouterr().out


def test_the_two_commands_name_what_there_is():
    first, second, *_ = blocks("sh")
    assert ".venv/bin/tinygen train gan" in first
    assert ".venv/bin/pytest" in second
