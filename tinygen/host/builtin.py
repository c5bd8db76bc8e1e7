"""What the core itself contributes: its data sets, by the same hook as any plugin."""

from __future__ import annotations

from tinygen.host.contract import DatasetSpec
from tinygen.host.hookspecs import hookimpl

FOUR_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@hookimpl
def tinygen_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="glyphs",
            summary="grey 28×28 characters drawn from fonts: digits, or letters, all, or the CHARACTERS given",
            factory="tinygen.data.glyphs:glyphs",
            argument="CHARACTERS?",
        ),
        DatasetSpec(
            name="mnist",
            summary="grey 28×28 handwritten digits, 10 classes",
            factory="tinygen.data.idx:mnist",
            folder="mnist",
            files=FOUR_IDX_FILES,
        ),
        DatasetSpec(
            name="fashion-mnist",
            summary="grey 28×28 pictures of clothes, 10 classes",
            factory="tinygen.data.idx:fashion_mnist",
            folder="fashion_mnist",
            files=FOUR_IDX_FILES,
        ),
        DatasetSpec(
            name="folder",
            summary="the images in a folder, its subfolders as classes",
            factory="tinygen.data.folder:folder",
            argument="PATH",
        ),
    ]
