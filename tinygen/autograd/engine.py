"""Reverse-mode differentiation: the loop that walks the tape backwards.

Why in the order of creation? A node's gradient is complete only when all its users have added their part. Take
y = a·a + a with a = exp(x): if exp were visited after `+` but before `·`, the part through a·a would come too late.
A node is always younger than its inputs, so taking the youngest first is a topological order: a heap by age needs no
sorting beforehand, costs n log n, and has no recursion to overflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from tinygen.autograd.function import Function, _finite
from tinygen.autograd.mode import mode
from tinygen.autograd.tensor import Tensor
from tinygen.errors import AnomalyError

Gradients = dict[Any, list]  # by node or leaf: one gradient for each of its outputs


def backpropagate(
    seeds: Sequence[tuple[Tensor, Tensor]],
    create_graph: bool = False,
    retain_graph: bool = False,
    wanted: set | None = None,
    targets: frozenset = frozenset(),
) -> Gradients:
    """Send the seeds' gradients down the tape; what arrives at leaves (and at `targets`) is returned.

    seeds: (output, its gradient).  wanted: the only nodes to pass through, where not all are.
    """
    arrived: Gradients = {}
    heap: list[tuple[int, Function]] = []
    node = Function()  # the seeds come from nowhere
    edges: Sequence = [(y.node or y, y.index, g._data.shape, g._data.dtype) for y, g in seeds]
    gradients: Sequence = [gradient for _, gradient in seeds]
    recording, mode.recording = mode.recording, create_graph
    try:
        while True:
            for edge, gradient in zip(edges, gradients):
                if edge is None or gradient is None:
                    continue
                to, index, shape, dtype = edge
                if gradient._data.shape != shape or gradient._data.dtype is not dtype:
                    gradient = node.fit_gradient(gradient, shape, dtype)
                slots = arrived.get(to)
                if slots is None:
                    arrived[to] = slots = [None] * to.n_outputs
                    if to.sequence >= 0:
                        heappush(heap, (-to.sequence, to))
                    elif isinstance(to, Function):  # a leaf has no age, and neither has a node that was released
                        raise _freed(to)
                slots[index] = gradient if slots[index] is None else _sum(slots[index], gradient)
            if not heap:
                return arrived
            node = heappop(heap)[1]
            slots = arrived[node] if node in targets else arrived.pop(node)
            gradients, edges, needs = (), node.edges, node.needs
            if wanted is not None:
                if node not in wanted:  # a target with nothing asked for below it
                    continue
                edges = [e if e and (e[0] in wanted or e[0] in targets) else None for e in edges]
                node.needs = [e is not None for e in edges]
            try:
                gradients = _gradients_of(node, slots)
            finally:
                node.needs = needs
            if not retain_graph:
                node.release()
    finally:
        mode.recording = recording


def _gradients_of(node: Function, slots: list) -> Sequence[Tensor | None]:
    """What a node sends to its inputs."""
    if node.n_outputs > 1 and node.fills_zeros:
        slots = [g if g is not None else Tensor(of.xp.zeros(*like)) for g, (of, *like) in zip(slots, node.outputs)]
    looking, mode.anomaly = mode.anomaly, False  # a fault within backward is the fault of this node
    try:
        gradients = node.backward(*slots)
    finally:
        mode.anomaly = looking
    if type(gradients) is not tuple:
        gradients = (gradients,)
    if len(gradients) != len(node.edges):
        raise RuntimeError(f"{node.name}: backward gave {len(gradients)} gradients for {len(node.edges)} inputs")
    if looking:
        _check_finite(node, slots, gradients)
    return gradients


def _freed(node: Function) -> RuntimeError:
    return RuntimeError(
        f"{node.name}: this part of the graph was freed by an earlier backward; "
        "pass retain_graph=True (or create_graph=True) to the first one"
    )


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """a + b; never in place, since a gradient's memory may be shared."""
    return a + b if mode.recording or not a._data.ndim else Tensor(a._data + b._data)


def _check_finite(node: Function, slots: list, gradients: Sequence) -> None:
    if all(g is None or _finite(g._data) for g in slots) and not all(g is None or _finite(g._data) for g in gradients):
        where = f" (called at {node.site})" if node.site else ""
        raise AnomalyError(f"the gradient of {node.name} is not finite, for a finite gradient of its output{where}")


