r"""Neural style transfer (Gatys, Ecker and Bethge 2016).

A network that was trained to tell objects apart sees a picture as maps F^l (N_l, M_l): N_l filters at M_l places. Where
the maps of two pictures agree, so does what is in them: their content. What remains when the places are summed over,
the products of the filters with one another (the Gram matrix G = F Fᵀ), says which textures there are and not where:
their style. A picture with the content of a photograph and the style of a painting is found by descent on its pixels.

Overview articles write the style loss as the squared difference of two images, or of their maps: it is that of their
Gram matrices.

Each layer's loss is weighed by what it would be if the layer saw nothing in the picture, w_l = 1 / (L E_l(0)) with L
layers, and so is the content's: 0 is alike, 1 is as far off as a blank. So α = 1 and β mean the same for every network,
picture and size; the paper's numbers belong to VGG-19 with its maps scaled to a mean of 1.

Read from the equations down: the losses, the colours, then `stylize`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import tinygen.functional as F
from tinygen import backend, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array
from tinygen.data import DataSpec
from tinygen.data.transforms import luma, resize
from tinygen.errors import UsageError
from tinygen.host import Stylizer, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.style._perceptual import in_colour, load_perceptual

Network = Literal["squeezenet1_1", "vgg16", "vgg19"]
Start = Literal["content", "noise", "style"]
Colours = Literal["no", "luminance", "histogram"]
CONTENT = {"squeezenet1_1": ("fire3", "fire4"), "vgg16": ("relu4_2",), "vgg19": ("relu4_2",)}
STYLE = {
    "squeezenet1_1": ("relu1", "fire2", "fire3", "fire4", "fire5"),
    "vgg16": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "vgg19": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
}
BETA = 30.0  # of eq. 7, with α = 1, where `strength` is 1
SMALLEST = 32  # pixels; of a smaller side the deeper layers see nothing
COARSEST = 384  # pixels of the longer side at which large pictures are begun
HISTORY = 20  # steps whose curvature L-BFGS remembers


@dataclass(frozen=True)
class Config:
    """Options of the losses and of the descent."""

    strength: float = 1.0
    """weight of the style against the content: 0.1 for a breath of it, 10 for all that there is"""
    steps: int = 300
    """steps of the optimizer at each scale"""
    keep_colour: Colours = "no"
    """whether the photograph's colours stay: no; luminance paints its light alone; histogram recolours the painting"""
    blend: tuple[float, ...] = ()
    """shares of several paintings, in their order; none for equal ones"""
    start: Start = "content"
    """picture to begin from: the photograph, noise, or the first painting"""
    scales: int = 0
    """sizes to work at, each twice the one before, so that large pictures get large strokes; 0 for as many as begin
    with about 384 pixels"""
    style_scale: float = 1.0
    """size of the painting against the photograph: above 1 for larger strokes"""
    network: Network = "squeezenet1_1"
    """network that sees"""
    weights: str = ""
    """file of its weights, .npz or .safetensors, named as torchvision's; none for the one in the data folders, random
    for random ones"""
    pooling: Literal["average", "max"] = "average"
    """how the network's maps get smaller: average, by which the style is found more easily, or max as trained"""
    content_layers: tuple[str, ...] = ()
    """layers in which the content is compared; none for fire3 and fire4, or relu4_2 of vgg"""
    style_layers: tuple[str, ...] = ()
    """layers in which the style is compared; none for relu1 to fire5, or the first ones of each block of vgg"""
    variation: float = 1.0
    """weight of the total variation, against noise"""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """how the loss is descended"""
    lr: float = 0.0
    """learning rate; 0 for 1 with lbfgs, 0.02 with adam"""

    def __post_init__(self) -> None:
        for name, kind in (("keep_colour", Colours), ("start", Start), ("network", Network)):
            check_choice("gatys", name, getattr(self, name), list(get_args(kind)))
        check_choice("gatys", "pooling", self.pooling, ["average", "max"])
        check_choice("gatys", "optimizer", self.optimizer, ["lbfgs", "adam"])
        for name, low, high in (
            ("strength", 0.0, 1e4), ("steps", 1, 100_000), ("scales", 0, 8), ("style_scale", 0.1, 10.0),
            ("variation", 0.0, 1e6), ("lr", 0.0, 100.0),
        ):  # fmt: skip
            check_range("gatys", name, getattr(self, name), low, high)
        if any(not 0 <= share < math.inf for share in self.blend) or (self.blend and not sum(self.blend) > 0):
            raise UsageError(f"gatys: blend must be shares from 0 on, got {self.blend}", "for instance --blend 2 1")


