"""Distortion that the tokenizer is trained for, and that the encoder's search lowers.

# B batch · C = 3 R'G'B' · H, W pixels; pixels in 0..1
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor
from torch.nn import functional as F

_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


SLOW_FACTOR = 8
"""Reduction of the picture on which slow shifts of brightness and colour are judged."""


@dataclass(frozen=True)
class DistortionWeights:
    """Shares of the terms of `distortion`; the same names stand in the recipes."""

    ms_ssim: float = 1.0
    mse: float = 4.0
    l1: float = 0.0
    luma_8: float = 10.0
    chroma_8: float = 30.0


SMALLEST_MS_SSIM = 161
"""Five scales of MS-SSIM need both sides at least this long; smaller frames are judged by squared error
alone."""


def weights_for(height: int, width: int) -> DistortionWeights:
    """The usual weights, without the terms for which frames of this size are too small."""
    usual, side = DistortionWeights(), min(height, width)
    return DistortionWeights(
        ms_ssim=usual.ms_ssim * (side >= SMALLEST_MS_SSIM),
        mse=usual.mse,
        luma_8=usual.luma_8 * (side >= SLOW_FACTOR),
        chroma_8=usual.chroma_8 * (side >= SLOW_FACTOR),
    )


def reduced_ycbcr(x_BCHW: Tensor, factor: int = SLOW_FACTOR) -> Tensor:
    """Y'CbCr (BT.601, full range) of the picture reduced by box averaging, (B, 3, H/f, W/f)."""
    matrix = torch.tensor(_TO_YCBCR, dtype=x_BCHW.dtype, device=x_BCHW.device)
    return torch.einsum("kc,bchw->bkhw", matrix, F.avg_pool2d(x_BCHW, factor))


def distortion(
    y_BCHW: Tensor, x_BCHW: Tensor, weights: DistortionWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Per-sample distortion, (B,), and its parts: 1 - MS-SSIM, MSE, L1, and the MSE of the 8x reduced Y'CbCr
    picture (MS-SSIM hardly sees slow shifts of colour). y is clamped gently for MS-SSIM, so that gradients
    survive near 0 and 1. Autocast is switched off here: filters in bf16 make MS-SSIM meaningless."""
    with torch.autocast(y_BCHW.device.type, enabled=False):
        return _distortion(y_BCHW, x_BCHW, weights)


def _distortion(
    y_BCHW: Tensor, x_BCHW: Tensor, weights: DistortionWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    mse = (y_BCHW - x_BCHW).square().mean((1, 2, 3))
    none = torch.zeros_like(mse)
    ssim, slow = none, torch.stack([none] * 3, 1)
    if weights.ms_ssim:
        # Depthwise filters over channels-last pixels take a third of the time on a CPU.
        order = torch.channels_last if y_BCHW.device.type == "cpu" else torch.contiguous_format
        y, x = y_BCHW.clamp(-0.2, 1.2).contiguous(memory_format=order), x_BCHW.contiguous(memory_format=order)
        ssim = 1 - ms_ssim(y, x, data_range=1.0, size_average=False)
    if weights.luma_8 or weights.chroma_8:
        slow = (reduced_ycbcr(y_BCHW) - reduced_ycbcr(x_BCHW)).square().mean((2, 3))
    luma, chroma = slow[:, 0], slow[:, 1:].mean(1)
    total = weights.ms_ssim * ssim + weights.mse * mse + weights.luma_8 * luma + weights.chroma_8 * chroma
    if weights.l1:
        total = total + weights.l1 * (y_BCHW - x_BCHW).abs().mean((1, 2, 3))
    return total, {"ms_ssim_loss": ssim.mean(), "mse": mse.mean(), "chroma_8": chroma.mean()}
