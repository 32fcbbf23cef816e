"""The GOPS chunk: one group of pictures, from a key frame up to the next one."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from zlib import crc32

from bsqcodec.bitstream.header import RATE_INDEX_MAX, Header
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from bsqcodec.bitstream.varint import (
    VARINT_END,
    Cursor,
    encode_runs,
    encode_signed,
    encode_varint,
)
from bsqcodec.blocks import BlockRates, TubeForm
from bsqcodec.errors import InputError

SMOOTHING_MAX = 32

_MODE_MASK = 3
_JOINED = 4
_DURATIONS_LISTED = 8
_REPEATS = 16
_OWN_LENGTH = 32
_SMOOTHED = 64
_MORE = 128  # flags stand behind these
_QUARTERS = 1


class CodingMode(IntEnum):
    """How the tokens of a GOP became bytes."""

    RAW = 0
    STATIC = 1
    PRIOR = 2


@dataclass(frozen=True)
class Gop(BlockRates):
    """One group of pictures, as bytes: a key frame and the tubes that follow it.

    pts, durations: one per frame, in units of the header's time base; pts strictly increasing from >= 0 on,
        duration 0 = unknown.
    key_rate, tube_rate: rate index 0..1000 of the key frame and of the tubes.
    tube_frames: that a tube holds.
    levels_kept: levels present, the coarsest ones; fewer than `Header.levels` after a cut.
    token_crcs: 16 bits per kept level, see `token_crc`.
    parts: joined: one row, parts[0][level]; else a row per coded block, in their order.
    repeats: numbers of the blocks that are not coded but show the last frame of the block before them again;
        block 0 is the key frame and never one of them.
    smoothing: strength of the filter behind the decoder, 0 = none.
    quarters: the tubes' vectors are in quarters of a pixel, where those of their length are in halves else.
    """

    pts: tuple[int, ...]
    durations: tuple[int, ...]
    mode: CodingMode
    joined: bool
    key_rate: int
    tube_rate: int
    tube_frames: int
    levels_kept: int
    token_crcs: tuple[int, ...]
    parts: tuple[tuple[bytes, ...], ...]
    repeats: frozenset[int] = frozenset()
    smoothing: int = 0
    quarters: bool = False

    @property
    def blocks(self) -> int:
        """How many there are, coded and repeated."""
        return block_count(len(self.pts), self.tube_frames)

    @property
    def form(self) -> TubeForm:
        """Of its tubes."""
        return TubeForm(self.tube_frames, self.quarters)


def block_count(frames: int, tube_frames: int) -> int:
    """Blocks in a GOP of so many frames: the key frame, then tubes, the last one filled up with copies."""
    return 1 + -(-(frames - 1) // tube_frames)


def token_crc(packed_blocks: Iterable[bytes | bytearray | memoryview]) -> int:
    """The 16-bit check of one level's tokens over a whole GOP: the low half of the CRC-32 over all its bits.

    packed_blocks: block after block, the bits of that level packed as `numpy.packbits` does it: positions in
    row-major order, the bits of a token in order, eight to a byte, the first in the most significant bit,
    zeros at the end of a block.
    """
    crc = 0
    for packed in packed_blocks:
        crc = crc32(packed, crc)
    return crc & 0xFFFF


def encode_gop(gop: Gop, header: Header) -> bytes:
    """Payload of a GOPS chunk. InputError where the fields contradict each other."""
    frames = len(gop.pts)
    blocks = gop.blocks
    rows = 1 if gop.joined else blocks - len(gop.repeats)
    if len(gop.durations) != frames or not frames:
        raise InputError(f"a GOP of {frames} times and {len(gop.durations)} durations, expected equal counts")
    if not gop.repeats <= set(range(1, blocks)):
        raise InputError(
            f"a GOP of {blocks} blocks repeats {sorted(gop.repeats)}, expected 1 to {blocks - 1}"
        )
    if not 0 <= gop.smoothing <= SMOOTHING_MAX:
        raise InputError(f"smoothing by {gop.smoothing}, expected 0 to {SMOOTHING_MAX}")
    if len(gop.parts) != rows:
        raise InputError(f"a GOP of {frames} frames has {len(gop.parts)} rows of parts, expected {rows}")
    if any(len(row) != gop.levels_kept for row in (*gop.parts, gop.token_crcs)):
        raise InputError(
            f"a GOP of {gop.levels_kept} levels needs as many parts in a row and as many token CRCs"
        )
    deltas = tuple(after - before for before, after in pairwise(gop.pts))
    listed = gop.durations[:-1] != deltas
    own_length = gop.tube_frames != header.tube_frames
    flags = gop.mode | _JOINED * gop.joined | _DURATIONS_LISTED * listed
    flags |= _REPEATS * bool(gop.repeats) | _OWN_LENGTH * own_length | _SMOOTHED * bool(gop.smoothing)
    payload = bytearray([flags | _MORE * gop.quarters])
    if gop.quarters:
        payload += encode_varint(_QUARTERS)
    payload += encode_varint(frames) + encode_varint(gop.pts[0])
    payload += encode_runs(deltas) + encode_runs(gop.durations) if listed else encode_runs(gop.durations)
    if own_length:
        payload += encode_varint(gop.tube_frames)
    if gop.repeats:
        payload += encode_runs(tuple(int(block in gop.repeats) for block in range(1, blocks)))
    if gop.smoothing:
        payload += encode_varint(gop.smoothing)
    payload += encode_varint(gop.key_rate) + encode_signed(gop.tube_rate - gop.key_rate)
    payload += encode_varint(gop.levels_kept)
    for crc in gop.token_crcs:
        payload += crc.to_bytes(2)
    for row in gop.parts:
        for part in row:
            payload += encode_varint(len(part))
    return bytes(payload) + b"".join(part for row in gop.parts for part in row)


def decode_gop(payload: memoryview, header: Header, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> Gop:
    """The GOP in a GOPS chunk's payload. FormatError where it contradicts itself, header or limits."""
    cursor = Cursor(payload, offset)
    flags = cursor.byte("flags of the GOP")
    if flags & _MODE_MASK > CodingMode.PRIOR:
        raise cursor.fault(f"flags of the GOP are 0x{flags:02x}: not known to this version")
    more = cursor.varint("more flags of the GOP") if flags & _MORE else _QUARTERS
    if more != _QUARTERS:
        raise cursor.fault(f"more flags of the GOP are 0x{more:02x}: not known to this version")
    frames = cursor.varint("frames of the GOP", 1, min(header.max_gop_frames, limits.frames_per_gop))
    pts, durations = _decode_times(cursor, frames, listed=bool(flags & _DURATIONS_LISTED))
    tube_frames = header.tube_frames
    if flags & _OWN_LENGTH:
        tube_frames = cursor.varint("frames per tube", 1, limits.tube_frames)
        if tube_frames == header.tube_frames:
            raise cursor.fault(f"the GOP states tubes of {tube_frames} frames, as the header does")
    blocks = block_count(frames, tube_frames)
    repeats = _decode_repeats(cursor, blocks) if flags & _REPEATS else frozenset()
    smoothing = cursor.varint("smoothing", 1, SMOOTHING_MAX) if flags & _SMOOTHED else 0
    key_rate = cursor.varint("rate index", 0, RATE_INDEX_MAX)
    tube_rate = key_rate + cursor.signed("rate index of the tubes")
    if not 0 <= tube_rate <= RATE_INDEX_MAX:
        raise cursor.fault(f"rate index of the tubes is {tube_rate}, expected 0 to {RATE_INDEX_MAX}")
    levels = cursor.varint("levels of the GOP", 1, min(header.levels, limits.levels))
    token_crcs = tuple(int.from_bytes(cursor.take(2, "token CRC")) for _ in range(levels))
    joined = bool(flags & _JOINED)
    rows = 1 if joined else blocks - len(repeats)
    sizes = [[cursor.varint("length of a part") for _ in range(levels)] for _ in range(rows)]
    total = sum(map(sum, sizes))
    if total != cursor.remaining:
        raise cursor.fault(
            f"the parts of the GOP take {total} bytes, but the chunk has {cursor.remaining} left"
        )
    parts = tuple(tuple(cursor.take(size, "a part") for size in row) for row in sizes)
    mode = CodingMode(flags & _MODE_MASK)
    return Gop(
        pts, durations, mode, joined, key_rate, tube_rate, tube_frames, levels, token_crcs, parts, repeats,
        smoothing, quarters=bool(flags & _MORE),
    )  # fmt: skip


def _decode_repeats(cursor: Cursor, blocks: int) -> frozenset[int]:
    marks = cursor.runs(blocks - 1, "mark of a repeated tube", high=1)
    if 1 not in marks:
        raise cursor.fault("no tube of the GOP is repeated, but its flags say so")
    return frozenset(block for block, mark in enumerate(marks, 1) if mark)


def _decode_times(cursor: Cursor, frames: int, *, listed: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    first = cursor.varint("time of the first frame")
    if listed:
        deltas = cursor.runs(frames - 1, "time between frames", low=1)
        durations = cursor.runs(frames, "duration")
    else:
        durations = cursor.runs(frames, "duration")
        deltas = durations[:-1]
        if 0 in deltas:
            raise cursor.fault("two frames of the GOP have the same time")
    pts = [first]
    for delta in deltas:
        pts.append(pts[-1] + delta)
    if pts[-1] + max(durations) >= VARINT_END:
        raise cursor.fault("times of the GOP go beyond 2^63 - 1")
    return tuple(pts), tuple(durations)
