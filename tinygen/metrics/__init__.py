"""Figures that tell how good images are. They take arrays of one backend."""

from tinygen.metrics.classes import class_balance
from tinygen.metrics.frechet import frechet_distance
from tinygen.metrics.interval import mean_interval
from tinygen.metrics.kernel import kernel_distance
from tinygen.metrics.likelihood import bits_per_dim, nats_per_image
from tinygen.metrics.neighbours import nearest_neighbours, precision_recall
from tinygen.metrics.parzen import parzen_figures, parzen_log_likelihood
from tinygen.metrics.quality import global_ssim, mse, psnr, ssim

__all__ = [
    "bits_per_dim",
    "class_balance",
    "frechet_distance",
    "global_ssim",
    "kernel_distance",
    "mean_interval",
    "mse",
    "nats_per_image",
    "nearest_neighbours",
    "parzen_figures",
    "parzen_log_likelihood",
    "precision_recall",
    "psnr",
    "ssim",
]
