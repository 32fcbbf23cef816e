"""The sixteen odd files of ../shared/data/clips: what is read of each, what a pass through a writer keeps."""

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from bsqcodec.media import AudioPacket, Colour, Frame, open_reader, open_writer

UNSTATED_601 = Colour(2, 2, 6, False, 8)
UNSTATED_709 = Colour(2, 2, 1, False, 8)


@dataclass(frozen=True)
class Clip:
    """What is known of a file. end: time of its last frame; sound: codec and packets of each track."""

    name: str
    size: tuple[int, int]
    frames: int
    end: Fraction
    colour: Colour
    sound: tuple[tuple[str, int], ...] = ()
    rotation: int = 0
    says: tuple[str, ...] = ()
    is_large: bool = False


CLIPS = [
    Clip(
        "camera_avchd.mts",
        (1920, 1080),
        13,
        Fraction(12, 25),
        UNSTATED_709,
        (("ac3", 17),),
        says=("1 subtitle stream left out", "interlaced: coded as it is, both fields in one picture"),
        is_large=True,
    ),
    Clip(
        "camera_mjpeg_pcm.avi",
        (320, 240),
        41,
        Fraction(40, 15),
        Colour(2, 2, 5, True, 8),
        (("pcm_s16le", 56),),
    ),
    Clip("gesture_fullrange.mkv", (640, 480), 47, Fraction(1533, 1000), Colour(2, 2, 6, True, 8)),
    Clip(
        "made_hevc10_bt601.mp4",
        (640, 360),
        75,
        Fraction(74, 25),
        Colour(6, 6, 6, False, 10),
        says=("10 bits per sample: coded with 8",),
    ),
    Clip("made_odd_427x241.webm", (427, 241), 110, Fraction(3637, 1000), UNSTATED_601, (("opus", 182),)),
    Clip(
        "nasa_multistream.mp4",
        (480, 270),
        390,
        Fraction(389389, 30000),
        Colour(1, 1, 1, False, 8),
        (("aac", 103), ("aac", 205)),
        says=(
            "video stream 0 (320x180) is left out: the better one is stream 3 (480x270)",
            "2 subtitle streams left out",
        ),
    ),
    Clip("newtonscradle.gif", (200, 150), 36, Fraction(80, 100), Colour(2, 2, 0, True, 8)),
    Clip(
        "noduration_vp9_opus.webm",
        (1280, 720),
        74,
        Fraction(4872, 1000),
        UNSTATED_709,
        (("opus", 81),),
        is_large=True,
    ),
    Clip("pancake_opus.mkv", (426, 240), 310, Fraction(10300, 1000), UNSTATED_601, (("opus", 519),)),
    Clip("phone.3gp", (176, 144), 74, Fraction(2920, 600), Colour(2, 6, 6, True, 8), (("amr_nb", 50),)),
    Clip(
        "phone_rotated.mov",
        (320, 568),
        120,
        Fraction(2381, 600),
        Colour(1, 1, 1, False, 8),
        (("aac", 173),),
        rotation=90,
        says=("2 data streams left out",),
    ),
    Clip(
        "pool_mpeg4_mp3.avi",
        (320, 240),
        164,
        Fraction(163, 25),
        UNSTATED_601,
        (("mp3", 251),),
        says=("108 of 164 timestamps out of order or missing: put in order",),
    ),
    Clip("skater_h264_aac.mp4", (640, 360), 92, Fraction(90998, 29978), UNSTATED_601, (("aac", 132),)),
    Clip("testsrc_fullrange.mp4", (1280, 720), 30, Fraction(29, 30), Colour(1, 1, 1, True, 8), is_large=True),
    Clip(
        "testsrc_hevc10.mp4",
        (200, 200),
        30,
        Fraction(29, 30),
        Colour(2, 2, 6, False, 10),
        says=("10 bits per sample: coded with 8",),
    ),
    Clip(
        "thermal_vfr.mp4", (1080, 1440), 84, Fraction(6733, 600), UNSTATED_709, (("aac", 479),), is_large=True
    ),
]
LARGE_ARE_SLOW = [
    pytest.param(clip, id=clip.name, marks=[pytest.mark.slow] if clip.is_large else []) for clip in CLIPS
]


