"""What `describe` tells of a stream, whole and damaged."""

import io
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest

from bitstream.samples import film, still, still_film
from bitstream.test_damage import DATA, FILM, chunk, flipped, positions, with_chunk
from bsqcodec.bitstream import CodingMode, Limits, describe
from bsqcodec.errors import FormatError


def test_a_film() -> None:
    summary = describe(io.BytesIO(DATA))
    assert summary.header == FILM.header
    assert summary.metadata == FILM.metadata
    assert (summary.frame_count, summary.duration) == (30, Fraction(6, 5))
    assert summary.size == len(DATA) == sum(summary.bytes_by_chunk.values())
    silent = len(replace(FILM, tracks=(), packets=()).to_bytes())
    assert summary.bpp == pytest.approx(8 * silent / (64 * 48 * 30), rel=0.02)
    assert summary.bytes_by_level == tuple(
        sum(len(row[level]) for gop in FILM.gops for row in gop.parts) for level in range(3)
    )
    assert summary.mode_counts == {CodingMode.PRIOR: 6}
    assert (summary.complete, summary.has_index, summary.trailing_bytes, summary.damage) == (
        True,
        True,
        0,
        (),
    )
    assert [gop.offset for gop in summary.gops] == positions(b"GOPS")
    assert sum(gop.size for gop in summary.gops) == summary.bytes_by_chunk["GOPS"]
    assert [(gop.pts, gop.end_pts, gop.frames) for gop in summary.gops] == [
        (5 * n, 5 * n + 5, 5) for n in range(6)
    ]
    row = summary.gops[1]
    assert (row.mode, row.joined, row.key_rate, row.tube_rate, row.levels_kept) == (2, True, 500, 420, 3)
    assert [(track.packets, track.size) for track in summary.tracks] == [(60, 540), (12, 60)]
    assert summary.tracks[0].end == Fraction(1024 * 58, 48000)


def test_a_still() -> None:
    data = still().to_bytes()
    summary = describe(io.BytesIO(data))
    assert (summary.frame_count, summary.has_index, summary.complete) == (1, False, True)
    assert summary.bpp == pytest.approx(8 * len(data) / (768 * 512))


def test_repeats_are_counted() -> None:
    summary = describe(io.BytesIO(still_film().to_bytes()))
    assert [(gop.frames, gop.tubes, gop.tube_frames, gop.repeats) for gop in summary.gops] == [
        (21, 5, 4, 4),
        (21, 5, 4, 1),
        (21, 10, 2, 10),
    ]


def test_a_stream_without_frames() -> None:
    data = replace(film(), gops=(), packets=()).to_bytes()
    summary = describe(io.BytesIO(data))
    assert (summary.frame_count, summary.duration, summary.bpp) == (0, 0, 0)
    assert summary.complete


def test_damage_is_listed_with_what_is_left() -> None:
    summary = describe(io.BytesIO(flipped(DATA, positions(b"GOPS")[2] + 20)))
    assert [found.gop_index for found in summary.damage] == [2]
    assert summary.frame_count == 25
    assert summary.complete


def test_a_cut_off_file_is_not_complete() -> None:
    summary = describe(io.BytesIO(DATA[: positions(b"GOPS")[3] + 5]))
    assert (summary.complete, summary.frame_count, len(summary.damage)) == (False, 15, 1)


def test_bytes_after_the_end_are_counted() -> None:
    summary = describe(io.BytesIO(DATA + b"more"))
    assert (summary.trailing_bytes, summary.size, summary.complete) == (4, len(DATA), True)


def test_an_index_that_disagrees_is_damage() -> None:
    shifted = with_chunk(b"nEWS", b"", b"GOPS")
    place = shifted.index(b"INDX")
    end = shifted.index(b"ENDS")
    summary = describe(io.BytesIO(shifted[:end] + chunk(b"ENDS", place.to_bytes(8))))
    assert [found.message for found in summary.damage] == ["the index does not agree with the GOPs"]


def test_a_table_of_gops_has_a_limit() -> None:
    with pytest.raises(FormatError, match="more than 5 GOPs"):
        describe(io.BytesIO(DATA), Limits(gops=5))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, bsqcodec.bitstream; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "cbor2" in loaded
    assert not {"torch", "av", "numpy", "constriction", "PIL"} & set(loaded)
