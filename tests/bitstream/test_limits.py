"""Nothing is believed before it is checked, and no memory is taken for what was not received."""

import io
import tracemalloc
from fractions import Fraction

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bitstream.samples import film, still
from bitstream.test_damage import chunk
from bsqcodec.bitstream import Damage, Limits, StreamReader, cbor
from bsqcodec.bitstream.container import SIGNATURE
from bsqcodec.bitstream.gop import decode_gop, encode_gop
from bsqcodec.bitstream.header import Header, decode_header, encode_header
from bsqcodec.bitstream.varint import Cursor, encode_varint
from bsqcodec.errors import FormatError

HEADER = Header(768, 512, "base", bytes(16), 4, max_gop_frames=1024)


def complaint(data: bytes, keep_going: bool) -> str:
    try:
        events = list(StreamReader(io.BytesIO(data), keep_going=keep_going))
    except FormatError as error:
        return str(error)
    return "".join(event.message for event in events if isinstance(event, Damage))


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(b"HEAD", 1 << 16), (b"META", 1 << 24), (b"TRAK", 1 << 20), (b"GOPS", 1 << 26), (b"INDX", 1 << 24)],
)
def test_a_false_length_takes_no_memory(kind: bytes, limit: int) -> None:
    begin = b"" if kind == b"HEAD" else chunk(b"HEAD", encode_header(HEADER))
    for length, message in ((limit, "cut off"), (limit + 1, f"expected 0 to {limit}")):
        data = SIGNATURE + begin + kind + encode_varint(length) + bytes(100)
        for keep_going in (False, True):
            tracemalloc.start()
            assert message in complaint(data, keep_going)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 1 << 20


class Recorder(io.BytesIO):
    """Remembers how much was asked for: a pipe or a file takes that memory at once."""

    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        self.largest = max(self.largest, size)
        return super().read(size)


def test_a_file_is_never_asked_for_more_than_a_slice() -> None:
    file = Recorder(SIGNATURE + chunk(b"HEAD", encode_header(HEADER)) + b"GOPS" + encode_varint(1 << 26))
    with pytest.raises(FormatError, match="cut off"):
        list(StreamReader(file))
    assert 0 < file.largest <= 1 << 20


def test_a_reader_with_smaller_limits_refuses() -> None:
    data = film().to_bytes()
    for limits in (
        Limits(width=63),
        Limits(height=47),
        Limits(pixels=64 * 48 - 1),
        Limits(levels=2),
        Limits(frames_per_gop=4),
    ):
        with pytest.raises(FormatError):
            StreamReader(io.BytesIO(data), limits=limits)
    for limits in (
        Limits(chunk_bytes=30),
        Limits(tags=1),
        Limits(tracks=1),
        Limits(packets_per_chunk=1),
        Limits(index_bytes=9),
    ):
        with pytest.raises(FormatError):
            list(StreamReader(io.BytesIO(data), limits=limits))
    assert list(StreamReader(io.BytesIO(data), limits=Limits(width=64, height=48, levels=3)))


