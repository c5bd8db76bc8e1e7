"""`tinygen adapt`: how examples are read, what is told of other pictures, the run that is written, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.pictures import draw, look
from tests.run import command
from tinygen import plot

PLUGIN = Path(__file__).with_name("adapt_plugin.py")


def tinygen(*words):
    """Run `tinygen words…` with the plugins of these tests."""
    return command.tinygen("-p", PLUGIN, *words)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Train an algorithm on dots, 6 × 6 and grey unless told otherwise. Returns the folder of its run."""

    def call(name, *words):
        folder = tmp_path_factory.mktemp("trained") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plot, "curves", lambda path, rows: None)
            words = words or ("--data", "dots", "--image-size", 6, "--grey")
            assert tinygen("train", name, "--steps", 2, "--sample-every", 0, "--out", folder, *words).code == 0
        return folder

    return call


@pytest.fixture(scope="module")
def nearest(train):
    return train("nearest")


@pytest.fixture(scope="module")
def mean(train):
    return train("mean")


@pytest.fixture(autouse=True)
def _on_each_backend_in_a_folder_of_its_own(backend, tmp_path, monkeypatch):
    """In it `letters`: two pictures of class dark, one of class light, 6 × 6 and grey."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("dark/1.png", 20), ("dark/2.png", 40), ("light/1.png", 220)):
        path = Path("letters") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, np.full((6, 6), level))


# ---------------------------------------------------------------- what is told


def test_the_classes_of_other_pictures_are_told(nearest):
    names = [draw("a.png", np.full((6, 6), 60)), draw("long_name.png", np.full((6, 6), 200))]
    done = tinygen("adapt", nearest, "--support", "letters", "--query", *names, "--json")
    assert done.code == 0 and done.err == ""
    document = done.document
    assert document.keys() == {"name", "support", "answers", "out"}
    assert (document["name"], document["support"], document["out"]) == ("nearest", {"dark": 2, "light": 1}, None)
    assert [answer["class"] for answer in document["answers"]] == ["dark", "light"]
    for answer, name, level in zip(document["answers"], names, (60, 200)):
        squares = 36 * (level / 255 - np.array([30, 220]) / 255) ** 2
        p = np.exp(-squares) / np.exp(-squares).sum()
        assert answer["file"] == name and list(answer["probabilities"]) == ["dark", "light"]
        assert list(answer["probabilities"].values()) == pytest.approx(p.tolist(), rel=1e-4)
        assert answer["probability"] == max(answer["probabilities"].values())


def test_the_text_is_a_line_a_picture(nearest):
    names = [draw("a.png", np.full((6, 6), 30)), draw("long_name.png", np.full((6, 6), 220))]
    lines = tinygen("adapt", nearest, "--support", "letters", "--query", *names).out.splitlines()
    assert [line.split()[:2] for line in lines] == [["a.png", "dark"], ["long_name.png", "light"]]
    assert len({len(line) for line in lines}) == 1
    assert all(0.5 < float(line.split()[2]) <= 1 for line in lines)


# ---------------------------------------------------------------- how pictures are read


def level_of(run, *words):
    """The grey level that the adapted `mean` samples."""
    done = tinygen("adapt", run, *words, "-o", "copy")
    assert done.code == 0, done
    assert tinygen("sample", "copy", "-n", 1, "-o", "mean.png").code == 0
    mode, picture = look("mean.png")
    scale = picture.shape[0] // 6
    return mode, picture[2 : 2 + 6 * scale, 2 : 2 + 6 * scale].mean()


def test_pictures_alone_are_one_class_named_as_the_folder(mean):
    done = tinygen("adapt", mean, "--support", "letters/dark", "-o", "copy", "--json")
    assert done.document == {"name": "mean", "support": {"dark": 2}, "answers": [], "out": "copy"}


def test_ink_is_inverted_where_asked_for(mean, tmp_path):
    mode, level = level_of(mean, "--support", "letters/dark")
    assert mode == "L" and level == pytest.approx(30, abs=1)
    (tmp_path / "copy" / "checkpoint.safetensors").unlink()
    assert level_of(mean, "--support", "letters/dark", "--invert")[1] == pytest.approx(225, abs=1)


def test_large_and_coloured_pictures_become_as_the_runs_images(nearest):
    colour = draw("colour.png", np.full((30, 60, 3), (255, 255, 200)))
    done = tinygen("adapt", nearest, "--support", "letters", "--query", colour, "--json")
    assert done.document["answers"][0]["class"] == "light"


def test_grey_pictures_become_coloured_where_the_run_is(train):
    run = train("nearest", "--data", "dots", "--image-size", 6)
    done = tinygen("adapt", run, "--support", "letters", "--query", "letters/light/1.png", "--json")
    assert done.document["answers"][0]["class"] == "light"


# ---------------------------------------------------------------- the run that is written


def test_the_adapted_copy_is_a_run_and_the_run_stays_as_it_was(mean):
    before = (mean / "checkpoint.safetensors").read_bytes()
    assert tinygen("adapt", mean, "--support", "letters", "-o", "deep/copy").out == "deep/copy\n"
    assert (mean / "checkpoint.safetensors").read_bytes() == before
    figure = tinygen("evaluate", "deep/copy", "--json").document["metrics"]["mean"]
    assert figure == pytest.approx((20 + 40 + 220) / 3 / 255, rel=1e-4)
    tinygen("adapt", mean, "--support", "letters", "-o", "deep/copy").refused(2, "deep/copy already holds a run")


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def _other_folders():
    for name in ("empty", "no_pictures", "mixed/a", "broken/a", "hollow/a", "hollow/b"):
        Path(name).mkdir(parents=True)
    Path("no_pictures/text.txt").write_text("hello")
    draw("mixed/1.png", np.zeros((6, 6)))
    draw("mixed/a/1.png", np.zeros((6, 6)))
    Path("broken/a/1.png").write_text("no picture")
    draw("hollow/a/1.png", np.zeros((6, 6)))


@pytest.mark.usefixtures("_other_folders")
@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, (), ["required: --support"]),
        (2, ("--support", "letters"), ["adapt: nothing is asked of the adapted copy", "--query", "-o"]),
        (1, ("--support", "none", "-o", "copy"), ["none: there is no such folder", "--support FOLDER"]),
        (1, ("--support", "mixed/1.png", "-o", "copy"), ["mixed/1.png: is no folder"]),
        (1, ("--support", "empty", "-o", "copy"), ["empty: there are no images in it", "--support FOLDER"]),
        (1, ("--support", "no_pictures", "-o", "copy"), ["no_pictures: there are no images in it"]),
        (1, ("--support", "mixed", "-o", "copy"), ["mixed: holds images and folders of images"]),
        (1, ("--support", "broken", "-o", "copy"), ["broken/a/1.png: not an image"]),
        (1, ("--support", "hollow", "-o", "copy"), ["hollow/b: class folder without images"]),
        (1, ("--support", "letters", "--query", "no.png"), ["no.png: there is no such file"]),
        (2, ("--support", "letters", "--query", "mixed/1.png"), ["mean does not tell classes apart", "-o"]),
        (2, ("--support", "letters", "-o", "copy", "--way", "3"), ["unknown option --way"]),
    ],
)
def test_what_cannot_be_meant_is_refused_and_writes_nothing(code, words, said, mean):
    tinygen("adapt", mean, *words).refused(code, *said)
    assert not Path("copy").exists()


def test_sources_that_cannot_adapt_are_refused(nearest, train):
    words = ("--support", "letters", "-o", "copy")
    tinygen("adapt", "nearest", *words).refused(2, "nearest has to be trained first", "tinygen train nearest")
    tinygen("adapt", "neerest", *words).refused(2, 'there is no algorithm "neerest"')
    tinygen("adapt", "no/run", *words).refused(1, "no/run: there is no run")
    tinygen("adapt", train("plain"), *words).refused(2, "plain has no verb adapt")
    tinygen("adapt", nearest, *words).refused(2, "what comes of adapt is a Judge", "--query")
    assert not Path("copy").exists()


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("a row", 3, "nearest: probabilities must give a Tensor (1, 2), got (2,)"),
        ("an array", 3, "nearest: probabilities must give a Tensor (1, 2), got"),
        ("nan", 1, "nearest: probabilities gave numbers that are not finite"),
    ],
)
def test_answers_of_another_kind_are_the_plugins_fault(fault, code, said, train):
    run = train("nearest", "--data", "dots", "--image-size", 6, "--grey", "--fault", fault)
    tinygen("adapt", run, "--support", "letters", "--query", "letters/dark/1.png").refused(code, said)


def test_pictures_of_another_size_are_refused_where_the_runs_are_not_square(train):
    run = train("mean", "--data", "wide")
    done = tinygen("adapt", run, "--support", "letters", "-o", "copy")
    done.refused(1, "letters/dark/1.png: is 6 × 6 pixels, the run's images are 6 × 4")


def test_help_says_what_ink_must_be_like():
    said = " ".join(tinygen("adapt", "--help").out.split())
    assert "light on black" in said and "--invert" in said and "example: tinygen adapt" in said
