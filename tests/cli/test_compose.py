"""`tinygen compose`: images and masks as the algorithm gets them, the picture that comes of them, what is refused."""

import os

import numpy as np
import pytest

from tests.cli.pictures import draw, look, noise, tinygen, train_learner


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_learner(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(autouse=True)
def _on_each_backend_in_a_folder_of_its_own(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_images_reach_the_algorithm_in_their_order():
    parts = [noise(4, 5, 3), noise(4, 3, 3), 255 - noise(4, 2, 3)]
    names = [draw(f"{k}.png", part) for k, part in enumerate(parts)]
    done = tinygen("compose", "beside", *names, "-o", "c.png", "--json")
    assert done.document == {"name": "beside", "images": names, "out": "c.png", "seed": 0} and done.err == ""
    mode, picture = look("c.png")
    assert mode == "RGB"
    np.testing.assert_array_equal(picture, np.concatenate(parts, axis=1))


def test_one_image_is_enough_for_the_verb_and_grey_stays_grey():
    draw("a.png", noise(4, 5))
    assert tinygen("compose", "beside", "a.png").out == "beside.png\n"
    mode, picture = look("beside.png")
    assert mode == "L" and (picture == noise(4, 5)).all()


def test_grey_beside_colour_becomes_colour():
    draw("grey.png", noise(4, 5))
    draw("colour.png", noise(4, 5, 3))
    assert tinygen("compose", "beside", "grey.png", "colour.png").code == 0
    mode, picture = look("beside.png")
    assert (
        mode == "RGB" and (picture[:, :5] == noise(4, 5)[..., None]).all() and (picture[:, 5:] == noise(4, 5, 3)).all()
    )


def test_the_greys_of_a_mask_are_kept():
    dark, light = np.full((4, 5), 20), np.full((4, 5), 220)
    mask = np.tile([0, 51, 102, 204, 255], (4, 1))
    words = (draw("dark.png", dark), draw("light.png", light), "--mask", draw("mask.png", mask), "-o", "c.png")
    assert tinygen("compose", "beside", *words).code == 0
    np.testing.assert_array_equal(look("c.png")[1][0], [20, 60, 100, 180, 220])  # 20 + 200 · mask


def test_transparency_is_laid_on_white_and_told():
    clear = noise(4, 5, 4)
    clear[..., 3] = 0
    done = tinygen("compose", "beside", draw("a.png", clear), draw("b.png", noise(4, 5, 3)))
    assert done.err == "tinygen: a.png: what is transparent is laid on white\n"
    assert (look("beside.png")[1][:, :5] == 255).all()


def test_nothing_is_overwritten_unasked_but_what_is_named():
    draw("a.png", noise(4, 5))
    draw("named.png", noise(2, 2))
    outs = [tinygen("compose", "beside", "a.png").out for _ in range(2)]
    assert outs == ["beside.png\n", "beside-2.png\n"]
    assert tinygen("compose", "beside", "a.png", "a.png", "-o", "named.png").code == 0
    assert look("named.png")[1].shape == (4, 10)


def test_a_run_composes_and_so_does_what_needs_no_training(trained):
    draw("a.png", noise(4, 5))
    assert tinygen("compose", trained, "a.png").out == "learner.png\n"
    assert tinygen("compose", "either", "a.png").out == "either.png\n"
    tinygen("compose", "learner", "a.png").refused(2, "learner has to be trained first")


def test_help_has_an_example_and_the_options_of_the_algorithm():
    assert "example: tinygen compose blend ground.png figure.png --mask" in tinygen("compose", "--help").out
    assert "--shade float" in tinygen("compose", "beside", "a.png", "--help").out


@pytest.fixture
def _pictures():
    draw("a.png", noise(4, 5))
    draw("small.png", noise(3, 3))
    with open("text.png", "w") as file:
        file.write("no picture")
    os.mkdir("folder.png")


@pytest.mark.usefixtures("_pictures")
@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (2, (), ["required: NAME_OR_RUN, IMAGES"]),
        (2, ("beside",), ["required: IMAGES", "tinygen compose --help"]),
        (2, ("besides", "a.png"), ['there is no algorithm "besides"', '"beside"']),
        (2, ("fill", "a.png"), ["fill has no verb compose", "it has repair"]),
        (2, ("beside", "a.png", "--shad", "3"), ["unknown option --shad", '"--shade"']),
        (2, ("beside", "a.png", "--shade", "-3"), ["--shade must be from 0 to 1"]),
        (2, ("beside", "--shade", "0.3", "a.png"), ["0.3: there is no such file", "stand before the options"]),
        (2, ("beside", "a.png", "--seed", "-1"), ["--seed must be at least 0"]),
        (1, ("beside", "a.png", "no.png"), ["no.png: there is no such file"]),
        (1, ("beside", "a.png", "text.png"), ["text.png: not an image"]),
        (1, ("beside", "folder.png"), ["folder.png: is a folder"]),
        (1, ("beside", "a.png", "--mask", "no.png"), ["no.png: there is no such file"]),
        (1, ("beside", "a.png", "--mask", "small.png"), ["small.png", "first picture, 5 × 4 pixels, got 3 × 3 pixels"]),
        (1, ("nowhere/run", "a.png"), ["nowhere/run: there is no run"]),
        (1, ("beside", "a.png", "-o", "x.txt"), ["x.txt", "no image format"]),
        (1, ("beside", "a.png", "-o", "folder.png"), ["folder.png: is a folder"]),
        (3, ("beside", "a.png", "--fault", "nothing"), ["compose must give a Tensor (1 or 3, h, w), got NoneType"]),
        (3, ("beside", "a.png", "--fault", "a row"), ["beside: compose must give a Tensor (1 or 3, h, w), got (1, 4)"]),
        (1, ("beside", "a.png", "--fault", "not finite"), ["beside: compose gave numbers that are not finite"]),
    ],
)
def test_what_cannot_be_meant_is_refused(code, words, said):
    before = sorted(os.listdir())
    tinygen("compose", *words).refused(code, *said)
    assert sorted(os.listdir()) == before
