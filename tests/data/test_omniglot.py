"""Omniglot: zips like those of the real set, what is wrong with others, and the real ones where they are."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial import cKDTree

from tinygen.data import DataRequest, FixedEpisodes
from tinygen.data import omniglot as module
from tinygen.data.omniglot import FULL_FILES, FULL_SIDE, RUNS_FILE, SMALL_FILES, omniglot, omniglot_runs
from tinygen.errors import DataError

from .expect import refused


@pytest.fixture(autouse=True)
def _on_each_backend(backend):
    """Episodes are on the backend in use."""


def png(ink: np.ndarray, mode: str = "1") -> bytes:
    """A drawing as its file: 1 bit, ink black on white."""
    content = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert(mode, dither=0).save(content, "PNG")
    return content.getvalue()


def drawing(*key: object) -> np.ndarray:
    """Ink that depends on the key: a block somewhere."""
    random = np.random.default_rng([sum(map(ord, str(part))) for part in key])
    ink = np.zeros((FULL_SIDE, FULL_SIDE), bool)
    top, left, height, width = random.integers(10, 50, 4)
    ink[top : top + height, left : left + width] = True
    return ink


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def write_characters(folder: Path, file: str, characters: list[str], drawers: int = 3) -> None:
    stem = file.removesuffix(".zip")
    names = {f"{stem}/{name}/{k:04d}_{k:02d}.png": (name, k) for name in characters for k in range(1, drawers + 1)}
    write_zip(folder / "omniglot" / file, {f"{stem}/": b""} | {n: png(drawing(*key)) for n, key in names.items()})


@pytest.fixture
def small(tmp_path):
    """The two small sets, Greek in both; a request for them."""
    write_characters(tmp_path, SMALL_FILES[0], ["Greek/character01", "Greek/character02", "Korean/character01"])
    write_characters(tmp_path, SMALL_FILES[1], ["Greek/character02", "Japanese_(katakana)/character07"])
    return lambda **options: DataRequest(folders=(str(tmp_path),), **options)


# ---------------------------------------------------------------- splits and classes


def test_the_classes_of_the_test_are_in_no_other_split(small):
    data = omniglot(small())
    greek = [f"Greek/character0{c}{turn}" for c in (1, 2) for turn in ("", "/rot090", "/rot180", "/rot270")]
    assert data.classes == (*greek, "Japanese_(katakana)/character07", "Korean/character01")
    assert (data.name, data.shape) == ("omniglot", (1, 28, 28)) and data.spec.count == 24
    labels = {name: data.arrays(name)[1].tolist() for name in data.splits}
    assert labels == {"train": np.repeat(np.arange(8), 3).tolist(), "test": [8, 8, 8, 9, 9, 9]}


def test_all_trains_on_every_character_and_has_no_test(small):
    data = omniglot(small(argument="all"))
    assert list(data.splits) == ["train"] and data.spec.count == 4 * 4 * 3 and len(data.classes) == 16


def test_images_are_the_share_of_ink_in_each_pixel_and_turn_to_the_left(small):
    side = 35  # three pixels of the file for one
    images = omniglot(small(size=side)).arrays("train")[0]
    assert images.shape == (24, 1, side, side) and images.dtype == np.float32
    for place, key in ((0, ("Greek/character01", 1)), (2, ("Greek/character01", 3)), (12, ("Greek/character02", 1))):
        expected = drawing(*key).reshape(side, 3, side, 3).mean((1, 3))
        np.testing.assert_allclose(images[place, 0], expected, atol=0.51 / 255)
        for turns in range(4):
            np.testing.assert_array_equal(images[place + 3 * turns, 0], np.rot90(images[place, 0], turns))


@given(st.integers(1, 130), st.integers(0, 9))
def test_ink_is_averaged_over_areas(side, number):
    """Against differences of the integral of the ink, which is linear between the pixels' edges."""

    def averaged(row):
        integral = np.interp(np.linspace(0, FULL_SIDE, side + 1), np.arange(FULL_SIDE + 1), [0, *np.cumsum(row)])
        return np.diff(integral) * side / FULL_SIDE

    ink = drawing("ink", number)
    expected = np.apply_along_axis(averaged, 1, np.apply_along_axis(averaged, 0, ink))
    np.testing.assert_allclose(module._shrink(ink, side) / 255, expected, atol=0.51 / 255)


