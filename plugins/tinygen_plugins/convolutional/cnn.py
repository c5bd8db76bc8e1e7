r"""A convolutional network that tells the class of an image (LeCun, Bottou, Bengio and Haffner 1998).

    image (c, h, w) → two stages of [convolve, normalize, pool, rectify] → features → one logit a class

A kernel is moved over the image, so that the same few weights look for the same pattern everywhere, and a pattern that
moves in the image moves in the map of where it was found. Pooling keeps the largest of each 2 × 2 places: what was
found matters more than where to the pixel. The last layer is linear, and softmax makes probabilities of its logits.

Overview articles often give "softmax(W x + b)" as a CNN's output with x the image; that is softmax regression. Here x
is the vector of features that the stages have made.

The order of LeNet-5, with what was found since: batch normalization, max pooling, rectifiers, dropout, and training
images moved by a few pixels. Read from the equations down: in the order in which an image goes through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import tinygen
import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Illustrator, Judge, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream

KERNEL, MARGIN = 5, 2  # a kernel's side, and the margin with which a map stays as large as the image
PIECE = 500  # images at a time where there may be many


@dataclass(frozen=True)
class Config:
    """The options of `cnn`."""

    steps: int = 4000
    """updates to train for; the learning rate falls over them"""
    batch_size: int = 100
    """images in a batch"""
    width: int = 16
    """maps of the first stage; the second has twice as many"""
    features: int = 128
    """numbers in the last layer but one, by which images can be compared"""
    lr: float = 3e-3
    """learning rate of Adam at the start"""
    dropout: float = 0.4
    """share of the features dropped in training"""
    shift: int = 2
    """pixels by which training images are moved at most, to each side"""
    padding: Literal["zeros", "circular"] = "zeros"
    """what surrounds the image; circular: the image again, and a shift by 4 pixels is a shift of the maps exactly"""
    average: float = 0.998
    """decay of the running average of the network that answers; 0 for the last network itself"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 2, 10**6), ("width", 1, 4096), ("features", 1, 10**5),
            ("lr", 1e-8, 10), ("dropout", 0, 0.99), ("shift", 0, 64), ("average", 0, 0.99999),
        ):  # fmt: skip
            check_range("cnn", name, getattr(self, name), low, high)
        check_choice("cnn", "padding", self.padding, ["zeros", "circular"])


# ---------------------------------------------------------------- equations


