"""How much a reader is willing to believe; counts and lengths are held against it before memory is taken."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Upper bounds for what a stream may claim; the defaults fit everything this package writes.

    resync_bytes and damages are for `keep_going`: bytes that may be read again in search of intact chunks,
    and faults that may be survived, before the reader gives up. Other byte counts bound one chunk's payload.
    """

    width: int = 65535
    height: int = 65535
    pixels: int = 1 << 28
    levels: int = 16
    tube_frames: int = 64
    frames_per_gop: int = 1024
    gops: int = 1 << 20
    tracks: int = 64
    packets_per_chunk: int = 1 << 16
    tags: int = 1024
    chunk_bytes: int = 64 * MIB
    header_bytes: int = 1 << 16
    metadata_bytes: int = 16 * MIB
    tracks_bytes: int = MIB
    index_bytes: int = 16 * MIB
    resync_bytes: int = 256 * MIB
    damages: int = 1024


DEFAULT_LIMITS = Limits()
