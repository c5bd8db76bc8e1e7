r"""Generative adversarial nets (Goodfellow et al. 2014).

A generator G turns noise z into images; a discriminator D tells images of the data from those of G. They play

    min_G max_D V(D, G) = E_{x∼data}[log D(x)] + E_z[log(1 − D(G(z)))],

which overview articles often shorten to "D(x) = log P(x)": D(x) is a probability, and V the value of the game.
Against the best D the value is −log 4 + 2·JSD(data ‖ G), least where G's distribution is the data's. Early on, D is so
sure that log(1 − D(G(z))) is flat in G; the non-saturating generator therefore maximises log D(G(z)) instead: the same
fixed point, strong gradients. Only that second term depends on G; its loss is not minus the whole value.

D ends in a logit a with D = σ(a), so that log D = −softplus(−a) and log(1 − D) = −softplus(a) never overflow.
Read from the equations down: losses, the two networks, then `fit`, which is Algorithm 1 of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tinygen.functional as F
from tinygen import metrics, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array, of
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Sampler, Step, Trainable, equation
from tinygen.random import Stream


@dataclass(frozen=True)
class Config:
    """Options of the game and of the two networks."""

    steps: int = 6000
    """generator updates to train for"""
    batch_size: int = 64
    """images in a batch"""
    loss: Literal["non-saturating", "minimax"] = "non-saturating"
    """what the generator minimises: −log D(G(z)), or log(1 − D(G(z))) as in equation 1"""
    k: int = 1
    """discriminator updates for each generator update"""
    latent: int = 64
    """size of the noise z"""
    hidden: int = 512
    """units in each hidden layer of both networks"""
    lr: float = 4e-4
    """learning rate of both Adam optimizers"""
    beta1: float = 0.5
    """Adam's first decay rate: a short memory, as the opponent moves"""
    dropout: float = 0.3
    """share of the discriminator's hidden units dropped in training"""
    average: float = 0.999
    """decay of the running average of the generator that samples are drawn from; 0 for the last generator itself"""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 2), ("k", 1), ("latent", 1), ("hidden", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"gan: {name} must be at least {least}, got {getattr(self, name)}")
        for name in ("beta1", "dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"gan: {name} must be in [0, 1), got {getattr(self, name)}")
        if not self.lr > 0:
            raise UsageError(f"gan: lr must be positive, got {self.lr}")


# ---------------------------------------------------------------- equations


@equation(
    r"V(D, G) = \mathbb{E}_{x \sim p_\mathrm{data}}[\log D(x)] + \mathbb{E}_z[\log(1 - D(G(z)))]",
    source="Goodfellow et al. 2014, eq. 1",
)
def game_value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The value of the game; D = σ(logit). Logits of any shape; a tensor without dimensions, in nats."""
    return -F.softplus(-real_logits).mean() - F.softplus(fake_logits).mean()


@equation(
    r"\mathcal{L}_D = -\mathbb{E}_x[\log D(x)] - \mathbb{E}_z[\log(1 - D(G(z)))]",
    source="Goodfellow et al. 2014, eq. 1 and Algorithm 1: D ascends V",
)
def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What D minimises: minus the value of the game."""
    return -game_value(real_logits, fake_logits)


@equation(
    r"\mathcal{L}_G = \mathbb{E}_z[\log(1 - D(G(z)))]",
    source="Goodfellow et al. 2014, eq. 1 and Algorithm 1: G descends the term of V that depends on it",
)
def minimax_generator_loss(fake_logits: Tensor) -> Tensor:
    """What G minimises in the game as stated. Its slope by the logit is −D: it vanishes where D is sure of a fake."""
    return -F.softplus(fake_logits).mean()


@equation(r"\mathcal{L}_G = -\mathbb{E}_z[\log D(G(z))]", source="Goodfellow et al. 2014, section 3")
def non_saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """What G minimises in practice. Its slope by the logit is D − 1: it is largest where D is sure of a fake."""
    return F.softplus(-fake_logits).mean()


@equation(
    r"D^*(x) = \frac{p_\mathrm{data}(x)}{p_\mathrm{data}(x) + p_g(x)}",
    source="Goodfellow et al. 2014, eq. 2 (Proposition 1)",
)
def optimal_discriminator(data: Array, model: Array) -> Array:
    """The best D against a fixed G, from the two densities at the same points (not both 0 there)."""
    return data / (data + model)


@equation(
    r"C(G) = \max_D V(D, G) = -\log 4 + 2\,\mathrm{JSD}(p_\mathrm{data} \,\|\, p_g)",
    source="Goodfellow et al. 2014, eq. 6 (Theorem 1)",
)
def virtual_criterion(data: Array, model: Array) -> Array:
    """The value of the game against the best D, for two positive distributions over finitely many images, (m,) each."""
    xp, mixture = of(data).xp, (data + model) / 2
    divergences = (data * xp.log(data / mixture)).sum() + (model * xp.log(model / mixture)).sum()  # KL + KL = 2 JSD
    return divergences - math.log(4)


@equation(
    r"\log\hat p(x) = \log\frac1N\sum_{i=1}^N \mathcal{N}(x;\, s_i,\, \sigma^2 I)",
    source="Goodfellow et al. 2014, section 5",
)
def parzen_log_likelihood(x: Array, samples: Array, sigma: float) -> Array:
    """log p̂ of each row of x (n, d) under Gaussian windows on samples (N, d), in nats: (n,)."""
    return metrics.parzen_log_likelihood(x, samples, sigma)


GENERATOR_LOSS = {"minimax": minimax_generator_loss, "non-saturating": non_saturating_generator_loss}


# ---------------------------------------------------------------- the two players


class Generator(nn.Module):
    """Noise (n, latent) to images (n, c, h, w) in [−1, 1]."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        width = config.hidden
        self.net = nn.Sequential(
            nn.Linear(config.latent, width, random=random.child("1")),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width, random=random.child("2")),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, math.prod(shape), random=random.child("3")),
            nn.Tanh(),
            nn.Unflatten(1, shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Discriminator(nn.Module):
    """Images (n, c, h, w) in [−1, 1] to logits (n, 1) of being real."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        width = config.hidden
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), width, random=random.child("1")),
            nn.LeakyReLU(0.2),
            nn.Dropout(config.dropout, random=random.child("dropout 1")),
            nn.Linear(width, width, random=random.child("2")),
            nn.LeakyReLU(0.2),
            nn.Dropout(config.dropout, random=random.child("dropout 2")),
            nn.Linear(width, 1, random=random.child("3")),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class GAN(Trainable, Sampler, Evaluable):
    """The game on images of one size."""

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
        """Algorithm 1: k updates of D on real and generated images, then one of G."""
        while True:
            for _ in range(self.config.k):
                images = next(batches).images * 2 - 1
                metrics_d = self.update_discriminator(images)
            yield Step({**metrics_d, **self.update_generator(len(images))})

    def update_discriminator(self, real: Tensor) -> dict[str, Tensor]:
        """One descent of D's loss. G's images are data here: nothing of G is touched but its running statistics."""
        with no_grad():
            fake = self.generator(self.draw_noise(len(real)))
        real_logits, fake_logits = self.discriminator(F.cat([real, fake])).chunk(2)  # (n, 1) each, in one pass
        loss = discriminator_loss(real_logits, fake_logits)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        with no_grad():
            return {"loss_d": loss, "d_real": F.sigmoid(real_logits).mean(), "d_fake": F.sigmoid(fake_logits).mean()}

    def update_generator(self, n: int) -> dict[str, Tensor]:
        """One descent of G's loss through D, which stays as it is."""
        self.discriminator.requires_grad_(False)
        loss = GENERATOR_LOSS[self.config.loss](self.discriminator(self.generator(self.draw_noise(n))))
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)
        self.average.update()
        return {"loss_g": loss}

    def draw_noise(self, n: int, random: Stream | None = None) -> Tensor:
        """z ∼ N(0, I), (n, latent)."""
        return Tensor((random or self.noise).normal((n, self.config.latent)))

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images in [0, 1] of the averaged G, in evaluation mode: each depends on its own noise alone."""
        with no_grad():
            return (self.average.averaged(self.draw_noise(n, random)) + 1) / 2

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Parzen log-likelihood of the test images from 10,000 samples, in nats, with σ chosen on validation images."""
        samples = self.sample(10_000, random).flatten(1).data
        valid, test = (
            tensor(data.arrays(split, limit)[0]).flatten(1).data for split, limit in (("valid", 1000), ("test", None))
        )
        figures = metrics.parzen_figures(lambda x, sigma: parzen_log_likelihood(x, samples, sigma), valid, test)
        return {**figures, "test_images": len(test)}
