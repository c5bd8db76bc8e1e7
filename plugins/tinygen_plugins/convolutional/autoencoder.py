r"""A convolutional autoencoder: an image written down in a few numbers, its code, and drawn again from them.

    x (c, h, w) → E → code z (d) → D → x̂ (c, h, w),   E and D trained to make x̂ like x

(Rumelhart, Hinton and Williams 1986; Hinton and Salakhutdinov 2006). The code has far fewer numbers than the image has
pixels, so that it can keep only what images of this kind have in common. A linear one would find the principal
components; the convolutions find the bends.

Training is by SGD: a step against the gradient of the loss of one batch. Overview articles print the same formula for
SGD and for gradient descent. The step is the same, θ ← θ − η ∇L; the loss is not: gradient descent takes that of all
training images at each step. Adam scales the step of each parameter by what its gradients were.

Nothing in training says which codes are likely. To sample, a normal law is fitted to the codes of the training images,
N(μ, Σ), drawn from, and decoded (Ghosh et al. 2020). Its moments are kept in the run's state: at each step
the codes of the batch enter, and older ones fade, as the encoder that made them does. Noise on the codes in training,
as large a part of their spread for each, makes the decoder draw near codes alike, so that what lies between codes is an
image, too; and as the numbers that carry most through such noise are normal themselves (Shannon 1948, section 25), it
brings the codes nearer to the law that is fitted to them.

Read from the equations down: losses, the law of the codes, the two networks, then `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tinygen.functional as F
from tinygen import backend, metrics, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Repairer, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream

MEMORY = 0.01  # the share of one batch in the moments of the codes: about the last 200 batches count
PIECE = 500  # images at a time where there may be many


@dataclass(frozen=True)
class Config:
    """The options of `autoencoder`."""

    steps: int = 6000
    """updates to train for; the learning rate falls over them"""
    batch_size: int = 64
    """images in a batch"""
    code: int = 20
    """numbers in a code: more draw an image again more closely, fewer are easier to sample"""
    width: int = 32
    """maps of the first layer; the second has twice as many"""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """what makes x̂ like x: the nats of each pixel as a probability of white, or squared differences"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """how the parameters are moved; sgd has a momentum of 0.9"""
    lr: float | None = None
    """learning rate at the start; None: 0.002 for adam, 0.0005 for sgd"""
    noise: float = 0.35
    """standard deviation of the noise on the codes in training, in parts of their spread: for better samples"""
    average: float = 0.998
    """decay of the running average of the networks that answers; 0 for the last networks themselves"""
    repair_steps: int = 100
    """times that missing pixels are drawn anew from the code of the image so far"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 2, 10**6), ("code", 1, 4096), ("width", 1, 4096),
            ("noise", 0, 10), ("average", 0, 0.99999), ("repair_steps", 1, 10**5),
        ):  # fmt: skip
            check_range("autoencoder", name, getattr(self, name), low, high)
        check_choice("autoencoder", "loss", self.loss, list(LOSS))
        check_choice("autoencoder", "optimizer", self.optimizer, ["adam", "sgd"])
        if self.lr is not None:
            check_range("autoencoder", "lr", self.lr, 1e-8, 10)


# ---------------------------------------------------------------- equations


@equation(
    r"\mathcal{L} = -\frac1n \sum_i \sum_p x_{ip} \log \hat x_{ip} + (1 - x_{ip}) \log(1 - \hat x_{ip}), \quad"
    r" \hat x = \sigma(a)",
    source="Hinton and Salakhutdinov 2006",
)
def cross_entropy(logits: Tensor, images: Tensor) -> Tensor:
    """The nats of an image whose pixels are read as probabilities: logits a and images x (n, c, h, w); a number (0-d).

    Least for x̂ = x, where it is the entropy of the pixels rather than 0.
    """
    return F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)


