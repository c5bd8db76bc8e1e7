"""Pictures of results: grids of images, films, and training curves.

Images are host arrays in [0, 1]. Files are written whole or not at all. Matplotlib is imported only by `curves`, and
used through its objects: no window, no global figure, no style of the user's is touched.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.data.files import require_image_file, to_pillow, write_atomically, write_image
from tinygen.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLEASANT_SIDE = 500  # pixels; the longer side that small images are enlarged to, about
SEPARATOR = 0.85  # light grey: seen beside black images and beside white ones
FASTEST = 50  # frames a second: what shows a GIF holds each frame for two hundredths of a second or more


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2, scale: int | None = None) -> np.ndarray:
    """One picture (c, H, W) of n images (n, c, h, w), row by row, with light lines between and around them.

    columns: images in a row; None makes the grid nearly square, without gaps where n can be divided so.
    padding: width of the lines in pixels.
    scale: each pixel becomes scale × scale; None enlarges small images until the grid is pleasant to look at.
    """
    if images.ndim != 4 or images.size == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"grid: images must be (n, 1, h, w) or (n, 3, h, w), got {images.shape}")
    n, c, h, w = images.shape
    columns = min(n, columns or _square_columns(n))
    rows = -(-n // columns)
    scale = scale or max(1, round(PLEASANT_SIDE / max(rows * h, columns * w)))
    h, w = h * scale, w * scale
    picture = np.full((c, rows * (h + padding) + padding, columns * (w + padding) + padding), SEPARATOR, np.float32)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        top, left = padding + row * (h + padding), padding + column * (w + padding)
        picture[:, top : top + h, left : left + w] = _enlarge(image, scale)
    return picture


def _square_columns(n: int) -> int:
    """A number of columns, at least √n and at most 2 √n, that divides n; if there is none, √n rounded up."""
    side = math.ceil(math.sqrt(n))
    return next((columns for columns in range(side, math.isqrt(4 * n) + 1) if n % columns == 0), side)


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """(c, h, w) → (c, scale·h, scale·w), each pixel a square."""
    return image.repeat(scale, axis=1).repeat(scale, axis=2)


def save_grid(
    path: str | Path, images: np.ndarray, columns: int | None = None, padding: int = 2, scale: int | None = None
) -> None:
    """Write the `grid` of (n, c, h, w) images in [0, 1] as an image file. Raises OutputError as `write_image` does."""
    write_image(path, grid(images, columns, padding, scale))


def animation(path: str | Path, frames: np.ndarray, fps: float = 10) -> None:
    """Write (t, c, h, w) in [0, 1] as a GIF that repeats for ever; small frames are enlarged as in `grid`.

    fps: frames a second, at most FASTEST; GIF counts in hundredths of a second.
    """
    _require_gif(path)
    if frames.ndim != 4 or frames.size == 0:
        raise ValueError(f"animation: frames must be (t, 1, h, w) or (t, 3, h, w), got {frames.shape}")
    scale = max(1, round(PLEASANT_SIDE / 2 / max(frames.shape[2:])))
    _write_gif(path, [_enlarge(frame, scale) for frame in frames], fps)


def save_film(path: str | Path, films: np.ndarray, fps: float = 12, columns: int | None = None) -> None:
    """Write n films (n, t, c, h, w) in [0, 1] side by side: at each time the `grid` of their frames.

    path: a file that ends in .gif, or a folder, new or empty, for a PNG a frame: 0001.png, 0002.png, …; one that is
        not there yet is told by a / at its end.
    fps: frames a second, at most FASTEST. columns: films in a row, as in `grid`.
    Raises OutputError where it cannot be written, ValueError for a wrong array or pace.
    """
    if films.ndim != 5 or films.size == 0 or films.shape[2] not in (1, 3):
        raise ValueError(f"save_film: films must be (n, t, 1, h, w) or (n, t, 3, h, w), got {films.shape}")
    require_film(path)
    padding = 2 if len(films) > 1 else 0  # one film needs no lines
    frames = [grid(films[:, time], columns, padding) for time in range(films.shape[1])]
    if not _is_folder(path):
        _write_gif(path, frames, fps)
        return
    if not os.path.isdir(path):
        _make_folder(path)
    digits = max(4, len(str(len(frames))))
    for number, frame in enumerate(frames, start=1):
        write_image(Path(path) / f"{number:0{digits}}.png", frame)


def require_film(path: str | Path) -> None:
    """Raise the OutputError that `save_film` would meet at `path`: to be asked before long work."""
    if not _is_folder(path):
        _require_gif(path, ", or in / for a folder of frames")
        require_image_file(path)
    elif not os.path.isdir(path):
        _make_folder(path)
        os.rmdir(path)
    elif os.listdir(path):
        raise OutputError(f"{path}: the folder is not empty", "name a new folder")


def _make_folder(path: str | Path) -> None:
    try:
        os.mkdir(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made a folder: {error.strerror}", "name another folder") from error


def _is_folder(path: str | Path) -> bool:
    return str(path).endswith(("/", os.sep)) or os.path.isdir(path)


def _require_gif(path: str | Path, or_else: str = "") -> None:
    if Path(path).suffix.lower() != ".gif":
        raise OutputError(f"{path}: films are written as GIF", f"use a name that ends in .gif{or_else}")


def _write_gif(path: str | Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write images (c, h, w) as a film that repeats for ever."""
    if not 0 < fps <= FASTEST:
        raise ValueError(f"a film's fps must be positive and at most {FASTEST}, got {fps}")
    first, *others = map(to_pillow, frames)
    # each frame ends at the hundredth of a second nearest to its time, so that rounding does not add up
    ends = [10 * round(100 * time / fps) for time in range(len(frames) + 1)]
    milliseconds = [end - start for start, end in itertools.pairwise(ends)]
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    write_atomically(path, content.getvalue())


