"""Networks that see: the convolutions of SqueezeNet 1.1 and VGG, whose maps tell what is in a picture and how it looks.

    network = load_perceptual("squeezenet1_1", "", random)
    maps = network.features(images, ["fire3", "fire5"])       # images (n, 3, h, w), RGB in [0, 1], of any size

The parameters have torchvision's names. They are frozen: a gradient goes through them to the picture and leaves them as
they are. The layers are called `relu1`, `fire2` … `fire9` in SqueezeNet and `relu1_1`, `relu1_2`, `relu2_1` … in VGG:
the maps behind the rectifier, never negative.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import tinygen.functional as F
from tinygen import nn
from tinygen.autograd import Tensor, tensor
from tinygen.data.weights import find_weights, read_weights
from tinygen.errors import DataError, UsageError, did_you_mean
from tinygen.random import Stream

# ---------------------------------------------------------------- the networks


class Features(nn.Sequential):
    """Layers one after the other; called, they give the maps of some of them by name.

    layers: each with its name, "" for one whose output nobody asks for.
    The picture comes as (x − mean) · scale, a number for each channel in the order of the channels that the weights
    expect: RGB, or BGR as Caffe has it.
    """

    def __init__(
        self, layers: Iterable[tuple[str, nn.Module]], mean: list[float], scale: list[float], bgr: bool
    ) -> None:
        names, modules = zip(*layers)
        super().__init__(*modules)
        self.names, self.bgr = names, bgr
        self.mean, self.scale = (tensor(values).reshape(1, 3, 1, 1) for values in (mean, scale))

    def forward(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:  # type: ignore[override]
        """The maps (n, c, h', w') of these layers for images (n, 3, h, w), RGB in [0, 1]; nothing behind the deepest
        of them is computed. Raises UsageError for a layer that there is not."""
        wanted = set(self.checked(layers))
        x = ((images.flip(1) if self.bgr else images) - self.mean) * self.scale
        maps: dict[str, Tensor] = {}
        for name, module in zip(self.names, self):
            if len(maps) == len(wanted):
                break
            x = module(x)
            if name in wanted:
                maps[name] = x
        return maps

    def checked(self, layers: Iterable[str]) -> list[str]:
        """The layers as a list. Raises UsageError for one that there is not."""
        known = [name for name in self.names if name]
        for layer in layers:
            if layer not in known:
                raise UsageError(f'there is no layer "{layer}"', f"there are {', '.join(known)}")
        return list(layers)


class Fire(nn.Module):
    """Few channels by 1 × 1, then many by 1 × 1 and by 3 × 3, side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int, random: Stream) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1, random=random.child("squeeze"))
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1, random=random.child("expand1x1"))
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1, random=random.child("expand3x3"))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(F.cat([self.expand1x1(x), self.expand3x3(x)], 1))  # (n, 2 expand, h, w)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1 (Iandola et al. 2016), for the weights of its authors: BGR, values to 255 less the mean."""

    CLASSES = 1000

    def __init__(self, random: Stream, pooling: str = "max") -> None:
        super().__init__()

        def fire(number: int, channels: int, squeeze: int, expand: int) -> tuple[str, nn.Module]:
            return f"fire{number}", Fire(channels, squeeze, expand, random.child(f"fire{number}"))

        def pool() -> tuple[str, nn.Module]:
            return "", _pool(pooling, 3, ceil_mode=True)

        layers = [
            ("", nn.Conv2d(3, 64, 3, stride=2, random=random.child("conv1"))),
            ("relu1", nn.ReLU()), pool(),
            fire(2, 64, 16, 64), fire(3, 128, 16, 64), pool(),
            fire(4, 128, 32, 128), fire(5, 256, 32, 128), pool(),
            fire(6, 256, 48, 192), fire(7, 384, 48, 192), fire(8, 384, 64, 256), fire(9, 512, 64, 256),
        ]  # fmt: skip
        self.features = Features(layers, [104 / 255, 117 / 255, 123 / 255], [255.0] * 3, bgr=True)
        last = nn.Conv2d(512, self.CLASSES, 1, random=random.child("conv10"))
        self.classifier = nn.Sequential(nn.Identity(), last, nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Scores (n, 1000) of the classes, whose softmax are probabilities; images (n, 3, h, w) in [0, 1]."""
        maps = self.features(images, ["fire9"])["fire9"]
        return self.classifier(maps).mean((2, 3))


VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions in each block


class VGG(nn.Module):
    """The convolutions of VGG-16 or VGG-19 (Simonyan and Zisserman 2015), for torchvision's weights: RGB, of mean 0 and
    variance 1 over ImageNet."""

    def __init__(self, name: str, random: Stream, pooling: str = "max") -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        channels = 3
        for block, count in enumerate(VGG_BLOCKS[name], 1):
            width = min(64 * 2 ** (block - 1), 512)
            for place in range(1, count + 1):
                convolution = nn.Conv2d(channels, width, 3, padding=1, random=random.child(f"conv{block}_{place}"))
                layers += [("", convolution), (f"relu{block}_{place}", nn.ReLU())]
                channels = width
            layers.append(("", _pool(pooling, 2)))
        self.features = Features(layers, [0.485, 0.456, 0.406], [1 / 0.229, 1 / 0.224, 1 / 0.225], bgr=False)


def _pool(kind: str, size: int, ceil_mode: bool = False) -> nn.Module:
    """Windows of this size, every second one: the largest element of each or the mean."""
    if kind == "max":
        return nn.MaxPool2d(size, 2, ceil_mode=ceil_mode)
    return nn.AvgPool2d(size, 2, ceil_mode=ceil_mode)


def in_colour(images: Tensor) -> Tensor:
    """Images (n, 1 or 3, h, w) with three channels, as the networks take them."""
    return images.expand(len(images), 3, *images.shape[2:])


# ---------------------------------------------------------------- their weights

NETWORKS = ("squeezenet1_1", "vgg16", "vgg19")


def load_perceptual(name: str, path: str, random: Stream, pooling: str = "max") -> SqueezeNet | VGG:
    """One of NETWORKS with frozen parameters, those of the file `path`, .npz or .safetensors.

    path "": NAME/NAME_imagenet.npz or .safetensors in the data folders; where there is none, the weights are random, of
        the law of He et al. 2015, and a warning tells so. "random" asks for those.
    pooling: "max" as trained, or "average", which Gatys et al. 2016 found to give slightly better pictures.
    Raises UsageError for a network that there is not, DataError for a file that cannot be read or does not fit.
    """
    if name not in NETWORKS:
        raise UsageError(f'there is no network "{name}"', did_you_mean(name, list(NETWORKS)))
    network = SqueezeNet(random, pooling) if name == "squeezenet1_1" else VGG(name, random, pooling)
    file = path or find_weights(name)
    if file == "random" or file is None:
        _draw_as_he(network)
    else:
        _fill(network, str(file), read_weights(file))
    if file is None:
        warnings.warn(
            f"{name}: no {name}/{name}_imagenet.npz in the data folders; it sees with random weights, less well",
            stacklevel=2,
        )
    network.requires_grad_(False)
    return network


def _draw_as_he(network: nn.Module) -> None:
    """From the layers' uniform law ±1/√fan_in to ±√(6/fan_in), biases 0: the maps are as large in each layer."""
    for key, parameter in network.named_parameters():
        parameter.data *= math.sqrt(6) if key.endswith("weight") else 0.0


def _fill(network: nn.Module, path: str, weights: Mapping[str, Any]) -> None:
    """Put the weights into the network. A classifier that one of them lacks or has more does not count."""
    own = dict(network.named_parameters())
    problems = []
    for key, parameter in own.items():
        if key not in weights:
            if key.startswith("features."):
                problems.append(f"{key} {parameter.shape} is missing")
        elif weights[key].shape != parameter.shape or weights[key].dtype.kind != "f":
            problems.append(
                f"{key} is {weights[key].shape} {weights[key].dtype}, it must be {parameter.shape} of reals"
            )
    problems += [f"{key} is not expected" for key in weights if key not in own and not key.startswith("classifier.")]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        hint = f"the network is --network {{{','.join(NETWORKS)}}}; names and shapes are torchvision's"
        raise DataError(f"{path}: does not fit: {problems[0]}{more}", hint)
    network.load_state_dict({key: weights[key] for key in own if key in weights}, strict=False)
