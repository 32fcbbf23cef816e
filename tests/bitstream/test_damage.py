"""Damaged, cut off and lying streams: what a strict reader says, and what is left of them with keep_going."""

import io
import re
from zlib import crc32

import pytest

from bitstream.samples import Stream, film, make_gop, read_back, still
from bsqcodec.bitstream import AudioTracks, Damage, Gop, Header, Limits, Metadata, StreamReader
from bsqcodec.bitstream.varint import encode_varint
from bsqcodec.errors import FormatError

FILM = film()
DATA = FILM.to_bytes()


def chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + encode_varint(len(payload)) + payload + crc32(kind + payload).to_bytes(4)


def positions(kind: bytes, data: bytes = DATA) -> list[int]:
    """Where chunks of that type begin; the samples' payloads hold none of the types."""
    found = [data.find(kind)]
    while found[-1] >= 0:
        found.append(data.find(kind, found[-1] + 1))
    return found[:-1]


def without_last(data: bytes, count: int) -> bytes:
    return data[: len(data) - count]


def strict(data: bytes) -> tuple[list[Gop], FormatError]:
    """The GOPs up to the error, and the error."""
    gops: list[Gop] = []
    events = StreamReader(io.BytesIO(data))
    with pytest.raises(FormatError) as raised:
        gops.extend(event for event in events if isinstance(event, Gop))
    assert list(events) == []
    return gops, raised.value


def surviving(data: bytes) -> tuple[tuple[Gop, ...], list[Damage], bool]:
    """The GOPs and the damage that keep_going reports, and whether the end was seen."""
    reader = StreamReader(io.BytesIO(data), keep_going=True)
    stream, events = read_back(reader)
    return stream.gops, [event for event in events if isinstance(event, Damage)], reader.complete


def flipped(data: bytes, position: int, mask: int = 1) -> bytes:
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def test_a_flipped_bit_stops_at_its_gop() -> None:
    begin = positions(b"GOPS")[2]
    gops, error = strict(flipped(DATA, begin + 20))
    assert tuple(gops) == FILM.gops[:2]
    assert error.offset == begin
    assert "damaged GOPS chunk: CRC-32 " in str(error)
    assert str(error).endswith(f"(at byte {begin})")


def test_a_flipped_bit_costs_one_gop_with_keep_going() -> None:
    begin = positions(b"GOPS")[2]
    gops, damage, complete = surviving(flipped(DATA, begin + 20))
    assert gops == FILM.gops[:2] + FILM.gops[3:]
    assert [(found.offset, found.gop_index) for found in damage] == [(begin, 2)]
    assert complete


def test_two_damaged_gops_are_counted_singly() -> None:
    begin, after = positions(b"GOPS")[2:4]
    gops, damage, _ = surviving(flipped(flipped(DATA, begin + 20), after + 20))
    assert gops == FILM.gops[:2] + FILM.gops[4:]
    assert [found.gop_index for found in damage] == [2, 3]


@pytest.mark.parametrize("mask", [1, 2, 64, 128])
def test_a_broken_length_costs_one_gop_with_keep_going(mask: int) -> None:
    begin = positions(b"GOPS")[2]
    gops, damage, complete = surviving(flipped(DATA, begin + 4, mask))
    assert gops == FILM.gops[:2] + FILM.gops[3:]
    assert [found.gop_index for found in damage] == [2]
    assert complete


def test_a_length_that_swallows_the_rest_of_the_file_costs_one_gop() -> None:
    begin, after = positions(b"GOPS")[2:4]
    lying = DATA[: begin + 4] + encode_varint(1 << 25) + DATA[after - 30 :]
    gops, damage, complete = surviving(lying)
    assert gops == FILM.gops[:2] + FILM.gops[3:]
    assert "cut off: the GOPS chunk needs 33554436 more bytes" in damage[0].message
    assert complete


def test_a_broken_type_and_inserted_bytes_are_passed_over() -> None:
    begin = positions(b"GOPS")[2]
    gops, damage, _ = surviving(flipped(DATA, begin, 128))
    assert gops == FILM.gops[:2] + FILM.gops[3:]
    assert "expected a chunk, found c7 4f 50 53" in damage[0].message
    gops, damage, _ = surviving(DATA[:begin] + b"GOPS\xff" * 1000 + DATA[begin:])
    assert gops == FILM.gops
    assert damage[0].offset == begin


def test_damage_longer_than_the_search_window_is_passed_over() -> None:
    begin = positions(b"GOPS")[3]
    for size in (65533, 65536, 200_000):
        gops, damage, complete = surviving(DATA[:begin] + bytes(size) + DATA[begin:])
        assert gops == FILM.gops
        assert (len(damage), complete) == (1, True)


