"""Ways to damage a stream, and what must hold however it was damaged."""

import io
import random
from collections.abc import Callable
from fractions import Fraction
from zlib import crc32

from bitstream.samples import film, still, still_film

from bsqcodec.bitstream import Damage, Gop, StreamReader, cut, describe
from bsqcodec.bitstream.varint import encode_varint
from bsqcodec.errors import BsqError, FormatError

STREAMS = (film(3).to_bytes(), still().to_bytes(), still_film().to_bytes())
TYPES = (b"HEAD", b"META", b"TRAK", b"GOPS", b"AUDI", b"INDX", b"ENDS")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
LENGTHS = (0, 1, 127, 128, 1 << 16, 1 << 20, 1 << 26, (1 << 26) + 1, 1 << 40, (1 << 63) - 1)


def chunks(data: bytes) -> list[tuple[int, int]]:
    """Begin and end of every chunk, as far as they can be made out; at least one pair."""
    found = []
    position = 9
    while position + 5 < len(data):
        size = data[position + 4]
        begin = position + 5
        if size > 127:
            size, begin = (size & 127) + (data[begin] << 7), begin + 1
        found.append((position, min(begin + size + 4, len(data))))
        position = found[-1][1]
    return found or [(0, len(data))]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 50))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    size = min(rng.choice((1, 4, 16, 300)), len(data) - begin)
    patch = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.choice(INTERESTING)]) * size
    return data[:begin] + patch + data[begin + size :]


def cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    extra = rng.choice((rng.randbytes(rng.randrange(1, 40)), rng.choice(TYPES) * rng.randrange(1, 30)))
    return data[:place] + extra + data[place:]


def remove(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.randrange(1, 40) :]


def lie_about_length(data: bytes, rng: random.Random) -> bytes:
    begin, end = rng.choice(chunks(data))
    return data[: begin + 4] + encode_varint(rng.choice(LENGTHS)) + data[min(begin + 5, end) :]


def rearrange(data: bytes, rng: random.Random) -> bytes:
    """Chunks swapped, repeated, left out."""
    pieces = [data[begin:end] for begin, end in chunks(data)]
    for _ in range(rng.randrange(1, 4)):
        first, second = rng.randrange(len(pieces)), rng.randrange(len(pieces))
        pieces[first], pieces[second] = rng.choice(
            ((pieces[second], pieces[first]), (pieces[first], pieces[first]), (b"", pieces[second]))
        )
    return data[:9] + b"".join(pieces)


def rewrite_payload(data: bytes, rng: random.Random) -> bytes:
    """A chunk with other contents and a right CRC, so that the damage reaches what is behind it."""
    begin, end = place = rng.choice(chunks(data))
    payload = data[begin + 5 : end - 4]
    for _ in range(rng.choice((1, 1, 2, 3))):
        payload = rng.choice((flip_bits, overwrite, cut_off, insert, remove))(payload or b"\0", rng)
    return with_payload(data, place, payload)


def with_payload(data: bytes, place: tuple[int, int], payload: bytes) -> bytes:
    """The stream with another payload, and the CRC that fits it, in the chunk at that place."""
    begin, end = place
    kind = data[begin : begin + 4]
    sealed = kind + encode_varint(len(payload)) + payload + crc32(kind + payload).to_bytes(4)
    return data[:begin] + sealed + data[end:]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits,
    overwrite,
    cut_off,
    insert,
    remove,
    lie_about_length,
    rearrange,
    rewrite_payload,
    rewrite_payload,
    rewrite_payload,
)


def read_all(data: bytes) -> tuple[list[Gop], bool]:
    """Read strictly: the GOPs, and whether it ended well rather than in a FormatError."""
    gops: list[Gop] = []
    try:
        for event in StreamReader(io.BytesIO(data)):
            if isinstance(event, Gop):
                gops.append(event)
    except FormatError:
        return gops, False
    return gops, True


def check(data: bytes) -> str:
    """Read a stream strictly and with keep_going; raises where anything but a FormatError gets out.

    Returns how it ended: "refused" (no header), "prefix" (FormatError later on) or "whole".
    """
    gops, whole = read_all(data)
    try:
        reader = StreamReader(io.BytesIO(data), keep_going=True)
    except FormatError:
        assert not gops
        assert not whole
        return "refused"
    events = list(reader)
    survivors = [event for event in events if isinstance(event, Gop)]
    damage = [event for event in events if isinstance(event, Damage)]
    assert survivors[: len(gops)] == gops
    assert whole == (not damage)
    assert reader.complete or damage
    return "whole" if whole else "prefix"


def check_tools(data: bytes) -> None:
    """The same for what is built on the reader."""
    gops, whole = read_all(data)
    try:
        summary = describe(io.BytesIO(data))
    except FormatError:
        assert not gops
    else:
        assert summary.frame_count >= sum(len(gop.pts) for gop in gops)
        assert whole <= summary.complete
    for options in ({"levels": 1}, {"start": Fraction(1, 4), "duration": Fraction(1, 100)}):
        try:
            cut(io.BytesIO(data), io.BytesIO(), **options)
        except BsqError:
            assert not whole or "start" in options or not gops
    try:
        StreamReader(io.BytesIO(data), keep_going=True).seek_time(Fraction(1, 4))
    except FormatError:
        assert not gops