@pytest.fixture(scope="module")
def clips(data_dir: Path) -> Path:
    return data_dir / "clips"


@pytest.mark.parametrize("clip", LARGE_ARE_SLOW)
def test_whole_files(clips: Path, clip: Clip) -> None:
    with open_reader(clips / clip.name) as reader:
        count, last, gaps = 0, -1, []
        for event in reader.events():
            if isinstance(event, Frame):
                assert event.pixels.shape == (clip.size[1], clip.size[0], 3)
                gaps.append(event.pts - last)
                count, last = count + 1, event.pts
        packets = list(reader.audio_packets())
        assert (reader.info.width, reader.info.height) == clip.size
        assert count == clip.frames
        assert gaps[0] == 1
        assert min(gaps) > 0
        assert last * reader.info.time_base == clip.end
        assert reader.info.colour == clip.colour
        assert reader.info.rotation == clip.rotation
        found = [
            (track.codec, sum(packet.track == number for packet in packets))
            for number, track in enumerate(reader.audio_tracks)
        ]
        assert found == list(clip.sound)
        assert reader.warnings == list(clip.says)


@pytest.mark.parametrize("clip", [clip for clip in CLIPS if clip.is_large], ids=lambda clip: clip.name)
def test_the_beginning_of_large_files(clips: Path, clip: Clip) -> None:
    with open_reader(clips / clip.name, max_frames=2) as reader:
        assert [frame.pixels.shape for frame in reader.frames()] == [(clip.size[1], clip.size[0], 3)] * 2
        assert reader.info.colour == clip.colour
        assert [track.codec for track in reader.audio_tracks] == [codec for codec, _ in clip.sound]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("clip", LARGE_ARE_SLOW)
def test_a_pass_through_a_writer(clips: Path, tmp_path: Path, clip: Clip, ending: str) -> None:
    """A few frames and all of the sound."""
    with open_reader(clips / clip.name, max_frames=4) as reader:
        content = list(reader.frames())
        about, metadata = reader.info, reader.metadata
    with open_reader(clips / clip.name) as reader:
        packets, tracks = list(reader.audio_packets()), reader.audio_tracks
    path = tmp_path / f"out.{ending}"
    with open_writer(path, about, audio_tracks=tracks, metadata=metadata) as writer:
        for frame in content:
            writer.write(frame)
        for packet in packets:
            writer.write_audio(packet)
    with open_reader(path) as reader:
        found, found_packets = list(reader.frames()), list(reader.audio_packets())
        assert (reader.info.width, reader.info.height) == clip.size
        assert reader.info.rotation == 0
        times = [frame.pts * reader.info.time_base for frame in found]
        lengths = [packet.pts * reader.audio_tracks[packet.track].time_base for packet in found_packets]
        if ending == "mp4" and clip.colour.matrix:
            assert reader.info.colour == Colour(
                clip.colour.primaries, clip.colour.transfer, clip.colour.matrix, clip.colour.full_range, 8
            )
        found_tracks = [track.codec for track in reader.audio_tracks]
    tick = Fraction(0) if ending == "mp4" else Fraction(1, 2000)
    wanted = [frame.pts * about.time_base for frame in content]
    assert len(times) == len(wanted)
    assert all(abs(a - b) <= tick for a, b in zip(times, wanted, strict=True))
    for a, b in zip(found, content, strict=True):
        if ending == "mkv":
            assert np.array_equal(a.pixels, b.pixels)
        else:
            # 4:2:0 and a trace of compression.
            error = (a.pixels.astype(np.float32) - b.pixels) ** 2
            assert 10 * np.log10(255**2 / error.mean()) > (30 if "testsrc" in clip.name else 38)
    if (clip.name, ending) == ("phone.3gp", "mkv"):
        assert writer.warnings[0] == (
            "sound track 0 left out: .mkv cannot hold amr_nb; .mp4, .m4v, .3gp, .mov can"
        )
        assert found_tracks == []
        return
    assert found_tracks == [codec for codec, _ in clip.sound]
    for number, track in enumerate(tracks):
        mine = [packet for packet in packets if packet.track == number]
        theirs = [packet for packet in found_packets if packet.track == number]
        assert b"".join(packet.data for packet in theirs) == b"".join(packet.data for packet in mine)
        start = next(
            time for time, packet in zip(lengths, found_packets, strict=True) if packet.track == number
        )
        assert abs(start - mine[0].pts * track.time_base) <= tick


