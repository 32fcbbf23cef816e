"""Multi-scale structural similarity (Wang et al. 2003), as pytorch-msssim computes it."""

import math

import numpy as np
import pytorch_msssim
import torch

from bsqcodec.metrics.pair import check_pair
from bsqcodec.metrics.ssim import WINDOW, planes

SCALES = 5
SMALLEST_SIDE = (WINDOW - 1) * 2 ** (SCALES - 1) + 1


def ms_ssim(reference: np.ndarray, picture: np.ndarray) -> float | None:
    """MS-SSIM, linear, at most 1; None where a side is shorter than the 161 pixels that five scales need.

    The published weights, R'G'B' channels averaged. InputError where the shapes differ.
    """
    check_pair(reference, picture)
    if min(reference.shape[:2]) < SMALLEST_SIDE:
        return None
    with torch.inference_mode():
        value = pytorch_msssim.ms_ssim(planes(reference), planes(picture), data_range=255, win_size=WINDOW)
    return float(value)


def ms_ssim_db(value: float) -> float:
    """-10 log10(1 - MS-SSIM): the scale on which codecs are compared; infinite at 1."""
    return math.inf if value >= 1 else -10 * math.log10(1 - value)
