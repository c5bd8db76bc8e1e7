"""Optimizers."""

from tinygen.optim.adam import Adam, AdamW
from tinygen.optim.averaging import EMA
from tinygen.optim.optimizer import Optimizer
from tinygen.optim.sgd import SGD

__all__ = ["EMA", "SGD", "Adam", "AdamW", "Optimizer"]