def curves(path: str | Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> None:
    """Draw the figures of a run over its steps, a panel for each name; the format is the suffix's (png, pdf, svg).

    rows: mappings with "step" and figures by name, as in a run's metrics file; a figure may be missing from some.
    names: which figures; None draws all but "step" and "seconds".
    """
    from matplotlib.figure import Figure

    if names is None:
        names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "seconds")]
    if not names:
        raise ValueError("curves: there are no figures to draw")
    figure = Figure(figsize=(7, 0.6 + 1.8 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for place, (panel, name) in enumerate(zip(panels, names)):
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        marker = "o" if len(points) < 2 else None  # a single point makes no line
        panel.plot(*zip(*points), color=f"C{place % 10}", linewidth=1.2, marker=marker)
        panel.set_title(name, loc="left", fontsize="medium", parse_math=False)  # a name may hold a $
        panel.grid(color="0.9")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("step")

    _save_figure(path, figure)


def lines(
    path: str | Path, x: Sequence[float], named: Mapping[str, Sequence[float]], x_label: str = "", y_label: str = ""
) -> None:
    """Draw lines by name over a common axis, with a legend; the format is the suffix's.

    Raises ValueError for lines of other lengths.
    """
    from matplotlib.figure import Figure

    wrong = [name for name, y in named.items() if len(y) != len(x)]
    if wrong or not named:
        raise ValueError(f"lines: each must have {len(x)} points, got {wrong or 'no line'}")
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    for place, (name, y) in enumerate(named.items()):
        panel.plot(x, y, color=f"C{place % 10}", linewidth=1.4, marker="o" if len(x) < 2 else None, label=name)
    panel.set_xlabel(x_label, parse_math=False)
    panel.set_ylabel(y_label, parse_math=False)
    panel.grid(color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
    for text in panel.legend(frameon=False).get_texts():
        text.set_parse_math(False)
    _save_figure(path, figure)


def _save_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure whole or not at all. Raises OutputError for a suffix that is no format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FigureCanvasAgg(figure).get_supported_filetypes():
        raise OutputError(f'{path}: no format for figures has the suffix "{suffix}"', "use a name that ends in .png")
    content = io.BytesIO()
    figure.savefig(content, format=suffix, dpi=120)
    write_atomically(path, content.getvalue())
