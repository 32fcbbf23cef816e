"""Makes a stream smaller without decoding it: drops fine levels, or keeps a time range by whole GOPs."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import BinaryIO

from bsqcodec.bitstream.audio import AudioPacket, AudioPackets, AudioTrack, AudioTracks
from bsqcodec.bitstream.gop import Gop
from bsqcodec.bitstream.metadata import Metadata
from bsqcodec.bitstream.reader import StreamReader
from bsqcodec.bitstream.writer import StreamWriter
from bsqcodec.errors import InputError


@dataclass(frozen=True)
class CutResult:
    """What was kept. start: time of the first kept frame in the source, in seconds."""

    gops: int
    frames: int
    bytes_written: int
    start: Fraction


def cut(
    source: BinaryIO,
    sink: BinaryIO,
    *,
    levels: int | None = None,
    start: Fraction | None = None,
    duration: Fraction | None = None,
) -> CutResult:
    """Copy a stream, reduced; reads and writes front to back with one GOP in memory.

    levels: the coarsest levels that stay. start, duration: seconds; every GOP that is shown in that range
    stays whole, the first kept frame moves to time 0, sound outside of the kept GOPs goes. Chunks that this
    version does not know go, too. FormatError where the source is damaged, InputError where nothing would be
    left; nothing is written to the sink before the first GOP that stays.
    """
    if start is not None and start < 0:
        raise InputError(f"start is {float(start):g} s, expected 0 or more")
    if duration is not None and duration <= 0:
        raise InputError(f"duration is {float(duration):g} s, expected more than 0")
    reader = StreamReader(source)
    if levels is not None and not 1 <= levels <= reader.header.levels:
        raise InputError(f"{levels} levels asked for, the stream has 1 to {reader.header.levels}")
    cutter = _Cutter(reader, sink, levels, start, duration)
    for event in reader:
        match event:
            case Metadata():
                cutter.metadata = event
            case AudioTracks():
                cutter.tracks = event.tracks
            case AudioPackets():
                cutter.take_packets(event.packets)
            case Gop():
                cutter.take_gop(event)
    return cutter.close()


class _Cutter:
    """Holds each GOP until it is known when it ends, and sound until it is known whether its GOP stays."""

    def __init__(
        self,
        reader: StreamReader,
        sink: BinaryIO,
        levels: int | None,
        start: Fraction | None,
        duration: Fraction | None,
    ) -> None:
        self._header = reader.header
        self._writer = StreamWriter(sink)
        self._levels = levels or self._header.levels
        self._start = start or Fraction(0)
        self._stop = None if duration is None else self._start + duration
        self._moves = start is not None or duration is not None
        self._held: Gop | None = None
        self._waiting: list[AudioPacket] = []
        self._first_pts: int | None = None
        self._dropped_until: Fraction | None = None
        self._kept_until = None if duration is None else Fraction(0)
        self._is_past = False
        self._gops = self._frames = 0
        self.metadata: Metadata | None = None
        self.tracks: tuple[AudioTrack, ...] = ()

    def take_gop(self, gop: Gop) -> None:
        self._settle(gop.pts[0])
        self._held = gop

    def take_packets(self, packets: tuple[AudioPacket, ...]) -> None:
        self._waiting += packets
        self._pass_sound()

    def close(self) -> CutResult:
        if self._held is not None:
            self._settle(self._held.pts[-1] + max(1, self._held.durations[-1]))
        if self._first_pts is None:
            begin, end = float(self._start), float(self._dropped_until or 0)
            raise InputError(f"no frame is shown in the range from {begin:g} s on: frames end at {end:g} s")
        if not self._is_past:
            self._kept_until = None
        self._pass_sound()
        self._writer.close()
        start = self._first_pts * self._header.time_base
        return CutResult(self._gops, self._frames, self._writer.bytes_written, start)

    def _settle(self, end_pts: int) -> None:
        """The held GOP is shown until then: write it or drop it."""
        gop, self._held = self._held, None
        if gop is None:
            return
        begin, end = gop.pts[0] * self._header.time_base, end_pts * self._header.time_base
        if end <= self._start:
            self._dropped_until = end
        elif self._stop is not None and begin >= self._stop:
            self._is_past = True
        else:
            self._begin(gop)
            self._kept_until = None if self._stop is None else end
            self._pass_sound()
            self._write_gop(gop)

    def _begin(self, first: Gop) -> None:
        if self._first_pts is None:
            self._first_pts = first.pts[0]
            self._writer.write_header(self._header)
            if self.metadata is not None:
                self._writer.write_metadata(self.metadata)
            self._writer.write_audio_tracks(self.tracks)

    def _write_gop(self, gop: Gop) -> None:
        kept = min(self._levels, gop.levels_kept)
        self._writer.write_gop(
            replace(
                gop,
                pts=tuple(pts - self._shift for pts in gop.pts),
                levels_kept=kept,
                token_crcs=gop.token_crcs[:kept],
                parts=tuple(row[:kept] for row in gop.parts),
            )
        )
        self._gops += 1
        self._frames += len(gop.pts)

    def _pass_sound(self) -> None:
        """Write the waiting packets of GOPs that stay, drop those of others, keep what is undecided.

        Packets of a track stay in order: none overtakes one that is undecided.
        """
        undecided: list[AudioPacket] = []
        blocked: set[int] = set()
        for packet in self._waiting:
            time_base = self.tracks[packet.track].time_base
            time = packet.pts * time_base
            if self._dropped_until is not None and time < self._dropped_until:
                continue
            is_kept = self._first_pts is not None and (self._kept_until is None or time < self._kept_until)
            if is_kept and packet.track not in blocked:
                shift = round(self._shift * self._header.time_base / time_base)
                self._writer.write_audio([replace(packet, pts=packet.pts - shift, dts=packet.dts - shift)])
            elif not self._is_past:
                undecided.append(packet)
                blocked.add(packet.track)
        self._waiting = undecided

    @property
    def _shift(self) -> int:
        return self._first_pts or 0 if self._moves else 0
