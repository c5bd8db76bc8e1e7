"""`tinygen sample`: a grid out of a run, or out of an algorithm that needs no training."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.run.command import tinygen
from tinygen import plot
from tinygen.cli import main, sample


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "curves", lambda path, rows: None)
        assert tinygen("train", "toy", "--data", "dots", "--grey", "--steps", 3, "--out", folder).code == 0
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pixels(path):
    with Image.open(path) as image:
        return image.mode, image.size, image.tobytes()


def test_a_run_is_sampled(trained):
    done = tinygen("sample", trained, "-n", 5, "-o", "grid.png", "--json")
    assert done.document == {"name": "toy", "out": "grid.png", "n": 5, "seed": 0}
    assert pixels("grid.png")[0] == "L" and os.listdir() == ["grid.png"]


def test_a_seed_decides_the_picture(trained):
    for out, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert tinygen("sample", trained, "-n", 4, "--seed", seed, "-o", out).code == 0
    assert pixels("a.png") == pixels("b.png") != pixels("c.png")


def test_an_algorithm_that_needs_no_training_is_sampled_by_name():
    done = tinygen("sample", "stripes", "-n", 4, "--size", 16)
    assert (done.code, done.out) == (0, "stripes.png\n")
    small = tinygen("sample", "stripes", "-n", 4)
    assert small.out == "stripes-2.png\n"  # nothing is overwritten unasked
    assert pixels("stripes.png") != pixels("stripes-2.png")


def test_a_file_that_is_named_is_replaced():
    Path("old.png").write_text("old")
    assert tinygen("sample", "stripes", "-o", "old.png").code == 0
    assert pixels("old.png")[0] == "L"


def test_help_tells_the_options_of_the_algorithm(trained):
    assert "--size int              Side in pixels. (default: 8)" in tinygen("sample", "stripes", "--help").out
    assert "options of this algorithm" not in tinygen("sample", trained, "--help").out


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, ("toy",), ["toy has to be trained first", "tinygen train toy"]),
        (2, ("strips",), ['there is no algorithm "strips"', '"stripes"']),
        (2, ("stripes", "--syze", "3"), ["unknown option --syze", '"--size"']),
        (2, ("stripes", "--", "-n", "4"), ['-n stands after "--"', 'leave the "--" out']),
        (2, ("stripes", "-n", "4", "--", "--size", "4"), ['unexpected "--"', 'leave the "--" out']),
        (2, ("stripes", "-n", "0"), ["-n must be at least 1"]),
        (2, ("stripes", "--seed", "-1"), ["--seed must be at least 0"]),
        (2, (), ["required", "RUN_OR_NAME"]),
        (1, ("runs/toy",), ["runs/toy: there is no run"]),
        (1, ("stripes", "-o", "x.txt"), ["x.txt"]),
        (1, ("stripes", "-o", "no/x.png"), ["no/x.png: there is no folder"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    tinygen("sample", *words).refused(code, *said)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("x.txt", "no image format"), ("no/x.png", "there is no folder"), (".", "no image format"),
        ("folder.png", "is a folder"), ("/proc/x.png", "cannot be written"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_found_before_anything_is_drawn(out, said, monkeypatch):
    monkeypatch.setattr(sample, "draw", lambda *arguments: pytest.fail("drawn in vain"))
    os.mkdir("folder.png")
    tinygen("sample", "stripes", "-o", out).refused(1, out, said)
    assert os.listdir() == ["folder.png"]


def test_a_run_takes_no_options_of_its_plugin(trained):
    tinygen("sample", trained, "--lr", 3).refused(2, "unknown option --lr")


def test_a_run_of_a_plugin_that_is_not_there_is_told(trained, capsys):
    assert main(["sample", str(trained)]) == 2
    assert "name the plugin that the run was made with: --plugin FILE" in capsys.readouterr().err


def test_samples_of_a_wrong_shape_are_the_plugins_fault(monkeypatch):
    monkeypatch.setattr(plot, "curves", lambda path, rows: None)
    words = ("--data", "dots", "--steps", 3, "--sample-every", 0, "--fault", "wrong sample", "--quiet", "--out", "run")
    tinygen("train", "toy", *words).refused(3, "sample(64) must give")
    tinygen("sample", "run/", "-n", 2).refused(3, "sample(2) must give a Tensor (2, 1 or 3, h, w), got (2, 3)")
