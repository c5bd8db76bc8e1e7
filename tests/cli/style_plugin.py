"""A plugin for the tests of stylize: painters whose results are told by a glance, and faults."""

from dataclasses import dataclass
from typing import Literal

from tinygen import tensor
from tinygen.autograd import no_grad
from tinygen.errors import UsageError
from tinygen.host import AlgorithmSpec, Step, Stylizer, Trainable, hookimpl


@dataclass(frozen=True)
class Config:
    """Options of all of them."""

    shade: float = 0.5
    """Where the picture goes without a painting."""
    rounds: int = 3
    """Pictures on the way."""
    fault: str = ""
    """What goes wrong."""


@dataclass(frozen=True)
class OwnConfig(Config):
    """With a strength and a way with colours of its own."""

    strength: float = 1.0
    """Of the painting."""
    keep_colour: Literal["no", "luminance", "swap"] = "no"
    """What happens to the colours."""


class Tint(Stylizer):
    """From the photograph to the mean of the first painting's colours, in equal steps."""

    def __init__(self, config, data, random):
        self.config = config

    def stages(self, content):
        return self.config.rounds

    def stylize(self, content, style):
        fault = self.config.fault
        if fault == "no style" and not style:
            raise UsageError("tint: a painting is needed", "name one with --style FILE")
        goal = style[0].mean((1, 2), keepdim=True) if style else self.config.shade
        for step in range(1, self.config.rounds + 1):
            if fault == "nothing":
                return
            if fault == "interrupt" and step == 3:
                raise KeyboardInterrupt
            if fault == "interrupt at once":
                raise KeyboardInterrupt
            share = step / self.config.rounds
            picture = content * (1 - share) + goal * share
            yield {"small": picture[:, 1:], "not finite": picture / 0.0}.get(fault, picture)


class OwnTint(Tint):
    """Its own strength; swap exchanges red and blue."""

    def stylize(self, content, style):
        for picture in super().stylize(content, style):
            mixed = content + (picture - content) * self.config.strength
            yield mixed.flip(0) if self.config.keep_colour == "swap" else mixed


class Learner(Trainable, Tint):
    """Learns one shade, on images of any size."""

    def __init__(self, config, data, random):
        self.config, self.learnt = config, tensor([0.0])

    def fit(self, batches):
        for images, _ in batches:
            with no_grad():
                self.learnt = images.mean().reshape(1)
            yield Step({"shade": self.learnt})

    def stages(self, content):
        return 1

    def stylize(self, content, style):
        yield content * 0.0 + self.learnt.reshape(1, 1, 1)


def _spec(name, factory, *verbs, config="Config"):
    return AlgorithmSpec(
        name=name, family="toys", summary=f"{name}, for tests", factory=f"style_plugin:{factory}",
        config=f"style_plugin:{config}", verbs=verbs,
    )  # fmt: skip


@hookimpl
def tinygen_algorithms():
    return [
        _spec("tint", "Tint", "stylize"),
        _spec("owntint", "OwnTint", "stylize", config="OwnConfig"),
        _spec("learner", "Learner", "train", "stylize"),
    ]
