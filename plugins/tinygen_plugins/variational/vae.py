r"""Variational autoencoders (Kingma and Welling 2014), with the importance-weighted bound (Burda et al. 2016).

A decoder p(x | z) turns latent variables z ∼ p(z) = N(0, I) into images. How likely an image then is, the integral
p(x) = ∫ p(x | z) p(z) dz, cannot be computed; an encoder q(z | x) = N(μ, σ²), a guess at the posterior, bounds it,

    log p(x) ≥ E_{z∼q(z|x)}[log p(x | z)] − KL(q(z | x) ‖ p(z)) = log p(x) − KL(q(z | x) ‖ p(z | x)),

the evidence lower bound (ELBO), and both networks ascend it. Overview articles print it with x and z or the two
divergences exchanged, or with −β·KL in what is minimised: the loss is −E log p(x | z) + β·KL. Both terms are sums over
pixels and latent dimensions; a mean over the pixels in one of them alone would weigh the other hundreds of times more.

The encoder gives ℓ = log σ, so that σ = exp(ℓ) everywhere below. A Bernoulli decoder takes a grey level as the
probability of a 1: the bound is then one on the expected log p of the image with its pixels drawn from these.
Read from the equations down: the draw, the terms of the bound, the bounds, the networks, then `VAE.update`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Animator, Evaluable, Repairer, Sampler, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream

AT_A_TIME = 1 << 21  # pixels that `evaluate` decodes at a time: 8 MB an array


@dataclass(frozen=True)
class Config:
    """Options of the bound, of the two networks, and of what is done with them."""

    steps: int = 20_000
    """updates to train for"""
    batch_size: int = 128
    """images in a batch"""
    network: Literal["mlp", "conv"] = "mlp"
    """multilayer perceptrons as in the paper, or convolutions, for images whose sides are multiples of 4"""
    hidden: int = 400
    """units in each hidden layer"""
    layers: int = 2
    """hidden layers of each multilayer perceptron; the paper has 1"""
    channels: int = 32
    """channels of the larger feature maps of conv; the smaller ones have twice as many"""
    latent: int = 20
    """dimensions of z"""
    decoder: Literal["bernoulli", "gaussian"] = "bernoulli"
    """law of a pixel: bernoulli for black and white, gaussian with one learnt σ for grey and colour"""
    beta: float = 1.0
    """weight of the KL divergence; 1 is the bound itself, more makes the latent dimensions independent"""
    samples: int = 1
    """draws of z for an image: 1 trains on the ELBO, k > 1 on the importance-weighted bound L_k"""
    lr: float = 1e-3
    """learning rate of Adam"""
    average: float = 0.999
    """decay of the running average of both networks that all but training works with; 0 for the last ones themselves"""
    repair_steps: int = 100
    """steps of the chain that fills missing pixels"""
    draws: int = 200
    """draws of z for each image in `evaluate`: the more, the nearer to log p"""
    test_images: int = 10_000
    """test images to evaluate on, at most"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("hidden", 1, 10**5), ("layers", 1, 16),
            ("channels", 1, 1024), ("latent", 1, 10**4), ("beta", 0.0, 1e6), ("samples", 1, 10**4),
            ("lr", 1e-9, 1.0), ("average", 0.0, 0.999999), ("repair_steps", 1, 10**6), ("draws", 1, 10**6),
            ("test_images", 1, 10**9),
        ):  # fmt: skip
            check_range("vae", name, getattr(self, name), low, high)
        check_choice("vae", "network", self.network, ["mlp", "conv"])
        check_choice("vae", "decoder", self.decoder, ["bernoulli", "gaussian"])
        if self.samples > 1 and self.beta != 1:
            raise UsageError("vae: the importance-weighted bound has no beta", "leave out --beta or --samples")


# ---------------------------------------------------------------- equations


@equation(
    r"z = \mu + \sigma \odot \epsilon, \quad \epsilon \sim \mathcal{N}(0, I), \quad \sigma = e^\ell",
    source="Kingma and Welling 2014, section 2.4 and eq. 10",
)
def reparameterize(mu: Tensor, log_sigma: Tensor, epsilon: Tensor) -> Tensor:
    """Draws of q(z | x), differentiable by its parameters: (n, d), (n, d) and ε (k, n, d) give z (k, n, d)."""
    return mu + F.exp(log_sigma) * epsilon


