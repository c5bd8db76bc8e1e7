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
            name="binarized-mnist",
            summary="black and white 28×28 handwritten digits: the published bits, or drawn in each epoch anew",
            factory="tinygen.data.binarized:binarized_mnist",
            argument="dynamic?",
            folder="binarized_mnist",
            files=("binarized_mnist.npz",),
        ),
        DatasetSpec(
            name="folder",
            summary="the images in a folder, its subfolders as classes",
            factory="tinygen.data.folder:folder",
            argument="PATH",
        ),
        DatasetSpec(
            name="patches",
            summary="crops of the full-size pictures in a folder, 48×48 or --image-size N",
            factory="tinygen.data.patches:patches",
            argument="PATH",
        ),
        DatasetSpec(
            name="moving-mnist",
            summary="clips of 20 frames 64×64 in which two handwritten digits bounce about, or as many as told",
            factory="tinygen.data.moving:moving_mnist",
            argument="DIGITS?",
            folder="mnist",
            files=FOUR_IDX_FILES,
        ),
        DatasetSpec(
            name="moving-glyphs",
            summary="the same with digits drawn from fonts",
            factory="tinygen.data.moving:moving_glyphs",
            argument="DIGITS?",
        ),
        DatasetSpec(
            name="frames",
            summary="clips of the films in a folder: numbered frames, folders of them, or GIFs",
            factory="tinygen.data.frames:frames",
            argument="PATH",
        ),
    ]
