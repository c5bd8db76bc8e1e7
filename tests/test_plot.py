"""Grids pixel by pixel, films frame by frame, and curves that are written whole."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinygen import plot
from tinygen.data import read_image
from tinygen.errors import OutputError
from tinygen.plot import PLEASANT_SIDE, SEPARATOR, animation, curves, grid, save_film, save_grid

ROWS = [{"step": 10 * i, "seconds": i / 3, "d_loss": 1 / (i + 1), "g_loss": float(i)} for i in range(12)]


def some(n: int, c: int = 1, h: int = 5, w: int = 7) -> np.ndarray:
    return np.random.default_rng(n).random((n, c, h, w), np.float32)


# ---------------------------------------------------------------- grids


@given(
    n=st.integers(1, 9), c=st.sampled_from([1, 3]), h=st.integers(1, 5), w=st.integers(1, 5),
    columns=st.integers(1, 12), padding=st.integers(0, 3), scale=st.integers(1, 3),
)  # fmt: skip
def test_each_pixel_stands_where_it_belongs(n, c, h, w, columns, padding, scale):
    images = some(n, c, h, w)
    picture = grid(images, columns, padding, scale)
    expected = np.full_like(picture, SEPARATOR)
    for k in range(n):
        row, column = divmod(k, min(columns, n))
        for y in range(h * scale):
            for x in range(w * scale):
                top = padding + row * (h * scale + padding) + y
                left = padding + column * (w * scale + padding) + x
                expected[:, top, left] = images[k, :, y // scale, x // scale]
    rows = (n - 1) // min(columns, n) + 1
    assert picture.dtype == np.float32
    assert picture.shape == (
        c, padding + rows * (h * scale + padding), padding + min(columns, n) * (w * scale + padding),
    )  # fmt: skip
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(
    ("n", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (7, 3), (8, 4), (10, 5), (12, 4), (18, 6), (64, 8)]
)
def test_grids_are_nearly_square(n, columns):
    assert grid(some(n, h=1, w=1), padding=0, scale=1).shape[2] == columns


@given(n=st.integers(1, 300))
def test_no_grid_is_longer_than_two_squares(n):
    _, height, width = grid(np.zeros((n, 1, 1, 1)), padding=0, scale=1).shape
    assert n <= height * width < n + width  # no empty row
    assert height <= width <= 2 * np.sqrt(n)


@pytest.mark.parametrize(("n", "side"), [(64, 28), (16, 28), (1, 28), (64, 32), (16, 64), (16, 128)])
def test_small_images_are_enlarged_to_a_pleasant_size(n, side):
    assert 0.75 * PLEASANT_SIDE < max(grid(some(n, h=side, w=side)).shape) < 1.35 * PLEASANT_SIDE


def test_large_images_are_left_at_their_size():
    assert grid(some(4, h=600, w=500), padding=2).shape == (1, 1206, 1006)


@pytest.mark.parametrize("shape", [(4, 5, 5), (0, 1, 5, 5), (2, 2, 5, 5), (2, 1, 0, 5)])
def test_arrays_that_are_no_images_are_refused(shape):
    with pytest.raises(ValueError, match="grid: images must be"):
        grid(np.zeros(shape))


def test_a_grid_is_written_as_it_is_made(tmp_path):
    images = some(6, c=3)
    save_grid(tmp_path / "grid.png", images, columns=2, padding=1, scale=2)
    np.testing.assert_allclose(read_image(tmp_path / "grid.png"), grid(images, 2, 1, 2), atol=0.51 / 255)


# ---------------------------------------------------------------- films


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_has_its_frames_its_pace_and_no_end(tmp_path, channels):
    frames = np.zeros((4, channels, 125, 125), np.float32)
    for t in range(4):
        frames[t, :, 10 * t : 10 * t + 20] = 1
    animation(tmp_path / "film.gif", frames, fps=20)
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (4, (250, 250), 0)
        for t in range(4):
            film.seek(t)
            assert film.info["duration"] == 50
            shown = np.asarray(film.convert("L"))[::2, ::2] / 255
            np.testing.assert_allclose(shown, frames[t, 0], atol=0.01)


def test_one_frame_is_a_film(tmp_path):
    animation(tmp_path / "still.gif", some(1))
    assert read_image(tmp_path / "still.gif").shape[1:] == (36 * 5, 36 * 7)


def test_films_that_cannot_be_written_are_told(tmp_path):
    with pytest.raises(OutputError, match=r"written as GIF .*ends in \.gif"):
        animation(tmp_path / "film.mp4", some(2))
    with pytest.raises(OutputError, match="there is no folder"):
        animation(tmp_path / "none" / "film.gif", some(2))
    with pytest.raises(ValueError, match="frames must be"):
        animation(tmp_path / "film.gif", np.zeros((0, 1, 3, 3)))
    with pytest.raises(ValueError, match="fps must be positive and at most 50, got 0"):
        animation(tmp_path / "film.gif", some(2), fps=0)
    assert os.listdir(tmp_path) == []


@given(fps=st.floats(1, 50), count=st.integers(1, 30))
def test_the_pace_is_kept_to_the_hundredth_of_a_second(tmp_path_factory, fps, count):
    path = tmp_path_factory.mktemp("pace") / "film.gif"
    frames = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) / 30  # all differ: Pillow joins equal ones
    animation(path, frames, fps)
    shown = 0
    with Image.open(path) as film:
        assert film.n_frames == count
        for time in range(count):
            film.seek(time)
            assert film.info["duration"] >= 20 and film.info["duration"] % 10 == 0
            shown += film.info["duration"]
            assert abs(shown - 1000 * (time + 1) / fps) <= 5.001


def some_films(n: int, t: int, c: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 5, (n, t, c, 3, 4)) / np.float32(5)  # few colours, as GIF holds them


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_films_side_by_side_are_grids_in_time(tmp_path, n, channels):
    films = some_films(n, 4, channels)
    save_film(tmp_path / "film.gif", films, fps=10, columns=2)
    save_film(f"{tmp_path}/frames/", films, columns=2)
    assert sorted(os.listdir(tmp_path / "frames")) == ["0001.png", "0002.png", "0003.png", "0004.png"]
    with Image.open(tmp_path / "film.gif") as film:
        for time in range(4):
            expected = np.rint(grid(films[:, time], columns=2, padding=2 if n > 1 else 0) * 255)
            picture = read_image(tmp_path / "frames" / f"000{time + 1}.png") * 255
            np.testing.assert_allclose(picture, expected, atol=1e-3)
            film.seek(time)
            shown = np.asarray(film.convert("RGB")).transpose(2, 0, 1)
            np.testing.assert_allclose(shown, np.broadcast_to(expected, shown.shape), atol=3)


def test_films_that_cannot_be_saved_are_told(tmp_path):
    films = some_films(2, 3, 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for path, words in {
        tmp_path / "film.mp4": r"written as GIF .*ends in \.gif, or in / for a folder",
        f"{tmp_path}/none/film/": "cannot be made a folder: No such file",
        tmp_path / "full": "the folder is not empty",
        f"{tmp_path}/full/file/": "cannot be made a folder",
        tmp_path / "none" / "film.gif": "there is no folder",
    }.items():
        with pytest.raises(OutputError, match=words):
            save_film(path, films)
    for shape in [(2, 3, 3, 4), (2, 3, 2, 3, 4), (0, 3, 1, 3, 4), (2, 0, 1, 3, 4)]:
        with pytest.raises(ValueError, match=r"save_film: films must be \(n, t, 1, h, w\) or"):
            save_film(tmp_path / "film.gif", np.zeros(shape))
    for fps in (0, 51, float("nan")):
        with pytest.raises(ValueError, match=f"fps must be positive and at most 50, got {fps}"):
            save_film(tmp_path / "film.gif", films, fps)
    assert os.listdir(tmp_path) == ["full"]


# ---------------------------------------------------------------- curves


def panels_drawn(monkeypatch) -> list:
    """Fills with the panels of each figure that is saved from here on."""
    from matplotlib.figure import Figure

    panels, original = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: panels.append(self.axes) or original(self, *a, **k))
    return panels


def test_curves_show_each_figure_over_the_steps(tmp_path, monkeypatch):
    drawn = panels_drawn(monkeypatch)
    curves(tmp_path / "curves.png", ROWS)
    (panels,) = drawn
    assert [panel.get_title(loc="left") for panel in panels] == ["d_loss", "g_loss"]
    assert panels[-1].get_xlabel() == "step"
    for panel, name in zip(panels, ("d_loss", "g_loss")):
        (line,) = panel.lines
        np.testing.assert_array_equal(line.get_xdata(), [row["step"] for row in ROWS])
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in ROWS])
    assert read_image(tmp_path / "curves.png", channels=1).std() > 0.05


def test_curves_show_what_is_asked_for_and_what_is_there(tmp_path, monkeypatch):
    drawn = panels_drawn(monkeypatch)
    rows = [{"step": 0, "a": 1.0}, {"step": 5, "b": 2.0}, {"step": 6, "a": None, "b": float("nan")}]
    curves(tmp_path / "curves.png", rows, ["b", "a", r"$\bad$"])
    ((b, a, c),) = drawn
    assert b.lines[0].get_xdata().tolist() == [5, 6]
    assert a.lines[0].get_xdata().tolist() == [0] and a.lines[0].get_marker() == "o"
    assert not c.lines


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_curves_are_written_in_the_format_of_the_suffix(tmp_path, suffix, magic):
    curves(tmp_path / f"curves.{suffix}", ROWS)
    assert (tmp_path / f"curves.{suffix}").read_bytes().startswith(magic)


def test_curves_that_cannot_be_drawn_are_told(tmp_path):
    for rows in ([], [{"step": 1, "seconds": 2}]):
        with pytest.raises(ValueError, match="no figures to draw"):
            curves(tmp_path / "curves.png", rows)
    for name in ("curves.xyz", "curves"):
        with pytest.raises(OutputError, match=r"no format for figures .*\.png"):
            curves(tmp_path / name, ROWS)
    with pytest.raises(OutputError, match="there is no folder"):
        curves(tmp_path / "none" / "curves.png", ROWS)
    assert os.listdir(tmp_path) == []


def test_lines_over_one_axis(tmp_path):
    plot.lines(tmp_path / "lines.svg", [0, 1, 2], {"a $b": [1, 2, 3], "c": [2, 2, 5]}, "step", "error")
    text = (tmp_path / "lines.svg").read_text()
    assert text.startswith("<?xml") and "<!-- a $b -->" in text and "<!-- error -->" in text
    for lines in ({}, {"a": [1.0]}):
        with pytest.raises(ValueError, match="lines: each must have 3 points"):
            plot.lines(tmp_path / "other.png", [0, 1, 2], lines)
    assert os.listdir(tmp_path) == ["lines.svg"]


def test_drawing_touches_no_global_state(tmp_path):
    script = """
import sys
import tinygen.plot
assert "matplotlib" not in sys.modules
tinygen.plot.curves(sys.argv[1], [{"step": 1, "loss": 2.0}])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "curves.png"], check=True)
