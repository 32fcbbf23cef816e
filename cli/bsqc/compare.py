"""`bsqc compare`: how far two pictures or two clips are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsqc.console import Console
from bsqc.options import json_option

if TYPE_CHECKING:
    from bsqcodec.metrics.comparison import Comparison, FrameScore


@click.command(short_help="PSNR, SSIM and MS-SSIM of two pictures or clips.")
@click.argument("reference", metavar="A")
@click.argument("other", metavar="B")
@click.option("--per-frame", is_flag=True, help="a row for every frame")
@click.option("--quiet", is_flag=True, help="no progress")
@json_option
def compare(reference: str, other: str, per_frame: bool, quiet: bool, as_json: bool) -> None:
    """PSNR, SSIM and MS-SSIM of B against the reference A: pictures, videos, folders of pictures, .bsq.

    Both must have the same size and number of frames; they are paired in order, whatever their times.
    """
    from bsqcodec.files import open_pixels
    from bsqcodec.metrics.comparison import Comparison, score_frames
    from bsqcodec.metrics.pair import PairError

    console = Console(quiet=quiet, as_json=as_json)
    scores: list[FrameScore] = []
    with (
        open_pixels(Path(reference)) as left,
        open_pixels(Path(other)) as right,
        console.progress(f"compare {reference} {other}") as update,
    ):
        try:
            for score in score_frames(left, right):
                scores.append(score)
                update(len(scores), None)
        except PairError as error:
            raise PairError(f"{reference} and {other}: {error}") from None
    result = Comparison(tuple(scores))
    if as_json:
        console.result({"reference": reference, "other": other} | _as_object(result, per_frame=per_frame))
        return
    for line in _lines(result, per_frame=per_frame):
        click.echo(line)


def _as_object(result: Comparison, *, per_frame: bool) -> dict[str, Any]:
    """Figures as JSON values: null where a picture is too small for one, or where it is infinite."""
    values: dict[str, Any] = {
        "frames": len(result.frames),
        "psnr": _finite(result.psnr),
        "psnr_of_mean_mse": _finite(result.psnr_of_mean_mse),
        "psnr_of_steps": _finite(result.psnr_of_steps),
        "ssim": result.ssim,
        "ms_ssim": result.ms_ssim,
        "ms_ssim_db": _finite(result.ms_ssim_db),
    }
    if per_frame:
        values["per_frame"] = [
            {"psnr": _finite(score.psnr), "ssim": score.ssim, "ms_ssim": score.ms_ssim}
            for score in result.frames
        ]
    return values


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _lines(result: Comparison, *, per_frame: bool) -> Iterator[str]:
    if per_frame:
        yield f"{'frame':>5}  {'PSNR dB':>7}  {'SSIM':>7}  {'MS-SSIM':>7}"
        for number, score in enumerate(result.frames):
            yield f"{number:>5}  {score.psnr:>7.3f}  {_text(score.ssim):>7}  {_text(score.ms_ssim):>7}"
    count = len(result.frames)
    yield f"frames   {count}"
    psnr = f"{result.psnr:.3f} dB"
    if count > 1:
        psnr += f" (mean of frames), {result.psnr_of_mean_mse:.3f} dB (of the mean squared error)"
    yield f"PSNR     {psnr}"
    if result.psnr_of_steps is not None:
        yield f"steps    {result.psnr_of_steps:.3f} dB (PSNR of the differences between frames)"
    yield f"SSIM     {_text(result.ssim)}"
    decibels = "" if result.ms_ssim_db is None else f" ({result.ms_ssim_db:.3f} dB)"
    yield f"MS-SSIM  {_text(result.ms_ssim)}{decibels}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
