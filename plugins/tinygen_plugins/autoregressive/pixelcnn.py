r"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016), and Gated PixelCNN (van den Oord et al. 2016b).

The probability of an image is the product of its pixels' probabilities, each given those before it, row after row:

    p(x) = Π_i p(x_i | x_1, …, x_{i−1}),    p(x_i | x_<i) = p(R | x_<i) · p(G | R, x_<i) · p(B | R, G, x_<i).

A pixel takes one of L levels, and a softmax over the levels is its law. One network gives all the laws at once: its
convolutions are masked, so that the output at pixel i sees only what comes before i, and training is one cross entropy.
What is drawn must be drawn in order, pixel after pixel; but as nothing before pixel i changes any more, each layer
keeps its inputs, and a pixel costs one column of each layer (`_memory.py`).

Two networks. `residual` is PixelCNN: one stack of 3×3 masked convolutions in residual blocks. Its rows of three leave a
blind spot, up and to the right. `gated` has a second stack for the rows above, so that none is left, gates in the place
of the relus, and can be told the class. Read from the equations down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tinygen
import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, current, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Repairer, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.autoregressive._memory import Memory


@dataclass(frozen=True)
class Config:
    """Options of the two networks and their training."""

    steps: int = 6000
    """updates to train for"""
    batch_size: int = 16
    """images in a batch"""
    network: Literal["residual", "gated"] = "residual"
    """residual: PixelCNN, one stack; gated: Gated PixelCNN, two stacks without a blind spot"""
    conditional: bool = False
    """tell the class to the network, which must be gated; samples then go through the classes in turn"""
    levels: int = 2
    """levels of a pixel's channel: 2 for black and white, thresholded at ½, 256 for bytes"""
    features: int = 32
    """features of a pixel in each layer, divisible by 3 where images have colour"""
    blocks: int = 7
    """residual blocks, or gated layers after the first"""
    lr: float = 2e-3
    """learning rate of Adam at the start; it falls to nothing over the steps, as half a cosine"""
    average: float = 0.998
    """decay of the running average of the network that is used in the end; 0 for the last network itself"""
    completions: int = 16
    """how often a repair is tried; the one that is kept is drawn by how well it explains the known pixels after it"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("levels", 2, 256), ("features", 2, 4096),
            ("blocks", 0, 100), ("lr", 1e-8, 1), ("average", 0, 0.999999), ("completions", 1, 4096),
        ):  # fmt: skip
            check_range("pixelcnn", name, getattr(self, name), low, high)
        check_choice("pixelcnn", "network", self.network, ["residual", "gated"])
        if self.conditional and self.network != "gated":
            raise UsageError("pixelcnn: the residual network cannot be told the class", "set --network gated as well")


# ---------------------------------------------------------------- equations


@equation(r"k = \min(\lfloor L x \rfloor, L - 1)", source="van den Oord et al. 2016, section 2.2: discrete pixels")
def quantize(images: Tensor, levels: int) -> Tensor:
    """Images in [0, 1] to the numbers of their levels, 0 … L − 1; level k is the brightness k/(L − 1)."""
    xp = images.backend.xp
    return Tensor(xp.minimum((images.data * levels).astype("int64"), levels - 1))


@equation(
    r"M_{o,i,y,x} = \begin{cases} 1 & (y, x) \text{ before the centre} \\"
    r" [\,\mathrm{colour}(i) < \mathrm{colour}(o)\,] & \text{at the centre, mask A} \\"
    r" [\,\mathrm{colour}(i) \le \mathrm{colour}(o)\,] & \text{at the centre, mask B} \\"
    r" 0 & (y, x) \text{ after it} \end{cases}",
    source="van den Oord et al. 2016, section 3.4 and figure 2",
)
def causal_mask(kind: Literal["A", "B"], inputs: int, outputs: int, rows: int, columns: int, colours: int) -> Array:
    """What a convolution may see, (outputs, inputs, rows, columns) float32: 1, or 0 for what it may not.

    The centre is in the middle of the last row, as all below it is 0. Features belong to the colours in turn, R, G, B,
    R, …. Mask A is the first layer's, which must not see the very value it predicts; B is that of all others.
    """
    xp = current().xp
    mask = xp.ones((outputs, inputs, rows, columns), "float32")
    centre = columns // 2
    mask[:, :, -1, centre + 1 :] = 0.0
    of_output, of_input = xp.arange(outputs)[:, None] % colours, xp.arange(inputs)[None, :] % colours
    mask[:, :, -1, centre] = of_input < of_output if kind == "A" else of_input <= of_output
    return mask


@equation(
    r"y = \tanh(W_f * x + V_f^\top h) \odot \sigma(W_g * x + V_g^\top h)",
    source="van den Oord et al. 2016b (Gated PixelCNN), eq. 2, and 4 with a class h",
)
def gate(features: Tensor) -> Tensor:
    """Both sums, of W_f before those of W_g, (n, 2p, h, w), to p features (n, p, h, w)."""
    f, g = features.chunk(2, 1)
    return F.tanh(f) * F.sigmoid(g)


@equation(
    r"-\log p(x) = -\sum_{i=1}^{D} \log p(x_i \mid x_1, \ldots, x_{i-1})",
    source="van den Oord et al. 2016, eq. 1 and 2",
)
def negative_log_likelihood(logits: Tensor, levels: Tensor) -> Tensor:
    """Of each image in nats: logits (n, L, c, h, w) and levels (n, c, h, w) give (n,)."""
    return F.cross_entropy(logits, levels, reduction="none").flatten(1).sum(1)


@equation(r"\mathrm{bits/dim} = \frac{-\log p(x)}{D \ln 2}", source="van den Oord et al. 2016, section 5.1; D = c h w")
def bits_per_dimension(nats: float, dimensions: int) -> float:
    """From nats an image to bits a pixel's channel."""
    return nats / (dimensions * math.log(2))