@pytest.mark.parametrize(
    "clip",
    [
        pytest.param(
            clip,
            id=clip.name,
            marks=[]
            if clip.name in ("phone.3gp", "testsrc_hevc10.mp4", "newtonscradle.gif")
            else [pytest.mark.slow],
        )
        for clip in CLIPS
    ],
)
def test_selections_are_exact_to_the_frame_and_the_packet(clips: Path, clip: Clip) -> None:
    with open_reader(clips / clip.name) as reader:
        everything, sound = list(reader.frames()), list(reader.audio_packets())
        tick, ticks = reader.info.time_base, [track.time_base for track in reader.audio_tracks]
    for start, duration, count in (
        (Fraction(0), clip.end / 2, None),
        (clip.end * 2 / 3, clip.end / 5, None),
        (clip.end * 9 / 10, None, 3),
    ):
        later = [frame for frame in everything if frame.pts * tick >= start]
        wanted = [frame for frame in later if duration is None or frame.pts * tick < start + duration][:count]
        with open_reader(clips / clip.name, start=start, duration=duration, max_frames=count) as reader:
            events = list(reader.events())
        found = [event for event in events if isinstance(event, Frame)]
        assert [frame.pts for frame in found] == [frame.pts - wanted[0].pts for frame in wanted]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, wanted, strict=True))
        zero = wanted[0].pts * tick
        end = start + duration if duration is not None else zero + (found[-1].pts + found[-1].duration) * tick
        in_time = [
            packet.data
            for packet in sound
            if packet.pts * ticks[packet.track] < end
            and (start == 0 or (packet.pts + packet.duration) * ticks[packet.track] > zero)
        ]
        packets = [event.data for event in events if isinstance(event, AudioPacket)]
        assert sorted(packets) == sorted(in_time)


@pytest.mark.parametrize(
    "name", ["skater_h264_aac.mp4", "pancake_opus.mkv", "pool_mpeg4_mp3.avi", "phone.3gp"]
)
def test_through_a_pipe(clips: Path, name: str) -> None:
    with open_reader(clips / name, max_frames=5) as reader:
        wanted = list(reader.events())
    with subprocess.Popen(["cat", str(clips / name)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with open_reader(process.stdout, max_frames=5) as reader:  # type: ignore[arg-type]
            found = list(reader.events())
        process.kill()
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        if isinstance(a, Frame) and isinstance(b, Frame):
            assert a.pts == b.pts
            assert np.array_equal(a.pixels, b.pixels)
        else:
            assert a == b


def test_a_rotated_phone_video_stands_upright(clips: Path) -> None:
    with open_reader(clips / "phone_rotated.mov", max_frames=1) as reader:
        (frame,) = reader.frames()
    # The case of a game: its blue band is at the top, red below.
    band, below = frame.pixels[70:100, 60:280], frame.pixels[300:400, 60:280]
    assert band[..., 2].mean() > band[..., 0].mean() + 60
    assert below[..., 0].mean() > below[..., 2].mean() + 20
