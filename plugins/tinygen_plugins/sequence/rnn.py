r"""A simple recurrent network for films (Elman 1990), which predicts each frame from those before it.

The network looks at a frame x_t at a time, and keeps what it has to remember in a hidden state h_t:

    h_t = tanh(W_x φ(x_t) + W_h h_{t−1} + b),   y_t = ψ(h_t),   p(x_{t+1} | x_1 … x_t) = Bernoulli(σ(y_t)) by pixel.

φ and ψ are small: blocks of 4 × 4 pixels through one convolution on the way in, and the same way back on the way out.
While the network reads the film itself, every prediction is one frame ahead (teacher forcing). To make a film it reads
its own predictions, and errors add up; the last `free` frames of a training clip are therefore predicted in that way,
too, and the gradient runs back through all of it: through h, and through the frames that the network has made.

Read from the equations down: `unroll` is the recurrence, and `fit` backpropagation through time (Werbos 1990).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tinygen.functional as F
from tinygen import nn, optim
from tinygen.autograd import Tensor, no_grad
from tinygen.data import Batches, Dataset, DataSpec
from tinygen.host import Animator, Evaluable, Step, Trainable, check_range, equation
from tinygen.random import Stream
from tinygen_plugins.sequence._films import Beginnings, check_clips, clips_of

BLOCK = 4  # a block of 4 × 4 pixels is a pixel of 16 channels to the convolutions
PATCH = 2 * BLOCK  # what the sides of frames are multiples of
DARK = -3.0  # the logit that pixels begin with: most of a film is background


@dataclass(frozen=True)
class Config:
    """Options of the network and of its training."""

    steps: int = 3000
    """updates to train for"""
    batch_size: int = 16
    """clips in a batch"""
    hidden: int = 512
    """units of the hidden state h"""
    channels: int = 64
    """features of a patch of 8 × 8 pixels"""
    seen: int = 10
    """frames that are given before the network goes on by itself, in films and in `evaluate`"""
    free: int = 10
    """frames at the end of a training clip that are predicted from predictions; 0 for teacher forcing throughout"""
    truncate: int = 0
    """frames that a gradient runs back before it is cut, about; 0 for never"""
    lr: float = 1e-3
    """Adam's learning rate at the first step; it falls in a straight line, nearly to 0 at the last"""
    clip: float = 100.0
    """longest gradient, as a vector of all parameters; longer ones are shortened to it"""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("steps", 1, 10**9), ("batch_size", 1, 10**6), ("hidden", 1, 10**5),
            ("channels", 1, 10**4), ("seen", 1, 10**4),
            ("free", 0, 10**4), ("truncate", 0, 10**4), ("lr", 1e-9, 1.0), ("clip", 1e-6, 1e9),
        ):  # fmt: skip
            check_range("rnn", name, getattr(self, name), low, high)


# ---------------------------------------------------------------- equations


@equation(r"h_t = \tanh(W_x \varphi(x_t) + W_h h_{t-1} + b)", source="Elman 1990")
def hidden_state(seen: Tensor, h: Tensor, w_h: Tensor) -> Tensor:
    """The state (n, d) after a frame, from W_x φ(x) + b (n, d), the state h (n, d) before it, and W_h (d, d)."""
    return F.tanh(seen + F.linear(h, w_h))


@equation(
    r"\mathcal{L} = -\frac1T \sum_{t=1}^{T} \sum_i \left[x_{t+1,i} \log \sigma(y_{t,i})"
    r" + (1 - x_{t+1,i}) \log(1 - \sigma(y_{t,i}))\right]",
    source="minus the log-probability of the frames under p(x_{t+1} | x_1 … x_t) = ∏ Bernoulli(σ(y_t))",
)
def nats_a_frame(logits: Tensor, frames: Tensor) -> Tensor:
    """The cross-entropy of frames (t, n, c, h, w) in [0, 1] under logits of that shape: summed over the pixels of a
    frame, and a mean over frames. A tensor without dimensions."""
    return F.binary_cross_entropy_with_logits(logits, frames, reduction="sum") / (len(frames) * frames.shape[1])


# ---------------------------------------------------------------- the network


