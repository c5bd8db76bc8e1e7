r"""Networks as functions of their parameters, `learner(theta, x)`, for t tasks at a time.

A learner that adapts has as many versions of its parameters as there are tasks. Here they are the argument: theta lists
tensors of the parameters' shapes with the tasks as a first axis, (t, …), and x has that axis too, so that one product
serves all tasks. A sum of the tasks' losses has in version i the gradient of L_i alone, as no other loss depends on it.

The module's own parameters are the starting point θ; `start(t)` repeats them. Read the two networks, then their losses.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import tinygen
import tinygen.functional as F
from tinygen import nn
from tinygen.autograd import Tensor
from tinygen.host import equation
from tinygen.random import Stream

Theta = list[Tensor]  # (t, …) for each parameter
Losses = Callable[[Theta], Tensor]  # of parameters (t, …) to the loss of each task, (t,)


@equation(
    r"\mathcal{L}_i(f) = \frac1n \sum_j \|f(x_j) - y_j\|^2",
    source="Finn et al. 2017, eq. 2, as a mean over the examples",
)
def squared_error(y: Tensor, target: Tensor) -> Tensor:
    """The loss of each task, (t,), from (t, n, 1) and (t, n, 1)."""
    error = y - target
    return (error * error).mean((1, 2))


@equation(
    r"\mathcal{L}_i(f) = -\frac1n \sum_j \log \operatorname{softmax}(f(x_j))_{y_j}",
    source="Finn et al. 2017, eq. 3, for more than two classes, as a mean over the examples",
)
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each task, (t,), in nats, from (t, n, classes) and (t, n) whole numbers."""
    each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")  # (t·n,)
    return each.unflatten(0, labels.shape).mean(1)


class Learner(nn.Module):
    """What the two networks share."""

    loss: Callable[[Tensor, Tensor], Tensor]  # of predictions and targets to the loss of each task

    def start(self, t: int) -> Theta:
        """θ for each of t tasks, (t, …), without a copy; what reaches a version's gradient reaches θ's as a sum."""
        return [p.expand(t, *p.shape) for p in self.parameters()]

    def losses(self, x: Tensor, y: Tensor) -> Losses:
        """The tasks' losses on these examples as a function of the parameters."""
        return lambda theta: self.loss(self(theta, x), y)


class Regressor(Learner):
    """Numbers (t, n, 1) to numbers (t, n, 1), by two hidden layers of rectifiers; 1-40-40-1 in the paper."""

    loss = staticmethod(squared_error)

    def __init__(self, hidden: int, random: Stream) -> None:
        super().__init__()
        for i, (a, b) in enumerate(pairwise([1, hidden, hidden, 1]), start=1):
            setattr(self, f"weight_{i}", nn.Parameter(nn.init.kaiming_uniform((a, b), a, random.child(f"weight {i}"))))
            setattr(self, f"bias_{i}", nn.Parameter(nn.init.kaiming_uniform((1, b), a, random.child(f"bias {i}"))))

    def forward(self, theta: Theta, x: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3 = theta
        x = F.relu(F.matmul(x, w1) + b1)  # (t, n, 40) = (t, n, 1) @ (t, 1, 40) + (t, 1, 40)
        x = F.relu(F.matmul(x, w2) + b2)
        return F.matmul(x, w3) + b3  # (t, n, 1)


class Classifier(Learner):
    """Images (t, n, c, h, w) to logits (t, n, way): four convolutions of stride 2 with batch normalization.

    Normalized by the images that are passed in together, in training as afterwards: there are no running statistics.
    Predictions for a whole query at once are therefore transductive: they see the other images of the query.
    """

    loss = staticmethod(cross_entropy)

    def __init__(self, shape: tuple[int, int, int], filters: int, way: int, random: Stream) -> None:
        super().__init__()
        channels, *sides = shape
        for i in range(1, 5):
            kernel = nn.init.kaiming_uniform((filters, channels, 3, 3), 9 * channels, random.child(f"kernel {i}"))
            setattr(self, f"kernel_{i}", nn.Parameter(nn.init.channels_last(kernel)))
            setattr(self, f"gamma_{i}", nn.Parameter(tinygen.ones(filters)))
            setattr(self, f"beta_{i}", nn.Parameter(tinygen.zeros(filters)))
            channels, sides = filters, [(side + 1) // 2 for side in sides]
        features = filters * sides[0] * sides[1]
        self.weight = nn.Parameter(nn.init.kaiming_uniform((features, way), features, random.child("weight")))
        self.bias = nn.Parameter(tinygen.zeros(1, way))

    def forward(self, theta: Theta, x: Tensor) -> Tensor:
        *layers, weight, bias = theta
        t, n = x.shape[:2]
        x = x.transpose(0, 1).flatten(1, 2)  # (n, t·c, h, w): a group of channels for each task
        for kernel, gamma, beta in zip(layers[0::3], layers[1::3], layers[2::3]):
            x = F.conv2d(x, kernel.flatten(0, 1), stride=2, padding=1, groups=t)  # (n, t·filters, h/2, w/2)
            x = F.relu(F.batch_norm(x, None, None, gamma.flatten(), beta.flatten(), training=True))
        x = x.reshape(n, t, -1).transpose(0, 1)  # (t, n, features)
        return F.matmul(x, weight) + bias  # (t, n, way)


def predict(learner: Learner, theta: Theta, support: Tensor, query: Tensor, transductive: bool) -> Tensor:
    """Logits (t, q, way) of query images (t, q, c, h, w), normalized all together (transductive), or each with the
    support (t, n, c, h, w) of its task alone, so that no prediction depends on another image of the query."""
    if transductive:
        return learner(theta, query)
    (t, q), n = query.shape[:2], support.shape[1]
    alone = [p.unsqueeze(1).expand(t, q, *p.shape[1:]).flatten(0, 1) for p in theta]  # (t·q, …)
    beside = support.unsqueeze(1).expand(t, q, *support.shape[1:])  # (t, q, n, c, h, w)
    x = tinygen.cat([beside, query.unsqueeze(2)], 2).flatten(0, 1)  # (t·q, n + 1, c, h, w)
    return learner(alone, x)[:, n].unflatten(0, (t, q))
