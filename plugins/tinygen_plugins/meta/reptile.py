r"""Reptile (Nichol, Achiam and Schulman 2018): learn a task, and go a part of the way there; then the next task.

From the start φ, k steps U of an optimizer on minibatches of one task lead to φ̃ = U^k(φ). Reptile then moves φ towards
it,

    φ ← φ + ε (φ̃ − φ),

serially, or by the mean of several tasks. There is no second derivative, and no query: only training. With k = 1 and
gradient descent this would be joint training, one network for all tasks. With k > 1 it is not: expanded in the rate α,
the expected update of both this and MAML is made of two terms,

    AvgGrad = E[g_1]: down the mean loss;    AvgGradInner = E[H_2 g_1] = ½ ∂_φ E[g_1 · g_2]: towards where a step on one
    minibatch helps on another, which is what it is to learn a task from few examples.

The optimizer inside is gradient descent, or Adam without its momentum (β₁ = 0), as what it remembers of the direction
belongs to another task. Its mean of squares is kept from task to task. The tasks of an update go along the first axis
of every tensor, see `_learners.py`. Read the equations, then `updates`, which is the paper's Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import tinygen
from tinygen.autograd import Tensor, enable_grad, no_grad
from tinygen.data import Batches, DataSpec
from tinygen.host import Step, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.meta._learners import Theta
from tinygen_plugins.meta._tasks import MetaLearner, Tasks

BETA2, EPS = 0.999, 1e-8  # Adam's


@dataclass(frozen=True)
class Config:
    """Options of the tasks, of the two levels of learning, and of the networks."""

    steps: int = 6000
    """updates of the start φ; 30,000 for sinusoids, which take a thirtieth of the time"""
    tasks: Literal["characters", "sinusoid"] = "characters"
    """what is learnt: to tell characters of the data apart, or to fit curves that are drawn without data"""
    batch_size: int = 5
    """tasks in an update; 1 is the serial version"""
    way: int = 5
    """classes of a task"""
    shot: int | None = None
    """examples to learn a new task from: images of each class (1 where not told), or points of a curve (10)"""
    train_shot: int | None = None
    """the same in training, where more are of use: images of each class (10 where not told), or points (50)"""
    distortion: float = 0.15
    """how far training images are moved, turned, scaled and sheared, as a part of half their side; 0 for not at all"""
    inner_steps: int = 5
    """steps on a task in training, k"""
    inner_batch: int = 10
    """examples in the minibatch of a step"""
    test_steps: int = 15
    """steps on a new task, each on all of its examples"""
    inner: Literal["adam", "sgd"] | None = None
    """optimizer of these steps: adam for characters and sgd for sinusoids where not told"""
    alpha: float | None = None
    """its rate: 0.003 for adam and 0.02 for sgd where not told. The paper has 0.001, and far more updates"""
    epsilon: float = 1.0
    """part of the way to go at the start; it falls to 0 over the steps"""
    filters: int = 32
    """maps of each convolution; the paper has 64"""
    hidden: int = 40
    """units in the two hidden layers for sinusoids"""
    episodes: int = 600
    """test tasks in `evaluate`"""
    joint_steps: int = 5000
    """updates of the network trained on all sinusoids at once, which `evaluate` compares with"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**4), ("way", 2, 1000), ("inner_steps", 1, 1000),
            ("inner_batch", 1, 10**5), ("test_steps", 0, 10**4), ("epsilon", 0.0, 1.0), ("filters", 1, 4096),
            ("hidden", 1, 10**5), ("episodes", 2, 10**6), ("joint_steps", 1, 10**9), ("distortion", 0.0, 1.0),
        ):  # fmt: skip
            check_range("reptile", name, getattr(self, name), low, high)
        for name, low, high in (("shot", 1, 10**4), ("train_shot", 1, 10**4), ("alpha", 0.0, 100.0)):
            if getattr(self, name) is not None:
                check_range("reptile", name, getattr(self, name), low, high)
        check_choice("reptile", "tasks", self.tasks, ["characters", "sinusoid"])
        if self.inner is not None:
            check_choice("reptile", "inner", self.inner, ["adam", "sgd"])


SHOT, TRAIN_SHOT = {"characters": 1, "sinusoid": 10}, {"characters": 10, "sinusoid": 50}  # where not told
INNER, ALPHA = {"characters": "adam", "sinusoid": "sgd"}, {"adam": 0.003, "sgd": 0.02}


# ---------------------------------------------------------------- equations


@equation(
    r"U(\phi) = \phi - \alpha g, \quad g = \nabla_\phi \mathcal{L}(\phi)",
    source="Nichol et al. 2018, section 5: the U of gradient descent",
)
def sgd_step(phi: Theta, gradients: Sequence[Tensor], alpha: float) -> Theta:
    """One step of gradient descent."""
    return [p - alpha * g for p, g in zip(phi, gradients)]


