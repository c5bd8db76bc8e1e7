"""Layers: objects that hold parameters and call functional."""

from tinygen.nn import init
from tinygen.nn.activation import Flatten, LeakyReLU, ReLU, Sigmoid, Tanh, Unflatten
from tinygen.nn.convolution import Conv2d, ConvTranspose2d
from tinygen.nn.linear import Linear
from tinygen.nn.module import Buffer, Module, Parameter, Sequential
from tinygen.nn.normalization import BatchNorm1d, Dropout

__all__ = [
    "BatchNorm1d",
    "Buffer",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Flatten",
    "LeakyReLU",
    "Linear",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "Unflatten",
    "init",
]
