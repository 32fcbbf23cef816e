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


def to_tensor(frames: Sequence[Pixels], device: torch.device, size: tuple[int, int] | None = None) -> Tensor:
    """H x W x 3 uint8 frames as (1, T, 3, H, W) float32 in 0..1. size: H and W, if not the frames' own: the
    last row and column are repeated until frames have them."""
    x_THWC = np.stack(frames)
    if size is not None:
        rows, columns = (more - less for more, less in zip(size, x_THWC.shape[1:3], strict=True))
        x_THWC = np.pad(x_THWC, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
    return torch.from_numpy(x_THWC).to(device).permute(0, 3, 1, 2)[None].float() / 255


def to_pixels(frames_TCHW: Tensor) -> list[Pixels]:
    """Frames around 0..1, clamped and rounded to H x W x 3 uint8 each."""
    y_TCHW = frames_TCHW.clamp(0, 1).mul(255).round().to(torch.uint8)
    return list(y_TCHW.permute(0, 2, 3, 1).contiguous().cpu().numpy())