def test_the_published_split_and_the_background_split(tmp_path):
    write_characters(tmp_path, FULL_FILES[0], ["Greek/character01", "Latin/character03"])
    write_characters(tmp_path, FULL_FILES[1], ["Tengwar/character02"])
    splits = tmp_path / "omniglot" / "splits_vinyals"
    splits.mkdir()
    (splits / "trainval.txt").write_text("Greek/character01/rot000\nTengwar/character02/rot180\n")
    (splits / "test.txt").write_text("Latin/character03/rot090\n")
    data = omniglot(DataRequest(argument="vinyals", folders=(str(tmp_path),)))
    assert data.classes == ("Greek/character01", "Tengwar/character02/rot180", "Latin/character03/rot090")
    turned = np.rot90(module._shrink(drawing("Latin/character03", 2), 28))
    np.testing.assert_allclose(data.arrays("test")[0][1, 0], turned / 255, rtol=1e-6)
    data = omniglot(DataRequest(argument="background", folders=(str(tmp_path),)))
    assert len(data.classes) == 9 and data.classes[-1] == "Tengwar/character02" and data.spec.count == 24
    (splits / "test.txt").write_text("Klingon/character01/rot000\n")
    with refused(DataError, "Klingon/character01 is in none of images_background.zip"):
        omniglot(DataRequest(argument="vinyals", folders=(str(tmp_path),)))
    (splits / "test.txt").write_text("Greek character01\n")
    with refused(DataError, "test.txt: expected lines such as", "'Greek'"):
        omniglot(DataRequest(argument="vinyals", folders=(str(tmp_path),)))


# ---------------------------------------------------------------- the runs


ORDER = np.roll(np.arange(20), 3)


def runs_members(answers: np.ndarray = ORDER) -> dict[str, bytes]:
    members = {}
    for run in range(1, 21):
        lines = []
        for i in range(1, 21):
            members[f"run{run:02d}/training/class{i:02d}.png"] = png(drawing("example", run, i))
            members[f"run{run:02d}/test/item{i:02d}.png"] = png(drawing("item", run, i))
            lines.append(
                f"run{run:02d}/test/item{i:02d}.png run{run:02d}/training/class{answers[i - 1] + 1:02d}.png \n"
            )
        members[f"run{run:02d}/class_labels.txt"] = "".join(lines).encode()
    return members


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_zip(folder / "omniglot" / RUNS_FILE, runs_members())
    return folder


def test_the_runs_are_episodes_of_twenty_classes_of_one_example(runs_folder):
    data = omniglot_runs(DataRequest(folders=(str(runs_folder),)))
    assert data.spec.count == len(data.split("test")) == len(data.classes) == 400
    test = data.split("test")
    assert isinstance(test, FixedEpisodes) and not isinstance(data.split("train"), FixedEpisodes)
    episodes = test.episodes()
    assert len(episodes) == 20
    for run in (0, 19):
        episode = episodes[run]
        assert episode.support.shape == episode.query.shape == (20, 1, 28, 28)
        assert episode.support_labels.numpy().tolist() == list(range(20))
        assert episode.query_labels.numpy().tolist() == ORDER.tolist()
        assert episode.classes == tuple(range(20 * run, 20 * run + 20))
        for part, kind in ((episode.support, "example"), (episode.query, "item")):
            expected = module._shrink(drawing(kind, run + 1, 7), 28) / 255
            np.testing.assert_allclose(part.numpy()[6, 0], expected, rtol=1e-6)
    full = data.split("test").resized(FULL_SIDE).episodes()[3]
    np.testing.assert_array_equal(full.query.numpy()[6, 0], drawing("item", 4, 7).astype(np.float32))
    images, labels = data.arrays("test")
    np.testing.assert_array_equal(images[380:], episodes[19].query.numpy())
    assert labels[380:].tolist() == (380 + ORDER).tolist()


# ---------------------------------------------------------------- files that are not as they should be


