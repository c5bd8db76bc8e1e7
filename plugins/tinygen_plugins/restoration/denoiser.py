r"""Denoising by residual learning: DnCNN (Zhang, Zuo, Chen, Meng, Zhang 2017).

A noisy picture y = x + v is easier to take apart on its noise's side: the network R learns the noise v, a field without
structure, rather than the picture, and what it finds is subtracted,

    x̂ = y − R(y),      R trained to make ‖R(y) − (y − x)‖² small,

which is the x̂ nearest to x on average: the mean of the pictures that may have been, E[x | y]. One network serves all
noise between two levels without being told which (the paper's blind DnCNN-B), and pictures of any size, as it is made
of convolutions; colour pictures go through it a channel at a time.

Clean pictures are not even needed: where the target is a second noisy picture y' = x + v' of the same x, only the least
loss changes and not the network that has it, since E[y' | y] = E[x | y] (Noise2Noise, Lehtinen et al. 2018).

Read from the equations down; the training wants crops of full-size photographs, `--data patches:PATH`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import tinygen
import tinygen.functional as F
from tinygen import metrics, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import current
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Repairer, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream

TEST_SIGMA, TEST_IMAGES = 25.0, 500  # the field's usual level of noise, and how many images `evaluate` looks at
Target = Literal["clean", "noisy"]


@dataclass(frozen=True)
class Config:
    """Options of the training and of the network."""

    steps: int = 4000
    """updates to train for; the learning rate falls over them to a hundredth"""
    batch_size: int = 16
    """images in a batch"""
    depth: int = 8
    """convolutions of 3 × 3; the paper has 17 of them"""
    width: int = 32
    """channels between them; the paper has 64"""
    sigma_low: float = 0.0
    """least standard deviation of the noise, where white is 255"""
    sigma_high: float = 55.0
    """greatest standard deviation of the noise, where white is 255"""
    target: Target = "clean"
    """what the network is trained towards: the clean image, or another noisy one (Noise2Noise)"""
    lr: float = 2e-3
    """learning rate of Adam at the beginning"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("depth", 2, 100), ("width", 1, 4096),
            ("sigma_low", 0, 255), ("sigma_high", self.sigma_low, 255), ("lr", 1e-9, 1),
        ):  # fmt: skip
            check_range("denoiser", name, getattr(self, name), low, high)
        check_choice("denoiser", "target", self.target, list(get_args(Target)))


# ---------------------------------------------------------------- equations


@equation(r"y = x + v, \quad v \sim \mathcal{N}(0,\, \sigma^2 I)", source="Zhang et al. 2017, section 1")
def noisy(x: Tensor, sigma: Tensor, random: Stream) -> Tensor:
    """Images x (n, c, h, w) under white noise; sigma: (n, 1, 1, 1), in the units of x."""
    return x + sigma * Tensor(random.normal(x.shape))


@equation(
    r"\ell(\Theta) = \frac{1}{2N} \sum_{i=1}^N \lVert R(y_i; \Theta) - (y_i - x_i) \rVert_F^2",
    source="Zhang et al. 2017, eq. 1",
)
def residual_loss(residual: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """What training minimises, from R(y), y and the target x, (N, c, h, w) each."""
    error = residual - (y - x)
    return (error * error).sum() / (2 * len(y))


@equation(r"\hat x = y - R(y)", source="Zhang et al. 2017, section 3")
def without_noise(y: Tensor, residual: Tensor) -> Tensor:
    """The noisy images less the noise that the network found in them."""
    return y - residual


@equation(
    r"\eta_k = \eta_0 \cdot 100^{-\min(k/K,\, 1)}",
    source="Zhang et al. 2017: the rate falls exponentially; here a hundredfold over K steps",
)
def learning_rate(k: int, steps: int) -> float:
    """The factor of the learning rate after k of K = `steps` updates."""
    return 100 ** -min(k / steps, 1.0)


# ---------------------------------------------------------------- the network


class DnCNN(nn.Module):
    """Noisy grey images (n, 1, h, w) to the noise R(y) in them, of the same shape."""

    def __init__(self, config: Config, random: Stream) -> None:
        super().__init__()
        width = config.width
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1, random=random.child("1")), nn.ReLU()]
        for k in range(2, config.depth):  # the bias before a batch norm would do nothing
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False, random=random.child(f"{k}")),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        last = nn.Conv2d(width, 1, 3, padding=1, random=random.child(f"{config.depth}"))
        last.weight.data *= 0.01  # R begins near 0, x̂ near y: from there the noise is found many steps sooner
        self.net = nn.Sequential(*layers, last)

    def forward(self, y: Tensor) -> Tensor:
        return self.net(y)


class Denoiser(Trainable, Repairer, Evaluable):
    """A blind denoiser of pictures of any size, trained on clean ones to which it adds the noise itself."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        self.config, self.trained_on = config, data.name
        self.network = DnCNN(config, random.child("network"))
        self.optimizer = optim.Adam(self.network.parameters(), config.lr)
        steps = config.steps
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: learning_rate(k, steps))
        self.noise = random.child("noise")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Draw clean images, add noise of some level to each, and learn to tell it: for ever."""
        low, high = self.config.sigma_low / 255, self.config.sigma_high / 255
        while True:
            x = as_grey(next(batches).images)  # (n, 1, h, w)
            sigma = Tensor(self.noise.uniform((len(x), 1, 1, 1), low, high))
            y = noisy(x, sigma, self.noise)
            target = x if self.config.target == "clean" else noisy(x, sigma, self.noise)
            residual = self.network(y)
            loss = residual_loss(residual, y, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            with no_grad():
                error = without_noise(y, residual) - x
                psnr = (error * error).mean().log() * (-10 / math.log(10))
            yield Step({"loss": loss, "psnr": psnr})

    def denoise(self, y: Tensor) -> Tensor:
        """Noisy images (n, c, h, w) without their noise, each channel by itself, in evaluation mode."""
        self.network.eval()
        with no_grad():
            grey = as_grey(y)
            clean = without_noise(grey, self.network(grey)).reshape(*y.shape)
        self.network.train()
        return clean.clamp(0.0, 1.0)

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) of any size without its noise. Raises UsageError where pixels are missing."""
        if mask is not None:
            raise UsageError(
                "denoiser: takes noise from all pixels, and cannot fill missing ones",
                "give no mask; least_squares and gan_inpaint fill holes",
            )
        return self.denoise(image.unsqueeze(0))[0]

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Mean PSNR in dB of test images under noise of 25/255, before and after.

        Other data than that of the training may be all in one split, as few pictures are: it is unseen all the same.
        """
        split = "test" if "test" in data.splits or data.name == self.trained_on else "train"
        x = tensor(data.arrays(split, TEST_IMAGES)[0])  # (n, c, h, w)
        y = noisy(x, tinygen.full((len(x), 1, 1, 1), TEST_SIGMA / 255), random)
        found = F.cat([self.denoise(part) for part in y.split(25)])
        to_host = current().to_host
        before, after = (to_host(metrics.psnr(images.data, x.data)) for images in (y, found))
        return {"psnr_noisy": float(before.mean()), "psnr_denoised": float(after.mean()), "test_images": len(x)}


def as_grey(images: Tensor) -> Tensor:
    """Images (n, c, h, w) with each channel as an image of its own: (n·c, 1, h, w)."""
    n, c, h, w = images.shape
    return images.reshape(n * c, 1, h, w)