@equation(
    r"\mathcal{L} = \frac1n \sum_i \|\hat x_i - x_i\|^2, \quad \hat x = \sigma(a)",
    source="Rumelhart, Hinton and Williams 1986, eq. 3, there the half of it summed over the images",
)
def squared_error(logits: Tensor, images: Tensor) -> Tensor:
    """The squared distance from the image: logits a and images x (n, c, h, w); a number (0-d)."""
    return F.mse_loss(F.sigmoid(logits), images, reduction="sum") / len(images)


@equation(
    r"\tilde z_{ij} = z_{ij} + \tau s_j \epsilon_{ij}, \quad s_j^2 = \frac1n \sum_i (z_{ij} - \bar z_j)^2, \quad"
    r" \epsilon \sim N(0, I)",
    source="Poole, Sohl-Dickstein and Ganguli 2014, with the noise in units of the code's spread",
)
def add_noise(codes: Tensor, noise: Tensor, tau: float) -> Tensor:
    """Codes z (n, d) with noise ε (n, d). s is a part of the graph: to spread out the codes is of no avail."""
    return codes + tau * codes.std(0, correction=0) * noise


@equation(
    r"\mu' = \mu + \rho\, \delta, \quad \Sigma' = (1 - \rho) \Sigma + \rho S + \rho (1 - \rho)\, \delta \delta^\top,"
    r" \quad \delta = \bar z - \mu",
    source="moments of a mixture of two: the codes so far, 1 − ρ, and those of a batch with mean z̄ and covariance S",
)
def update_moments(mean: Array, covariance: Array, codes: Array, rho: float) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of the codes after a batch z (n, d): old ones fade by 1 − ρ a batch."""
    centre = codes.mean(axis=0)
    away, delta = codes - centre, centre - mean
    within = away.T @ away / len(codes)  # (d, d) = (d, n) @ (n, d)
    covariance = (1 - rho) * covariance + rho * within + rho * (1 - rho) * delta[:, None] * delta
    return mean + rho * delta, covariance


@equation(
    r"z = \mu + U \Lambda^{1/2} \epsilon, \quad \Sigma = U \Lambda U^\top, \quad \epsilon \sim N(0, I)",
    source="Ghosh et al. 2020: ex-post density estimation",
)
def draw_codes(mean: Array, covariance: Array, normal: Array) -> Array:
    """Codes z ∼ N(μ, Σ) (n, d) from mean (d,), covariance (d, d) of any rank, and normal ε (n, d)."""
    xp = backend.of(mean).xp
    values, vectors = xp.linalg.eigh(covariance)
    return mean + (normal * xp.sqrt(xp.maximum(values, 0.0))) @ vectors.T


@equation(
    r"x^{(t+1)} = (1 - m) \odot x + m \odot D(E(x^{(t)}))",
    source="Rezende, Mohamed and Wierstra 2014 on missing data, without the noise; m is 1 where a pixel is missing",
)
def fill(given: Tensor, drawn: Tensor, missing: Tensor) -> Tensor:
    """The given image (c, h, w) with the pixels where `missing` (h, w), booleans, is true taken from the drawn one."""
    return F.where(missing, drawn, given)


LOSS = {"cross_entropy": cross_entropy, "mse": squared_error}


# ---------------------------------------------------------------- the two networks


class Network(nn.Module):
    """E and D. Each layer of 4 × 4 kernels with stride 2 halves, or doubles, height and width."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        super().__init__()
        c, h, w = data.shape
        width, middle = config.width, (2 * config.width, h // 4, w // 4)
        self.encoder = nn.Sequential(
            nn.Conv2d(c, width, 4, 2, 1, random=random.child("encoder 1")),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False, random=random.child("encoder 2")),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(math.prod(middle), config.code, random=random.child("encoder 3")),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.code, math.prod(middle), bias=False, random=random.child("decoder 1")),
            nn.Unflatten(1, middle),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False, random=random.child("decoder 2")),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(width, c, 4, 2, 1, random=random.child("decoder 3")),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to codes (n, d)."""
        return self.encoder(x * 2 - 1)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (n, d) to logits (n, c, h, w), whose sigmoid is the image."""
        return self.decoder(z)


