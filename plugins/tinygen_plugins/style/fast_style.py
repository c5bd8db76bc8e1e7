r"""Style transfer in one pass (Johnson, Alahi and Fei-Fei 2016), with the normalisation of Ulyanov et al. 2016.

Where the method of Gatys et al. changes the pixels of each picture until the losses are small, here a network learns to
make such pictures at once: ŷ = f_W(x) for any photograph x, with

    W* = argmin_W E_x [ λ_c ℓ_feat(f_W(x), x) + λ_s ℓ_style(f_W(x), painting) + λ_TV ℓ_TV(f_W(x)) ].

ℓ_feat and ℓ_style are distances of feature maps and of their Gram matrices, never of pixels. One network paints in
several styles: only the scales γ and shifts β behind its normalisations are a style's own (Dumoulin et al. 2017), and
a mixture of them is a mixture of the styles. So that films do not flicker, what is painted of a moved copy of the
picture, with a little noise, shall be the moved copy of what is painted (Rainy and de Berker 2018, Wang et al. 2020).

Read from the equations down: losses, the normalisation, the network f_W, then `fit`. The training wants crops of
photographs, `--data patches:PATH --image-size 128`, and paintings, `--painting FILE`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tinygen
import tinygen.functional as F
from tinygen import backend, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.data import Batches, Dataset, DataSpec, read_image, transforms
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Step, Stylizer, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.style._perceptual import in_colour, load_perceptual

STRIPES = "stripes"  # what to name in place of a painting's file
LEAST = 16  # pixels that a picture needs each way: at a quarter of its size the edges are still mirrored
MOVE, NOISE = 8, 0.02  # of the copies: pixels at most, each way; standard deviation
TEST_IMAGES = 50
THUMBNAIL = 8  # pixels each way by which a painting is known again

Network = Literal["squeezenet1_1", "vgg16", "vgg19"]
# the layers of each in which the content is compared, and the style
VGG = "relu2_2", ("relu1_2", "relu2_2", "relu3_3", "relu4_3")  # the paper's
LAYERS = {"squeezenet1_1": ("fire3", ("relu1", "fire3", "fire5", "fire7")), "vgg16": VGG, "vgg19": VGG}


@dataclass(frozen=True)
class Config:
    """Options of the losses, the network and the training."""

    painting: tuple[str, ...] = (STRIPES,)
    """files of paintings, a style each; "stripes" for one that needs no file"""
    painting_size: int = 256
    """pixels to which the shorter side of a painting is brought: fewer make finer strokes"""
    network: Network = "squeezenet1_1"
    """the network whose features the losses compare"""
    weights: str = ""
    """file of its weights; where none is told NETWORK/NETWORK_imagenet.npz in the data folders; random for random
    ones"""
    content: float = 1.0
    """weight of the content loss"""
    style: float = 3.0
    """weight of the style loss"""
    tv: float = 10.0
    """weight of the total variation"""
    steady: float = 50.0
    """weight of the loss that keeps films from flickering; 0 for pictures alone, which train in less time"""
    keep_colour: bool = False
    """give the result the mean colour and the contrast of the photograph"""
    steps: int = 3000
    """updates to train for; the learning rate falls over them to a tenth"""
    batch_size: int = 2
    """images in a batch"""
    width: int = 16
    """channels at full size, twice as many at half, four times as many at a quarter of it; the paper has 32"""
    blocks: int = 5
    """residual blocks"""
    lr: float = 3e-3
    """learning rate of Adam at the beginning"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("painting_size", 32, 4096), ("content", 0, 1e9), ("style", 0, 1e9), ("tv", 0, 1e9), ("steady", 0, 1e9),
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("width", 1, 1024), ("blocks", 0, 100), ("lr", 1e-9, 1),
        ):  # fmt: skip
            check_range("fast_style", name, getattr(self, name), low, high)
        check_choice("fast_style", "network", self.network, list(get_args(Network)))
        if not self.painting:
            raise UsageError("fast_style: there is no painting", "name one or more: --painting FILE")
        # In full: a run may go on, and be evaluated, from another folder.
        object.__setattr__(self, "painting", tuple(_in_full(name, STRIPES) for name in self.painting))
        object.__setattr__(self, "weights", _in_full(self.weights, "", "random"))


