r"""Model-agnostic meta-learning (Finn, Abbeel and Levine 2017): a start from which a new task takes a step or a few.

Tasks T_i, such as telling five characters apart that were never seen, come with a few examples, the support. A network
with parameters θ learns one by gradient descent on it, here one step,

    θ'_i = θ − α ∇L_i(θ),

and is as good as its loss on other examples of the task, the query. MAML makes that small over θ: not the loss at θ,
which for tasks that contradict each other says nothing, but the loss after the step. Its gradient is

    ∇ L_i(θ'_i) = (I − α ∇²L_i(θ)) ∇L_i(θ'),   the second derivative by differentiating through the step.

First-order MAML takes the bracket as I. For α = 0 what remains is joint training, one network for all tasks.

The network is a function of its parameters (`_learners.py`), so that θ' is another argument, and nothing is copied and
written back. The tasks of an update go along the first axis of every tensor. Batch normalization is by the images that
are passed in together, in the paper's experiments as here; results on a whole query are therefore transductive, and
`evaluate` gives them beside those where each image is told alone. Read the equations, then `updates`: Algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import tinygen
from tinygen import optim
from tinygen.autograd import Tensor, enable_grad
from tinygen.data import Batches, DataSpec
from tinygen.host import Step, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.meta._learners import Losses, Theta
from tinygen_plugins.meta._tasks import MetaLearner, Tasks

Rates = Sequence[float | Tensor]  # α for each parameter


@dataclass(frozen=True)
class Config:
    """Options of the tasks, of the two levels of learning, and of the networks."""

    steps: int = 8000
    """updates of the start θ; sinusoids take a thirtieth of the time, and 10,000 of batches of 8 are enough"""
    tasks: Literal["characters", "sinusoid"] = "characters"
    """what is learnt: to tell characters of the data apart, or to fit curves that are drawn without data"""
    batch_size: int = 4
    """tasks in an update"""
    way: int = 5
    """classes of a task"""
    shot: int | None = None
    """examples to learn a task from: images of each class (1 where not told), or points of a curve (10)"""
    queries: int | None = None
    """other examples that the update is made for: images of each class (5 where not told), or points (10)"""
    distortion: float = 0.15
    """how far training images are moved, turned, scaled and sheared, as a part of half their side; 0 for not at all"""
    inner_steps: int = 1
    """gradient steps on a task in training"""
    test_steps: int = 3
    """gradient steps on a new task; further ones than in training are at alpha"""
    alpha: float | None = None
    """rate of these steps: 0.4 for characters and 0.01 for sinusoids where not told"""
    learned_rates: bool = True
    """learn the rate of each step for each parameter tensor, from alpha on (Meta-SGD, MAML++)"""
    order: Literal["second", "first"] = "second"
    """differentiate through the steps, or take θ' as θ plus a constant (first-order MAML)"""
    lr: float = 2e-3
    """learning rate of Adam for θ at the start; it falls over the steps"""
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
            ("steps", 1, 10**9), ("batch_size", 1, 10**4), ("way", 2, 1000), ("inner_steps", 1, 100),
            ("test_steps", 0, 1000), ("lr", 1e-8, 1.0), ("filters", 1, 4096), ("hidden", 1, 10**5),
            ("episodes", 2, 10**6), ("joint_steps", 1, 10**9), ("distortion", 0.0, 1.0),
        ):  # fmt: skip
            check_range("maml", name, getattr(self, name), low, high)
        for name, low, high in (("shot", 1, 10**4), ("queries", 1, 10**4), ("alpha", 0.0, 100.0)):
            if getattr(self, name) is not None:
                check_range("maml", name, getattr(self, name), low, high)
        check_choice("maml", "tasks", self.tasks, ["characters", "sinusoid"])
        check_choice("maml", "order", self.order, ["second", "first"])


SHOT, QUERIES, ALPHA = (  # where not told
    {"characters": 1, "sinusoid": 10}, {"characters": 5, "sinusoid": 10}, {"characters": 0.4, "sinusoid": 0.01},
)  # fmt: skip


# ---------------------------------------------------------------- equations


