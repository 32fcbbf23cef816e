"""Curves of codecs that are not run here: figures as they were published, with their sources."""

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from bsqcodec.evaluation.measures import Measure
from bsqcodec.evaluation.points import Curve, Point

MEASURES = {
    "psnr-rgb": Measure.PSNR_RGB,
    "psnr-yuv611": Measure.PSNR_YUV,
    "ms-ssim-rgb": Measure.MS_SSIM_DB,
    "ms-ssim-db": Measure.MS_SSIM_DB,
    "ms-ssim-db-rgb": Measure.MS_SSIM_DB,
    "lpips": Measure.LPIPS,
}
LINEAR = "ms-ssim-rgb"
CLIP_MEAN_MSE = "UVG-1080p"
"""CompressAI's video figures are PSNR of the clip's mean squared error, not the mean of its frames' PSNR."""


@dataclass(frozen=True)
class Published:
    """One curve of one measure, as published."""

    label: str
    codec: str
    dataset: str


DRAWN = (
    Published("BSQ-ViT 18 bit, no coding", "bsqvit-paper/BSQ-ViT 18-bit without AC", "kodak"),
    Published("BSQ-ViT 18 bit, coded", "bsqvit-paper/BSQ-ViT 18-bit with AC", "kodak"),
    Published("BPG 4:4:4", "bpg_444_x265_ycbcr", "kodak"),
    Published("VTM", "vtm", "kodak"),
    Published("hyperprior (MSE)", "compressai-bmshj2018-hyperprior_mse_cuda", "kodak"),
    Published("hyperprior (MS-SSIM)", "compressai-bmshj2018-hyperprior_ms-ssim_cuda", "kodak"),
    Published("cheng2020 (MSE)", "compressai-cheng2020-anchor_mse_cuda", "kodak"),
    Published("cheng2020 (MS-SSIM)", "compressai-cheng2020-anchor_ms-ssim_cuda", "kodak"),
    Published("ELIC (MSE)", "paper-elic2022_mse", "kodak"),
    Published("ELIC (MS-SSIM)", "paper-elic2022_ms-ssim", "kodak"),
    Published("Cool-chic 5.0", "cool-chic-v5.0", "kodak"),
    Published("x264 zerolatency (CompressAI)", "x264-medium-tune-zerolatency", "UVG-1080p"),
    Published("x265 zerolatency (CompressAI)", "x265-medium-tune-zerolatency", "UVG-1080p"),
    Published("SSF (authors)", "ssf2020-from-authors", "UVG-1080p"),
    Published("SSF (CompressAI)", "ssf2020-mse-ans-vimeo", "UVG-1080p"),
    Published("VTM 15 low delay", "VTM-v15.0-lowdelay", "UVG-1080p"),
    Published("VTM 17 low delay (DCVC)", "VTM-17.0-LB-ip-1", "UVG"),
    Published("VTM 17 low delay (DCVC)", "VTM-17.0-LB-ip-1", "MCL-JCV"),
    Published("BSQ-ViT, no coding (by eye)", "bsqvit-paper/BSQ-ViT without AC", "MCL-JCV-360p"),
    Published("BSQ-ViT, coded (by eye)", "bsqvit-paper/BSQ-ViT with AC", "MCL-JCV-360p"),
    Published("BSQ-ViT, no coding", "bsqvit-paper/BSQ-ViT without AC (table)", "MCL-JCV-360p"),
    Published("BSQ-ViT, coded", "bsqvit-paper/BSQ-ViT with AC (table)", "MCL-JCV-360p"),
    Published("MAGVIT-v2 (BSQ-ViT's table)", "bsqvit-paper/MAGVIT-v2 (table)", "MCL-JCV-360p"),
    Published("H.264 medium (BSQ-ViT, by eye)", "bsqvit-paper/H.264 medium", "MCL-JCV-360p"),
    Published("HEVC medium (BSQ-ViT, by eye)", "bsqvit-paper/HEVC medium", "MCL-JCV-360p"),
)


def published_curves(dataset: str) -> list[Curve]:
    """Curves drawn beside those measured on this set, one a label and measure; none for another set."""
    entries = json.loads(files("bsqcodec.evaluation").joinpath("published.json").read_text())
    curves = []
    for wanted in DRAWN:
        if wanted.dataset != dataset:
            continue
        for entry in entries:
            if (entry["codec"], entry["dataset"]) == (wanted.codec, dataset) and entry["metric"] in MEASURES:
                curves.append(_curve(wanted.label, entry))
    return curves


def _curve(label: str, entry: dict[str, Any]) -> Curve:
    measure = MEASURES[entry["metric"]]
    if measure is Measure.PSNR_RGB and entry["dataset"] == CLIP_MEAN_MSE:
        measure = Measure.PSNR_RGB_CLIP
    linear = entry["metric"] == LINEAR
    points = tuple(
        Point(0.0, bpp, bpp, {measure: -10 * math.log10(1 - value) if linear else value}, 0.0, 0.0)
        for bpp, value in sorted(map(tuple, entry["points"]))
    )
    return Curve(label, "", points, published=entry["source"])