@equation(
    r"\mathrm{KL}(q(z \mid x) \,\|\, p(z)) = -\tfrac12 \sum_j (1 + 2\ell_j - \mu_j^2 - e^{2\ell_j})",
    source="Kingma and Welling 2014, appendix B",
)
def kl_to_prior(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, I)) in nats: (n, d) and (n, d) give (n,)."""
    return -0.5 * (1 + 2 * log_sigma - mu * mu - F.exp(2 * log_sigma)).sum(-1)


@equation(
    r"\log p(x \mid z) = \sum_i x_i \log y_i + (1 - x_i) \log(1 - y_i), \quad y = \operatorname{sigmoid}(a)",
    source="Kingma and Welling 2014, appendix C.1, eq. 11",
)
def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Images x (n, pixels) under logits a (k, n, pixels): (k, n), in nats. Written so that no logarithm is of 0:
    x log y + (1 − x) log(1 − y) = x a − log(1 + eᵃ)."""
    return (x * logits - F.softplus(logits)).sum(-1)


@equation(
    r"\log p(x \mid z) = \log \mathcal{N}(x;\, m, s^2 I)"
    r" = -\sum_i \Big[\tfrac12 \big(\tfrac{x_i - m_i}{s}\big)^2 + \log s + \tfrac12 \log 2\pi\Big]",
    source="Kingma and Welling 2014, appendix C.2, eq. 12, with one s for all pixels: that of a pixel would go to 0 "
    "where the images do not differ",
)
def log_gaussian(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Images x (n, pixels) under means (k, n, pixels) and log s (1,): log-densities (k, n), in nats."""
    u = (x - mean) * F.exp(-log_scale)
    return -(0.5 * u * u + log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)


@equation(
    r"\mathcal{L}(x) = \mathbb{E}_{q(z \mid x)}[\log p(x \mid z)] - \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z))",
    source="Kingma and Welling 2014, eq. 3; with beta Higgins et al. 2017",
)
def elbo(log_likelihood: Tensor, divergence: Tensor, beta: float = 1.0) -> Tensor:
    """The bound of each image, from log p(x | z) of k draws (k, n) and the divergence (n,): (n,)."""
    return log_likelihood.mean(0) - beta * divergence


@equation(
    r"\log w = \log p(x \mid z) + \log \mathcal{N}(z;\, 0, I) - \log \mathcal{N}(z;\, \mu, \sigma^2)",
    source="Burda et al. 2016, section 3: w = p(x, z) / q(z | x)",
)
def log_weights(log_likelihood: Tensor, z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """The importance weights of k draws: log p(x | z) (k, n), z (k, n, d), μ and log σ (n, d) give (k, n)."""
    u = (z - mu) * F.exp(-log_sigma)
    return log_likelihood + (0.5 * (u * u - z * z) + log_sigma).sum(-1)  # the ½ log 2π of both cancel


@equation(
    r"\mathcal{L}_k(x) = \mathbb{E}_{z_1 \dots z_k \sim q(z \mid x)}\Big[\log \frac1k \sum_{i=1}^k w_i\Big]",
    source="Burda et al. 2016, section 3",
)
def importance_bound(log_w: Tensor) -> Tensor:
    """The bound of each image from k draws, (k, n) to (n,). Its gradient weighs that of log w_i by w_i / Σ w."""
    return F.logsumexp(log_w, 0) - math.log(len(log_w))


@equation(
    r"\tilde x \leftarrow (1 - M) \odot \tilde x + M \odot x', \quad"
    r" z \sim q(z \mid \tilde x), \; x' \sim p(x \mid z)",
    source="Rezende et al. 2014, appendix F; M is 1 where a pixel is missing",
)
def impute(x: Tensor, drawn: Tensor, missing: Array) -> Tensor:
    """One step of the chain: images (n, c, h, w) with the pixels where `missing` (h, w) is true taken from `drawn`."""
    return F.where(missing, drawn, x)


@equation(
    r"z_\theta = z_0 \cos\theta + z_1 \sin\theta \sim \mathcal{N}(0, I), \quad z_0, z_1 \sim \mathcal{N}(0, I)",
    source="a sum of independent normal variables; cos² + sin² = 1",
)
def latent_circle(z0: Tensor, z1: Tensor, theta: Tensor) -> Tensor:
    """A closed walk on which each z is as likely as any draw: (n, d), (n, d) and angles (t,) give (n, t, d)."""
    theta = theta.unsqueeze(1)  # (t, 1)
    return F.cos(theta) * z0.unsqueeze(1) + F.sin(theta) * z1.unsqueeze(1)


# ---------------------------------------------------------------- the two networks


class Encoder(nn.Module):
    """Images (n, c, h, w) to the parameters μ and log σ of q(z | x), (n, d) each."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        (c, h, w), width = shape, config.hidden
        body: list[nn.Module]
        if config.network == "mlp":
            body = [nn.Flatten()]
            for i, (a, b) in enumerate(pairwise([c * h * w] + [width] * config.layers)):
                body += [nn.Linear(a, b, random=random.child(f"hidden {i}")), nn.Tanh()]
        else:
            k = config.channels
            body = [
                nn.Conv2d(c, k, 4, stride=2, padding=1, random=random.child("conv 1")),  # (n, k, h/2, w/2)
                nn.SiLU(),
                nn.Conv2d(k, 2 * k, 4, stride=2, padding=1, random=random.child("conv 2")),  # (n, 2k, h/4, w/4)
                nn.SiLU(),
                nn.Flatten(),
                nn.Linear(2 * k * (h // 4) * (w // 4), width, random=random.child("hidden")),
                nn.SiLU(),
            ]
        self.net = nn.Sequential(*body, nn.Linear(width, 2 * config.latent, random=random.child("out")))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_sigma = self.net(x).chunk(2, 1)  # (n, 2d) → (n, d) twice
        return mu, log_sigma


class Decoder(nn.Module):
    """Latent variables (n, d) to a number for each pixel (n, c·h·w), whose sigmoid is the mean of p(x | z)."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        (c, h, w), width = shape, config.hidden
        body: list[nn.Module]
        if config.network == "mlp":
            body = []
            for i, (a, b) in enumerate(pairwise([config.latent] + [width] * config.layers)):
                body += [nn.Linear(a, b, random=random.child(f"hidden {i}")), nn.Tanh()]
            body += [nn.Linear(width, c * h * w, random=random.child("out"))]
        else:
            k = config.channels
            body = [
                nn.Linear(config.latent, width, random=random.child("hidden")),
                nn.SiLU(),
                nn.Linear(width, 2 * k * (h // 4) * (w // 4), random=random.child("maps")),
                nn.SiLU(),
                nn.Unflatten(1, (2 * k, h // 4, w // 4)),
                nn.ConvTranspose2d(2 * k, k, 4, stride=2, padding=1, random=random.child("conv 1")),  # (n, k, h/2, w/2)
                nn.SiLU(),
                nn.ConvTranspose2d(k, c, 4, stride=2, padding=1, random=random.child("conv 2")),  # (n, c, h, w)
                nn.Flatten(),
            ]
        self.net = nn.Sequential(*body)
        if config.decoder == "gaussian":
            self.log_scale = nn.Parameter(tensor([-1.0]))  # log s, of all pixels

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Autoencoder(nn.Module):
    """Both networks."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        self.encoder = Encoder(config, shape, random.child("encoder"))
        self.decoder = Decoder(config, shape, random.child("decoder"))
        self.law = config.decoder

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) of images (n, c, h, w) for draws (k, n, d): (k, n)."""
        a = self.decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])  # (k·n, d) → (k·n, pixels) → (k, n, pixels)
        if self.law == "bernoulli":
            return log_bernoulli(x.flatten(1), a)
        return log_gaussian(x.flatten(1), F.sigmoid(a), self.decoder.log_scale)


class VAE(Trainable, Sampler, Repairer, Animator, Evaluable):
    """The autoencoder of images of one size."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if config.network == "conv" and (data.height % 4 or data.width % 4):
            raise UsageError(
                f"vae: conv halves images twice, {data.name} has {data.height} × {data.width} pixels",
                "choose an --image-size that is a multiple of 4, or --network mlp",
            )
        self.config, self.shape = config, data.shape
        self.model = Autoencoder(config, data.shape, random.child("model"))
        self.average = optim.EMA(Autoencoder(config, data.shape, random.child("model")), self.model, config.average)
        self.optimizer = optim.Adam(self.model.parameters(), config.lr)
        self.noise = random.child("noise")

    @property
    def averaged(self) -> Autoencoder:
        """The running average of both networks."""
        averaged = self.average.averaged
        assert isinstance(averaged, Autoencoder)
        return averaged

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Ascend the bound by its gradient on one batch after the other (Kingma and Welling 2014, Algorithm 1)."""
        while True:
            yield Step(self.update(next(batches).images))

    def update(self, x: Tensor) -> dict[str, Tensor]:
        """One step of Adam on minus the bound of a batch (n, c, h, w)."""
        mu, log_sigma = self.model.encoder(x)  # (n, d) each
        z = reparameterize(mu, log_sigma, self.normal((self.config.samples, *mu.shape), self.noise))  # (k, n, d)
        log_likelihood, divergence = self.model.log_likelihood(x, z), kl_to_prior(mu, log_sigma)  # (k, n) and (n,)
        if self.config.samples == 1:
            bound = elbo(log_likelihood, divergence, self.config.beta)
        else:
            bound = importance_bound(log_weights(log_likelihood, z, mu, log_sigma))
        loss = -bound.mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        done = self.optimizer.steps[0]  # updates, this one among them
        self.average.decay = min(self.config.average, done / (done + 9))  # a young average forgets where it began
        self.average.update()
        with no_grad():
            return {"loss": loss, "log_likelihood": log_likelihood.mean(), "kl": divergence.mean()}

    def normal(self, shape: tuple[int, ...], random: Stream) -> Tensor:
        """Draws from N(0, I)."""
        return Tensor(random.normal(shape))

    def mean_image(self, z: Tensor) -> Tensor:
        """The mean of p(x | z): (n, d) to images (n, c, h, w) in [0, 1]."""
        return F.sigmoid(self.averaged.decoder(z)).unflatten(1, self.shape)

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images, the means of p(x | z) for z ∼ N(0, I)."""
        with no_grad():
            return self.mean_image(self.normal((n, self.config.latent), random))

    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n walks through the latent space, each once around and back to where it began: (n, frames, c, h, w)."""
        z0, z1 = (self.normal((n, self.config.latent), random) for _ in range(2))
        theta = tensor([2 * math.pi * t / frames for t in range(frames)])
        with no_grad():
            z = latent_circle(z0, z1, theta).flatten(0, 1)  # (n, t, d) → (n·t, d)
            return self.mean_image(z).unflatten(0, (n, frames))

    def repair(self, image: Tensor, mask: Tensor | None, random: Stream) -> Tensor:
        """The image (c, h, w) with its missing pixels filled by the last state of the chain, by their means there; the
        chain is the Gibbs sampler of the missing pixels given the known ones as far as q is the posterior. Without a
        mask what the decoder makes of the code of the image.

        Raises UsageError for images of another size than those of the training.
        """
        if image.shape != self.shape:
            raise UsageError(
                f"vae: trained on images of {self.shape}, this one is {image.shape}", "bring it to that size first"
            )
        model, x = self.averaged, image.unsqueeze(0)  # (1, c, h, w)
        with no_grad():
            if mask is None:
                return self.mean_image(model.encoder(x)[0])[0]
            missing = mask.data > 0.5
            x = mean = impute(x, Tensor(random.uniform(x.shape)), missing)
            for _ in range(self.config.repair_steps):
                mu, log_sigma = model.encoder(x)
                z = reparameterize(mu, log_sigma, self.normal(mu.shape, random))
                mean = self.mean_image(z)
                x = impute(x, self.draw_image(mean, random), missing)
            return impute(x, mean, missing)[0]

    def draw_image(self, mean: Tensor, random: Stream) -> Tensor:
        """x ∼ p(x | z) about the mean image."""
        if self.config.decoder == "bernoulli":
            return Tensor((random.uniform(mean.shape) < mean.data).astype(mean.dtype))
        return mean + F.exp(self.averaged.decoder.log_scale) * self.normal(mean.shape, random)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """The mean ELBO of the test images, and the estimate L_k of their log p with k = `draws`, in nats."""
        split = data.split("test")
        count = min(self.config.test_images, len(split))
        # from all over the split: it may lie in the order of its classes
        some = tensor([i * len(split) // count for i in range(count)]).numpy()
        n = max(1, min(100, AT_A_TIME // math.prod(self.shape)))  # images at a time
        with no_grad():
            bounds = [self.bounds(tensor(split.images(some[i : i + n])), random) for i in range(0, count, n)]
        elbos, log_p = (F.cat(parts).numpy().astype("float64") for parts in zip(*bounds))
        return {
            "elbo": float(elbos.mean()),
            "log_p": float(log_p.mean()),
            "standard_error": float(log_p.std(ddof=min(1, count - 1)) / math.sqrt(count)),
            "draws": self.config.draws,
            "test_images": count,
        }

    def bounds(self, x: Tensor, random: Stream) -> tuple[Tensor, Tensor]:
        """The ELBO and L_k of images (n, c, h, w), both from the same k = `draws` draws: (n,) each."""
        model, k = self.averaged, self.config.draws
        mu, log_sigma = model.encoder(x)
        likelihoods, weights = [], []
        at_once = max(1, AT_A_TIME // math.prod(x.shape))
        for start in range(0, k, at_once):
            z = reparameterize(mu, log_sigma, self.normal((min(at_once, k - start), *mu.shape), random))
            likelihoods.append(model.log_likelihood(x, z))
            weights.append(log_weights(likelihoods[-1], z, mu, log_sigma))
        return elbo(F.cat(likelihoods), kl_to_prior(mu, log_sigma)), importance_bound(F.cat(weights))
