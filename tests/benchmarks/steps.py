"""Training steps to be timed, each twice: by tinygen's plugin as it is, and by PyTorch eager written the same way.

A case is a function that returns a closure; calling the closure is one training step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np


def tinygen_gan() -> Callable[[], object]:
    from tinygen.data import ArrayImages, Batches, DataSpec
    from tinygen.random import Stream
    from tinygen_plugins.adversarial.gan import GAN, Config

    pixels = np.random.default_rng(0).integers(0, 256, (2000, 1, 28, 28)).astype(np.uint8)
    config, root = Config(), Stream(0, "benchmark")
    model = GAN(config, DataSpec(name="noise", channels=1, height=28, width=28, count=len(pixels)), root)
    fit = model.fit(Batches(ArrayImages(pixels), config.batch_size, root.child("batches")))
    return lambda: next(fit)


def torch_gan() -> Callable[[], object]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    from tinygen_plugins.adversarial.gan import Config

    config, width = Config(), Config().hidden
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2000, 1, 28, 28)).astype(np.uint8))
    generator = nn.Sequential(
        nn.Linear(config.latent, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2),
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.LeakyReLU(0.2),
        nn.Linear(width, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.LeakyReLU(0.2), nn.Dropout(config.dropout),
        nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Dropout(config.dropout), nn.Linear(width, 1),
    )  # fmt: skip
    average = copy.deepcopy(generator)
    betas = (config.beta1, 0.999)
    of_generator = torch.optim.Adam(generator.parameters(), config.lr, betas)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), config.lr, betas)

    def step() -> object:
        n = config.batch_size
        real = pixels[torch.randint(len(pixels), (n,))].float() / 255 * 2 - 1
        with torch.no_grad():
            fake = generator(torch.randn(n, config.latent))
        real_logits, fake_logits = discriminator(torch.cat([real, fake])).chunk(2)
        loss_d = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        of_discriminator.zero_grad()
        loss_d.backward()
        of_discriminator.step()
        with torch.no_grad():
            d_real, d_fake = real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()
        discriminator.requires_grad_(False)
        loss_g = F.softplus(-discriminator(generator(torch.randn(n, config.latent)))).mean()
        of_generator.zero_grad()
        loss_g.backward()
        of_generator.step()
        discriminator.requires_grad_(True)
        with torch.no_grad():
            for mean, now in zip(average.parameters(), generator.parameters()):
                mean.lerp_(now, 1 - config.average)
            for held, buffer in zip(average.buffers(), generator.buffers()):
                held.copy_(buffer)
        return loss_d, loss_g, d_real, d_fake

    return step


CASES = {"gan": {"tinygen": tinygen_gan, "torch": torch_gan}}
