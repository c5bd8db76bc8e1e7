"""What the host asks of every first-party algorithm: a new one is tested here as soon as its spec is there.

An algorithm that trains on other data than the embedded characters, or that would take long in its full size, has a
line in DATA or SMALL.
"""

import dataclasses

import numpy as np
import pytest

from tinygen import backend, nn, plot
from tinygen.cli.options import load_data
from tinygen.host import Registry, verbs_of
from tinygen.random import Stream
from tinygen.run import Run, checkpoint, draw, train
from tinygen.run.loop import Every

REGISTRY = Registry.discover(disabled=["_"])
OURS = {row.name: REGISTRY.algorithm(row.name) for row in REGISTRY.rows if row.status == "ok"}
TRAINED = sorted(name for name, spec in OURS.items() if "train" in spec.verbs)
SAMPLED = sorted(name for name, spec in OURS.items() if "sample" in spec.verbs)
DATA: dict[str, str] = {"lstm": "moving-glyphs", "rnn": "moving-glyphs"}
SMALL: dict[str, dict] = {
    "ar": {"margin": 2, "batch_size": 6}, "autoencoder": {"width": 3, "code": 3, "batch_size": 6},
    "cnn": {"width": 3, "features": 8, "batch_size": 6}, "pixelcnn": {"features": 6, "blocks": 1, "batch_size": 4},
    "gan": {"hidden": 12, "latent": 3, "batch_size": 6},
    "dcgan": {"width": 2, "latent": 3, "batch_size": 6}, "gan_inpaint": {"width": 2, "batch_size": 6},
    "denoiser": {"depth": 3, "width": 4, "batch_size": 6},
    "lstm": {"hidden": 8, "channels": 4, "batch_size": 2}, "rnn": {"hidden": 8, "channels": 4, "batch_size": 2},
    "bezier": {"size": 24}, "noise": {"size": 24}, "particles": {"size": 24, "particles": 50, "layers": 1},
    "pixels": {"size": 24}, "polynomial": {"size": 24, "batch_size": 6}, "template": {"size": 24},
}  # fmt: skip


def made(name, folder=None, seed=0):
    """A run of an algorithm, small, before its first step."""
    spec = OURS[name]
    config = REGISTRY.load(spec.config)(**SMALL.get(name, {}))
    data = load_data(REGISTRY, DATA.get(name, "glyphs"), None, None, False)
    origin = checkpoint.Origin(
        name=name, provider="tinygen_plugins", config=checkpoint.config_values(config), seed=seed, data=data.spec.name,
        image_size=None, grey=False, images=checkpoint.image_values(data.spec), digest=data.digest(),
    )  # fmt: skip
    return Run(folder, origin, REGISTRY.load(spec.factory), config, data)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    """Matplotlib takes longer than these trainings."""
    monkeypatch.setattr(plot, "curves", lambda path, rows: path.write_text(str(len(rows))))


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_spec_tells_what_the_class_can_do(name):
    spec = OURS[name]
    assert set(spec.verbs) == set(verbs_of(REGISTRY.load(spec.factory)))
    assert spec.papers, "an algorithm names its sources"
    config = REGISTRY.load(spec.config)
    assert dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen
    config()  # every option has a default


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(name, tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    straight.mkdir()
    stopped.mkdir()
    every = Every(log=1, sample=0, checkpoint=2)
    train(made(name, straight), 4, every)
    train(made(name, stopped), 2, every)
    again = made(name, stopped)
    again.go_to(checkpoint.read(stopped))
    train(again, 4, every)
    a, b = checkpoint.read(straight), checkpoint.read(stopped)
    assert (a.step, a.drawn, a.table) == (b.step, b.drawn, b.table)
    assert a.arrays.keys() == b.arrays.keys() and a.arrays
    for array in a.arrays:
        assert a.arrays[array].tobytes() == b.arrays[array].tobytes(), array


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_learns(name, tmp_path):
    run = made(name, tmp_path)
    before = {key: p.numpy() for key, p in parameters(run.algorithm)}
    figures = train(run, 3, Every(log=1, sample=0, checkpoint=0))
    assert figures and all(np.isfinite(value) for value in figures.values())
    for key, p in parameters(run.algorithm):
        assert not np.array_equal(before[key], p.numpy()), f"{name}: {key} stayed as it was"


def parameters(algorithm):
    """The parameters of an algorithm's networks that are learnt."""
    for attribute, value in vars(algorithm).items():
        if isinstance(value, nn.Module):
            for key, p in value.named_parameters():
                if p.requires_grad:
                    yield f"{attribute}.{key}", p


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_images_and_their_seed_s(name):
    algorithm = made(name).algorithm if name in TRAINED else REGISTRY.load(OURS[name].factory)(
        REGISTRY.load(OURS[name].config)(**SMALL.get(name, {})), None, Stream(0, name)
    )  # fmt: skip
    images = draw(algorithm, 3, Stream(5, "sample"))
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images, draw(algorithm, 3, Stream(5, "sample")))
    assert not np.array_equal(images, draw(algorithm, 3, Stream(6, "sample")))
    if backend.current().name == "numpy" and name not in TRAINED:
        assert np.array_equal(images[:1], draw(algorithm, 1, Stream(5, "sample")))
