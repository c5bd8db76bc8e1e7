r"""Holes filled by a context encoder (Pathak, Krähenbühl, Donahue, Darrell, Efros 2016).

A generator G sees what is known of an image, M ⊙ x with M = 1 at known pixels, and says what the whole looks like; the
known pixels are then put back,

    x̂ = M ⊙ x + (1 − M) ⊙ G(M ⊙ x).

Where several fillings are plausible the least squared error is their mean, which is a blur. A discriminator D therefore
tells filled images from whole ones as in a GAN, and G minimises both losses: the first says where things go, the second
that they be sharp. The holes of training are rectangles and strokes in random places. G sees M besides M ⊙ x: a hole
would be black otherwise, as ink may be.

The encoder halves the image down to 8 × 8 places or fewer. There each channel has a fully connected layer of its own
from all places to all places, the only one through which what is known on one side reaches the other side of a hole.

Read from the equations down: losses, masks, the two networks, `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import tinygen
import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, current, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Repairer, Step, Trainable, check_range, equation
from tinygen.random import Stream

SMALLEST, STROKES, TEST_IMAGES = 8, 4, 500  # side of the encoder's last map; lines in a mask; for `evaluate`


@dataclass(frozen=True)
class Config:
    """Options of the two losses, the training and the networks."""

    steps: int = 2000
    """updates to train for"""
    batch_size: int = 32
    """images in a batch"""
    reconstruction: float = 0.999
    """λ_rec, weight of the squared error in the hole"""
    adversarial: float = 0.001
    """λ_adv, weight of the discriminator's opinion; more is sharper and wilder"""
    width: int = 32
    """channels at half the image's side; twice as many at each halving from there"""
    lr: float = 1e-3
    """learning rate of the generator; the discriminator's is a tenth"""
    beta1: float = 0.5
    """first decay rate of both Adam optimizers"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 2, 10**6), ("reconstruction", 0, 1e6), ("adversarial", 0, 1e6),
            ("width", 1, 4096), ("lr", 1e-9, 1), ("beta1", 0, 0.9999),
        ):  # fmt: skip
            check_range("gan_inpaint", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations


@equation(r"\hat x = M \odot x + (1 - M) \odot G(M \odot x)", source="Pathak et al. 2016, section 3")
def composite(x: Tensor, filled: Tensor, known: Tensor) -> Tensor:
    """The known pixels of x, bit for bit, and the others from `filled`; known: M, (n, 1, h, w) of 0 and 1."""
    return tinygen.where(known > 0.5, x, filled)


@equation(
    r"\mathcal{L}_{rec} = \frac{1}{C \sum (1 - M)} \lVert (1 - M) \odot (x - G(M \odot x)) \rVert_2^2",
    source="Pathak et al. 2016, eq. 1, as a mean over the missing values",
)
def reconstruction_loss(x: Tensor, filled: Tensor, known: Tensor) -> Tensor:
    """Mean squared error in the holes of a batch; x, filled (n, c, h, w), known (n, 1, h, w)."""
    error = (1 - known) * (x - filled)
    return (error * error).sum() / ((1 - known).sum() * x.shape[1])


@equation(
    r"\mathcal{L}_D = -\mathbb{E}_x[\log D(x) + \log(1 - D(\hat x))]", source="Pathak et al. 2016, eq. 2: D ascends it"
)
def discriminator_loss(real_logits: Tensor, filled_logits: Tensor) -> Tensor:
    """What D minimises, in nats, from the logits of whole and of filled images."""
    return F.softplus(-real_logits).mean() + F.softplus(filled_logits).mean()


@equation(r"\mathcal{L}_{adv} = -\mathbb{E}_x[\log D(\hat x)]", source="Goodfellow et al. 2014, section 3")
def adversarial_loss(filled_logits: Tensor) -> Tensor:
    """G's part in the game, non-saturating."""
    return F.softplus(-filled_logits).mean()


@equation(
    r"\mathcal{L} = \lambda_{rec}\mathcal{L}_{rec} + \lambda_{adv}\mathcal{L}_{adv}", source="Pathak et al. 2016, eq. 3"
)
def joint_loss(reconstruction: Tensor, adversarial: Tensor, config: Config) -> Tensor:
    """What G minimises."""
    return config.reconstruction * reconstruction + config.adversarial * adversarial


