"""Peak signal-to-noise ratio over the three channels R'G'B'."""

import math

import numpy as np

from bsqcodec.metrics.pair import check_pair

PEAK = 255.0


def mse(reference: np.ndarray, picture: np.ndarray) -> float:
    """Mean squared error over all pixels and channels, summed exactly; InputError where the shapes differ."""
    check_pair(reference, picture)
    difference = reference.astype(np.int32) - picture
    return int(np.square(difference).sum(dtype=np.int64)) / int(difference.size)


def psnr_of_mse(error: float) -> float:
    """dB of a mean squared error on the scale 0..255; infinite at 0."""
    return math.inf if error == 0 else 10 * math.log10(PEAK**2 / error)


def psnr(reference: np.ndarray, picture: np.ndarray) -> float:
    """PSNR-RGB in dB, infinite for equal pictures; InputError where the shapes differ."""
    return psnr_of_mse(mse(reference, picture))
