"""Optimizers, their schedules, and what is done to gradients and parameters beside them."""

from tinygen.optim.adagrad import Adagrad
from tinygen.optim.adam import Adam, AdamW
from tinygen.optim.averaging import EMA
from tinygen.optim.clipping import clip_grad_norm_, clip_grad_value_
from tinygen.optim.lbfgs import LBFGS
from tinygen.optim.optimizer import Optimizer
from tinygen.optim.rmsprop import RMSprop
from tinygen.optim.schedule import CosineAnnealingLR, LambdaLR, LinearLR, StepLR
from tinygen.optim.sgd import SGD

__all__ = [
    "EMA",
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LambdaLR",
    "LinearLR",
    "Optimizer",
    "RMSprop",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