@equation(
    r"y_{cq} = \sum_p W_{cpq}\, x_{cp} + b_{cq}", source="Pathak et al. 2016, section 3.1: channel-wise fully connected"
)
def channel_wise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """From all places of a channel to all places of the same: x (n, c, p), weight (c, p, q), bias (c, q)."""
    return tinygen.einsum("ncp,cpq->ncq", x, weight) + bias


@equation(
    r"d(p, \overline{ab}) = \lVert a + t (b - a) - p \rVert, \quad "
    r"t = \min(1, \max(0, \tfrac{\langle p - a,\, b - a \rangle}{\lVert b - a \rVert^2}))",
    source="distance of a point from a segment",
)
def segment_distance(p: Array, a: Array, b: Array) -> Array:
    """Points and ends are (…, 2) arrays that broadcast, a ≠ b; returns (…)."""
    xp = of(p).xp
    along, across = p - a, b - a
    t = xp.clip((along * across).sum(-1) / (across * across).sum(-1), 0.0, 1.0)
    rest = along - t[..., None] * across
    return xp.sqrt((rest * rest).sum(-1))


def draw_masks(n: int, height: int, width: int, random: Stream) -> Tensor:
    """M of n images, (n, 1, h, w), 0 where a pixel is missing: a rectangle in half of them, strokes in the others."""
    xp = current().xp
    y, x = (xp.arange(height, dtype="float32") + 0.5) / height, (xp.arange(width, dtype="float32") + 0.5) / width
    points = xp.stack(xp.broadcast_arrays(x, y[:, None]), axis=-1)  # (h, w, 2) in the unit square
    centre = random.uniform((n, 1, 1, 2), 0.2, 0.8)
    half = random.uniform((n, 1, 1, 2), 0.12, 0.3)
    rectangle = (abs(points - centre) < half).all(axis=-1)  # (n, h, w)
    a, b = random.uniform((2, n, STROKES, 1, 1, 2))
    radius = random.uniform((n, STROKES, 1, 1), 0.04, 0.07)
    strokes = (segment_distance(points, a, b) < radius).any(axis=1)  # (n, h, w)
    missing = xp.where(random.bernoulli(0.5, (n, 1, 1)), rectangle, strokes)
    return Tensor((~missing)[:, None].astype("float32"))


# ---------------------------------------------------------------- the two networks


def halvings(shape: tuple[int, int, int]) -> int:
    """How often the encoder halves the sides: 2 for 28, 3 for 64. Raises UsageError for images that it cannot halve."""
    _, height, width = shape
    count = 0
    while min(height, width) > SMALLEST << count:
        count += 1
    if count == 0 or height % 2**count or width % 2**count:
        raise UsageError(
            f"gan_inpaint: the sides must be more than {SMALLEST} and can be halved {max(count, 1)} times, "
            f"got {height} × {width}",
            "bring the images to a size that can, for instance --image-size 64",
        )
    return count


