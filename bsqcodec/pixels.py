"""Frames as users have them (numpy, uint8) and as networks have them (torch, 0..1).

# B = 1 · T frames · C = 3 · H, W pixels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]


def to_tensor(frames: Sequence[Pixels], device: torch.device) -> Tensor:
    """H x W x 3 uint8 frames as (1, T, 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2)[None].float() / 255


def to_pixels(frames_TCHW: Tensor) -> list[Pixels]:
    """Frames around 0..1, clamped and rounded to H x W x 3 uint8 each."""
    y_TCHW = frames_TCHW.clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(y_TCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def pad(x: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column until frames (..., H, W) are height x width."""
    rows = torch.arange(height, device=x.device).clamp(max=x.shape[-2] - 1)
    columns = torch.arange(width, device=x.device).clamp(max=x.shape[-1] - 1)
    return x[..., rows, :][..., columns]
