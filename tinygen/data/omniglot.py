"""Omniglot: characters of many alphabets, twenty drawings of each, for learning a class from one example.

    --data omniglot               the two small background sets: train on six alphabets, test on two others
    --data omniglot:all           every character of the small sets to train on, and no test
    --data omniglot:background    train on the 964 background characters, test on the 659 evaluation characters
    --data omniglot:vinyals       the split of Vinyals et al. 2016: train on 1,200 characters, test on 423
    --data omniglot-runs          the twenty runs of 20-way one-shot classification that people were tested with

No class of a training split is in the test split. Images are grey, the mean of the ink over each pixel's area, light
on black as in MNIST. Characters turned by 90°, 180° and 270° are training classes of their own, as is usual; test
classes are not turned, but for Vinyals' split, whose file has them turned.

The zip files are read as they are. Sources: Lake, Salakhutdinov and Tenenbaum, "Human-level concept learning through
probabilistic program induction", Science 350, 2015; https://github.com/brendenlake/omniglot.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tinygen.autograd import tensor
from tinygen.backend import current
from tinygen.data.dataset import ArrayImages, DataRequest, Dataset
from tinygen.data.episodes import Episode
from tinygen.data.find import find
from tinygen.errors import DataError, did_you_mean

FOLDER = "omniglot"
SMALL_FILES = ("images_background_small1.zip", "images_background_small2.zip")
FULL_FILES = ("images_background.zip", "images_evaluation.zip")
RUNS_FILE = "all_runs.zip"
UNSEEN = ("Japanese_(katakana)", "Korean")  # alphabets of the small sets that are kept for the test

SIDE, FULL_SIDE = 28, 105  # pixels: of the images, and of the drawings in the files
RUNS, WAY = 20, 20  # runs, and characters in each
DRAWING = re.compile(r"(?:[^/]+/)?([^/]+/character\d+)/(\d+_\d+\.png)")  # …/Greek/character03/0394_05.png
TURNED = re.compile(r"([^/]+/character\d+)/rot(000|090|180|270)")  # a line of Vinyals' split

Class = tuple[str, int]  # a character, "Greek/character03", and by how many quarters it is turned to the left

_COPY_AGAIN = "copy or download the file again"
_SOURCE = "take it from https://github.com/brendenlake/omniglot, python/"


def omniglot(request: DataRequest) -> Dataset:
    """Drawn characters, 28 × 28 or as requested; the classes are characters and ways of turning them.

    request.argument: "" for the small sets, "all", "background" or "vinyals" as the module tells.
    Raises DataError, naming the file, for one that is missing, damaged, or holds something else.
    """
    if request.argument in ("", "all"):
        drawings = read_characters(SMALL_FILES, request)
        unseen = [name for name in drawings if not request.argument and name.partition("/")[0] in UNSEEN]
        if not unseen and not request.argument:
            raise DataError(
                f"data omniglot: {' and '.join(SMALL_FILES)} hold no characters of {' and '.join(UNSEEN)}", _SOURCE
            )
        return _dataset(request, drawings, _in_all_turns(name for name in drawings if name not in unseen), unseen)
    if request.argument == "background":
        drawings = read_characters(FULL_FILES[:1], request)
        unseen_drawings = read_characters(FULL_FILES[1:], request)
        return _dataset(request, {**drawings, **unseen_drawings}, _in_all_turns(drawings), list(unseen_drawings))
    if request.argument == "vinyals":
        train, test = (read_split(_find(f"splits_vinyals/{name}.txt", request)) for name in ("trainval", "test"))
        return _dataset(request, read_characters(FULL_FILES, request), train, test)
    known = ["all", "background", "vinyals"]
    raise DataError(f"data omniglot: there is no {request.argument}", did_you_mean(request.argument, known))


def omniglot_runs(request: DataRequest) -> Dataset:
    """The twenty runs: `test` is a `Runs`; `train` holds the one example of each character, too few to train on.

    Raises DataError, naming the file, for one that is missing, damaged, or holds something else.
    """
    side = request.size or SIDE
    runs = Runs(*read_runs(_find(RUNS_FILE, request)), side)
    return Dataset("omniglot-runs", {"train": runs.examples, "test": runs}, (1, side, side), runs.names)


class Runs(ArrayImages):
    """The test drawings of the runs, all in one row, each labelled with the character of its run.

    support, query: (r, n, 105, 105) of booleans, True where there is ink. answers: (r, n), which of the run's n
    examples each query shows. side: of the images.
    """

    def __init__(self, support: np.ndarray, query: np.ndarray, answers: np.ndarray, side: int) -> None:
        runs, way = answers.shape
        self.way, self._full = way, (support, query, answers)
        self.names = tuple(f"run{run + 1:02d}/class{place + 1:02d}" for run in range(runs) for place in range(way))
        self.examples = ArrayImages(_shrink_all(support, side), np.arange(runs * way))
        super().__init__(_shrink_all(query, side), (answers + way * np.arange(runs)[:, None]).reshape(-1))

    def resized(self, side: int) -> Runs:
        """The same runs in images of another side; 105 is that of the files."""
        return Runs(*self._full, side)

    def episodes(self) -> list[Episode]:
        """The runs as episodes, in their order."""
        return [self._episode(np.arange(start, start + self.way)) for start in range(0, len(self), self.way)]

    def _episode(self, places: np.ndarray) -> Episode:
        place_on = current().from_host
        (support, support_labels), (query, query_labels) = (
            (tensor(place_on(part.images(places))), tensor(place_on(part.labels(places) - places[0])))
            for part in (self.examples, self)
        )
        return Episode(support, support_labels, query, query_labels, tuple(places.tolist()))


def _dataset(
    request: DataRequest, drawings: Mapping[str, np.ndarray], train: list[Class], test: list[Class] | list[str]
) -> Dataset:
    """The data set whose classes are first those of `train` and then those of `test`."""
    chosen = {"train": train, "test": [(each, 0) if isinstance(each, str) else each for each in test]}
    splits: dict[str, ArrayImages] = {}
    names: list[str] = []
    for split, classes in chosen.items():
        lacking = next((name for name, _ in classes if name not in drawings), None)
        if lacking is not None:
            raise DataError(f"data omniglot: {lacking} is in none of {', '.join(FULL_FILES)}", _SOURCE)
        if classes:
            pixels = [np.rot90(drawings[name], turns, (1, 2)) for name, turns in classes]  # (20, h, w) each
            labels = np.repeat(np.arange(len(names), len(names) + len(classes)), [len(each) for each in pixels])
            splits[split] = ArrayImages(np.concatenate(pixels)[:, None], labels)
        names += [f"{name}/rot{90 * turns:03d}" if turns else name for name, turns in classes]
    side = request.size or SIDE
    full_name = f"omniglot:{request.argument}" if request.argument else "omniglot"
    return Dataset(full_name, splits, (1, side, side), tuple(names))


def _in_all_turns(names: Iterable[str]) -> list[Class]:
    return [(name, turns) for name in names for turns in range(4)]


def _shrink_all(ink: np.ndarray, side: int) -> np.ndarray:
    """(…, 105, 105) booleans to pixels (n, 1, side, side)."""
    return np.stack([_shrink(drawing, side) for drawing in ink.reshape(-1, FULL_SIDE, FULL_SIDE)])[:, None]


def _shrink(ink: np.ndarray, side: int) -> np.ndarray:
    """The share of each pixel's area that is ink: (105, 105) booleans to (side, side) uint8."""
    overlap = _overlap(side)
    return np.rint(255 * (overlap @ ink.astype(np.float32) @ overlap.T)).astype(np.uint8)