class ChannelWise(nn.Module):
    """A fully connected layer for each channel of maps (n, c, h, w)."""

    def __init__(self, channels: int, places: int, random: Stream) -> None:
        super().__init__()
        bound = places**-0.5
        self.weight = nn.Parameter(random.uniform((channels, places, places), -bound, bound))
        self.bias = nn.Parameter(random.uniform((channels, places), -bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return channel_wise(x.flatten(2), self.weight, self.bias).reshape(*x.shape)


class Generator(nn.Module):
    """M ⊙ x and M, (n, c + 1, h, w), to whole images (n, c, h, w) in [−1, 1]."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        count = halvings(shape)
        channels = [config.width * 2**k for k in range(count)]  # [32, 64]
        places = (shape[1] >> count) * (shape[2] >> count)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise([shape[0] + 1, *channels])):  # 28 → 14 → 7
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False, random=random.child(f"down {k}")),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        wide = channels[-1]
        layers += [  # (n, 64, 7, 7)
            ChannelWise(wide, places, random.child("places")),
            nn.Conv2d(wide, wide, 1, bias=False, random=random.child("channels")),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        ]
        for k, (before, after) in enumerate(pairwise(channels[::-1])):  # 7 → 14
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False, random=random.child(f"up {k}")),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        layers += [  # 14 → 28
            nn.ConvTranspose2d(channels[0], shape[0], 4, stride=2, padding=1, random=random.child("image")),
            nn.Tanh(),
        ]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        return self.net(F.cat([x * known, known], 1))


class Discriminator(nn.Module):
    """Images (n, c, h, w) in [−1, 1] to logits (n, 1) of having had no hole."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        count = halvings(shape)
        channels = [config.width * 2**k for k in range(count)]
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], channels[0], 4, stride=2, padding=1, random=random.child("0")),
            nn.LeakyReLU(0.2),
        ]
        for k, (before, after) in enumerate(pairwise(channels), 1):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False, random=random.child(f"{k}")),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        size = channels[-1] * (shape[1] >> count) * (shape[2] >> count)
        layers += [nn.Flatten(), nn.Linear(size, 1, random=random.child("logit"))]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class GANInpaint(Trainable, Repairer, Evaluable):
    """A filler of holes in images of one size."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        self.config, self.shape = config, data.shape
        self.generator = Generator(config, data.shape, random.child("generator"))
        self.discriminator = Discriminator(config, data.shape, random.child("discriminator"))
        betas = (config.beta1, 0.999)
        self.generator_optimizer = optim.Adam(self.generator.parameters(), config.lr, betas)
        self.discriminator_optimizer = optim.Adam(self.discriminator.parameters(), config.lr / 10, betas)
        self.masks = random.child("masks")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Make holes in whole images and fill them; one update of D, then one of G, for ever."""
        while True:
            x = next(batches).images * 2 - 1  # (n, c, h, w)
            known = draw_masks(len(x), *self.shape[1:], self.masks)
            filled = self.generator(x, known)
            figures = self.update_discriminator(x, composite(x, filled.detach(), known))
            yield Step({**figures, **self.update_generator(x, filled, known)})

    def update_discriminator(self, real: Tensor, repaired: Tensor) -> dict[str, Tensor]:
        """One descent of D's loss."""
        loss = discriminator_loss(self.discriminator(real), self.discriminator(repaired))
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        return {"loss_d": loss}

    def update_generator(self, x: Tensor, filled: Tensor, known: Tensor) -> dict[str, Tensor]:
        """One descent of G's loss, in part through D, whose parameters stay as they are."""
        self.discriminator.requires_grad_(False)
        reconstruction = reconstruction_loss(x, filled, known)
        adversarial = adversarial_loss(self.discriminator(composite(x, filled, known)))
        loss = joint_loss(reconstruction, adversarial, self.config)
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        return {"loss_g": loss, "reconstruction": reconstruction, "adversarial": adversarial}

    def fill(self, images: Tensor, known: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] with the pixels where `known` (n, 1, h, w) is 0 made up, in evaluation mode."""
        self.generator.eval()
        with no_grad():
            shown = tinygen.where(known > 0.5, images, tinygen.zeros_like(images))  # what lies in a hole may be NaN
            filled = (self.generator(shown * 2 - 1, known) + 1) / 2
        self.generator.train()
        return composite(images, filled, known)

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with the pixels where the mask (h, w) is 1 filled in; a model of grey images takes each
        channel by itself. Raises UsageError for an image of another size, and where nothing is missing."""
        channels, height, width = self.shape
        if mask is None:
            raise UsageError("gan_inpaint: fills missing pixels, and there is no mask", "name a mask")
        if image.shape[1:] != (height, width) or channels not in (1, image.shape[0]):
            raise UsageError(
                f"gan_inpaint: was trained on images of {self.shape}, got {image.shape}",
                "bring the image to that shape, or train on images of this one",
            )
        known = 1 - mask.reshape(1, 1, height, width)
        images = image.reshape(-1, channels, height, width)  # (1, c, h, w), or (3, 1, h, w) of a colour image
        return self.fill(images, known.expand(len(images), 1, height, width)).reshape(*image.shape)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """PSNR in dB of what is put into holes of test images, and of the mean of the known pixels put there."""
        x = tensor(data.arrays("test", TEST_IMAGES)[0])  # (n, c, h, w)
        known = draw_masks(len(x), *self.shape[1:], random)
        mean = (x * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)  # (n, c, 1, 1)
        ours, plain = (
            -10 * math.log10(reconstruction_loss(x, filled, known).item()) for filled in (self.fill(x, known), mean)
        )
        return {"psnr_in_holes": ours, "psnr_in_holes_of_mean": plain, "test_images": len(x)}
