"""Image files: what is read against closed forms, what is written against what is read, and every way to fail."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image

from tinygen.data import read_alpha, read_image, read_mask, resize_and_crop, write_atomically, write_image
from tinygen.data.files import image_size, to_array
from tinygen.errors import DataError, OutputError

from .expect import read_or_refused, refused

pictures = hnp.arrays(np.uint8, st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


def left_over(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".partial"))


# ---------------------------------------------------------------- there and back


@given(pixels=pictures, suffix=st.sampled_from([".png", ".bmp", ".tiff", ".PNG", ".webp"]))
@settings(deadline=None)
def test_bytes_survive_the_round_trip(folder, pixels, suffix):
    path = folder / f"picture{suffix}"
    write_image(path, pixels / 255)
    read = read_image(path, channels=len(pixels))
    assert read.dtype == np.float32 and read.flags.c_contiguous
    np.testing.assert_array_equal(np.rint(read * 255), pixels)
    np.testing.assert_allclose(read, pixels / 255, atol=1e-7)
    assert left_over(folder) == []


@given(image=hnp.arrays(np.float32, (1, 3, 4), elements=st.floats(-0.5, 1.5, width=32)))
@settings(deadline=None)
def test_values_are_clipped_and_rounded_to_the_nearest_byte(folder, image):
    write_image(folder / "rounded.png", image)
    read = read_image(folder / "rounded.png")
    assert np.abs(read - np.clip(image, 0, 1)).max() <= 0.5 / 255 + 1e-6


def test_a_photograph_survives_jpeg(folder):
    y, x = np.mgrid[0:32, 0:48] / 48
    image = np.stack([x, y, 0.5 + 0 * x]).astype(np.float32)
    write_image(folder / "photo.jpg", image)
    assert np.abs(read_image(folder / "photo.jpg") - image).max() < 0.04


# ---------------------------------------------------------------- all kinds of pictures


def save(folder: Path, image: Image.Image, name: str = "kind.png", **options) -> Path:
    image.save(folder / name, **options)
    return folder / name


def constant(mode: str, colour, **info) -> Image.Image:
    image = Image.new(mode, (3, 2), colour)
    image.info.update(info)
    return image


def palette(colour: tuple[int, ...]) -> Image.Image:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([9, 9, 9, *colour])
    return image


SIXTEEN_BITS = Image.fromarray(np.full((2, 3), 40_000, np.uint16))
WHITE_SHEET = (255 - 100) / 255  # shows through an alpha of 100


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (constant("1", 1), "a.png", [1]),
        (constant("L", 51), "a.png", [0.2]),
        (constant("RGB", (255, 51, 0)), "a.png", [1, 0.2, 0]),
        (constant("LA", (0, 100)), "a.png", [WHITE_SHEET]),
        (constant("RGBA", (255, 0, 0, 100)), "a.png", [1, WHITE_SHEET, WHITE_SHEET]),
        (constant("RGBA", (255, 0, 0, 0)), "a.webp", [1, 1, 1]),
        (palette((0, 102, 255)), "a.png", [0, 0.4, 1]),
        (palette((0, 102, 255)), "a.gif", [0, 0.4, 1]),
        (constant("CMYK", (255, 0, 51, 0)), "a.tiff", [0, 1, 0.8]),
        (constant("YCbCr", (255, 128, 128)), "a.jpg", [1, 1, 1]),
        (constant("HSV", (0, 0, 51)).convert("RGB"), "a.bmp", [0.2, 0.2, 0.2]),
        (SIXTEEN_BITS, "a.png", [40_000 / 65_535]),
        (SIXTEEN_BITS, "a.tiff", [40_000 / 65_535]),
        (constant("I", 65_535), "a.tiff", [1]),
        (constant("F", 0.3), "a.tiff", [0.3]),
    ],
)
def test_each_kind_of_picture_is_read(folder, image, name, expected):
    read = read_image(save(folder, image, name))
    assert read.dtype == np.float32 and read.shape == (len(expected), 2, 3)
    wanted = np.broadcast_to(np.array(expected)[:, None, None], read.shape)
    np.testing.assert_allclose(read, wanted, atol=0.5 / 255 if name == "a.jpg" else 2e-3 if "A" in image.mode else 1e-6)


@pytest.mark.parametrize(
    ("image", "transparency", "expected"),
    [
        (constant("L", 7), 7, [1]),
        (constant("L", 51), 7, [0.2]),
        (constant("RGB", (1, 2, 3)), (1, 2, 3), [1, 1, 1]),
        (palette((0, 102, 255)), 1, [1, 1, 1]),
        (palette((0, 102, 255)), b"\xff\x00", [1, 1, 1]),
        (palette((0, 102, 255)), 0, [0, 0.4, 1]),
    ],
)
def test_a_transparent_colour_is_laid_on_white(folder, image, transparency, expected):
    read = read_image(save(folder, image, transparency=transparency))
    np.testing.assert_allclose(read[:, 1, 2], expected, atol=1e-6)
    assert len(read) == len(expected)


@given(pixels=hnp.arrays(np.uint8, (3, 2, 2)))
@settings(deadline=None)
def test_channels_are_brought_to_what_is_asked_for(folder, pixels):
    path = folder / "colour.png"
    write_image(path, pixels / 255)
    luma = 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2]  # ITU-R 601
    grey = read_image(path, channels=1)
    assert grey.shape == (1, 2, 2)
    np.testing.assert_allclose(grey[0] * 255, luma, atol=1)
    write_image(path, grey)
    np.testing.assert_array_equal(read_image(path, channels=3), np.repeat(grey, 3, axis=0))


def test_deep_grey_keeps_its_depth_in_three_channels_too(folder):
    read = read_image(save(folder, SIXTEEN_BITS), channels=3)
    np.testing.assert_allclose(read, np.full((3, 2, 3), 40_000 / 65_535), atol=1e-6)


def test_other_numbers_of_channels_are_refused(folder):
    path = save(folder, constant("L", 0))
    with pytest.raises(ValueError, match="channels must be 1, 3 or None, got 4"):
        read_image(path, channels=4)


# Where the first row and the first column of the stored picture belong (EXIF 2.3, tag 0x0112), as steps to undo.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("name", "options"), [("turned.png", {}), ("turned.tiff", {"compression": "tiff_lzw"})])
def test_pictures_are_turned_as_the_camera_was_held(folder, orientation, name, options):
    stored = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(folder, Image.fromarray(stored), name, exif=exif, **options)
    upright = UPRIGHT[orientation](stored)
    np.testing.assert_array_equal(np.rint(read_image(path)[0] * 255), upright)
    assert image_size(path) == upright.shape[::-1]


# ---------------------------------------------------------------- what cannot be read


def test_missing_files_folders_and_texts_are_told(folder):
    (folder / "text.png").write_bytes(b"no picture at all")
    (folder / "empty.png").write_bytes(b"")
    for read in (read_image, read_alpha, read_mask):
        with refused(DataError, folder / "none.png", "no such file"):
            read(folder / "none.png")
        with refused(DataError, folder, "is a folder"):
            read(folder)
        for name in ("text.png", "empty.png"):
            with refused(DataError, folder / name, "not an image"):
                read(folder / name)


@given(suffix=st.sampled_from(["png", "jpeg", "gif", "tiff", "bmp", "webp"]), data=st.data())
@settings(deadline=None)
def test_a_picture_cut_anywhere_is_refused_or_whole(folder, suffix, data):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, suffix)
    whole, path = content.getvalue(), folder / f"cut.{suffix}"
    path.write_bytes(whole)
    expected = read_image(path)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    read = read_or_refused(read_image, path)
    assert (read_or_refused(read_alpha, path) is None) == (read is None)
    if read is not None:  # only what ends a file, after its last pixel, may be missing
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("limit", [7, 5])  # Pillow warns above the limit and raises above twice the limit
def test_a_picture_that_would_fill_the_memory_is_refused(folder, monkeypatch, limit):
    path = save(folder, Image.new("L", (3, 4)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for read in (read_image, image_size):
        with refused(DataError, path, "million pixels", "smaller"):
            read(path)


@pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
def test_grey_out_of_range_is_refused(folder, value):
    path = save(folder, constant("F", value), "deep.tiff")
    with refused(DataError, path, "of full scale"):
        read_image(path)


# ---------------------------------------------------------------- size


@given(
    grey=st.integers(0, 255),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(1, 40),
    mode=st.sampled_from(["L", "RGB", "F"]),
)
@settings(deadline=None)
def test_one_colour_stays_that_colour_at_any_size(grey, shape, size, mode):
    image = Image.new("F", shape, grey / 255) if mode == "F" else Image.new("L", shape, grey).convert(mode)
    resized = to_array(resize_and_crop(image, size))
    assert resized.shape[1:] == (size, size)
    np.testing.assert_allclose(resized, grey / 255, atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(40, 16), (16, 40)])
def test_the_centre_is_cropped_from_the_longer_side(width, height):
    across = np.tile(np.arange(max(width, height), dtype=np.uint8), (min(width, height), 1))
    pixels = across if width > height else across.T
    cropped = np.asarray(resize_and_crop(Image.fromarray(pixels), 16))
    expected = np.tile(np.arange(12, 28), (16, 1))  # (40 − 16) / 2 on either side are gone
    np.testing.assert_array_equal(cropped, expected if width > height else expected.T)


def test_shrinking_averages():
    chequered = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shrunk = np.asarray(resize_and_crop(Image.fromarray(chequered), 8))
    assert np.abs(shrunk.astype(float) - 127.5).max() < 4


def test_an_image_of_the_right_size_is_left_alone():
    image = Image.new("L", (5, 5))
    assert resize_and_crop(image, 5) is image


def test_deep_grey_does_not_overshoot():
    step = np.repeat(np.array([0, 1], np.float32), 8)
    image = Image.fromarray(np.tile(step, (16, 1)))
    resized = to_array(resize_and_crop(image, 31))
    assert resized.min() >= 0 and resized.max() <= 1  # bicubic alone would leave [0, 1]


# ---------------------------------------------------------------- what cannot be written

BLACK = np.zeros((1, 2, 2), np.float32)


@pytest.mark.parametrize("name", ["picture.xyz", "picture", "picture.psd"])
def test_unknown_suffixes_are_refused(folder, name):
    with refused(OutputError, folder / name, "no image format has the suffix", ".png"):
        write_image(folder / name, BLACK)
    assert not (folder / name).exists()


def test_a_format_for_other_pictures_is_refused(folder):
    with refused(OutputError, folder / "a.xbm", "XBM cannot hold this image"):
        write_image(folder / "a.xbm", BLACK)
    assert not (folder / "a.xbm").exists()


@pytest.mark.parametrize("shape", [(2, 2), (2, 4, 4), (4, 4, 3), (1, 0, 4), (1, 1, 4, 4)])
def test_arrays_that_are_no_image_are_refused(folder, shape):
    with pytest.raises(ValueError, match=r"an image is \(1, h, w\) or \(3, h, w\), got"):
        write_image(folder / "never.png", np.zeros(shape))
    assert not (folder / "never.png").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(folder, value):
    with pytest.raises(ValueError, match="not finite"):
        write_image(folder / "never.png", np.full((1, 2, 2), value))


def test_places_that_cannot_be_written_are_told(folder):
    (folder / "file").write_bytes(b"")
    (folder / "folder.png").mkdir()
    for path, word in {
        folder / "missing" / "a.png": "there is no folder",
        folder / "file" / "a.png": "there is no folder",
        folder / "folder.png": "is a folder",
        folder / f"{'x' * 300}.png": "cannot be written",
    }.items():
        with refused(OutputError, path, word):
            write_image(path, BLACK)
    assert left_over(folder) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc to refuse a file")
def test_a_folder_that_takes_no_files_is_told():
    with refused(OutputError, "/proc/self/a.png", "cannot be written"):
        write_image("/proc/self/a.png", BLACK)


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are POSIX")
def test_what_is_no_plain_file_is_left_alone(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # stands for a device too; no real one is put at risk here
    with refused(OutputError, pipe, "is not a plain file"):
        write_image(pipe, BLACK)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


FULL_DISK = """
import resource, sys
import numpy as np
from tinygen.data import write_image
from tinygen.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_image(sys.argv[1], np.random.default_rng(0).random((3, 64, 64)))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files to set")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"what was there")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path}: cannot be written: File too large (free some space, or name another folder)\n"
    assert path.read_bytes() == b"what was there" and left_over(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_at_the_last_moment_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"what was there")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_image(path, BLACK)
    assert path.read_bytes() == b"what was there" and left_over(tmp_path) == []


def test_an_existing_file_is_replaced_and_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_image(link, BLACK)
    assert link.is_symlink() and read_image(target).shape == (1, 2, 2)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_files_have_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o640
