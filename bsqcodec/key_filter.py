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
from bsqcodec.tokenizer import motion
from bsqcodec.tokenizer.config import CELL
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
def drawn(frame_CHW: Tensor, others_CHW: Iterable[Tensor], height: int, width: int) -> Drawn:
    """What other frames say of one. 0..1, sides multiples of 32. height, width: rows and columns that count;
    what lies beyond says nothing."""
    found = Drawn(torch.zeros_like(frame_CHW[:1]), torch.zeros_like(frame_CHW))
    price_B = torch.tensor([LAGRANGIAN], device=frame_CHW.device)
    form = TubeForm(1)
    for other_CHW in others_CHW:
        before = other_CHW.float()[None]
        vectors_1hw12 = search(frame_CHW[None, None], before, price_B, 1)
        moved_CHW = motion.compensate(before, vectors_1hw12, form)[0, 0]
        error_1HW = (moved_CHW - frame_CHW).square().mean(0, keepdim=True)
        error_1HW = F.avg_pool2d(error_1HW[None], SIDE, 1, SIDE // 2, count_include_pad=False)[0]
        seen_HW = _seen(motion.in_frames(vectors_1hw12, form)[0, 0], height, width)
        weight_1HW = STRENGTH * seen_HW * torch.exp(-error_1HW / (2 * DEVIATION**2))
        found = found | Drawn(weight_1HW, weight_1HW * moved_CHW)
    return found


def _seen(moves_hw2: Tensor, height: int, width: int) -> Tensor:
    """Whether what moves so, in pixels, comes from inside a frame of this size: (H, W), bool."""
    moves_HW2 = moves_hw2.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    inside = []
    for axis, size in enumerate((height, width)):
        line = torch.arange(moves_HW2.shape[axis], device=moves_HW2.device)
        place_HW = moves_HW2[..., axis] + (line[:, None] if axis == 0 else line)
        inside.append((place_HW >= 0) & (place_HW <= size - 1))
    return inside[0] & inside[1]


def filtered(frame_CHW: Tensor, others: Drawn) -> Tensor:
    """The frame with what the others say of it."""
    return (frame_CHW + others.pixels_CHW) / (1 + others.weight_1HW)
