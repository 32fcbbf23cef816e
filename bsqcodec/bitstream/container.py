"""The frame around everything: a signature, then chunks of type, length, payload and CRC-32, as in PNG."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO
from zlib import crc32

from bsqcodec.bitstream.limits import Limits
from bsqcodec.bitstream.source import Source
from bsqcodec.bitstream.varint import VARINT_BYTES, Cursor, encode_varint
from bsqcodec.errors import FormatError

MAGIC = b"\xb5BSQ\r\n\x1a\n"
VERSION = 1
SIGNATURE = MAGIC + bytes([VERSION])
TYPE_BYTES = 4
CRC_BYTES = 4

_LETTERS = re.compile(rb"[A-Za-z]{4}")
_SCAN_WINDOW = 1 << 16


class ChunkKind(StrEnum):
    """The chunk types of version 1."""

    HEAD = "HEAD"
    META = "META"
    TRAK = "TRAK"
    GOPS = "GOPS"
    AUDI = "AUDI"
    INDX = "INDX"
    ENDS = "ENDS"


_KNOWN = re.compile("|".join(ChunkKind).encode())


@dataclass(frozen=True)
class Chunk:
    """One intact chunk. offset: of its first byte in the stream; payload_offset: of its payload."""

    kind: str
    payload: memoryview
    offset: int
    payload_offset: int

    @property
    def size(self) -> int:
        return self.payload_offset - self.offset + len(self.payload) + CRC_BYTES


def is_skippable(kind: str) -> bool:
    """A reader that does not know a type passes over it where its first letter is a small one."""
    return kind[0].islower()


class PayloadLimits:
    """Bytes that the payload of a chunk may have, by its type."""

    def __init__(self, limits: Limits) -> None:
        self._any = limits.chunk_bytes
        self._by_kind: dict[str, int] = {
            ChunkKind.HEAD: limits.header_bytes,
            ChunkKind.META: limits.metadata_bytes,
            ChunkKind.TRAK: limits.tracks_bytes,
            ChunkKind.INDX: limits.index_bytes,
        }

    def __getitem__(self, kind: str) -> int:
        return self._by_kind.get(kind, self._any)


class ChunkWriter:
    """Writes the signature, then chunks; counts bytes itself, so the sink need not tell or seek."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.offset = 0
        self._put(SIGNATURE)

    def write(self, kind: ChunkKind, payload: bytes) -> None:
        head = kind.encode()
        self._put(head + encode_varint(len(payload)))
        self._put(payload)
        self._put(crc32(payload, crc32(head)).to_bytes(CRC_BYTES))

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        self.offset += len(view)
        while view:
            view = view[self._sink.write(view) :]


