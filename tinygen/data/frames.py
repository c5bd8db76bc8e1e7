"""Films as a data set of clips: `--data frames:PATH`.

    PATH/0001.png, PATH/0002.png, …     one film, its frames in the order of their numbers
    PATH/cat/1.png …, PATH/dog/1.png …  a folder a film
    PATH/a.gif, PATH/b.gif              a file a film: animated GIF, WebP or PNG

Each stretch of CLIP_FRAMES frames of a film is a clip; where the shortest film has fewer, clips are as long as that.
Hidden files and what has no suffix of an image are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tinygen.data.dataset import DataRequest, Dataset, hash_of
from tinygen.data.files import frame_count, image_size, open_frames, open_image, resize_and_crop, to_array
from tinygen.data.folder import folder_of, is_image, split_of, visible
from tinygen.errors import DataError

CLIP_FRAMES = 20  # in a clip, at most
KEEP_BYTES = 2 << 30  # of decoded frames, for each split
_GIVE_PATH = "--data frames:PATH, the path of a folder of numbered frames, of such folders, or of GIFs"

Film = tuple[Path, ...]  # a file for each frame, or one file of several frames


class FilmClips:
    """The clips (t, c, h, w) of films, which are read when first asked for and kept as bytes up to KEEP_BYTES.

    films: each (Film, its number of frames, at least t).
    shape: (t, c, h, w) of the clips, c = 1 or 3. With `resize`, h = w, and frames are resized and cropped; without,
    they must have that size.
    """

    def __init__(self, films: Sequence[tuple[Film, int]], shape: tuple[int, int, int, int], resize: bool) -> None:
        self._films, self._shape, self._resize = films, shape, resize
        self._ends = np.cumsum([frames - shape[0] + 1 for _, frames in films])  # clips up to the end of each film
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _film(self, number: int) -> np.ndarray:
        """All frames of a film, (frames, c, h, w) uint8. Raises DataError for a damaged one, or one of another size."""
        if number in self._kept:
            return self._kept[number]
        film, frames = self._films[number]
        pixels = np.stack([self._pixels(picture, film[0]) for picture in _pictures(film)])
        if len(pixels) != frames:
            raise DataError(f"{film[0]}: has {len(pixels)} frames, {frames} before", "leave the files alone meanwhile")
        if sum(kept.nbytes for kept in self._kept.values()) + pixels.nbytes <= KEEP_BYTES:
            self._kept[number] = pixels
        return pixels

    def _pixels(self, picture: Image.Image, path: Path) -> np.ndarray:
        _, channels, height, width = self._shape
        if self._resize:
            picture = resize_and_crop(picture, height)
        if picture.size != (width, height):
            raise _other_size(path, picture.size, (width, height))
        return np.rint(to_array(picture, channels) * 255).astype(np.uint8)

    def images(self, indices: np.ndarray) -> np.ndarray:
        clips = np.empty((len(indices), *self._shape), np.uint8)
        for place, index in enumerate(indices):
            number = int(np.searchsorted(self._ends, index, side="right"))
            film = self._film(number)
            first = len(film) - self._shape[0] + 1 - int(self._ends[number] - index)
            clips[place] = film[first : first + self._shape[0]]
        return clips * np.float32(1 / 255)

    def labels(self, indices: np.ndarray) -> None:
        return None

    def digest(self) -> str:
        """Of the files' names and sizes."""
        return hash_of(*((path.name, path.stat().st_size) for film, _ in self._films for path in film))


def frames(request: DataRequest) -> Dataset:
    """Clips of the films below `request.argument`: of ten or more films 80 % train, 10 % validate and 10 % test.

    Fewer than ten films are all for training. With `request.size` each frame is resized and cropped to a square,
    without it all must have one size.
    Raises DataError, naming the folder or file, for what is missing, empty, too short or of mixed sizes.
    """
    root = folder_of(request, "frames", _GIVE_PATH)
    try:
        films = [(film, *_look_at(film, bool(request.size))) for film in _list_films(root)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", "check its permissions") from error
    (_, _, size), *others = films
    for film, _, other in others:
        if not request.size and other != size:
            raise _other_size(film[0], other, size)
    width, height = (request.size, request.size) if request.size else size
    length = min(CLIP_FRAMES, *(count for _, count, _ in films))
    shape = (length, 1 if request.grey else 3, height, width)
    splits = {
        name: FilmClips([films[i][:2] for i in chosen], shape, bool(request.size))
        for name, chosen in split_of(len(films)).items()
    }
    return Dataset(f"frames:{request.argument}", splits, shape[1:], frames=length)


# ---------------------------------------------------------------- which files


def _list_films(root: Path) -> list[Film]:
    """The films of a folder."""
    flat = [path for path in visible(root) if is_image(path)]
    films = [film for path in visible(root) if path.is_dir() and (film := _numbered(path))]
    if flat and films:
        raise DataError(
            f"{root}: holds frames and folders of frames ({flat[0].name}, {films[0][0].parent.name}/)",
            "put each film into a folder of its own",
        )
    if not flat and not films:
        raise DataError(f"{root}: there are no frames in it", _GIVE_PATH)
    if not flat:
        return films
    moving = [path for path in flat if frame_count(path) > 1]
    if moving and len(moving) < len(flat):
        still = next(path for path in flat if path not in moving)
        raise DataError(
            f"{root}: holds films and single frames ({moving[0].name}, {still.name})", "keep them in two folders"
        )
    return [(path,) for path in flat] if moving else [_numbered(root)]


def _numbered(directory: Path) -> Film:
    """The pictures of a folder, 2.png before 10.png."""

    def by_number(path: Path) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]

    return tuple(sorted((path for path in visible(directory) if is_image(path)), key=by_number))


def _look_at(film: Film, any_size: bool) -> tuple[int, tuple[int, int]]:
    """How many frames a film has, and their (width, height); read now, so that no run stops half-way."""
    frames, size = len(film), image_size(film[0])
    if frames == 1:
        frames = frame_count(film[0])
    if frames < 2:
        raise DataError(f"{film[0]}: is a film of one frame", "a film needs two frames or more")
    for path in film[1:]:
        if not any_size and (other := image_size(path)) != size:
            raise _other_size(path, other, size)
    return frames, size


def _pictures(film: Film) -> list[Image.Image]:
    """The frames of a film, in order."""
    return open_frames(film[0]) if len(film) == 1 else [open_image(path) for path in film]


def _other_size(path: Path, size: tuple[int, int], expected: tuple[int, int]) -> DataError:
    return DataError(
        f"{path}: is {size[0]} × {size[1]} pixels, the frames before it {expected[0]} × {expected[1]}",
        "use --image-size N to bring all frames to N × N",
    )
