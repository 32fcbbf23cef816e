"""`bsqc info`: what a stream holds, without decoding it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from bsqc.console import Console, frames_text, printable
from bsqc.options import json_option
from bsqc.streams import open_input

if TYPE_CHECKING:
    from bsqcodec.bitstream.header import Colour
    from bsqcodec.bitstream.summary import StreamSummary

DAMAGED = 3
MATRICES = {0: "R'G'B'", 1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020"}


@click.command(short_help="What a stream holds: size, model, frames, sound, damage.")
@click.argument("file")
@click.option("--costs", "with_costs", is_flag=True, help="what key frames and tubes cost, level by level")
@click.option("--model", metavar="FILE", help="for --costs: weights of a model that does not come with bsqc")
@json_option
@click.pass_context
def info(ctx: click.Context, file: str, with_costs: bool, model: str | None, as_json: bool) -> None:
    """Tell what FILE (or - for stdin) holds: size, model, frames, GOPs, sound, damage.

    Needs neither the model nor a decoder, but for --costs, which decodes the tokens. Exit code 3 where the
    file is damaged or cut off.
    """
    from bsqcodec.bitstream.summary import describe

    if model is not None and not with_costs:
        raise click.UsageError("--model is of use with --costs alone")
    with open_input(file) as stream:
        whole = io.BytesIO(stream.read()) if with_costs else stream
        summary = describe(whole)
        costs = _costs(whole, model) if with_costs else {}
    if as_json:
        told = {"costs": {kind: asdict(each) for kind, each in costs.items()}} if with_costs else {}
        Console(as_json=True).result(as_object(file, summary) | told)
    else:
        for line in _lines(file, summary, costs):
            click.echo(line)
    if summary.damage:
        ctx.exit(DAMAGED)


@dataclass
class KindCosts:
    """What the coded blocks of a kind cost: how many they are, bytes of each level, coarse first, as an ideal
    coder has them."""

    blocks: int
    bytes_by_level: list[float]


def _costs(stream: BinaryIO, model: str | None) -> dict[str, KindCosts]:
    """Of key frames and of tubes."""
    from bsqcodec.decoder import read_costs

    stream.seek(0)
    found: dict[str, KindCosts] = {}
    for kind, bits in read_costs(stream, model_file=Path(model) if model else None):
        costs = found.setdefault(kind.label, KindCosts(0, [0.0] * len(bits)))
        costs.blocks += 1
        costs.bytes_by_level = [
            known + more / 8 for known, more in zip(costs.bytes_by_level, bits, strict=True)
        ]
    return found


def as_object(file: str, summary: StreamSummary) -> dict[str, Any]:
    """The summary as JSON values; exact times as "numerator/denominator"."""
    header, metadata, colour = summary.header, summary.metadata, summary.header.colour
    return {
        "file": file,
        "bytes": summary.size,
        "bpp": bpp_without_sound(summary),
        "width": header.width,
        "height": header.height,
        "still": header.still,
        "frames": summary.frame_count,
        "duration": float(summary.duration),
        "time_base": str(header.time_base),
        "rotation": header.rotation,
        "colour": {
            "primaries": colour.primaries,
            "transfer": colour.transfer,
            "matrix": colour.matrix,
            "full_range": colour.full_range,
            "bit_depth": colour.bit_depth,
        },
        "model": header.model_name,
        "model_digest": header.model_digest.hex(),
        "q": header.quality_hundredths / 100,
        "levels": header.levels,
        "tile_overlap": header.tile_overlap,
        "creator": header.creator,
        "bytes_by_chunk": summary.bytes_by_chunk,
        "bytes_by_level": list(summary.bytes_by_level),
        "gops": [
            {
                "offset": gop.offset,
                "bytes": gop.size,
                "frames": gop.frames,
                "start": float(gop.pts * header.time_base),
                "mode": gop.mode.name.lower(),
                "levels": gop.levels_kept,
                "key_rate": gop.key_rate,
                "tube_rate": gop.tube_rate,
                "tubes": gop.tubes,
                "tube_frames": gop.tube_frames,
                "repeats": gop.repeats,
                "smoothing": gop.smoothing,
                "quarters": gop.quarters,
            }
            for gop in summary.gops
        ],
        "sound": [
            {
                "codec": row.track.codec,
                "sample_rate": row.track.sample_rate,
                "channels": row.track.channels,
                "packets": row.packets,
                "bytes": row.size,
                "end": float(row.end),
            }
            for row in summary.tracks
        ],
        "exif_bytes": len(metadata.exif or b""),
        "icc_bytes": len(metadata.icc or b""),
        "tags": metadata.tags,
        "complete": summary.complete,
        "trailing_bytes": summary.trailing_bytes,
        "damage": [{"offset": fault.offset, "message": fault.message} for fault in summary.damage],
    }


def bpp_without_sound(summary: StreamSummary) -> float:
    """Bits per pixel of everything but the copied sound; 0 without frames."""
    pixels = summary.header.width * summary.header.height * summary.frame_count
    sound = summary.bytes_by_chunk.get("TRAK", 0) + summary.bytes_by_chunk.get("AUDI", 0)
    return 8 * (summary.size - sound) / pixels if pixels else 0.0


def _lines(file: str, summary: StreamSummary, costs: Mapping[str, KindCosts]) -> list[str]:
    rows = list(_rows(summary))
    for kind, each in costs.items():
        sizes = " + ".join(f"{size:,.0f}" for size in each.bytes_by_level)
        rows.append((f"{kind}s", f"{each.blocks} coded, {sum(each.bytes_by_level):,.0f} bytes: {sizes}"))
    rows += [("damage", fault.message) for fault in summary.damage]
    return [file, *(f"  {name:<9} {printable(text)}" for name, text in rows)]


def _tubes(summary: StreamSummary) -> str:
    """How many there are of every length, longest first."""
    counts: Counter[int] = Counter()
    for gop in summary.gops:
        counts[gop.tube_frames] += gop.tubes
    found = [f"{count} of {frames}" for frames, count in sorted(counts.items(), reverse=True) if count]
    finer = sum(gop.tubes for gop in summary.gops if gop.quarters)
    return " and ".join(found) + " frames" + (f", {finer} in quarter pixels" if finer else "")


def _rows(summary: StreamSummary) -> Iterator[tuple[str, str]]:
    header, metadata = summary.header, summary.metadata
    yield "frames", frames_text(summary.frame_count, header.width, header.height) + _time(summary)
    sound = " without the sound" if summary.tracks else ""
    yield "size", f"{summary.size:,} bytes, {bpp_without_sound(summary):.4f} bpp{sound}"
    quality = f", q {header.quality_hundredths / 100:g}" if header.quality_hundredths else ""
    yield "model", f"{header.model_name} {header.model_digest.hex()}{quality}"
    yield "levels", _levels(summary)
    modes = ", ".join(f"{count} {mode.name.lower()}" for mode, count in summary.mode_counts.items())
    yield "GOPs", f"{len(summary.gops)} ({modes})" if modes else "0"
    if any(gop.tubes for gop in summary.gops):
        repeats = sum(gop.repeats for gop in summary.gops)
        yield "tubes", _tubes(summary) + (f", {repeats} repeats" if repeats else "")
    if smoothed := Counter(gop.smoothing for gop in summary.gops if gop.smoothing):
        found = (f"{count} by {strength}" for strength, count in sorted(smoothed.items()))
        yield "smoothed", ", ".join(found) + " of 255 a frame"
    yield "chunks", ", ".join(f"{kind} {size:,}" for kind, size in summary.bytes_by_chunk.items())
    yield "colour", _colour(header.colour)
    if header.tile_overlap:
        yield "tiles", f"overlapping by {header.tile_overlap} pixels"
    if header.rotation:
        yield "rotation", f"{header.rotation} degrees, applied"
    for row in summary.tracks:
        track = row.track
        yield "sound", f"{track.codec}, {track.sample_rate} Hz, {track.channels} ch, {row.size:,} bytes"
    for kind, block in (("EXIF", metadata.exif), ("ICC", metadata.icc)):
        if block is not None:
            yield kind, f"{len(block):,} bytes"
    for key, value in metadata.tags.items():
        yield "tag", f"{key}: {value}"
    if header.creator:
        yield "made by", header.creator
    if summary.trailing_bytes:
        yield "trailing", f"{summary.trailing_bytes:,} bytes after the end"


def _time(summary: StreamSummary) -> str:
    seconds = float(summary.duration)
    if summary.header.still or not seconds:
        return ""
    return f", {seconds:.3f} s, {summary.frame_count / seconds:.2f} frames/s"


def _levels(summary: StreamSummary) -> str:
    kept = {gop.levels_kept for gop in summary.gops} or {0}
    count = "-".join(str(number) for number in sorted({min(kept), max(kept)}))
    sizes = " + ".join(f"{size:,}" for size in summary.bytes_by_level)
    return f"{count} of {summary.header.levels}: {sizes} bytes, coarse to fine"


def _colour(colour: Colour) -> str:
    matrix = MATRICES.get(colour.matrix, f"matrix {colour.matrix}")
    points = f"primaries {colour.primaries}, transfer {colour.transfer}"
    return f"{matrix}, {'full' if colour.full_range else 'limited'} range, {colour.bit_depth} bit, {points}"
