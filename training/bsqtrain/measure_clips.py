"""Held-out figures of a tokenizer on clips: GOPs of a key frame and tubes, against the same frames alone.

# T frames of a GOP · C = 3 · H, W pixels

Rates are the side prior's, as in measure.py. Pixels are not rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.metrics.ms_ssim import ms_ssim_db
from bsqcodec.metrics.psnr import psnr_of_mse
from bsqcodec.tokenizer.config import TokenizerConfig
from bsqcodec.tokenizer.ladder import BlockOutput, Ladder, Memory, log_lambdas
from bsqtrain import clips, pictures

RATES = (300, 600)
SIDE = 192
"""Pixels along a side of the square that is cut from the middle of every clip."""


@dataclass(frozen=True)
class GopPoint:
    """Means over the clips at one rate index of the tubes.

    key_bpp, key_ms_ssim_db: of the key frames under the tubes. tube_bpp: bits per pixel of every level of the
    tubes, coarse first. block_ms_ssim_db: of each tube in turn. cost: J = D + lambda * bpp of the whole GOP;
    alone: of the same frames, each a key frame with that lambda.
    """

    rate: int
    lambda_: float
    key_bpp: float
    key_ms_ssim_db: float
    tube_bpp: tuple[float, ...]
    block_ms_ssim_db: tuple[float, ...]
    tube_psnr: float
    cost: float
    alone: float


def held_out(folders: Sequence[Path], tubes: int, config: TokenizerConfig, count: int | None) -> list[Tensor]:
    """(T, C, H, W) 0..1 of the held-out clips that are long enough, or of the first `count`."""
    length = 1 + tubes * config.tube_frames
    found = pictures.find(folders, validation=True, suffixes=clips.SUFFIXES)[:count]
    return [_square(clip[:length]) for clip in clips.load(found, SIDE, length)]


def _square(clip: np.ndarray) -> Tensor:
    _, height, width, _ = clip.shape
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    cut = clip[:, top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(cut.copy()).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def measure(
    ladder: Ladder,
    held: Sequence[Tensor],
    device: torch.device,
    rates: Sequence[int] = RATES,
    tube_frames: int | None = None,
    say: Callable[[str], None] = print,
) -> list[GopPoint]:
    """Figures at every rate index of the tubes. tube_frames: that a tube holds, as the rate asks for where
    not given."""
    ladder = ladder.to(device).eval()
    points = []
    for rate in rates:
        length = tube_frames or ladder.config.tube_length(rate)
        rows = [_figures(ladder, clip.to(device), rate, length, device) for clip in held]
        points.append(_mean(ladder, rows, rate))
        say(f"measured rate {rate} on {len(held)} clips")
    return points


def _figures(
    ladder: Ladder, x_TCHW: Tensor, rate: int, tube_frames: int, device: torch.device
) -> list[Tensor]:
    """Of one clip: (bpp, MS-SSIM) of its key frame; bpp of the tubes' levels; MS-SSIM of each tube; (MSE of
    the tubes, J, J alone)."""
    config, frames = ladder.config, len(x_TCHW)
    lagrangian = config.lambda_of(rate)
    log_lambda = log_lambdas(config, [rate], device)
    blocks = [x_TCHW[:1], *torch.split(x_TCHW[1:], tube_frames)]
    memory: Memory | None = None
    cost, alone = torch.zeros((), device=device), torch.zeros((), device=device)
    key, levels, structure, errors = [], [], [], []
    for number, block in enumerate(blocks):
        kind = BlockKind.TUBE if number else BlockKind.KEY
        given = log_lambda if number else config.key_log_lambda(log_lambda)
        lost, bpp, parts, out = _block(ladder, kind, block, given, memory, device)
        memory = out.memory
        cost = cost + (lost + lagrangian * bpp.sum()) * len(block) / frames
        if number:
            levels.append(bpp)
            structure.append(1 - parts["ms_ssim_loss"])
            errors.append(parts["mse"])
        else:
            key = [bpp.sum(), 1 - parts["ms_ssim_loss"]]
    for frame in torch.split(x_TCHW, 1):
        lost, bpp, _, _ = _block(ladder, BlockKind.KEY, frame, log_lambda, None, device)
        alone = alone + (lost + lagrangian * bpp.sum()) / frames
    last = torch.stack([torch.stack(errors).mean(), cost, alone])
    return [torch.stack(key), torch.stack(levels).mean(0), torch.stack(structure), last]


def _block(
    ladder: Ladder,
    kind: BlockKind,
    x_TCHW: Tensor,
    log_lambda: Tensor,
    memory: Memory | None,
    device: torch.device,
) -> tuple[Tensor, Tensor, dict[str, Tensor], BlockOutput]:
    """Mean D, bits per pixel of every level, parts of D, output."""
    T, _, H, W = x_TCHW.shape
    with half_precision(device):
        out: BlockOutput = ladder(kind, log_lambda, frames_BTCHW=x_TCHW[None], memory=memory, rated=True)
    lost_T, parts = distortion(out.frames_BTCHW[0].float(), x_TCHW, DistortionWeights())
    return lost_T.mean(), torch.cat(out.rate_bits_B) / (T * H * W), parts, out


def _mean(ladder: Ladder, rows: Sequence[Sequence[Tensor]], rate: int) -> GopPoint:
    key, levels, structure, last = (
        torch.stack(part).double().mean(0).cpu() for part in zip(*rows, strict=True)
    )
    return GopPoint(
        rate=rate,
        lambda_=ladder.config.lambda_of(rate),
        key_bpp=float(key[0]),
        key_ms_ssim_db=ms_ssim_db(float(key[1])),
        tube_bpp=tuple(levels.tolist()),
        block_ms_ssim_db=tuple(ms_ssim_db(value) for value in structure.tolist()),
        tube_psnr=psnr_of_mse(255**2 * float(last[0])),
        cost=float(last[1]),
        alone=float(last[2]),
    )


def as_object(points: Sequence[GopPoint], count: int) -> dict[str, object]:
    """The figures as JSON values."""
    return {"clips": count, "points": [asdict(point) for point in points]}


def lines(points: Sequence[GopPoint], count: int) -> list[str]:
    """The figures as a table, its heading first."""
    levels = "".join(f" {f'level {i}':>8}" for i in range(len(points[0].tube_bpp)))
    found = [
        f"{'rate':>4} {'lambda':>7} {'key bpp':>7} {'key dB':>6}{levels} {'PSNR dB':>7} {'J':>7} {'alone':>7}"
        "  MS-SSIM dB of each tube"
    ]
    for point in points:
        levels = "".join(f" {bpp:>8.4f}" for bpp in point.tube_bpp)
        each = " ".join(f"{value:.2f}" for value in point.block_ms_ssim_db)
        found.append(
            f"{point.rate:>4} {point.lambda_:>7.4f} {point.key_bpp:>7.4f} {point.key_ms_ssim_db:>6.2f}"
            f"{levels} {point.tube_psnr:>7.2f} {point.cost:>7.4f} {point.alone:>7.4f}  {each}"
        )
    return [*found, f"on {count} clips; alone: J of the same frames coded alone"]
