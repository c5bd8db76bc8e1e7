"""Single operations, forward and backward, written once for both libraries; `python -m tests.benchmarks operations`.

Sizes are those of small generators: 32 images of 32 channels, 28 × 28, or 128 rows of 512 features. Images
lie as each library's own convolutions leave them: channels-last in tinygen, channels-first in PyTorch.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.models import Library

IMAGES, ROWS, SMALL = (32, 32, 28, 28), (128, 512), (4,)
SECONDS = 0.15  # for each operation
Operation = Callable[..., Any]


def _elementwise(F: Any) -> dict[str, tuple[Operation, list]]:
    unary = ("exp", "tanh", "sigmoid", "sqrt", "abs")
    of_F = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")
    return {
        **{name: (lambda x, name=name: getattr(x, name)(), [ROWS]) for name in unary},
        **{name: (getattr(F, name), [ROWS]) for name in of_F},
        "add": (lambda x, y: x + y, [ROWS, ROWS]),
        "add of 4": (lambda x, y: x + y, [SMALL, SMALL]),
        "multiply": (lambda x, y: x * y, [ROWS, ROWS]),
        "multiply of 4": (lambda x, y: x * y, [SMALL, SMALL]),
        "divide": (lambda x, y: x / y, [ROWS, ROWS]),
        "add a row": (lambda x, y: x + y, [ROWS, ROWS[1:]]),
        "relu of images": (F.relu, [IMAGES]),
        "leaky_relu of images": (lambda x: F.leaky_relu(x, 0.2), [IMAGES]),
        "silu of images": (F.silu, [IMAGES]),
        "multiply images": (lambda x, y: x * y, [IMAGES, IMAGES]),
    }


def operations(lib: Library) -> dict[str, tuple[Operation, list]]:
    """By name: the operation, and the shapes of what it is differentiated by."""
    F, classes = lib.F, lib.classes(ROWS[1], ROWS[0])
    rows = lib.classes(500, 128)
    return {
        **_elementwise(F),
        "sum": (lambda x: x.sum(), [IMAGES]),
        "sum of images": (lambda x: x.sum((0, 2, 3)), [IMAGES]),
        "var": (lambda x: x.var(1), [ROWS]),
        "softmax": (lambda x: F.softmax(x, 1), [ROWS]),
        "log_softmax": (lambda x: F.log_softmax(x, 1), [ROWS]),
        "logsumexp": (lambda x: x.logsumexp(1), [ROWS]),
        "amax": (lambda x: x.amax(1), [ROWS]),
        "cumsum": (lambda x: x.cumsum(1), [ROWS]),
        "permute": (lambda x: x.permute(0, 2, 3, 1) * 1.0, [IMAGES]),
        "getitem": (lambda x: x[:, ::2], [ROWS]),
        "index_select": (lambda x: x.index_select(0, rows), [(500, 64)]),
        "matmul": (lambda x, y: x @ y, [(256, 256), (256, 256)]),
        "linear": (F.linear, [ROWS, (512, 512), (512,)]),
        "conv2d 3×3": (lambda x, w, b: F.conv2d(x, w, b, 1, 1), [IMAGES, (32, 32, 3, 3), (32,)]),
        "conv2d 4×4, stride 2": (lambda x, w: F.conv2d(x, w, None, 2, 1), [IMAGES, (64, 32, 4, 4)]),
        "conv_transpose2d 4×4, stride 2": (
            lambda x, w: F.conv_transpose2d(x, w, None, 2, 1), [(32, 64, 14, 14), (64, 32, 4, 4)]),
        "max_pool2d": (lambda x: F.max_pool2d(x, 2), [IMAGES]),
        "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), [IMAGES]),
        "interpolate nearest": (lambda x: F.interpolate(x, scale_factor=2), [(32, 32, 14, 14)]),
        "interpolate bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [(32, 32, 14, 14)]),
        "pad reflect": (lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), [IMAGES]),
        "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, True), [IMAGES, (32,), (32,)]),
        "instance_norm": (lambda x: F.instance_norm(x), [IMAGES]),
        "group_norm": (lambda x, w, b: F.group_norm(x, 8, w, b), [IMAGES, (32,), (32,)]),
        "layer_norm": (lambda x, w, b: F.layer_norm(x, ROWS[1:], w, b), [ROWS, ROWS[1:], ROWS[1:]]),
        "attention": (F.scaled_dot_product_attention, [(16, 4, 64, 32)] * 3),
        "cross_entropy": (lambda x: F.cross_entropy(x, classes), [ROWS]),
        "binary_cross_entropy_with_logits": (
            lambda x: F.binary_cross_entropy_with_logits(x, x.detach() * 0 + 0.5), [ROWS]),
        "mse_loss": (F.mse_loss, [ROWS, ROWS]),
        "l1_loss": (F.l1_loss, [ROWS, ROWS]),
        "huber_loss": (F.huber_loss, [ROWS, ROWS]),
    }  # fmt: skip


def _leaf(lib: Library, shape: tuple[int, ...], seed: int) -> Any:
    values = np.random.default_rng(seed).uniform(0.1, 2, shape).astype("float32")  # where all of them are defined
    if lib.name == "torch":
        return lib.array(values).requires_grad_()
    if len(shape) == 4 and shape[2] > 4 and shape != (16, 4, 64, 32):
        values = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return lib.array(values, requires_grad=True)


def times(lib: Library) -> dict[str, float]:
    """Median µs of each operation, forward and backward."""
    out = {}
    for name, (operation, shapes) in operations(lib).items():
        leaves = [_leaf(lib, shape, seed) for seed, shape in enumerate(shapes)]
        seed = operation(*leaves).detach() * 0 + 1

        def once(operation: Operation = operation, leaves: list = leaves, seed: Any = seed) -> None:
            for leaf in leaves:
                leaf.grad = None
            operation(*leaves).backward(seed)

        for _ in range(5):
            once()
        taken, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(taken) < 5:
            start = time.perf_counter()
            once()
            taken.append(time.perf_counter() - start)
        out[name] = statistics.median(taken) * 1e6
    return out


def worker(library: str) -> None:
    """In a process of its own: the times as JSON."""
    print(json.dumps(times(Library(library))))


def table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """One line an operation: µs in both libraries and the ratio, medians over the rounds; ! marks what is too slow,
    more than 1.5 times PyTorch's, below 50 µs with 5 µs more."""
    lines = [f"{'forward and backward':34} {'tinygen µs':>11} {'torch µs':>11} {'ratio':>7}"]
    for name in rounds[0]["tinygen"]:
        ours, theirs = (statistics.median(r[library][name] for r in rounds) for library in ("tinygen", "torch"))
        bound = 1.5 * theirs + (5 if theirs < 50 else 0)
        lines.append(
            f"{name:34} {ours:11.1f} {theirs:11.1f} {ours / theirs:7.2f} {'!' if ours > bound else ''}".rstrip()
        )
    return "\n".join(lines)
