r"""Few-shot image generation with Reptile, FIGR (Clouâtre and Demers 2019): a GAN for a class of four images.

A generator and a critic are good at one class after many thousands of updates on many images. Here they start from
parameters (φ_D, φ_G) from which ten updates on four images go far. For each task, the images of one class,

    (W_D, W_G) ← (φ_D, φ_G),   ten updates of the game on (W_D, W_G),   φ's gradient := φ − W,

and Adam moves φ along it: Reptile, with both networks as one vector. The game is that of Wasserstein GANs with a
gradient penalty: the critic's value is to differ most between real and generated images while its slope is near 1,

    min_D  E D(G(z)) − E D(x) + λ E (‖∇D(x̂)‖ − 1)²,      min_G  −E D(G(z)).

The norm is over all pixels of one image, so nothing in the critic may mix images: it normalizes each by itself. The
optimizers of the game start anew with each task, as the last one's are of another class.

Samples come from W, the networks as the last task has left them: in training that of a training class, and in what
`adapt` gives that of the images it was given. Read the equations, the networks, `play`, then `updates`: Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import tinygen
import tinygen.functional as F
from tinygen import metrics, nn, optim
from tinygen.autograd import Tensor, enable_grad, no_grad, tensor
from tinygen.data import Batches, Dataset, DataSpec, Episode, Episodes, Support, episodes_from
from tinygen.errors import UsageError
from tinygen.host import Adapter, Evaluable, Illustrator, Sampler, Step, Trainable, check_range, equation
from tinygen.random import Stream

JUDGE_STEPS, CANDIDATES = 400, 5  # of the classifier in `evaluate`; classes that it chooses from
ROWS, COLUMNS = 8, 8  # of the picture
BETAS = (0.0, 0.9)  # of Adam in the game, as in Gulrajani et al. 2017


@dataclass(frozen=True)
class Config:
    """Options of the game, of what is learnt over the tasks, and of the networks."""

    steps: int = 3000
    """updates of φ to train for"""
    batch_size: int = 1
    """classes in an update of φ"""
    shot: int = 4
    """images of a class, n"""
    inner_steps: int = 10
    """updates of each player on the images of a class in training, K"""
    adapt_steps: int = 200
    """the same for a new class; the fewer updates φ has had, the more are of use"""
    inner_lr: float = 3e-3
    """learning rate of Adam in the game; the paper has 1e-3"""
    lr: float = 1e-3
    """learning rate of Adam for φ at the start; it falls to a tenth over the steps. The paper has 1e-4 throughout"""
    penalty: float = 10.0
    """weight λ of the gradient penalty"""
    latent: int = 32
    """size of the noise z"""
    width: int = 32
    """maps of the larger layers of both networks; the smaller ones have twice as many"""
    episodes: int = 30
    """classes in `evaluate`"""
    samples: int = 16
    """images drawn of each of them"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 1000), ("shot", 1, 10**4), ("inner_steps", 0, 10**4),
            ("adapt_steps", 0, 10**5), ("inner_lr", 1e-8, 1.0), ("lr", 1e-8, 1.0), ("penalty", 0.0, 1e4),
            ("latent", 1, 10**4), ("width", 1, 1024), ("episodes", 1, 10**5), ("samples", 1, 10**4),
        ):  # fmt: skip
            check_range("few_shot_gan", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations


@equation(
    r"\hat x = \epsilon x + (1 - \epsilon) \tilde x, \quad \epsilon \sim U[0, 1]",
    source="Gulrajani et al. 2017, Algorithm 1",
)
def between(real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """Images on the lines between pairs (n, c, h, w) and (n, c, h, w); one ε for each image, (n, 1, 1, 1)."""
    return epsilon * real + (1 - epsilon) * fake


@equation(
    r"\mathbb{E}_{\hat x}\big[(\|\nabla_{\hat x} D(\hat x)\|_2 - 1)^2\big]",
    source="Gulrajani et al. 2017, eq. 3; the norm is over all pixels and channels of an image",
)
def gradient_penalty(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """How far the critic's slope at images x (n, c, h, w), a leaf, is from 1; differentiable by its parameters."""
    slope = tinygen.grad(critic(x).sum(), x, create_graph=True)  # row i is of D(x_i) alone
    off = slope.flatten(1).norm(2, 1) - 1  # (n,)
    return (off * off).mean()


@equation(
    r"\mathcal{L}_D = \mathbb{E}[D(\tilde x)] - \mathbb{E}[D(x)] + \lambda\,\mathrm{GP}",
    source="Gulrajani et al. 2017, eq. 3",
)
def critic_loss(real_values: Tensor, fake_values: Tensor, penalty: Tensor, weight: float) -> Tensor:
    """What D minimises: its values of generated and real images, (n, 1) each, and the gradient penalty."""
    return fake_values.mean() - real_values.mean() + weight * penalty


@equation(r"\mathcal{L}_G = -\mathbb{E}[D(G(z))]", source="Gulrajani et al. 2017, Algorithm 1")
def generator_loss(fake_values: Tensor) -> Tensor:
    """What G minimises."""
    return -fake_values.mean()


@equation(
    r"\nabla\phi := \phi - \frac1t \sum_i W_i, \quad \phi = (\phi_D, \phi_G)",
    source="Clouâtre and Demers 2019, Algorithm 1, for t = 1",
)
def meta_gradient(phi: Sequence[Tensor], learnt: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """What the outer optimizer takes for φ's gradient, from what t tasks have made of φ."""
    return [p - sum(w[1:], w[0]) * (1 / len(w)) for p, w in zip(phi, zip(*learnt))]


# ---------------------------------------------------------------- the two players


class Generator(nn.Module):
    """Noise (n, latent) to images (n, c, h, w) in [−1, 1]."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        (c, h, w), k = shape, config.width
        self.net = nn.Sequential(
            nn.Linear(config.latent, 2 * k * (h // 4) * (w // 4), random=random.child("1")),
            nn.Unflatten(1, (2 * k, h // 4, w // 4)),
            nn.GroupNorm(1, 2 * k),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),  # and then a convolution: transposed ones leave a grid for long
            nn.Conv2d(2 * k, k, 3, padding=1, random=random.child("2")),  # (n, k, h/2, w/2)
            nn.GroupNorm(1, k),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(k, c, 3, padding=1, random=random.child("3")),  # (n, c, h, w)
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class Critic(nn.Module):
    """Images (n, c, h, w) in [−1, 1] to values (n, 1). Each image is normalized by itself, over all its maps."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        (c, h, w), k = shape, config.width
        self.net = nn.Sequential(
            nn.Conv2d(c, k, 4, stride=2, padding=1, random=random.child("1")),  # (n, k, h/2, w/2)
            nn.LeakyReLU(0.2),
            nn.Conv2d(k, 2 * k, 4, stride=2, padding=1, random=random.child("2")),  # (n, 2k, h/4, w/4)
            nn.GroupNorm(1, 2 * k),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * k * (h // 4) * (w // 4), 1, bias=False, random=random.child("3")),  # a constant would cancel
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Players(nn.Module):
    """Both networks: φ, or W."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        self.critic = Critic(config, shape, random.child("critic"))
        self.generator = Generator(config, shape, random.child("generator"))

    def become(self, other: Players) -> None:
        """Take over the parameters of other players, as a copy."""
        for p, q in zip(self.parameters(), other.parameters()):
            p.data = q.data.copy()


# ---------------------------------------------------------------- the algorithm


class FewShotGAN(Trainable, Sampler, Evaluable, Adapter, Illustrator):
    """φ, from which a class is learnt, and W, the networks that have learnt the last one."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if data.height % 4 or data.width % 4:
            raise UsageError(
                f"few_shot_gan: sides must be multiples of 4, the images are {data.height} × {data.width}",
                "for instance --image-size 28",
            )
        self.config, self.data = config, data
        self.phi = Players(config, data.shape, random.child("players"))
        self.players = Players(config, data.shape, random.child("players"))
        self.optimizer = optim.Adam(self.phi.parameters(), config.lr)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: 1 - 0.9 * min(k / config.steps, 1))
        self.noise = random.child("noise")

    def fit(self, batches: Batches) -> Iterator[Step]:
        ways = max(2, self.config.batch_size)  # an episode has two classes at least
        return self.updates(episodes_from(batches, ways, self.config.shot, 0))

    def updates(self, episodes: Iterator[Episode]) -> Iterator[Step]:
        """Algorithm 1: learn a class from φ, and move φ towards where that has led; then the next class."""
        phi, shot = list(self.phi.parameters()), self.config.shot
        for episode in episodes:
            learnt, figures = [], {}
            for first in range(0, self.config.batch_size * shot, shot):
                self.players.become(self.phi)
                figures = self.play(
                    self.players, episode.support[first : first + shot], self.config.inner_steps, self.noise
                )
                learnt.append([Tensor(w.data.copy()) for w in self.players.parameters()])
            with no_grad():
                for p, gradient in zip(phi, meta_gradient(phi, learnt)):
                    p.grad = gradient
            self.optimizer.step()
            self.schedule.step()
            yield Step(figures)

    def play(self, players: Players, images: Tensor, steps: int, noise: Stream) -> dict[str, Tensor]:
        """The game on the images (n, c, h, w) of a class in [0, 1]: steps updates of each player. Its last losses."""
        critic, generator, config = players.critic, players.generator, self.config
        of_critic, of_generator = (optim.Adam(net.parameters(), config.inner_lr, BETAS) for net in (critic, generator))
        real, losses = images * 2 - 1, {}
        with enable_grad():
            for _ in range(steps):
                with no_grad():
                    fake = generator(self.draw_noise(len(real), noise))
                    x = between(real, fake, Tensor(noise.uniform((len(real), 1, 1, 1)))).requires_grad_(True)
                real_values, fake_values = critic(F.cat([real, fake])).chunk(2)
                loss_d = critic_loss(real_values, fake_values, gradient_penalty(critic, x), config.penalty)
                of_critic.zero_grad()
                loss_d.backward()
                of_critic.step()

                critic.requires_grad_(False)
                loss_g = generator_loss(critic(generator(self.draw_noise(len(real), noise))))
                of_generator.zero_grad()
                loss_g.backward()
                of_generator.step()
                critic.requires_grad_(True)
                losses = {"loss_d": loss_d, "loss_g": loss_g}
        return losses

    def draw_noise(self, n: int, random: Stream) -> Tensor:
        """z ∼ N(0, I), (n, latent)."""
        return Tensor(random.normal((n, self.config.latent)))

    def sample(self, n: int, random: Stream) -> Tensor:
        """n images in [0, 1] of the class that W has learnt."""
        return self.drawn(self.players, n, random)

    def drawn(self, players: Players, n: int, random: Stream) -> Tensor:
        with no_grad():
            return (players.generator(self.draw_noise(n, random)) + 1) / 2

    def adapt(self, support: Support) -> FewShotGAN:
        """A copy whose samples are like the support's images, whatever their labels; they are taken as one class."""
        shape = support.images.shape[1:]
        if shape != self.data.shape:
            raise UsageError(f"the support's images are {shape}, this run was trained on {self.data.shape}")
        return self.learn(support.images, self.config.adapt_steps)

    def learn(self, images: Tensor, steps: int) -> FewShotGAN:
        """A copy that has played so many steps on images (n, c, h, w) in [0, 1]; its draws are its own."""
        copy = FewShotGAN(self.config, self.data, self.noise.child("adapt"))
        copy.phi.become(self.phi)
        copy.players.become(self.phi)
        copy.play(copy.players, images, steps, copy.noise)
        return copy

    # ------------------------------------------------------------ classes that it has never seen

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """After learning each of some classes of the test split from a few images, in adapt_steps and in inner_steps
        updates: the share of samples, in percent, that a classifier of real images takes for that class rather than for
        four others, with its 95 % interval; the same for φ, and for real images that the classifier was not trained
        on; and how much samples differ among themselves, in percent of what real images of the class do."""
        config, judge = self.config, Classifier(data, random.child("judge"))
        episodes = Episodes(data.split("test"), CANDIDATES, config.shot, 0, random.child("episodes"))
        parts: dict[str, list[Tensor]] = {}
        for i in range(config.episodes):
            episode, draws = episodes[i], random.child(f"samples {i}")
            support, real = episode.support[: config.shot], judge.held_out(episode.classes[0])
            adapted, briefly = (self.learn(support, k) for k in (config.adapt_steps, config.inner_steps))
            made = {
                "accepted": adapted.sample(config.samples, draws),
                f"accepted_{config.inner_steps}_steps": briefly.sample(config.samples, draws),
                "accepted_before": self.drawn(self.phi, config.samples, draws),
                "accepted_real": real,
            }
            for name, images in made.items():
                parts.setdefault(name, []).append(judge.share(images, episode.classes))
            parts.setdefault("spread", []).append(spread(made["accepted"]) / spread(real))
        means = {name: metrics.mean_interval(tinygen.stack(each).data) for name, each in parts.items()}
        figures = {name: 100 * float(mean) for name, (mean, _) in means.items()}
        return {**figures, "accepted_interval": 100 * float(means["accepted"][1]), "classes": config.episodes}

    def illustrate(self, data: Dataset, random: Stream) -> dict[str, Tensor]:
        """Classes of the test split, a row each: the images that one was learnt from, and samples."""
        shot = min(self.config.shot, COLUMNS // 2)
        episodes, rows = Episodes(data.split("test"), 2, self.config.shot, 0, random.child("episodes")), []
        for i in range(ROWS):
            images = episodes[i].support[: self.config.shot]
            drawn = self.learn(images, self.config.adapt_steps).sample(COLUMNS - shot, random.child(f"samples {i}"))
            rows += [images[:shot], drawn]
        return {"unseen-classes": tinygen.cat(rows)}


class Classifier:
    """A small classifier of the test split's classes, trained on four of five of its images."""

    def __init__(self, data: Dataset, random: Stream) -> None:
        images, labels = data.arrays("test")
        if labels is None:
            raise UsageError("few_shot_gan: the data have no labels", "for instance --data omniglot")
        places: dict[int, list[int]] = {}
        for place, label in enumerate(labels.tolist()):
            places.setdefault(label, []).append(place)
        self.held = {label: members[4::5] or members[-1:] for label, members in places.items()}
        seen = tensor(sorted({*range(len(labels))}.difference(*self.held.values())))
        self.images, labels_here = tensor(images), tensor(labels)
        (c, h, w), classes = data.shape, int(labels.max()) + 1
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise([c, 16, 32, 64])):
            convolution = nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False, random=random.child(f"layer {i}"))
            layers += [convolution, nn.BatchNorm2d(b), nn.ReLU()]
            h, w = (h + 1) // 2, (w + 1) // 2
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * h * w, classes, random=random.child("out")))
        optimizer, order = optim.Adam(self.net.parameters(), 2e-3), random.child("order")
        for _ in range(JUDGE_STEPS):
            batch = seen.index_select(0, Tensor(order.integers(0, len(seen), 64)))
            loss = F.cross_entropy(self.net(self.images.index_select(0, batch)), labels_here.index_select(0, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.net.eval()

    def share(self, images: Tensor, classes: tuple[int, ...]) -> Tensor:
        """The share (0-d) of images that it takes for the first of these classes."""
        with no_grad():
            logits = self.net(images).index_select(1, tensor(list(classes)))
        return Tensor((logits.argmax(1).data == 0).astype("float32")).mean()

    def held_out(self, label: int) -> Tensor:
        """Images of a class that it was not trained on."""
        return self.images.index_select(0, tensor(self.held[label]))


def spread(images: Tensor) -> Tensor:
    """How far images (n, c, h, w) are from their mean: the root of the pixels' mean variance."""
    return images.var(0).mean().sqrt()