@equation(r"\theta'_i = \theta - \alpha \nabla_\theta \mathcal{L}_i(\theta)", source="Finn et al. 2017, section 2.2")
def inner_step(theta: Theta, losses: Losses, alpha: Rates, second_order: bool = True) -> Theta:
    """One step on each of t tasks: parameters (t, …), their losses (t,) as a function of them, and a rate for each.

    second_order: θ' stays a function of θ through the gradient, too; else the gradient is a constant.
    """
    gradients = tinygen.grad(losses(theta).sum(), theta, create_graph=second_order)
    return [p - rate * g for p, rate, g in zip(theta, alpha, gradients)]


@equation(
    r"\min_\theta \frac1t \sum_i \mathcal{L}_i(\theta'_i), \quad \theta \leftarrow \theta - \beta \nabla_\theta"
    r" \frac1t \sum_i \mathcal{L}_i(\theta'_i)",
    source="Finn et al. 2017, eq. 1, as a mean over the tasks; the loss after the steps is that of the query",
)
def meta_loss(
    theta: Theta, support: Losses, query: Losses, alpha: Sequence[Rates], second_order: bool = True
) -> Tensor:
    """What is made small: the mean loss on the queries after a step on the supports for each row of alpha."""
    for rates in alpha:
        theta = inner_step(theta, support, rates, second_order)
    return query(theta).mean()


@equation(
    r"\beta_k = \frac{\beta_0}{100} + \frac{99\,\beta_0}{200} \left(1 + \cos \frac{\pi \min(k, K)}{K}\right)",
    source="Loshchilov and Hutter 2017, eq. 5, as in Antoniou et al. 2019, section 4",
)
def annealing(k: int, steps: int) -> float:
    """β_k/β₀, the part of the learning rate that is left after k of K updates."""
    return 0.01 + 0.495 * (1 + math.cos(math.pi * min(k, steps) / steps))


# ---------------------------------------------------------------- the algorithm


class MAML(MetaLearner):
    """θ, and the rates of the steps that start from it."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        super().__init__(config, data, config.shot or SHOT[config.tasks], random)
        self.queries = config.queries or QUERIES[config.tasks]
        self.alpha = ALPHA[config.tasks] if config.alpha is None else config.alpha
        moved = list(self.learner.parameters())
        shape = config.inner_steps, len(moved)
        self.rates = tinygen.full(shape, self.alpha, requires_grad=config.learned_rates)
        self.optimizer = optim.Adam([*moved, self.rates] if config.learned_rates else moved, config.lr)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: annealing(k, config.steps))

    def fit(self, batches: Batches) -> Iterator[Step]:
        return self.updates(self.tasks(batches, self.shot, self.queries))

    def updates(self, drawn: Iterator[Tasks]) -> Iterator[Step]:
        """Algorithm 2: draw tasks, adapt to their supports, and move θ for the loss on their queries."""
        second_order = self.config.order == "second"
        for x, y, query_x, query_y in drawn:
            support, query = self.learner.losses(x, y), self.learner.losses(query_x, query_y)
            theta = self.learner.start(len(x))
            loss = meta_loss(theta, support, query, self.alphas(self.config.inner_steps), second_order)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            yield Step({"loss": loss})

    def alphas(self, steps: int) -> list[Rates]:
        """The rates of so many steps, for each parameter: learned ones for the steps of training, else alpha."""
        learned = range(min(steps, self.config.inner_steps) if self.config.learned_rates else 0)
        rates: list[Rates] = [list(self.rates[k]) for k in learned]
        return rates + [[self.alpha] * self.rates.shape[1]] * (steps - len(rates))

    def path(self, x: Tensor, y: Tensor) -> Iterator[Theta]:
        """θ and then θ' after 1, 2, … steps on t supports."""
        losses, theta, k = self.learner.losses(x, y), self.learner.start(len(x)), 0
        while True:
            theta = [p.detach().requires_grad_(True) for p in theta]
            yield theta
            k += 1
            with enable_grad():
                theta = inner_step(theta, losses, self.alphas(k)[-1], second_order=False)
