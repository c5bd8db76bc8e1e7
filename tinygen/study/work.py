"""An algorithm at work on something small, so that its shapes and its tape can be seen.

Batches hold two images; everything else is as its Config has it by default, so that the shapes are the real ones.
What takes too long is left, what cannot be done here is noted: a page is worth having without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen import plot
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.data import Batches, Dataset
from tinygen.data.dataset import ImageSet
from tinygen.errors import PluginError, TinygenError, UsageError
from tinygen.host import AlgorithmSpec, Animator, Composer, Evaluable, Repairer, Sampler, Stylizer, Trainable
from tinygen.random import Stream
from tinygen.run.loop import DEFAULT_BATCH
from tinygen.study.trace import Seen, watch

BATCH = 2
FIRST = 4000  # training images that there are; of others, a third
STEP_SECONDS, ALONE_SECONDS, VERB_SECONDS = 6.0, 1.5, 0.3  # of computing: a training step; a verb without; a verb after


def small_config(kind: Any) -> Any:
    """A Config as it is by default, but for batches of two."""
    if any(field.name == "batch_size" for field in dataclasses.fields(kind)):
        try:
            return kind(batch_size=BATCH)
        except TinygenError:  # it needs more
            pass
    return kind()


def at_work(
    spec: AlgorithmSpec,
    factory: Callable[..., Any],
    config: Any,
    files: Sequence[str],
    data_named: Callable[[str], Dataset],
    verbs: bool = True,
) -> Seen:
    """What is seen in the code of `files` while an algorithm takes one training step, and does what its verbs say.

    data_named: the data set of a name, which may raise DataError. verbs: False for the training step alone.
    """
    seen = Seen()
    try:
        data = first_of(data_named(spec.data)) if "train" in spec.verbs else None
        algorithm = factory(config, data and data.spec, Stream(0, spec.name).child("algorithm"))
    except Exception as error:
        seen.remarks.append(f"{spec.name} could not be built: {_said(error)}")
        return seen
    tasks: list[tuple[str, Callable]] = []
    if isinstance(algorithm, Trainable) and data:
        tasks.append(("train", lambda: train_once(algorithm, config, data)))
    if verbs or not tasks:
        tasks += _tasks(algorithm, data, data_named)
    other = VERB_SECONDS if data else ALONE_SECONDS
    for verb, task in tasks:
        try:
            with watch(files, algorithm, STEP_SECONDS if verb == "train" else other, seen):
                task()
        except Exception as error:
            seen.remarks.append(f"{verb}: {_said(error)}")
    return seen


def _said(error: Exception) -> str:
    return getattr(error, "message", None) or str(error) or type(error).__name__


def first_of(data: Dataset) -> Dataset:
    """A data set cut short: what looks at all of it once is soon done."""
    splits = {name: _First(images, FIRST if name == "train" else FIRST // 3) for name, images in data.splits.items()}
    return dataclasses.replace(data, splits=splits)


class _First:
    """The first images of a split."""

    def __init__(self, images: ImageSet, count: int) -> None:
        self.of, self.count = images, count

    def __len__(self) -> int:
        return min(self.count, len(self.of))

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.of.images(indices)

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return self.of.labels(indices)


def train_once(algorithm: Trainable, config: Any, data: Dataset) -> None:
    """The first training step, on the first batch."""
    size = getattr(config, "batch_size", DEFAULT_BATCH)
    first_step(algorithm.fit(Batches(data.split("train"), size, Stream(0, "batches"))))


def first_step(fit: Iterator[Any]) -> None:
    """The first step of a `fit`. Raises PluginError for one that has none."""
    if next(fit, None) is None:
        raise PluginError("fit ended before its first step", "let it go on for ever: `while True:`")


def _tasks(algorithm: Any, data: Dataset | None, data_named: Callable[[str], Dataset]) -> list[tuple[str, Callable]]:
    """What the algorithm's verbs do, on pictures that are at hand."""
    random = Stream(0, "study")
    tasks: list[tuple[str, Callable]] = []
    if isinstance(algorithm, Sampler):
        n = BATCH if data is not None else 1
        tasks.append(("sample", lambda: _quietly(lambda: algorithm.sample(n, random.child("sample")))))
    if isinstance(algorithm, Animator):
        tasks.append(("animate", lambda: _quietly(lambda: algorithm.animate(12, 1, random.child("animate")))))
    if isinstance(algorithm, Repairer):
        image = _first_image(data) if data is not None and not data.frames else _picture(data_named)[:, :64, :64]
        tasks.append(("repair", lambda: _repair(algorithm, image, random.child("repair"))))
    if isinstance(algorithm, Composer):
        tasks.append(("compose", lambda: _compose(algorithm, _picture(data_named), random.child("compose"))))
    if isinstance(algorithm, Stylizer):
        tasks.append(("stylize", lambda: _stylize(algorithm, _picture(data_named))))
    if isinstance(algorithm, Evaluable) and data is not None:
        tasks.append(("evaluate", lambda: algorithm.evaluate(data, random.child("evaluate"))))
    return tasks


def _quietly(task: Callable[[], Any]) -> None:
    """Without a tape, as the host calls it."""
    with no_grad():
        task()


def _repair(algorithm: Repairer, image: np.ndarray, random: Stream) -> None:
    h, w = image.shape[1:]
    mask = np.zeros((h, w), np.float32)
    mask[h // 3 : 2 * h // 3, w // 3 : 2 * w // 3] = 1
    try:
        algorithm.repair(tensor(image), tensor(mask), random)
    except TinygenError:  # one that takes the noise out
        algorithm.repair(tensor(image), None, random)


def _compose(algorithm: Composer, picture: np.ndarray, random: Stream) -> None:
    """Of two parts that overlap, with a mask or without, or of one picture: whichever the algorithm takes."""
    side = picture.shape[2] // 3
    parts = [tensor(picture[:, :, start : start + 2 * side].copy()) for start in (0, side)]
    mask = tensor((np.indices(parts[0].shape[1:])[1] < side).astype(np.float32))
    refused = None
    for images, where in ((parts, None), (parts, mask), (parts[:1], None)):
        try:
            algorithm.compose(images, where, random)
            return
        except TinygenError as error:
            refused = refused or error
    raise refused or UsageError("takes no pictures")


def _stylize(algorithm: Stylizer, picture: np.ndarray) -> None:
    side = min(64, *picture.shape[1:])
    content = tensor(np.repeat(picture[:1, :side, :side], 3, axis=0))
    next(algorithm.stylize(content, [_turned(content)]))


def _turned(image: Tensor) -> Tensor:
    return tensor(image.numpy().transpose(0, 2, 1).copy())


def _first_image(data: Dataset) -> np.ndarray:
    return data.arrays("test", 1)[0][0]


def _picture(data_named: Callable[[str], Dataset]) -> np.ndarray:
    """A picture (1, h, w) with corners everywhere: characters side by side."""
    return plot.grid(data_named("glyphs").arrays("test", 64)[0], scale=1)