@equation(
    r"v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad"
    r" U(\phi) = \phi - \frac{\alpha\, g}{\sqrt{v / (1 - \beta_2^j)} + \epsilon}",
    source="Kingma and Ba 2015, algorithm 1, with β₁ = 0 as in Nichol et al. 2018, section 6",
)
def adam_step(phi: Theta, gradients: Sequence[Tensor], v: Theta, j: int, alpha: float) -> tuple[Theta, Theta]:
    """The j-th step of Adam without momentum: the new parameters and v."""
    v = [BETA2 * s + (1 - BETA2) * (g * g) for s, g in zip(v, gradients)]
    scale = 1 / (1 - BETA2**j) ** 0.5
    return [p - alpha * (g / (s.sqrt() * scale + EPS)) for p, g, s in zip(phi, gradients, v)], v


@equation(
    r"\phi \leftarrow \phi + \epsilon \frac1t \sum_i (\tilde\phi_i - \phi), \quad \tilde\phi_i = U_i^k(\phi)",
    source="Nichol et al. 2018, Algorithm 2; for t = 1 Algorithm 1",
)
def outer_step(phi: Sequence[Tensor], learnt: Theta, epsilon: float) -> list[Tensor]:
    """φ a part ε of the way to the mean of what t tasks have made of it: (…) and (t, …) for each parameter."""
    return [p + epsilon * (end.mean(0) - p) for p, end in zip(phi, learnt)]


@equation(r"\epsilon_k = \epsilon_0 \max(0, 1 - k / K)", source="Nichol et al. 2018, section 6: falls linearly to 0")
def step_size(epsilon: float, k: int, steps: int) -> float:
    """How far update k of K, from 0 on, goes."""
    return epsilon * max(0.0, 1 - k / steps)


# ---------------------------------------------------------------- the algorithm


class Reptile(MetaLearner):
    """φ, and the mean of squares that Adam brings along."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        super().__init__(config, data, config.shot or SHOT[config.tasks], random)
        self.train_shot = config.train_shot or TRAIN_SHOT[config.tasks]
        self.inner = config.inner or INNER[config.tasks]
        self.alpha = ALPHA[self.inner] if config.alpha is None else config.alpha
        self.squares = [tinygen.zeros(*p.shape) for p in self.learner.parameters()]
        self.order = random.child("order")
        self.updated, self.stepped = 0, 0  # times that φ was moved, and inner steps before

    def fit(self, batches: Batches) -> Iterator[Step]:
        return self.updates(self.tasks(batches, self.train_shot, 0))

    def updates(self, drawn: Iterator[Tasks]) -> Iterator[Step]:
        """Algorithm 2: draw t tasks, learn each from φ in k steps, and move φ towards where they end."""
        phi, config = list(self.learner.parameters()), self.config
        for x, y, _, _ in drawn:
            minibatches, losses = self.minibatches(x, y), []
            theta, v = self.learner.start(len(x)), self.squares
            for j, (images, labels) in zip(range(config.inner_steps), minibatches):
                theta, v, loss = self.inner_step(theta, v, self.stepped + j + 1, images, labels)
                losses.append(loss)
            with no_grad():
                for p, moved in zip(phi, outer_step(phi, theta, step_size(config.epsilon, self.updated, config.steps))):
                    p.data = moved.data
                self.squares = [s.mean(0) for s in v] if self.inner == "adam" else v
            self.updated, self.stepped = self.updated + 1, self.stepped + config.inner_steps
            yield Step({"loss_first": losses[0], "loss_last": losses[-1]})

    def inner_step(self, theta: Theta, v: Theta, j: int, x: Tensor, y: Tensor) -> tuple[Theta, Theta, Tensor]:
        """One step on each of t tasks, and their mean loss before it."""
        theta = [p.detach().requires_grad_(True) for p in theta]
        with enable_grad():
            losses = self.learner.losses(x, y)(theta)
            gradients = tinygen.grad(losses.sum(), theta)
        with no_grad():
            if self.inner == "sgd":
                return sgd_step(theta, gradients, self.alpha), v, losses.mean()
            return *adam_step(theta, gradients, v, j, self.alpha), losses.mean()

    def minibatches(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts of the tasks' examples for ever, in an order that is new each time they are through."""
        n, size = x.shape[1], min(self.config.inner_batch, x.shape[1])
        while True:
            order = self.order.permutation(n)
            for first in range(0, n - size + 1, size):
                part = Tensor(order[first : first + size])
                yield x.index_select(1, part), y.index_select(1, part)

    def path(self, x: Tensor, y: Tensor) -> Iterator[Theta]:
        """φ and then φ̃ after 1, 2, … steps on t supports, each on the whole of them."""
        theta, v, j = [p.detach() for p in self.learner.start(len(x))], self.squares, self.stepped
        while True:
            yield theta
            j += 1
            theta, v, _ = self.inner_step(theta, v, j, x, y)