# ---------------------------------------------------------------- content and style


@equation(
    r"\mathcal{L}_\mathrm{content} = \tfrac12 \sum_{ij} (F^l_{ij} - P^l_{ij})^2", source="Gatys et al. 2016, eq. 1"
)
def content_loss(features: Tensor, photo: Tensor) -> Tensor:
    """How far the picture's maps are from the photograph's in one layer; any one shape."""
    return ((features - photo) ** 2).sum() * 0.5


@equation(r"G^l_{ij} = \sum_k F^l_{ik} F^l_{jk}", source="Gatys et al. 2016, eq. 3")
def gram(features: Tensor) -> Tensor:
    """The inner products of the filters' maps (N, M) with one another: (N, N)."""
    return features @ features.transpose(0, 1)  # (N, N) = (N, M) @ (M, N)


@equation(r"E_l = \frac{1}{4 N_l^2 M_l^2} \sum_{ij} (G^l_{ij} - A^l_{ij})^2", source="Gatys et al. 2016, eq. 4")
def layer_loss(features: Tensor, painting: Tensor) -> Tensor:
    """How far the maps (N, M) of one layer are from the style whose Gram matrix (N, N), over M places too, is A."""
    count, places = features.shape
    return ((gram(features) - painting) ** 2).sum() * (1 / (4.0 * count**2 * places**2))


@equation(
    r"\frac{\partial E_l}{\partial F^l_{ij}} = \begin{cases} \frac{1}{N_l^2 M_l^2} ((G^l - A^l) F^l)_{ij}"
    r" & F^l_{ij} > 0 \\ 0 & F^l_{ij} < 0 \end{cases}",
    source="Gatys et al. 2016, eq. 6, there with the transpose of the symmetric product",
)
def layer_gradient(activations: Tensor, painting: Tensor) -> Tensor:
    """The slope of E_l by what goes into the rectifier, (N, M), where F = max(0, activations). It is what the tape
    computes for a descent; nothing else needs it."""
    features = F.relu(activations)
    count, places = features.shape
    slope = (gram(features) - painting) @ features * (1 / (count**2 * places**2))  # (N, M) = (N, N) @ (N, M)
    return slope * (activations.detach() > 0)


