"""Cutting: what stays is as it was, and the result is what one would have written in the first place."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitstream.samples import PCM, Stream, film, make_gop, read_back, streams
from bitstream.test_damage import DATA, FILM, flipped, positions
from bitstream.test_round_trip import Pipe
from bsqcodec.bitstream import AudioPacket, CutResult, Gop, StreamReader, cut
from bsqcodec.errors import FormatError, InputError


def run(data: bytes, **options: object) -> tuple[Stream, CutResult]:
    sink = io.BytesIO()
    result = cut(io.BytesIO(data), sink, **options)  # type: ignore[arg-type]
    assert result.bytes_written == len(sink.getvalue())
    reader = StreamReader(io.BytesIO(sink.getvalue()))
    stream, _ = read_back(reader)
    assert reader.complete
    assert stream.to_bytes() == sink.getvalue()
    return stream, result


def dropped(gop: Gop, levels: int) -> Gop:
    kept = min(levels, gop.levels_kept)
    parts = tuple(row[:kept] for row in gop.parts)
    return replace(gop, levels_kept=kept, token_crcs=gop.token_crcs[:kept], parts=parts)


def moved(gop: Gop, by: int) -> Gop:
    return replace(gop, pts=tuple(pts - by for pts in gop.pts))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(stream=streams().filter(lambda stream: bool(stream.gops)), levels=st.none() | st.integers(1, 16))
def test_levels_go_and_all_else_stays(stream: Stream, levels: int | None) -> None:
    if levels is not None and levels > stream.header.levels:
        with pytest.raises(InputError, match=f"{levels} levels asked for, the stream has 1 to"):
            run(stream.to_bytes(), levels=levels)
        return
    result, _ = run(stream.to_bytes(), levels=levels)
    assert result == replace(stream, gops=tuple(dropped(gop, levels or 16) for gop in stream.gops))


def test_fewer_levels_are_fewer_bytes_and_can_be_cut_again() -> None:
    two, result = run(DATA, levels=2)
    assert result.bytes_written < len(DATA)
    assert run(two.to_bytes(), levels=3)[0] == two
    assert run(two.to_bytes(), levels=1)[0] == run(DATA, levels=1)[0]


@pytest.mark.parametrize(
    ("start", "duration", "first", "last"),
    [
        ("0", None, 0, 5),
        ("1/5", None, 1, 5),
        ("199/1000", None, 0, 5),
        ("1", None, 5, 5),
        (None, "1/5", 0, 0),
        (None, "201/1000", 0, 1),
        ("1/4", "1/5", 1, 2),
        ("1/4", "1/1000", 1, 1),
        ("2/5", "99", 2, 5),
    ],
)
def test_a_range_keeps_whole_gops_and_begins_at_0(
    start: str | None, duration: str | None, first: int, last: int
) -> None:
    options = {"start": start and Fraction(start), "duration": duration and Fraction(duration)}
    stream, result = run(DATA, **options)
    kept = FILM.gops[first : last + 1]
    begin = kept[0].pts[0]
    assert stream.gops == tuple(moved(gop, begin) for gop in kept)
    assert result == CutResult(len(kept), 5 * len(kept), result.bytes_written, Fraction(begin, 25))
    until = None if last == 5 else Fraction(kept[-1].pts[-1] + 1, 25)
    expected = []
    for packet in FILM.packets:
        time_base = FILM.tracks[packet.track].time_base
        time = packet.pts * time_base
        if (first == 0 or time >= Fraction(begin, 25)) and (until is None or time < until):
            shift = Fraction(begin, 25) / time_base
            assert shift.denominator == 1
            expected.append(replace(packet, pts=packet.pts - int(shift), dts=packet.dts - int(shift)))
    assert stream.packets == tuple(expected)
    assert (stream.header, stream.metadata, stream.tracks) == (FILM.header, FILM.metadata, FILM.tracks)


def test_levels_and_range_together() -> None:
    stream, _ = run(DATA, levels=1, start=Fraction(1, 5), duration=Fraction(1, 5))
    assert stream.gops == (dropped(moved(FILM.gops[1], 5), 1),)


def test_a_frame_is_shown_until_the_next_gop_begins() -> None:
    header = FILM.header
    gops = (make_gop([0, 1], header, durations=[1, 0]), make_gop([100, 101], header))
    data = Stream(header, gops).to_bytes()
    assert run(data, start=Fraction(3))[0].gops == gops
    assert run(data, start=Fraction(4))[0].gops == (moved(gops[1], 100),)


def test_sound_that_stands_far_from_its_gop_is_found() -> None:
    late = AudioPacket(1, 1600, 1600, 10, True, b"late")
    early = AudioPacket(1, 9000, 9000, 10, True, b"early")
    data = Stream(FILM.header, FILM.gops, tracks=(PCM, PCM), packets=(early, late)).to_bytes()
    stream, _ = run(data, start=Fraction(1, 5), duration=Fraction(1, 5))
    assert stream.packets == (replace(late, pts=0, dts=0),)
    stream, _ = run(data, start=Fraction(1))
    assert stream.packets == (replace(early, pts=1000, dts=1000),)


def test_pipes_on_both_sides() -> None:
    source, sink = Pipe(DATA, 7), Pipe(piece=5)
    cut(source, sink, levels=2, start=Fraction(1, 2))
    assert bytes(sink.data) == run(DATA, levels=2, start=Fraction(1, 2))[0].to_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": Fraction(6, 5)}, "no frame is shown in the range from 1.2 s on: frames end at 1.2 s"),
        ({"start": Fraction(-1)}, "start is -1 s, expected 0 or more"),
        ({"duration": Fraction(0)}, "duration is 0 s, expected more than 0"),
        ({"levels": 0}, "0 levels asked for, the stream has 1 to 3"),
    ],
)
def test_a_cut_that_leaves_nothing_writes_nothing(options: dict[str, object], message: str) -> None:
    sink = io.BytesIO()
    with pytest.raises(InputError, match=message):
        cut(io.BytesIO(DATA), sink, **options)  # type: ignore[arg-type]
    assert sink.getvalue() == b""


def test_a_damaged_stream_is_not_cut() -> None:
    with pytest.raises(FormatError, match="damaged GOPS chunk"):
        cut(io.BytesIO(flipped(DATA, positions(b"GOPS")[3] + 20)), io.BytesIO(), levels=1)


def test_a_stream_with_an_unfitting_time_base_keeps_sound_within_half_a_tick() -> None:
    stream = film()
    header = replace(stream.header, time_base=Fraction(1001, 30000))
    result, _ = run(replace(stream, header=header).to_bytes(), start=Fraction(1, 5))
    begin = 5 * header.time_base
    for packet in result.packets:
        time_base = stream.tracks[packet.track].time_base
        times = [sound.pts * time_base - begin for sound in stream.packets if sound.data == packet.data]
        assert min(abs(time - packet.pts * time_base) for time in times) <= time_base / 2


def test_packets_of_a_track_stay_in_order_whatever_their_times() -> None:
    later, earlier = AudioPacket(0, 3600, 3600, 10, True, b"1"), AudioPacket(0, 2000, 2000, 10, True, b"2")
    data = Stream(FILM.header, FILM.gops, tracks=(PCM,), packets=(later, earlier)).to_bytes()
    stream, _ = run(data, start=Fraction(1, 5), duration=Fraction(2, 5))
    assert [packet.data for packet in stream.packets] == [b"1", b"2"]
