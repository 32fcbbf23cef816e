"""What is written comes back, whatever it is, however it is read, and in the bytes that FORMAT.md states."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitstream.samples import AAC, DIGEST, PCM, Stream, film, make_gop, read_back, still, streams
from bsqcodec.bitstream import (
    AudioPacket,
    AudioPackets,
    CodingMode,
    Gop,
    Header,
    Metadata,
    StreamReader,
    StreamWriter,
    token_crc,
)
from bsqcodec.errors import InputError


class Pipe(io.RawIOBase):
    """A file object that cannot seek and gives or takes a few bytes at a time."""

    def __init__(self, data: bytes = b"", piece: int = 1) -> None:
        self.data = bytearray(data)
        self.piece = piece

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = bytes(self.data[: min(size, self.piece)])
        del self.data[: len(taken)]
        return taken

    def write(self, data: object) -> int:
        taken = bytes(memoryview(data)[: self.piece])  # type: ignore[arg-type]
        self.data += taken
        return len(taken)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(stream=streams(), piece=st.integers(1, 50))
def test_everything_comes_back_also_through_a_pipe(stream: Stream, piece: int) -> None:
    data = stream.to_bytes()
    reader = StreamReader(Pipe(data, piece))
    assert read_back(reader)[0] == stream
    assert reader.complete
    assert reader.offset == len(data) == sum(reader.bytes_by_chunk.values())


def test_a_sink_that_takes_a_few_bytes_at_a_time() -> None:
    stream, pipe = film(), Pipe(piece=3)
    writer = StreamWriter(pipe)
    writer.write_header(stream.header)
    writer.write_metadata(stream.metadata)
    writer.write_audio_tracks(stream.tracks)
    writer.write_audio(stream.packets)
    for gop in stream.gops:
        writer.write_gop(gop)
    writer.close()
    assert bytes(pipe.data) == stream.to_bytes()
    assert writer.bytes_written == len(pipe.data) == sum(writer.bytes_by_chunk.values())


def chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + bytes([len(payload)]) + payload + crc32(kind + payload).to_bytes(4)


def example_of_the_specification() -> bytes:
    """The bytes in the last section of bitstreams/FORMAT.md."""
    text = (Path(__file__).parents[2] / "bitstreams" / "FORMAT.md").read_text()
    lines = text[text.index("## 16. Example") :].splitlines()
    return bytes.fromhex("".join(line[:50] for line in lines if line.startswith("    ")))


def test_the_bytes_of_a_small_stream() -> None:
    """Written down from bitstreams/FORMAT.md alone: 3 frames, the first one shown twice as long."""
    header = Header(
        300, 20, "tiny", DIGEST, 2, max_gop_frames=3, tube_frames=2, time_base=Fraction(1, 4), creator="me"
    )
    gop = Gop(
        pts=(200, 202, 203),
        durations=(2, 1, 1),
        mode=CodingMode.PRIOR,
        joined=False,
        key_rate=300,
        tube_rate=299,
        tube_frames=2,
        levels_kept=2,
        token_crcs=(0xABCD, 0x0102),
        parts=((b"k0", b"k11"), (b"t", b"")),
    )
    head = (
        b"\xa9"  # a map of 9 entries
        b"\x00\x19\x01\x2c"  # 0: width 300
        b"\x01\x14"  # 1: height 20
        b"\x02\x64tiny"  # 2: model name
        b"\x03\x50" + DIGEST + b"\x04\x02"  # 4: levels
        b"\x07\x03"  # 7: frames per GOP
        b"\x08\x02"  # 8: frames per tube
        b"\x09\x82\x01\x04"  # 9: time base 1/4
        b"\x0c\x62me"  # 12: creator
    )
    payload = (
        b"\x02"  # mode PRIOR, not joined, durations are the times between frames
        b"\x03"  # frames
        b"\xc8\x01"  # first time 200
        b"\x02\x01\x01\x02"  # durations: 2 once, 1 twice
        b"\xac\x02"  # rate index 300
        b"\x01"  # tubes: one less
        b"\x02"  # levels
        b"\xab\xcd\x01\x02"  # token CRCs
        b"\x02\x03\x01\x00"  # lengths: key frame, tube
        b"k0k11t"
    )
    expected = b"\xb5BSQ\r\n\x1a\n\x01" + chunk(b"HEAD", head) + chunk(b"GOPS", payload) + chunk(b"ENDS", b"")
    assert Stream(header, (gop,)).to_bytes() == expected
    assert example_of_the_specification() == expected
    assert read_back(StreamReader(io.BytesIO(expected)))[0] == Stream(header, (gop,))


def test_the_bytes_of_metadata_sound_and_index() -> None:
    header = Header(8, 8, "tiny", DIGEST, 1)
    gop = make_gop([0], header)
    packets = (
        AudioPacket(0, -1024, -1024, 1024, True, b"ab"),
        AudioPacket(0, 0, 0, 1024, True, b"c"),
        AudioPacket(0, 1024, 1023, 7, False, b""),
    )
    metadata = Metadata(exif=b"E", tags={"b": "c", "a": "d"})
    data = Stream(header, (gop,), metadata, (PCM,), packets).to_bytes()
    meta = chunk(b"META", b"\xa2\x00\x41E\x02\xa2\x61a\x61d\x61b\x61c")
    track = chunk(
        b"TRAK", b"\x81\xa5\x00\x69pcm_s16le\x01\x19\x1f\x40\x02\x01\x03\x64mono\x06\x82\x01\x19\x1f\x40"
    )
    before = chunk(b"AUDI", b"\x00\x01\x0b\xff\x0f\x00\x80\x08ab")
    after = chunk(b"AUDI", b"\x00\x02\x07\x00\x00\x80\x08\x02\x00\x01\x07c")
    assert meta + track + before in data
    index_at = data.index(b"INDX")
    gop_at = data.index(b"GOPS")
    assert data[gop_at:index_at].endswith(after)
    index = chunk(b"INDX", b"\x01" + bytes([gop_at & 127 | 128, gop_at >> 7]) + b"\x00\x01\x01")
    assert data[index_at:] == index + chunk(b"ENDS", index_at.to_bytes(8))


def test_the_bytes_of_repeats() -> None:
    """Two bytes more for any number of tubes that all are repeats, and no parts for them."""
    header = Header(8, 8, "tiny", DIGEST, 1, max_gop_frames=102)
    still = make_gop(list(range(102)), header, repeats=frozenset(range(1, 27)))
    data = Stream(header, (still,)).to_bytes()
    begin = (
        b"\x12"  # mode PRIOR, some tubes are repeats
        b"\x66\x00\x01\x66"  # 102 frames from 0 on, each for 1
        b"\x01\x1a"  # repeats: 1, 26 times: the last tube has one frame
    )
    end = b"\xf4\x03\x9f\x01\x01\x03\xe8\x01\x00"  # rates, a level, its CRC, the key frame's length and part
    assert chunk(b"GOPS", begin + end) in data
    some = make_gop(list(range(102)), header, joined=True, repeats=frozenset({2, 3, 26}))
    data = Stream(header, (some,)).to_bytes()
    marks = b"\x00\x01\x01\x02\x00\x16\x01"  # coded, two repeats, 22 coded, a repeat without its count
    assert chunk(b"GOPS", b"\x16" + begin[1:5] + marks + end) in data
    assert read_back(StreamReader(io.BytesIO(data)))[0].gops == (some,)


def test_the_bytes_of_smoothing() -> None:
    """One byte, after the repeats."""
    header = Header(8, 8, "tiny", DIGEST, 1, max_gop_frames=5)
    gop = make_gop(list(range(5)), header, repeats=frozenset({1}))
    smoothed = replace(gop, smoothing=20)
    plain, data = (Stream(header, (each,)).to_bytes() for each in (gop, smoothed))
    assert len(data) == len(plain) + 1
    assert b"\x12\x05\x00\x01\x05\x01\xf4\x03" in plain
    assert b"\x52\x05\x00\x01\x05\x01\x14\xf4\x03" in data
    assert read_back(StreamReader(io.BytesIO(data)))[0].gops == (smoothed,)


def test_the_bytes_of_finer_vectors() -> None:
    """One more byte of flags, after the first."""
    header = Header(8, 8, "tiny", DIGEST, 1, max_gop_frames=5)
    gop = make_gop(list(range(5)), header)
    finer = replace(gop, quarters=True)
    plain, data = (Stream(header, (each,)).to_bytes() for each in (gop, finer))
    assert len(data) == len(plain) + 1
    assert b"\x02\x05\x00\x01\x05" in plain
    assert b"\x82\x01\x05\x00\x01\x05" in data
    assert read_back(StreamReader(io.BytesIO(data)))[0].gops == (finer,)


def test_token_crc_by_hand() -> None:
    blocks = [b"\x80\x01", bytearray(b"\xff"), memoryview(b"")]
    assert token_crc(blocks) == crc32(b"\x80\x01\xff") % 65536
    assert token_crc([]) == 0


def test_a_still_costs_less_than_110_bytes_beside_its_parts() -> None:
    header = Header(768, 512, "base", DIGEST, 4, still=True)
    gop = make_gop([0], header)
    parts = (bytes(300), bytes(1000), bytes(2000), bytes(1600))
    gop = Gop((0,), (1,), gop.mode, False, 500, 500, 4, 4, gop.token_crcs, (parts,))
    assert len(Stream(header, (gop,)).to_bytes()) - 4900 == 98


def test_a_constant_rate_costs_the_same_for_any_number_of_frames() -> None:
    header = Header(8, 8, "tiny", DIGEST, 1, max_gop_frames=65, tube_frames=64)
    sizes = [
        len(Stream(header, (make_gop(list(range(0, 512 * n, 512)), header, durations=[512] * n),)).to_bytes())
        for n in (3, 60)
    ]
    assert sizes[0] == sizes[1]


def test_sound_stands_behind_the_gop_with_which_it_begins() -> None:
    stream = film()
    _, events = read_back(StreamReader(io.BytesIO(stream.to_bytes())))
    begin, end = Fraction(-1), Fraction(0)
    packets = 0
    for event in events:
        if isinstance(event, Gop):
            begin = event.pts[0] * stream.header.time_base
            end = begin + (Fraction(1, 5) if event != stream.gops[-1] else 1)
        elif isinstance(event, AudioPackets):
            for packet in event.packets:
                time = packet.pts * stream.tracks[packet.track].time_base
                assert begin <= time < end
                packets += 1
    assert packets == len(stream.packets)


def test_sound_is_written_as_soon_as_its_time_has_passed() -> None:
    stream = film()
    writer = StreamWriter(sink := io.BytesIO())
    writer.write_header(stream.header)
    writer.write_audio_tracks([AAC])
    writer.write_audio(
        [AudioPacket(0, 0, 0, 1024, True, b"first"), AudioPacket(0, 9600, 9600, 1024, True, b"next")]
    )
    writer.write_gop(stream.gops[0])
    assert b"first" not in sink.getvalue()
    writer.write_gop(stream.gops[1])
    assert b"first" in sink.getvalue()
    assert b"next" not in sink.getvalue()
    writer.close()
    assert b"next" in sink.getvalue()


def test_much_sound_is_split_into_chunks() -> None:
    packets = tuple(AudioPacket(0, 1024 * n, 1024 * n, 1024, True, bytes(1 << 18)) for n in range(10))
    stream = Stream(film().header, film().gops[:1], tracks=(AAC,), packets=packets)
    read, events = read_back(StreamReader(io.BytesIO(stream.to_bytes())))
    assert read == stream
    assert [len(event.packets) for event in events if isinstance(event, AudioPackets)] == [4, 4, 2]


def write_and_break_off(sink: io.BytesIO) -> None:
    with StreamWriter(sink) as writer:
        writer.write_header(still().header)
        raise KeyboardInterrupt


def test_after_an_exception_the_stream_is_seen_to_be_cut_off() -> None:
    sink = io.BytesIO()
    with pytest.raises(KeyboardInterrupt):
        write_and_break_off(sink)
    assert b"HEAD" in sink.getvalue()
    assert b"ENDS" not in sink.getvalue()


HEADER = Header(8, 8, "tiny", DIGEST, 2, max_gop_frames=2)
GOP = make_gop([5, 6], HEADER)


def altered(gop: Gop = GOP, **fields: object) -> Gop:
    return Gop(**{**vars(gop), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gop", "message"),
    [
        (altered(pts=()), "0 times and 2 durations"),
        (altered(pts=(5,)), "1 times and 2 durations"),
        (altered(pts=(6, 5)), "-1 cannot be stored"),
        (altered(pts=(5, 5)), "time between frames is 0"),
        (altered(pts=(-1, 5)), "-1 cannot be stored"),
        (altered(parts=GOP.parts[:1]), "has 1 rows of parts, expected 2"),
        (altered(joined=True), "has 2 rows of parts, expected 1"),
        (altered(repeats=frozenset({1})), "has 2 rows of parts, expected 1"),
        (altered(repeats=frozenset({0})), r"a GOP of 2 blocks repeats \[0\], expected 1 to 1"),
        (altered(repeats=frozenset({1, 2})), r"a GOP of 2 blocks repeats \[1, 2\], expected 1 to 1"),
        (altered(smoothing=33), "smoothing by 33, expected 0 to 32"),
        (altered(levels_kept=1), "1 levels needs as many parts"),
        (altered(token_crcs=(1,)), "2 levels needs as many"),
        (altered(key_rate=1001), "rate index is 1001, expected 0 to 1000"),
        (altered(tube_rate=-1), "rate index of the tubes is -1"),
        (make_gop([1, 2, 3], HEADER), "frames of the GOP is 3, expected 1 to 2"),
        (altered(pts=(5, 2**63 - 1)), r"beyond 2\^63 - 1$"),
        (altered(parts=(list(GOP.parts[0]), list(GOP.parts[1]))), "not of the type"),
    ],
)
def test_gops_that_nobody_could_read_are_not_written(gop: Gop, message: str) -> None:
    writer = StreamWriter(sink := io.BytesIO())
    writer.write_header(HEADER)
    before = sink.getvalue()
    with pytest.raises(InputError, match=message):
        writer.write_gop(gop)
    assert sink.getvalue() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width is 0, expected 1 to 65535"),
        ({"width": 65536}, "width is 65536"),
        ({"width": 65535, "height": 65535}, "more than 268435456 pixels"),
        ({"model_name": ""}, "model name is empty"),
        ({"model_name": "\ud800"}, "cannot be stored"),
        ({"model_digest": b"short"}, "5 bytes, expected 16"),
        ({"levels": 17}, "levels is 17, expected 1 to 16"),
        ({"quality_hundredths": 99}, "quality is 99"),
        ({"rotation": 45}, "rotation is 45"),
        ({"time_base": Fraction(0)}, "time base is 0"),
        ({"still": True}, "a still with GOPs of 2 frames"),
        ({"width": 8.0}, "of a type not used in streams"),
    ],
)
def test_headers_that_nobody_could_read_are_not_written(fields: dict[str, object], message: str) -> None:
    sink = io.BytesIO()
    with pytest.raises(InputError, match=message):
        StreamWriter(sink).write_header(Header(**{**vars(HEADER), **fields}))  # type: ignore[arg-type]
    assert sink.getvalue() == b""


def test_calls_out_of_order_are_refused() -> None:
    writer = StreamWriter(io.BytesIO())
    with pytest.raises(InputError, match="before the header"):
        writer.write_gop(GOP)
    with pytest.raises(InputError, match="before the header"):
        writer.close()
    writer.write_header(HEADER)
    with pytest.raises(InputError, match="one header"):
        writer.write_header(HEADER)
    with pytest.raises(InputError, match="track 0, but 0 tracks"):
        writer.write_audio([AudioPacket(0, 0, 0, 0, True, b"")])
    writer.write_gop(GOP)
    with pytest.raises(InputError, match="begins at 5 after a frame at 6"):
        writer.write_gop(GOP)
    with pytest.raises(InputError, match="META chunk is written once"):
        writer.write_metadata(Metadata(exif=b""))
    writer.close()
    writer.close()
    with pytest.raises(InputError, match="after the end"):
        writer.write_audio([])


def test_a_still_takes_one_gop() -> None:
    stream = still()
    writer = StreamWriter(io.BytesIO())
    writer.write_header(stream.header)
    writer.write_gop(stream.gops[0])
    with pytest.raises(InputError, match="a still has one GOP"):
        writer.write_gop(make_gop([1], stream.header))


def test_a_chunk_larger_than_readers_take_is_not_written() -> None:
    writer = StreamWriter(io.BytesIO())
    writer.write_header(HEADER)
    with pytest.raises(InputError, match="at most 16777216"):
        writer.write_metadata(Metadata(icc=bytes(1 << 24)))