@equation(r"\mathcal{L}_\mathrm{style} = \sum_l w_l E_l", source="Gatys et al. 2016, eq. 5")
def style_loss(layers: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """The losses E_l of the layers, weighed; a tensor without dimensions."""
    return F.stack([weight * loss for weight, loss in zip(weights, layers, strict=True)]).sum()


@equation(
    r"\mathcal{L}_\mathrm{total} = \alpha \mathcal{L}_\mathrm{content} + \beta \mathcal{L}_\mathrm{style}",
    source="Gatys et al. 2016, eq. 7",
)
def total_loss(content: Tensor, style: Tensor, alpha: float, beta: float) -> Tensor:
    """What the picture descends."""
    return alpha * content + beta * style


@equation(
    r"V(x) = \frac{1}{hw} \sum_{c,i,j} (x_{c,i+1,j} - x_{c,i,j})^2 + (x_{c,i,j+1} - x_{c,i,j})^2",
    source="Mahendran and Vedaldi 2015, section 3, with β = 2",
)
def total_variation(image: Tensor) -> Tensor:
    """The mean square of a step to the neighbour below and to the right; image (n, c, h, w)."""
    down, right = image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
    return ((down * down).sum() + (right * right).sum()) * (1 / math.prod(image.shape[2:]))


# ---------------------------------------------------------------- colours


@equation(
    r"x' = \Sigma_C^{1/2} \Sigma_S^{-1/2} (x - \mu_S) + \mu_C",
    source="Gatys, Bethge, Hertzmann and Shechtman 2016, colour histogram matching by the roots of image analogies",
)
def match_colours(painting: Array, photo: Array) -> Array:
    """The painting in colours of the photograph's mean and covariance; (3, h, w) each, of any two sizes."""
    xp = backend.of(painting).xp
    (mean_s, root_s), (mean_c, root_c) = (_colours(image.reshape(3, -1)) for image in (painting, photo))
    matched = root_c @ xp.linalg.inv(root_s) @ (painting.reshape(3, -1) - mean_s) + mean_c  # (3, h w)
    return matched.reshape(painting.shape).astype(painting.dtype)


def _colours(pixels: Array) -> tuple[Array, Array]:
    """The mean (3, 1) and the square root (3, 3) of the covariance of pixels (3, m), in double precision."""
    xp = backend.of(pixels).xp
    pixels = pixels.astype("float64")
    mean = pixels.mean(axis=1, keepdims=True)
    away = pixels - mean
    values, vectors = xp.linalg.eigh(away @ away.T / pixels.shape[1])
    roots = xp.sqrt(xp.maximum(values, 1e-6))  # no less than a quarter of a level: a grey picture has no inverse
    return mean, vectors * roots @ vectors.T


@equation(
    r"L_{S'} = \frac{\sigma_C}{\sigma_S} (L_S - \mu_S) + \mu_C",
    source="Gatys, Bethge, Hertzmann and Shechtman 2016, luminance-only transfer",
)
def match_luminance(painting: Array, photo: Array) -> Array:
    """The painting's luminance with the photograph's mean and deviation; (1, h, w) each, of any two sizes."""
    xp = backend.of(painting).xp
    scale = photo.std() / xp.maximum(painting.std(), 1e-3)
    return scale * (painting - painting.mean()) + photo.mean()


@equation(r"x' = x + Y(\hat x) - Y(x)", source="Gatys, Bethge, Hertzmann and Shechtman 2016: Y new, I and Q kept")
def with_luminance(photo: Array, luminance: Array) -> Array:
    """The photograph (3, h, w) with another luminance Y (1, h, w). As Y weighs R, G and B by shares of 1, one number
    added to all three moves Y by as much, and neither I nor Q, which are differences."""
    return photo + (luminance - luma(photo))


# ---------------------------------------------------------------- the descent


class Targets(NamedTuple):
    """What the network sees in the originals, at one size, layer by layer."""

    content: dict[str, Tensor]  # P, (1, N, h', w')
    style: dict[str, Tensor]  # A / M, (N, N): the painting may have more places than the picture
    content_weights: list[Tensor]  # one over the losses of a picture in which the layers see nothing
    style_weights: list[Tensor]


class Gatys(Stylizer):
    """Pixels that descend the loss; the network stays as it is."""

    def __init__(self, config: Config, data: DataSpec | None, random: Stream) -> None:
        self.config = config
        self.network = load_perceptual(config.network, config.weights, random.child("network"), config.pooling)
        self.content_layers = self.network.features.checked(config.content_layers or CONTENT[config.network])
        self.style_layers = self.network.features.checked(config.style_layers or STYLE[config.network])
        self.noise = random.child("noise")

    def stages(self, content: Tensor) -> int:
        return self.config.steps * len(self.sizes(*content.shape[-2:]))

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """The (h, w) to work at, from coarse to fine: the last is the picture's own."""
        most = 1 + int(math.log2(min(height, width) / SMALLEST))
        told = self.config.scales or 1 + max(0, round(math.log2(max(height, width) / COARSEST)))
        return [(round(height / 2**k), round(width / 2**k)) for k in reversed(range(min(told, most)))]

    def stylize(self, content: Tensor, style: list[Tensor]) -> Iterator[Tensor]:
        """The picture (3, h, w) after each step of the optimizer.

        content, style: (c, h, w) in [0, 1], one channel or three, each of its own size.
        Raises UsageError for no painting, for as many as `blend` has no shares for, for a side below SMALLEST.
        """
        self.require_fitting(content, style)
        photo, *paintings = (in_colour(image.unsqueeze(0))[0].data for image in (content, *style))
        seen = photo  # what the network gets to see of the photograph
        if self.config.keep_colour == "luminance":
            seen = luma(photo)  # (1, h, w)
            paintings = [match_luminance(luma(painting), seen) for painting in paintings]
        elif self.config.keep_colour == "histogram":
            paintings = [match_colours(painting, photo) for painting in paintings]
        image: Array | None = None
        for size in self.sizes(*photo.shape[-2:]):
            small, styles = resize(seen, size), [_as_large(each, size, self.config.style_scale) for each in paintings]
            start = self.first(small, styles) if image is None else resize(image, size)
            for image in self.descend(start, self.targets(small, styles)):
                yield Tensor(self.finished(image, photo))

    def descend(self, image: Array, targets: Targets) -> Iterator[Array]:
        """The image (c, h, w) after each step at its size."""
        config = self.config
        pixels = nn.Parameter(image.copy())

        def closure() -> Tensor:
            pixels.grad = None
            content, style = self.losses(pixels, targets)
            loss = total_loss(content, style, 1.0, BETA * config.strength)
            if config.variation:
                loss = loss + config.variation * total_variation(pixels.unsqueeze(0))
            loss.backward()
            return loss

        if config.optimizer == "lbfgs":
            lbfgs = optim.LBFGS([pixels], config.lr or 1.0, max_iter=1, history_size=HISTORY)
            for _ in range(config.steps):
                lbfgs.step(closure)
                yield pixels.data
        else:
            adam = optim.Adam([pixels], config.lr or 0.02)
            for _ in range(config.steps):
                closure()
                adam.step()
                yield pixels.data

    def losses(self, image: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The content loss and the style loss of an image (c, h, w), each relative to that of seeing nothing."""
        maps = self.see(image)
        contents = [content_loss(maps[layer], photo) for layer, photo in targets.content.items()]
        styles = []
        for layer, painting in targets.style.items():
            features = maps[layer].flatten(2)[0]  # (N, M)
            styles.append(layer_loss(features, painting * float(features.shape[1])))
        return style_loss(contents, targets.content_weights), style_loss(styles, targets.style_weights)

    def targets(self, photo: Array, paintings: list[Array]) -> Targets:
        """What the network sees in the photograph and, on the average by `blend`, in the paintings; (c, h, w) each.

        The mean of the Gram matrices is as good as the mean of the losses: they differ by what no picture can change.
        """
        shares = self.config.blend or (1.0,) * len(paintings)
        with no_grad():
            maps = self.see(Tensor(photo))
            content = {layer: maps[layer] for layer in self.content_layers}
            style = {layer: tensor(0.0) for layer in self.style_layers}
            for share, painting in zip(shares, paintings, strict=True):
                maps = self.see(Tensor(painting))
                for layer in style:
                    features = maps[layer].flatten(2)[0]  # (N, M)
                    style[layer] = style[layer] + gram(features) * (share / sum(shares) / features.shape[1])
            no_content = [content_loss(maps * 0.0, maps) for maps in content.values()]
            no_style = [layer_loss(matrix[:, :1] * 0.0, matrix) for matrix in style.values()]
            return Targets(
                content,
                style,
                [1 / (loss * len(no_content)) for loss in no_content],
                [1 / (loss * len(no_style)) for loss in no_style],
            )

    def see(self, image: Tensor) -> dict[str, Tensor]:
        """The maps of all layers for one image (c, h, w), c = 1 or 3."""
        layers = [*self.content_layers, *self.style_layers]
        return self.network.features(in_colour(image.unsqueeze(0)), layers)

    def first(self, photo: Array, paintings: list[Array]) -> Array:
        """The picture to begin from, as large as the photograph (c, h, w)."""
        if self.config.start == "noise":
            return self.noise.uniform(photo.shape)
        return photo if self.config.start == "content" else resize(paintings[0], photo.shape[-2:])

    def finished(self, image: Array, photo: Array) -> Array:
        """An image on its way (c, h', w') as a picture (3, h, w) in [0, 1]."""
        full = image if image.shape[-2:] == photo.shape[-2:] else resize(image, photo.shape[-2:])
        if self.config.keep_colour == "luminance":
            full = with_luminance(photo, full)
        return backend.of(full).xp.clip(full, 0.0, 1.0)

    def require_fitting(self, content: Tensor, style: list[Tensor]) -> None:
        """Raise UsageError for what `stylize` cannot work on."""
        if not style:
            raise UsageError("gatys: a painting is needed", "name one with --style FILE")
        if self.config.blend and len(self.config.blend) != len(style):
            raise UsageError(
                f"gatys: blend has {len(self.config.blend)} shares for {len(style)} paintings",
                "name one share for each",
            )
        for image in (content, *style):
            if min(image.shape[-2:]) < SMALLEST:
                raise UsageError(
                    f"gatys: a picture must have {SMALLEST} pixels each way, got {image.shape[-2]} × {image.shape[-1]}",
                    "make it larger first",
                )


def _as_large(painting: Array, size: tuple[int, int], scale: float) -> Array:
    """The painting (c, h, w) in its own proportions, of as many pixels as `size` (h, w) has, times scale²."""
    factor = scale * math.sqrt(math.prod(size) / math.prod(painting.shape[-2:]))
    height, width = (max(SMALLEST, round(side * factor)) for side in painting.shape[-2:])
    return resize(painting, (height, width))
