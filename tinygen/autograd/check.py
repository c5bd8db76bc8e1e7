r"""gradcheck: derivatives of any order against finite differences.

For f and cotangents u let L(x) = Σ ⟨f(x), u⟩. The tape's gradient g of L must satisfy, along any direction v,
    ⟨g, v⟩ = (L(x + hv) − L(x − hv)) / 2h + O(h²),
which is also the adjoint identity ⟨Jᵀu, v⟩ = ⟨u, Jv⟩. Order 2 is the same check on the function (x, u) ↦ g, and so on.
Where the slopes to the right and to the left, or with two step sizes, disagree, the point is at a kink or a jump, and
another one near by is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygen.autograd.engine import grad
from tinygen.autograd.tensor import Tensor
from tinygen.backend import of

RESAMPLES = 8


class GradientError(AssertionError):
    """A derivative that is not the derivative: names operation, order, input, index, expected and received."""


def gradcheck(
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    *,
    order: int = 1,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
    name: str | None = None,
) -> float:
    """Check the derivatives of `function` up to `order` at float64 `inputs`; returns the largest error found.

    function: takes the inputs, returns a tensor, or a tuple or list of them; only floating-point ones are looked at.
    Inputs that do not require a gradient are held fixed.
    rtol, atol: |⟨g, v⟩ − slope along v| ≤ atol + rtol · scale, with scale = ‖g‖ + |slope|, and both finite. What is
    returned is the largest such difference divided by max(scale, 1).
    Raises GradientError; TypeError for inputs that are not float64, and where there is nothing to check: no input that
    requires a gradient, or no output that has one.
    """
    for position, x in enumerate(inputs):
        if x.requires_grad and x.dtype != np.float64:
            raise TypeError(f"gradcheck: input {position} is {x.dtype}; finite differences need float64")
    label = str(name or getattr(function, "__name__", "function"))
    if not any(x.requires_grad for x in inputs):
        raise TypeError(f"gradcheck: no input of {label} requires a gradient; there is nothing to check")
    if not _outputs(function(*inputs)):
        raise TypeError(f"gradcheck: {label} returns no floating-point tensor; there is nothing to check")
    random = np.random.default_rng(seed)
    worst = 0.0
    for level in range(1, order + 1):
        worst = max(worst, _check_once(function, list(inputs), label, level, eps, rtol, atol, random))
        if level < order:
            function, inputs = _derivative(function, list(inputs), random)
    return worst


def _outputs(result: Any) -> list[Tensor]:
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]


def _derivative(function: Callable, inputs: list[Tensor], random: np.random.Generator) -> tuple[Callable, list[Tensor]]:
    """(x, u) ↦ the gradient of Σ⟨f(x), u⟩ by x, with u drawn, as the next function to check."""
    count = len(inputs)
    cotangents = [_like(y, random.standard_normal(y.shape)) for y in _outputs(function(*inputs))]

    def gradient(*arguments: Tensor) -> tuple[Tensor, ...]:
        points = [
            a if a.requires_grad or not x.requires_grad else a.detach().requires_grad_()
            for a, x in zip(arguments, inputs)
        ]
        active = [p for p, x in zip(points, inputs) if x.requires_grad]
        outputs = _outputs(function(*(p if x.requires_grad else a for p, x, a in zip(points, inputs, arguments))))
        pairs = [(y, u) for y, u in zip(outputs, arguments[count:]) if y.requires_grad]
        found = grad([y for y, _ in pairs], active, [u for _, u in pairs], create_graph=True)
        return tuple(g for g in found if g is not None)

    return gradient, [*inputs, *(u.requires_grad_() for u in cotangents)]


def _like(x: Tensor, host: np.ndarray) -> Tensor:
    return Tensor(x.backend.from_host(np.asarray(host, np.float64)))


def _check_once(
    function: Callable, inputs: list[Tensor], label: str, level: int, eps: float, rtol: float, atol: float,
    random: np.random.Generator,
) -> float:  # fmt: skip
    worst = 0.0
    for position, x in enumerate(inputs):
        if not x.requires_grad or not x.numel():
            continue
        for attempt in range(RESAMPLES):
            direction = random.standard_normal(x.shape)
            cotangents = [random.standard_normal(y.shape) for y in _outputs(function(*inputs))]
            received_gradient = _gradient(function, inputs, position, cotangents)

            along = partial(_difference, function, list(inputs), position, cotangents)
            expected = along(direction, eps, eps)
            with np.errstate(invalid="ignore"):
                received = float((received_gradient * direction).sum())
            scale = float(np.linalg.norm(received_gradient)) + abs(expected)
            error = abs(received - expected)
            if np.isfinite(error) and error <= atol + rtol * scale:
                worst = max(worst, error / max(scale, 1.0))
                break
            # both are of order eps where f is smooth: a kink shows in the first, a jump in the second
            bend = abs(along(direction, eps, 0.0) - along(direction, 0.0, eps))
            drift = abs(along(direction, eps / 8, eps / 8) - expected)
            broken = not np.isfinite(received) and np.isfinite(expected)  # which no rule for a kink asks for
            if broken or max(bend, drift) < 0.1 * error or attempt == RESAMPLES - 1:
                raise _report(label, level, position, received_gradient, along, eps)
            nudge = 1e-2 * random.standard_normal(x.shape)
            inputs[position] = x = _moved(x, nudge).requires_grad_()
    return worst


def _gradient(function: Callable, inputs: list[Tensor], position: int, cotangents: list[np.ndarray]) -> np.ndarray:
    outputs = _outputs(function(*inputs))
    pairs = [(y, _like(y, u)) for y, u in zip(outputs, cotangents) if y.requires_grad]
    if not pairs:
        return np.zeros(inputs[position].shape)
    found = grad([y for y, _ in pairs], inputs[position], [u for _, u in pairs])
    return np.zeros(inputs[position].shape) if found is None else found.numpy()


def _moved(x: Tensor, by: np.ndarray) -> Tensor:
    """x + by, in x's memory layout."""
    moved = x.backend.xp.empty_like(x.data)
    moved[...] = x.data + x.backend.from_host(by)
    return Tensor(moved)


def _difference(
    function: Callable,
    inputs: list[Tensor],
    position: int,
    cotangents: list[np.ndarray],
    v: np.ndarray,
    ahead: float,
    behind: float,
) -> float:
    """(L(x + ahead·v) − L(x − behind·v)) / (ahead + behind), with x the input at `position`."""
    values = []
    for step in (ahead, -behind):
        point = [*inputs]
        point[position] = _moved(inputs[position], step * v).requires_grad_()
        outputs = _outputs(function(*point))
        values.append(sum(float((of(y.data).to_host(y.data) * u).sum()) for y, u in zip(outputs, cotangents)))
    return (values[0] - values[1]) / (ahead + behind)


def _report(
    label: str, level: int, position: int, gradient: np.ndarray, along: Callable[..., float], eps: float
) -> GradientError:
    """The message, with the element that is off the most."""
    worst, expected = -1.0, 0.0
    where: tuple[int, ...] = ()
    for index in np.ndindex(gradient.shape):
        unit = np.zeros(gradient.shape)
        unit[index] = 1
        slope = along(unit, eps, eps)
        error = np.nan_to_num(abs(slope - float(gradient[index])), nan=np.inf)
        if error > worst:
            worst, where, expected = error, index, slope
    return GradientError(
        f"{label}: derivative of order {level} by input {position} at index {where}: "
        f"expected {expected:.8g}, received {gradient[where]:.8g}"
    )
