"""Attention with several heads, and the transformer's encoder layer."""

from __future__ import annotations

import math
from collections.abc import Callable

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.backend import current
from tinygen.functional.attention import attend, require_mask
from tinygen.nn.linear import Linear
from tinygen.nn.module import Module, Parameter
from tinygen.nn.normalization import Dropout, LayerNorm
from tinygen.random import Stream


class MultiheadAttention(Module):
    """num_heads attentions side by side, each on its own linear map of the features (Vaswani et al. 2017, section 3.2).

        head_i = softmax(q_i k_iᵀ / √(e/num_heads)) v_i,  (q, k, v) = (query, key, value) W_inᵀ + b_in
        y = [head_1, …] W_outᵀ + b_out

    in_proj_weight (3e, e), the maps of q, k and v one below the other, uniform in ±√(6/4e) (Glorot and Bengio 2010);
    in_proj_bias (3e) = 0; out_proj a Linear(e, e) with bias 0.
    dropout: the probability with which a weight is dropped in training. batch_first: (n, l, e) instead of (l, n, e).
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, batch_first: bool = False,
        random: Stream,
    ) -> None:  # fmt: skip
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: num_heads must divide embed_dim, got {num_heads} and {embed_dim}")
        if not 0 <= dropout < 1:
            raise ValueError(f"MultiheadAttention: dropout must be in [0, 1), got {dropout}")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        bound = math.sqrt(6 / (4 * embed_dim))
        self.in_proj_weight = Parameter(random.uniform((3 * embed_dim, embed_dim), -bound, bound))
        self.in_proj_bias = Parameter(current().xp.zeros(3 * embed_dim, "float32")) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, random=random.child("out_proj"))
        if self.out_proj.bias is not None:
            self.out_proj.bias.data[...] = 0
        self.random = random.child("dropout")

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """(y, weights): y of the query's shape; weights (n, l, s), the mean of the heads', or (n, heads, l, s) with
        average_attn_weights=False, or None with need_weights=False.

        query (l, n, e), key and value (s, n, e), batch first if so; without n, all results are without it.
        key_padding_mask (n, s), attn_mask (l, s) or (n · heads, l, s): truth values say where NOT to look (as in
        PyTorch, the other way round in functional.scaled_dot_product_attention); real numbers are added to the scores.
        is_causal says that attn_mask is the causal one and changes nothing. A query that may look at nothing has
        weights 0.
        """
        self._check(query, key, value, attn_mask, is_causal)
        alone = query.ndim == 2
        q, k, v = self._projected(*(F.unsqueeze(t, 0) if alone else self._swapped(t) for t in (query, key, value)))
        mask = self._mask(q, k, key_padding_mask, attn_mask)
        dropout = self.dropout if self.training else 0.0
        heads, weights = attend(q, k, v, mask, dropout, None, self.random)
        joined = F.flatten(F.permute(heads, 0, 2, 1, 3), 2)  # (n, h, l, d) → (n, l, e)
        y = self.out_proj(joined)
        y = F.squeeze(y, 0) if alone else self._swapped(y)
        if not need_weights:
            return y, None
        weights = weights.mean(1) if average_attn_weights else weights
        return y, F.squeeze(weights, 0) if alone else weights

    def _swapped(self, t: Tensor) -> Tensor:
        """(l, n, e) as (n, l, e) and back."""
        return t if self.batch_first else F.transpose(t, 0, 1)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """q, k and v (n, h, l, d) of tensors (n, l, e): one product where all three are one tensor."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key is value:
            parts = F.split(F.linear(query, weight, bias), self.embed_dim, 2)
        else:
            weights = F.split(weight, self.embed_dim)
            biases = (None,) * 3 if bias is None else F.split(bias, self.embed_dim)
            parts = tuple(F.linear(t, w, b) for t, w, b in zip((query, key, value), weights, biases))
        return [F.permute(F.unflatten(p, 2, (self.num_heads, -1)), 0, 2, 1, 3) for p in parts]

    def _mask(self, q: Tensor, k: Tensor, padding: Tensor | None, attention: Tensor | None) -> Tensor | None:
        """Both masks as one that broadcasts to the scores (n, h, l, s): true where one may look, or what is added."""
        name = "MultiheadAttention"
        n, h, l, s = *q.shape[:3], k.shape[2]  # noqa: E741 - the formula's letter
        masks = []
        if padding is not None:
            require_mask(name, "key_padding_mask", padding)
            given = (1, *padding.shape) if padding.ndim == 1 else padding.shape
            if given != (n, s):
                raise ValueError(f"{name}: key_padding_mask must be ({n}, {s}), got {padding.shape}")
            masks.append(F.reshape(padding, n, 1, 1, s))
        if attention is not None:
            require_mask(name, "attn_mask", attention)
            if attention.shape not in ((l, s), (n * h, l, s)):
                raise ValueError(f"{name}: attn_mask must be ({l}, {s}) or ({n * h}, {l}, {s}), got {attention.shape}")
            masks.append(attention if attention.ndim == 2 else F.reshape(attention, n, h, l, s))
        if all(mask.dtype.kind == "b" for mask in masks):
            masks = [~mask for mask in masks]
            return masks[0] & masks[1] if len(masks) == 2 else masks[0] if masks else None
        added = [F.where(m, -math.inf, 0.0) if m.dtype.kind == "b" else m for m in masks]
        return added[0] + added[1] if len(added) == 2 else added[0]

    def _check(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool) -> None:
        name, e = "MultiheadAttention", self.embed_dim
        batch = 0 if self.batch_first else 1
        given = (query, key, value)
        fits = (
            query.ndim in (2, 3)
            and all(t.ndim == query.ndim and t.shape[-1] == e for t in given)
            and key.shape == value.shape
            and (query.ndim == 2 or query.shape[batch] == key.shape[batch])
        )
        if not fits:
            order = "(n, l, {0}) and (n, s, {0})" if self.batch_first else "(l, n, {0}) and (s, n, {0})"
            raise ValueError(
                f"{name}: expected query and key, value of {order.format(e)}, or all without n, "
                f"got {query.shape}, {key.shape} and {value.shape}"
            )
        if is_causal and attn_mask is None:
            raise ValueError(f"{name}: is_causal=True says what attn_mask is, got none; pass the mask")

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then a network of two linear layers on each element, both with a way around them.

        x ← norm1(x + attention(x)),  x ← norm2(x + linear2(activation(linear1(x))))      (Vaswani et al. 2017)
        x ← x + attention(norm1(x)),  x ← x + linear2(activation(linear1(norm2(x))))      norm_first (Xiong et al. 2020)

    activation: "relu", "gelu" or a function of a tensor. dropout: the probability in the attention's weights, after the
    activation and after both branches. batch_first: (n, l, d_model) instead of (l, n, d_model).
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, *, random: Stream,
    ) -> None:  # fmt: skip
        super().__init__()
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(
                f'TransformerEncoderLayer: activation must be "relu", "gelu" or a function, got {activation!r}'
            )
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, random=random.child("self_attn")
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, random=random.child("linear1"))
        self.dropout = Dropout(dropout, random=random.child("dropout"))
        self.linear2 = Linear(dim_feedforward, d_model, bias, random=random.child("linear2"))
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout, random=random.child("dropout1"))
        self.dropout2 = Dropout(dropout, random=random.child("dropout2"))
        self.activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """src (l, n, d_model), batch first if so, to the same shape. The masks are those of MultiheadAttention."""

        def attention(x: Tensor) -> Tensor:
            y, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(y)

        def network(x: Tensor) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        x = src
        if self.norm_first:
            x = x + attention(self.norm1(x))
            return x + network(self.norm2(x))
        x = self.norm1(x + attention(x))
        return self.norm2(x + network(x))