@equation(
    r"x = \min\{k : \textstyle\sum_{l \le k} p_l > u\}, \quad p = \mathrm{softmax}(a), \quad u \sim U[0, 1)",
    source="inversion: the first level up to which the probabilities add up to more than u",
)
def draw_level(logits: Tensor, u: Array) -> Tensor:
    """A level from each law: logits a (n, L) and u (n,) float64 give (n,) int64."""
    added = of(u).xp.cumsum(F.softmax(logits.to("float64"), 1).data, axis=1)
    return Tensor((added <= (u * added[:, -1])[:, None]).sum(axis=1))  # scaled: rounding may leave the last one below 1


@equation(
    r"w_m \propto \prod_{i\,\text{known}} p(x_i \mid x^{(m)}_{<i})",
    source="Rubin 1987, sampling importance resampling; missing pixels are proposed in order, p(x_i | x_<i)",
)
def log_weights(logits: Tensor, levels: Tensor, known: Tensor) -> Tensor:
    """Of completions of an image, the logarithm: what was not drawn counts. known (h, w), 1 or 0; gives (n,)."""
    return -(F.cross_entropy(logits, levels, reduction="none") * known).flatten(1).sum(1)


# ---------------------------------------------------------------- the masked convolution


class CausalConv2d(nn.Conv2d):
    """A convolution that sees rows − 1 rows above, and of its own row all (kind None) or what a mask lets through."""

    def __init__(
        self, kind: Literal["A", "B"] | None, inputs: int, outputs: int, rows: int, columns: int, colours: int,
        random: Stream,
    ) -> None:  # fmt: skip
        super().__init__(inputs, outputs, (rows, columns), random=random)
        self.above, self.side = rows - 1, columns // 2
        self.mask = nn.Buffer(causal_mask(kind, inputs, outputs, rows, columns, colours)) if kind else None

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        x = memory.window(self, x) if memory else F.pad(x, (self.side, self.side, self.above, 0))
        return F.conv2d(x, self.weight if self.mask is None else self.weight * self.mask, self.bias)


# ---------------------------------------------------------------- the two networks


class ResidualBlock(nn.Module):
    """p features narrowed to p/2, seen through a masked 3×3 window, widened again, and added (figure 5)."""

    def __init__(self, features: int, colours: int, random: Stream) -> None:
        super().__init__()
        half = features // 2
        self.narrow = CausalConv2d("B", features, half, 1, 1, colours, random.child("narrow"))
        self.look = CausalConv2d("B", half, half, 2, 3, colours, random.child("look"))
        self.widen = CausalConv2d("B", half, features, 1, 1, colours, random.child("widen"))

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        y = self.narrow(F.relu(x))  # (n, p/2, h, w)
        y = self.look(F.relu(y), memory)
        return x + self.widen(F.relu(y))  # (n, p, h, w)


class VerticalLayer(nn.Module):
    """Of the gated stack that sees all the rows above: W * x + Vᵀh with a class h, (n, 2p, h, w)."""

    def __init__(self, inputs: int, features: int, rows: int, columns: int, classes: int, random: Stream) -> None:
        super().__init__()
        self.look = CausalConv2d(None, inputs, 2 * features, rows, columns, 1, random.child("look"))
        self.of_class = nn.Embedding(classes, 2 * features, random=random.child("class")) if classes else None  # V

    def forward(self, x: Tensor, labels: Tensor | None, memory: Memory | None) -> Tensor:
        y = self.look(x, memory)
        return y + self.of_class(labels)[:, :, None, None] if self.of_class else y