def _in_full(name: str, *words: str) -> str:
    """The path of a file from the root on; one of `words`, which stand for no file, as it is."""
    return name if name in words else str(Path(name).expanduser().resolve())


# ---------------------------------------------------------------- equations: losses


@equation(
    r"\ell_\mathrm{feat}(\hat y, y) = \frac{1}{C H W} \lVert \phi(\hat y) - \phi(y) \rVert_2^2",
    source="Johnson et al. 2016, eq. 2",
)
def feature_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """How far feature maps (n, c, h, w) are from others, for each picture: (n,)."""
    error = found - wanted
    return (error * error).mean((1, 2, 3))


@equation(
    r"G = \frac{\psi \psi^\top}{C H W}, \quad \psi \in \mathbb{R}^{C \times HW}", source="Johnson et al. 2016, eq. 3"
)
def gram(maps: Tensor) -> Tensor:
    """How the features of maps (n, c, h, w) occur together, wherever in the picture: (n, c, c)."""
    psi = maps.flatten(2)  # (n, c, h·w)
    return psi @ psi.transpose(1, 2) / math.prod(maps.shape[1:])  # (n, c, c) = (n, c, h·w) @ (n, h·w, c)


@equation(r"\ell_\mathrm{style}(\hat y, y) = \lVert G(\hat y) - G(y) \rVert_F^2", source="Johnson et al. 2016, eq. 4")
def style_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """How far Gram matrices (n, c, c) are from others, for each picture: (n,)."""
    error = found - wanted
    return (error * error).sum((1, 2))


@equation(
    r"\ell_\mathrm{TV}(\hat y) = \frac{1}{C H W} \sum_{c,i,j}"
    r" (\hat y_{c,i+1,j} - \hat y_{c,i,j})^2 + (\hat y_{c,i,j+1} - \hat y_{c,i,j})^2",
    source="Johnson et al. 2016, section 3.2, after Mahendran and Vedaldi 2015 with β = 2",
)
def total_variation(images: Tensor) -> Tensor:
    """How rough images (n, c, h, w) are, for each of them: (n,)."""
    down, across = images[:, :, 1:] - images[:, :, :-1], images[:, :, :, 1:] - images[:, :, :, :-1]
    return ((down * down).sum((1, 2, 3)) + (across * across).sum((1, 2, 3))) / math.prod(images.shape[1:])


@equation(
    r"\ell_\mathrm{steady} = \frac{1}{C H W} \lVert f_W(S x + \epsilon) - S f_W(x) \rVert_2^2",
    source="Rainy and de Berker 2018 for the noise ε, Wang et al. 2020 for the motion S",
)
def steady_loss(of_moved: Tensor, moved: Tensor) -> Tensor:
    """How far the painted copies f(S x + ε) are from the copies S f(x) of the painted, (n, c, h, w) both: (n,)."""
    error = of_moved - moved
    return (error * error).mean((1, 2, 3))


@equation(
    r"\mathcal{L} = \lambda_c \frac{\ell_\mathrm{feat}(\hat y, x)}{\ell_\mathrm{feat}(0, x)}"
    r" + \lambda_s \frac1L \sum_{j=1}^L \frac{\ell_\mathrm{style}^j(\hat y, y)}{\lVert G^j(y) \rVert_F^2}"
    r" + \lambda_\mathrm{TV} \ell_\mathrm{TV}",
    source="Johnson et al. 2016, eq. 5, each loss against what it is of features that are 0: so one weight suits every "
    "layer and every network, whatever the size of its features",
)
def total_loss(content: Tensor, style: Tensor, variation: Tensor, config: Config) -> Tensor:
    """The weighted sum of the three losses, (n,) each, the first two of them relative."""
    return config.content * content + config.style * style + config.tv * variation


# ---------------------------------------------------------------- equations: normalisation


