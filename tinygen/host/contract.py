"""What a plugin promises: the spec that names an algorithm, and the capabilities that its class inherits.

This file imports neither an array library nor an algorithm, so that `tinygen list` answers at once. An algorithm is a
class built as `factory(config, data, random)`: its options, what it may know of the data (None where it needs none),
and a random stream of its own. Each capability below is one abstract method and one verb of the command line.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from tinygen.errors import PluginError

if TYPE_CHECKING:
    from tinygen.autograd import Tensor
    from tinygen.data import Batches, Dataset, Support
    from tinygen.random import Stream

API = "1"
NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _require(condition: bool, owner: str, what: str, got: object, hint: str) -> None:
    if not condition:
        raise PluginError(f"{owner}: {what}, got {got!r}", hint)


def _require_texts(spec: Any, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(spec, name)
        _require(
            isinstance(value, str) and value.strip() == value and "\n" not in value and value != "",
            type(spec).__name__, f"{name} must be one line of text", value, f'write {name}="…"',
        )  # fmt: skip


def _require_reference(spec: Any, name: str) -> None:
    value = getattr(spec, name)
    _require(
        isinstance(value, str) and REFERENCE.fullmatch(value) is not None,
        type(spec).__name__, f"{name} must be a reference 'module:name'", value,
        'for instance "my_plugin:Model"; the string keeps listing free of imports',
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What `tinygen check` must know of an algorithm."""

    small: Mapping[str, Any] = field(default_factory=dict)  # options under which a training step takes a moment
    expected: Mapping[str, str] = field(default_factory=dict)  # checks that it fails on purpose, by id: the reason
    data: str = ""  # what it is checked on, where not on AlgorithmSpec.data

    def __post_init__(self) -> None:
        for name, reason in self.expected.items():
            _require(
                isinstance(reason, str) and reason.strip() != "", "Checks", f"expected {name} needs a reason", reason,
                "tell why the plugin fails this check on purpose",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSpec:
    """One algorithm of a plugin, told without importing it."""

    name: str  # what the command line calls it: "gan"
    family: str  # the shelf it stands on: "adversarial"
    summary: str  # one line
    factory: str  # "tinygen_plugins.adversarial.gan:GAN"
    config: str  # "tinygen_plugins.adversarial.gan:Config", a frozen dataclass with a default for each field
    verbs: tuple[str, ...]  # ("train", "sample", "evaluate")
    papers: tuple[str, ...] = ()  # "Goodfellow et al., Generative Adversarial Nets, 2014, arXiv:1406.2661"
    untrained: bool = False  # for one that can be trained: its other verbs also do without
    data: str = "glyphs"  # what it is trained on where --data says nothing
    checks: Checks = field(default_factory=Checks)  # for `tinygen check`
    api: str = API

    def __post_init__(self) -> None:
        _require_texts(self, ("name", "family", "summary", "data"))
        _require(
            NAME.fullmatch(self.name) is not None, "AlgorithmSpec", "name must be lower-case words joined by _ or -",
            self.name, 'for instance "style_gan"',
        )  # fmt: skip
        _require_reference(self, "factory")
        _require_reference(self, "config")
        for name in ("verbs", "papers"):
            value = getattr(self, name)
            _require(
                isinstance(value, tuple) and all(isinstance(item, str) for item in value),
                f"AlgorithmSpec {self.name}", f"{name} must be a tuple of strings", value,
                f'write {name}=("…",) with the comma',
            )  # fmt: skip
        _require(bool(self.verbs), f"AlgorithmSpec {self.name}", "verbs must name at least one", self.verbs, _VERBS)
        for verb in self.verbs:
            _require(verb in CAPABILITIES, f"AlgorithmSpec {self.name}", "verbs has an unknown verb", verb, _VERBS)
        _require(
            self.api == API, f"AlgorithmSpec {self.name}", f'api must be "{API}"', self.api,
            "install a tinygen that speaks this plugin's api, or a newer plugin",
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a file of a data set can be downloaded."""

    file: str
    urls: tuple[str, ...]  # tried in turn
    sha256: str  # the sum by which it is known, 64 hexadecimal digits

    def __post_init__(self) -> None:
        _require_texts(self, ("file",))
        _require(
            isinstance(self.urls, tuple) and bool(self.urls) and all(str(url).startswith("http") for url in self.urls),
            f"Source {self.file}", "urls must be a tuple of addresses", self.urls, 'write urls=("https://…",)',
        )  # fmt: skip
        _require(
            re.fullmatch("[0-9a-f]{64}", str(self.sha256)) is not None, f"Source {self.file}",
            "sha256 must be 64 hexadecimal digits", self.sha256, "sha256sum prints it",
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """One data set, told without importing what reads it."""

    name: str  # "mnist"; on the command line `--data mnist`, or `--data folder:PATH` where it takes an argument
    summary: str
    factory: str  # "tinygen.data.idx:mnist", called with a DataRequest, returns a tinygen.data.Dataset
    argument: str = ""  # what stands after the colon: "PATH"; a trailing "?" makes it optional; "" means none
    folder: str = ""  # the folder below the data folders that holds its files; "" for generated data
    files: tuple[str, ...] = ()  # the files expected there
    sources: tuple[Source, ...] = ()  # where they can be downloaded, those that can

    def __post_init__(self) -> None:
        _require_texts(self, ("name", "summary"))
        _require(
            NAME.fullmatch(self.name) is not None, "DatasetSpec", "name must be lower-case words joined by _ or -",
            self.name, 'for instance "fashion-mnist"',
        )  # fmt: skip
        _require_reference(self, "factory")
        for source in self.sources:
            _require(
                isinstance(source, Source) and source.file in self.files, f"DatasetSpec {self.name}",
                "sources must tell of its files", source, "name the same file in files",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """What `fit` yields after an update: named figures, as numbers or as one-element tensors."""

    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Lines over a common axis, for a picture: `lines` by name, each as long as `x`."""

    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    x_label: str = ""
    y_label: str = ""


class Trainable(ABC):
    """verb train. State that must survive from step to step lives on the object, where the host finds and saves it:
    build optimizers and streams in __init__, never in `fit`."""

    films: ClassVar[bool] = False  # True for one that learns from clips (n, t, c, h, w), and not from still images

    @abstractmethod
    def fit(self, batches: Batches) -> Iterator[Step]:
        """Run the paper's algorithm for ever: draw from `batches`, update, and yield a Step after each update.

        All work of an update stands before its `yield`: there the host may write the checkpoint.
        """


class Sampler(ABC):
    """verb sample."""

    @abstractmethod
    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1], the same for the same stream."""


class Repairer(ABC):
    """verb repair."""

    @abstractmethod
    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) in [0, 1] made whole, of the same shape.

        mask: (h, w), 1 where a pixel is missing and 0 where it is known. What `image` holds where pixels are missing
            means nothing; they are filled in, and the known ones come back bit for bit as given.
            None: nothing is missing, but every pixel is noisy.
        """


class Composer(ABC):
    """verb compose."""

    @abstractmethod
    def compose(self, images: list[Tensor], mask: Tensor | None, random: Stream) -> Tensor:
        """One image (c, h, w) in [0, 1] out of several, in the order in which they were named.

        images: (c, h, w) each, alike in their channels, though not always in height and width.
        mask: (h, w) in [0, 1], of the first image's height and width; None where none was given.
        """


class Stylizer(ABC):
    """verb stylize."""

    @abstractmethod
    def stylize(self, content: Tensor, style: list[Tensor]) -> Iterator[Tensor]:
        """The content image (c, h, w) in [0, 1] in the style of the others: as high and wide, better with each item.

        style: images of as many channels, each of its own size; none, where the style is what was learnt.
        """

    def stages(self, content: Tensor) -> int:
        """How many items `stylize` yields for this image, so that progress can be shown."""
        return 1


class Animator(ABC):
    """verb animate."""

    @abstractmethod
    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n films of so many frames: (n, t, c, h, w) in [0, 1]."""


class Evaluable(ABC):
    """verb evaluate."""

    @abstractmethod
    def evaluate(self, data: Dataset, random: Stream) -> Mapping[str, float]:
        """The field's figures for this model on `data`, by name."""


class Adapter(ABC):
    """verb adapt."""

    @abstractmethod
    def adapt(self, support: Support) -> Any:
        """A copy of the model adapted to a few examples; the model itself stays as it is.

        One that can `sample` gives a copy that samples what is like the examples. One that tells classes apart gives
        an object with `probabilities(images)`: images (n, c, h, w) in [0, 1] to (n, len(support.classes)).
        """


class Illustrator(ABC):
    """No verb: pictures of what it has learnt, beside its samples or in their place, as memory or feature maps."""

    @abstractmethod
    def illustrate(self, data: Dataset, random: Stream) -> Mapping[str, Tensor | Curves]:
        """Pictures by name, drawn when training ends: images (n, c, h, w) in [0, 1] as a grid, or lines.

        A name is a word or several, joined by -: it becomes the name of a file.
        """


class Judge(ABC):
    """No verb: knows real images and their classes, and so can judge what others make: `evaluate RUN --judge RUN`."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to features (n, d), near each other for images that are alike."""

    @abstractmethod
    def probabilities(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to the probabilities of the classes (n, classes)."""


CAPABILITIES: dict[str, type] = {
    "train": Trainable,
    "sample": Sampler,
    "repair": Repairer,
    "compose": Composer,
    "stylize": Stylizer,
    "animate": Animator,
    "evaluate": Evaluable,
    "adapt": Adapter,
}
_VERBS = "the verbs are " + ", ".join(CAPABILITIES)


def verbs_of(algorithm: type) -> tuple[str, ...]:
    """The verbs that a class can do by what it inherits, in the order of the table."""
    return tuple(verb for verb, capability in CAPABILITIES.items() if issubclass(algorithm, capability))