class HorizontalLayer(nn.Module):
    """Of the gated stack that sees its own row to the left, and by the vertical stack's sums the rows above (figure 2).

    The class comes with those sums: across V is but another V. Only the first layer, under mask A, adds nothing to x.
    """

    def __init__(self, inputs: int, features: int, columns: int, colours: int, first: bool, random: Stream) -> None:
        super().__init__()
        p, self.first = features, first
        self.look = CausalConv2d("A" if first else "B", inputs, 2 * p, 1, columns, colours, random.child("look"))
        self.across = CausalConv2d(None, 2 * p, 2 * p, 1, 1, 1, random.child("across"))
        self.merge = CausalConv2d("B", p, p, 1, 1, colours, random.child("merge"))

    def forward(self, x: Tensor, above: Tensor, memory: Memory | None) -> Tensor:
        y = self.merge(gate(self.look(x, memory) + self.across(above)))  # (n, p, h, w)
        return y if self.first else x + y


class Network(nn.Module):
    """Images (n, c, h, w) in [−1, 1], and labels (n,) if it is conditional, to logits (n, L, c, h, w)."""

    def __init__(self, config: Config, colours: int, random: Stream) -> None:
        super().__init__()
        p, self.colours = config.features, colours
        self.hidden = CausalConv2d("B", p, p, 1, 1, colours, random.child("hidden"))
        self.logits = CausalConv2d("B", p, config.levels * colours, 1, 1, colours, random.child("logits"))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.along(x, self.above(F.pad(x, (0, 0, 1, -1)), labels))

    def above(self, x: Tensor, labels: Tensor | None, memory: Memory | None = None) -> list[Tensor]:
        """From the image one row down, what each layer is told of the rows above."""
        return []

    def along(self, x: Tensor, above: list[Tensor], memory: Memory | None = None) -> Tensor:
        """The logits, from the image and what is above."""
        raise NotImplementedError

    def read_out(self, x: Tensor) -> Tensor:
        x = self.logits(F.relu(self.hidden(F.relu(x))))  # (n, L c, h, w)
        return x.unflatten(1, (-1, self.colours))  # (n, L, c, h, w)


class Residual(Network):
    """PixelCNN: a 7×7 convolution under mask A, residual blocks under mask B, two 1×1 convolutions (table 1)."""

    def __init__(self, config: Config, colours: int, classes: int, random: Stream) -> None:
        super().__init__(config, colours, random)
        self.first = CausalConv2d("A", colours, config.features, 4, 7, colours, random.child("first"))
        self.blocks = nn.ModuleList(
            ResidualBlock(config.features, colours, random.child(f"block {i}")) for i in range(config.blocks)
        )

    def along(self, x: Tensor, above: list[Tensor], memory: Memory | None = None) -> Tensor:
        x = self.first(x, memory)
        for block in self.blocks:
            x = block(x, memory)
        return self.read_out(x)


class Gated(Network):
    """Gated PixelCNN: two stacks of gated layers, the horizontal one with residual connections (section 2.2)."""

    def __init__(self, config: Config, colours: int, classes: int, random: Stream) -> None:
        super().__init__(config, colours, random)
        p, down, right = config.features, random.child("vertical"), random.child("horizontal")
        sizes = [(colours, 4, 7), *[(p, 2, 3)] * config.blocks]  # inputs, rows, columns
        self.vertical, self.horizontal = nn.ModuleList(), nn.ModuleList()
        for i, (inputs, rows, columns) in enumerate(sizes):
            self.vertical.append(VerticalLayer(inputs, p, rows, columns, classes, down.child(f"{i}")))
            self.horizontal.append(HorizontalLayer(inputs, p, columns, colours, i == 0, right.child(f"{i}")))

    def above(self, x: Tensor, labels: Tensor | None, memory: Memory | None = None) -> list[Tensor]:
        above: list[Tensor] = []
        for layer in self.vertical:
            above.append(layer(gate(above[-1]) if above else x, labels, memory))
        return above

    def along(self, x: Tensor, above: list[Tensor], memory: Memory | None = None) -> Tensor:
        for layer, seen in zip(self.horizontal, above):
            x = layer(x, seen, memory)
        return self.read_out(x)


# ---------------------------------------------------------------- the plugin


