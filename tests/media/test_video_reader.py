"""Videos are read frame by frame with their times, upright, with their sound, whatever is odd about them."""

import io
import itertools
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.media import AudioPacket, Frame, open_reader
from media.clips import make_clip, picture

TICK = Fraction(1, 25)
MILLISECOND = Fraction(1, 1000)


def read(path: Path, **options: object) -> list[Frame]:
    with open_reader(path, **options) as reader:  # type: ignore[arg-type]
        return list(reader.frames())


def test_frames_come_in_order_with_their_pixels(tmp_path: Path) -> None:
    found = read(make_clip(tmp_path / "a.mkv", encoder="ffv1", pixel_format="bgr0"))
    assert len(found) == 10
    for number, frame in enumerate(found):
        assert np.array_equal(frame.pixels, picture(number))
        assert frame.pixels.flags.c_contiguous


def test_uneven_times_survive_exactly(tmp_path: Path) -> None:
    pts = [0, 7, 8, 40, 41, 1000, 1003, 5000]
    path = make_clip(tmp_path / "a.mkv", pts=pts, time_base=MILLISECOND)
    with open_reader(path) as reader:
        found = list(reader.frames())
        assert reader.info.time_base == MILLISECOND
    assert [frame.pts for frame in found] == pts
    assert [frame.duration for frame in found[:-1]] == [b - a for a, b in itertools.pairwise(pts)]


def test_out_of_order_times_are_repaired_and_said(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=[0, 40, 120, 80, 160, 200], time_base=MILLISECOND)
    with open_reader(path) as reader:
        found = list(reader.frames())
        assert reader.warnings == ["2 of 6 timestamps out of order or missing: put in order"]
    assert [frame.pts for frame in found] == [0, 40, 80, 120, 160, 200]
    # The order of display is the decoder's.
    assert [round(float(frame.pixels[30].mean())) for frame in found] == sorted(
        round(float(frame.pixels[30].mean())) for frame in found
    )