@equation(
    r"x'_{c,i,j} = x_{c,\, i+a,\, j+b}, \quad a, b \sim U\{-s, \dots, s\}",
    source="Simard, Steinkraus and Platt 2003; 0 outside the image",
)
def translate(images: Tensor, a: Array, b: Array, reach: int) -> Tensor:
    """Each of the images (n, c, h, w) moved by its own a and b, (n,) each, whole numbers from −reach to reach."""
    xp, (n, _, h, w) = of(a).xp, images.shape
    wide = F.pad(images, (reach, reach, reach, reach)).data
    rows = reach + a[:, None] + xp.arange(h)  # (n, h)
    columns = reach + b[:, None] + xp.arange(w)  # (n, w)
    moved = wide[xp.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return Tensor(moved.transpose(0, 3, 1, 2))


@equation(
    r"y_{o,i,j} = \sum_{c,k,l} w_{o,c,k,l}\, x_{c,\, i+k-p,\, j+l-p}",
    source="LeCun et al. 1998, section II.A; a cross-correlation, p = 2; β of the normalization is the bias",
)
def convolve(x: Tensor, weight: Tensor, padding: str = "zeros") -> Tensor:
    """Maps y (n, o, h, w) of where in x (n, c, h, w) each kernel of weight (o, c, 5, 5) finds its pattern."""
    if padding == "zeros":
        return F.conv2d(x, weight, padding=MARGIN)
    return F.conv2d(F.pad(x, (MARGIN, MARGIN, MARGIN, MARGIN), padding), weight)


@equation(
    r"y_{c,i,j} = \max(0,\, \max_{k,l \in \{0, 1\}} x_{c,\, 2i+k,\, 2j+l})",
    source="Jarrett et al. 2009 for the maximum, Nair and Hinton 2010 for the rectifier",
)
def pool(x: Tensor) -> Tensor:
    """The largest of each 2 × 2 places, if that is positive: (n, c, h, w) to (n, c, ⌊h/2⌋, ⌊w/2⌋)."""
    return F.relu(F.max_pool2d(x, 2))


@equation(
    r"\mathcal{L} = -\frac1n \sum_i \log \operatorname{softmax}(z_i)_{y_i}, \quad"
    r" \frac{\partial\mathcal{L}}{\partial z_i} = \frac1n (\operatorname{softmax}(z_i) - e_{y_i})",
    source="Bridle 1990: the negative log-likelihood of the labels",
)
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """What training makes small: logits (n, classes), labels (n,) whole numbers; a number (0-d) in nats."""
    return F.cross_entropy(logits, labels)


@equation(r"\frac1n \sum_i [\operatorname{arg\,max}_k z_{ik} \ne y_i]", source="the share of images told wrongly")
def error_rate(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (n, classes) and labels (n,) give a number (0-d) in [0, 1]."""
    wrong = logits.argmax(1).data != labels.data
    return Tensor(wrong.astype(logits.dtype)).mean()


@equation(
    r"\eta_k = \frac{\eta_0}{100} + \frac{99\,\eta_0}{200} \left(1 + \cos \frac{\pi \min(k, K)}{K}\right)",
    source="Loshchilov and Hutter 2017, eq. 5, with a hundredth of the rate as the least",
)
def annealing(k: int, steps: int) -> float:
    """η_k/η₀, the part of the learning rate that is left after k of K updates."""
    return 0.01 + 0.495 * (1 + math.cos(math.pi * min(k, steps) / steps))


# ---------------------------------------------------------------- the network


class Stage(nn.Module):
    """Maps (n, c, h, w) to maps of other patterns, half as high and wide: (n, o, ⌊h/2⌋, ⌊w/2⌋)."""

    def __init__(self, inputs: int, outputs: int, padding: str, random: Stream) -> None:
        super().__init__()
        shape, fan_in = (outputs, inputs, KERNEL, KERNEL), inputs * KERNEL**2
        self.weight = nn.Parameter(nn.init.channels_last(nn.init.kaiming_uniform(shape, fan_in, random)))
        self.norm = nn.BatchNorm2d(outputs)  # over all images and places: mean 0, variance 1, then γ y + β
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return pool(self.norm(convolve(x, self.weight, self.padding)))


class Network(nn.Module):
    """Images (n, c, h, w) in [0, 1] to logits (n, classes)."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        super().__init__()
        c, h, w = data.shape
        width, flat = config.width, 2 * config.width * (h // 4) * (w // 4)
        self.first = Stage(c, width, config.padding, random.child("first"))
        self.second = Stage(width, 2 * width, config.padding, random.child("second"))
        self.hidden = nn.Linear(flat, config.features, bias=False, random=random.child("hidden"))
        self.norm = nn.BatchNorm1d(config.features)
        self.dropout = nn.Dropout(config.dropout, random=random.child("dropout"))
        self.out = nn.Linear(config.features, len(data.classes), random=random.child("out"))

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each stage finds: (n, width, h/2, w/2) and (n, 2 width, h/4, w/4)."""
        found = self.first(x)
        return [found, self.second(found)]

    def features(self, x: Tensor) -> Tensor:
        """(n, features), none negative."""
        return F.relu(self.norm(self.hidden(self.maps(x)[-1].flatten(1))))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(self.features(x)))


class CNN(Trainable, Evaluable, Illustrator, Judge):
    """The classes of images of one size."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        _check_data(data)
        self.config, self.classes = config, len(data.classes)
        self.network = Network(config, data, random.child("network"))
        self.averaged = Network(config, data, random.child("network"))
        self.average = optim.EMA(self.averaged, self.network, config.average)
        self.optimizer = optim.Adam(self.network.parameters(), config.lr)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: annealing(k, config.steps))
        self.shifts = random.child("shifts")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Descend the cross-entropy of one batch after the other, each image moved a little."""
        while True:
            images, labels = next(batches)
            assert labels is not None
            logits = self.network(self.moved(images))
            loss = cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update()
            yield Step({"loss": loss, "error": error_rate(logits, labels)})

    def moved(self, images: Tensor) -> Tensor:
        """The images (n, c, h, w), each moved by up to `shift` pixels."""
        reach, n = self.config.shift, len(images)
        if reach == 0:
            return images
        a, b = self.shifts.integers(-reach, reach + 1, (2, n))
        return translate(images, a, b, reach)

    # ------------------------------------------------------------ what the averaged network says

    def logits(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to logits (n, classes)."""
        return _by_pieces(self.averaged, images)

    def features(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to features (n, features): near each other for images that are alike."""
        return _by_pieces(self.averaged.features, images)

    def probabilities(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to the probabilities of the classes (n, classes)."""
        return F.softmax(self.logits(images), 1)

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Where in an image (c, h, w) each kernel of each stage finds its pattern: (width, h/2, w/2) and
        (2 width, h/4, w/4), none negative."""
        with no_grad():
            return [maps[0] for maps in self.averaged.maps(image[None])]

    def illustrate(self, data: Dataset, random: Stream) -> dict[str, Tensor]:
        """The feature maps of one training image in each stage, the image first; each map up to its own largest."""
        image = tensor(data.arrays("train", 1)[0][0])
        picture = image.mean(dim=0)[None, None]  # (1, 1, h, w)
        drawn = {}
        for number, maps in enumerate(self.feature_maps(image), start=1):  # (channels, h, w)
            light = maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-8)
            small = F.interpolate(picture, size=maps.shape[1:])
            drawn[f"feature-maps-{number}"] = tinygen.cat([small, light[:, None]])
        return drawn

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """The share of test images told wrongly, in percent with its standard error, and the nats an image."""
        _check_data(data.spec)
        if len(data.classes) != self.classes:
            raise UsageError(
                f"cnn: trained on {self.classes} classes, {data.name} has {len(data.classes)}",
                "evaluate on the data that it was trained on",
            )
        images, labels = (tensor(part) for part in data.arrays("test"))
        logits = self.logits(images)
        wrong = error_rate(logits, labels).item()
        return {
            "error_percent": 100 * wrong,
            "standard_error": 100 * math.sqrt(wrong * (1 - wrong) / len(images)),
            "nats": cross_entropy(logits, labels).item(),
            "test_images": len(images),
        }


def _check_data(data: DataSpec) -> None:
    """Raise UsageError where images have no classes, or are too small for two stages."""
    if len(data.classes) < 2:
        raise UsageError(
            f"cnn: learns to tell classes, {data.name} has {len(data.classes) or 'none'}",
            "choose data with labels: --data glyphs, mnist, or folder:PATH with a folder for each class",
        )
    if min(data.height, data.width) < 4:
        raise UsageError(
            f"cnn: images must be 4 × 4 pixels or more, {data.name} has {data.height} × {data.width}",
            "enlarge them: --image-size 28",
        )


def _by_pieces(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """function(images), some images at a time."""
    with no_grad():
        return F.cat([function(images[start : start + PIECE]) for start in range(0, len(images), PIECE)])