class PixelCNN(Trainable, Sampler, Repairer, Evaluable):
    """Images of one size, pixel after pixel."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if data.frames:
            raise UsageError(f"pixelcnn: {data.name} are clips, it learns still images", "name other data")
        if config.conditional and not data.classes:
            raise UsageError(f"pixelcnn: {data.name} has no classes", "leave --conditional out")
        if config.network == "gated" and config.features % data.channels:
            raise UsageError(
                f"pixelcnn: features must be divisible by {data.channels}, one part a colour, got {config.features}",
                f"set --features {config.features // 3 * 3 or 3}",
            )
        self.config, self.shape = config, data.shape
        self.classes = len(data.classes) if config.conditional else 0
        kind = Gated if config.network == "gated" else Residual
        self.network, twin = (kind(config, data.channels, self.classes, random.child("network")) for _ in range(2))
        self.average = optim.EMA(twin, self.network, config.average)
        self.optimizer = optim.Adam(self.network.parameters(), config.lr)
        self.schedule = optim.CosineAnnealingLR(self.optimizer, config.steps)

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Descend the mean of −log p(x): all pixels of an image at once."""
        while True:
            images, labels = next(batches)
            levels = quantize(images, self.config.levels)
            logits = self.network(self.scaled(levels), labels if self.classes else None)
            nats = negative_log_likelihood(logits, levels).mean()
            self.optimizer.zero_grad()
            nats.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update()
            yield Step({"nats": nats.detach()})

    @property
    def averaged(self) -> Network:
        """The running average of the network."""
        assert isinstance(self.average.averaged, Network)
        return self.average.averaged

    def scaled(self, levels: Tensor) -> Tensor:
        """The levels 0 … L − 1 on [−1, 1], as the networks take them."""
        return levels.to("float32") * (2 / (self.config.levels - 1)) - 1

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images in [0, 1]; image i depends on its own noise alone. A conditional model's go through the classes."""
        noise = random.uniform((n, *self.shape), dtype="float64")
        return self.draw(noise).to("float32") / (self.config.levels - 1)

    def turns(self, n: int) -> Tensor | None:
        """The classes 0, 1, …, 0, 1, … for n images, (n,); None where the model is not conditional."""
        return Tensor(tinygen.arange(n).data % self.classes) if self.classes else None

    def draw(self, noise: Array, given: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Levels (n, c, h, w) by uniform noise (n, c, h, w), pixel after pixel; where `known` (h, w), those `given`
        (c, h, w)."""
        (n, c, h, w), network, labels = noise.shape, self.averaged, self.turns(len(noise))
        memory = Memory(h, w)
        levels = tinygen.zeros(n, c, h, w, dtype="int64")
        x = tinygen.zeros(n, c, 1 + h, w)  # scaled, under an empty row
        with no_grad():
            for i in range(h):
                above = network.above(x[:, :, i : i + 1], labels, memory.at(i, 0, w))
                for j in range(w):
                    seen, here = [a[:, :, :, j : j + 1] for a in above], x[:, :, i + 1 : i + 2, j : j + 1]
                    for colour in range(c):
                        logits = network.along(here, seen, memory.at(i, j, j + 1))  # (n, L, c, 1, 1)
                        level = draw_level(logits[:, :, colour, 0, 0], noise[:, colour, i, j])
                        if given is not None and known is not None:
                            level = F.where(known[i, j], given[colour, i, j], level)
                        levels[:, colour, i, j] = level
                        here[:, colour, 0, 0] = self.scaled(level)
                    memory.correct(here)
        return levels

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with its missing pixels (mask (h, w) 1) drawn from the model, given the known ones.

        In order, a pixel is drawn given those before it; of several such completions one is kept, drawn by how well it
        explains the known pixels that come after. A conditional model tries the classes in turn.
        """
        if mask is None:
            raise UsageError("pixelcnn: it fills missing pixels, and there is no mask", "name a mask")
        if image.shape != self.shape or mask.shape != self.shape[1:]:
            raise UsageError(
                f"pixelcnn: image and mask must be {self.shape} as in training, got {image.shape} and {mask.shape}",
                "train on pictures of this size, or resize it",
            )
        n, scale, missing = self.config.completions, self.config.levels, mask.data > 0.5
        given, known = quantize(F.where(missing, 0.0, image), scale), Tensor(~missing)
        levels = self.draw(random.uniform((n, *self.shape), dtype="float64"), given, known)
        with no_grad():
            logits = self.averaged(self.scaled(levels), self.turns(n))
            weights = log_weights(logits, levels, known.to("float32"))
        chosen = draw_level(weights[None], random.uniform(1, dtype="float64"))  # (1,)
        return F.where(missing, levels[chosen][0].to("float32") / (scale - 1), image)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """−log p(x) of the test images in nats, exactly, and in bits a dimension."""
        images, labels = data.arrays("test")
        scores = []
        with no_grad():
            for k in range(0, len(images), 100):
                levels = quantize(tensor(images[k : k + 100]), self.config.levels)
                classes = tensor(labels[k : k + 100]) if self.classes and labels is not None else None
                scores.append(negative_log_likelihood(self.averaged(self.scaled(levels), classes), levels))
        nats = F.cat(scores)
        mean = nats.mean().item()
        return {
            "nats": mean,
            "bits_per_dimension": bits_per_dimension(mean, math.prod(self.shape)),
            "standard_error": nats.std().item() / math.sqrt(len(nats)),
            "test_images": len(nats),
        }
