"""A layer's weight as a function of other parameters, computed anew whenever the layer uses it.

`weight_norm(Linear(…))` gives back the same layer, whose class is now a subclass with a property `weight`; in its state
stand the parameters that it is computed from, under the names that PyTorch gives to them (torch.nn.utils).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tinygen import functional as F
from tinygen.autograd import Tensor
from tinygen.backend import Array, of
from tinygen.nn.convolution import ConvTranspose2d
from tinygen.nn.module import Buffer, Module, Parameter
from tinygen.random import Stream

M = TypeVar("M", bound=Module)


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None, *,
    random: Stream,
) -> M:  # fmt: skip
    """Divide a weight by its largest singular value: W = W_orig / σ, σ = uᵀ W_orig v (Miyato et al. 2018).

    W is the matrix (size of `dim`, everything else); dim None means the output's, which is 1 for a transposed
    convolution and else 0. Each forward pass in training brings u and v closer to the singular vectors,

        v ← Wᵀu / max(‖Wᵀu‖, eps),   u ← Wv / max(‖Wv‖, eps),   n_power_iterations times,

    and they are constants of the derivative, as in the paper: gW_orig = (gW − ⟨gW, W⟩ u vᵀ) / σ.
    The parameter `name` becomes name_orig; name_u and name_v are buffers, drawn from `random`.
    Singular point: σ = 0, where all of W_orig is 0 or u or v are orthogonal to it, gives what division by 0 gives.
    """
    weight = _parameter("spectral_norm", module, name)
    if n_power_iterations < 1:
        raise ValueError(f"spectral_norm: n_power_iterations must be at least 1, got {n_power_iterations}")
    at = (1 if isinstance(module, ConvTranspose2d) else 0) if dim is None else dim
    at = _checked_dim("spectral_norm", weight, at)
    delattr(module, name)
    setattr(module, f"{name}_orig", weight)
    rows = weight.shape[at]
    for letter, size in (("u", rows), ("v", weight.numel() // max(rows, 1))):
        drawn = _unit(random.normal(size).astype(weight.dtype), eps)
        setattr(module, f"{name}_{letter}", Buffer(drawn))

    def value(self: Any) -> Tensor:
        orig, u, v = (getattr(self, f"{name}_{end}") for end in ("orig", "u", "v"))
        return orig / (u.detach() * (_matrix(orig, at) @ v.detach())).sum()

    def iterate(self: Any) -> None:
        if not self.training:
            return
        u, v = getattr(self, f"{name}_u"), getattr(self, f"{name}_v")
        w = _matrix(getattr(self, f"{name}_orig").detach(), at).data
        for _ in range(n_power_iterations):  # new memory each time: a graph may have saved the old
            v.data = _unit(w.T @ u.data, eps)
            u.data = _unit(w @ v.data, eps)

    return _with_property(module, name, value, iterate)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """A weight by length and direction: w = g · v / ‖v‖, with a norm for each index of `dim`, or one of all if
    None (or −1, as in PyTorch).

    The parameter `name` becomes name_g, of size 1 beside `dim`, and name_v; w starts as it was.
    gg = ⟨gw, v⟩ / ‖v‖,  gv = g/‖v‖ · (gw − (gg/‖v‖) v).  Singular point: v = 0 gives NaN, as 0/0 does.
    Source: Salimans and Kingma 2016, eq. 2 and 3.
    """
    weight = _parameter("weight_norm", module, name)
    kept = None if dim is None or dim == -1 else _checked_dim("weight_norm", weight, dim)
    over = tuple(i for i in range(weight.ndim) if i != kept)

    def length(v: Tensor) -> Tensor:
        return F.norm(v, 2, over, keepdim=kept is not None)

    delattr(module, name)
    setattr(module, f"{name}_g", Parameter(length(weight.detach())))
    setattr(module, f"{name}_v", weight)

    def value(self: Any) -> Tensor:
        g, v = getattr(self, f"{name}_g"), getattr(self, f"{name}_v")
        return v * (g / length(v))

    return _with_property(module, name, value, lambda self: None)


def _parameter(function: str, module: Module, name: str) -> Parameter:
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        already = isinstance(getattr(type(module), name, None), property)
        raise ValueError(
            f"{function}: {type(module).__name__} has no parameter {name!r}"
            + ("; it is computed from others already" if already else "")
        )
    if weight.ndim < 2 and function == "spectral_norm":
        raise ValueError(f"{function}: {name} must have at least 2 dimensions, got {weight.shape}")
    return weight


def _checked_dim(function: str, weight: Tensor, dim: int) -> int:
    if not -weight.ndim <= dim < weight.ndim:
        raise ValueError(f"{function}: dim must name a dimension of the weight {weight.shape}, got {dim}")
    return dim % weight.ndim


def _matrix(weight: Tensor, dim: int) -> Tensor:
    """(size of `dim`, everything else)."""
    order = (dim, *(i for i in range(weight.ndim) if i != dim))
    return weight.permute(order).reshape(weight.shape[dim], -1)


def _unit(x: Array, eps: float) -> Array:
    xp = of(x).xp
    return x / xp.maximum(xp.sqrt((x * x).sum()), eps)


def _with_property(
    module: M, name: str, value: Callable[[Any], Tensor], before: Callable[[Any], None]
) -> M:  # fmt: skip
    """The module with `value` of it as its attribute, and `before` of it called in front of each forward pass."""
    base = type(module)

    def forward(self: Any, *inputs: Any, **options: Any) -> Any:
        before(self)
        return base.forward(self, *inputs, **options)

    entries = {name: property(value), "forward": forward, "__doc__": base.__doc__, "__module__": base.__module__}
    module.__class__ = type(base.__name__, (base,), entries)  # under the same name: it is the same kind of layer
    return module
