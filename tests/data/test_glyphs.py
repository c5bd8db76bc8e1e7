"""The drawn characters: what they depend on, how they look, how well they can be told apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import backend
from tinygen.data import DataRequest
from tinygen.data import glyphs as module
from tinygen.data.glyphs import glyphs
from tinygen.errors import DataError

from .expect import refused


def load(argument: str = "", **options):
    return glyphs(DataRequest(argument=argument, **options))


@pytest.fixture(scope="module")
def digits():
    return load()


# ---------------------------------------------------------------- what the data set holds


def test_the_digits_are_the_default(digits):
    assert (digits.spec.name, digits.spec.shape, digits.spec.count) == ("glyphs", (1, 28, 28), 60_000)
    assert digits.classes == tuple("0123456789")
    assert {name: len(split) for name, split in digits.splits.items()} == {
        "train": 60_000, "valid": 10_000, "test": 10_000,
    }  # fmt: skip
    assert load("digits").classes == digits.classes


@pytest.mark.parametrize(
    ("argument", "count", "some"), [("letters", 26, "AMZ"), ("all", 62, "0AZaz"), ("xyz", 3, "zyx"), ("αλ", 2, "αλ")]
)
def test_the_argument_names_the_characters(argument, count, some):
    data = load(argument)
    assert len(data.classes) == count and set(some) <= set(data.classes)
    assert data.name == f"glyphs:{argument}"
    assert data.arrays("test", limit=3)[0].shape == (3, 1, 28, 28)


def test_a_character_given_twice_is_one_class():
    assert load("hello").classes == ("h", "e", "l", "o")


@pytest.mark.parametrize("character", [" ", "\n", "\u00a0", "\u2800", "あ", "\U0010ffff", "\ud800"])
def test_characters_that_no_font_draws_are_refused(character):
    with refused(DataError, f"no font can draw {character!r}", "glyphs:letters"):
        load("a" + character)


def test_letters_and_digits_are_drawn_in_all_fonts():
    for name in module.STROKES:
        assert set(map(ord, module.ALPHABETS["all"])) <= module._code_points(name)


def test_a_missing_font_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with refused(DataError, tmp_path, "cmr10.ttf is missing", "matplotlib"):
        module._font_path("cmr10")


# ---------------------------------------------------------------- what an image depends on


@given(index=st.integers(0, 9_999), seed=st.integers(0, 2**32), split=st.sampled_from(["train", "valid", "test"]))
@settings(deadline=None, max_examples=20)
def test_an_image_depends_on_seed_split_and_index_alone(index, seed, split):
    alone = load(seed=seed).split(split)
    among = load(seed=seed).split(split)
    among.images(np.arange(index - index % 7, index))  # what was drawn before is irrelevant
    wanted = np.array([index])
    np.testing.assert_array_equal(alone.images(wanted), among.images(wanted))
    assert alone.labels(wanted) == among.labels(wanted)


def test_seeds_splits_and_indices_differ():
    first = load(seed=0)
    images = [first.arrays("train", 2)[0][0], first.arrays("train", 2)[0][1], first.arrays("test", 1)[0][0]]
    images.append(load(seed=1).arrays("train", 1)[0][0])
    for i, image in enumerate(images):
        assert all((image != other).any() for other in images[:i])


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_the_backend_in_use_is_irrelevant(digits, name):
    with backend.using(name):
        images, labels = load().arrays("valid", 20)
    assert type(images) is np.ndarray and type(labels) is np.ndarray
    np.testing.assert_array_equal(images, digits.arrays("valid", 20)[0])


# ---------------------------------------------------------------- how they look


@pytest.mark.parametrize(("argument", "size"), [("", 28), ("all", 28), ("WM@gj|", 28), ("all", 8), ("", 64), ("", 200)])
def test_all_ink_lies_inside_and_none_is_missing(argument, size):
    images, _ = load(argument, size=None if size == 28 else size).arrays("train", 20 if size == 200 else 300)
    assert images.shape[1:] == (1, size, size) and images.dtype == np.float32
    assert images.min() == 0 and images.max() <= 1
    assert (images.max(axis=(1, 2, 3)) > (0.5 if size >= 28 else 0.2)).all()  # thin strokes too are seen
    frame = int(module.MARGIN * size)
    inner = images[:, :, frame : size - frame, frame : size - frame]
    np.testing.assert_allclose(images.sum(axis=(1, 2, 3)), inner.sum(axis=(1, 2, 3)), rtol=1e-6)


def test_characters_stand_in_the_middle_and_are_of_a_good_size(digits):
    images = digits.arrays("train", 1000)[0][:, 0]
    rows, columns = np.indices((28, 28)) + 0.5
    ink = images.sum(axis=(1, 2))
    for place in (rows, columns):
        centres = (images * place).sum(axis=(1, 2)) / ink
        assert abs(centres.mean() - 14) < 0.5
        assert 0.5 < centres.std() < 3
    heights = (images.max(axis=2) > 0.3).sum(axis=1)
    assert 28 * module.CAPITAL_HEIGHT * module.SCALES[0] - 3 < heights.min() and heights.max() <= 27
    assert 0.08 < images.mean() < 0.25  # MNIST: 0.13


@given(u=st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5), ink=st.tuples(*[st.integers(1, 90)] * 2))
def test_the_placement_is_a_rotation_of_a_shear_inside_the_image(u, ink):
    linear, centre = module._placement(np.array(ink), 0.33, 28, np.array(u))
    corners = centre + np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * np.array(ink) / 2 @ linear.T
    assert corners.min() >= 28 * module.MARGIN - 1e-9 and corners.max() <= 28 * (1 - module.MARGIN) + 1e-9
    first, second = linear.T  # the images of the unit vectors
    scale, angle = np.hypot(*first), np.arctan2(first[1], first[0])
    assert scale <= 0.33 * module.SCALES[1] + 1e-9 and abs(angle) <= module.MAX_ANGLE + 1e-9
    np.testing.assert_allclose(np.linalg.det(linear), scale**2, rtol=1e-9)  # a shear keeps areas
    assert abs(first @ second) <= module.MAX_SHEAR * scale**2 * (1 + 1e-9)


@pytest.mark.parametrize("character", "1Wjg@")
def test_a_master_is_cropped_to_its_ink(character):
    for name in ("DejaVuSans", "STIXGeneralItalic"):
        ink = np.asarray(module._master(name, character, 2, 56))
        assert ink[[0, -1]].any(axis=1).all() and ink[:, [0, -1]].any(axis=0).all()


def test_thicker_strokes_hold_more_ink():
    ink = [np.asarray(module._master("DejaVuSans", "8", stroke, 56)).sum(dtype=int) for stroke in (0, 1, 2)]
    assert ink[0] < ink[1] < ink[2]


@pytest.mark.parametrize(("argument", "least"), [("digits", 0.6), ("letters", 0.6)])
def test_the_classes_can_be_told_apart(argument, least):
    data = load(argument)
    images, labels = data.arrays("train", 1500)
    means = np.stack([images[labels == k].mean(axis=0) for k in range(len(data.classes))])
    tested, truth = data.arrays("test", 500)
    distances = ((tested[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == truth).mean() >= least


def test_the_classes_are_equally_likely(digits):
    from scipy.stats import chisquare

    counts = np.bincount(digits.split("train").labels(np.arange(2000)), minlength=10)
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("size", [1, 7])
def test_images_too_small_to_read_are_refused(size):
    with refused(DataError, "too small", "from 8 on"):
        load(size=size)