class Elman(nn.Module):
    """Frames (t, n, c, h, w) to the logits of the frames that follow them."""

    def __init__(self, config: Config, shape: tuple[int, int, int], random: Stream) -> None:
        super().__init__()
        c, rows, columns = shape[0], shape[1] // PATCH, shape[2] // PATCH
        blocks, features = c * BLOCK**2, config.channels * rows * columns
        self.look = nn.Sequential(  # φ, and after it W_x and b
            nn.PixelUnshuffle(BLOCK),  # (n, 16 c, h / 4, w / 4)
            nn.Conv2d(blocks, config.channels, 4, 2, 1, random=random.child("look")),  # (n, channels, h / 8, w / 8)
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(features, config.hidden, random=random.child("input")),
        )
        self.recur = nn.Linear(config.hidden, config.hidden, bias=False, random=random.child("recur"))  # W_h
        self.show = nn.Sequential(  # ψ
            nn.Linear(config.hidden, features, random=random.child("output")),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (config.channels, rows, columns)),
            nn.ConvTranspose2d(config.channels, blocks, 4, 2, 1, random=random.child("show")),
            nn.PixelShuffle(BLOCK),  # (n, c, h, w)
        )
        dict(self.show.named_parameters())["3.bias"].data += DARK

    def unroll(self, frames: Tensor, h: Tensor, free: int = 0, truncate: int = 0) -> Tensor:
        """Read frames (t, n, c, h, w), from the state h (n, d) on, and then `free` predictions, one after the other.

        Returns the logits (t + free, n, c, h, w) of the frame after each. Those after frame t depend on frames up to t
        alone. truncate: frames after which the state is cut off from what made it; 0 for never.
        """
        t, n = frames.shape[:2]
        seen = self.look(frames.flatten(0, 1)).reshape(t, n, -1)  # of all frames that are given, in one product
        states = []
        for step in range(t):
            h = hidden_state(seen[step], cut(h, step, truncate), self.recur.weight)
            states.append(h)
        logits = self.show(F.cat(states)).reshape(frames.shape)  # (t n, d) to (t, n, c, h, w)
        predicted = [logits[t - 1]]
        for step in range(t, t + free):
            frame = F.sigmoid(cut(predicted[-1], step, truncate))
            h = hidden_state(self.look(frame), cut(h, step, truncate), self.recur.weight)
            predicted.append(self.show(h))
        return F.cat([logits, F.stack(predicted[1:])]) if free else logits


def cut(state: Tensor, step: int, truncate: int) -> Tensor:
    """The state, and at every `truncate`-th step the state as a constant: no gradient runs back beyond it."""
    return state.detach() if truncate and step % truncate == 0 else state


class RNN(Trainable, Animator, Evaluable):
    """The network on clips of one size."""

    films = True

    def __init__(self, config: Config, data: DataSpec, random: Stream) -> None:
        check_clips("rnn", data, max(config.seen + 1, config.free + 2), PATCH)
        self.config = config
        self.network = Elman(config, data.shape, random.child("network"))
        self.optimizer = optim.Adam(self.network.parameters(), config.lr)
        self.schedule = optim.LambdaLR(self.optimizer, lambda k: max(0.02, 1 - k / config.steps))
        self.beginnings = Beginnings(config.seen, data, config.batch_size)

    def fit(self, batches: Batches) -> Iterator[Step]:
        """Backpropagation through time, over one batch of clips after the other."""
        free = self.config.free
        while True:
            clips = next(batches).images.transpose(0, 1)  # (t, n, c, h, w)
            self.beginnings.keep(clips)
            logits = self.network.unroll(clips[: len(clips) - 1 - free], self.rest(clips), free, self.config.truncate)
            loss = nats_a_frame(logits, clips[1:])
            self.optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(self.network.parameters(), self.config.clip)
            self.optimizer.step()
            self.schedule.step()
            yield Step({"nats_a_frame": loss})

    def rest(self, clips: Tensor) -> Tensor:
        """The state before the first frame of clips (t, n, c, h, w): h = 0, (n, d)."""
        return Tensor(clips.backend.xp.zeros((clips.shape[1], self.config.hidden), clips.dtype))

    def go_on(self, seen: Tensor, frames: int) -> Tensor:
        """The logits (frames, n, c, h, w) of the frames after those seen (t, n, c, h, w)."""
        return self.network.unroll(seen, self.rest(seen), frames - 1)[len(seen) - 1 :]

    def animate(self, frames: int, n: int, random: Stream) -> Tensor:
        """n films (n, frames, c, h, w): the `seen` first frames of a training clip, and then what the network makes of
        them. A film that is no longer than that is the clip's alone."""
        with no_grad():
            film = self.beginnings.draw(n, random)
            if frames > len(film):
                film = F.cat([film, F.sigmoid(self.go_on(film, frames - len(film)))])
            return film[:frames].transpose(0, 1)

    def evaluate(self, data: Dataset, random: Stream) -> dict[str, float]:
        """Nats a frame on the test clips: of all frames after the `seen` ones, from predictions (`nats_a_frame`), and
        of the same frames each from all true ones before it (`nats_next_frame`)."""
        seen, scores, clips = self.config.seen, [0.0, 0.0], 0
        with no_grad():
            for batch in clips_of(data, "test", 64):
                future = batch[seen:]
                ahead = self.go_on(batch[:seen], len(future))
                next_frame = self.network.unroll(batch[:-1], self.rest(batch))[seen - 1 :]
                clips += batch.shape[1]
                for place, logits in enumerate((ahead, next_frame)):
                    scores[place] += nats_a_frame(logits, future).item() * batch.shape[1]
        return {
            "nats_a_frame": scores[0] / clips, "nats_next_frame": scores[1] / clips, "frames": len(future),
            "test_clips": clips,
        }  # fmt: skip