@equation(
    r"\mathrm{IN}(x; s)_{ncij} = \gamma_{sc} \frac{x_{ncij} - \mu_{nc}}{\sqrt{\sigma_{nc}^2 + \epsilon}} + \beta_{sc}",
    source="Ulyanov et al. 2016; with γ and β of the style s Dumoulin et al. 2017",
)
def instance_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """x (n, c, h, w) with the deviations γ and the means β, (n, c) each, in place of each image's and channel's own."""
    return F.instance_norm(x) * gamma.unsqueeze(2).unsqueeze(3) + beta.unsqueeze(2).unsqueeze(3)


@equation(
    r"\mathrm{AdaIN}(x, y) = \sigma(y) \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \epsilon}} + \mu(y)",
    source="Huang and Belongie 2017, eq. 8",
)
def adain(x: Tensor, y: Tensor) -> Tensor:
    """x (n, c, h, w) with the mean and the deviation that each channel has in y (n, c, h', w')."""
    return instance_norm(x, y.var((2, 3), correction=0).sqrt(), y.mean((2, 3)))


# ---------------------------------------------------------------- the network


class Layer(nn.Module):
    """A convolution, the normalisation in the styles' ways, and a rectifier."""

    def __init__(self, styles: int, c: int, out: int, kernel: int, stride: int, relu: bool, random: Stream) -> None:
        super().__init__()
        self.conv = nn.Conv2d(  # no bias: the normalisation would take it away
            c, out, kernel, stride, kernel // 2, bias=False, padding_mode="reflect", random=random
        )
        self.gamma, self.beta = nn.Parameter(tinygen.ones(styles, out)), nn.Parameter(tinygen.zeros(styles, out))
        self.relu = relu

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        y = instance_norm(self.conv(x), mix @ self.gamma, mix @ self.beta)  # (n, c) = (n, styles) @ (styles, c)
        return F.relu(y) if self.relu else y


class Residual(nn.Module):
    """x + h(x), with two convolutions in h."""

    def __init__(self, styles: int, c: int, random: Stream) -> None:
        super().__init__()
        self.first = Layer(styles, c, c, 3, 1, True, random.child("1"))
        self.second = Layer(styles, c, c, 3, 1, False, random.child("2"))

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        return x + self.second(self.first(x, mix), mix)


class TransformNetwork(nn.Module):
    """f_W: photographs (n, 3, h, w) to paintings of the same size, all in [0, 1]; mix (n, styles): how much of each
    style. Height and width are multiples of 4."""

    def __init__(self, styles: int, width: int, blocks: int, random: Stream) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([
            Layer(styles, 3, w, 5, 1, True, random.child("down 1")),  # the paper has 9 × 9 at both ends
            Layer(styles, w, 2 * w, 3, 2, True, random.child("down 2")),  # (n, 2w, h/2, w/2)
            Layer(styles, 2 * w, 4 * w, 3, 2, True, random.child("down 3")),  # (n, 4w, h/4, w/4)
        ])  # fmt: skip
        self.blocks = nn.ModuleList([Residual(styles, 4 * w, random.child(f"block {k}")) for k in range(blocks)])
        self.up = nn.ModuleList([  # enlarged, then convolved: a transposed convolution would leave a chequerboard
            Layer(styles, 4 * w, 2 * w, 3, 1, True, random.child("up 1")),
            Layer(styles, 2 * w, w, 3, 1, True, random.child("up 2")),
        ])  # fmt: skip
        self.last = nn.Conv2d(w, 3, 5, padding=2, padding_mode="reflect", random=random.child("last"))

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        y = x
        for layer in (*self.down, *self.blocks):
            y = layer(y, mix)  # (n, 4w, h/4, w/4) in the end
        for layer in self.up:
            y = layer(F.interpolate(y, scale_factor=2), mix)  # (n, c, 2h, 2w)
        return F.sigmoid(self.last(y))


# ---------------------------------------------------------------- the losses' side


