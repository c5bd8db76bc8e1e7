"""Learning from pairs of images, each of one class or of two: siamese networks (Koch, Zemel and Salakhutdinov 2015) and
the contrastive loss (Hadsell, Chopra and LeCun 2006)."""

from __future__ import annotations

import tinygen.functional as F
from tinygen.autograd import Tensor
from tinygen.host import equation


def is_same(first: Tensor, second: Tensor) -> Tensor:
    """1 where the labels (q,) and (n,) are one, and 0 else: (q, n)."""
    return Tensor((first.data[:, None] == second.data).astype("float32"))


@equation(
    r"p = \sigma\Big(\sum_j \alpha_j\, |h_{1,j} - h_{2,j}| + b\Big)",
    source="Koch et al. 2015, section 3.1; returned is the logit, whose sigmoid p is",
)
def siamese_logits(features: Tensor, examples: Tensor, alpha: Tensor, b: Tensor) -> Tensor:
    """log p/(1 − p) of "one class" for h₁ (q, d) and h₂ (n, d): (q, n). alpha (d,), b (1,)."""
    return abs(features[:, None] - examples) @ alpha + b  # (q, n) = (q, n, d) @ (d,)


@equation(
    r"\mathcal{L} = \sum_{y \in \{0, 1\}} \tfrac12\, \mathbb{E}[-y \log p - (1 - y) \log(1 - p) \mid y]",
    source="Koch et al. 2015, section 3.2; half of the pairs count as the same class, as in its batches",
)
def siamese_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Logits and y, 1 for the same class and 0 else, (q, n) each: a number (0-d) in nats."""
    return halves(F.binary_cross_entropy_with_logits(logits, same, reduction="none"), same)


@equation(
    r"\mathcal{L} = \sum_{y \in \{0, 1\}} \tfrac12\, \mathbb{E}"
    r"\big[\tfrac12\, y\, d^2 + \tfrac12 (1 - y) \max(0, m - d)^2 \mid y\big]",
    source="Hadsell et al. 2006, where Y = 1 − y; half of the pairs count as the same class",
)
def contrastive_loss(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Distances d and y, 1 for the same class and 0 else, (q, n) each: a number (0-d)."""
    short = F.relu(margin - distances)
    return halves(0.5 * (same * distances * distances + (1 - same) * short * short), same)


def halves(losses: Tensor, same: Tensor) -> Tensor:
    """The mean of the losses of pairs (q, n), one half from those of one class and one from the others."""
    return 0.5 * ((losses * same).sum() / same.sum() + (losses * (1 - same)).sum() / (1 - same).sum())
