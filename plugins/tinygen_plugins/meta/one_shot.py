r"""Classes from one example: prototypical (Snell, Swersky and Zemel 2017), matching (Vinyals et al. 2016) and siamese
networks (Koch, Zemel and Salakhutdinov 2015, with Hadsell, Chopra and LeCun's loss of 2006 as well).

A network f embeds images, so that those of one class are near each other, be it a class that was never seen. It is
trained as it will be tested: an episode takes some classes, a few images of each as the support S, and asks for the
classes of others, the query; the next episode takes other classes. The four methods differ in what they compare:

    prototypical    f(x) with the mean of each class,    p(k | x) ∝ exp(−‖f(x) − c_k‖²)
    matching        f(x) with each example, by cosine,   p(k | x) = Σ_{i∈k} a_i,  a = softmax(cos/τ)
    siamese         f(x) with each example, by a learnt distance whose sigmoid is the probability of "the same class"
    contrastive     f(x) with each example, by ‖f(x) − f(x_i)‖, small for the same class and beyond a margin else

Matching networks are those without full context embeddings: an image is embedded whatever else is in the support. The
last two learn from pairs, and answer as matching networks do, from the scores of their pairs. That is what Bayes'
rule makes of the siamese logits, log-odds of "the same", where exactly one of the pairs is the same.
Read from the equations down: those of the first two methods (those of pairs stand in `_pairs.py`), the four methods,
the network, then `OneShot.fit`. How training images are moved, and a baseline that learns nothing: `_characters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import tinygen
import tinygen.functional as F
from tinygen import metrics, nn, optim
from tinygen.autograd import Tensor, no_grad
from tinygen.backend import of
from tinygen.data import Batches, Dataset, DataSpec, Episode, Episodes, FeatureImages, Support, episodes_from
from tinygen.data.omniglot import FULL_SIDE, Runs
from tinygen.errors import DataError, UsageError
from tinygen.host import Adapter, Evaluable, Illustrator, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.meta._characters import in_columns, in_plane, modified_hausdorff, move, nearest_accuracy
from tinygen_plugins.meta._pairs import contrastive_loss, is_same, siamese_logits, siamese_loss

TASKS = ((5, 1), (5, 5), (20, 1))  # way and shot of the episodes that are reported
TEST_QUERIES = 5  # of each class
PIECE = 500  # images at a time where there may be many


@dataclass(frozen=True)
class Config:
    """Options of the method, of its episodes and of the network."""

    steps: int = 2000
    """episodes to train for"""
    method: Literal["prototypical", "matching", "siamese", "contrastive"] = "prototypical"
    """what is compared: class means, examples by cosine, or pairs by a learnt distance or by a margin"""
    way: int = 30
    """classes in a training episode: more than in the test make a better embedding"""
    shot: int = 1
    """examples of each class in the support"""
    queries: int = 3
    """images of each class whose class is asked for"""
    channels: int = 64
    """maps of each of the network's four stages"""
    lr: float = 2e-3
    """learning rate of Adam at the start"""
    halving: int = 400
    """episodes after which the learning rate is halved, again and again"""
    moves: float = 1.0
    """how far training images are turned, sheared, scaled and shifted at random; 1: up to 10°, and 0: not at all"""
    temperature: float = 0.1
    """τ of matching: the softmax is of cosines divided by it; the paper has 1"""
    margin: float = 2.0
    """m of contrastive: how far apart different classes are pushed"""
    episodes: int = 1000
    """test episodes of each kind in `evaluate`"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("way", 2, 10**4), ("shot", 1, 1000), ("queries", 1, 1000), ("channels", 1, 4096),
            ("lr", 1e-9, 1.0), ("halving", 1, 10**9), ("moves", 0.0, 3.0), ("temperature", 0.05, 100.0),
            ("margin", 1e-3, 1e3), ("episodes", 2, 10**6),
        ):  # fmt: skip
            check_range("one_shot", name, getattr(self, name), low, high)
        check_choice("one_shot", "method", self.method, list(METHODS))


# ---------------------------------------------------------------- equations: prototypical networks


@equation(r"c_k = \frac{1}{|S_k|} \sum_{(x_i, y_i) \in S_k} f(x_i)", source="Snell et al. 2017, eq. 1")
def prototypes(features: Tensor, labels: Tensor, way: int) -> Tensor:
    """The mean of each class: features f(x) (n, d) with labels (n,), each class once or more, give (N, d)."""
    members = F.one_hot(labels, way).to(features.dtype)  # (n, N)
    return (members.T @ features) / members.sum(0)[:, None]  # (N, d) = (N, n) @ (n, d)


@equation(
    r"p(y = k \mid x) = \frac{\exp(-d(f(x), c_k))}{\sum_{k'} \exp(-d(f(x), c_{k'}))}, \quad d(z, c) = \|z - c\|^2",
    source="Snell et al. 2017, eq. 2",
)
def log_nearness(features: Tensor, centres: Tensor) -> Tensor:
    """log p(y = k | x), (q, N), for f(x) (q, d) and c (N, d)."""
    return F.log_softmax(-squared_distances(features, centres), 1)


@equation(
    r"\|z - c\|^2 = z^\top z - 2\, c^\top z + c^\top c",
    source="Snell et al. 2017, section 2.4: linear in z but for a term that the classes share",
)
def squared_distances(features: Tensor, centres: Tensor) -> Tensor:
    """Each of z (q, d) from each of c (n, d): (q, n)."""
    squares = (features * features).sum(1)[:, None] + (centres * centres).sum(1)
    return squares - 2.0 * (features @ centres.T)  # (q, n) = (q, d) @ (d, n)


@equation(
    r"J = -\frac{1}{NQ} \sum_{k} \sum_{x \in Q_k} \log p(y = k \mid x)",
    source="Snell et al. 2017, Algorithm 1; Vinyals et al. 2016, section 2.2, minimises the same",
)
def episode_loss(log_p: Tensor, labels: Tensor) -> Tensor:
    """log-probabilities (q, N) of a query and its labels (q,): a number (0-d) in nats."""
    return F.nll_loss(log_p, labels)


# ---------------------------------------------------------------- equations: matching networks


@equation(r"s_i = \cos(f(\hat{x}), f(x_i)) / \tau", source="Vinyals et al. 2016, section 2.1.1, where τ is 1")
def cosine_scores(features: Tensor, examples: Tensor, temperature: float) -> Tensor:
    """How alike each of f(x̂) (q, d) and each of f(x) (n, d) are: (q, n), of size 1/τ at most."""
    return F.normalize(features) @ F.normalize(examples).T / temperature  # (q, n) = (q, d) @ (d, n)


@equation(
    r"\hat{y} = \sum_i a(\hat{x}, x_i)\, y_i, \quad a(\hat{x}, x_i) = \frac{e^{s_i}}{\sum_j e^{s_j}}",
    source="Vinyals et al. 2016, sections 2.1 and 2.1.1",
)
def attend(scores: Tensor, labels: Tensor, way: int) -> Tensor:
    """The probability of each class, (q, N), from the scores (q, n) of the examples and their labels (n,)."""
    return F.softmax(scores, 1) @ F.one_hot(labels, way).to(scores.dtype)  # (q, N) = (q, n) @ (n, N)


# ---------------------------------------------------------------- the four methods


class Examples(NamedTuple):
    """A support as the network sees it."""

    features: Tensor  # (n, d)
    labels: Tensor  # (n,), in 0 … N − 1
    way: int  # N


class Method(nn.Module):
    """What is compared: the query with each of the examples, unless a method says otherwise."""

    def __init__(self, config: Config, d: int, random: Stream) -> None:
        super().__init__()
        self.temperature, self.margin = config.temperature, config.margin

    def scores(self, query: Tensor, examples: Tensor) -> Tensor:
        """Features (q, d) and (n, d) to (q, n)."""
        raise NotImplementedError

    def probabilities(self, query: Tensor, examples: Examples) -> Tensor:
        """Of each class: (q, d) to (q, N)."""
        return attend(self.scores(query, examples.features), examples.labels, examples.way)

    def loss(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        """What training makes small; labels (q,) are the query's."""
        raise NotImplementedError


