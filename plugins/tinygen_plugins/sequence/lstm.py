r"""Video representations by LSTMs (Srivastava, Mansimov and Salakhutdinov 2015).

An encoder LSTM reads T frames of a film. Its last state is all that the decoders get: what the encoder has understood.
One decoder gives the frames back, the last one first, as a stack does; the other goes on into the future:

    x_1 … x_T → encoder → (h, c) → decoder → x̂_T … x̂_1     (reconstruction)
                                 ↘ decoder → x̂_{T+1} …      (prediction)

Reconstruction alone could be learnt by rote, and prediction alone by looking at the last frames only; the composite
model has to do both with one state. A decoder is conditional where it sees the frame that it made before; in training
that is the true one.

The paper's encoder sees pixels and its decoders show them by one product of matrices each (`--percepts pixels`). Our
default looks through one convolution at blocks of 4 × 4 pixels and shows in the same way back, for fewer weights and
about half the time a step. There are no peepholes, the connections from a cell to its gates.
Read from the equations down: the cell, the two losses, the networks, then `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.host import Animator, Evaluable, Step, Trainable, check_choice, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.sequence._films import Beginnings, check_clips, clips_of

BLOCK = 4  # a block of 4 × 4 pixels is a pixel of 16 channels to the convolutions
PATCH = 2 * BLOCK  # what the sides of frames are multiples of
DARK = -3.0  # the logit that pixels begin with: most of a film is background

State = tuple[Tensor, Tensor]  # (h, c), each (1, n, d)


@dataclass(frozen=True)
class Config:
    """Options of the three networks and of their training."""

    steps: int = 5000
    """updates to train for"""
    batch_size: int = 16
    """clips in a batch"""
    model: Literal["composite", "future", "autoencoder"] = "composite"
    """which decoders are trained: both, the future predictor, or the one that gives the frames back"""
    conditional: bool = False
    """whether decoders see the frame that they made before"""
    percepts: Literal["convolution", "pixels"] = "convolution"
    """what the encoder sees of a frame and how decoders show one: through a small convolution, or pixel by pixel"""
    hidden: int = 256
    """units of each LSTM"""
    channels: int = 64
    """features of a patch of 8 × 8 pixels, for the percepts of a convolution"""
    seen: int = 10
    """frames that the encoder reads; what is left of a clip is the future"""
    lr: float = 1e-3
    """Adam's learning rate at the first step; it falls in a straight line, nearly to 0 at the last"""
    clip: float = 100.0
    """longest gradient, as a vector of all parameters; longer ones are shortened to it"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("hidden", 1, 10**5), ("channels", 1, 10**4),
            ("seen", 1, 10**4), ("lr", 1e-9, 1.0), ("clip", 1e-6, 1e9),
        ):  # fmt: skip
            check_range("lstm", name, getattr(self, name), low, high)
        check_choice("lstm", "model", self.model, ["composite", "future", "autoencoder"])
        check_choice("lstm", "percepts", self.percepts, ["convolution", "pixels"])


# ---------------------------------------------------------------- equations


@equation(
    r"c_t = \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t), \quad h_t = \sigma(o_t) \odot \tanh(c_t), \quad"
    r" (i_t, f_t, g_t, o_t) = W_x x_t + W_h h_{t-1} + b",
    source="Srivastava et al. 2015, section 2.1, without peepholes",
)
def remember(layer: nn.LSTM, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """The outputs h (t, n, d) of the cells for inputs x (t, n, i), and the state (h, c) after the last, (1, n, d) each.

    state: (h, c) before the first input; None for zeros. The layer runs through time as one node of the tape.
    """
    return layer(x, state)


@equation(
    r"\mathcal{L}(y, x) = -\frac1K \sum_{k=1}^{K} \sum_i \left[x_{k,i} \log \sigma(y_{k,i})"
    r" + (1 - x_{k,i}) \log(1 - \sigma(y_{k,i}))\right]",
    source="Srivastava et al. 2015, section 4.2: cross-entropy for moving digits, in nats a frame",
)
def nats_a_frame(logits: Tensor, frames: Tensor) -> Tensor:
    """The cross-entropy of frames (t, n, c, h, w) in [0, 1] under logits of that shape: summed over the pixels of a
    frame, and a mean over frames. A tensor without dimensions."""
    return F.binary_cross_entropy_with_logits(logits, frames, reduction="sum") / (len(frames) * frames.shape[1])


@equation(
    r"\mathcal{L} = \mathcal{L}(y^\mathrm{past}, (x_T, \dots, x_1)) + \mathcal{L}(y^\mathrm{future}, (x_{T+1}, \dots))",
    source="Srivastava et al. 2015, section 2.4: the composite model; with one decoder, its term alone",
)
def composite_loss(nats: dict[str, Tensor]) -> Tensor:
    """What training minimises, from the nats a frame of the decoders that there are."""
    return F.stack(list(nats.values())).sum()


# ---------------------------------------------------------------- the networks


def percepts(config: Config, shape: tuple[int, int, int], random: Stream) -> tuple[nn.Module, int]:
    """What turns frames (n, c, h, w) into features (n, d), and d."""
    if config.percepts == "pixels":
        return nn.Flatten(), math.prod(shape)
    c, rows, columns = shape[0], shape[1] // PATCH, shape[2] // PATCH
    return nn.Sequential(
        nn.PixelUnshuffle(BLOCK),  # (n, 16 c, h / 4, w / 4)
        nn.Conv2d(c * BLOCK**2, config.channels, 4, 2, 1, random=random.child("1")),  # (n, channels, h / 8, w / 8)
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(config.channels * rows * columns, config.hidden, random=random.child("2")),
    ), config.hidden


def pictures(config: Config, shape: tuple[int, int, int], random: Stream) -> nn.Module:
    """What turns outputs (n, d) of a decoder's LSTM into logits (n, c, h, w)."""
    c, rows, columns = shape[0], shape[1] // PATCH, shape[2] // PATCH
    layers: list[nn.Module]
    if config.percepts == "pixels":
        layers = [nn.Linear(config.hidden, math.prod(shape), random=random.child("1")), nn.Unflatten(1, shape)]
    else:
        layers = [
            nn.Linear(config.hidden, config.channels * rows * columns, random=random.child("1")),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (config.channels, rows, columns)),
            nn.ConvTranspose2d(config.channels, c * BLOCK**2, 4, 2, 1, random=random.child("2")),
            nn.PixelShuffle(BLOCK),  # (n, c, h, w)
        ]
    show = nn.Sequential(*layers)
    dict(show.named_parameters())[f"{len(layers) - 2}.bias"].data += DARK
    return show


