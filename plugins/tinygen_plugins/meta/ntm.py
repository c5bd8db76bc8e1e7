r"""Neural Turing Machine (Graves, Wayne and Danihelka 2014): a network beside a memory, learnt from end to end.

The memory M is a matrix of N locations (rows) of M numbers each. At every step the controller, a small network, sees
the input x_t and what was read last; heads that it steers write into the memory and read from it; and its output is
made of its hidden units and of what is read:

    h_t = controller(x_t, r_{t−1}),   w_t = address(h_t, M_{t−1}, w_{t−1}),   M_t = write(M_{t−1}, w_t, e_t, a_t),
    r_t = read(M_t, w_t),   y_t = W [h_t, r_t] + b,   p(bit) = σ(y_t).

Where a head acts is no number but a weighting w over all locations, so that everything has a gradient. A weighting is
made in four stages (the paper's figure 2): by content, (5) and (6); mixed with the weighting before, (7); shifted by
one location at most, (8); and sharpened, as shifting blurs, (9).

What libraries call a convolution is a correlation, which moves the other way than (8) says: here s(+1) moves a head to
the next location, and the last one's next is the first.

The paper leaves open how to begin. Here the memory is a small constant, which learns faster than a learnt or a random
one (Collier and Beel 2018), the heads are near location 0, and the sequences are short.

Read from the equations down: `Machine.forward` is the machine, the tasks follow, and `fit` is the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import tinygen.functional as F
from tinygen import backend, nn, optim
from tinygen.autograd import Tensor, no_grad, tensor
from tinygen.backend import Array
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.errors import UsageError
from tinygen.host import Evaluable, Illustrator, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream

MEMORY = 0.01  # what each number of the memory begins with
START = 10.0  # the logit of location 0 before the first step; all others' are 0
TINY = 1e-16  # keeps log w finite, and w as it is
AT_ONCE = 200  # sequences in `evaluate`
TESTED: dict[str, tuple[tuple[int, ...], ...]] = {  # sizes in `evaluate`: lengths, lengths and repeats, items
    "copy": ((10,), (20,), (30,), (50,), (80,), (120,)),
    "repeat-copy": ((10, 10), (20, 10), (10, 20)),
    "recall": ((2,), (4,), (6,), (8,), (12,), (16,), (20,)),
}


@dataclass(frozen=True)
class Config:
    """Options of the task, of the machine and of its training."""

    task: Literal["copy", "repeat-copy", "recall"] = "copy"
    """copy: give random bits back; repeat-copy: do so several times, and then give an end mark; recall: shown rows of
    some images and of one of them again, give those of the image after it"""
    controller: Literal["feedforward", "lstm"] = "feedforward"
    """the network that steers the heads: without a state of its own, or with one"""
    hidden: int = 100
    """units of the controller"""
    heads: int = 1
    """heads that read, and as many that write"""
    locations: int = 128
    """N, rows of the memory"""
    width: int = 20
    """M, numbers in a row of the memory"""
    bits: int = 8
    """bits at a time, of copy and repeat-copy; recall has as many as the images have columns"""
    longest: int = 20
    """longest sequence to copy in training; the lengths are drawn from 1 on. The paper has 10 for repeat-copy"""
    repeats: int = 10
    """most repeats in training, of repeat-copy"""
    items: int = 6
    """most images in a sequence in training, of recall; 2 are the fewest"""
    rows: int = 3
    """rows of an image that are an item of recall, from its middle"""
    steps: int = 6000
    """updates to train for"""
    growth: float = 0.4
    """part of the steps over which lengths, repeats and items grow to their most; 0 for all sizes from the start"""
    batch_size: int = 16
    """sequences in a batch, all of one length"""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """rmsprop is the paper's, with momentum and each element of the gradient cut to ±clip; it asks for --lr 1e-4"""
    lr: float = 1e-3
    """learning rate at the first step; it falls in a straight line, nearly to 0 at the last"""
    clip: float = 10.0
    """longest gradient, as a vector of all parameters; with rmsprop its largest element"""
    test_sequences: int = 1000
    """sequences of each length in `evaluate`"""

    def __post_init__(self) -> None:
        check_choice("ntm", "task", self.task, list(TESTED))
        check_choice("ntm", "controller", self.controller, ["feedforward", "lstm"])
        check_choice("ntm", "optimizer", self.optimizer, ["adam", "rmsprop"])
        for name, low, high in (
            ("hidden", 1, 10**5), ("heads", 1, 100), ("locations", 3, 10**5), ("width", 1, 10**4), ("bits", 1, 10**4),
            ("longest", 1, 10**4), ("repeats", 1, 10**3), ("items", 2, 10**3), ("rows", 1, 10**3),
            ("steps", 1, 10**9), ("growth", 0.0, 1.0), ("batch_size", 1, 10**6), ("lr", 1e-9, 1.0), ("clip", 1e-9, 1e9),
            ("test_sequences", 1, 10**6),
        ):  # fmt: skip
            check_range("ntm", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations
#
# n batch, H heads, N locations, M numbers in each. Weightings are (n, H, N), the memory is (n, N, M).


@equation(r"\sum_i w(i) = 1, \qquad 0 \le w(i) \le 1", source="Graves et al. 2014, eq. 1")
def weighting(logits: Tensor) -> Tensor:
    """The weighting of logits, their softmax: of locations before the first step, and of shifts."""
    return F.softmax(logits, -1)


@equation(r"r_t \leftarrow \sum_i w_t(i)\, M_t(i)", source="Graves et al. 2014, eq. 2")
def read(memory: Tensor, w: Tensor) -> Tensor:
    """What each head reads: (n, H, M)."""
    return w @ memory  # (n, H, M) = (n, H, N) @ (n, N, M)


@equation(r"\tilde M_t(i) \leftarrow M_{t-1}(i) \left[\mathbf 1 - w_t(i)\, e_t\right]",
          source="Graves et al. 2014, eq. 3; a factor for each head")  # fmt: skip
def erase(memory: Tensor, w: Tensor, e: Tensor) -> Tensor:
    """The memory after each head has erased by its vector e (n, H, M), in [0, 1]."""
    for w_h, e_h in zip(w.split(1, 1), e.split(1, 1)):
        memory = memory * (1 - w_h.transpose(1, 2) * e_h)  # (n, N, M) = (n, N, 1) · (n, 1, M)
    return memory


@equation(r"M_t(i) \leftarrow \tilde M_t(i) + w_t(i)\, a_t", source="Graves et al. 2014, eq. 4; a term for each head")
def add(memory: Tensor, w: Tensor, a: Tensor) -> Tensor:
    """The memory after each head has added its vector a (n, H, M)."""
    return memory + w.transpose(1, 2) @ a  # (n, N, M) = (n, N, H) @ (n, H, M)


@equation(r"w^c_t(i) \leftarrow \frac{\exp(\beta_t K[k_t, M_t(i)])}{\sum_j \exp(\beta_t K[k_t, M_t(j)])}",
          source="Graves et al. 2014, eq. 5")  # fmt: skip
def content_weighting(beta: Tensor, similarity: Tensor) -> Tensor:
    """The locations like the key, the sharper the larger β (n, H, 1) is; similarity K: (n, H, N)."""
    return F.softmax(beta * similarity, -1)


@equation(r"K[u, v] = \frac{u \cdot v}{\|u\|\, \|v\|}", source="Graves et al. 2014, eq. 6")
def cosine_similarity(k: Tensor, memory: Tensor) -> Tensor:
    """Of each head's key (n, H, M) and each location: (n, H, N); 0 where one of them is 0."""
    lengths = F.norm(k, dim=-1, keepdim=True) * F.norm(memory, dim=-1).unsqueeze(1)  # (n, H, 1) · (n, 1, N)
    return k @ memory.transpose(1, 2) / lengths.clamp(min=1e-12)


@equation(r"w^g_t \leftarrow g_t w^c_t + (1 - g_t)\, w_{t-1}", source="Graves et al. 2014, eq. 7")
def interpolate(g: Tensor, w_c: Tensor, w_before: Tensor) -> Tensor:
    """Between looking up, g = 1, and going on from where the head was, g = 0; g: (n, H, 1)."""
    return g * w_c + (1 - g) * w_before


@equation(r"\tilde w_t(i) \leftarrow \sum_{j=0}^{N-1} w^g_t(j)\, s_t(i - j), \quad i - j \bmod N",
          source="Graves et al. 2014, eq. 8")  # fmt: skip
def shift(w_g: Tensor, s: Tensor) -> Tensor:
    """The weighting moved by −1, 0 and +1 with the weights s (n, H, 3), in that order: +1 is to the next location."""
    back, stay, forth = s.split(1, -1)  # (n, H, 1) each
    return back * w_g.roll(-1, -1) + stay * w_g + forth * w_g.roll(1, -1)


@equation(r"w_t(i) \leftarrow \frac{\tilde w_t(i)^{\gamma_t}}{\sum_j \tilde w_t(j)^{\gamma_t}}",
          source="Graves et al. 2014, eq. 9")  # fmt: skip
def sharpen(w: Tensor, gamma: Tensor) -> Tensor:
    """The weighting with what a shift has blurred made sharp again, for γ ≥ 1 (n, H, 1): the softmax of γ log w."""
    return F.softmax(gamma * F.log(w + TINY), -1)


@equation(r"\mathcal L = -\sum_{t,i} \left[x_{t,i} \log \sigma(y_{t,i}) + (1 - x_{t,i}) \log \sigma(-y_{t,i})\right]",
          source="Graves et al. 2014, section 4: the cross-entropy of the bits, here in nats")  # fmt: skip
def nats_a_sequence(logits: Tensor, targets: Tensor) -> Tensor:
    """Of targets (t, n, bits) in [0, 1], summed over a sequence, a mean over sequences. A guess costs log 2 a bit."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / targets.shape[1]


# ---------------------------------------------------------------- the machine


class Trace(NamedTuple):
    """What the machine did at each step of a sequence."""

    logits: Tensor  # (answers, n, outputs), of the last steps
    weightings: Tensor  # (t, n, 2 H, N): of the heads that read, and then of those that write
    memory: Tensor  # (n, N, M), at the end


class Machine(nn.Module):
    """Inputs (t, n, inputs) to the logits of the last steps."""

    def __init__(self, config: Config, inputs: int, outputs: int, random: Stream) -> None:
        super().__init__()
        heads, width, hidden, reads = config.heads, config.width, config.hidden, config.heads * config.width
        self.heads, self.shape = heads, (config.locations, width)
        if config.controller == "lstm":
            self.controller: nn.Module = nn.LSTMCell(inputs + reads, hidden, random=random.child("controller"))
        else:
            self.controller = nn.Linear(inputs + reads, hidden, random=random.child("controller"))
        self.address_sizes = [width, 1, 1, 3, 1]  # k, β, g, s, γ of each head
        self.address = nn.Linear(hidden, 2 * heads * sum(self.address_sizes), random=random.child("address"))
        self.write = nn.Linear(hidden, 2 * heads * width, random=random.child("write"))  # e, a of heads that write
        self.output = nn.Linear(hidden + reads, outputs, random=random.child("output"))
        start = tensor([[START] + [0.0] * (config.locations - 1)]).expand(2 * heads, config.locations)
        self.start = nn.Parameter(start.data.copy())  # logits of the weightings before the first step
        self.first_read = nn.Parameter(random.child("read").normal((reads,), std=0.1))

    def forward(self, inputs: Tensor, answers: int) -> Trace:
        """Run over inputs (t, n, i) from the first state on; the last `answers` steps give an output."""
        n, xp = inputs.shape[1], inputs.backend.xp
        memory = Tensor(xp.full((n, *self.shape), MEMORY, inputs.dtype))
        w = weighting(self.start).expand(n, 2 * self.heads, self.shape[0])  # (n, 2H, N)
        r = self.first_read.expand(n, len(self.first_read))  # (n, H·M)
        state, features, weightings = None, [], []
        for x in inputs.data:  # (n, i)
            seen = F.cat([Tensor(x), r], 1)
            if isinstance(self.controller, nn.LSTMCell):
                h, _ = state = self.controller(seen, state)  # (n, d) each; at first 0
            else:
                h = F.tanh(self.controller(seen))
            w = self.move(h, memory, w)
            reading, writing = w.chunk(2, 1)  # (n, H, N) each
            memory = self.change(h, memory, writing)
            r = read(memory, reading).flatten(1)  # (n, H, M) → (n, H·M)
            features.append(F.cat([h, r], 1))
            weightings.append(w)
        logits = self.output(F.stack(features[-answers:]))  # (answers, n, o)
        return Trace(logits, F.stack([w.detach() for w in weightings]), memory)

    def move(self, h: Tensor, memory: Tensor, w: Tensor) -> Tensor:
        """The weightings of all heads after the four stages of figure 2."""
        parts = self.address(h).unflatten(1, (2 * self.heads, -1))  # (n, 2H, 26 for M = 20)
        k, beta, g, s, gamma = parts.split(self.address_sizes, -1)
        w_c = content_weighting(F.softplus(beta), cosine_similarity(k, memory))
        w_g = interpolate(F.sigmoid(g), w_c, w)
        return sharpen(shift(w_g, weighting(s)), 1 + F.softplus(gamma))

    def change(self, h: Tensor, memory: Tensor, w: Tensor) -> Tensor:
        """The memory after the heads have erased and added."""
        e, a = self.write(h).unflatten(1, (2 * self.heads, -1)).chunk(2, 1)  # (n, H, M) each
        return add(erase(memory, w, F.sigmoid(e)), w, F.tanh(a))


# ---------------------------------------------------------------- the tasks


class Task(NamedTuple):
    """Sequences of one length: inputs (t, n, i), and what the last steps are to give, targets (answers, n, o)."""

    inputs: Tensor
    targets: Tensor


def copy_task(bits: Array) -> Task:
    """A sequence (L, n, b), a mark on a channel of its own, and L steps of silence, in which it is to be given back."""
    length, n, width = bits.shape
    inputs = backend.of(bits).xp.zeros((2 * length + 1, n, width + 1), bits.dtype)
    inputs[:length, :, :width] = bits
    inputs[length, :, width] = 1.0
    return Task(Tensor(inputs), Tensor(bits))


def repeat_task(bits: Array, repeats: int, most: int) -> Task:
    """As `copy_task`, with the number of repeats on one more channel beside the mark, and as last output an end mark.

    The number is brought to mean 0 and variance 1 over 1 … most, which are equally likely in training.
    """
    length, n, width = bits.shape
    xp = backend.of(bits).xp
    inputs = xp.zeros((length * (repeats + 1) + 2, n, width + 2), bits.dtype)
    inputs[:length, :, :width] = bits
    inputs[length, :, width] = 1.0
    inputs[length, :, width + 1] = (repeats - (most + 1) / 2) / (math.sqrt((most**2 - 1) / 12) or 1.0)
    targets = xp.zeros((length * repeats + 1, n, width + 1), bits.dtype)
    targets[:-1, :, :width] = xp.tile(bits, (repeats, 1, 1))
    targets[-1, :, width] = 1.0
    return Task(Tensor(inputs), Tensor(targets))


def recall_task(items: Array, asked: Array) -> Task:
    """Items (k, n, rows, b), a mark before each; the item `asked` (n,), 0 … k − 2, between two marks of another kind;
    and as many steps of silence as an item has rows, in which the item after it is to be given."""
    count, n, rows, width = items.shape
    xp = backend.of(items).xp
    inputs = xp.zeros((count * (rows + 1) + 2 * rows + 2, n, width + 2), items.dtype)
    for place in range(count):
        inputs[place * (rows + 1), :, width] = 1.0
        inputs[place * (rows + 1) + 1 : (place + 1) * (rows + 1), :, :width] = items[place].transpose(1, 0, 2)
    question, everyone = count * (rows + 1), xp.arange(n)
    inputs[question, :, width + 1] = inputs[question + rows + 1, :, width + 1] = 1.0
    inputs[question + 1 : question + rows + 1, :, :width] = items[asked, everyone].transpose(1, 0, 2)  # (rows, n, b)
    return Task(Tensor(inputs), Tensor(items[asked + 1, everyone].transpose(1, 0, 2)))


class NTM(Trainable, Evaluable, Illustrator):
    """The machine on one task."""

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        if config.task == "recall" and data.height < config.rows:
            raise UsageError(
                f"ntm: an item is {config.rows} rows, and the images of {data.name} have {data.height}",
                f"set --rows {data.height}, or --image-size {config.rows}",
            )
        self.config = config
        bits = data.width if config.task == "recall" else config.bits
        marks, ends = {"copy": (1, 0), "repeat-copy": (2, 1), "recall": (2, 0)}[config.task]
        self.machine = Machine(config, bits + marks, bits + ends, random.child("machine"))
        parameters = list(self.machine.parameters())
        self.optimizer: optim.Optimizer = optim.Adam(parameters, config.lr)
        self.clip: Callable = optim.clip_grad_norm_
        if config.optimizer == "rmsprop":  # that of Graves 2013
            self.optimizer = optim.RMSprop(parameters, config.lr, alpha=0.95, eps=1e-4, momentum=0.9, centered=True)
            self.clip = optim.clip_grad_value_
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: max(0.02, 1 - k / config.steps))
        self.updates = 0
        self.sequences = random.child("sequences")
        self.sizes = Stream(random.seed, f"{random.name}/sizes", backend.NUMPY)  # how long is asked on the host

    def fit(self, batches: Batches) -> Iterator[Step]:
        """One batch of sequences after the other, each of a size of its own; the gradient runs through all steps."""
        while True:
            task = self.make_task(self.draw_size(), self.config.batch_size, batches, self.sequences)
            logits = self.machine(task.inputs, len(task.targets)).logits
            loss = nats_a_sequence(logits, task.targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.clip(self.machine.parameters(), self.config.clip)
            self.optimizer.step()
            self.schedule.step()
            self.updates += 1
            bits = loss.detach() / math.log(2)
            errors = bit_errors(logits, task.targets).mean()
            yield Step({"nats_a_sequence": loss, "bits_a_sequence": bits, "bit_errors": errors})

    def draw_size(self) -> tuple[int, ...]:
        """How large the next task in training is: its length; its length and repeats; or its items. The most grows, as
        what is learnt on short sequences, in a fraction of the time, is what long ones need."""
        config = self.config
        longest, least = config.longest, 2 if config.task == "recall" else 1
        most = {"copy": (longest,), "repeat-copy": (longest, config.repeats), "recall": (config.items,)}[config.task]
        grown = min(1.0, (self.updates + 1) / max(1.0, config.growth * config.steps))
        return tuple(int(self.sizes.integers(least, least + round(grown * (m - least)) + 1, ())) for m in most)

    def make_task(self, size: tuple[int, ...], n: int, batches: Batches, random: Stream) -> Task:
        """n sequences of one size; of recall no more than images in a batch, as each item comes from another batch."""
        config = self.config
        if config.task == "recall":
            images = F.stack([next(batches).images[:n] for _ in range(size[0])]).mean(2)  # (k, n, h, w)
            top = (images.shape[2] - config.rows) // 2
            items = (images.data[:, :, top : top + config.rows] > 0.5).astype("float32")
            return recall_task(items, random.integers(0, size[0] - 1, items.shape[1]))
        bits = random.bernoulli(0.5, (size[0], n, config.bits)).astype("float32")
        return copy_task(bits) if config.task == "copy" else repeat_task(bits, size[1], config.repeats)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Bits that are wrong in a sequence, on average, for each of several sizes; recall is of test images."""
        batches = Batches(data.split("test"), AT_ONCE, random.child("order"))
        figures = {}
        for size in TESTED[self.config.task]:
            errors: list[Tensor] = []
            while (left := self.config.test_sequences - sum(map(len, errors))) > 0:
                task = self.make_task(size, min(left, AT_ONCE), batches, random)
                with no_grad():
                    errors.append(bit_errors(self.machine(task.inputs, len(task.targets)).logits, task.targets))
            figures["bit_errors_at_" + "_times_".join(map(str, size))] = F.cat(errors).mean().item()
        return {**figures, "test_sequences": sum(map(len, errors))}

    def illustrate(self, data: Dataset, random: Stream) -> dict[str, Tensor]:
        """What the machine does with one sequence, as in the paper's figure 6. `steps`, time to the right, from top:
        the inputs, the last of them marks; the outputs that are asked for, and those that are given; where each head
        writes, and where each reads, of the locations in use. `memory`: those locations at the end, a row each."""
        size = {"copy": (20,), "repeat-copy": (10, 5), "recall": (6,)}[self.config.task]
        task = self.make_task(size, 1, Batches(data.split("test"), 1, random.child("order")), random)
        trace = self.machine(task.inputs, len(task.targets))
        used = (trace.weightings.amax((0, 1, 2)) > 0.1).numpy().nonzero()[0].tolist()
        here = tensor(used or list(range(self.config.locations)))
        reading, writing = trace.weightings[:, 0].index_select(2, here).chunk(2, 1)  # (t, H, locations) each
        silence = F.cat([task.targets[:1, 0] * 0] * (len(task.inputs) - len(task.targets)))  # (t − answers, o)
        asked, given = (F.cat([silence, x[:, 0]]) for x in (task.targets, F.sigmoid(trace.logits)))
        heads = [w.squeeze(1) for part in (writing, reading) for w in part.split(1, 1)]  # (t, locations) each
        memory = trace.memory[0].index_select(0, here)
        lowest = memory.amin()
        return {
            "steps": panels([task.inputs[:, 0].clamp(0, 1), asked, given, *heads]),
            "memory": ((memory - lowest) / (memory.amax() - lowest).clamp(min=TINY))[None, None],
        }


def bit_errors(logits: Tensor, targets: Tensor) -> Tensor:
    """Bits of (t, n, bits) on which logits and targets differ, for each sequence: (n,)."""
    return ((logits > 0) != (targets > 0.5)).to(logits.dtype).sum((0, 2))


def panels(parts: list[Tensor]) -> Tensor:
    """One image (1, 1, h, t) of parts (t, channels) below each other, with time to the right and grey lines between."""
    line = parts[0][:, :1] * 0 + 0.5
    rows = [row for part in parts for row in (part, line)][:-1]
    return F.cat(rows, 1).T[None, None]
