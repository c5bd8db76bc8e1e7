"""What a causal network need not compute again: the inputs of its convolutions so far.

Where an output depends on nothing after its own place, what was computed stays right while later pixels are filled in.
So each convolution keeps what it was given; called with the next few columns alone, it finds the rest of its window
here. An image then costs about one run of the network, where a run for each pixel would cost as many as it has pixels.
"""

from __future__ import annotations

from typing import Protocol

import tinygen
from tinygen.autograd import Tensor


class Causal(Protocol):
    """A convolution that sees `above` rows above its own, and `side` columns to both sides."""

    above: int
    side: int


class Memory:
    """The inputs of each layer of a network on images of one size. It is run on columns start … stop of row i, rows in
    order; a layer is either given whole rows or one column after the other."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.inputs: dict[Causal, Tensor] = {}  # (n, c, above + h, side + w + side)
        self.first: Causal | None = None  # the layer that was called first for these columns

    def at(self, i: int, start: int, stop: int) -> Memory:
        """Go on to these columns."""
        self.i, self.start, self.stop, self.first = i, start, stop, None
        return self

    def window(self, layer: Causal, x: Tensor) -> Tensor:
        """Keep x (n, c, 1, stop − start), and give what the layer's outputs there depend on:
        (n, c, above + 1, side + stop − start + side)."""
        above, side, self.first = layer.above, layer.side, self.first or layer
        if layer not in self.inputs:
            size = (*x.shape[:2], above + self.height, side + self.width + side)
            self.inputs[layer] = tinygen.zeros(size, dtype=x.dtype)
        kept, last = self.inputs[layer], self.i + above
        kept[:, :, last : last + 1, self.start + side : self.stop + side] = x
        return kept[:, :, self.i : last + 1, self.start : self.stop + 2 * side]

    def correct(self, image: Tensor) -> None:
        """Tell the first layer, which was given the image there before it was drawn, what it is now."""
        assert self.first is not None
        self.window(self.first, image)