@functools.cache
def _overlap(side: int) -> np.ndarray:
    """(side, 105): the part of each of `side` equal intervals that lies in each of 105; each row sums to 1."""
    edges, full = np.arange(side + 1) / side, np.arange(FULL_SIDE + 1) / FULL_SIDE
    reach = np.minimum(edges[1:, None], full[1:]) - np.maximum(edges[:-1, None], full[:-1])
    return (np.maximum(reach, 0) * side).astype(np.float32)


# ---------------------------------------------------------------- files


def _find(file: str, request: DataRequest) -> Path:
    return find(FOLDER, file, request.folders)


def read_characters(files: Iterable[str], request: DataRequest) -> dict[str, np.ndarray]:
    """The drawings of each character, (20, side, side) uint8, in the order of the characters' names.

    A character that is in several of the files has each of its drawings once.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for file in files:
        path = _find(file, request)
        with _opened(path) as archive:
            matches = [match for name in archive.names if (match := DRAWING.fullmatch(name))]
            if not matches:
                raise _wrong_zip(path, "Greek/character01/0394_01.png")
            for match in matches:
                found.setdefault(match[1], {})[match[2]] = _shrink(archive.ink(match[0]), request.size or SIDE)
    return {name: np.stack([each[file] for file in sorted(each)]) for name, each in sorted(found.items())}


def read_split(path: Path) -> list[Class]:
    """The classes in a file of Vinyals' split: lines such as Greek/character03/rot090."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", _COPY_AGAIN) from error
    matches = [TURNED.fullmatch(line) for line in lines]
    wrong = next((line for line, match in zip(lines, matches) if match is None), None)
    if wrong is not None or not lines:
        raise DataError(
            f"{path}: expected lines such as Greek/character03/rot090, got {wrong or 'none'!r:.60}", _COPY_AGAIN
        )
    return [(match[1], int(match[2]) // 90) for match in matches if match is not None]


def read_runs(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(support, query, answers) of all_runs.zip, as `Runs` takes them."""
    numbers, runs = range(1, WAY + 1), [f"run{run:02d}" for run in range(1, RUNS + 1)]
    items = [
        [[f"{run}/{part}{i:02d}.png" for i in numbers] for run in runs] for part in ("training/class", "test/item")
    ]
    labels = [f"{run}/class_labels.txt" for run in runs]
    with _opened(path) as archive:
        expected = {*labels, *np.ravel(items).tolist()}
        if lacking := sorted(expected - set(archive.names)):
            raise _wrong_zip(path, lacking[0])
        support, query = (np.array([[archive.ink(name) for name in run] for run in part]) for part in items)
        answers = np.array([_answers(path, name, archive.text(name)) for name in labels])
    return support, query, answers


def _answers(path: Path, name: str, text: str) -> list[int]:
    """Which example each test item shows, from lines such as run01/test/item01.png run01/training/class08.png."""
    pairs = re.findall(r"^run\d\d/test/item(\d\d)\.png run\d\d/training/class(\d\d)\.png\s*$", text, re.MULTILINE)
    answers = {int(item): int(example) - 1 for item, example in pairs}
    if sorted(answers) != list(range(1, WAY + 1)) or sorted(answers.values()) != list(range(WAY)):
        raise DataError(f"{path}: {name} does not pair each test item with one example", _COPY_AGAIN)
    return [answers[item] for item in sorted(answers)]


class _Archive:
    """What is read from an open zip file."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self._path, self._file, self.names = path, file, file.namelist()

    def text(self, name: str) -> str:
        return self._file.read(name).decode("utf-8", "replace")

    def ink(self, name: str) -> np.ndarray:
        """A drawing, (105, 105) booleans: True where it is dark."""
        with Image.open(io.BytesIO(self._file.read(name))) as image:
            if image.size != (FULL_SIDE, FULL_SIDE):
                size = f"{image.width} × {image.height}"
                raise DataError(f"{self._path}: {name} is {size} pixels, expected {FULL_SIDE} × {FULL_SIDE}", _SOURCE)
            return np.asarray(image.convert("L")) < 128


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Archive]:
    """A zip file to read from; whatever goes wrong with it in the block becomes a DataError."""
    try:
        with zipfile.ZipFile(path) as file:
            yield _Archive(path, file)
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "check its permissions") from error
    except Exception as error:  # what is damaged makes zipfile, zlib and Pillow raise some ten kinds
        said = str(error).split("\n")[0]
        raise DataError(f"{path}: damaged or truncated zip file: {said}", _COPY_AGAIN) from error


def _wrong_zip(path: Path, member: str) -> DataError:
    return DataError(f"{path}: another zip file than it should be: it holds no {member}", _SOURCE)
