"""Errors beside what hides them: what the eye sees of noise in flat areas, where MS-SSIM does not look.

# B batch · C = 3 R'G'B' · H, W pixels; pixels in 0..1
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

GRAIN = 2 / 255
"""Deviation from one pixel to the next that is seen where nothing else is."""


def relative_error(y_BCHW: Tensor, x_BCHW: Tensor) -> Tensor:
    """Squared error as a share of itself and what hides it, the source's variance around; (B,), 0..1. Grain
    of a step or two in flat areas, which MS-SSIM does not see, counts as much as errors in texture."""
    hidden = F.avg_pool2d(x_BCHW.square(), 9, 1, 4, count_include_pad=False)
    hidden = (hidden - F.avg_pool2d(x_BCHW, 9, 1, 4, count_include_pad=False).square()).clamp(min=0)
    error = (y_BCHW - x_BCHW).square()
    return (error / (error + hidden + GRAIN**2)).mean((1, 2, 3))
