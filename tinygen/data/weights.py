"""Files of trained weights: arrays by name, out of NumPy's .npz or out of safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from tinygen.data.find import find
from tinygen.errors import DataError

FORMATS = (".npz", ".safetensors")


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; nothing is ever unpickled.

    Raises DataError, naming the file, if it is missing, damaged or of another format.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: weights are read from .npz and .safetensors", "convert the file to one of them")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file", "name a file of weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.numpy.load_file(path)
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(
                    f"{path}: holds one array without a name, an .npy", "weights are arrays by name: np.savez"
                )
            return {key: file[key] for key in file.files}
    except DataError:
        raise
    except Exception as error:  # a damaged file shows in errors of any type
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as weights: {message}", "copy the file again") from error


def find_weights(name: str) -> Path | None:
    """NAME/NAME_imagenet.npz or .safetensors in the first data folder that has it; None where none has."""
    for suffix in FORMATS:
        try:
            return find(name, f"{name}_imagenet{suffix}")
        except DataError:
            continue
    return None
