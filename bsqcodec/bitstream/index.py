"""The INDX chunk: where every GOP begins, and when; how to find it from the end of a stream."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass

from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from bsqcodec.bitstream.varint import Cursor, encode_varint

OFFSET_BYTES = 8


@dataclass(frozen=True)
class IndexEntry:
    """One GOP: its chunk's offset from the start of the stream, time of the first frame, frame count."""

    offset: int
    pts: int
    frames: int


class Index:
    """All GOPs of a stream in order of time, 24 bytes each, and the time at which the last one ends."""

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._pts = array("Q")
        self._frames = array("Q")
        self.end_pts = 0
        self.frame_count = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, gop: int) -> IndexEntry:
        return IndexEntry(self._offsets[gop], self._pts[gop], self._frames[gop])

    def append(self, entry: IndexEntry, end_pts: int) -> None:
        """Add the next GOP; end_pts: its last frame's time plus that frame's duration."""
        self._offsets.append(entry.offset)
        self._pts.append(entry.pts)
        self._frames.append(entry.frames)
        self.end_pts = end_pts
        self.frame_count += entry.frames

    def find(self, pts: int) -> int:
        """Number of the GOP that is shown at that time: the last one to begin by then, else the first."""
        return max(0, bisect_right(self._pts, pts) - 1)


def encode_index(index: Index) -> bytes:
    """Payload of the INDX chunk: count; per GOP offset and time, as differences, and frame count; end."""
    payload = bytearray(encode_varint(len(index)))
    offset = pts = 0
    for number in range(len(index)):
        entry = index[number]
        payload += encode_varint(entry.offset - offset) + encode_varint(entry.pts - pts)
        payload += encode_varint(entry.frames)
        offset, pts = entry.offset, entry.pts
    return bytes(payload + encode_varint(index.end_pts - pts))


def decode_index(payload: memoryview, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> Index:
    """The index in an INDX chunk's payload; FormatError where offsets or times do not ascend."""
    cursor = Cursor(payload, offset)
    count = cursor.varint("number of GOPs in the index", 1, min(limits.gops, len(payload) // 3))
    index = Index()
    position = pts = 0
    for number in range(count):
        first = number == 0
        position += cursor.varint("offset in the index", 1)
        pts += cursor.varint("time in the index", 0 if first else 1)
        frames = cursor.varint("frames in the index", 1, limits.frames_per_gop)
        if max(position, pts) >> 63:
            raise cursor.fault("offsets or times of the index go beyond 2^63 - 1")
        index.append(IndexEntry(position, pts, frames), pts)
    index.end_pts = pts + cursor.varint("end in the index")
    if index.end_pts >> 63:
        raise cursor.fault("the end in the index is beyond 2^63 - 1")
    cursor.finish("the index")
    return index
