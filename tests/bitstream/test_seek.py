"""Jumping by time, and the index behind it."""

import io
from fractions import Fraction

import pytest

from bitstream.samples import still
from bitstream.test_damage import DATA, FILM, chunk, flipped, positions
from bitstream.test_round_trip import Pipe
from bsqcodec.bitstream import AudioTracks, Gop, Index, IndexEntry, Metadata, StreamReader
from bsqcodec.bitstream.index import encode_index
from bsqcodec.errors import FormatError


def first_times(reader: StreamReader) -> list[int]:
    return [event.pts[0] for event in reader if isinstance(event, Gop)]


@pytest.mark.parametrize(
    ("time", "expected"),
    [("0", 0), ("1/100", 0), ("199/1000", 0), ("1/5", 5), ("3/5", 15), ("1", 25), ("50", 25), ("-3", 0)],
)
@pytest.mark.parametrize("prefix", [b"", b"something before"])
def test_seek_goes_to_the_gop_shown_at_that_time(time: str, expected: int, prefix: bytes) -> None:
    file = io.BytesIO(prefix + DATA)
    file.seek(len(prefix))
    reader = StreamReader(file)
    assert reader.seek_time(Fraction(time))
    events = list(reader)
    assert [type(event) for event in events[:2]] == [Metadata, AudioTracks]
    assert [event for event in events if isinstance(event, Gop)] == list(FILM.gops[expected // 5 :])
    assert reader.complete


def test_seek_back_and_forth_while_reading() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    assert first_times(reader) == [0, 5, 10, 15, 20, 25]
    assert reader.seek_time(Fraction(4, 5))
    assert first_times(reader) == [20, 25]
    assert reader.seek_time(Fraction(0))
    assert first_times(reader) == [0, 5, 10, 15, 20, 25]


def test_the_index_says_what_is_there_and_leaves_the_place_alone() -> None:
    reader = StreamReader(io.BytesIO(DATA))
    index = reader.index()
    assert index is not None
    assert (len(index), index.frame_count, index.end_pts) == (6, 30, 30)
    assert [index[number].offset for number in range(6)] == positions(b"GOPS")
    assert [(index[number].pts, index[number].frames) for number in range(6)] == [
        (5 * n, 5) for n in range(6)
    ]
    assert first_times(reader) == [0, 5, 10, 15, 20, 25]


@pytest.mark.parametrize(
    "data",
    [
        still().to_bytes(),
        DATA[:-1],
        DATA + b"more",
        flipped(DATA, len(DATA) - 6),
        flipped(DATA, positions(b"INDX")[0] + 7),
    ],
)
def test_without_an_intact_index_nothing_changes(data: bytes) -> None:
    reader = StreamReader(io.BytesIO(data), keep_going=True)
    expected = first_times(reader)
    reader = StreamReader(io.BytesIO(data), keep_going=True)
    assert not reader.seek_time(Fraction(1))
    assert first_times(reader) == expected


def test_a_pipe_cannot_seek() -> None:
    reader = StreamReader(Pipe(DATA))
    assert reader.index() is None
    assert not reader.seek_time(Fraction(1))
    assert first_times(reader) == [0, 5, 10, 15, 20, 25]


def test_damage_after_a_seek_has_the_number_of_its_gop() -> None:
    reader = StreamReader(io.BytesIO(flipped(DATA, positions(b"GOPS")[4] + 20)), keep_going=True)
    reader.seek_time(Fraction(3, 5))
    assert [getattr(event, "gop_index", None) for event in reader if hasattr(event, "gop_index")] == [4]


def test_an_index_that_does_not_fit_is_noticed() -> None:
    place = positions(b"INDX")[0]
    first, second = positions(b"GOPS")[:2]
    false = Index()
    false.append(IndexEntry(first, 0, 5), 5)
    false.append(IndexEntry(second, 6, 5), 11)
    data = DATA[:place] + chunk(b"INDX", encode_index(false)) + chunk(b"ENDS", place.to_bytes(8))
    reader = StreamReader(io.BytesIO(data))
    assert reader.seek_time(Fraction(3, 5))
    with pytest.raises(FormatError, match="a GOP that begins at 5, the index says 6"):
        list(reader)