@pytest.mark.parametrize("end", range(0, len(DATA), 17))
def test_a_cut_off_file_yields_everything_up_to_the_cut(end: int) -> None:
    data = DATA[:end]
    whole = sum(start + 20 < end and data.find(b"GOPS", start + 1) >= 0 for start in positions(b"GOPS", data))
    if end < positions(b"META")[0]:
        with pytest.raises(FormatError):
            StreamReader(io.BytesIO(data))
        return
    gops, error = strict(data)
    assert tuple(gops) == FILM.gops[: len(gops)]
    assert len(gops) >= whole
    assert (
        "cut off" in str(error) or "missing its last byte" in str(error) or "expected a chunk" in str(error)
    )
    kept, damage, complete = surviving(data)
    assert kept == tuple(gops)
    assert len(damage) == 1
    assert not complete


def test_a_file_cut_between_two_chunks_is_not_taken_for_complete() -> None:
    gops, error = strict(DATA[: positions(b"ENDS")[0]])
    assert tuple(gops) == FILM.gops
    assert "cut off after 6 GOPs: there is no ENDS chunk" in str(error)


def test_bytes_after_the_end_are_left_alone() -> None:
    file = io.BytesIO(DATA + b"more")
    reader = StreamReader(file)
    assert read_back(reader)[0] == FILM
    assert file.read() == b"more"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are all there is"),
        (DATA[:8], "8 bytes are all there is"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "it begins with 89 50 4e 47"),
        (DATA.replace(b"\r\n", b"\n", 1), "text mode"),
        (b"\x35" + DATA[1:], "text mode"),
        (flipped(DATA, 8, 3), "format version 2, this reader knows version 1"),
        (DATA[:9], "expected the HEAD chunk, found nothing"),
        (DATA[:9] + DATA[positions(b"META")[0] :], "expected the HEAD chunk, found a META chunk"),
        (flipped(DATA, 20), "damaged HEAD chunk"),
    ],
)
def test_what_is_no_stream_is_said_at_once(data: bytes, message: str) -> None:
    for keep_going in (False, True):
        with pytest.raises(FormatError, match=message):
            StreamReader(io.BytesIO(data), keep_going=keep_going)


def with_chunk(kind: bytes, payload: bytes, before: bytes = b"ENDS") -> bytes:
    """The sample with one more intact chunk before the first one of a type."""
    place = positions(before)[0]
    return DATA[:place] + chunk(kind, payload) + DATA[place:]


