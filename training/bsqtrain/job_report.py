"""What a job leaves to be read: held-out pictures coded into real bytes, curves, a report."""

from __future__ import annotations

import io
import json
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bsqcodec.codec import Decoder, EncodeOptions, compress
from bsqcodec.media.types import Frame
from bsqcodec.metrics.ms_ssim import ms_ssim_db
from bsqcodec.metrics.psnr import psnr
from bsqcodec.metrics.structure import structure
from bsqtrain.curves import Chart, draw, of_stage

QUALITIES = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class CodedPoint:
    """Means over pictures at one quality: bits of whole streams per pixel, linear MS-SSIM, PSNR in dB."""

    q: float
    bpp: float
    ms_ssim: float
    psnr: float


def evaluate(
    path: Path, held: Sequence[np.ndarray], until: float, device: str
) -> tuple[list[CodedPoint], int]:
    """Code and decode held-out pictures, HxWx3 uint8, with the model in a file.

    until: of time.monotonic(); after it no further picture is begun, but one is always coded. Returns the
    points and the number of pictures.
    """
    order = random.Random(0).sample(range(len(held)), len(held))
    found: list[list[tuple[float, float, float]]] = []
    for number in order:
        found.append([_coded(held[number], q, path, device) for q in QUALITIES])
        if time.monotonic() > until:
            break
    means = np.mean(found, axis=0).tolist()
    return [CodedPoint(q, *row) for q, row in zip(QUALITIES, means, strict=True)], len(found)


def _coded(picture: np.ndarray, q: float, path: Path, device: str) -> tuple[float, float, float]:
    data = compress(picture, options=EncodeOptions(q=q, model=path, device=device))
    decoder = Decoder(io.BytesIO(data), model_file=path, device=device)
    frame = next(event for event in decoder.events() if isinstance(event, Frame))
    _, ms_ssim = structure(picture, frame.pixels)
    assert ms_ssim is not None  # held-out pictures are large enough
    return 8 * len(data) / (picture.shape[0] * picture.shape[1]), ms_ssim, psnr(picture, frame.pixels)


def write(out: Path, work: Path, points: Sequence[CodedPoint], pictures: int, lines: Sequence[str]) -> None:
    """Leave report.md, report.json and curves.png in `out`.

    work: folders of the stages' logs. lines: what the job said.
    """
    draw(_charts(work, points), out / "curves.png")
    table = "\n".join(
        f"| {p.q:g} | {p.bpp:.4f} | {ms_ssim_db(p.ms_ssim):.3f} | {p.ms_ssim:.5f} | {p.psnr:.3f} |"
        for p in points
    )
    said = "\n".join(f"    {line}" for line in lines)
    (out / "report.md").write_text(
        f"""# Report of a training job

Torch {torch.__version__} on {_machine()}.

Mean of {pictures} held-out pictures, bits of whole streams, decoded again:

| q | bpp | MS-SSIM dB of the mean | MS-SSIM | PSNR dB |
|---|---|---|---|---|
{table}

![curves](curves.png)

{said}

To go on: `training/job.sh DATA MINUTES OUT --resume` with this folder, or with a copy of its `state`.
"""
    )
    values = {"pictures": pictures, "points": [vars(point) for point in points], "said": list(lines)}
    (out / "report.json").write_text(json.dumps(values))


def _charts(work: Path, points: Sequence[CodedPoint]) -> list[Chart]:
    curve = [(p.bpp, ms_ssim_db(p.ms_ssim)) for p in points]
    charts = [Chart("MS-SSIM dB, held-out pictures", "bits per pixel of whole streams", (("", curve),))]
    for folder in sorted(path for path in work.iterdir() if path.is_dir()):
        charts += of_stage(folder)
    return charts


def _machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {platform.machine()}"
