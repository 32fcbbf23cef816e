"""What is in a stream, told without decoding it: the substance of `bsqc info`."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from bsqcodec.bitstream.audio import AudioPackets, AudioTrack, AudioTracks
from bsqcodec.bitstream.gop import CodingMode, Gop
from bsqcodec.bitstream.header import Header
from bsqcodec.bitstream.index import Index
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from bsqcodec.bitstream.metadata import Metadata
from bsqcodec.bitstream.reader import Damage, StreamReader
from bsqcodec.errors import FormatError


@dataclass(frozen=True, slots=True)
class GopSummary:
    """One row of the table of GOPs. offset, size: of the chunk, in bytes. pts, end_pts: when it is shown.
    tubes: how many it has; tube_frames: that each holds; repeats: how many are not coded. smoothing: its
    strength. quarters: whether vectors are finer than the tubes' length has them."""

    offset: int
    size: int
    pts: int
    end_pts: int
    frames: int
    mode: CodingMode
    joined: bool
    key_rate: int
    tube_rate: int
    levels_kept: int
    tubes: int
    tube_frames: int
    repeats: int
    smoothing: int
    quarters: bool


@dataclass(frozen=True)
class TrackSummary:
    """One sound track. size: bytes of its packets. end: when its last packet ends, in seconds."""

    track: AudioTrack
    packets: int
    size: int
    end: Fraction


@dataclass(frozen=True)
class StreamSummary:
    """Everything that can be said of a stream without its model.

    size: bytes of the stream, as far as it was read. bytes_by_chunk: intact chunks by type, with "signature"
    and "other" (types that this version passes over). bytes_by_level: of the coded parts, coarse first.
    complete: the ENDS chunk is there. trailing_bytes: bytes of the file after it.
    """

    header: Header
    metadata: Metadata
    tracks: tuple[TrackSummary, ...]
    gops: tuple[GopSummary, ...]
    size: int
    bytes_by_chunk: dict[str, int]
    bytes_by_level: tuple[int, ...]
    has_index: bool
    complete: bool
    trailing_bytes: int
    damage: tuple[Damage, ...]

    @property
    def frame_count(self) -> int:
        return sum(gop.frames for gop in self.gops)

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's time to the end of the last one."""
        if not self.gops:
            return Fraction(0)
        return (self.gops[-1].end_pts - self.gops[0].pts) * self.header.time_base

    @property
    def bpp(self) -> float:
        """Bits of the whole stream but its sound, per pixel of every frame; 0 without frames."""
        pixels = self.header.width * self.header.height * self.frame_count
        sound = self.bytes_by_chunk.get("TRAK", 0) + self.bytes_by_chunk.get("AUDI", 0)
        return 8 * (self.size - sound) / pixels if pixels else 0.0

    @property
    def mode_counts(self) -> dict[CodingMode, int]:
        """GOPs by coding mode."""
        return dict(Counter(gop.mode for gop in self.gops))


def describe(fileobj: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> StreamSummary:
    """Read a stream to its end, with every check but that of the tokens. Damage is listed, not raised.

    FormatError where it is no .bsq stream, its header is damaged, or its GOPs are more than the limits allow.
    """
    reader = StreamReader(fileobj, keep_going=True, limits=limits)
    gops: list[GopSummary] = []
    damage: list[Damage] = []
    metadata = Metadata()
    tracks: list[TrackSummary] = []
    level_bytes = [0] * reader.header.levels
    for event in reader:
        match event:
            case Gop():
                if len(gops) == limits.gops:
                    raise FormatError(f"more than {limits.gops} GOPs", reader.event_offset)
                gops.append(_summarise(event, reader))
                for row in event.parts:
                    for level, part in enumerate(row):
                        level_bytes[level] += len(part)
            case AudioPackets():
                _add_packets(tracks, event)
            case AudioTracks():
                tracks = [TrackSummary(track, 0, 0, Fraction(0)) for track in event.tracks]
            case Metadata():
                metadata = event
            case Damage():
                damage.append(event)
    size, trailing_bytes = reader.offset, reader.bytes_left
    index = reader.index()
    if index is not None and not damage and not _agrees(index, gops):
        damage.append(Damage(size, "the index does not agree with the GOPs", None))
    return StreamSummary(
        header=reader.header,
        metadata=metadata,
        tracks=tuple(tracks),
        gops=tuple(gops),
        size=size,
        bytes_by_chunk=reader.bytes_by_chunk,
        bytes_by_level=tuple(level_bytes),
        has_index="INDX" in reader.bytes_by_chunk,
        complete=reader.complete,
        trailing_bytes=trailing_bytes,
        damage=tuple(damage),
    )


def _summarise(gop: Gop, reader: StreamReader) -> GopSummary:
    return GopSummary(
        offset=reader.event_offset,
        size=reader.offset - reader.event_offset,
        pts=gop.pts[0],
        end_pts=gop.pts[-1] + gop.durations[-1],
        frames=len(gop.pts),
        mode=gop.mode,
        joined=gop.joined,
        key_rate=gop.key_rate,
        tube_rate=gop.tube_rate,
        levels_kept=gop.levels_kept,
        tubes=gop.blocks - 1,
        tube_frames=gop.tube_frames,
        repeats=len(gop.repeats),
        smoothing=gop.smoothing,
        quarters=gop.quarters,
    )


def _add_packets(tracks: list[TrackSummary], event: AudioPackets) -> None:
    number = event.packets[0].track
    before = tracks[number]
    end = max(packet.pts + packet.duration for packet in event.packets) * before.track.time_base
    tracks[number] = TrackSummary(
        track=before.track,
        packets=before.packets + len(event.packets),
        size=before.size + sum(len(packet.data) for packet in event.packets),
        end=max(before.end, end),
    )


def _agrees(index: Index, gops: list[GopSummary]) -> bool:
    rows = [(gop.offset, gop.pts, gop.frames) for gop in gops]
    entries = (index[number] for number in range(len(index)))
    return [(entry.offset, entry.pts, entry.frames) for entry in entries] == rows
