"""Structural similarity (Wang et al. 2004) as pytorch-msssim computes it, like most codec papers."""

import numpy as np
import pytorch_msssim
import torch
from torch import Tensor

from bsqcodec.metrics.pair import check_pair

# B one picture · C channels · H, W pixels

WINDOW = 11


def planes(picture: np.ndarray) -> Tensor:
    """H x W x 3 uint8 as float32 BCHW on the scale 0..255."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)


def ssim(reference: np.ndarray, picture: np.ndarray) -> float | None:
    """SSIM, mean over channels and pixels, at most 1; None where a side is shorter than the window.

    Gaussian window of 11 x 11, sigma 1.5, no padding. InputError where the shapes differ.
    """
    check_pair(reference, picture)
    if min(reference.shape[:2]) < WINDOW:
        return None
    with torch.inference_mode():
        value = pytorch_msssim.ssim(planes(reference), planes(picture), data_range=255, win_size=WINDOW)
    return float(value)
