"""Reads a stream front to back, from a pipe as well as from a file; jumps by time where the file can seek."""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Self, TypeAlias

from bsqcodec.bitstream.audio import AudioPackets, AudioTracks, decode_packets, decode_tracks
from bsqcodec.bitstream.container import CRC_BYTES, TYPE_BYTES, Chunk, ChunkKind, ChunkReader, is_skippable
from bsqcodec.bitstream.gop import Gop, decode_gop
from bsqcodec.bitstream.header import decode_header
from bsqcodec.bitstream.index import OFFSET_BYTES, Index, decode_index
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from bsqcodec.bitstream.metadata import Metadata, decode_metadata
from bsqcodec.bitstream.source import Source
from bsqcodec.errors import FormatError

_KINDS = frozenset(ChunkKind)
_AFTER_PREAMBLE = ("", ChunkKind.GOPS, ChunkKind.AUDI, ChunkKind.INDX, ChunkKind.ENDS)
_END_WITH_INDEX = TYPE_BYTES + 1 + OFFSET_BYTES + CRC_BYTES


@dataclass(frozen=True)
class Damage:
    """Something that could not be read, in place of the error that a strict reader raises.

    offset: byte in the stream. gop_index: number of the GOP that is lost, None where it is not a GOP.
    """

    offset: int
    message: str
    gop_index: int | None


Event: TypeAlias = Gop | AudioTracks | AudioPackets | Metadata | Damage


