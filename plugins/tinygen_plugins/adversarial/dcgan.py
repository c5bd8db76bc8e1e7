r"""Deep convolutional generative adversarial networks (Radford, Metz, Chintala 2016).

The game of 2014 with networks that suit images, by the rules of the paper's section 3:

- no pooling: the generator doubles the side by transposed convolutions, the discriminator halves it by strided ones;
- batch norm in both, but not at the generator's output nor at the discriminator's input;
- no hidden fully connected layers; noise is projected to a small map, and the last map is flattened to one logit;
- ReLU in the generator and tanh at its end; LeakyReLU in the discriminator.

One definition for every square image of side 4·2^k or 7·2^k:

    z ∈ R^100 → 7×7×64 → 14×14×32 → 28×28×c                        k = 2, width 32
    z ∈ R^100 → 4×4×256 → 8×8×128 → 16×16×64 → 32×32×32 → 64×64×c  k = 4

The kernel is 4 here where the paper's is 5: with stride 2 each pixel then gets the same number of contributions, four,
and no checkerboard is built in (Odena et al. 2016). Read from the equations down; `fit` is at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import tinygen.functional as F
from tinygen import metrics, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, current, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Sampler, Step, Trainable, check_range, equation
from tinygen.nn.init import channels_last
from tinygen.random import Stream

SAMPLES, FEATURES = 10_000, 64  # that `evaluate` draws, and the principal components that it compares them in


@dataclass(frozen=True)
class Config:
    """Options of the game and of the two networks."""

    steps: int = 3000
    """generator updates to train for"""
    batch_size: int = 64
    """images in a batch"""
    latent: int = 100
    """size of the noise z"""
    width: int = 32
    """channels at half the image's side; twice as many at each halving from there"""
    lr: float = 2e-4
    """learning rate of both Adam optimizers"""
    beta1: float = 0.5
    """Adam's first decay rate: 0.9 made the training swing"""
    average: float = 0.998
    """decay of the running average of the generator that samples are drawn from; 0 for the last generator itself"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 2, 10**6), ("latent", 1, 10**5), ("width", 1, 4096),
            ("lr", 1e-9, 1), ("beta1", 0, 0.9999), ("average", 0, 0.999999),
        ):  # fmt: skip
            check_range("dcgan", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations


@equation(
    r"s' = 2(s - 1) - 2 \cdot 1 + 4 = 2s", source="size of a transposed convolution: kernel 4, stride 2, padding 1"
)
def doubled(side: int) -> int:
    """The side of the map after one step of the generator's ladder; one of the discriminator's goes back."""
    return 2 * (side - 1) - 2 * 1 + 4


@equation(r"w \sim \mathcal{N}(0,\, 0.02^2)", source="Radford et al. 2016, section 4")
def initial_weight(shape: tuple[int, ...], random: Stream) -> Array:
    """The weights of a linear or convolution layer before training."""
    return random.normal(shape, std=0.02)


@equation(r"x \mapsto 2x - 1", source="Radford et al. 2016, section 4: images in the range of tanh")
def to_signed(x: Tensor) -> Tensor:
    """Images in [0, 1] to [−1, 1]."""
    return x * 2 - 1


@equation(r"y \mapsto (y + 1)/2", source="the way back from the range of tanh")
def to_unit(y: Tensor) -> Tensor:
    """Images in [−1, 1] to [0, 1]."""
    return (y + 1) / 2


@equation(
    r"\mathcal{L}_D = -\mathbb{E}_x[\log D(x)] - \mathbb{E}_z[\log(1 - D(G(z)))]",
    source="Goodfellow et al. 2014, eq. 1",
)
def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What D minimises, in nats, with D = σ(logit): log σ(a) = −softplus(−a) and log(1 − σ(a)) = −softplus(a)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


@equation(r"\mathcal{L}_G = -\mathbb{E}_z[\log D(G(z))]", source="Goodfellow et al. 2014, section 3")
def generator_loss(fake_logits: Tensor) -> Tensor:
    """What G minimises: its slope is largest where D is sure of a fake."""
    return F.softplus(-fake_logits).mean()


@equation(
    r"f(x) = V^\top (x - \bar x), \quad X^\top X V = V \Lambda, \quad X = (x_i - \bar x)_i",
    source="Pearson 1901: principal components",
)
def principal_components(images: Array, count: int) -> tuple[Array, Array]:
    """The mean (d,) of the rows of images (n, d), and the directions V (d, count) in which they vary most.

    From the (n, n) products of the images rather than the (d, d) of the pixels: X Xᵀ u = λ u gives v = Xᵀ u/√λ.
    """
    xp = of(images).xp
    mean = images.mean(axis=0)
    rows = (images - mean).astype("float64")
    values, vectors = xp.linalg.eigh(rows @ rows.T)  # ascending
    directions = rows.T @ vectors[:, -count:] / xp.sqrt(xp.maximum(values[-count:], 1e-12))  # (d, n) @ (n, count)
    return mean, directions[:, ::-1].astype(images.dtype)


# ---------------------------------------------------------------- the two players


def ladder(shape: tuple[int, int, int]) -> list[int]:
    """The sides of the maps from the projected noise to the image: [7, 14, 28]. Raises UsageError for other sizes."""
    _, height, width = shape
    for smallest in (4, 7):
        sides = [smallest]
        while sides[-1] < height:
            sides.append(doubled(sides[-1]))
        if sides[-1] == height == width and len(sides) > 1:
            return sides
    raise UsageError(
        f"dcgan: images must be square with a side of 4·2^k or 7·2^k, got {height} × {width}",
        "bring them to one, for instance --image-size 64",
    )


def widths(config: Config, sides: list[int]) -> list[int]:
    """The channels of each map but the image: [64, 32] for sides [7, 14, 28]."""
    return [config.width * 2**k for k in reversed(range(len(sides) - 1))]


class Generator(nn.Module):
    """Noise (n, latent) to images (n, c, h, w) in [−1, 1]."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        sides = ladder(shape)
        channels, first = widths(config, sides), sides[0]
        layers = [  # the bias before a batch norm would do nothing
            nn.Linear(config.latent, channels[0] * first**2, bias=False, random=random),
            nn.Unflatten(1, (channels[0], first, first)),  # (n, 64, 7, 7)
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        ]
        for wide, narrow in pairwise(channels):  # (n, 64, 7, 7) to (n, 32, 14, 14)
            layers += [
                nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False, random=random),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
            ]
        layers += [  # (n, 32, 14, 14) to (n, c, 28, 28)
            nn.ConvTranspose2d(channels[-1], shape[0], 4, stride=2, padding=1, random=random),
            nn.Tanh(),
        ]
        self.net = nn.Sequential(*layers)
        draw_weights(self, random.child("weights"))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Discriminator(nn.Module):
    """Images (n, c, h, w) in [−1, 1] to logits (n, 1) of being real."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        sides = ladder(shape)
        channels = widths(config, sides)[::-1]
        layers = [  # (n, c, 28, 28) to (n, 32, 14, 14)
            nn.Conv2d(shape[0], channels[0], 4, stride=2, padding=1, random=random),
            nn.LeakyReLU(0.2),
        ]
        for narrow, wide in pairwise(channels):  # (n, 32, 14, 14) to (n, 64, 7, 7)
            layers += [
                nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False, random=random),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2),
            ]
        layers += [nn.Flatten(), nn.Linear(channels[-1] * sides[0] ** 2, 1, random=random)]
        self.net = nn.Sequential(*layers)
        draw_weights(self, random.child("weights"))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def draw_weights(network: nn.Module, random: Stream) -> None:
    """Give every layer but the batch norms its first weights, by name, and no bias."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            weight = initial_weight(parameter.shape, random.child(name))
            parameter.data = channels_last(weight) if parameter.ndim == 4 else weight


