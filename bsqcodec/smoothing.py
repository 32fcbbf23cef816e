"""Smoothing in time, behind the decoder: flicker is taken from what hardly changes.

Every frame is drawn towards the two beside it in its GOP, most where the pictures around a pixel are alike:
there what differs is what two codings of the same thing left over. All in integers; section 8 of FORMAT.md
has the filter.

# H, W pixels · C = 3
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from bsqcodec.distortion import distortion, weights_for
from bsqcodec.pixels import Pixels, to_tensor

_SIDE = 5
_SUMMED = 3 * _SIDE**2  # numbers that make the difference around a pixel
_SHARE = 64  # of 256: what a frame takes from one that is the same around a pixel

_Pull = npt.NDArray[np.int16]


def shares(strength: int) -> npt.NDArray[np.int16]:
    """What a frame takes from a neighbour, in 1/256 of their difference, by the sum s of the differences
    around: Tukey's biweight, 64 (1 - (s / end)^2)^2, and 0 from end = 75 * strength on.

    strength: 1..32, beyond which 16 bits do not hold everything.
    """
    end = _SUMMED * strength
    sums = np.arange(_SUMMED * 255 + 1, dtype=np.int64).clip(max=end)
    left = end**2 - sums**2
    return ((2 * _SHARE * left**2 + end**4) // (2 * end**4)).astype(np.int16)


def difference(before: Pixels, after: Pixels) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Of two frames, H x W x 3, and the sum of its magnitudes around every pixel, H x W; beyond the border
    stands what is there."""
    found = np.subtract(after, before, dtype=np.int16)
    size = np.abs(found)
    size = size[..., 0] + size[..., 1] + size[..., 2]
    for axis in range(2):
        size = _summed(size, axis)
    return found, size


def _summed(x: npt.NDArray[np.int16], axis: int) -> npt.NDArray[np.int16]:
    padded = np.pad(x, [(_SIDE // 2, _SIDE // 2) if a == axis else (0, 0) for a in range(2)], mode="edge")
    length = x.shape[axis]
    total = padded.take(range(length), axis)
    for shift in range(1, _SIDE):
        total += padded[(slice(None),) * axis + (slice(shift, shift + length),)]
    return total


class Smoother:
    """Smooths the frames of a GOP, each once the next one is there."""

    def __init__(self, strength: int) -> None:
        self._shares = shares(strength)
        self._held: Pixels | None = None
        self._before: _Pull | None = None

    def push(self, frame: Pixels) -> Pixels | None:
        """Take the next frame, and give the one before it. A frame that was given is nobody else's."""
        held, self._held = self._held, frame
        if held is None:
            return None
        after = pull(*difference(held, frame), self._shares)
        found = drawn(held, self._before, after)
        self._before = after
        return found

    def end(self) -> list[Pixels]:
        """The last frame, if there is one that was not given."""
        held, self._held = self._held, None
        return [] if held is None else [drawn(held, self._before, None)]


def pull(
    difference_HWC: npt.NDArray[np.int16], sums_HW: npt.NDArray[np.int16], shares_S: npt.NDArray[np.int16]
) -> _Pull:
    """What two frames take from each other, in 1/256."""
    return shares_S.take(sums_HW)[..., None] * difference_HWC


def drawn(frame: Pixels, before: _Pull | None, after: _Pull | None) -> Pixels:
    """A frame with what it takes from the frames before and after it, rounded to the nearest, halves up."""
    total = np.full(frame.shape, 128, np.int16)
    if after is not None:
        total += after
    if before is not None:
        total -= before
    total >>= 8
    total += frame
    return total.astype(np.uint8)


class SmoothingChoice:
    """The strength that brings the frames of a GOP nearest to their source, by D (see `distortion`) of some.

    STRENGTHS: what is tried beside 0. FIRST, EVERY: this frame and every so many-th after it are tried: not
    those right after a key frame, which are better than most, and not always the same one of a tube.
    """

    STRENGTHS = (6, 10, 16, 28)
    FIRST, EVERY = 6, 25

    def __init__(self) -> None:
        self._shares = [shares(strength) for strength in self.STRENGTHS]
        self._shown: list[Pixels] = []
        self._source: Pixels | None = None  # of the last one shown
        self._count = 0
        self._lost = [0.0] * (1 + len(self.STRENGTHS))

    def add(self, shown: Sequence[Pixels] | None, frames: Sequence[Pixels]) -> None:
        """The next frames of the GOP as they should be, and as they are decoded: so many or more, none where
        that is not known, None where the last one is shown again."""
        if shown is None:
            shown = self._shown[-1:] * len(frames)
        for pixels, source in zip(shown, frames, strict=False):
            if self._count % self.EVERY == self.FIRST + 1:  # once there is the frame after it
                self._try(self._shown[0], self._shown[1], pixels)
            self._shown, self._source = [*self._shown[-1:], pixels], source
            self._count += 1

    def _try(self, before: Pixels, frame: Pixels, after: Pixels) -> None:
        assert self._source is not None
        sides = difference(before, frame), difference(frame, after)
        found = (drawn(frame, *(pull(*side, shares_S) for side in sides)) for shares_S in self._shares)
        cpu = torch.device("cpu")
        x_BCHW = to_tensor([self._source], cpu)[0]
        for number, pixels in enumerate(chain([frame], found)):
            lost_B, _ = distortion(to_tensor([pixels], cpu)[0], x_BCHW, weights_for(*x_BCHW.shape[-2:]))
            self._lost[number] += float(lost_B)

    def best(self) -> int:
        """0 where none helps."""
        return (0, *self.STRENGTHS)[self._lost.index(min(self._lost))]
