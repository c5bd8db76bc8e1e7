"""Tables of vectors that are learnt."""

from __future__ import annotations

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.functional.embedding import padding_row
from tinygen.nn.module import Module, Parameter
from tinygen.random import Stream


class Embedding(Module):
    """Whole numbers (…) in 0 … num_embeddings − 1 to vectors (…, embedding_dim): see functional.embedding.

    weight (num_embeddings, embedding_dim) starts as N(0, 1). The row padding_idx starts as 0 and gets no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, random: Stream
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"Embedding: sizes must be at least 1, got {num_embeddings} and {embedding_dim}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_row("Embedding", padding_idx, num_embeddings)
        weight = random.normal((num_embeddings, embedding_dim))
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        self.weight = Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