class Prototypical(Method):
    def probabilities(self, query: Tensor, examples: Examples) -> Tensor:
        return F.exp(log_nearness(query, prototypes(*examples)))

    def loss(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        return episode_loss(log_nearness(query, prototypes(*examples)), labels)


class Matching(Method):
    def scores(self, query: Tensor, examples: Tensor) -> Tensor:
        return cosine_scores(query, examples, self.temperature)

    def loss(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        return episode_loss(F.log(self.probabilities(query, examples)), labels)


class Siamese(Method):
    def __init__(self, config: Config, d: int, random: Stream) -> None:
        super().__init__(config, d, random)
        self.alpha = nn.Parameter(random.child("alpha").uniform(d, -2 / d, 0.0))  # far apart is not the same
        self.b = nn.Parameter(tinygen.zeros(1))

    def scores(self, query: Tensor, examples: Tensor) -> Tensor:
        return siamese_logits(query, examples, self.alpha, self.b)

    def loss(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        return siamese_loss(self.scores(query, examples.features), is_same(labels, examples.labels))


class Contrastive(Method):
    def scores(self, query: Tensor, examples: Tensor) -> Tensor:
        return -squared_distances(query, examples)

    def loss(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        distances = (query[:, None] - examples.features).norm(dim=2)  # (q, n)
        return contrastive_loss(distances, is_same(labels, examples.labels), self.margin)


METHODS: dict[str, type[Method]] = {
    "prototypical": Prototypical, "matching": Matching, "siamese": Siamese, "contrastive": Contrastive,
}  # fmt: skip


# ---------------------------------------------------------------- the network


class Embedding(nn.Module):
    """f: images (n, c, h, w) to features (n, d), by four stages that each halve height and width."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        c, h, w = shape
        stages = []
        for number in range(1, 5):
            stages += [
                nn.Conv2d(c, config.channels, 3, padding=1, bias=False, random=random.child(str(number))),
                nn.BatchNorm2d(config.channels),
                nn.MaxPool2d(2),
                nn.ReLU(),  # after the pooling it says the same, on a quarter of the places
            ]
            c, h, w = config.channels, h // 2, w // 2
        self.net = nn.Sequential(*stages, nn.Flatten())
        self.features = c * h * w  # d: 64 for images of 28 × 28

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class OneShot(Trainable, Evaluable, Adapter, Illustrator):
    """Tells classes apart that it has a few examples of."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        _check_data(data)
        self.config = config
        self.embedding = Embedding(config, data.shape, random.child("embedding"))
        self.method = METHODS[config.method](config, self.embedding.features, random.child("method"))
        self.optimizer = optim.Adam([*self.embedding.parameters(), *self.method.parameters()], config.lr)
        self.schedule = optim.StepLR(self.optimizer, config.halving, 0.5)
        self.moves = random.child("moves")

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Algorithm 1 of Snell et al.: an episode, its loss, an update."""
        config = self.config
        episodes = episodes_from(batches, config.way, config.shot, config.queries)
        return (Step(self.update(episode)) for episode in episodes)

    def update(self, episode: Episode) -> dict[str, Tensor]:
        """One descent of an episode's loss."""
        images = self.moved(F.cat([episode.support, episode.query]))
        features, n = self.embedding(images), len(episode.support)  # support and query in one pass
        examples = Examples(features[:n], episode.support_labels, len(episode.classes))
        loss = self.method.loss(features[n:], episode.query_labels, examples)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        with no_grad():
            return {"loss": loss, "accuracy": self.accuracy(features[n:], episode.query_labels, examples)}

    def moved(self, images: Tensor) -> Tensor:
        """The images (n, c, h, w), each moved a little in its own way."""
        if self.config.moves == 0:
            return images
        u = self.moves.uniform((5, len(images)), -self.config.moves, self.config.moves)
        xp = of(u).xp
        return move(images, u[0] * math.radians(10), 0.15 * u[1], xp.exp(0.15 * u[2]), 0.1 * u[3:].T)

    # ------------------------------------------------------------ what it tells apart

    def embed(self, images: Tensor) -> Tensor:
        """f(x) in evaluation mode: each image by itself, (n, c, h, w) to (n, d)."""
        self.embedding.eval()
        with no_grad():
            pieces = [self.embedding(images[start : start + PIECE]) for start in range(0, len(images), PIECE)]
        self.embedding.train()
        return F.cat(pieces)

    def accuracy(self, query: Tensor, labels: Tensor, examples: Examples) -> Tensor:
        """The share of the query that is told rightly, from features: a number (0-d)."""
        p = self.method.probabilities(query, examples)
        return Tensor((p.argmax(1).data == labels.data).astype(p.dtype)).mean()

    def adapt(self, support: Support) -> Classifier:
        """What tells the support's classes apart. No weight changes: the examples are all that is new."""
        if len(support.classes) < 2:
            raise UsageError(
                f"one_shot: tells classes apart, the support has {len(support.classes)}", "give two classes or more"
            )
        return Classifier(self, support)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """How many test images are told rightly, in percent, with the half width of the 95 % interval over episodes;
        on omniglot-runs how many wrongly, and how many by the modified Hausdorff distance."""
        test = data.split("test")
        if isinstance(test, Runs):
            return self.evaluate_runs(test)
        features = FeatureImages(test, self.embed)  # each image is embedded once
        figures: dict[str, float] = {}
        for way, shot in TASKS:
            name = f"{way}_way_{shot}_shot"
            try:
                episodes = Episodes(features, way, shot, TEST_QUERIES, random.child(name))
            except DataError:
                if figures:
                    continue  # there are too few classes, or images of them, for this one
                raise
            shares = F.stack([self._share(episodes[number]) for number in range(self.config.episodes)])
            mean, half = metrics.mean_interval(100 * shares.data)
            figures |= {f"accuracy_{name}": float(mean), f"interval_{name}": float(half)}
        return {**figures, "test_classes": features.class_count}

    def evaluate_runs(self, runs: Runs) -> dict[str, float]:
        """The share of wrong answers in the runs, in percent, beside that of the nearest drawing, at full size."""
        shares = [
            self._share(episode._replace(support=self.embed(episode.support), query=self.embed(episode.query)))
            for episode in runs.episodes()
        ]
        mean, half = metrics.mean_interval(100 * F.stack(shares).data)
        nearest = F.stack(
            [nearest_accuracy(episode, modified_hausdorff) for episode in runs.resized(FULL_SIDE).episodes()]
        ).mean()
        return {
            "error_percent": 100 - float(mean),
            "interval": float(half),
            "hausdorff_error_percent": 100 - 100 * nearest.item(),
            "runs": len(shares),
        }

    def _share(self, episode: Episode) -> Tensor:
        """The accuracy in an episode of features."""
        examples = Examples(episode.support, episode.support_labels, len(episode.classes))
        return self.accuracy(episode.query, episode.query_labels, examples)

    def illustrate(self, data: Dataset, random: Stream) -> dict[str, Tensor]:
        """An episode with its answers, and its images where their features lie: of test images, where they do."""
        way = min(10, self.config.way)
        try:
            episode = Episodes(data.split("test"), way, 1, 10, random)[0]
        except DataError:
            episode = Episodes(data.split("train"), way, 1, self.config.queries, random)[0]
        classes = tuple(map(str, episode.classes))
        classifier = self.adapt(Support(episode.support, episode.support_labels, classes))
        return {
            "answers": in_columns(episode, classifier.probabilities(episode.query)),
            "embedding": in_plane(self.embed(episode.query), episode.query),
        }


class Classifier:
    """Tells the classes of a support apart: what `adapt` gives."""

    def __init__(self, model: OneShot, support: Support) -> None:
        self.model, self.classes = model, support.classes
        self.examples = Examples(model.embed(support.images), support.labels, len(support.classes))

    def probabilities(self, images: Tensor) -> Tensor:
        """Of each class, (n, N), for images (n, c, h, w) in [0, 1]."""
        with no_grad():
            return self.model.method.probabilities(self.model.embed(images), self.examples)


def _check_data(data: DataSpec) -> None:
    """Raise UsageError where images have no classes, or are too small for four stages."""
    if len(data.classes) < 2:
        raise UsageError(
            f"one_shot: learns from episodes of classes, {data.name} has {len(data.classes) or 'none'}",
            "choose data with labels: --data omniglot, glyphs:all, or folder:PATH with a folder for each class",
        )
    if min(data.height, data.width) < 16:
        raise UsageError(
            f"one_shot: images must be 16 × 16 pixels or more, {data.name} has {data.height} × {data.width}",
            "enlarge them: --image-size 28",
        )
