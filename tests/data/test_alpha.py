"""Transparency of image files: what is written against what is read, and masks made of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image

from tinygen.data import read_alpha, read_mask, write_image
from tinygen.errors import OutputError

from .expect import refused
from .test_files import SIXTEEN_BITS, constant, palette, pictures, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("alpha")


@given(pixels=pictures, data=st.data())
@settings(deadline=None)
def test_alpha_survives_the_round_trip(folder, pixels, data):
    alpha = data.draw(hnp.arrays(np.uint8, pixels.shape[1:]))
    write_image(folder / "clear.png", pixels / 255, alpha / 255)
    with Image.open(folder / "clear.png") as image:
        assert image.mode == ("LA" if len(pixels) == 1 else "RGBA")
        found = np.asarray(image).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, np.concatenate([pixels, alpha[None]]))
    read = read_alpha(folder / "clear.png")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(np.rint(read * 255), alpha)
    assert ((read == 1) == (alpha == 255)).all()


@given(pixels=pictures, data=st.data())
@settings(deadline=None)
def test_a_mask_is_its_lightest_channel_times_its_alpha(folder, pixels, data):
    alpha = data.draw(hnp.arrays(np.uint8, pixels.shape[1:]))
    write_image(folder / "mask.png", pixels / 255, alpha / 255)
    mask = read_mask(folder / "mask.png")
    assert mask.dtype == np.float32 and mask.shape == alpha.shape and mask.min() >= 0
    np.testing.assert_allclose(mask, pixels.max(axis=0) / 255 * (alpha / 255), atol=1.01 / 255)
    write_image(folder / "mask.png", pixels / 255)
    np.testing.assert_allclose(read_mask(folder / "mask.png"), pixels.max(axis=0) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "transparency", "alpha"),
    [
        (constant("L", 7), 7, 0),
        (constant("L", 7), 8, 1),
        (constant("RGB", (1, 2, 3)), (1, 2, 3), 0),
        (palette((0, 102, 255)), b"\xff\x33", 0.2),
        (palette((0, 102, 255)), None, 1),
        (constant("1", 1), None, 1),
        (SIXTEEN_BITS, None, 1),
        (SIXTEEN_BITS, 40_000, 1),  # a transparent grey of 16 bits is not looked for, here as in `read_image`
    ],
)
def test_each_kind_of_picture_has_its_alpha(folder, image, transparency, alpha):
    path = save(folder, image, **({} if transparency is None else {"transparency": transparency}))
    read = read_alpha(path)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, np.full((2, 3), alpha), atol=1e-6)


def test_alpha_and_masks_are_turned_as_the_picture(folder):
    stored = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = save(folder, Image.fromarray(np.stack([stored, 255 - stored], -1)), "turned.png", exif=exif)
    np.testing.assert_array_equal(np.rint(read_alpha(turned) * 255), np.rot90(255 - stored, -1))
    deep = save(folder, Image.fromarray(stored.astype(np.uint16) * 257), "deep.png", exif=exif)
    np.testing.assert_allclose(read_mask(deep), np.rot90(stored / 255, -1), atol=1e-6)


def test_alpha_in_a_format_without_it_is_refused(folder):
    with refused(OutputError, folder / "clear.jpg", "JPEG cannot hold this image", ".png"):
        write_image(folder / "clear.jpg", np.zeros((3, 2, 2)), np.ones((2, 2)))
    assert not (folder / "clear.jpg").exists()
