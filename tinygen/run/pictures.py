"""The pictures of a run: what an algorithm has learnt so far, as a grid of samples or as films side by side."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tinygen import plot
from tinygen.autograd import Tensor, no_grad
from tinygen.data import Dataset
from tinygen.errors import AnomalyError, OutputError, PluginError
from tinygen.host import Animator, Curves, Illustrator, Sampler
from tinygen.random import Stream

IN_TRAINING = "look at the figures in metrics.jsonl"
PICTURE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FRAMES, FILMS_OF_16 = 20, 4  # frames of a film; and films where there would be 16 images


def save_pictures(stem: Path, algorithm: Any, n: int, random: Stream) -> None:
    """Write stem.png, n samples, or stem.gif, a quarter as many films; nothing for an algorithm that makes neither."""
    if isinstance(algorithm, Sampler):
        plot.save_grid(stem.with_suffix(".png"), draw(algorithm, n, random))
    elif isinstance(algorithm, Animator):
        films = draw_films(algorithm, FRAMES, n * FILMS_OF_16 // 16, random)
        plot.save_film(stem.with_suffix(".gif"), films)


def save_illustrations(folder: Path, algorithm: Any, data: Dataset, random: Stream) -> None:
    """Write what an Illustrator draws into the folder, NAME.png each; nothing for any other algorithm.

    Raises PluginError for pictures of another kind, AnomalyError for numbers that are not finite.
    """
    if not isinstance(algorithm, Illustrator):
        return
    owner = f"{type(algorithm).__name__}: illustrate"
    with no_grad():
        pictures = algorithm.illustrate(data, random)
    for name in pictures:
        if PICTURE_NAME.fullmatch(name) is None:
            raise PluginError(f"{owner}: {name!r} is no name of a picture", 'words joined by -, for instance "memory"')
    make_folder(folder)
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        if isinstance(picture, Curves):
            plot.lines(path, picture.x, picture.lines, picture.x_label, picture.y_label)
        else:
            shape = ("n", "c", "h", "w")
            plot.save_grid(path, require_pictures(f"{owner}: {name}", picture, shape, "give images or Curves"))


def draw(algorithm: Sampler, n: int, random: Stream) -> np.ndarray:
    """n sampled images (n, c, h, w) on the host. Raises PluginError for a result of another shape or kind."""
    with no_grad():
        images = algorithm.sample(n, random)
    owner = f"{type(algorithm).__name__}: sample"
    return require_pictures(owner, images, (n, "c", "h", "w"), "return images", f"({n})", IN_TRAINING)


def draw_films(algorithm: Animator, frames: int, n: int, random: Stream) -> np.ndarray:
    """n films (n, t, c, h, w) on the host. Raises PluginError for a result of another shape or kind."""
    with no_grad():
        films = algorithm.animate(frames, n, random)
    owner, shape = f"{type(algorithm).__name__}: animate", (n, frames, "c", "h", "w")
    return require_pictures(owner, films, shape, "return films", f"({frames}, {n})", IN_TRAINING)


def require_pictures(
    owner: str, result: Any, shape: tuple[int | str, ...], hint: str, call: str = "",
    cause: str = "look for a division by zero in the plugin",
) -> np.ndarray:  # fmt: skip
    """What a plugin gave, on the host. A word in `shape` stands for any number from 1 on, "c" for 1 or 3.
    call: the arguments of the call, for the message. cause: where numbers that are not finite are to be looked for.

    Raises PluginError for another kind or shape, AnomalyError for numbers that are not finite.
    """
    got = result.shape if isinstance(result, Tensor) else ()
    if len(got) != len(shape) or not all(map(_fits, got, shape)):
        wanted = ", ".join("1 or 3" if part == "c" else str(part) for part in shape)
        given = got if isinstance(result, Tensor) else type(result).__name__
        raise PluginError(f"{owner}{call} must give a Tensor ({wanted}), got {given}", hint)
    host = result.numpy()
    if not np.isfinite(host).all():
        raise AnomalyError(f"{owner} gave numbers that are not finite", cause)
    return host


def _fits(side: int, wanted: int | str) -> bool:
    if wanted == "c":
        return side in (1, 3)
    return side >= 1 if isinstance(wanted, str) else side == wanted


def make_folder(path: Path) -> None:
    """Make a folder where there is none. Raises OutputError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made a folder: {error.strerror}", "choose another --out") from error
