"""Pictures of results: grids of images, films, and training curves.

Images are host arrays in [0, 1]. Files are written whole or not at all. Matplotlib is imported only by `curves`, and
used through its objects: no window, no global figure, no style of the user's is touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.data.files import to_pillow, write_atomically, write_image
from tinygen.errors import OutputError

PLEASANT_SIDE = 500  # pixels; the longer side that small images are enlarged to, about
SEPARATOR = 0.85  # light grey: seen beside black images and beside white ones


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

    fps: frames a second; GIF counts in hundredths of a second.
    """
    if Path(path).suffix.lower() != ".gif":
        raise OutputError(f"{path}: films are written as GIF", "use a name that ends in .gif")
    if frames.ndim != 4 or frames.size == 0:
        raise ValueError(f"animation: frames must be (t, 1, h, w) or (t, 3, h, w), got {frames.shape}")
    if not fps > 0:
        raise ValueError(f"animation: fps must be positive, got {fps}")
    scale = max(1, round(PLEASANT_SIDE / 2 / max(frames.shape[2:])))
    first, *others = (to_pillow(_enlarge(frame, scale)) for frame in frames)
    content = io.BytesIO()
    milliseconds = 10 * max(1, round(100 / fps))
    first.save(content, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)
    write_atomically(path, content.getvalue())


def curves(path: str | Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> None:
    """Draw the figures of a run over its steps, a panel for each name; the format is the suffix's (png, pdf, svg).

    rows: mappings with "step" and figures by name, as in a run's metrics file; a figure may be missing from some.
    names: which figures; None draws all but "step" and "seconds".
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
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

    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FigureCanvasAgg(figure).get_supported_filetypes():
        raise OutputError(f'{path}: no format for curves has the suffix "{suffix}"', "use a name that ends in .png")
    content = io.BytesIO()
    figure.savefig(content, format=suffix, dpi=120)
    write_atomically(path, content.getvalue())