def test_unknown_chunks_by_the_first_letter() -> None:
    reader = StreamReader(io.BytesIO(with_chunk(b"nEWS", b"whatever", b"META")))
    assert read_back(reader)[0] == FILM
    assert reader.bytes_by_chunk["other"] == 17
    _, error = strict(with_chunk(b"NEWS", b"whatever"))
    assert "a NEWS chunk, which this version does not know" in str(error)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_chunk(b"HEAD", b"\xa0"), "a HEAD chunk, which"),
        (with_chunk(b"META", b"\xa0"), "META chunk after the first GOP or a second time"),
        (with_chunk(b"META", b"\xa0", b"TRAK"), "META chunk after the first GOP or a second time"),
        (with_chunk(b"TRAK", b"\x80"), "TRAK chunk after the first GOP"),
        (with_chunk(b"AUDI", b"\0\1\2", b"TRAK"), "sound without a TRAK chunk"),
        (with_chunk(b"AUDI", b"\2\1\2"), "number of a sound track is 2, expected 0 to 1"),
        (with_chunk(b"AUDI", b"\0\0"), "number of packets is 0"),
        (with_chunk(b"AUDI", b"\0\1\x05"), "packets take 1 bytes, but 0 are left"),
        (with_chunk(b"ENDS", b"\0"), "ENDS chunk of 1 bytes, expected 0 or 8"),
        (with_chunk(b"INDX", b"\0"), "number of GOPs in the index is 0"),
        (with_chunk(b"GOPS", b""), "flags of the GOP takes 1 bytes, but 0 are left"),
        (with_chunk(b"GOPS", b"\3"), "flags of the GOP are 0x03"),
        (with_chunk(b"GOPS", b"\x83\1"), "flags of the GOP are 0x83: not known to this version"),
        (with_chunk(b"GOPS", b"\x80\0"), "more flags of the GOP are 0x00: not known to this version"),
        (with_chunk(b"GOPS", b"\x80\3"), "more flags of the GOP are 0x03: not known to this version"),
        (with_chunk(b"GOPS", b"\x40\1\0\1\0"), "smoothing is 0, expected 1 to 32"),
        (with_chunk(b"GOPS", b"\x40\1\0\1\x21"), "smoothing is 33, expected 1 to 32"),
        (with_chunk(b"GOPS", b"\x20\1\x40\1\0"), "frames per tube is 0, expected 1 to 64"),
        (with_chunk(b"GOPS", b"\x20\1\x40\1\4"), "states tubes of 4 frames, as the header does"),
        (with_chunk(b"GOPS", b"\x10\1\x40\1"), "no tube of the GOP is repeated, but its flags say so"),
        (with_chunk(b"GOPS", b"\x10\5\x40\1\5\0"), "no tube of the GOP is repeated, but its flags say so"),
        (with_chunk(b"GOPS", b"\x10\5\x40\1\5\2"), "mark of a repeated tube is 2, expected 0 to 1"),
        (with_chunk(b"GOPS", b"\x10\5\x40\1\5"), "mark of a repeated tube is missing its last byte"),
        (
            with_chunk(b"GOPS", b"\x10\5\x40\1\5\1\0\0\1ab\1\0c"),
            "parts of the GOP take 1 bytes, but the chunk has 2",
        ),
        (with_chunk(b"GOPS", b"\0\6"), "frames of the GOP is 6, expected 1 to 5"),
        (with_chunk(b"GOPS", b"\0\5\0\1\6"), "run length of duration is 6, expected 1 to 5"),
        (with_chunk(b"GOPS", b"\0\5\0\0\5"), "two frames of the GOP have the same time"),
        (with_chunk(b"GOPS", b"\0\1\0\1\0\0\4"), "levels of the GOP is 4, expected 1 to 3"),
        (
            with_chunk(b"GOPS", b"\0\1\0\1\0\0\1ab\x09abc"),
            "parts of the GOP take 9 bytes, but the chunk has 3",
        ),
        (
            with_chunk(b"GOPS", b"\0\1\0\1\0\0\1ab\x02abc"),
            "parts of the GOP take 2 bytes, but the chunk has 3",
        ),
        (with_chunk(b"GOPS", b"\0\1\0\1\x80\0"), "written with more bytes than it takes"),
        (with_chunk(b"GOPS", b"\0\1" + b"\xff" * 9), "longer than 9 bytes"),
        (with_chunk(b"GOPS", b"\0\1\0\1\0\0\1ab\1c"), "begins at 0 after a frame at 29"),
    ],
)
def test_intact_chunks_that_make_no_sense(data: bytes, message: str) -> None:
    _, error = strict(data)
    assert re.search(message, str(error))
    assert error.offset is not None
    gops, damage, complete = surviving(data)
    assert gops == FILM.gops
    assert len(damage) == 1 or b"ENDS\1" in data
    assert re.search(message, damage[0].message)
    assert complete


def test_swapped_gops_are_noticed() -> None:
    first, second = positions(b"GOPS")[1:3]
    third = positions(b"GOPS")[3]
    swapped = DATA[:first] + DATA[second:third] + DATA[first:second] + DATA[third:]
    gops, error = strict(swapped)
    assert tuple(gops) == (FILM.gops[0], FILM.gops[2])
    assert "a GOP that begins at 5 after a frame at 14" in str(error)


def test_a_second_frame_in_a_still() -> None:
    data = still().to_bytes()
    header = Header(768, 512, "base", bytes(range(16)), 4, max_gop_frames=1)
    two = Stream(header, (make_gop([0], header), make_gop([1], header))).to_bytes()
    place = data.index(b"ENDS")
    again = two[two.rindex(b"GOPS") : two.index(b"INDX")]
    _, error = strict(data[:place] + again + data[place:])
    assert "more than one frame in a still" in str(error)


def test_preamble_survives_damage_around_it() -> None:
    reader = StreamReader(io.BytesIO(flipped(DATA, positions(b"META")[0] + 12)), keep_going=True)
    kinds = [type(event) for event in reader]
    assert kinds[:2] == [Damage, AudioTracks]
    assert Metadata not in kinds


def test_keep_going_gives_up_where_the_search_would_take_too_long() -> None:
    begin = positions(b"GOPS")[0]
    fakes = b"GOPS\x80\x80\x04" * 3000
    limits = Limits(resync_bytes=1 << 20)
    reader = StreamReader(io.BytesIO(DATA[:begin] + fakes), keep_going=True, limits=limits)
    damage = [event for event in reader if isinstance(event, Damage)]
    assert "no intact chunk found in reasonable time" in damage[-1].message
    assert not reader.complete


def test_keep_going_gives_up_after_too_many_faults() -> None:
    begin = positions(b"GOPS")[0]
    reader = StreamReader(
        io.BytesIO(DATA[:begin] + b"GOPS\0bad!" * 50), keep_going=True, limits=Limits(damages=10)
    )
    damage = [event for event in reader if isinstance(event, Damage)]
    assert len(damage) == 11
    assert damage[-1].message == "too damaged: gave up after 10 faults"
