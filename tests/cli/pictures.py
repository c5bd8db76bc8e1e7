"""What the tests of repair, compose and animate share: pictures to write and read, and their plugin."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.run import command
from tinygen import plot

PLUGIN = Path(__file__).with_name("picture_plugin.py")


def tinygen(*words):
    """Run `tinygen words…` with the plugin of these tests."""
    return command.tinygen("-p", PLUGIN, *words)


def train_learner(folder):
    """Train the learner on dots, 4 × 4 in colour. Returns the folder of its run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "curves", lambda path, rows: None)
        assert tinygen("train", "learner", "--data", "dots", "--steps", 2, "--out", folder).code == 0
    return folder


def draw(path, pixels, **options):
    """Write bytes (h, w), (h, w, 2) with alpha, (h, w, 3) or (h, w, 4) with alpha as a file. Returns its name."""
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return str(path)


def look(path):
    """The mode of a picture and its bytes."""
    with Image.open(path) as image:
        return image.mode, np.asarray(image).astype(int)


def noise(*shape):
    """Random bytes, none of them 0 or 255."""
    return np.random.default_rng(len(shape)).integers(1, 255, shape, np.uint8)
