"""Whole files in and out: what `media` reads goes through the codec, and back."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from bsqcodec.bitstream import Damage, Header
from bsqcodec.bitstream.container import MAGIC
from bsqcodec.bitstream.summary import StreamSummary, describe
from bsqcodec.codec import USUAL_GOP, Decoder, DecodeStats, EncodeOptions, Encoder, EncodeStats
from bsqcodec.errors import FormatError
from bsqcodec.media.interfaces import Reader
from bsqcodec.media.reader import open_reader
from bsqcodec.media.source import name_of
from bsqcodec.media.types import AudioPacket, Colour, Frame, VideoInfo
from bsqcodec.media.writer import FOLDER, open_writer, output_format
from bsqcodec.target import TargetError, search_quality
from bsqcodec.whole_file import check_target

# Told the frames done so far and their number in all, None where the file does not say.
Progress = Callable[[int, int | None], None]

SPOOL_BYTES = 1 << 24
SOUND_CHUNKS = ("TRAK", "AUDI")
# Of a clip longer than four parts, one part is searched first, which saves encodes of the whole.
PART_FRAMES = 32
PARTS_IN_LONG = 4


@dataclass(frozen=True)
class Source:
    """What to encode. file: a path, or an open file, which must be seekable where a target is searched.

    start, duration: seconds; max_frames: frames at most; audio: whether the sound comes along.
    """

    file: Path | BinaryIO
    start: Fraction | None = None
    duration: Fraction | None = None
    max_frames: int | None = None
    audio: bool = True


class Unit(Enum):
    """What a target counts: the bytes of the whole file, or bits per pixel without the sound."""

    BYTES = "bytes"
    BPP = "bits per pixel"


@dataclass(frozen=True)
class Encoded:
    """What became of a file. q: the quality used; encodes: how often the whole was encoded to find it.

    seconds: wall clock of the last encode. warnings: from reading the source, one line each.
    """

    width: int
    height: int
    q: float
    encodes: int
    seconds: float
    warnings: tuple[str, ...]
    stats: EncodeStats

    @property
    def bpp(self) -> float:
        """Bits per pixel of everything but the sound, which is copied as it came."""
        sound = sum(self.stats.bytes_by_chunk.get(kind, 0) for kind in SOUND_CHUNKS)
        return 8 * (self.stats.bytes - sound) / self.stats.pixels


def no_progress(done: int, total: int | None) -> None:
    """For callers who do not watch."""


def encode_file(
    source: Source, out: BinaryIO, options: EncodeOptions, progress: Progress = no_progress
) -> Encoded:
    """Encode one picture or clip, with its sound and metadata, to an open file: written front to back.

    Raises InputError, ModelError, DependencyError.
    """
    start = time.monotonic()
    with _open(source, options.threads) as reader:
        info = reader.info
        encoder = Encoder(
            out,
            info.width,
            info.height,
            time_base=info.time_base,
            colour=info.colour,
            still=info.is_still,
            rotation=info.rotation,
            options=options,
            metadata=reader.metadata,
            audio_tracks=reader.audio_tracks,
        )
        done = 0
        for event in reader.events():
            if isinstance(event, Frame):
                encoder.add(event)
                done += 1
                progress(done, info.frame_count)
            else:
                encoder.add_audio(event)
        stats = encoder.close()
        seconds = time.monotonic() - start
        return Encoded(info.width, info.height, options.q, 1, seconds, tuple(reader.warnings), stats)


def encode_to_target(
    source: Source,
    out: BinaryIO,
    options: EncodeOptions,
    target: float,
    unit: Unit,
    progress: Progress = no_progress,
) -> Encoded:
    """Encode with the highest q whose file stays within the target, found by encoding a few times.

    options.q is where the search begins; for a long clip, what a search of a part of it found. The file of
    source must be seekable. Raises InputError where even q = 1 is too large, and what encode_file raises.
    """
    first = _search_part(source, options, target, unit, progress)
    best: Encoded | None = None
    with (
        tempfile.SpooledTemporaryFile(SPOOL_BYTES) as one,
        tempfile.SpooledTemporaryFile(SPOOL_BYTES) as other,
    ):
        kept, spare = cast(BinaryIO, one), cast(BinaryIO, other)

        def size_at(q: float) -> float:
            nonlocal best, kept, spare
            spare.seek(0)
            spare.truncate()
            encoded = encode_file(source, spare, replace(options, q=q), progress)
            size = encoded.stats.bytes if unit is Unit.BYTES else encoded.bpp
            if size <= target and (best is None or q > best.q):
                best, kept, spare = encoded, spare, kept
            return size

        try:
            found = search_quality(size_at, target, unit=unit.value, first=first)
        except TargetError as error:
            raise TargetError(f"{name_of(source.file)}: {error}") from None
        assert best is not None  # search_quality ends with a file that fits, or raises
        kept.seek(0)
        shutil.copyfileobj(kept, out)
    return replace(best, encodes=found.encodes)


def _search_part(
    source: Source, options: EncodeOptions, target: float, unit: Unit, progress: Progress
) -> float:
    """Where to begin: the q that fits a part from a third of a long clip on; options.q for short ones."""
    with _open(source, options.threads) as reader:
        info, tracks = reader.info, reader.audio_tracks
    part_frames = max(PART_FRAMES, 2 * (options.gop or USUAL_GOP))
    if info.frame_count is None or not info.frame_rate or info.frame_count <= PARTS_IN_LONG * part_frames:
        return options.q
    seconds = info.frame_count / info.frame_rate
    if unit is Unit.BYTES:
        sound_bytes = float(sum(track.bit_rate for track in tracks) * seconds / 8)
        target = 8 * (target - sound_bytes) / (info.width * info.height * info.frame_count)
    start = (source.start or 0) + seconds / 3
    part = replace(source, start=start, duration=None, max_frames=part_frames, audio=False)

    def bpp_at(q: float) -> float:
        return encode_file(part, BytesIO(), replace(options, q=q), progress).bpp

    if target <= 0:
        return 1.0
    try:
        return search_quality(bpp_at, target, first=options.q, tolerance=0.1, max_encodes=5).q
    except TargetError:
        return 1.0


@contextmanager
def open_pixels(path: Path, *, model: Path | None = None) -> Iterator[Iterator[npt.NDArray[np.uint8]]]:
    """The frames of a picture, video, folder of pictures or .bsq stream: H x W x 3 uint8 each.

    model: weights of a stream whose model does not ship with the package.
    """
    if _is_stream(path):
        with path.open("rb") as file:
            events = Decoder(file, model_file=model).events()
            yield (event.pixels for event in events if isinstance(event, Frame))
    else:
        with open_reader(path, audio=False) as reader:
            yield (frame.pixels for frame in reader.frames())


@dataclass(frozen=True)
class DecodeOptions:
    """What to decode, and how. levels: the coarsest so many. start, duration: seconds.

    keep_going: survive damage. model: a weights file, where the one needed does not ship with the package.
    """

    levels: int | None = None
    start: Fraction | None = None
    duration: Fraction | None = None
    keep_going: bool = False
    model: Path | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Decoded:
    """What came out of a stream. warnings: what the output cannot hold; damage: faults survived."""

    width: int
    height: int
    seconds: float
    warnings: tuple[str, ...]
    damage: tuple[Damage, ...]
    stats: DecodeStats


def decode_file(
    file: BinaryIO,
    target: str | Path | BinaryIO,
    options: DecodeOptions,
    *,
    format: str | None = None,
    force: bool = False,
    progress: Progress = no_progress,
) -> Decoded:
    """Decode a stream to a picture, a video or a folder of pictures: by the ending of target, or by format.

    To a file object without format goes PNG or Y4M. Raises FormatError where the stream is damaged,
    before which nothing is left behind, ModelError where other weights are needed, InputError.
    """
    start = time.monotonic()
    if isinstance(target, str | Path) and output_format(target, format) != FOLDER:
        check_target(Path(target), force=force)
    overview = _overview(file)
    is_part = options.start is not None or options.duration is not None
    total = None if overview is None or is_part else overview.frame_count
    decoder = Decoder(
        file,
        levels=options.levels,
        start=options.start,
        duration=options.duration,
        keep_going=options.keep_going,
        model_file=options.model,
        device=options.device,
        threads=options.threads,
    )
    header = decoder.header
    if format is None and not isinstance(target, str | Path):
        format = "png" if header.still else "y4m"
    damage: list[Damage] = []
    done = 0
    events = decoder.events()
    first = next(events, None)
    with open_writer(
        target,
        _video_info(header, overview, first),
        audio_tracks=decoder.audio_tracks,
        metadata=decoder.metadata,
        format=format,
        force=force,
        threads=options.threads,
    ) as writer:
        for event in chain([] if first is None else [first], events):
            if isinstance(event, Damage):
                damage.append(event)
            elif isinstance(event, AudioPacket):
                writer.write_audio(event)
            else:
                writer.write(event)
                done += 1
                progress(done, total)
        if not done:
            reason = f": {damage[0].message}" if damage else ""
            raise FormatError(f"no frame could be decoded{reason}")
    seconds = time.monotonic() - start
    warnings = tuple(writer.warnings)
    return Decoded(header.width, header.height, seconds, warnings, tuple(damage), decoder.stats)


def _is_stream(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _overview(file: BinaryIO) -> StreamSummary | None:
    """What the stream holds in all, where that can be read ahead; file stays where it is."""
    if not file.seekable():
        return None
    origin = file.tell()
    summary = describe(file)
    file.seek(origin)
    return summary


def _video_info(header: Header, overview: StreamSummary | None, first: object) -> VideoInfo:
    """What the writer is told; from a pipe, the first frame's duration stands for the frame rate."""
    ticks = first.duration if isinstance(first, Frame) else 0
    rate = 1 / (ticks * header.time_base) if ticks else None
    if overview is not None and overview.duration:
        rate = overview.frame_count / overview.duration
    return VideoInfo(
        width=header.width,
        height=header.height,
        time_base=header.time_base,
        frame_rate=rate,
        frame_count=1 if header.still else None,
        colour=Colour(**vars(header.colour)),
        rotation=header.rotation,
        is_still=header.still,
    )


def _open(source: Source, threads: int | None) -> Reader:
    if not isinstance(source.file, Path) and source.file.seekable():
        source.file.seek(0)
    return open_reader(
        source.file,
        start=source.start,
        duration=source.duration,
        max_frames=source.max_frames,
        audio=source.audio,
        threads=threads,
    )
