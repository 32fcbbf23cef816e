"""Held-out figures of a tokenizer at several rates, and the quality table that follows from them.

# C = 3 · H, W pixels

Rates are the side prior's, without container: to compare tokenizers by, and above what a trained prior needs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.metrics.ms_ssim import SMALLEST_SIDE, ms_ssim_db
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import Ladder, log_lambdas
from bsqtrain import pictures

QUALITIES = 10
EVEN_RATES = tuple(round(RATE_STEPS * step / (QUALITIES - 1)) for step in range(QUALITIES))
"""Rate indices in even steps of log lambda: where figures are taken, and q = 1..10 until they are."""

LEAST_RISE = 0.02
"""dB of MS-SSIM that a larger file must bring to count as better."""


@dataclass(frozen=True)
class RatePoint:
    """Means over the pictures at one rate index.

    level_bpp: bits per pixel of every level, coarse first. ms_ssim: linear. psnr: dB, mean of the pictures'.
    distortion: D, with its usual weights.
    """

    rate: int
    lambda_: float
    level_bpp: tuple[float, ...]
    ms_ssim: float
    psnr: float
    distortion: float

    @property
    def bpp(self) -> float:
        """Bits per pixel of all levels."""
        return sum(self.level_bpp)

    @property
    def ms_ssim_db(self) -> float:
        """dB of the mean MS-SSIM."""
        return ms_ssim_db(self.ms_ssim)

    @property
    def cost(self) -> float:
        """J = D + lambda * bpp."""
        return self.distortion + self.lambda_ * self.bpp


@dataclass(frozen=True)
class Measurement:
    """A tokenizer's figures on so many pictures, by rising rate index."""

    pictures: int
    points: tuple[RatePoint, ...]

    @property
    def mean_cost(self) -> float:
        """Mean of J over the rate indices: one number to compare tokenizers by."""
        return sum(point.cost for point in self.points) / len(self.points)

    def quality_table(self) -> tuple[int, ...]:
        """Rate indices of q = 1..10 in even steps of MS-SSIM dB.

        The range runs from the worst picture to the first that no larger file betters. EVEN_RATES where there
        is no such range, as before training.
        """
        worst = min(range(len(self.points)), key=lambda i: (self.points[i].ms_ssim_db, -i))
        rising = [self.points[worst]]
        for point in self.points[worst + 1 :]:
            if point.ms_ssim_db > rising[-1].ms_ssim_db + LEAST_RISE:
                rising.append(point)
        if rising[-1].rate - rising[0].rate < QUALITIES:
            return EVEN_RATES
        low, high = rising[0].ms_ssim_db, rising[-1].ms_ssim_db
        steps = [low + (high - low) * step / (QUALITIES - 1) for step in range(QUALITIES)]
        table = [round(_rate_at(rising, step)) for step in steps]
        return tuple(table) if all(a < b for a, b in pairwise(table)) else EVEN_RATES

    def as_object(self) -> dict[str, object]:
        """The figures as JSON values."""
        rows = [
            {
                "rate": point.rate,
                "lambda": point.lambda_,
                "bpp": point.bpp,
                "level_bpp": list(point.level_bpp),
                "ms_ssim": point.ms_ssim,
                "ms_ssim_db": point.ms_ssim_db,
                "psnr": point.psnr,
                "distortion": point.distortion,
                "cost": point.cost,
            }
            for point in self.points
        ]
        return {
            "pictures": self.pictures,
            "points": rows,
            "mean_cost": self.mean_cost,
            "quality_table": list(self.quality_table()),
        }

    def lines(self) -> list[str]:
        """The figures as a table, its heading first."""
        levels = "".join(f" {f'level {i}':>8}" for i in range(len(self.points[0].level_bpp)))
        found = [f"{'rate':>4} {'lambda':>7}{levels} {'bpp':>7} {'MS-SSIM dB':>10} {'PSNR dB':>7} {'J':>7}"]
        for point in self.points:
            levels = "".join(f" {bpp:>8.4f}" for bpp in point.level_bpp)
            found.append(
                f"{point.rate:>4} {point.lambda_:>7.4f}{levels} {point.bpp:>7.4f} {point.ms_ssim_db:>10.3f} "
                f"{point.psnr:>7.3f} {point.cost:>7.4f}"
            )
        table = " ".join(map(str, self.quality_table()))
        return [*found, f"mean J {self.mean_cost:.5f} on {self.pictures} pictures", f"quality table {table}"]


def _rate_at(rising: Sequence[RatePoint], quality: float) -> float:
    """The rate index of an MS-SSIM in dB, linear between the points."""
    place = bisect_right([point.ms_ssim_db for point in rising], quality)
    high = min(max(place, 1), len(rising) - 1)
    below, above = rising[high - 1], rising[high]
    share = (quality - below.ms_ssim_db) / (above.ms_ssim_db - below.ms_ssim_db)
    return below.rate + share * (above.rate - below.rate)


def held_out(folders: Sequence[Path], count: int | None = None) -> list[np.ndarray]:
    """Pictures of the validation part, large enough for MS-SSIM; count: so many of them, evenly spread."""
    found = pictures.find(folders, validation=True)
    if count is not None and count < len(found):
        found = [found[i * len(found) // count] for i in range(count)]
    return pictures.load(found, SMALLEST_SIDE)


@torch.inference_mode()
def measure(
    ladder: Ladder,
    held: Sequence[np.ndarray],
    device: torch.device,
    *,
    rates: Sequence[int] = EVEN_RATES,
    say: Callable[[str], None] = print,
) -> Measurement:
    """Code whole pictures (HxWx3 uint8) as key frames at every rate index; decoded pixels are rounded to
    8 bits."""
    ladder = ladder.to(device).eval()
    sums: dict[int, Tensor] = {}
    for number, picture in enumerate(held):
        x_CHW = torch.from_numpy(picture).to(device).permute(2, 0, 1).float() / 255
        for rate in rates:
            figures = _figures(ladder, x_CHW, rate, device)
            sums[rate] = sums[rate] + figures if rate in sums else figures
        say(f"measured {number + 1} of {len(held)} pictures")
    points = []
    for rate in rates:
        distorted, ms_ssim, psnr, *levels = (sums[rate] / len(held)).tolist()
        points.append(RatePoint(rate, ladder.config.lambda_of(rate), tuple(levels), ms_ssim, psnr, distorted))
    return Measurement(len(held), tuple(points))


def _figures(ladder: Ladder, x_CHW: Tensor, rate: int, device: torch.device) -> Tensor:
    """D, MS-SSIM, PSNR, and bits per pixel of every level, of one picture."""
    _, height, width = x_CHW.shape
    right, below = ladder.config.padded(width) - width, ladder.config.padded(height) - height
    padded = F.pad(x_CHW[None], (0, right, 0, below), mode="replicate")
    log_lambda = log_lambdas(ladder.config, [rate], device)
    with half_precision(device):
        out = ladder(BlockKind.KEY, log_lambda, frames_BTCHW=padded[:, None], rated=True)
    y = out.frames_BTCHW[:, 0, :, :height, :width].float()
    decoded = (y.clamp(0, 1) * 255).round() / 255
    lost, parts = distortion(decoded, x_CHW[None], DistortionWeights())
    psnr = -10 * parts["mse"].clamp_min(1e-10).log10()
    bits = torch.cat(out.rate_bits_B) / (height * width)
    return torch.cat([torch.stack([lost[0], 1 - parts["ms_ssim_loss"], psnr]), bits]).double().cpu()
