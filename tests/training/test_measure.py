"""Held-out figures: what the bits cost, how the pictures look, and the quality table made of them."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from bsqtrain import measure_clips
from bsqtrain.measure import EVEN_RATES, Measurement, RatePoint, held_out, measure
from PIL import Image
from torch.nn import functional as F

from bsqcodec import machine
from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.errors import InputError
from bsqcodec.metrics.ms_ssim import ms_ssim
from bsqcodec.metrics.psnr import psnr
from bsqcodec.tokenizer.config import KEY_RATE_BONUS, PRESETS
from bsqcodec.tokenizer.ladder import Ladder

CPU = torch.device("cpu")


def points(*decibels: float) -> Measurement:
    """Made-up figures at the ten rates."""
    made = [
        RatePoint(rate, 1.0, (0.1,), 1 - 10 ** (-value / 10), 30.0, 0.1)
        for rate, value in zip(EVEN_RATES, decibels, strict=True)
    ]
    return Measurement(1, tuple(made))


def picture(height: int = 170, width: int = 200) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, rows + columns], -1).astype(np.uint8)


def test_figures_are_those_of_the_decoded_picture() -> None:
    torch.manual_seed(0)
    ladder = Ladder(PRESETS["tiny"])
    for level in ladder.ends["key"].levels:
        torch.nn.init.zeros_(level.side.bias)
    found = measure(ladder, [picture(), picture()], CPU, rates=(300,), say=lambda line: None)
    assert found.pictures == 2
    (point,) = found.points
    # A side prior that knows nothing: every bit costs one bit, on grids of the padded 192x224 pixels.
    raw = [192 * 224 * level.bits / level.stride**2 for level in ladder.config.levels]
    assert point.level_bpp == pytest.approx([bits / (170 * 200) for bits in raw])

    x = torch.from_numpy(picture()).permute(2, 0, 1)[None].float() / 255
    padded = F.pad(x, (0, 24, 0, 22), "replicate")
    log_lambda = torch.tensor([[math.log(point.lambda_)]])
    with torch.no_grad():
        out = ladder(BlockKind.KEY, log_lambda, frames_BTCHW=padded[:, None])
    y = out.frames_BTCHW[0, 0, :, :170, :200].clamp(0, 1)
    decoded = (y * 255).round().byte().permute(1, 2, 0).numpy()
    assert point.psnr == pytest.approx(psnr(picture(), decoded), abs=0.05)
    assert point.ms_ssim == pytest.approx(ms_ssim(picture(), decoded), abs=2e-3)
    assert point.cost == pytest.approx(point.distortion + point.lambda_ * point.bpp)


def test_quality_rises_in_even_steps() -> None:
    found = points(8, 10, 11.5, 12.5, 13.2, 13.7, 14, 14.1, 14.05, 14.11)
    table = found.quality_table()
    assert (table[0], table[-1]) == (0, EVEN_RATES[7])  # no gain beyond
    decibels = np.interp(table, EVEN_RATES, [point.ms_ssim_db for point in found.points])
    assert np.diff(decibels) == pytest.approx(np.full(9, (14.1 - 8) / 9), abs=0.02)
    assert all(low < high for low, high in pairwise(table))


def test_the_range_starts_where_quality_is_worst() -> None:
    assert points(9, 8, 9, 10, 11, 12, 13, 14, 15, 16).quality_table()[0] == EVEN_RATES[1]


def test_no_rise_gives_even_rates() -> None:
    assert points(*[5.0] * 10).quality_table() == EVEN_RATES
    assert points(*range(20, 10, -1)).quality_table() == EVEN_RATES


def test_held_out_pictures(tmp_path: Path) -> None:
    for number in (10, 11, 20, 30, 40):
        Image.fromarray(picture(170, 200 + number)).save(tmp_path / f"{number}.png")
    assert [p.shape[1] for p in held_out([tmp_path])] == [210, 220, 230, 240]
    assert [p.shape[1] for p in held_out([tmp_path], 2)] == [210, 230]
    with pytest.raises(InputError, match="no held-out files"):
        held_out([tmp_path / ".."])


def test_gops_of_clips_against_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FAST_CPU", False)  # compared in float32
    torch.manual_seed(0)
    ladder = Ladder(PRESETS["tiny"]).eval()
    ladder.inherit_tubes()
    noise = torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(0))
    big = F.interpolate(noise, scale_factor=8, mode="bilinear")[0]
    clip = torch.stack([big[:, 2 * n : 2 * n + 192, n : n + 192] for n in range(9)])
    (point,) = measure_clips.measure(ladder, [clip, clip], CPU, (300,), 4, say=lambda line: None)

    log_lambda = torch.tensor([[math.log(point.lambda_)]])
    memory, costs, alone, tubes = None, [], [], []
    with torch.no_grad():
        for first, last in ((0, 1), (1, 5), (5, 9)):
            kind = BlockKind.TUBE if first else BlockKind.KEY
            given = (
                log_lambda
                if first
                else torch.tensor([[math.log(ladder.config.lambda_of(300 + KEY_RATE_BONUS))]])
            )
            block = clip[first:last]
            out = ladder(kind, given, frames_BTCHW=block[None], memory=memory, rated=True)
            memory = out.memory
            lost, _ = distortion(out.frames_BTCHW[0], block, DistortionWeights())
            costs += (lost + point.lambda_ * sum(out.rate_bits_B) / (len(block) * 192**2)).tolist()
            tubes += [sum(out.rate_bits_B) / (len(block) * 192**2)] if first else []
        for frame in clip:
            out = ladder(BlockKind.KEY, log_lambda, frames_BTCHW=frame[None, None], rated=True)
            lost, _ = distortion(out.frames_BTCHW[0], frame[None], DistortionWeights())
            alone.append(float(lost + point.lambda_ * sum(out.rate_bits_B) / 192**2))
    assert point.cost == pytest.approx(np.mean(costs), rel=1e-4)
    assert point.alone == pytest.approx(np.mean(alone), rel=1e-4)
    assert sum(point.tube_bpp) == pytest.approx(float(sum(tubes)) / 2, rel=1e-4)
    assert len(point.block_ms_ssim_db) == 2
    assert f"{point.cost:.4f}" in measure_clips.lines([point], 2)[1]
