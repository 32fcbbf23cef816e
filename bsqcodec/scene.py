"""Cuts between scenes, where a key frame pays: found frame by frame, without looking ahead."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from PIL import Image

REDUCTION = 8
SMALLEST_CHANGE = 0.06
"""Mean change of the reduced luma, of 0..1, below which nothing is a cut."""
TIMES_THE_USUAL = 3.0
"""And how many times the largest of the last changes it must be: a pan is fast in every frame."""
REMEMBERED = 4


class CutDetector:
    """Tells whether a frame begins a new scene."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None
        self._changes: deque[float] = deque(maxlen=REMEMBERED)

    def is_cut(self, pixels: npt.NDArray[np.uint8]) -> bool:
        """Whether this frame, H x W x 3 R'G'B', shows another scene than the one before it. Frames must come
        one by one, in order; the first two are no cuts."""
        luma, last = _reduced(pixels), self._last
        self._last = luma
        if last is None:
            return False
        change = float(np.abs(luma - last).mean())
        usual = max(self._changes, default=1.0)
        cut = change > SMALLEST_CHANGE and change > TIMES_THE_USUAL * usual
        self._changes.append(change)
        return cut


def _reduced(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Luma, 0..1, of the picture reduced by box averaging, (H/8, W/8); of smaller pictures as it is."""
    picture = Image.fromarray(pixels)
    if min(picture.size) >= 4 * REDUCTION:
        picture = picture.reduce(REDUCTION)
    return np.asarray(picture.convert("L"), np.float32) / np.float32(255)
