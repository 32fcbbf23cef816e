"""`bsqc decode`: .bsq to pictures and video."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bsqc.console import Console, frames_text
from bsqc.jobs import refuse_same_file
from bsqc.options import compute_options, levels_option, output_options, range_options
from bsqc.streams import PIPE, check_pipe, open_input
from bsqcodec.errors import FormatError

if TYPE_CHECKING:
    from bsqcodec.files import Decoded

DAMAGED = 3


@click.command(short_help="Decode a stream to a picture, a video, a folder of pictures.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@levels_option
@range_options
@click.option("--keep-going", is_flag=True, help="survive damage: decode what is intact, exit code 3")
@click.option("--format", metavar="NAME", help="png, jpg, webp, mp4, mkv, y4m, gif: where OUT does not say")
@click.option("--model", metavar="FILE", help="weights of a model that does not come with bsqc")
@compute_options
@output_options
@click.pass_context
def decode(
    ctx: click.Context,
    /,
    source: str,
    target: str,
    format: str | None,
    model: str | None,
    keep_going: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> None:
    """Decode a stream. The ending of OUT says to what:

    \b
      .png .jpg .webp   a still, with EXIF and colour profile
      .mp4              H.264, visually lossless, with the sound
      .mkv              FFV1, lossless, with the sound
      .y4m .gif         without the sound
      folder/           numbered PNGs

    IN and OUT may be - for stdin and stdout; stdout gets PNG or Y4M unless --format says otherwise.

    \b
      bsqc decode out.bsq out.mp4
      bsqc decode out.bsq - | ffplay -
    """
    console = Console(quiet=quiet, as_json=as_json, stdout_taken=target == PIPE)
    refuse_same_file(source, target)
    if target == PIPE:
        check_pipe()

    from bsqcodec.files import DecodeOptions, decode_file

    options = DecodeOptions(model=None if model is None else Path(model), keep_going=keep_going, **settings)
    out = sys.stdout.buffer if target == PIPE else target
    try:
        with open_input(source) as file, console.progress(f"decode {source}") as update:
            decoded = decode_file(file, out, options, format=format, force=force, progress=update)
    except FormatError as error:
        hint = "" if keep_going else ": --keep-going decodes what is intact"
        raise FormatError(f"{error}{hint}") from error
    for warning in decoded.warnings:
        console.warn(f"{target}: {warning}")
    for fault in decoded.damage:
        console.warn(f"{source}: {fault.message}")
    console.say(_closing_line(target, decoded))
    console.result(_as_object(source, target, decoded))
    if decoded.damage:
        ctx.exit(DAMAGED)


def _closing_line(target: str, decoded: Decoded) -> str:
    frames = decoded.stats.frames
    shown = frames_text(frames, decoded.width, decoded.height)
    size = f", {Path(target).stat().st_size:,} bytes" if Path(target).is_file() else ""
    damage = f", {len(decoded.damage)} faults survived" if decoded.damage else ""
    return f"{target}: {shown}{size}, {frames / decoded.seconds:.2f} frames/s{damage}"


def _as_object(source: str, target: str, decoded: Decoded) -> dict[str, Any]:
    frames = decoded.stats.frames
    return {
        "input": source,
        "output": target,
        "width": decoded.width,
        "height": decoded.height,
        "frames": frames,
        "seconds": decoded.seconds,
        "frames_per_second": frames / decoded.seconds,
        "seconds_by_stage": decoded.stats.seconds,
        "warnings": list(decoded.warnings),
        "damage": [{"offset": fault.offset, "message": fault.message} for fault in decoded.damage],
    }
