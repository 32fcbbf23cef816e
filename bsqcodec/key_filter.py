"""Filter in time for key frames before they are coded: a picture that a whole GOP draws on should be free of
noise.

A key frame is drawn towards the frames that follow it, each moved to where it is (motion_search.py), most
where they agree (Enhorn et al., Encoder-only GOP-based temporal filter, JVET-O0549, 2019).

# C = 3 · H, W pixels
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.blocks import TubeForm
from bsqcodec.tokenizer.motion import compensate
from bsqcodec.tokenizer.motion_search import search

FRAMES = 4
"""That follow a key frame and are looked at: with 8 J of GOPs is no lower by more than a tenth of what these
bring (training/LOG.md)."""

STRENGTH = 0.5
"""What a frame counts that is the same, beside the key frame's 1."""

DEVIATION = 12 / 255
"""Root of the mean squared difference, in squares of SIDE pixels, at which a frame counts .61 of that."""

SIDE = 9

LAGRANGIAN = 0.02
"""For the search: vectors are not coded, but without a price on them they follow noise."""


class Drawn(NamedTuple):
    """Sums over frames: of their weights, (1, H, W), and of their weighted pixels, (C, H, W)."""

    weight_1HW: Tensor
    pixels_CHW: Tensor

    def __or__(self, other: Drawn) -> Drawn:
        return Drawn(self.weight_1HW + other.weight_1HW, self.pixels_CHW + other.pixels_CHW)


@torch.no_grad()
def drawn(frame_CHW: Tensor, others_CHW: Iterable[Tensor]) -> Drawn:
    """What other frames say of one, with what compensation has beyond their borders: files are no smaller
    without that (training/LOG.md). 0..1, sides multiples of 32."""
    found = Drawn(torch.zeros_like(frame_CHW[:1]), torch.zeros_like(frame_CHW))
    price_B = torch.tensor([LAGRANGIAN], device=frame_CHW.device)
    for other_CHW in others_CHW:
        before = other_CHW.float()[None]
        moved_CHW = compensate(before, search(frame_CHW[None, None], before, price_B, 1), TubeForm(1))[0, 0]
        error_1HW = (moved_CHW - frame_CHW).square().mean(0, keepdim=True)
        error_1HW = F.avg_pool2d(error_1HW[None], SIDE, 1, SIDE // 2, count_include_pad=False)[0]
        weight_1HW = STRENGTH * torch.exp(-error_1HW / (2 * DEVIATION**2))
        found = found | Drawn(weight_1HW, weight_1HW * moved_CHW)
    return found


def filtered(frame_CHW: Tensor, others: Drawn) -> Tensor:
    """The frame with what the others say of it."""
    return (frame_CHW + others.pixels_CHW) / (1 + others.weight_1HW)