def test_files_that_are_missing_are_named_with_their_place(small, tmp_path):
    with refused(DataError, RUNS_FILE, os.path.join(str(tmp_path), "omniglot")):
        omniglot_runs(small())
    with refused(DataError, FULL_FILES[0], "put"):
        omniglot(small(argument="background"))
    with refused(DataError, "splits_vinyals/trainval.txt"):
        omniglot(small(argument="vinyals"))
    with refused(DataError, "there is no vinyal", '"vinyals"'):
        omniglot(small(argument="vinyal"))


def test_a_zip_cut_anywhere_is_refused_or_whole(tmp_path, small):
    path = tmp_path / "omniglot" / SMALL_FILES[0]
    content = path.read_bytes()
    for cut in (0, 1, 30, len(content) // 2, len(content) - 30, len(content) - 1):
        path.write_bytes(content[:cut])
        with refused(DataError, path, "damaged or truncated zip file"):
            omniglot(small())


def test_bytes_that_changed_are_noticed(tmp_path, small):
    path = tmp_path / "omniglot" / SMALL_FILES[0]
    content = bytearray(path.read_bytes())
    place = content.index(b"IDAT") + 6
    content[place] ^= 0xFF
    path.write_bytes(content)
    with refused(DataError, path, "damaged"):
        omniglot(small())


def test_zips_of_something_else_are_refused(tmp_path, small):
    path = tmp_path / "omniglot" / SMALL_FILES[0]
    name = "x/Greek/character01/0001_01.png"
    for members, said in (
        ({"readme.txt": b"hello"}, ["another zip file", "Greek/character01/0394_01.png"]),
        ({name: png(np.zeros((28, 28), bool))}, [name, "28 × 28 pixels, expected 105 × 105"]),
        ({name: b"no picture"}, ["damaged"]),
    ):
        write_zip(path, members)
        with refused(DataError, path, *said):
            omniglot(small())
    write_characters(tmp_path, SMALL_FILES[0], ["Greek/character01"])
    write_characters(tmp_path, SMALL_FILES[1], ["Latin/character01"])
    with refused(DataError, "hold no characters of Japanese_(katakana) and Korean"):
        omniglot(small())


def test_runs_that_lack_something_are_refused(tmp_path):
    path, request = tmp_path / "omniglot" / RUNS_FILE, DataRequest(folders=(str(tmp_path),))
    members = runs_members()
    write_zip(path, {name: content for name, content in members.items() if name != "run07/test/item03.png"})
    with refused(DataError, path, "holds no run07/test/item03.png"):
        omniglot_runs(request)
    write_zip(path, members | {"run05/class_labels.txt": b"run05/test/item01.png run05/training/class01.png"})
    with refused(DataError, path, "run05/class_labels.txt does not pair each test item with one example"):
        omniglot_runs(request)


def test_grey_and_colour_drawings_are_read_as_ink(tmp_path, small):
    write_zip(
        tmp_path / "omniglot" / SMALL_FILES[0],
        {f"x/Korean/character01/000{k}_01.png": png(drawing("k"), mode) for k, mode in enumerate(["1", "L", "RGB"])},
    )
    images = omniglot(small()).arrays("test")[0]
    assert np.array_equal(images[-3], images[-2]) and np.array_equal(images[-3], images[-1])


# ---------------------------------------------------------------- the real files


@pytest.mark.slow
def test_the_real_sets_and_the_published_figure_of_the_nearest_drawing():
    """38.8 % of the 400 answers are wrong by the modified Hausdorff distance (Lake's demonstration)."""
    try:
        runs = omniglot_runs(DataRequest()).split("test").resized(FULL_SIDE).episodes()
        data = omniglot(DataRequest())
    except DataError as error:
        pytest.skip(error.message)
    assert (data.spec.count, len(data.split("test")), len(data.classes)) == (12400, 1740, 707)
    wrong = []
    for episode in runs:
        support, query = (
            [(p := np.argwhere(image[0] > 0.5)) - p.mean(0) for image in part.numpy()]
            for part in (episode.support, episode.query)
        )
        trees = [cKDTree(points) for points in support]
        distances = [
            [max(tree.query(q)[0].mean(), cKDTree(q).query(s)[0].mean()) for tree, s in zip(trees, support)]
            for q in query
        ]
        wrong.append(np.mean(np.argmin(distances, axis=1) != episode.query_labels.numpy()))
    assert round(100 * np.mean(wrong), 2) == 38.75
