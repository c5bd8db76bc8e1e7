"""Training steps written once and run by both libraries: the names, arguments and layouts are the same.

A case is a function of the `Library`; it returns a closure, one training step.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

Step = Callable[[], object]


class Library:
    """`nn`, `F`, `optim` of either library, `array` to bring data in, and `grad`."""

    nn: Any
    F: Any
    optim: Any
    array: Callable[..., Any]
    grad: Callable[..., Any]

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "torch":
            import torch
            from torch import nn, optim
            from torch.nn import functional

            self.nn, self.F, self.optim = nn, functional, optim
            self.grad, self.array = torch.autograd.grad, torch.tensor
        else:
            import tinygen

            self.nn, self.F, self.optim = _Layers(), tinygen.functional, tinygen.optim
            self.grad, self.array = tinygen.grad, tinygen.tensor

    def normal(self, *shape: int) -> Any:
        return self.array(np.random.default_rng(len(shape)).standard_normal(shape, "float32"))

    def uniform(self, *shape: int) -> Any:
        return self.array(np.random.default_rng(len(shape)).random(shape, "float32"))

    def classes(self, count: int, *shape: int) -> Any:
        return self.array(np.random.default_rng(0).integers(0, count, shape))

    def parameter(self, *shape: int, scale: float = 0.1) -> Any:
        values = np.random.default_rng(sum(shape)).standard_normal(shape, "float32") * np.float32(scale)
        return self.array(values, requires_grad=True) if self.name != "torch" else self.array(values).requires_grad_()


class _Layers:
    """tinygen.nn with a stream of random numbers given to every layer that asks for one."""

    def __getattr__(self, name: str) -> Any:
        from tinygen import nn
        from tinygen.random import Stream

        kind = getattr(nn, name)
        takes = "random" in inspect.signature(kind).parameters
        return (lambda *given, **named: kind(*given, **named, random=Stream(0, name))) if takes else kind


def trained(lib: Library, net: Any, loss: Callable[[], Any], lr: float = 1e-3) -> Step:
    """Adam on a network's loss."""
    optimizer = lib.optim.Adam(list(net.parameters()), lr)

    def step() -> object:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return step


def mlp(lib: Library) -> Step:
    nn, x, t = lib.nn, lib.normal(64, 784), lib.classes(10, 64)
    net = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip
    return trained(lib, net, lambda: lib.F.cross_entropy(net(x), t))


def cnn(lib: Library) -> Step:
    nn, x, t = lib.nn, lib.normal(64, 1, 28, 28), lib.classes(10, 64)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip
    return trained(lib, net, lambda: lib.F.cross_entropy(net(x), t))


def dcgan(lib: Library, channels: int, widths: list[int], side: int, batch: int) -> Step:
    """Both players of a DCGAN: `side` pixels at the smallest map, doubled by each further width."""
    nn, F = lib.nn, lib.F
    up: list[Any] = [nn.ConvTranspose2d(64, widths[0], side, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    down: list[Any] = []
    for wide, narrow in itertools.pairwise(widths):
        up += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
        down = [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2), *down]
    generator = nn.Sequential(*up, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())
    critic = nn.Sequential(
        nn.Conv2d(channels, widths[-1], 4, 2, 1), nn.LeakyReLU(0.2), *down, nn.Conv2d(widths[0], 1, side)
    )
    real, z = (
        lib.uniform(batch, channels, side * 2 ** len(widths), side * 2 ** len(widths)),
        lib.normal(batch, 64, 1, 1),
    )
    of_g = lib.optim.Adam(list(generator.parameters()), 2e-4, (0.5, 0.999))
    of_d = lib.optim.Adam(list(critic.parameters()), 2e-4, (0.5, 0.999))

    def step() -> object:
        fake = generator(z)
        loss_d = F.softplus(-critic(real)).mean() + F.softplus(critic(fake.detach())).mean()
        of_d.zero_grad()
        loss_d.backward()
        of_d.step()
        critic.requires_grad_(False)
        loss_g = F.softplus(-critic(fake)).mean()
        of_g.zero_grad()
        loss_g.backward()
        of_g.step()
        critic.requires_grad_(True)
        return loss_d, loss_g

    return step


def vae(lib: Library) -> Step:
    nn, F, x, noise = lib.nn, lib.F, lib.uniform(128, 784), lib.normal(128, 20)
    net = nn.ModuleDict({
        "encoder": nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40)),
        "decoder": nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784)),
    })  # fmt: skip

    def loss() -> Any:
        mean, log_std = net["encoder"](x).chunk(2, 1)
        logits = net["decoder"](mean + log_std.exp() * noise)
        likelihood = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = -0.5 * (1 + 2 * log_std - mean * mean - (2 * log_std).exp()).sum()
        return (likelihood + divergence) / 128

    return trained(lib, net, loss)


