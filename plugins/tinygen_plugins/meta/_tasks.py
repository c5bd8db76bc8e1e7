"""Many small tasks at a time, for algorithms that learn to learn: sinusoids to be fitted, and characters to be told.

The tasks of an update stand along the first axis, t, of every tensor. Each has a support, from which it is to be
learnt, and a query, other examples of the same task, on which what was learnt is measured. `MetaLearner` is what is
measured, drawn and adapted of any algorithm that says how its parameters move on a new task.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from itertools import count, islice
from typing import Any, NamedTuple

import tinygen
import tinygen.functional as F
from tinygen import metrics, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.data import Batches, Dataset, DataSpec, Episode, Episodes, Support, episodes_from
from tinygen.errors import UsageError
from tinygen.host import Adapter, Curves, Evaluable, Illustrator, Trainable, equation
from tinygen.random import Stream
from tinygen_plugins.meta._learners import Classifier, Learner, Regressor, Theta, predict, squared_error

AMPLITUDES, PHASES, INPUTS = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)
TEST_QUERIES = {"characters": 15, "sinusoid": 100}  # of each class, or points
CURVE_STEPS = 10  # of adaptation in figures and pictures
AT_A_TIME = 4  # test episodes: an image that is told alone makes a task of its own, and a query has many
CURVE_EPISODES = 40  # behind a picture
JOINT_RATES = (0.001, 0.003, 0.01, 0.02)  # of the jointly trained network, which is given the best of them


class Tasks(NamedTuple):
    """t tasks. Sinusoids: x (t, n, 1), y (t, n, 1). Characters: x (t, n, c, h, w) in [0, 1], y (t, n) int64."""

    x: Tensor  # the support
    y: Tensor
    query_x: Tensor
    query_y: Tensor


@equation(
    r"y = A \sin(x - \varphi), \quad A \sim U[0.1, 5],\; \varphi \sim U[0, \pi],\; x \sim U[-5, 5]",
    source="Finn et al. 2017, section 5.1",
)
def sinusoid(x: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
    """The curves of t tasks at x (t, n, 1); amplitude and phase (t, 1, 1)."""
    return amplitude * F.sin(x - phase)


def sinusoids(t: int, shot: int, queries: int, random: Stream) -> Tasks:
    """t curves, each seen at so many points as support and as query."""
    amplitude, phase = (Tensor(random.uniform((t, 1, 1), *law)) for law in (AMPLITUDES, PHASES))
    x = Tensor(random.uniform((t, shot + queries, 1), *INPUTS))
    y = sinusoid(x, amplitude, phase)
    return Tasks(x[:, :shot], y[:, :shot], x[:, shot:], y[:, shot:])


def characters(episodes: Iterator[Episode], t: int) -> Tasks:
    """The next t episodes side by side."""
    support, y, query, query_y, _ = zip(*islice(episodes, t))
    return Tasks(*(tinygen.stack(part) for part in (support, y, query, query_y)))


@equation(
    r"x'(p) = x(A p + b), \quad A \in \operatorname{diag}(s, 1) + [-d, d]^{2 \times 2},\; b \in [-d, d]^2",
    source="affine distortions as in Simard, Steinkraus and Platt 2003; p runs from −1 to 1 over the image, and s = ±1 "
    "is one for a task: characters that are mirrored are other characters",
)
def distort(images: Tensor, maps: Tensor) -> Tensor:
    """Images (n, c, h, w), each moved by its own (A | b), maps (n, 2, 3); black comes in from outside."""
    return F.grid_sample(images, F.affine_grid(maps, images.shape))


def distorted(tasks: Tasks, d: float, random: Stream) -> Tasks:
    """The tasks with each image moved at random, and half of the tasks mirrored."""
    mirror = Tensor(random.integers(0, 2, (len(tasks.x), 1, 1, 1))) * tensor([2.0, 0.0, 0.0])  # (t, 1, 1, 3)
    upright = tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def moved(x: Tensor) -> Tensor:
        maps = (1 - mirror) * (upright + Tensor(random.uniform((*x.shape[:2], 2, 3), -d, d)))  # (t, n, 2, 3)
        return distort(x.flatten(0, 1), maps.flatten(0, 1)).unflatten(0, x.shape[:2])

    return tasks._replace(x=moved(tasks.x), query_x=moved(tasks.query_x) if len(tasks.query_x[0]) else tasks.query_x)


# ---------------------------------------------------------------- what is done with an algorithm that adapts


class MetaLearner(Trainable, Evaluable, Adapter, Illustrator):
    """A start from which many tasks are learnt quickly. `path` and `fit` are the algorithm's; the rest stands here.

    config: among others tasks, way, distortion, hidden, filters, batch_size, test_steps, episodes, joint_steps.
    shot: examples of each class, or points, that a new task is learnt from.
    """

    def __init__(self, config: Any, data: DataSpec, shot: int, random: Stream) -> None:
        self.config, self.shot, self.shape = config, shot, data.shape
        self.learner: Learner
        if config.tasks == "sinusoid":
            self.learner = Regressor(config.hidden, random.child("learner"))
        else:
            self.learner = Classifier(data.shape, config.filters, config.way, random.child("learner"))
        self.drawn = random.child("drawn")

    @abstractmethod
    def path(self, x: Tensor, y: Tensor) -> Iterator[Theta]:
        """The parameters, (t, …) each and without a graph, after 0, 1, 2, … steps on the supports of t tasks."""

    def tasks(self, batches: Batches, shot: int, queries: int) -> Iterator[Tasks]:
        """Training tasks for ever, batch_size at a time. Raises DataError at once where the data cannot give them."""
        t = self.config.batch_size
        if self.config.tasks == "sinusoid":
            return (sinusoids(t, shot, queries, self.drawn) for _ in count())
        episodes = episodes_from(batches, self.config.way, shot, queries)
        drawn = (characters(episodes, t) for _ in count())
        d = self.config.distortion
        return (distorted(tasks, d, self.drawn) for tasks in drawn) if d else drawn

    def adapted(self, x: Tensor, y: Tensor, steps: int) -> Theta:
        """The parameters after so many steps on the supports."""
        return next(islice(self.path(x, y), steps, None))

    # ------------------------------------------------------------ figures

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Of new sinusoids the mean squared error after 0 to 10 steps, beside that of a network that was trained on all
        tasks at once; of new characters the accuracy in percent, with the half width of its 95 % interval."""
        if self.config.tasks == "sinusoid":
            return self.evaluate_sinusoids(random)
        return self.evaluate_characters(data, random)

    def evaluate_sinusoids(self, random: Stream) -> dict[str, float]:
        tasks = sinusoids(self.config.episodes, self.shot, TEST_QUERIES["sinusoid"], random.child("tasks"))
        errors = [e.mean().item() for e in self.errors(tasks)]
        joint = [e.mean().item() for e in joint_errors(self.config, tasks, random.child("joint"))]
        figures = {f"error_{k}": error for k, error in enumerate(errors)}
        figures |= {f"joint_error_{k}": joint[k] for k in (0, 1, CURVE_STEPS)}
        return {**figures, "times_better_1": joint[1] / errors[1], "tasks": self.config.episodes}

    def evaluate_characters(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Transductive: the images of a query are normalized together. Alone: each with the support only."""
        config = self.config
        right: dict[str, list[Tensor]] = {"transductive": [], "alone": []}
        for tasks in self.test_episodes(data, config.episodes, random):
            theta = self.adapted(tasks.x, tasks.y, config.test_steps)
            for name, each in right.items():
                each.append(accuracy(self.told(theta, tasks, name == "transductive"), tasks.query_y))
        figures: dict[str, float] = {}
        for name, parts in right.items():
            mean, half_width = metrics.mean_interval(tinygen.cat(parts).data)
            figures |= {f"accuracy_{name}": 100 * float(mean), f"accuracy_{name}_interval": 100 * float(half_width)}
        return {**figures, "episodes": config.episodes}

    def test_episodes(self, data: Dataset, number: int, random: Stream) -> Iterator[Tasks]:
        """So many tasks of characters of the test split, in parts."""
        self._check_shape(data.name, data.shape)
        episodes = Episodes(data.split("test"), self.config.way, self.shot, TEST_QUERIES["characters"], random)
        for first in range(0, number, AT_A_TIME):
            part = range(first, min(first + AT_A_TIME, number))
            yield characters((episodes[i] for i in part), len(part))

    def told(self, theta: Theta, tasks: Tasks, transductive: bool) -> Tensor:
        """Logits (t, q, way) of the queries."""
        with no_grad():
            return predict(self.learner, theta, tasks.x, tasks.query_x, transductive)

    def errors(self, tasks: Tasks) -> Iterator[Tensor]:
        """The error of each sinusoid, (t,), after 0, 1, … steps."""
        for theta in islice(self.path(tasks.x, tasks.y), CURVE_STEPS + 1):
            with no_grad():
                yield squared_error(self.learner(theta, tasks.query_x), tasks.query_y)

    # ------------------------------------------------------------ pictures

    def illustrate(self, data: Dataset, random: Stream) -> dict[str, Curves]:
        """What happens step by step: to the error and two fits of sinusoids, or to the accuracy on new characters."""
        steps = range(CURVE_STEPS + 1)
        if self.config.tasks == "sinusoid":
            tasks = sinusoids(self.config.episodes, self.shot, TEST_QUERIES["sinusoid"], random.child("tasks"))
            errors = [e.mean().item() for e in self.errors(tasks)]
            fits = {f"fit-{i}": self.fitted(random.child(f"fit {i}")) for i in (1, 2)}
            return fits | {"error-by-step": Curves(x=steps, lines={"error": errors}, x_label="steps", y_label="error")}
        shares = {"transductive": [0.0] * len(steps), "alone": [0.0] * len(steps)}
        parts = list(self.test_episodes(data, min(CURVE_EPISODES, self.config.episodes), random))
        for tasks in parts:
            for k, theta in enumerate(islice(self.path(tasks.x, tasks.y), len(steps))):
                for name, line in shares.items():
                    line[k] += accuracy(self.told(theta, tasks, name == "transductive"), tasks.query_y).mean().item()
        lines = {name: [share / len(parts) for share in line] for name, line in shares.items()}
        return {"accuracy-by-step": Curves(x=steps, lines=lines, x_label="steps", y_label="accuracy")}

    def fitted(self, random: Stream) -> Curves:
        """One new sinusoid, and what the network makes of it before the first step, after one and after ten."""
        amplitude, phase = (Tensor(random.uniform((1, 1, 1), *law)) for law in (AMPLITUDES, PHASES))
        x = Tensor(random.uniform((1, self.shot, 1), *INPUTS))
        points = tinygen.arange(*INPUTS, 0.1).reshape(1, -1, 1)
        lines = {"sinusoid": sinusoid(points, amplitude, phase)}
        for k, theta in enumerate(islice(self.path(x, sinusoid(x, amplitude, phase)), CURVE_STEPS + 1)):
            if k in (0, 1, CURVE_STEPS):
                with no_grad():
                    lines[f"after {k} step{'s' * (k != 1)}"] = self.learner(theta, points)
        flat = {name: line.flatten().numpy().tolist() for name, line in lines.items()}
        return Curves(x=points.flatten().numpy().tolist(), lines=flat, x_label="x", y_label="y")

    # ------------------------------------------------------------ a task that somebody brings

    def adapt(self, support: Support) -> Adapted:
        """The classifier after test_steps steps on the support."""
        if self.config.tasks == "sinusoid":
            raise UsageError("this run has learnt to fit sinusoids, not to tell images", "train on --tasks characters")
        if len(support.classes) != self.config.way:
            raise UsageError(
                f"this run tells {self.config.way} classes, the support has {len(support.classes)}",
                f"bring {self.config.way}, or train with --way {len(support.classes)}",
            )
        self._check_shape("the support", support.images.shape[1:])
        x, y = support.images.unsqueeze(0), support.labels.unsqueeze(0)
        return Adapted(self.learner, self.adapted(x, y, self.config.test_steps), x)

    def _check_shape(self, owner: str, shape: tuple[int, ...]) -> None:
        if tuple(shape) != tuple(self.shape):
            raise UsageError(f"{owner}: images are {tuple(shape)}, this run was trained on {tuple(self.shape)}")


class Adapted:
    """A classifier of a support's classes. It tells each image alone: the others that come with it do not matter."""

    def __init__(self, learner: Learner, theta: Theta, support: Tensor) -> None:
        self.learner, self.theta, self.support = learner, theta, support

    def probabilities(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to (n, classes)."""
        with no_grad():
            logits = predict(self.learner, self.theta, self.support, images.unsqueeze(0), transductive=False)
        return F.softmax(logits[0], -1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of right answers of each task, (t,): logits (t, q, way), labels (t, q)."""
    right = logits.argmax(-1).data == labels.data
    return Tensor(right.astype(logits.dtype)).mean(1)


def joint_errors(config: Any, tasks: Tasks, random: Stream) -> list[Tensor]:
    """The errors (t,) of a network trained on all tasks at once, after 0, 1, … steps of gradient descent on a new one,
    at the rate of JOINT_RATES that is best after the first. It has learnt their mean, a cosine."""
    learner = Regressor(config.hidden, random.child("learner"))
    optimizer, drawn = optim.Adam(learner.parameters(), 1e-3), random.child("tasks")
    for _ in range(config.joint_steps):
        x, y, _, _ = sinusoids(config.batch_size, 2 * tasks.x.shape[1], 0, drawn)
        loss = learner.losses(x, y)(learner.start(len(x))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    paths = [descent(learner, tasks, rate) for rate in JOINT_RATES]
    return min(paths, key=lambda path: path[1].mean().item())


def descent(learner: Learner, tasks: Tasks, rate: float) -> list[Tensor]:
    """The errors (t,) on the queries after 0, 1, … steps of gradient descent on the supports."""
    theta, errors = [p.detach().requires_grad_(True) for p in learner.start(len(tasks.x))], []
    for _ in range(CURVE_STEPS + 1):
        errors.append(squared_error(learner(theta, tasks.query_x), tasks.query_y).detach())
        gradients = tinygen.grad(learner.losses(tasks.x, tasks.y)(theta).sum(), theta)
        theta = [(p - rate * g).detach().requires_grad_(True) for p, g in zip(theta, gradients)]
    return errors
