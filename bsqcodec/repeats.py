"""Whether a tube is worth coding, or shows the frame before it once more.

# T frames of a tube · C = 3 R'G'B' · H, W pixels; h, w cells
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from bsqcodec.synthesis import Judgement

CELL = 16
"""Pixels along a side of the cells that are watched for motion: a blink or a mouth fills some of them."""

SHIFT_WEIGHT = 10.0
"""Of a cell's mean against its pixels, as in `distortion`: a slow fade shows in steps long before its squared
error counts for anything beside noise."""

ERROR_SHARE, ERROR_FLOOR, ERROR_CEILING = 0.25, 6e-4, 1e-3
"""By how much the error of a cell may grow while its picture stands still: a share of the error that it has
anyway, and a little more, but never beyond the ceiling (8 of 255). Where a camera stands still, at q 5,
hands, eyelids and a splashing drop make the squared error of some cell grow by .002 to .02; Gaussian noise of
8 of 255 stays below. With .5 and .0015 a bright line that drifts by a sixth of a pixel a frame stood still
and jumped."""

SHOWN_AGAIN = 1.5
"""Tubes that a picture is taken to be shown for once it stands still. With 1, repeats of one that a single
tube would have improved for all that follow cost more than they save: the sample picture for 17 frames at q 8
had J .0213, and .0188 without repeats."""


def cell_errors(y_TCHW: Tensor, x_TCHW: Tensor) -> Tensor:
    """Squared error by frame and cell, (T, h, w), with the shift of the cell's mean weighted more."""
    difference = y_TCHW - x_TCHW
    mse_T1hw = F.avg_pool2d(difference.square().mean(1, keepdim=True), CELL, ceil_mode=True)
    shift_T1hw = F.avg_pool2d(difference, CELL, ceil_mode=True).square().mean(1, keepdim=True)
    return (mse_T1hw + SHIFT_WEIGHT * shift_T1hw)[:, 0]


def stands_still(errors_Thw: Tensor, before_1hw: Tensor) -> bool:
    """Whether a picture can be shown for these frames without anything seen to stop that moves.

    errors_Thw: of the picture against each of the frames; before_1hw: against the frame that it was made for.
    D of whole frames does not tell: a frame that is repeated while hands move in a tenth of it, and then
    jumps, has the lower J.
    """
    allowed = (ERROR_SHARE * before_1hw + ERROR_FLOOR).clamp(max=ERROR_CEILING)
    return bool((errors_Thw - before_1hw <= allowed).all())


class RepeatChoice:
    """Decides for every tube in which nothing moves, by J = D + lambda * R, whether it repeats the frame
    before it."""

    def __init__(self, lagrangian: float) -> None:
        self._lagrangian = lagrangian / SHOWN_AGAIN
        self._known = 0.0

    def is_sure(self, repeat: Judgement) -> bool:
        """Whether the repeat wins without the tube being coded: one that was no better did, from the same
        memory."""
        return repeat.distortion <= self._known

    def wins(self, repeat: Judgement, coded: Judgement) -> bool:
        """Whether the repeat is to be taken."""
        if repeat.cost(self._lagrangian) > coded.cost(self._lagrangian):
            return False
        self._known = max(self._known, repeat.distortion)
        return True

    def begin(self) -> None:
        """A block was coded: repeats show another frame from now on."""
        self._known = 0.0
