"""`tinygen stylize`: pictures as they come and go, the file on its way, strength and colours, what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.cli.pictures import draw, look, noise
from tests.run import command
from tinygen import plot
from tinygen.cli import stylize as verb

PLUGIN = Path(__file__).with_name("style_plugin.py")
RED = np.full((40, 33, 3), (200, 40, 20))


def tinygen(*words):
    """Run `tinygen words…` with the plugin of these tests."""
    return command.tinygen("-p", PLUGIN, *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "curves", lambda path, rows: None)
        assert tinygen("train", "learner", "--data", "dots", "--steps", 2, "--out", folder).code == 0
    return folder


@pytest.fixture(autouse=True)
def _on_each_backend_in_a_folder_of_its_own(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw("photo.png", noise(36, 48, 3))
    draw("red.png", RED)


def test_a_photograph_is_painted_and_told():
    done = tinygen("stylize", "tint", "photo.png", "--style", "red.png", "-o", "out.png", "--json")
    document = done.document
    seconds = document.pop("seconds")
    assert document == {
        "name": "tint", "image": "photo.png", "styles": ["red.png"], "out": "out.png", "width": 48, "height": 36,
        "steps": 3, "seed": 0,
    }  # fmt: skip
    assert seconds >= 0 and done.err == ""
    mode, picture = look("out.png")
    assert mode == "RGB" and picture.shape == (36, 48, 3)
    assert np.abs(picture - RED[0, 0]).max() <= 1


def test_progress_is_told_in_lines_where_nobody_watches_and_nothing_is_overwritten():
    done = tinygen("stylize", "tint", "photo.png", "--style", "red.png")
    assert done.out == "photo-tint.png\n"
    assert [line.split()[1] for line in done.err.splitlines()] == ["1/3", "2/3", "3/3"]
    quiet = tinygen("stylize", "tint", "photo.png", "--style", "red.png", "--quiet")
    assert quiet.out == "photo-tint-2.png\n" and quiet.err == ""


def test_the_file_shows_the_picture_on_its_way(monkeypatch):
    seen = []
    monkeypatch.setattr(verb, "PREVIEW", 0.0)
    write = verb.write_image
    monkeypatch.setattr(verb, "write_image", lambda path, image: (seen.append(image.copy()), write(path, image)))
    assert tinygen("stylize", "tint", "photo.png", "--style", "red.png", "-o", "out.png").code == 0
    assert len(seen) == 3 and sorted(os.listdir()) == ["out.png", "photo.png", "red.png"]  # and no half-written file
    far = [np.abs(image - RED[0, 0][:, None, None] / 255).mean() for image in seen]
    assert far[0] > far[1] > far[2]


def test_an_interruption_keeps_the_last_picture():
    words = ("--style", "red.png", "-o", "out.png", "--quiet", "--fault")
    tinygen("stylize", "tint", "photo.png", *words, "interrupt").refused(1, "stopped after step 2 of 3", "out.png")
    expected = noise(36, 48, 3) / 3 + RED[0, 0] * 2 / 3
    assert np.abs(look("out.png")[1] - expected).max() <= 1
    os.remove("out.png")
    tinygen("stylize", "tint", "photo.png", *words, "interrupt at once").refused(1, "interrupted")
    assert not os.path.exists("out.png")


def test_strength_mixes_with_the_photograph_where_the_algorithm_has_none(trained):
    photo = noise(36, 48, 3)
    for source, strength in (("tint", 0.25), (trained, 0.25), ("tint", 0), ("owntint", 0.25)):
        style = () if source == trained else ("--style", "red.png")
        full, part = ("full.png", "part.png")
        assert tinygen("stylize", source, "photo.png", *style, "-o", full).code == 0
        assert tinygen("stylize", source, "photo.png", *style, "--strength", strength, "-o", part).code == 0
        expected = photo + strength * (look(full)[1] - photo)
        assert np.abs(look(part)[1] - expected).max() <= 1.5
    assert tinygen("stylize", "owntint", "photo.png", "--style", "red.png", "--strength", 1.5).code == 0


def test_colours_are_kept_where_the_algorithm_has_no_way_of_its_own(trained):
    photo = noise(36, 48, 3) // 4 + 100
    draw("photo.png", photo)
    assert tinygen("stylize", trained, "photo.png", "--keep-colour", "-o", "out.png").code == 0
    picture = look("out.png")[1]
    luma = np.array([0.299, 0.587, 0.114])
    change = picture - photo  # one number for all three channels of a pixel, so that I and Q stay
    inside = ((picture > 0) & (picture < 255)).all(-1)
    assert inside.mean() > 0.5 and np.ptp(change[inside], axis=-1).max() <= 1
    assert np.ptp((picture @ luma)[inside]) < 2  # the learner's picture is of one shade
    words = ("photo.png", "--style", "red.png", "-o", "swapped.png", "--keep-colour", "swap")
    assert tinygen("stylize", "owntint", *words).code == 0
    assert np.abs(look("swapped.png")[1] - RED[0, 0][::-1]).max() <= 1
    tinygen("stylize", trained, "photo.png", "--keep-colour", "swap").refused(
        2, "--keep-colour swap", "luminance alone"
    )


def test_the_size_is_that_of_the_longer_side(trained):
    assert tinygen("stylize", trained, "photo.png", "--size", 96, "-o", "large.png").code == 0
    assert look("large.png")[1].shape == (72, 96, 3)
    draw("tall.png", noise(1024, 600, 3))
    done = tinygen("stylize", trained, "tall.png", "-o", "out.png", "--quiet")
    assert done.err == "tinygen: tall.png: 600 × 1024 pixels become 300 × 512; --size says otherwise\n"
    assert look("out.png")[1].shape == (512, 300, 3)


def test_grey_and_transparent_pictures_are_painted_too():
    clear = np.concatenate([noise(36, 48, 3), np.zeros((36, 48, 1), np.uint8)], axis=-1)
    draw("clear.png", clear)
    done = tinygen("stylize", "tint", "clear.png", "--style", "red.png", "--strength", 0, "-o", "out.png", "--quiet")
    assert done.err == "tinygen: clear.png: what is transparent is laid on white\n"
    assert (look("out.png")[1] == 255).all()
    draw("grey.png", noise(36, 48))
    assert tinygen("stylize", "tint", "grey.png", "--style", "grey.png", "-o", "out.png").code == 0
    assert look("out.png")[0] == "RGB"


def test_help_has_an_example_and_the_options_of_the_algorithm():
    assert "example: tinygen stylize gatys photo.png --style painting.jpg" in tinygen("stylize", "--help").out
    assert "--rounds int" in tinygen("stylize", "tint", "photo.png", "--help").out


@pytest.fixture
def _pictures():
    draw("tiny.png", noise(31, 48, 3))
    draw("narrow.png", noise(40, 1200, 3))
    Path("text.png").write_text("no picture")
    os.mkdir("folder.png")


@pytest.mark.usefixtures("_pictures")
@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, (), ["required: NAME_OR_RUN, IMAGE"]),
        (2, ("tints", "photo.png"), ['there is no algorithm "tints"', '"tint"']),
        (2, ("learner", "photo.png"), ["learner has to be trained first"]),
        (2, ("tint", "photo.png", "--shad", "3"), ["unknown option --shad", '"--shade"']),
        (2, ("tint", "--shade", "0.3", "photo.png"), ["0.3: there is no such file", "stand before the options"]),
        (2, ("tint", "photo.png", "--seed", "-1"), ["--seed must be at least 0"]),
        (2, ("tint", "photo.png", "--size", "31"), ["--size must be from 32 to 4096, got 31"]),
        (2, ("tint", "photo.png", "--size", "5000"), ["--size must be from 32 to 4096, got 5000"]),
        (2, ("tint", "photo.png", "--strength", "1.5"), ["--strength must be from 0 to 1 for tint, got 1.5"]),
        (2, ("tint", "photo.png", "--strength", "nan"), ["--strength must be from 0 to 1 for tint"]),
        (2, ("tint", "photo.png", "--keep-colour", "histogram"), ["--keep-colour histogram: tint has luminance alone"]),
        (2, ("owntint", "photo.png", "--keep-colour", "none"), ["keep-colour"]),
        (2, ("tint", "photo.png", "--fault", "no style"), ["a painting is needed", "--style FILE"]),
        (1, ("tint", "no.png"), ["no.png: there is no such file"]),
        (1, ("tint", "tiny.png"), ["tiny.png: too small, 48 × 31 pixels"]),
        (1, ("tint", "photo.png", "--style", "tiny.png"), ["tiny.png: too small"]),
        (1, ("tint", "narrow.png"), ["narrow.png: 1200 × 40 pixels become 512 × 17, too narrow"]),
        (1, ("tint", "text.png"), ["text.png: not an image"]),
        (1, ("tint", "photo.png", "--style", "no.png"), ["no.png: there is no such file"]),
        (1, ("nowhere/run", "photo.png"), ["nowhere/run: there is no run"]),
        (1, ("tint", "photo.png", "-o", "x.txt"), ["x.txt", "no image format"]),
        (1, ("tint", "photo.png", "-o", "folder.png"), ["folder.png: is a folder"]),
        (3, ("tint", "photo.png", "--fault", "nothing"), ["tint: stylize yielded nothing"]),
        (
            3,
            ("tint", "photo.png", "--fault", "small", "--quiet"),
            ["tint: stylize must give a Tensor (1 or 3, 36, 48)"],
        ),
        (1, ("tint", "photo.png", "--fault", "not finite", "--quiet"), ["numbers that are not finite"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    before = sorted(os.listdir())
    tinygen("stylize", *words).refused(code, *said)
    assert sorted(os.listdir()) == before
