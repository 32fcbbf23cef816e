"""Writes a stream front to back: standard output is as good a place as a file."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO, Self

from bsqcodec.bitstream.audio import (
    AudioPacketLike,
    AudioTrackLike,
    decode_packets,
    decode_tracks,
    encode_packets,
    encode_tracks,
)
from bsqcodec.bitstream.container import SIGNATURE, ChunkKind, ChunkWriter, PayloadLimits
from bsqcodec.bitstream.gop import Gop, decode_gop, encode_gop
from bsqcodec.bitstream.header import Header, decode_header, encode_header
from bsqcodec.bitstream.index import OFFSET_BYTES, Index, IndexEntry, encode_index
from bsqcodec.bitstream.limits import DEFAULT_LIMITS
from bsqcodec.bitstream.metadata import MetadataLike, decode_metadata, encode_metadata
from bsqcodec.errors import FormatError, InputError

AUDIO_CHUNK_BYTES = 1 << 20


class StreamWriter:
    """Writes header, metadata, sound tracks (each once, in this order), then GOPs and sound, then the end.

    Sound is put between the GOPs by time: packets are held until the first GOP that begins after them is
    written, so memory is bounded where `write_audio` is called roughly in step with `write_gop`. As a context
    manager it closes on leaving; after an exception it does not, and the stream is seen to be cut off. The
    file object stays open. InputError for what a reader would refuse: all is held against its checks first.
    """

    def __init__(self, fileobj: BinaryIO) -> None:
        self._fileobj = fileobj
        self._chunks: ChunkWriter | None = None
        self._header: Header | None = None
        self._tracks: list[AudioTrackLike] = []
        self._waiting: list[deque[AudioPacketLike]] = []
        self._index = Index()
        self._last_pts = -1
        self._closed = False
        self.bytes_by_chunk: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    @property
    def bytes_written(self) -> int:
        return self._chunks.offset if self._chunks else 0

    def write_header(self, header: Header) -> None:
        """Write the signature and the HEAD chunk; before everything else."""
        if self._header is not None:
            raise InputError("a stream has one header, and it is written")
        payload = encode_header(header)
        _read_back(lambda: decode_header(memoryview(payload)) == header, "header")
        self._header = header
        self._write(ChunkKind.HEAD, payload)

    def write_metadata(self, metadata: MetadataLike) -> None:
        """Write EXIF, ICC profile and tags; nothing is written where there are none."""
        self._require_preamble(ChunkKind.META)
        if metadata.exif is None and metadata.icc is None and not metadata.tags:
            return
        payload = encode_metadata(metadata)
        _read_back(lambda: decode_metadata(memoryview(payload)).tags == metadata.tags, "metadata")
        self._write(ChunkKind.META, payload)

    def write_audio_tracks(self, tracks: Sequence[AudioTrackLike]) -> None:
        """Describe the sound tracks; nothing is written where there are none."""
        self._require_preamble(ChunkKind.TRAK)
        if not tracks:
            return
        payload = encode_tracks(tracks)
        _read_back(lambda: len(decode_tracks(memoryview(payload)).tracks) == len(tracks), "sound tracks")
        self._tracks = list(tracks)
        self._waiting = [deque() for _ in tracks]
        self._write(ChunkKind.TRAK, payload)

    def write_gop(self, gop: Gop) -> None:
        """Write the next GOP, and before it the sound that was waiting for it."""
        header = self._require_header()
        payload = encode_gop(gop, header)
        _read_back(lambda: decode_gop(memoryview(payload), header) == gop, "GOP")
        if gop.pts[0] <= self._last_pts:
            raise InputError(f"a GOP that begins at {gop.pts[0]} after a frame at {self._last_pts}")
        if header.still and len(self._index):
            raise InputError("a still has one GOP, and it is written")
        self._write_audio_before(gop.pts[0] * header.time_base)
        entry = IndexEntry(self.bytes_written, gop.pts[0], len(gop.pts))
        self._write(ChunkKind.GOPS, payload)
        self._index.append(entry, gop.pts[-1] + gop.durations[-1])
        self._last_pts = gop.pts[-1]

    def write_audio(self, packets: Iterable[AudioPacketLike]) -> None:
        """Take packets of any track, those of one track in order; they are written when their time comes."""
        self._require_header()
        for packet in packets:
            if not 0 <= packet.track < len(self._tracks):
                count = len(self._tracks)
                raise InputError(f"a packet of sound track {packet.track}, but {count} tracks are described")
            self._waiting[packet.track].append(packet)

    def close(self) -> None:
        """Write the waiting sound, the index (for more than one GOP, or with sound) and the end; once."""
        if self._closed:
            return
        self._require_header()
        self._write_audio_before(None)
        payload = b""
        if 1 - bool(self._tracks) < len(self._index) <= DEFAULT_LIMITS.gops:
            payload = self.bytes_written.to_bytes(OFFSET_BYTES)
            self._write(ChunkKind.INDX, encode_index(self._index))
        self._write(ChunkKind.ENDS, payload)
        self._closed = True

    def _write_audio_before(self, time: Fraction | None) -> None:
        """Write the waiting packets that begin before that time, all of them for None."""
        for track, waiting in zip(self._tracks, self._waiting, strict=True):
            batch: list[AudioPacketLike] = []
            size = 0
            while waiting and (time is None or waiting[0].pts * track.time_base < time):
                batch.append(waiting.popleft())
                size += len(batch[-1].data)
                if size >= AUDIO_CHUNK_BYTES or len(batch) == DEFAULT_LIMITS.packets_per_chunk:
                    self._write_packets(batch)
                    batch, size = [], 0
            if batch:
                self._write_packets(batch)

    def _write_packets(self, batch: list[AudioPacketLike]) -> None:
        payload = encode_packets(batch)
        tracks = len(self._tracks)
        _read_back(lambda: len(decode_packets(memoryview(payload), tracks).packets) == len(batch), "sound")
        self._write(ChunkKind.AUDI, payload)

    def _write(self, kind: ChunkKind, payload: bytes) -> None:
        if self._chunks is None:
            self._chunks = ChunkWriter(self._fileobj)
            self.bytes_by_chunk["signature"] = len(SIGNATURE)
        limit = PayloadLimits(DEFAULT_LIMITS)[kind]
        if len(payload) > limit:
            raise InputError(f"a {kind} chunk of {len(payload)} bytes cannot be written: at most {limit} can")
        before = self._chunks.offset
        self._chunks.write(kind, payload)
        self.bytes_by_chunk[str(kind)] = self.bytes_by_chunk.get(kind, 0) + self._chunks.offset - before

    def _require_header(self) -> Header:
        if self._header is None or self._closed:
            raise InputError(
                "nothing is written " + ("after the end" if self._closed else "before the header")
            )
        return self._header

    def _require_preamble(self, kind: ChunkKind) -> None:
        self._require_header()
        if len(self._index) or kind in self.bytes_by_chunk:
            raise InputError(f"the {kind} chunk is written once, between the header and the first GOP")


def _read_back(reads_the_same: Callable[[], bool], what: str) -> None:
    """Hold a payload against the reader: what it refuses, or reads as something else, is not written."""
    try:
        same = reads_the_same()
    except FormatError as error:
        reason = str(error).removesuffix(f" (at byte {error.offset})")
        raise InputError(f"{what} cannot be written: {reason}") from error
    if not same:
        raise InputError(f"{what} cannot be written: a field is not of the type that the stream holds")
