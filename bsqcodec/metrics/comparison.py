"""Two clips, or two stills, frame by frame."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bsqcodec.metrics.flicker import StepError
from bsqcodec.metrics.ms_ssim import ms_ssim, ms_ssim_db
from bsqcodec.metrics.pair import PairError
from bsqcodec.metrics.psnr import mse, psnr_of_mse
from bsqcodec.metrics.ssim import ssim


@dataclass(frozen=True)
class FrameScore:
    """How close one frame is to its reference; None where the frame is too small for a figure.

    step_mse: of how it differs from the frame before, None for the first.
    """

    mse: float
    ssim: float | None
    ms_ssim: float | None
    step_mse: float | None = None

    @property
    def psnr(self) -> float:
        return psnr_of_mse(self.mse)


@dataclass(frozen=True)
class Comparison:
    """The scores of all frames (at least one) and what is reported for the file.

    Two customs exist for the PSNR of a clip, and they differ: the mean over the frames' figures (DCVC), and
    the figure of the mean squared error of all frames (CompressAI). For a still they agree.
    """

    frames: tuple[FrameScore, ...]

    @property
    def psnr(self) -> float:
        """Mean of the frames' PSNR, dB."""
        return sum(frame.psnr for frame in self.frames) / len(self.frames)

    @property
    def psnr_of_mean_mse(self) -> float:
        """PSNR of the mean squared error of all frames, dB."""
        return psnr_of_mse(sum(frame.mse for frame in self.frames) / len(self.frames))

    @property
    def psnr_of_steps(self) -> float | None:
        """PSNR of the differences between each frame and the one before, dB: low where a clip flickers; None
        for a still."""
        steps = _mean([frame.step_mse for frame in self.frames[1:]])
        return None if steps is None else psnr_of_mse(steps)

    @property
    def ssim(self) -> float | None:
        return _mean([frame.ssim for frame in self.frames])

    @property
    def ms_ssim(self) -> float | None:
        return _mean([frame.ms_ssim for frame in self.frames])

    @property
    def ms_ssim_db(self) -> float | None:
        """The mean MS-SSIM, in dB (not the mean of the frames' dB)."""
        return None if self.ms_ssim is None else ms_ssim_db(self.ms_ssim)


def score_frames(reference: Iterable[np.ndarray], other: Iterable[np.ndarray]) -> Iterator[FrameScore]:
    """Yield the scores of each pair of H x W x 3 uint8 frames, holding one pair in memory.

    Raises PairError where two frames differ in size, and at the end where one side has frames left.
    """
    left, right = iter(reference), iter(other)
    pairs, steps = 0, StepError()
    for frame in left:
        partner = next(right, None)
        if partner is None:
            raise _counts_differ(pairs + 1 + _count(left), pairs)
        error = mse(frame, partner)
        yield FrameScore(error, ssim(frame, partner), ms_ssim(frame, partner), steps(frame, partner))
        pairs += 1
    surplus = _count(right)
    if surplus:
        raise _counts_differ(pairs, pairs + surplus)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _count(rest: Iterator[np.ndarray]) -> int:
    return sum(1 for _ in rest)


def _counts_differ(reference: int, other: int) -> PairError:
    return PairError(f"frame counts differ: {reference} and {other}")