class DCGAN(Trainable, Sampler, Evaluable):
    """The game on square images of one size, grey or in colour."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        self.config = config
        self.generator = Generator(config, data.shape, random.child("generator"))
        self.discriminator = Discriminator(config, data.shape, random.child("discriminator"))
        average = Generator(config, data.shape, random.child("generator"))
        self.average = optim.EMA(average, self.generator, config.average)
        betas = (config.beta1, 0.999)
        self.generator_optimizer = optim.Adam(self.generator.parameters(), config.lr, betas)
        self.discriminator_optimizer = optim.Adam(self.discriminator.parameters(), config.lr, betas)
        self.noise = random.child("noise")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """One update of D on real and generated images, then one of G, for ever."""
        while True:
            real = to_signed(next(batches).images)  # (n, c, h, w)
            figures = self.update_discriminator(real)
            yield Step({**figures, **self.update_generator(len(real))})

    def update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        """One descent of D's loss. Real and generated images pass apart: each batch has its own statistics."""
        with no_grad():
            fake = self.generator(self.draw_noise(len(real)))
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)  # (n, 1) each
        loss = discriminator_loss(real_logits, fake_logits)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        with no_grad():
            return {"loss_d": loss, "d_real": F.sigmoid(real_logits).mean(), "d_fake": F.sigmoid(fake_logits).mean()}

    def update_generator(self, n: int) -> dict[str, Tensor]:
        """One descent of G's loss through D, whose parameters stay as they are."""
        self.discriminator.requires_grad_(False)
        loss = generator_loss(self.discriminator(self.generator(self.draw_noise(n))))
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        self.average.update()
        return {"loss_g": loss}

    def draw_noise(self, n: int, random: Stream | None = None) -> Tensor:
        """z, uniform in [−1, 1] as in the paper, (n, latent)."""
        return Tensor((random or self.noise).uniform((n, self.config.latent), -1.0, 1.0))

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images in [0, 1] of the averaged G, in evaluation mode: each depends on its own noise alone."""
        z = self.draw_noise(n, random)
        with no_grad():
            return F.cat([to_unit(self.average.averaged(z[k : k + 250])) for k in range(0, n, 250)])

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Fréchet distance to the test images in the principal components of the training images, the same distance of
        training images beside it; and the Parzen log-likelihood in nats, with σ chosen on validation images."""
        count = min(SAMPLES, 40_000_000 // math.prod(data.shape))  # so that they fit into memory
        samples = self.sample(count, random).flatten(1).data  # (count, d)
        train, valid, test = (
            tensor(data.arrays(split, limit)[0]).flatten(1).data
            for split, limit in (("train", count), ("valid", 1000), ("test", count))
        )
        mean, directions = principal_components(train[:2000], min(FEATURES, len(train) - 1))
        ours, floor, goal = ((images - mean) @ directions for images in (samples, train, test))  # (·, FEATURES)
        to_host = current().to_host
        return {
            "frechet": float(to_host(metrics.frechet_distance(ours, goal))),
            "frechet_of_training_images": float(to_host(metrics.frechet_distance(floor, goal))),
            **metrics.parzen_figures(lambda x, sigma: metrics.parzen_log_likelihood(x, samples, sigma), valid, test),
            "samples": count,
            "test_images": len(test),
        }