class StreamReader:
    """Iterates over what a stream holds: Metadata and AudioTracks first, where there are any, then Gop and
    AudioPackets.

    `header` is read at once; FormatError where magic, version or header are not as they should be. A fault
    further on raises FormatError, after everything before it was yielded; with keep_going it is yielded as
    Damage instead, and reading goes on at the next intact chunk. Nothing beyond the ENDS chunk is read;
    `complete` says whether it was seen. event_offset: where the chunk of the last event begins.
    bytes_by_chunk: bytes of intact chunks so far, by type.

    Example:
        >>> with open("photo.bsq", "rb") as file:
        ...     reader = StreamReader(file)
        ...     frames = sum(len(event.pts) for event in reader if isinstance(event, Gop))
    """

    def __init__(
        self, fileobj: BinaryIO, *, keep_going: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._source = Source(fileobj)
        self._chunks = ChunkReader(self._source, limits)
        self._limits = limits
        self._keep_going = keep_going
        self._queue: deque[Event] = deque()
        self._seen: set[str] = set()
        self._track_count = 0
        self._gops = 0
        self._damages = 0
        self._last_pts = -1
        self._expected_pts: int | None = None
        self._finished = False
        self.complete = False
        self.event_offset = 0
        self.bytes_by_chunk: dict[str, int] = {}
        self._chunks.read_signature()
        self.bytes_by_chunk["signature"] = self._source.offset
        chunk = self._chunks.read()
        if chunk is None or chunk.kind != ChunkKind.HEAD:
            found = "nothing" if chunk is None else f"a {chunk.kind} chunk"
            raise FormatError(f"expected the HEAD chunk, found {found}", self.bytes_by_chunk["signature"])
        self._count(chunk)
        self.header = decode_header(chunk.payload, chunk.payload_offset, limits)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._queue and not self._finished:
            self._step()
        if not self._queue:
            raise StopIteration
        return self._queue.popleft()

    @property
    def offset(self) -> int:
        """Bytes of the stream read so far."""
        return self._source.offset

    @property
    def bytes_left(self) -> int:
        """Bytes of the file that were not read; 0 where the file cannot seek."""
        here = self._source.offset
        size = self._source.size()
        if size is None:
            return 0
        self._source.seek(here)
        return size - here

    def index(self) -> Index | None:
        """The index from the end of the file; None where the file cannot seek or has no intact index."""
        here = self._source.offset
        size = self._source.size()
        if size is None:
            return None
        try:
            end = self._chunk_at(size - _END_WITH_INDEX, ChunkKind.ENDS)
            chunk = self._chunk_at(min(int.from_bytes(end.payload), size), ChunkKind.INDX)
            return decode_index(chunk.payload, chunk.payload_offset, self._limits)
        except FormatError:
            return None
        finally:
            self._source.seek(here)

    def seek_time(self, time: Fraction) -> bool:
        """Go on at the GOP shown at that time (seconds). False, and nothing is changed, without an index.

        Metadata and AudioTracks that were not read yet still come first.
        """
        index = self.index()
        if index is None:
            return False
        while not self._finished and self._chunks.peek_kind() not in _AFTER_PREAMBLE:
            self._step()
        self._gops = index.find(int(time / self.header.time_base))
        entry = index[self._gops]
        self._source.seek(entry.offset)
        self._last_pts = -1
        self._expected_pts = entry.pts
        self._finished = False
        return True

    def _chunk_at(self, offset: int, kind: ChunkKind) -> Chunk:
        self._source.seek(max(offset, 0))
        chunk = self._chunks.read()
        if chunk is None or chunk.kind != kind:
            raise FormatError(f"expected the {kind} chunk", offset)
        return chunk

    def _step(self) -> None:
        """Read one chunk; its event, if any, is queued."""
        offset = self.event_offset = self._source.offset
        try:
            chunk = self._chunks.read()
        except FormatError as error:
            gop_index = None
            if self._chunks.failed_kind == ChunkKind.GOPS:
                gop_index = self._gops
                self._gops += 1
            self._report(error, offset, gop_index)
            self._recover()
            return
        gop_index = self._gops if chunk and chunk.kind == ChunkKind.GOPS else None
        try:
            if chunk is None:
                self._finished = True
                raise FormatError(f"cut off after {self._gops} GOPs: there is no ENDS chunk", offset)
            self._count(chunk)
            event = self._interpret(chunk)
        except FormatError as error:
            self._report(error, offset, gop_index)
        else:
            self._queue.extend([event] if event else [])
        self._gops += gop_index is not None

    def _report(self, error: FormatError, offset: int, gop_index: int | None) -> None:
        if not self._keep_going:
            self._finished = True
            raise error
        place = offset if error.offset is None else error.offset
        self._queue.append(Damage(place, str(error), gop_index))
        self._damages += 1
        if self._damages == self._limits.damages:
            self._finished = True
            self._queue.append(Damage(place, f"too damaged: gave up after {self._damages} faults", None))

    def _recover(self) -> None:
        offset = self._source.offset
        try:
            self._finished = not self._chunks.recover() or self._finished
        except FormatError as error:
            self._finished = True
            self._report(error, offset, None)

    def _interpret(self, chunk: Chunk) -> Event | None:
        payload, place = chunk.payload, chunk.payload_offset
        match chunk.kind:
            case ChunkKind.META:
                self._require_preamble(chunk)
                return decode_metadata(payload, place, self._limits)
            case ChunkKind.TRAK:
                self._require_preamble(chunk)
                tracks = decode_tracks(payload, place, self._limits)
                self._track_count = len(tracks.tracks)
                return tracks
            case ChunkKind.AUDI:
                if not self._track_count:
                    raise FormatError("sound without a TRAK chunk that describes it", chunk.offset)
                return decode_packets(payload, self._track_count, place, self._limits)
            case ChunkKind.GOPS:
                return self._check_order(decode_gop(payload, self.header, place, self._limits), chunk)
            case ChunkKind.INDX:
                decode_index(payload, place, self._limits)
                return None
            case ChunkKind.ENDS:
                if len(payload) not in (0, OFFSET_BYTES):
                    raise FormatError(
                        f"ENDS chunk of {len(payload)} bytes, expected 0 or {OFFSET_BYTES}", place
                    )
                self._finished = self.complete = True
                return None
        if is_skippable(chunk.kind):
            return None
        raise FormatError(f"a {chunk.kind} chunk, which this version does not know or not here", chunk.offset)

    def _require_preamble(self, chunk: Chunk) -> None:
        if self._gops or chunk.kind in self._seen:
            raise FormatError(f"a {chunk.kind} chunk after the first GOP or a second time", chunk.offset)
        self._seen.add(chunk.kind)

    def _check_order(self, gop: Gop, chunk: Chunk) -> Gop:
        expected, self._expected_pts = self._expected_pts, None
        if expected is not None and gop.pts[0] != expected:
            raise FormatError(f"a GOP that begins at {gop.pts[0]}, the index says {expected}", chunk.offset)
        if gop.pts[0] <= self._last_pts:
            message = f"a GOP that begins at {gop.pts[0]} after a frame at {self._last_pts}"
            raise FormatError(message, chunk.offset)
        if self.header.still and (self._gops or len(gop.pts) > 1):
            raise FormatError("more than one frame in a still", chunk.offset)
        self._last_pts = gop.pts[-1]
        return gop

    def _count(self, chunk: Chunk) -> None:
        kind = chunk.kind if chunk.kind in _KINDS else "other"
        self.bytes_by_chunk[kind] = self.bytes_by_chunk.get(kind, 0) + chunk.size
