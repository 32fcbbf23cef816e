"""Videos are written with their times, sizes, colours and sound, and appear whole or not at all."""

import io
import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bsqcodec.errors import InputError
from bsqcodec.media import (
    AudioPacket,
    AudioTrack,
    Colour,
    Frame,
    Metadata,
    VideoInfo,
    open_reader,
    open_writer,
)
from media.clips import frames, info, make_clip, picture, write

MILLISECOND = Fraction(1, 1000)


def read(path: Path) -> tuple[VideoInfo, list[Frame]]:
    with open_reader(path) as reader:
        return reader.info, list(reader.frames())


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (16, 3), (33, 17), (427, 241), (64, 48)])
def test_ffv1_is_exact_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, size[1], size[0], 3), dtype=np.uint8)
    content = [Frame(pixels, number, 1) for number, pixels in enumerate(noise)]
    write(tmp_path / "a.mkv", content, info(*size))
    _, found = read(tmp_path / "a.mkv")
    assert np.array_equal([frame.pixels for frame in found], noise)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.mkv", "a.gif", "a.y4m", "a.m4v", "a.3gp"])
@pytest.mark.parametrize("size", [(64, 48), (65, 47), (66, 47), (1, 1), (3, 2)])
def test_every_video_format_keeps_size_number_and_look(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    content = frames(range(0, 40, 4), *size)
    write(tmp_path / name, content, info(*size, time_base=Fraction(1, 100)))
    about, found = read(tmp_path / name)
    assert (about.width, about.height, len(found)) == (*size, 10)
    if min(size) > 3:
        # 4:2:0 blurs the border of the corners; elsewhere a level or two.
        difference = np.abs(found[7].pixels.astype(int) - content[7].pixels)
        assert np.median(difference) <= 3
        assert difference.mean() < 5


@pytest.mark.parametrize(
    ("time_base", "pts", "last"),
    [
        (Fraction(1, 25), [0, 1, 2, 3], 1),
        (Fraction(1, 600), [0, 1198, 1221, 1258, 1316], 79),
        (Fraction(1001, 30000), [0, 1, 2, 5, 6], 3),
        (Fraction(1, 29978), [0, 1000, 2000, 3000], 519),
        (Fraction(1, 1000000), [0, 1, 33366, 66733, 5000000], 33367),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_mp4_keeps_times_and_durations_exactly(
    tmp_path: Path, name: str, time_base: Fraction, pts: list[int], last: int
) -> None:
    write(tmp_path / name, frames(pts, last=last), info(time_base=time_base, rate=None))
    about, found = read(tmp_path / name)
    assert [frame.pts * about.time_base for frame in found] == [time * time_base for time in pts]
    assert found[-1].duration * about.time_base == last * time_base


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_matroska_rounds_to_milliseconds_and_says_so(tmp_path: Path, name: str) -> None:
    pts = [0, 1001, 2002, 9009]
    said = write(tmp_path / name, frames(pts, last=1001), info(time_base=Fraction(1, 30000)))
    about, found = read(tmp_path / name)
    errors = [
        abs(f.pts * about.time_base - time / Fraction(30000)) for f, time in zip(found, pts, strict=True)
    ]
    assert max(errors) <= MILLISECOND / 2
    assert said == [f"times are rounded to 1 ms: .{name[2:]} keeps no finer"]
    assert write(tmp_path / f"b{name}", frames([0, 33, 40]), info(time_base=MILLISECOND)) == []
    assert [frame.pts for frame in read(tmp_path / f"b{name}")[1]] == [0, 33, 40]


def test_gif_keeps_hundredths_and_leaves_out_what_is_too_fast(tmp_path: Path) -> None:
    said = write(tmp_path / "a.gif", frames([0, 100, 105, 200, 350]), info(time_base=MILLISECOND))
    about, found = read(tmp_path / "a.gif")
    assert [frame.pts * about.time_base for frame in found] == [
        Fraction(time, 1000) for time in (0, 100, 200, 350)
    ]
    assert said == [
        "times are rounded to 10 ms: .gif keeps no finer",
        "frames that come too fast for the format are left out",
    ]


@pytest.mark.parametrize("matrix", [1, 5, 6])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_colour_is_tagged_and_converted_alike(tmp_path: Path, matrix: int, full: bool, name: str) -> None:
    colour = Colour(primaries=6, transfer=6, matrix=matrix, full_range=full, bit_depth=8)
    # 4:4:4 for an odd size, so that only the conversion is seen.
    pixels = np.random.default_rng(0).integers(60, 200, (1, 1, 3), dtype=np.uint8) * np.ones(
        (33, 31, 1), np.uint8
    )
    write(tmp_path / name, [Frame(pixels, 0, 1)], info(31, 33, colour=colour))
    about, found = read(tmp_path / name)
    assert about.colour == colour
    assert np.abs(found[0].pixels.astype(int) - pixels).max() <= 3


def test_rgb_sources_get_the_usual_matrix(tmp_path: Path) -> None:
    colour = Colour(primaries=1, transfer=13, matrix=0, full_range=True, bit_depth=8)
    write(tmp_path / "a.mp4", frames([0]), info(colour=colour))
    assert read(tmp_path / "a.mp4")[0].colour == Colour(1, 13, 6, False, 8)


def sound_of(path: Path) -> tuple[list[AudioTrack], list[AudioPacket]]:
    with open_reader(path) as reader:
        return reader.audio_tracks, list(reader.audio_packets())


def joined(packets: list[AudioPacket], track: int = 0) -> bytes:
    return b"".join(packet.data for packet in packets if packet.track == track)


SOUNDS = {
    "aac": 44100,
    "ac3": 48000,
    "alac": 44100,
    "eac3": 48000,
    "flac": 44100,
    "libmp3lame": 44100,
    "libopus": 48000,
    "mp2": 48000,
    "pcm_f32le": 48000,
    "pcm_s16be": 44100,
    "pcm_s16le": 22050,
    "pcm_s24le": 48000,
    "pcm_u8": 8000,
    "vorbis": 44100,
    "wavpack": 44100,
}


@pytest.mark.parametrize("codec", SOUNDS)
def test_sound_comes_back_to_the_byte_in_matroska(tmp_path: Path, codec: str) -> None:
    rate = SOUNDS[codec]
    source = make_clip(tmp_path / "source.mkv", sound=[(codec, rate)])
    tracks, packets = sound_of(source)
    with (
        open_reader(source) as reader,
        open_writer(tmp_path / "a.mkv", reader.info, audio_tracks=tracks) as writer,
    ):
        for event in reader.events():
            (writer.write_audio if isinstance(event, AudioPacket) else writer.write)(event)  # type: ignore[operator]
    assert writer.warnings == []
    found_tracks, found = sound_of(tmp_path / "a.mkv")
    assert [packet.data for packet in found] == [packet.data for packet in packets]
    assert found_tracks[0].extradata == tracks[0].extradata
    assert (found_tracks[0].sample_rate, found_tracks[0].channels) == (tracks[0].sample_rate, 2)
    ticks = tracks[0].time_base
    for before, after in zip(packets, found, strict=True):
        # Matroska rounds to milliseconds, in the source and again here.
        assert abs(before.pts * ticks - after.pts * found_tracks[0].time_base) <= MILLISECOND
    with av.open(str(tmp_path / "a.mkv")) as container:
        samples = sum(block.samples for block in container.decode(audio=0))
    # What a codec puts in front and behind (up to a packet) is not cut away again.
    assert rate // 2 <= samples <= rate // 2 + 2 * 1152 + 1024


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("codec", ["aac", "ac3", "alac", "libmp3lame", "pcm_s16le", "mp2"])
def test_sound_comes_back_to_the_byte_in_mp4(tmp_path: Path, codec: str, name: str) -> None:
    source = make_clip(tmp_path / "source.mov", sound=[(codec, SOUNDS[codec])])
    tracks, packets = sound_of(source)
    write_sound(tmp_path / name, tracks, packets)
    found_tracks, found = sound_of(tmp_path / name)
    assert joined(found) == joined(packets)
    assert found[0].pts * found_tracks[0].time_base == packets[0].pts * tracks[0].time_base
    if not codec.startswith("pcm"):
        assert [packet.pts for packet in found] == [packet.pts for packet in packets]
        # The bit rate is what the new file comes to; MP4 has one name for MP2 and MP3.
        expected = replace(tracks[0], bit_rate=found_tracks[0].bit_rate)
        assert found_tracks == [
            replace(expected, codec="mp3") if (codec, name) == ("mp2", "a.mp4") else expected
        ]


def write_sound(path: Path, tracks: list[AudioTrack], packets: list[AudioPacket]) -> list[str]:
    with open_writer(path, info(), audio_tracks=tracks) as writer:
        for frame in frames(range(12)):
            writer.write(frame)
        for packet in packets:
            writer.write_audio(packet)
    return writer.warnings


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw"])
def test_companded_sound_comes_back_in_mov_and_is_left_out_of_matroska(tmp_path: Path, codec: str) -> None:
    tracks, packets = sound_of(make_clip(tmp_path / "source.mov", sound=[(codec, 8000)]))
    assert write_sound(tmp_path / "a.mov", tracks, packets) == []
    assert joined(sound_of(tmp_path / "a.mov")[1]) == joined(packets)
    said = write_sound(tmp_path / "a.mkv", tracks, packets)
    assert said == [f"sound track 0 left out: .mkv cannot hold {codec}; .mov can"]


@pytest.mark.parametrize("start", [-2048, 0, 3000, 100_000])
def test_sound_keeps_its_distance_to_the_picture(tmp_path: Path, start: int) -> None:
    source = make_clip(
        tmp_path / "source.mp4", encoder="libx264", pixel_format="yuv420p", sound=[("aac", 44100)]
    )
    tracks, packets = sound_of(source)
    shifted = [
        AudioPacket(p.track, p.pts + start, p.dts + start, p.duration, p.is_keyframe, p.data) for p in packets
    ]
    write_sound(tmp_path / "a.mp4", tracks, shifted)
    _, found = sound_of(tmp_path / "a.mp4")
    assert [packet.pts for packet in found] == [packet.pts for packet in shifted]


def test_several_tracks_keep_their_order(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "source.mkv", sound=[("ac3", 48000), ("libopus", 48000), ("aac", 44100)])
    tracks, packets = sound_of(source)
    write_sound(tmp_path / "a.mp4", tracks, packets)
    found_tracks, found = sound_of(tmp_path / "a.mp4")
    assert [track.codec for track in found_tracks] == ["ac3", "opus", "aac"]
    assert all(joined(found, track) == joined(packets, track) for track in range(3))


def amr_track() -> tuple[AudioTrack, list[AudioPacket]]:
    """Three packets of four AMR-NB frames each, of 12.2, 4.75 kbit/s, silence and no data."""
    four = [
        bytes([kind << 3 | 4]) + bytes(length - 1) for kind, length in ((7, 32), (0, 13), (8, 6), (15, 1))
    ]
    track = AudioTrack("amr_nb", 8000, 1, "mono", 0, 12200, Fraction(1, 8000), b"")
    return track, [AudioPacket(0, n * 640, n * 640, 640, True, b"".join(four)) for n in range(3)]


def test_amr_goes_into_mp4_frame_by_frame(tmp_path: Path) -> None:
    track, packets = amr_track()
    assert write_sound(tmp_path / "a.mp4", [track], packets) == []
    _, found = sound_of(tmp_path / "a.mp4")
    assert joined(found) == joined(packets)
    assert [packet.pts for packet in found] == list(range(0, 12 * 160, 160))


def test_sound_that_a_format_cannot_hold_is_left_out_and_said(tmp_path: Path) -> None:
    track, packets = amr_track()
    said = write_sound(tmp_path / "a.mkv", [track], packets)
    assert said == ["sound track 0 left out: .mkv cannot hold amr_nb; .mp4, .m4v, .3gp, .mov can"]
    tracks, packets = sound_of(make_clip(tmp_path / "s.mkv", sound=[("aac", 44100), ("libopus", 48000)]))
    said = write_sound(tmp_path / "a.webm", tracks, packets)
    assert said == ["sound track 0 left out: .webm cannot hold aac; .mp4, .m4v, .3gp, .mov, .mkv can"]
    found_tracks, found = sound_of(tmp_path / "a.webm")
    assert [each.codec for each in found_tracks] == ["opus"]
    assert joined(found) == joined(packets, track=1)


TRACK = AudioTrack("aac", 44100, 2, "stereo", 1024, 0, Fraction(1, 44100), b"\x12\x10")


@pytest.mark.parametrize(
    "track",
    [
        replace(TRACK, channels=300),
        replace(TRACK, layout="no such layout"),
        replace(TRACK, bit_rate=1 << 70),
        replace(TRACK, codec="flac", extradata=b"damaged"),
    ],
)
def test_nonsense_from_a_damaged_stream_is_one_line(tmp_path: Path, track: AudioTrack) -> None:
    packets = [AudioPacket(0, 0, 0, 1024, True, b"abc"), AudioPacket(0, 1 << 66, 1 << 66, 1024, True, b"d")]
    with pytest.raises(InputError, match=r"a\.mp4: writing failed"):
        write_sound(tmp_path / "a.mp4", [track], packets)
    with pytest.raises(InputError, match=r"a\.mp4: writing failed"):
        write(tmp_path / "a.mp4", frames([0, 1 << 63]), info())
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_nobody_knows_is_left_out(tmp_path: Path) -> None:
    said = write_sound(tmp_path / "a.mp4", [replace(TRACK, codec="nonsense")], [])
    assert said == ["sound track 0 left out: .mp4 cannot hold nonsense; no format written here can"]


def test_tags_and_the_shape_of_pixels_come_back(tmp_path: Path) -> None:
    metadata = Metadata(None, None, {"title": "A clip", "pixel_aspect_ratio": "16:11"})
    for name in ("a.mp4", "a.mov", "a.mkv", "a.webm"):
        said = write(tmp_path / name, frames(range(3)), info(time_base=Fraction(1, 50)), metadata=metadata)
        with open_reader(tmp_path / name) as reader:
            if name in ("a.mp4", "a.mov"):
                assert reader.metadata == metadata
            else:
                assert reader.metadata.tags == {"title": "A clip"}
                assert said == [
                    f"the shape of pixels (16:11) is not kept in {name[1:]}: it will look squeezed"
                ]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.y4m", "a.png", "a/"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_nothing_is_left_after_an_exception(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    with pytest.raises(error), open_writer(f"{tmp_path}/{name}", info(count=1)) as writer:  # noqa: PT012
        writer.write(frames([0])[0])
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_exists_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match=r"a\.mkv: exists already"):
        open_writer(path, info())
    assert path.read_bytes() == b"precious"
    with pytest.raises(ZeroDivisionError), open_writer(path, info(), force=True):
        raise ZeroDivisionError
    assert path.read_bytes() == b"precious"
    write(path, frames(range(2)), info(), force=True)
    assert len(read(path)[1]) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_and_a_device_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "link.mkv").symlink_to(tmp_path / "real.mkv")
    write(tmp_path / "link.mkv", frames(range(2)), info())
    assert (tmp_path / "link.mkv").is_symlink()
    assert len(read(tmp_path / "real.mkv")[1]) == 2
    write(Path("/dev/null"), frames(range(2)), info(), format="mkv")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("format", ["mkv", "mp4", "y4m", "gif", "webm"])
def test_a_file_object_that_cannot_seek_gets_a_playable_stream(tmp_path: Path, format: str) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    stream = Pipe()
    write(stream, frames(range(0, 40, 4)), info(time_base=Fraction(1, 100)), format=format)
    assert not stream.closed
    (tmp_path / f"a.{format}").write_bytes(stream.getvalue())
    assert len(read(tmp_path / f"a.{format}")[1]) == 10


def test_faults_of_the_caller_name_the_number(tmp_path: Path) -> None:
    one = frames([0, 1])
    with pytest.raises(InputError, match="a frame at 0 came after one at 0"):
        write(tmp_path / "a.mkv", [one[0], one[0]], info())
    with pytest.raises(InputError, match=r"shape \(48, 64, 3\) came; expected \(48, 66, 3\)"):
        write(tmp_path / "a.mkv", one, info(66, 48))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", [False, True])
def test_y4m_holds_444_with_its_range(tmp_path: Path, full: bool) -> None:
    colour = Colour(2, 2, 6, full, 8)
    write(tmp_path / "a.y4m", frames(range(3)), info(colour=colour))
    head = (tmp_path / "a.y4m").read_bytes().split(b"\n")[0]
    assert head == b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C444 XCOLORRANGE=" + (b"FULL" if full else b"LIMITED")
    _, found = read(tmp_path / "a.y4m")
    assert np.abs(found[1].pixels.astype(int) - picture(1)).max() <= 3


def test_y4m_says_that_uneven_times_are_lost(tmp_path: Path) -> None:
    assert write(tmp_path / "a.y4m", frames([0, 1, 2]), info()) == []
    said = write(tmp_path / "b.y4m", frames([0, 1, 5]), info())
    assert said == ["Y4M has one rate for all frames: uneven times are not kept"]


def test_a_long_pass_holds_little(tmp_path: Path) -> None:
    # Sound that comes after all frames, or before them, is interleaved by the muxer without a fault.
    tracks, packets = sound_of(make_clip(tmp_path / "s.mkv", sound=[("aac", 44100)]))
    for order in itertools.permutations(["frames", "sound"]):
        path = tmp_path / f"{order[0]}.mp4"
        with open_writer(path, info(), audio_tracks=tracks) as writer:
            for kind in order:
                if kind == "frames":
                    for frame in frames(range(12)):
                        writer.write(frame)
                else:
                    for packet in packets:
                        writer.write_audio(packet)
        assert joined(sound_of(path)[1]) == joined(packets)
        assert len(read(path)[1]) == 12
