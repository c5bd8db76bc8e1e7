"""The pictures of a run: what an algorithm has learnt so far, as a grid of samples or as films side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinygen import plot
from tinygen.autograd import Tensor, no_grad
from tinygen.errors import AnomalyError, PluginError
from tinygen.host import Animator, Sampler
from tinygen.random import Stream

FRAMES, FILMS_OF_16 = 20, 4  # frames of a film; and films where there would be 16 images


def save_pictures(stem: Path, algorithm: Any, n: int, random: Stream) -> None:
    """Write stem.png, n samples, or stem.gif, a quarter as many films; nothing for an algorithm that makes neither."""
    if isinstance(algorithm, Sampler):
        plot.save_grid(stem.with_suffix(".png"), draw(algorithm, n, random))
    elif isinstance(algorithm, Animator):
        films = draw_films(algorithm, FRAMES, n * FILMS_OF_16 // 16, random)
        plot.save_film(stem.with_suffix(".gif"), films)


def draw(algorithm: Sampler, n: int, random: Stream) -> np.ndarray:
    """n sampled images (n, c, h, w) on the host. Raises PluginError for a result of another shape or kind."""
    with no_grad():
        images = algorithm.sample(n, random)
    return _on_host(f"{type(algorithm).__name__}: sample", f"({n})", images, (n,), "return images")


def draw_films(algorithm: Animator, frames: int, n: int, random: Stream) -> np.ndarray:
    """n films (n, t, c, h, w) on the host. Raises PluginError for a result of another shape or kind."""
    with no_grad():
        films = algorithm.animate(frames, n, random)
    return _on_host(f"{type(algorithm).__name__}: animate", f"({frames}, {n})", films, (n, frames), "return films")


def _on_host(owner: str, call: str, pictures: Any, first: tuple[int, ...], hint: str) -> np.ndarray:
    """Tensors (*first, c, h, w), c = 1 or 3, as an array."""
    got = pictures.shape if isinstance(pictures, Tensor) else type(pictures).__name__
    fits = isinstance(got, tuple) and got[: len(first)] == first and len(got) == len(first) + 3
    if not fits or got[-3] not in (1, 3):
        wanted = ", ".join(map(str, first))
        raise PluginError(f"{owner}{call} must give a Tensor ({wanted}, 1 or 3, h, w), got {got}", hint)
    host = pictures.numpy()
    if not np.isfinite(host).all():
        raise AnomalyError(f"{owner} gave numbers that are not finite", "look at the figures in metrics.jsonl")
    return host
