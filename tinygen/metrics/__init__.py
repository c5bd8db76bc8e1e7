"""Figures that tell how good images are. They take arrays of one backend."""

from tinygen.metrics.frechet import frechet_distance
from tinygen.metrics.parzen import parzen_log_likelihood
from tinygen.metrics.quality import global_ssim, mse, psnr, ssim

__all__ = ["frechet_distance", "global_ssim", "mse", "parzen_log_likelihood", "psnr", "ssim"]