@pytest.mark.parametrize("payload", [b"\x00\x88\x08", b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_false_counts_of_frames_take_no_memory(payload: bytes) -> None:
    with pytest.raises(FormatError, match="frames of the GOP is"):
        decode_gop(memoryview(payload), HEADER)


@pytest.mark.parametrize("count", [b"\x03", b"\xff\xff\xff\xff\x0f"])
def test_false_counts_of_repeats_take_no_memory(count: bytes) -> None:
    with pytest.raises(FormatError, match=r"run length of mark of a repeated tube is \d+, expected 1 to 2"):
        decode_gop(memoryview(b"\x10\x09\x00\x01\x09\x01" + count), HEADER)


def test_the_pixels_of_a_header_are_limited() -> None:
    large = Header(16384, 16384, "base", bytes(16), 4)
    assert decode_header(memoryview(encode_header(large))) == large
    with pytest.raises(FormatError, match="16384x16385 are more than 268435456 pixels"):
        decode_header(memoryview(encode_header(Header(16384, 16385, "base", bytes(16), 4))))


FIELDS: dict[object, object] = {0: 768, 1: 512, 2: "base", 3: bytes(16), 4: 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: None}, "type not used"),
        ({0: -1}, "type not used"),
        ({0: 768.0}, "type not used"),
        ({0: 1 << 64}, "type not used"),
        ({0: "768"}, "width is of type str"),
        ({0: True}, "width is of type bool"),
        ({2: b"base"}, "model name is of type bytes"),
        ({3: "x" * 16}, "model digest is of type str"),
        ({6: 1}, "still is of type int"),
        ({9: [1, 25, 1]}, "time base is not an array of 2"),
        ({9: [2, 50]}, "2/50 is not in lowest terms"),
        ({9: [0, 1]}, "time base is 0"),
        ({9: [1, True]}, "time base is of type bool"),
        ({11: [1, 13, 0, 1, 8]}, "full range is not true or false"),
        ({11: [1, 13, 0, True]}, "colour is not an array of 5"),
        ({63: 0}, "key 63 is not known to this version"),
        ({"x": 0}, "whole numbers as keys"),
        ({64: [[[[0]]]]}, "nested deeper than 4"),
        ({64: Fraction(1, 2)}, "type not used"),
    ],
)
def test_headers_with_fields_of_another_kind(changes: dict[object, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        decode_header(memoryview(cbor2.dumps(FIELDS | changes, canonical=True)))


@pytest.mark.parametrize("key", [0, 1, 2, 3, 4])
def test_headers_without_a_field(key: int) -> None:
    fields = {number: value for number, value in FIELDS.items() if number != key}
    with pytest.raises(FormatError, match=rf"\(key {key}\) is missing"):
        decode_header(memoryview(cbor2.dumps(fields, canonical=True)))


def test_additions_to_the_header_are_passed_over() -> None:
    fields = FIELDS | {64: [1, "new"], 1000: {"a": b"b"}}
    header = decode_header(memoryview(cbor2.dumps(fields, canonical=True)))
    assert header == Header(768, 512, "base", bytes(16), 4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "middle of an item"),
        (b"\xa1\x01", "middle of an item"),
        (b"\x18\x17", "shortest form"),
        (b"\x19\x00\xff", "shortest form"),
        (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", "shortest form"),
        (b"\x19\x01", "cut off"),
        (b"\x1c", "cut off"),
        (b"\x9f\xff", "cut off"),
        (b"\x5f\x41a\xff", "cut off"),
        (b"\x5b\x00\x00\x7f\xff\xff\xff\xff\xff", "string of 140737488355327 bytes, but 0 are left"),
        (b"\x9b\x00\x00\x7f\xff\xff\xff\xff\xff", "140737488355327 entries, expected at most 5"),
        (b"\x86" + bytes(6), "6 entries, expected at most 5"),
        (b"\xa2\x01\x00\x00\x00", "keys out of order"),
        (b"\xa2\x01\x00\x01\x00", "keys out of order or twice"),
        (b"\xa2\x00\x00\xf4\x00", "neither number nor text"),
        (b"\xa1\x41a\x00", "neither number nor text"),
        (b"\x81" * 100_000 + b"\0", "nested deeper"),
        (b"\xc1\x00", "type not used"),
        (b"\xd8\x23\x61(", "type not used"),
        (b"\x20", "type not used"),
        (b"\xf6", "type not used"),
        (b"\xf8\xff", "type not used"),
        (b"\xf9\x3c\x00", "type not used"),
        (b"\x61\xff", "cannot be decoded"),
        (b"\x00\x00", "1 bytes follow"),
    ],
)
def test_cbor_outside_of_the_deterministic_part(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        cbor.decode(memoryview(data), 0, 5)


LEAVES = st.integers(0, 2**64 - 1) | st.booleans() | st.binary(max_size=300) | st.text(max_size=100)
LISTS = st.lists(LEAVES, max_size=5)
MAPS = st.dictionaries(st.text(max_size=30), LISTS, max_size=5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(item=st.dictionaries(st.integers(0, 2**64 - 1), LEAVES | LISTS | MAPS, max_size=5))
def test_everything_allowed_passes_unchanged(item: object) -> None:
    assert cbor.decode(memoryview(cbor.encode(item)), 0, 5) == item


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=60))
@example(b"\xd9\xd9\xf7\x00")
def test_random_cbor_is_decoded_or_refused(data: bytes) -> None:
    try:
        decoded = cbor.decode(memoryview(data), 0, 5)
    except FormatError:
        return
    assert cbor.encode(decoded) == data


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.integers(0, 2**63 - 1), tail=st.binary(max_size=3))
def test_varints(value: int, tail: bytes) -> None:
    encoded = encode_varint(value)
    cursor = Cursor(memoryview(encoded + tail), 0)
    assert cursor.varint("number") == value
    assert cursor.remaining == len(tail)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=80))
def test_random_gops_are_decoded_or_refused(data: bytes) -> None:
    try:
        gop = decode_gop(memoryview(data), HEADER)
    except FormatError:
        return
    assert decode_gop(memoryview(encode_gop(gop, HEADER)), HEADER) == gop


def test_a_still_is_read_with_the_tightest_limits() -> None:
    limits = Limits(width=768, height=512, pixels=768 * 512, levels=4, frames_per_gop=1, tracks=0, tags=0)
    assert len(list(StreamReader(io.BytesIO(still().to_bytes()), limits=limits))) == 1