class LossNetwork:
    """The network that sees, φ, and the Gram matrices of the paintings in it. It learns nothing and is not saved."""

    def __init__(self, config: Config, paintings: list[Tensor], random: Stream) -> None:
        self.content_layer, self.style_layers = LAYERS[config.network]
        self.features = load_perceptual(config.network, config.weights, random).features
        with no_grad():
            maps = [self.features(painting.unsqueeze(0), self.style_layers) for painting in paintings]
            self.grams = {j: F.cat([gram(each[j]) for each in maps]) for j in self.style_layers}  # (styles, c, c) each

    def losses(self, y: Tensor, x: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        """The relative content and style losses, (n,) each, of y painted from photographs x, (n, 3, h, w) both, in
        styles mix (n, styles)."""
        with no_grad():
            wanted = self.features(x, [self.content_layer])[self.content_layer]
        maps = self.features(y, [self.content_layer, *self.style_layers])
        content = feature_loss(maps[self.content_layer], wanted) / feature_loss(wanted, 0 * wanted)
        each = []
        for j in self.style_layers:
            a = (mix @ self.grams[j].flatten(1)).reshape(len(mix), *self.grams[j].shape[1:])  # (n, c, c)
            each.append(style_loss(gram(maps[j]), a) / style_loss(a, 0 * a))
        return content, tinygen.stack(each).mean(0)


def stripes(size: int, random: Stream) -> Tensor:
    """A painting without a file: soft waves of colour over one another, (3, size, size)."""
    at = tinygen.arange(size) * (2 * math.pi / size)
    image = tinygen.zeros(3, size, size)
    for _ in range(6):
        turns, phase = Tensor(random.uniform((2,), -24.0, 24.0)), Tensor(random.uniform((3, 1, 1), 0.0, 2 * math.pi))
        image = image + F.sin(turns[0] * at.reshape(size, 1) + turns[1] * at + phase)
    return F.sigmoid(2 * image)


def read_painting(name: str, size: int, random: Stream) -> Tensor:
    """The painting of a file, (3, h, w), its shorter side brought to `size` where it is longer."""
    if name == STRIPES:
        return stripes(size, random)
    painting = tensor(read_image(name, 3))
    h, w = painting.shape[1:]
    scale = size / min(h, w)
    return painting if scale >= 1 else Tensor(transforms.resize(painting.data, (round(h * scale), round(w * scale))))


def moved(x: Tensor, dy: int, dx: int) -> Tensor:
    """What the camera sees of x (n, c, h, w) after a move by (dy, dx) pixels, as far as it was in sight before."""
    h, w = x.shape[2:]
    return x[:, :, max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)]


# ---------------------------------------------------------------- the algorithm


