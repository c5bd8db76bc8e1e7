"""Pictures of a run: films for what makes films, and clips for what learns from them."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.run import toy_plugin
from tests.run.test_loop import make
from tinygen import plot, tensor
from tinygen.autograd import is_grad_enabled
from tinygen.data import DataRequest, Dataset, read_image
from tinygen.errors import AnomalyError, PluginError, UsageError
from tinygen.host import Animator, Curves, Illustrator, Step, Trainable
from tinygen.random import Stream
from tinygen.run import Every, checkpoint, train
from tinygen.run.loop import require_kind
from tinygen.run.pictures import draw_films, save_illustrations


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    """Matplotlib takes longer than these trainings."""
    monkeypatch.setattr(plot, "curves", lambda path, rows: path.write_text(str(len(rows))))


class Rising(Trainable, Animator):
    """Films that grow lighter."""

    result = None

    def __init__(self, config, data, random):
        self.shape = data.shape

    def fit(self, batches):
        while True:
            yield Step({"loss": next(batches).images.mean()})

    def animate(self, frames, n, random):
        assert not is_grad_enabled()
        light = np.linspace(0, 1, frames).reshape(1, frames, 1, 1, 1) * np.ones((n, 1, *self.shape))
        return tensor(light) if self.result is None else self.result


class Films(toy_plugin.Toy):
    films = True


def test_what_makes_films_shows_films_on_the_way_and_at_the_end(tmp_path):
    train(make(tmp_path, Rising), 4, Every(log=2, sample=2, checkpoint=0))
    assert sorted(os.listdir(tmp_path / "samples")) == ["step-000002.gif", "step-000004.gif"]
    with Image.open(tmp_path / "samples.gif") as film, Image.open(tmp_path / "samples/step-000002.gif") as preview:
        assert film.n_frames == preview.n_frames == 20
        assert film.size != preview.size  # more of them side by side
    assert not (tmp_path / "samples.png").exists()


@pytest.mark.parametrize(
    ("result", "got"),
    [(3, "int"), ((2, 5, 1, 4), r"\(2, 5, 1, 4\)"), ((5, 2, 1, 4, 4), r"\(5, 2, 1"), ((2, 5, 2, 4, 4), r"\(2, 5, 2")],
)
def test_films_of_a_wrong_kind_or_shape_are_told(result, got):
    rising = Rising(None, toy_plugin.dots(DataRequest()).spec, None)
    rising.result = tensor(np.zeros(result)) if isinstance(result, tuple) else result
    with pytest.raises(PluginError, match=rf"Rising: animate\(5, 2\) must .* \(2, 5, 1 or 3, h, w\), got {got}"):
        draw_films(rising, 5, 2, Stream(0))
    rising.result = tensor(np.full((2, 5, 1, 4, 4), np.nan))
    with pytest.raises(AnomalyError, match="Rising: animate gave numbers that are not finite"):
        draw_films(rising, 5, 2, Stream(0))


def test_stills_and_clips_are_for_those_who_learn_from_them(tmp_path):
    stills = toy_plugin.dots(DataRequest())
    clips = Dataset("waves", stills.splits, stills.shape, frames=7)
    require_kind("toy", toy_plugin.Toy, stills)
    require_kind("toy", Films, clips)
    require_kind("made", lambda config, data, random: None, stills)
    with pytest.raises(UsageError, match="toy learns from still images, and data waves are films"):
        require_kind("toy", toy_plugin.Toy, clips)
    with pytest.raises(UsageError, match="toy learns from films, and data dots are still images") as caught:
        make(tmp_path, Films)
    assert "moving-glyphs" in caught.value.hint


def test_a_checkpoint_tells_the_frames_of_clips_and_is_as_ever_for_stills(tmp_path):
    stills = toy_plugin.dots(DataRequest())
    clips = Dataset("waves", stills.splits, stills.shape, frames=7)
    assert "frames" not in checkpoint.image_values(stills.spec) and stills.spec.frames == 0
    run = make(tmp_path)
    run.origin.images.update(checkpoint.image_values(clips.spec))
    checkpoint.write(tmp_path, run.here())
    assert checkpoint.read(tmp_path).origin.images["frames"] == 7


class Drawing(toy_plugin.Toy, Illustrator):
    """Draws what it is told."""

    drawn = None

    def illustrate(self, data, random):
        assert not is_grad_enabled() and isinstance(data, Dataset)
        return self.drawn


def test_an_illustrator_leaves_its_pictures_when_training_ends(tmp_path, monkeypatch):
    images = np.random.default_rng(0).random((3, 1, 5, 4))
    curve = Curves(x=[0, 1, 2], lines={"loss $x": [3.0, 2.0, 1.5]}, x_label="step", y_label="nats")
    monkeypatch.setattr(Drawing, "drawn", {"memory": tensor(images), "first-curve": curve})
    train(make(tmp_path, Drawing), 2, Every(log=1, sample=0, checkpoint=0))
    assert sorted(os.listdir(tmp_path / "pictures")) == ["first-curve.png", "memory.png"]
    shown = read_image(tmp_path / "pictures" / "memory.png")
    np.testing.assert_allclose(shown, plot.grid(images.astype(np.float32)), atol=1 / 255)
    assert read_image(tmp_path / "pictures" / "first-curve.png").std() > 0.05


@pytest.mark.parametrize(
    ("drawn", "error", "message"),
    [
        ({"Memory": 1}, PluginError, "'Memory' is no name of a picture"),
        ({"../m": 1}, PluginError, "is no name of a picture"),
        ({"m": 3}, PluginError, r"Drawing: illustrate: m must give a Tensor \(n, 1 or 3, h, w\), got int"),
        ({"m": np.zeros((4, 4))}, PluginError, r"got \(4, 4\)"),
        ({"m": np.full((1, 1, 4, 4), np.nan)}, AnomalyError, "illustrate: m gave numbers that are not finite"),
    ],
)
def test_illustrations_of_a_wrong_kind_are_told(tmp_path, monkeypatch, drawn, error, message):
    drawn = {name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in drawn.items()}
    run = make(tmp_path, Drawing)
    monkeypatch.setattr(Drawing, "drawn", drawn)
    with pytest.raises(error, match=message):
        save_illustrations(tmp_path / "pictures", run.algorithm, run.data, Stream(0))
