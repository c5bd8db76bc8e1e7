"""What the core itself contributes: its data sets, by the same hook as any plugin."""

from __future__ import annotations

from tinygen.host.contract import DatasetSpec, Source
from tinygen.host.hookspecs import hookimpl

FOUR_IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

# The sums of FOUR_IDX_FILES, in their order.
MNIST_SUMS = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_SUMS = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python/"


def _idx_sources(sums: tuple[str, ...], *folders: str) -> tuple[Source, ...]:
    """FOUR_IDX_FILES with their sums, each in any of the folders of the net."""
    return tuple(
        Source(file=file, urls=tuple(f"{folder}{file}" for folder in folders), sha256=sha256)
        for file, sha256 in zip(FOUR_IDX_FILES, sums)
    )


MNIST = _idx_sources(
    MNIST_SUMS, "https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"
)
FASHION = _idx_sources(FASHION_SUMS, "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")


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
            sources=MNIST,
        ),
        DatasetSpec(
            name="fashion-mnist",
            summary="grey 28×28 pictures of clothes, 10 classes",
            factory="tinygen.data.idx:fashion_mnist",
            folder="fashion_mnist",
            files=FOUR_IDX_FILES,
            sources=FASHION,
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
            name="omniglot",
            summary="grey 28×28 handwritten characters of many alphabets, those of the test in no other split",
            factory="tinygen.data.omniglot:omniglot",
            argument="all|background|vinyals?",
            folder="omniglot",
            files=("images_background_small1.zip", "images_background_small2.zip"),
            sources=(
                Source(
                    file="images_background_small1.zip",
                    urls=(f"{OMNIGLOT}images_background_small1.zip",),
                    sha256="f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
                ),
                Source(
                    file="images_background_small2.zip",
                    urls=(f"{OMNIGLOT}images_background_small2.zip",),
                    sha256="3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
                ),
            ),
        ),
        DatasetSpec(
            name="omniglot-runs",
            summary="the twenty runs of 20-way one-shot classification that people were tested with",
            factory="tinygen.data.omniglot:omniglot_runs",
            folder="omniglot",
            files=("all_runs.zip",),
            sources=(
                Source(
                    file="all_runs.zip",
                    urls=(f"{OMNIGLOT}one-shot-classification/all_runs.zip",),
                    sha256="437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
                ),
            ),
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
            sources=MNIST,
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