def test_the_first_frame_is_zero_and_sound_moves_along(tmp_path: Path) -> None:
    late = make_clip(
        tmp_path / "a.mkv", pts=range(100, 1100, 100), time_base=MILLISECOND, sound=[("pcm_s16le", 8000)]
    )
    with open_reader(late) as reader:
        assert next(reader.frames()).pts == 0
        first = next(reader.audio_packets())
        assert first.pts * reader.audio_tracks[0].time_base == Fraction(-1, 10)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_display_matrix_is_applied(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = make_clip(
        tmp_path / "a.mp4",
        pts=range(2),
        rotation=(rotation, mirrored),
        encoder="libx264",
        pixel_format="yuv444p",
    )
    with open_reader(path) as reader:
        pixels = next(reader.frames()).pixels
        info = reader.info
    upright = np.rot90(picture(0), k=-rotation // 90)
    if mirrored:
        # ffmpeg mirrors what has been turned.
        upright = upright[:, ::-1]
    assert (info.width, info.height) == (upright.shape[1], upright.shape[0])
    assert np.abs(pixels.astype(int) - upright).mean() < 6
    if not mirrored:
        assert info.rotation == rotation


@pytest.mark.parametrize(
    ("start", "duration", "count", "expected"),
    [
        (None, None, 3, [0, 1, 2]),
        (Fraction(1), None, None, list(range(25, 50))),
        (Fraction(101, 100), Fraction(1, 10), None, [26, 27]),
        (Fraction(1, 2), Fraction(1, 25), None, [13]),
        (Fraction(3, 2), None, 2, [38, 39]),
        (None, Fraction(1, 5), None, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_selections_are_exact_to_the_frame(
    tmp_path: Path,
    name: str,
    start: Fraction | None,
    duration: Fraction | None,
    count: int | None,
    expected: list[int],
) -> None:
    is_h264 = name == "a.mp4"
    path = make_clip(
        tmp_path / name,
        pts=range(50),
        encoder="libx264" if is_h264 else "mjpeg",
        pixel_format="yuv420p" if is_h264 else "yuvj444p",
        options={"g": "12", "bf": "2"} if is_h264 else None,
    )
    everything = read(path)
    assert len(everything) == 50
    found = read(path, start=start, duration=duration, max_frames=count)
    assert [frame.pts for frame in found] == [
        everything[n].pts - everything[expected[0]].pts for n in expected
    ]
    for number, frame in zip(expected, found, strict=True):
        assert np.array_equal(frame.pixels, everything[number].pixels)


def test_a_selection_cuts_the_sound_with_it(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=range(12), sound=[("pcm_s16le", 8000)])
    with open_reader(path) as reader:
        everything = list(reader.audio_packets())
        ticks = reader.audio_tracks[0].time_base
    start, duration = 5 * TICK, 3 * TICK
    with open_reader(path, start=start, duration=duration) as reader:
        both = [event for event in reader.events() if isinstance(event, AudioPacket)]
        assert both == list(reader.audio_packets())
    wanted = [
        p for p in everything if (p.pts + p.duration) * ticks > start and p.pts * ticks < start + duration
    ]
    assert [packet.data for packet in both] == [packet.data for packet in wanted]
    assert all(
        abs(cut.pts - (packet.pts - start / ticks)) <= 1 for cut, packet in zip(both, wanted, strict=True)
    )
    with open_reader(path, start=start, max_frames=3) as reader:
        assert [event for event in reader.events() if isinstance(event, AudioPacket)] == both
        assert list(reader.audio_packets()) == both


def test_a_seek_that_lands_too_late_skips_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=range(50))
    everything = read(path)
    # Demuxers with a poor index land behind the place they were asked for.
    monkeypatch.setattr("bsqcodec.media.video_reader.SEEK_MARGIN", Fraction(-1, 2))
    found = read(path, start=Fraction(1, 2))
    assert len(found) == 50 - 13
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, everything[13:], strict=True))


def test_sound_ends_where_the_selection_ends(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=range(12), sound=[("ac3", 48000)])
    with open_reader(path) as reader:
        fifth = list(reader.audio_packets())[4]
        end = fifth.pts * reader.audio_tracks[0].time_base
    # What begins exactly at the end is no longer part of it.
    with open_reader(path, duration=end) as reader:
        assert len(list(reader.audio_packets())) == 4
        assert sum(isinstance(event, AudioPacket) for event in reader.events()) == 4


def test_events_hold_everything_in_one_pass(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=range(12), sound=[("pcm_s16le", 8000), ("ac3", 48000)])
    with open_reader(path) as reader:
        events = list(reader.events())
        frames = [event for event in events if isinstance(event, Frame)]
        packets = [event for event in events if isinstance(event, AudioPacket)]
        assert [frame.pts for frame in frames] == [frame.pts for frame in reader.frames()]
        assert sorted(packets, key=repr) == sorted(reader.audio_packets(), key=repr)
        assert {packet.track for packet in packets} == {0, 1}
        assert [track.codec for track in reader.audio_tracks] == ["pcm_s16le", "ac3"]
        # Interleaved as in the file, not one after the other.
        kinds = [isinstance(event, Frame) for event in events]
        assert kinds != sorted(kinds)
        assert kinds != sorted(kinds, reverse=True)
    with open_reader(path, audio=False) as reader:
        assert reader.audio_tracks == []
        assert not any(isinstance(event, AudioPacket) for event in reader.events())


def test_the_best_video_stream_is_taken(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", pts=range(4), size=(64, 48), second_video=(32, 24))
    with open_reader(path) as reader:
        assert (reader.info.width, reader.info.height) == (64, 48)
        assert len(list(reader.frames())) == 4
        assert reader.warnings == [
            "video stream 1 (32x24) is left out: the better one is stream 0 (64x48)",
        ]


def test_an_attached_picture_is_no_video(tmp_path: Path) -> None:
    cover = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(cover, "JPEG")
    path = make_clip(tmp_path / "a.mp4", cover=cover.getvalue(), encoder="libx264", pixel_format="yuv420p")
    with open_reader(path) as reader:
        assert (reader.info.width, len(list(reader.frames()))) == (64, 10)
        assert reader.warnings == ["1 attached picture left out"]


def test_the_shape_of_pixels_and_tags_are_carried(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "a.mkv",
        aspect=Fraction(16, 11),
        tags={"title": "A clip", "encoder": "not this"},
        pts=range(2),
    )
    with open_reader(path) as reader:
        assert reader.metadata.tags == {"title": "A clip", "pixel_aspect_ratio": "16:11"}


def test_interlaced_video_is_said(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "a.mkv",
        encoder="libx264",
        pixel_format="yuv420p",
        options={"x264-params": "tff=1"},
        pts=range(3),
    )
    with open_reader(path) as reader:
        assert len(list(reader.frames())) == 3
        assert reader.warnings == ["interlaced: coded as it is, both fields in one picture"]


def test_ten_bits_are_said(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", encoder="ffv1", pixel_format="yuv420p10le", pts=range(2))
    with open_reader(path) as reader:
        assert reader.info.colour.bit_depth == 10
        assert reader.warnings == ["10 bits per sample: coded with 8"]


def pipe(data: bytes) -> io.BufferedReader:
    """The reading end of a pipe that somebody fills."""
    reading, writing = os.pipe()

    def fill() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(data)

    threading.Thread(target=fill, daemon=True).start()
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.gif"])
def test_a_pipe_is_read_in_one_pass(tmp_path: Path, name: str) -> None:
    options: dict[str, object] = {"sound": [("mp2", 48000)]}
    if name == "a.gif":
        options = {"encoder": "gif", "pixel_format": "rgb8", "time_base": Fraction(1, 100)}
    if name == "a.ts":
        options |= {"encoder": "mpeg2video", "pixel_format": "yuv420p"}
    path = make_clip(tmp_path / name, **options)  # type: ignore[arg-type]
    with open_reader(path) as reader:
        wanted = list(reader.events())
    with pipe(path.read_bytes()) as end, open_reader(end) as reader:
        found = list(reader.events())
        with pytest.raises(InputError, match="can be read only once"):
            list(reader.events())
    assert [type(event) for event in found] == [type(event) for event in wanted]
    assert all(
        np.array_equal(a.pixels, b.pixels) if isinstance(a, Frame) and isinstance(b, Frame) else a == b
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_an_mp4_comes_through_a_pipe_wherever_its_index_lies(tmp_path: Path, movflags: str) -> None:
    path = make_clip(tmp_path / "a.mp4", encoder="libx264", pixel_format="yuv420p")
    if movflags:
        source = av.open(str(path))
        path = tmp_path / "b.mp4"
        with source, av.open(str(path), "w", container_options={"movflags": movflags}) as output:
            stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    with pipe(path.read_bytes()) as end, open_reader(end) as reader:
        assert len(list(reader.events())) == 10
        stored = ["the index lies at the end of the stream: stored in a temporary file first"]
        assert reader.warnings == ([] if movflags else stored)


def test_a_file_object_that_seeks_can_be_read_again_and_stays_open(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", sound=[("pcm_s16le", 8000)])
    with path.open("rb") as file:
        with open_reader(file) as reader:
            assert len(list(reader.frames())) == 10
            assert len(list(reader.frames())) == 10
            assert list(reader.audio_packets())
        assert not file.closed


def test_only_what_is_read_is_held(tmp_path: Path) -> None:
    # A reader that is left after a few frames closes its file and says nothing.
    path = make_clip(tmp_path / "a.mkv", pts=range(200))
    with open_reader(path) as reader:
        assert len(list(itertools.islice(reader.frames(), 3))) == 3
    with open_reader(path):
        pass