def masked(lib: Library) -> Step:
    """A stack of masked convolutions, as in PixelCNN."""
    nn, F, x, t = lib.nn, lib.F, lib.normal(16, 1, 28, 28), lib.classes(2, 16, 28, 28)
    sizes = [(1, 32, 7), *[(32, 32, 3)] * 5, (32, 2, 1)]
    net = nn.ModuleList([nn.Conv2d(i, o, k, padding=k // 2) for i, o, k in sizes])
    masks = []
    for _, _, k in sizes:
        seen = np.zeros((k, k), "float32")
        seen.reshape(-1)[: k * k // 2 + (k < 7)] = 1  # above and left; the centre too, but in the first layer
        masks.append(lib.array(seen))

    def loss() -> Any:
        y = x
        for i, (layer, mask) in enumerate(zip(net, masks)):
            y = F.conv2d(F.relu(y) if i else y, layer.weight * mask, layer.bias, 1, layer.padding)
        return F.cross_entropy(y, t)

    return trained(lib, net, loss)


def lstm(lib: Library) -> Step:
    nn, x, t = lib.nn, lib.normal(20, 32, 64), lib.normal(20, 32, 64)
    net = nn.ModuleDict({"lstm": nn.LSTM(64, 128), "out": nn.Linear(128, 64)})
    return trained(lib, net, lambda: lib.F.mse_loss(net["out"](net["lstm"](x)[0]), t))


def maml(lib: Library) -> Step:
    """Second order: the gradient through one inner step, eight tasks, a net of 2 × 40."""
    F, tasks = lib.F, 8
    weights = [lib.parameter(40, 1), lib.parameter(40), lib.parameter(40, 40), lib.parameter(40),
               lib.parameter(1, 40), lib.parameter(1)]  # fmt: skip
    x, y = lib.normal(tasks, 10, 1), lib.uniform(tasks, 10, 1)
    optimizer = lib.optim.Adam(weights, 1e-3)

    def net(x: Any, w: Any) -> Any:
        return F.linear(F.relu(F.linear(F.relu(F.linear(x, w[0], w[1])), w[2], w[3])), w[4], w[5])

    def step() -> object:
        total = 0.0
        for i in range(tasks):
            inner = lib.grad(F.mse_loss(net(x[i], weights), y[i]), weights, create_graph=True)
            fast = [w - 0.01 * g for w, g in zip(weights, inner)]
            total = total + F.mse_loss(net(x[i], fast), y[i])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total

    return step


def residual(lib: Library) -> Step:
    """Residual blocks with instance normalization, as in fast style transfer."""
    nn, F, x = lib.nn, lib.F, lib.normal(4, 3, 64, 64)
    first, last = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
    blocks = [
        nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.InstanceNorm2d(32, affine=True), nn.ReLU(),
                      nn.Conv2d(32, 32, 3, padding=1), nn.InstanceNorm2d(32, affine=True))
        for _ in range(3)
    ]  # fmt: skip
    net = nn.ModuleList([first, *blocks, last])

    def loss() -> Any:
        y = F.relu(first(x))
        for block in blocks:
            y = y + block(y)
        return F.mse_loss(last(y), x)

    return trained(lib, net, loss)


def attention(lib: Library) -> Step:
    x, t = lib.normal(16, 64, 128), lib.normal(16, 64, 128)
    net = lib.nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True)
    return trained(lib, net, lambda: lib.F.mse_loss(net(x), t))


CASES: dict[str, Callable[[Library], Step]] = {
    "mlp": mlp, "cnn": cnn,
    "dcgan-28": lambda lib: dcgan(lib, 1, [128, 64], 7, 32),
    "dcgan-64": lambda lib: dcgan(lib, 3, [256, 128, 64, 32], 4, 16),
    "vae": vae, "masked-conv": masked, "lstm": lstm, "maml": maml, "residual": residual, "attention": attention,
}  # fmt: skip