class Autoencoder(Trainable, Sampler, Repairer, Evaluable):
    """Codes of images of one size."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if data.height % 4 or data.width % 4:
            raise UsageError(
                f"autoencoder: height and width must be multiples of 4, {data.name} has {data.height} × {data.width}",
                "bring the images to such a size: --image-size 32",
            )
        self.config, self.shape = config, data.shape
        self.network = Network(config, data, random.child("network"))
        self.averaged = Network(config, data, random.child("network"))
        self.average = optim.EMA(self.averaged, self.network, config.average)
        if config.optimizer == "adam":
            self.optimizer: optim.Optimizer = optim.Adam(self.network.parameters(), config.lr or 2e-3)
        else:
            self.optimizer = optim.SGD(self.network.parameters(), config.lr or 5e-4, momentum=0.9)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: max(0.01, 1 - k / config.steps))
        self.noise = random.child("noise")
        xp = backend.current().xp
        self.mean, self.covariance = xp.zeros(config.code, "float32"), xp.eye(config.code, dtype="float32")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Descend the loss of one batch after the other, and keep the moments of the codes."""
        while True:
            images = next(batches).images
            codes = self.network.encode(images)
            noise = Tensor(self.noise.normal(codes.shape))
            logits = self.network.decode(add_noise(codes, noise, self.config.noise))
            loss = LOSS[self.config.loss](logits, images)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update()
            with no_grad():
                seen = self.averaged.encode(images).data
                self.mean, self.covariance = update_moments(self.mean, self.covariance, seen, MEMORY)
                error = F.mse_loss(F.sigmoid(logits), images)
            yield Step({"loss": loss, "mse": error})

    # ------------------------------------------------------------ what the averaged networks do

    def encode(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to codes (n, d)."""
        with no_grad():
            return self.averaged.encode(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (n, d) to images (n, c, h, w) in [0, 1]."""
        with no_grad():
            return F.sigmoid(self.averaged.decode(codes))

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images (n, c, h, w) in [0, 1], decoded from codes of the normal law that those of the training images
        have; from N(0, I) before training."""
        normal = random.normal((n, self.config.code))
        return self.decode(Tensor(draw_codes(self.mean, self.covariance, normal)))

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with its missing pixels (mask (h, w) 1) drawn from its code, again and again, beginning
        with the mean code's image; known pixels come back bit for bit. Without a mask, the image as its code draws it.

        Raises UsageError for an image of another size than those of training.
        """
        if image.shape != self.shape:
            raise UsageError(
                f"autoencoder: trained on images of {self.shape}, got {image.shape}",
                "bring the image to that size, in grey where it has one channel",
            )
        if mask is None:
            return self.decode(self.encode(image[None]))[0]
        missing = tensor(mask.data > 0.5)
        filled = fill(image, self.decode(Tensor(self.mean[None]))[0], missing)
        for _ in range(self.config.repair_steps):
            filled = fill(image, self.decode(self.encode(filled[None]))[0], missing)
        return filled

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """How near the test images come back: the mean squared error of a pixel, the PSNR of an image in decibels, and
        the nats of an image by the cross-entropy."""
        images = data.arrays("test")[0]
        errors, decibels, nats = [], [], 0.0
        for start in range(0, len(images), PIECE):
            x = tensor(images[start : start + PIECE])
            with no_grad():
                logits = self.averaged.decode(self.encode(x))
                drawn = F.sigmoid(logits)
            errors.append(metrics.mse(drawn.data, x.data))
            decibels.append(metrics.psnr(drawn.data, x.data))
            nats += cross_entropy(logits, x).item() * len(x)
        xp, scalar = backend.current().xp, backend.current().scalar
        return {
            "mse": scalar(xp.concatenate(errors).mean()),
            "psnr": scalar(xp.concatenate(decibels).mean()),
            "nats": nats / len(images),
            "test_images": len(images),
        }