class ChunkReader:
    """Reads chunks front to back and checks length and CRC; finds the next intact one after damage.

    failed_kind: the type that the chunk on which `read` failed claims to be, "" where it has none.
    """

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = PayloadLimits(limits)
        self._buffer = bytearray()
        self._length_holds = False
        self._resync_left = limits.resync_bytes
        self.failed_kind = ""

    def read_signature(self) -> None:
        """Check magic and version. FormatError says what the file is instead, where it can tell."""
        self._buffer = bytearray()
        self._source.read_into(self._buffer, len(SIGNATURE))
        found = bytes(self._buffer)
        if found[: len(MAGIC)] == MAGIC[: len(found)] and len(found) < len(SIGNATURE):
            raise FormatError(f"not a .bsq stream: {len(found)} bytes are all there is", 0)
        if found[: len(MAGIC)] != MAGIC:
            if found[1:4] == MAGIC[1:4]:
                raise FormatError("damaged by a transfer in text mode: copy the file in binary mode", 0)
            begin = f"it begins with {found.hex(' ')}, expected {MAGIC.hex(' ')}"
            raise FormatError(f"not a .bsq stream: {begin}", 0)
        if found[-1] != VERSION:
            raise FormatError(f"format version {found[-1]}, this reader knows version {VERSION}", len(MAGIC))

    def read(self) -> Chunk | None:
        """The next chunk, None at the end of the file. FormatError where it is damaged: `recover` goes on."""
        offset = self._source.offset
        self._buffer = bytearray()
        self._length_holds = False
        self.failed_kind = ""
        if not self._source.read_into(self._buffer, TYPE_BYTES):
            return None
        if len(self._buffer) < TYPE_BYTES or not _LETTERS.fullmatch(self._buffer):
            raise FormatError(f"expected a chunk, found {self._buffer.hex(' ')}", offset)
        kind = self.failed_kind = self._buffer.decode("ascii")
        size = self._read_length(kind, offset)
        payload_offset = self._source.offset
        received = self._source.read_into(self._buffer, size + CRC_BYTES)
        if received < size + CRC_BYTES:
            message = f"cut off: the {kind} chunk needs {size + CRC_BYTES} more bytes, {received} are there"
            raise FormatError(message, offset)
        self._length_holds = True
        payload = memoryview(self._buffer)[payload_offset - offset : -CRC_BYTES]
        stated = int.from_bytes(self._buffer[-CRC_BYTES:])
        actual = crc32(payload, crc32(kind.encode()))
        if stated != actual:
            raise FormatError(f"damaged {kind} chunk: CRC-32 {actual:08x}, expected {stated:08x}", offset)
        return Chunk(kind, payload, offset, payload_offset)

    def peek_kind(self) -> str:
        """What stands where the next chunk's type should be; "" at the end of the file."""
        ahead = bytearray()
        self._source.read_into(ahead, TYPE_BYTES)
        self._source.unread(memoryview(ahead))
        return ahead.decode("latin-1")

    def recover(self) -> bool:
        """After `read` failed: go to the next chunk. False where the file ends before one is found.

        Where the length leads to another chunk's head or to the end, it is believed; else the bytes read are
        searched for the next intact chunk. FormatError where that needs more than `Limits.resync_bytes`.
        """
        failed = memoryview(self._buffer)
        if self._length_holds:
            ahead = bytearray()
            self._source.read_into(ahead, TYPE_BYTES + VARINT_BYTES)
            self._source.unread(memoryview(ahead))
            if not ahead or self._is_head(ahead):
                return bool(ahead)
        self._unread(failed[1:])
        while True:
            window = bytearray()
            received = self._source.read_into(window, _SCAN_WINDOW)
            match = _KNOWN.search(window)
            if match is None:
                if received < _SCAN_WINDOW:
                    return False
                self._unread(memoryview(window)[1 - TYPE_BYTES :])
                continue
            self._unread(memoryview(window)[match.start() :])
            try:
                self.read()
            except FormatError:
                self._unread(memoryview(self._buffer)[1:])
            else:
                self._unread(memoryview(self._buffer))
                return True

    def _read_length(self, kind: str, offset: int) -> int:
        start = len(self._buffer)
        while self._source.read_into(self._buffer, 1):
            if self._buffer[-1] < 128 or len(self._buffer) - start == VARINT_BYTES:
                break
        length = Cursor(memoryview(bytes(self._buffer[start:])), offset + start)
        return length.varint(f"length of the {kind} chunk", 0, self._limits[kind])

    def _is_head(self, ahead: bytearray) -> bool:
        if not _KNOWN.match(ahead):
            return False
        kind = ahead[:TYPE_BYTES].decode()
        try:
            Cursor(memoryview(ahead)[TYPE_BYTES:], 0).varint("length", 0, self._limits[kind])
        except FormatError:
            return False
        return True

    def _unread(self, data: memoryview) -> None:
        self._resync_left -= len(data)
        if self._resync_left < 0:
            raise FormatError("too damaged: no intact chunk found in reasonable time", self._source.offset)
        self._source.unread(data)
