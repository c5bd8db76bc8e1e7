"""`tinygen animate`: films side by side as GIF or as numbered pictures, their pace, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.pictures import look, tinygen, train_learner
from tinygen.cli import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_learner(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(autouse=True)
def _on_each_backend_in_a_folder_of_its_own(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def frames_of(path):
    """The frames of a film (t, h, w, 3) and their milliseconds."""
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        frames, pace = [], []
        for time in range(film.n_frames):
            film.seek(time)
            frames.append(np.asarray(film.convert("RGB")))
            pace.append(film.info["duration"])
    return np.stack(frames), pace


def test_a_film_without_any_option():
    done = tinygen("animate", "dawn")
    assert (done.code, done.out, done.err) == (0, "dawn.gif\n", "")
    frames, pace = frames_of("dawn.gif")
    assert len(frames) == 20 and sum(pace) == pytest.approx(20_000 / 12, abs=5)
    assert 300 < max(frames.shape[1:3]) < 700  # small films are enlarged


def test_films_stand_side_by_side_and_go_on_in_time():
    done = tinygen("animate", "dawn", "-n", 2, "--frames", 5, "--fps", 20, "-o", "film.gif", "--seed", 3, "--json")
    document = {"name": "dawn", "out": "film.gif", "n": 2, "frames": 5, "fps": 20.0, "seed": 3}
    assert done.document == document
    frames, pace = frames_of("film.gif")
    assert pace == [50] * 5
    h, w = frames.shape[1:3]
    left, right = (frames[:, h // 2, x, 0].astype(int) for x in (w // 4, 3 * w // 4))
    for film in (left, right):
        assert np.abs(np.diff(film) - 255 * 0.5 / 5).max() <= 2
    assert left[0] != right[0]  # each by its own draw


def test_a_folder_gets_a_picture_a_frame():
    assert tinygen("animate", "dawn", "-n", 1, "--frames", 3, "-o", "film/").out == "film/\n"
    assert sorted(os.listdir("film")) == ["0001.png", "0002.png", "0003.png"]
    means = [look(f"film/000{k}.png")[1].mean() for k in (1, 2, 3)]
    assert means[0] < means[1] < means[2]
    os.mkdir("there")
    assert tinygen("animate", "dawn", "--frames", 2, "-o", "there").code == 0  # an empty one needs no slash
    assert len(os.listdir("there")) == 2


def test_a_seed_decides_the_film():
    for out, seed in (("a.gif", 1), ("b.gif", 1), ("c.gif", 2)):
        tinygen("animate", "dawn", "--frames", 3, "--seed", seed, "-o", out)
    a, b, c = (Path(f"{name}.gif").read_bytes() for name in "abc")
    assert a == b != c


def test_nothing_is_overwritten_unasked_but_what_is_named():
    outs = [tinygen("animate", "dawn", "--frames", 2).out for _ in range(2)]
    assert outs == ["dawn.gif\n", "dawn-2.gif\n"]
    tinygen("animate", "dawn", "--frames", 4, "-o", "dawn.gif")
    assert len(frames_of("dawn.gif")[0]) == 4


def test_a_run_is_animated_and_so_is_what_needs_no_training(trained):
    assert tinygen("animate", trained, "--frames", 2).out == "learner.gif\n"
    assert tinygen("animate", "either", "--frames", 2, "--shade", 1).out == "either.gif\n"
    tinygen("animate", "learner").refused(2, "learner has to be trained first")
    tinygen("animate", trained, "--shade", 1).refused(2, "unknown option --shade")


def test_a_run_of_a_plugin_that_is_not_there_is_told(trained, capsys):
    assert main(["animate", str(trained)]) == 2
    assert "name the plugin that the run was made with: --plugin FILE" in capsys.readouterr().err


def test_help_has_an_example_and_the_options_of_the_algorithm():
    assert "example: tinygen animate particles -n 1" in tinygen("animate", "--help").out
    assert "--shade float" in tinygen("animate", "dawn", "--help").out


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, (), ["required: NAME_OR_RUN"]),
        (2, ("down",), ['there is no algorithm "down"', '"dawn"']),
        (2, ("fill",), ["fill has no verb animate", "it has repair"]),
        (2, ("dawn", "--shad", "3"), ["unknown option --shad", '"--shade"']),
        (2, ("dawn", "--shade", "3"), ["--shade must be from 0 to 1"]),
        (2, ("dawn", "-n", "0"), ["-n must be at least 1, got 0"]),
        (2, ("dawn", "--frames", "0"), ["--frames must be at least 1, got 0"]),
        (2, ("dawn", "--frames", "many"), ["invalid int value: 'many'"]),
        (2, ("dawn", "--fps", "0"), ["--fps must be above 0 and at most 50, got 0", "--fps 12"]),
        (2, ("dawn", "--fps", "60"), ["at most 50, got 60"]),
        (2, ("dawn", "--fps", "nan"), ["at most 50, got nan"]),
        (2, ("dawn", "--seed", "-1"), ["--seed must be at least 0"]),
        (1, ("nowhere/run",), ["nowhere/run: there is no run"]),
        (1, ("dawn", "-o", "film.mp4"), ["film.mp4: films are written as GIF", ".gif"]),
        (1, ("dawn", "-o", "film"), ["film: films are written as GIF", "or in / for a folder"]),
        (1, ("dawn", "-o", "no/film.gif"), ["there is no folder"]),
        (1, ("dawn", "-o", "no/film/"), ["no/film/: cannot be made a folder: No such"]),
        (1, ("dawn", "-o", "full/"), ["full/: the folder is not empty", "a new folder"]),
        (1, ("dawn", "-o", "full"), ["full: the folder is not empty"]),
        (1, ("dawn", "-o", "full/file/"), ["full/file/: cannot be made a folder"]),
        (3, ("dawn", "--fault", "nothing"), ["dawn: animate must give a Tensor (4, 20, 1 or 3, h, w), got NoneType"]),
        (3, ("dawn", "--fault", "a row"), ["(4, 20, 1 or 3, h, w), got (4, 20, 3, 6)"]),
        (1, ("dawn", "--fault", "not finite"), ["dawn: animate gave numbers that are not finite"]),
        (1, ("dawn", "--fault", "not finite", "-o", "new/"), ["numbers that are not finite"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    os.mkdir("full")
    Path("full/file").write_text("")
    tinygen("animate", *words).refused(code, *said)
    assert os.listdir() == ["full"] and os.listdir("full") == ["file"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc to refuse a folder")
@pytest.mark.parametrize("out", ["/proc/film/", "/proc/film.gif"])
def test_a_place_that_cannot_be_written_is_found_before_anything_is_drawn(out):
    tinygen("animate", "dawn", "-o", out, "--fault", "not finite").refused(1, out, "cannot be")