def _seed(output: Tensor, gradient: Tensor | None) -> Tensor:
    """The gradient to start with: given, or 1 for a single element."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise ValueError("backward: the output does not depend on any tensor that requires a gradient")
    if gradient is None:
        if output._data.size != 1:
            raise ValueError(f"backward: an output of shape {output.shape} needs a gradient to start with; or sum it")
        return Tensor(output.backend.xp.ones(output.shape, output.dtype))
    if gradient.shape != output.shape or gradient.dtype != output.dtype:
        raise ValueError(
            f"backward: the gradient must be {output.shape} {output.dtype} as the output, "
            f"got {gradient.shape} {gradient.dtype}"
        )
    return gradient


def backward(output: Tensor, gradient: Tensor | None, create_graph: bool, retain_graph: bool) -> None:
    """Tensor.backward: add what arrives to the leaves' `grad`, each of which is memory of its own."""
    seed = _seed(output, gradient)
    with output.backend.quiet():  # 0 · ∞ and the like are what the rules say, not a reason to warn
        arrived = backpropagate([(output, seed)], create_graph, retain_graph)
    recording, mode.recording = mode.recording, create_graph
    taken = {id(seed._data)}
    try:
        for leaf, (arriving,) in arrived.items():
            array = arriving._data
            if leaf.grad is not None:
                arriving = leaf.grad + arriving
            elif arriving.requires_grad or id(array) in taken or not array.flags.owndata:
                # a copy: this one is the graph's, another leaf's or a view
                arriving = arriving * 1.0 if create_graph else Tensor(array.copy(order="K"))
            taken.add(id(array))
            leaf.grad = arriving
    finally:
        mode.recording = recording


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Any:
    """d outputs / d inputs, contracted with `grad_outputs` and summed over the outputs; `.grad` stays untouched.

    Returns a tensor for each input in their order (one tensor where `inputs` is one), None for an input that was not
    used. Only the part of the graph that leads to the inputs is walked, and freed unless it is retained; where a part
    that was freed before might lead to them, RuntimeError. `create_graph` as in `Tensor.backward`.
    """
    single = isinstance(inputs, Tensor)
    outputs_ = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    inputs_: tuple = (inputs,) if single else tuple(inputs)
    given: Sequence = (
        (None,) * len(outputs_)
        if grad_outputs is None
        else (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    )  # fmt: skip
    if len(given) != len(outputs_):
        raise ValueError(f"grad: {len(outputs_)} outputs but {len(given)} grad_outputs")
    for position, x in enumerate(inputs_):
        if not isinstance(x, Tensor) or not x.requires_grad:
            raise ValueError(f"grad: input {position} does not require a gradient")
    seeds = [(y, _seed(y, g)) for y, g in zip(outputs_, given)]
    targets = frozenset(x.node or x for x in inputs_)
    wanted = _nodes_leading_to(targets, [y.node for y in outputs_ if y.node is not None])
    retain = create_graph if retain_graph is None else retain_graph
    if not seeds:
        raise ValueError("grad: no outputs were given")
    with seeds[0][0].backend.quiet():
        arrived = backpropagate(seeds, create_graph, retain, wanted, targets)
    found = [arrived[x.node or x][x.index] if (x.node or x) in arrived else None for x in inputs_]
    return found[0] if single else tuple(found)


def _nodes_leading_to(targets: frozenset, roots: list[Function]) -> set:
    """The nodes below `roots` from which a path leads to a target: found by one walk, oldest node first."""
    below, stack = set(roots), list(roots)
    while stack:
        node = stack.pop()
        if node.sequence < 0:  # released: what it led to is not known any more
            raise _freed(node)
        for edge in node.edges:
            if edge is not None and isinstance(edge[0], Function) and edge[0] not in below:
                below.add(edge[0])
                stack.append(edge[0])
    leading: set = set()
    for node in sorted(below, key=lambda node: node.sequence):
        if any(edge[0] in leading or edge[0] in targets for edge in node.edges if edge is not None):
            leading.add(node)
    return leading
