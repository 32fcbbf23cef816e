"""`bsqc encode`: pictures and video to .bsq."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsqc.console import Console, complain, frames_text
from bsqc.jobs import Job, plan
from bsqc.options import (
    bits_per_pixel,
    byte_count,
    compute_options,
    levels_option,
    output_options,
    quality,
    range_options,
)
from bsqc.streams import PIPE, open_output, open_source
from bsqcodec.errors import BsqError

if TYPE_CHECKING:
    from bsqcodec.codec import EncodeOptions
    from bsqcodec.files import Encoded, Source, Unit

ERROR = 1


@click.command(short_help="Encode pictures, videos, folders of numbered pictures.")
@click.argument("inputs", nargs=-1, required=True, metavar="IN... [OUT]")
@click.option("--out-dir", metavar="DIR", help="code every IN, and every file in a folder IN, into DIR")
@click.option("-q", "q", type=quality, metavar="Q", help="quality from 1 to 10, a real number; 5 by default")
@click.option("--target-bpp", type=bits_per_pixel, metavar="X", help="the best q in X bits per pixel")
@click.option("--target-size", type=byte_count, metavar="SIZE", help="the best q in SIZE bytes: 300k, 2M")
@levels_option
@click.option(
    "--gop", type=click.IntRange(1, 1024), metavar="N", help="most frames in a GOP [as pays, to 65]"
)
@click.option("--tube-frames", type=click.IntRange(1, 64), metavar="N", help="frames of a tube [as it pays]")
@click.option("--scene-cuts/--no-scene-cuts", default=True, help="begin a GOP with every scene [yes]")
@click.option("--key-filter/--no-key-filter", default=True, help="denoise what GOPs begin with [yes]")
@click.option("--smoothing/--no-smoothing", default=True, help="smooth in time where that helps [yes]")
@click.option("--effort", type=click.IntRange(0, 9), default=0, show_default=True, help="search better bits")
@click.option("--model", default="base", show_default=True, metavar="NAME|FILE", help="weights to code with")
@click.option("--overlap", type=click.IntRange(0), default=0, metavar="N", help="pixels that tiles share")
@range_options
@click.option("--frames", type=click.IntRange(1), metavar="N", help="at most N frames")
@click.option("--no-audio", is_flag=True, help="leave the sound out")
@compute_options
@output_options
@click.pass_context
def encode(
    ctx: click.Context,
    /,
    inputs: tuple[str, ...],
    out_dir: str | None,
    q: float | None,
    target_bpp: float | None,
    target_size: int | None,
    start: Fraction | None,
    duration: Fraction | None,
    frames: int | None,
    no_audio: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Encode a picture, a video, or a folder of numbered pictures.

    IN and OUT may be - for stdin and stdout. Without OUT, the stream is written beside IN, as IN with .bsq.
    A folder as IN is one clip made of its numbered pictures; with --out-dir its files are coded one by one.

    \b
      bsqc encode in.mp4 out.bsq
      bsqc encode photo.jpg photo.bsq -q 7.5
      bsqc encode in.mp4 out.bsq --target-size 2M --start 1:30 --duration 20
      bsqc encode a.mp4 b.mp4 pictures/ --out-dir coded/
    """
    if sum(value is not None for value in (q, target_bpp, target_size)) > 1:
        raise click.UsageError("-q, --target-bpp and --target-size exclude each other")
    if frames is not None and duration is not None:
        raise click.UsageError("--frames and --duration exclude each other")
    jobs = plan(inputs, out_dir, force=force)
    console = Console(quiet=quiet, as_json=as_json, stdout_taken=jobs[0].target == PIPE)

    from bsqcodec.codec import EncodeOptions
    from bsqcodec.files import Source, Unit

    options = EncodeOptions(**settings) if q is None else EncodeOptions(q=q, **settings)
    target: tuple[float, Unit] | None = None
    if target_size is not None:
        target = (target_size, Unit.BYTES)
    elif target_bpp is not None:
        target = (target_bpp, Unit.BPP)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for job in jobs:
        try:
            with open_source(job.source, seekable=target is not None) as file:
                source = Source(file, start, duration, frames, audio=not no_audio)
                done.append(_run(job, source, options, target, console, force=force))
        except BsqError as error:
            if out_dir is None:
                raise
            complain(str(error))
            failed.append({"input": job.source, "error": str(error)})
    console.result(done[0] if out_dir is None else {"files": done, "failed": failed})
    if failed:
        ctx.exit(ERROR)


def _run(
    job: Job,
    source: Source,
    options: EncodeOptions,
    target: tuple[float, Unit] | None,
    console: Console,
    *,
    force: bool,
) -> dict[str, Any]:
    """Encode one file and tell how it went."""
    from bsqcodec.files import encode_file, encode_to_target

    if job.target != PIPE:
        Path(job.target).parent.mkdir(parents=True, exist_ok=True)
    with console.progress(f"encode {job.source}") as update, open_output(job.target, force=force) as out:
        if target is None:
            encoded = encode_file(source, out, options, update)
        else:
            encoded = encode_to_target(source, out, options, *target, update)
    for warning in encoded.warnings:
        console.warn(f"{job.source}: {warning}")
    console.say(_closing_line(job, encoded))
    return _as_object(job, encoded)


def _closing_line(job: Job, encoded: Encoded) -> str:
    stats = encoded.stats
    shown = frames_text(stats.frames, encoded.width, encoded.height)
    found = f", q {encoded.q:g} found in {encoded.encodes} encodes" if encoded.encodes > 1 else ""
    rate = f"{stats.frames / encoded.seconds:.2f} frames/s"
    return f"{job.target}: {shown}, {stats.bytes:,} bytes, {encoded.bpp:.4f} bpp, {rate}{found}"


def _as_object(job: Job, encoded: Encoded) -> dict[str, Any]:
    stats = encoded.stats
    return {
        "input": job.source,
        "output": job.target,
        "width": encoded.width,
        "height": encoded.height,
        "frames": stats.frames,
        "gops": stats.gops,
        "bytes": stats.bytes,
        "bpp": encoded.bpp,
        "q": encoded.q,
        "encodes": encoded.encodes,
        "seconds": encoded.seconds,
        "frames_per_second": stats.frames / encoded.seconds,
        "seconds_by_stage": stats.seconds,
        "bytes_by_chunk": stats.bytes_by_chunk,
        "bytes_by_level": list(stats.level_bytes),
        "gops_by_mode": stats.modes,
        "warnings": list(encoded.warnings),
    }
