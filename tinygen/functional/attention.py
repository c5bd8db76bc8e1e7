"""Attention: each query takes a mean of the values, weighted by how well it agrees with their keys.

Shapes: n batch, l queries, s keys and values, e their features; heads are one more dimension in front.
"""

from __future__ import annotations

import math

from tinygen.autograd.tensor import Tensor
from tinygen.backend import Array, of
from tinygen.functional.elementwise import where
from tinygen.functional.linear import matmul
from tinygen.functional.normalization import dropout
from tinygen.functional.reduction import Softmax
from tinygen.functional.shape import transpose
from tinygen.random import Stream


class Weights(Softmax):
    """Softmax along `dim`, and 0 where all is −∞: who may look at nothing takes nothing.

    The gradient y (gy − Σ gy y) is that of Softmax, and 0 there.
    """

    def forward(self, x: Array) -> Array:
        xp = of(x).xp
        top = x.max(axis=self.dim, keepdims=True)
        e = x - xp.where(top == -math.inf, 0.0, top).astype(x.dtype, copy=False)
        e = xp.exp(e, out=e)
        whole = e.sum(axis=self.dim, keepdims=True)
        e /= whole + (whole == 0)
        return e


def causal(like: Tensor, queries: int, keys: int) -> Tensor:
    """(l, s), true where query i may look at key j: j ≤ i."""
    xp = like.backend.xp
    return Tensor(xp.arange(queries).reshape(-1, 1) >= xp.arange(keys))


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, scale: float | None,
    random: Stream | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What `scaled_dot_product_attention` gives, and the weights (…, l, s) that it took."""
    if scale is None:
        scale = 1 / math.sqrt(max(query.shape[-1], 1))
    scores = matmul(query * scale, transpose(key, -1, -2))  # (…, l, s) = (…, l, e) @ (…, e, s)
    if mask is not None:
        scores = where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    weights = Weights(scores.ndim - 1)(scores)
    if dropout_p:
        weights = dropout(weights, dropout_p, True, random)
    return matmul(weights, value), weights  # (…, l, ev) = (…, l, s) @ (…, s, ev)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    *,
    random: Stream | None = None,
) -> Tensor:
    """y = w v with the weights w = softmax(q kᵀ · scale + mask) along the keys (Vaswani et al. 2017, eq. 1).

    gv = wᵀ gy;  with gw = gy vᵀ and gz = w (gw − Σ gw w):  gq = scale · gz k, gk = scale · gzᵀ q.

    query (…, l, e), key (…, s, e), value (…, s, ev), y (…, l, ev); what stands before broadcasts. scale: 1/√e if None.
    attn_mask: broadcasts to (…, l, s); truth values say where a query may look, real numbers are added to the scores.
    is_causal: query i looks at keys 0 … i only. dropout_p: weights are dropped with this probability, drawn from
    `random`; whoever evaluates passes 0.
    Singular points: a query that may look at nothing gets y = 0 and sends no gradient, as PyTorch's has it since 2.5;
    NaN, which softmax would give there, would spread through the whole batch from one padded row.
    """
    name = "scaled_dot_product_attention"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError(
            f"{name}: expected query (…, l, e), key (…, s, e) and value (…, s, ev), "
            f"got {query.shape}, {key.shape} and {value.shape}"
        )
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"{name}: query and key must have equal features, got {query.shape} and {key.shape}")
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"{name}: there must be a value for each key, got {key.shape} and {value.shape}")
    if not 0 <= dropout_p < 1:
        raise ValueError(f"{name}: dropout_p must be in [0, 1), got {dropout_p}")
    if dropout_p and random is None:
        raise ValueError(f"{name}: dropout_p {dropout_p} needs a random stream; pass random=")
    queries, keys = query.shape[-2], key.shape[-2]
    if is_causal:
        if attn_mask is not None:
            raise ValueError(f"{name}: attn_mask must be None with is_causal=True; put both into one mask")
        attn_mask = causal(query, queries, keys)
    if attn_mask is not None:
        require_mask(name, "attn_mask", attn_mask)
        fits = attn_mask.ndim >= 2 and all(a in (1, b) for a, b in zip(attn_mask.shape[-2:], (queries, keys)))
        if not fits:
            raise ValueError(f"{name}: attn_mask must broadcast to (…, {queries}, {keys}), got {attn_mask.shape}")
    return attend(query, key, value, attn_mask, dropout_p, scale, random)[0]


def require_mask(name: str, argument: str, mask: Tensor) -> None:
    """TypeError unless the mask holds truth values or real numbers."""
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name}: {argument} must hold truth values or real numbers, got {mask.dtype}")