class FastStyle(Trainable, Stylizer, Evaluable):
    """One network for some paintings and any photographs."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if min(data.height, data.width) < 32:
            raise UsageError(
                f"fast_style: images need 32 × 32 pixels, {data.name} has {data.height} × {data.width}",
                "crops of photographs are best: --data patches:PATH --image-size 128",
            )
        self.config, self.trained_on, self.styles = config, data.name, len(config.painting)
        self.network = TransformNetwork(self.styles, config.width, config.blocks, random.child("network"))
        self.optimizer = optim.Adam(self.network.parameters(), config.lr)
        steps = config.steps
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: 10 ** -min(k / steps, 1.0))
        self.thumbnails = tinygen.zeros(self.styles, 3, THUMBNAIL, THUMBNAIL)  # of the paintings, once it is trained
        self.random = random
        self.choice, self.noise = random.child("choice"), random.child("noise")
        self.moves = Stream(random.seed, f"{random.name}/moves", backend.NUMPY)  # these numbers are the host's

    def loss_network(self) -> LossNetwork:
        """Read the paintings and the weights. Raises DataError for files that are missing or do not fit."""
        size, random = self.config.painting_size, self.random
        names = enumerate(self.config.painting)
        paintings = [read_painting(name, size, random.child(f"painting {k}")) for k, name in names]  # (3, h, w) each
        self.thumbnails.data = F.cat([thumbnail(painting) for painting in paintings]).data
        return LossNetwork(self.config, paintings, random.child("loss network"))

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Read the files first, so that one that is missing is told before there is a run."""
        return self.descend(batches, self.loss_network())

    def descend(self, batches: Batches, judge: LossNetwork) -> Iterator[Step]:
        """Draw photographs and a style for each, paint them, and descend the losses: for ever."""
        while True:
            x = in_colour(next(batches).images)  # (n, 3, h, w)
            which = Tensor(self.choice.integers(0, self.styles, (len(x),)))
            mix = F.one_hot(which, self.styles).to(x.dtype)  # (n, styles)
            y = self.paint(x, mix)
            content, style = judge.losses(y, x, mix)
            variation = total_variation(y)
            loss = total_loss(content, style, variation, self.config).mean()
            figures = {"content": content.mean(), "style": style.mean(), "tv": variation.mean()}
            if self.config.steady > 0:
                steady = self.steady(x[:1], y[:1], mix[:1], self.moves, self.noise).mean()  # one picture says enough
                loss, figures["steady"] = loss + self.config.steady * steady, steady
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            yield Step({"loss": loss, **figures})

    def steady(self, x: Tensor, y: Tensor, mix: Tensor, moves: Stream, noise: Stream) -> Tensor:
        """The steadiness of paintings y of photographs x, (n, 3, h, w) both, under one move for all of them: (n,)."""
        dy, dx = (int(step) for step in moves.integers(-MOVE, MOVE + 1, (2,)))
        copy = moved(x, dy, dx)
        return steady_loss(self.paint(copy + NOISE * Tensor(noise.normal(copy.shape)), mix), moved(y, dy, dx))

    def paint(self, x: Tensor, mix: Tensor) -> Tensor:
        """Photographs (n, 3, h, w) of any size painted in styles mix (n, styles)."""
        h, w = x.shape[2:]
        return self.network(F.pad(x, (0, -w % 4, 0, -h % 4), "reflect"), mix)[:, :, :h, :w]

    def stylize(self, content: Tensor, style: list[Tensor]) -> Iterator[Tensor]:
        """The picture (c, h, w) painted, (3, h, w), in one pass: one item. style: none for all the trained styles in
        equal parts; or paintings (c, h, w), each for the trained one most like it."""
        if min(content.shape[1:]) < LEAST:
            raise UsageError(
                f"fast_style: pictures need {LEAST} pixels each way, got {content.shape[1:]}", "enlarge it"
            )
        x = in_colour(content.unsqueeze(0))
        with no_grad():
            y = self.paint(x, self.called(style))
            y = adain(y, x).clamp(0.0, 1.0) if self.config.keep_colour else y
        yield y[0]

    def called(self, style: list[Tensor]) -> Tensor:
        """The mixture (1, styles) that the paintings (c, h, w) call for."""
        if not style:
            return tinygen.full((1, self.styles), 1 / self.styles)
        seen = F.cat([in_colour(thumbnail(painting)) for painting in style])
        error = seen.unsqueeze(1) - self.thumbnails  # (paintings, styles, 3, …)
        nearest = (error * error).sum((2, 3, 4)).argmin(1)
        return F.one_hot(nearest, self.styles).to(seen.dtype).mean(0, keepdim=True)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """The losses on test images, a mean over the styles, and the flicker: how far the pixels of a moved and noisy
        copy are from what they were, white being 255. Other data than the training's is unseen in any split."""
        split = "test" if "test" in data.splits or data.name == self.trained_on else "train"
        images, judge = tensor(data.arrays(split, TEST_IMAGES)[0]), self.loss_network()
        moves = Stream(random.seed, f"{random.name}/moves", backend.NUMPY)
        rows = []
        with no_grad():
            for x, k in itertools.product(in_colour(images).split(1), range(self.styles)):
                mix = F.one_hot(tensor([k]), self.styles).to(x.dtype)
                y = self.paint(x, mix)
                parts = (*judge.losses(y, x, mix), total_variation(y))
                flicker = 255 * self.steady(x, y, mix, moves, random).sqrt()
                rows.append(F.cat([total_loss(*parts, self.config), *parts, flicker]))
        means = tinygen.stack(rows).mean(0).numpy().tolist()
        return dict(zip(("loss", "content", "style", "tv", "flicker"), means)) | {"test_images": len(images)}


def thumbnail(painting: Tensor) -> Tensor:
    """A painting (c, h, w), very small: (1, c, 8, 8)."""
    return F.adaptive_avg_pool2d(painting.unsqueeze(0), THUMBNAIL)
