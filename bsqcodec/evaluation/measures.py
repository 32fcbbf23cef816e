"""What is measured on each frame, and how frames become a clip's figures and clips a set's."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bsqcodec.metrics.ciede2000 import ciede2000
from bsqcodec.metrics.ms_ssim import ms_ssim_db
from bsqcodec.metrics.psnr import mse, psnr_of_mse
from bsqcodec.metrics.psnr_yuv import psnr_yuv
from bsqcodec.metrics.structure import structure

MEASURES_VERSION = 2
"""Raised when a figure below is new or means something else: results cached with another are not used."""

LOSSLESS_DB = 100.0
"""What a frame without any error counts as in a mean of dB."""


class Measure(Enum):
    """The quantities of a point; `value` is their name in tables and files."""

    PSNR_RGB = "psnr_rgb"
    PSNR_RGB_CLIP = "psnr_rgb_clip"
    PSNR_YUV = "psnr_yuv"
    PSNR_STEPS = "psnr_steps"
    SSIM = "ssim"
    MS_SSIM = "ms_ssim"
    MS_SSIM_DB = "ms_ssim_db"
    CIEDE2000 = "ciede2000"
    LPIPS = "lpips"
    VMAF = "vmaf"

    @property
    def label(self) -> str:
        return LABELS[self]

    @property
    def better_up(self) -> bool:
        return self not in (Measure.CIEDE2000, Measure.LPIPS)


LABELS = {
    Measure.PSNR_RGB: "PSNR-RGB (dB), mean over frames",
    Measure.PSNR_RGB_CLIP: "PSNR-RGB (dB) of the clip's mean MSE",
    Measure.PSNR_YUV: "PSNR-YUV 6:1:1 (dB)",
    Measure.PSNR_STEPS: "PSNR-RGB (dB) of the differences between frames",
    Measure.SSIM: "SSIM",
    Measure.MS_SSIM: "MS-SSIM",
    Measure.MS_SSIM_DB: "MS-SSIM (dB), -10 log10(1 - mean)",
    Measure.CIEDE2000: "CIEDE2000 at 1/8 size (lower is better)",
    Measure.LPIPS: "LPIPS (lower is better)",
    Measure.VMAF: "VMAF",
}

DRAWN = (
    Measure.PSNR_RGB,
    Measure.PSNR_RGB_CLIP,
    Measure.PSNR_YUV,
    Measure.PSNR_STEPS,
    Measure.SSIM,
    Measure.MS_SSIM_DB,
)
"""Measures that get a curve and a BD-rate whenever they are there, in the order of the tables."""


@dataclass(frozen=True)
class FrameScore:
    """Figures of one decoded frame against its reference; None where it is too small or it was not asked.

    step_mse: of how it differs from the frame before, None for the first.
    """

    mse: float
    psnr_yuv: float
    ssim: float | None
    ms_ssim: float | None
    ciede2000: float
    lpips: float | None = None
    step_mse: float | None = None


FrameMeasure = Callable[[np.ndarray, np.ndarray], float | None]


def score_frame(
    reference: np.ndarray,
    picture: np.ndarray,
    lpips: FrameMeasure | None = None,
    steps: FrameMeasure | None = None,
) -> FrameScore:
    """All figures of one frame; both are H x W x 3 uint8 R'G'B' of one shape. steps: see metrics.flicker."""
    ssim, ms_ssim = structure(reference, picture)
    return FrameScore(
        mse=mse(reference, picture),
        psnr_yuv=_finite(psnr_yuv(reference, picture)),
        ssim=ssim,
        ms_ssim=ms_ssim,
        ciede2000=ciede2000(reference, picture),
        lpips=None if lpips is None else lpips(reference, picture),
        step_mse=None if steps is None else steps(reference, picture),
    )


def clip_figures(frames: Sequence[FrameScore], vmaf: float | None = None) -> dict[Measure, float | None]:
    """Figures of one picture or clip: means over its frames, and the PSNR of its mean squared errors."""
    steps = mean([frame.step_mse for frame in frames[1:]])
    return {
        Measure.PSNR_RGB: mean([_finite(psnr_of_mse(frame.mse)) for frame in frames]),
        Measure.PSNR_RGB_CLIP: _finite(psnr_of_mse(sum(frame.mse for frame in frames) / len(frames))),
        Measure.PSNR_YUV: mean([frame.psnr_yuv for frame in frames]),
        Measure.PSNR_STEPS: None if steps is None else _finite(psnr_of_mse(steps)),
        Measure.SSIM: mean([frame.ssim for frame in frames]),
        Measure.MS_SSIM: mean([frame.ms_ssim for frame in frames]),
        Measure.CIEDE2000: mean([frame.ciede2000 for frame in frames]),
        Measure.LPIPS: mean([frame.lpips for frame in frames]),
        Measure.VMAF: vmaf,
    }


def set_figures(clips: Sequence[dict[Measure, float | None]]) -> dict[Measure, float | None]:
    """Means over the pictures or clips of a set; MS-SSIM in dB is that of the mean, no mean of dB."""
    means = {measure: mean([clip[measure] for clip in clips]) for measure in Measure if measure in clips[0]}
    linear = means[Measure.MS_SSIM]
    means[Measure.MS_SSIM_DB] = None if linear is None else _finite(ms_ssim_db(linear))
    return means


def mean(values: Sequence[float | None]) -> float | None:
    """Mean, or None as soon as one is missing: a mean over fewer items would be that of another set."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _finite(decibels: float) -> float:
    return LOSSLESS_DB if math.isinf(decibels) else decibels
