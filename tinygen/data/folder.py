"""A folder of image files as a data set: `--data folder:PATH`.

    PATH/cat/*.jpg, PATH/dog/*.png      a folder a class, the classes in the order of their names
    PATH/*.jpg                          images without labels

A class's images may lie deeper in its folder. Hidden files and what has no suffix of an image are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tinygen import backend
from tinygen.data.dataset import DataRequest, Dataset, hash_of
from tinygen.data.files import image_size, open_image, resize_and_crop, to_array
from tinygen.errors import DataError
from tinygen.random import Stream

ENOUGH = 10  # images; fewer cannot be split in tenths
KEEP_BYTES = 2 << 30  # of decoded images, for each split
GIVE_PATH = "--data folder:PATH, the path of a folder of images or of class folders"


class FileImages:
    """Images read from their files when first asked for, and kept in memory as bytes up to KEEP_BYTES.

    paths: one file an image.
    shape: (c, h, w) that each image is brought to, c = 1 or 3. With `resize`, h = w and larger or smaller pictures
    are resized and cropped; without, they must have that size.
    classes: (n,) whole numbers, or None.
    """

    def __init__(
        self, paths: Sequence[Path], shape: tuple[int, int, int], classes: np.ndarray | None, resize: bool
    ) -> None:
        self._paths, self._shape, self._classes, self._resize = paths, shape, classes, resize
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def _read(self, index: int) -> np.ndarray:
        """(c, h, w) uint8. Raises DataError, naming the file, for one that is damaged or of another size."""
        if index in self._kept:
            return self._kept[index]
        channels, height, width = self._shape
        image = open_image(self._paths[index])
        if self._resize:
            image = resize_and_crop(image, height)
        if image.size != (width, height):
            raise _other_size(self._paths[index], image.size, (width, height))
        pixels = np.rint(to_array(image, channels) * 255).astype(np.uint8)
        if (len(self._kept) + 1) * pixels.nbytes <= KEEP_BYTES:
            self._kept[index] = pixels
        return pixels

    def images(self, indices: np.ndarray) -> np.ndarray:
        pixels = np.empty((len(indices), *self._shape), np.uint8)
        for place, index in enumerate(indices):
            pixels[place] = self._read(int(index))
        return pixels * np.float32(1 / 255)

    def labels(self, indices: np.ndarray) -> np.ndarray | None:
        return None if self._classes is None else self._classes[indices]

    def digest(self) -> str:
        """Of the files' names, sizes and labels."""
        return hash_of(*((path.name, path.stat().st_size) for path in self._paths), self._classes)


def folder(request: DataRequest) -> Dataset:
    """The images below `request.argument`: 80 % to train, 10 % to validate, 10 % to test, by one fixed shuffle.

    Fewer than ten images are all for training and there is no other split: a figure on training images would be no
    test. With `request.size` each image is resized and cropped to a square, without it all must have one size.
    Raises DataError, naming the folder or file, for what is missing, empty, ambiguous or of mixed sizes.
    """
    root = folder_of(request, "folder", GIVE_PATH)
    try:
        paths, labels, classes = list_images(root)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", "check its permissions") from error
    width, height = (request.size, request.size) if request.size else _common_size(paths)
    shape = (1 if request.grey else 3, height, width)
    splits = {}
    for name, indices in split_of(len(paths)).items():
        chosen = [paths[i] for i in indices]
        splits[name] = FileImages(chosen, shape, None if labels is None else labels[indices], bool(request.size))
    return Dataset(f"folder:{request.argument}", splits, shape, classes)


def folder_of(request: DataRequest, name: str, hint: str) -> Path:
    """The folder that `--data name:PATH` means. Raises DataError where none is named, or there is none."""
    if not request.argument:
        raise DataError(f"data {name}: which folder?", hint)
    root = Path(request.argument).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: {'is no folder' if root.exists() else 'there is no such folder'}", hint)
    return root


# ---------------------------------------------------------------- which files


def list_images(root: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...]]:
    """The image files, their labels and the classes' names; without class folders no labels and no classes."""
    flat = [path for path in visible(root) if is_image(path)]
    by_class = {path.name: _images_below(path) for path in visible(root) if path.is_dir()}
    if flat and any(by_class.values()):
        mixed = next(name for name, paths in by_class.items() if paths)
        raise DataError(
            f"{root}: holds images and folders of images ({flat[0].name}, {mixed}/)",
            "put all images into class folders, or none",
        )
    if flat:
        return flat, None, ()
    if not any(by_class.values()):
        raise DataError(f"{root}: there are no images in it", GIVE_PATH)
    for name, paths in by_class.items():
        if not paths:
            raise DataError(f"{root / name}: class folder without images", "put images into it or remove it")
    paths = [path for class_paths in by_class.values() for path in class_paths]
    labels = np.repeat(np.arange(len(by_class)), [len(class_paths) for class_paths in by_class.values()])
    return paths, labels, tuple(by_class)


def visible(directory: Path) -> list[Path]:
    """The entries of a folder that are not hidden, in the order of their names."""
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def _images_below(directory: Path) -> list[Path]:
    """The image files of a folder and of the folders in it, in a fixed order. Links to folders are not followed."""
    found: list[Path] = []
    for path in visible(directory):
        if is_image(path):
            found.append(path)
        elif path.is_dir() and not path.is_symlink():
            found += _images_below(path)
    return found


def is_image(path: Path) -> bool:
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN and path.is_file()


def _common_size(paths: Sequence[Path]) -> tuple[int, int]:
    """The (width, height) that all images have; read from all of them now, so that no run stops half-way."""
    first = image_size(paths[0])
    for path in paths[1:]:
        if (size := image_size(path)) != first:
            raise _other_size(path, size, first)
    return first


def _other_size(path: Path, size: tuple[int, int], expected: tuple[int, int]) -> DataError:
    return DataError(
        f"{path}: is {size[0]} × {size[1]} pixels, the images before it {expected[0]} × {expected[1]}",
        "use --image-size N to bring all images to N × N",
    )


def split_of(n: int) -> dict[str, np.ndarray]:
    """The indices of each split; the shuffle depends on nothing but n."""
    if n < ENOUGH:
        return {"train": np.arange(n)}
    order = Stream(0, "folder split", backend.NUMPY).permutation(n)
    tenth = n // 10
    return {"train": order[2 * tenth :], "valid": order[:tenth], "test": order[tenth : 2 * tenth]}