def cells(features: int, hidden: int, random: Stream) -> nn.LSTM:
    """An LSTM whose forget gates begin open (Gers et al. 2000): b_f = 1, where 0 would halve a memory at each frame."""
    layer = nn.LSTM(features, hidden, random=random)
    dict(layer.named_parameters())["bias_ih_l0"].data[hidden : 2 * hidden] += 1.0  # of the gates i, f, g, o
    return layer


def constant(value: float, shape: tuple[int, ...], state: State) -> Tensor:
    """A tensor of one value, in the dtype of a state and where it is."""
    h = state[0]
    return Tensor(h.backend.xp.full(shape, value, h.dtype))


class Encoder(nn.Module):
    """Frames (t, n, c, h, w) to the state (h, c) of an LSTM that has read them."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        self.look, features = percepts(config, shape, random.child("look"))
        self.lstm = cells(features, config.hidden, random.child("lstm"))

    def forward(self, frames: Tensor) -> State:
        t, n = frames.shape[:2]
        seen = self.look(frames.flatten(0, 1)).reshape(t, n, -1)
        return remember(self.lstm, seen)[1]


class Decoder(nn.Module):
    """The state of the encoder to frames, one after the other.

    A conditional decoder sees the frame before, at first an empty one. Any other sees nothing, which is the number 1:
    its input's weights are one more bias.
    """

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        self.conditional, self.shape = config.conditional, shape
        if config.conditional:
            self.look, features = percepts(config, shape, random.child("look"))
        self.lstm = cells(features if config.conditional else 1, config.hidden, random.child("lstm"))
        self.show = pictures(config, shape, random.child("show"))

    def forward(self, state: State, frames: int, truth: Tensor | None = None) -> Tensor:
        """Logits (frames, n, c, h, w). A conditional decoder sees the frames of `truth` (frames, n, c, h, w), each when
        the next is asked for; without them its own, as probabilities."""
        n = state[0].shape[1]
        if not self.conditional:
            outputs, _ = remember(self.lstm, constant(1.0, (frames, n, 1), state), state)
        elif truth is not None:
            before = F.cat([constant(0.0, (1, n, *self.shape), state), truth[:-1]])  # (t, n, c, h, w)
            seen = self.look(before.flatten(0, 1)).reshape(frames, n, -1)
            outputs, _ = remember(self.lstm, seen, state)
        else:
            return self.go_on(state, frames)
        return self.show(outputs.flatten(0, 1)).reshape(frames, n, *self.shape)

    def go_on(self, state: State, frames: int) -> Tensor:
        """Logits of frames that are made out of each other."""
        before, logits = constant(0.0, (state[0].shape[1], *self.shape), state), []
        for _ in range(frames):
            outputs, state = remember(self.lstm, self.look(before).unsqueeze(0), state)  # one step: (1, n, d)
            logits.append(self.show(outputs[0]))
            before = F.sigmoid(logits[-1])
        return F.stack(logits)


class LSTM(Trainable, Animator, Evaluable):
    """The encoder and its decoders on clips of one size."""

    films = True

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        check_clips("lstm", data, config.seen + 1, PATCH if config.percepts == "convolution" else 1)
        self.config = config
        self.encoder = Encoder(config, data.shape, random.child("encoder"))
        self.decoders = nn.ModuleDict(
            {
                name: Decoder(config, data.shape, random.child(name))
                for name, model in (("past", "autoencoder"), ("future", "future"))
                if config.model in ("composite", model)
            }
        )
        self.optimizer = optim.Adam([*self.encoder.parameters(), *self.decoders.parameters()], config.lr)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: max(0.02, 1 - k / config.steps))
        self.beginnings = Beginnings(config.seen, data, config.batch_size)

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Descend the loss of the decoders that there are, through the encoder, on one batch after the other."""
        parameters = [*self.encoder.parameters(), *self.decoders.parameters()]
        while True:
            clips = next(batches).images.transpose(0, 1)  # (t, n, c, h, w)
            self.beginnings.keep(clips)
            nats = self.losses(clips[: self.config.seen], clips[self.config.seen :])
            loss = composite_loss(nats)
            self.optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(parameters, self.config.clip)
            self.optimizer.step()
            self.schedule.step()
            yield Step(nats)

    def losses(self, seen: Tensor, future: Tensor, forced: bool = True) -> dict[str, Tensor]:
        """The nats a frame of each decoder on frames (t, n, c, h, w): "nats_past", "nats_future".

        forced: conditional decoders see true frames, as in training, rather than those that they have made.
        """
        state, truth = self.encoder(seen), {"past": seen.flip(0), "future": future}
        return {
            f"nats_{name}": nats_a_frame(decoder(state, len(truth[name]), truth[name] if forced else None), truth[name])
            for name, decoder in self.decoders.items()
        }

    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n films (n, frames, c, h, w): the `seen` first frames of a training clip, and then the future predicted.

        A film that is no longer than that is the clip's alone. The autoencoder has no future: its film is the past as
        it remembers it, up to the last frame seen; one of more frames begins before the first.
        """
        with no_grad():
            film = self.beginnings.draw(n, random)  # (t, n, c, h, w)
            state = self.encoder(film)
            if "future" not in self.decoders:
                return F.sigmoid(self.decoders["past"](state, frames)).flip(0).transpose(0, 1)
            if frames > len(film):
                film = F.cat([film, F.sigmoid(self.decoders["future"](state, frames - len(film)))])
            return film[:frames].transpose(0, 1)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Nats a frame on the test clips, of the frames seen (`nats_past`) and of all after them (`nats_future`).

        No decoder sees a true frame.
        """
        seen, clips, totals = self.config.seen, 0, dict.fromkeys((f"nats_{name}" for name in self.decoders), 0.0)
        with no_grad():
            for batch in clips_of(data, "test", 64):
                clips += batch.shape[1]
                for name, nats in self.losses(batch[:seen], batch[seen:], forced=False).items():
                    totals[name] += nats.item() * batch.shape[1]
        return {**{name: total / clips for name, total in totals.items()}, "test_clips": clips}
