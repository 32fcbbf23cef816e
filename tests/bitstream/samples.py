"""Streams for the tests: hypothesis strategies for every part, and a few whole ones made by hand."""

import io
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from hypothesis import strategies as st

from bsqcodec.bitstream import (
    AudioPacket,
    AudioPackets,
    AudioTrack,
    AudioTracks,
    CodingMode,
    Colour,
    Event,
    Gop,
    Header,
    Metadata,
    StreamReader,
    StreamWriter,
    block_count,
)

DIGEST = bytes(range(16))
AAC = AudioTrack("aac", 48000, 2, "stereo", 1024, 128_000, Fraction(1, 48000), b"\x11\x90")
PCM = AudioTrack("pcm_s16le", 8000, 1, "mono", 0, 0, Fraction(1, 8000), b"")


@dataclass(frozen=True)
class Stream:
    """What goes into a stream."""

    header: Header
    gops: tuple[Gop, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)
    tracks: tuple[AudioTrack, ...] = ()
    packets: tuple[AudioPacket, ...] = ()

    def to_bytes(self) -> bytes:
        sink = io.BytesIO()
        with StreamWriter(sink) as writer:
            writer.write_header(self.header)
            writer.write_metadata(self.metadata)
            writer.write_audio_tracks(self.tracks)
            writer.write_audio(self.packets)
            for gop in self.gops:
                writer.write_gop(gop)
        return sink.getvalue()


def read_back(reader: StreamReader) -> tuple[Stream, list[Event]]:
    """What comes out of a stream, packets track by track; and the events in their order."""
    events = list(reader)
    metadata = [event for event in events if isinstance(event, Metadata)]
    tracks = [event.tracks for event in events if isinstance(event, AudioTracks)]
    packets = [packet for event in events if isinstance(event, AudioPackets) for packet in event.packets]
    stream = Stream(
        header=reader.header,
        gops=tuple(event for event in events if isinstance(event, Gop)),
        metadata=metadata[0] if metadata else Metadata(),
        tracks=tracks[0] if tracks else (),
        packets=tuple(sorted(packets, key=lambda packet: packet.track)),
    )
    return stream, events


def make_gop(
    pts: list[int],
    header: Header,
    *,
    durations: list[int] | None = None,
    joined: bool = False,
    repeats: frozenset[int] = frozenset(),
    tube_frames: int | None = None,
) -> Gop:
    """A GOP whose parts say where they belong: row and level, as often as both together."""
    tube_frames = tube_frames or header.tube_frames
    rows = 1 if joined else block_count(len(pts), tube_frames) - len(repeats)
    parts = tuple(
        tuple(bytes([16 * block + level]) * (block + level + 1) for level in range(header.levels))
        for block in range(rows)
    )
    return Gop(
        pts=tuple(pts),
        durations=tuple(durations or [after - before for before, after in pairwise(pts)] + [1]),
        mode=CodingMode.PRIOR,
        joined=joined,
        key_rate=500,
        tube_rate=420,
        levels_kept=header.levels,
        token_crcs=tuple(range(1000, 1000 + header.levels)),
        parts=parts,
        repeats=repeats,
        tube_frames=tube_frames,
    )


def still() -> Stream:
    header = Header(768, 512, "base", DIGEST, 4, still=True)
    return Stream(header, (make_gop([0], header),))


def still_film() -> Stream:
    """GOPs of a key frame and 5 tubes, in the last one 10 of half the length, of which some are repeats; runs
    of their own and joined ones."""
    header = Header(64, 48, "tiny", DIGEST, 3, max_gop_frames=21)
    repeats = (frozenset({1, 2, 4, 5}), frozenset({3}), frozenset(range(1, 11)))
    return Stream(
        header=header,
        gops=tuple(
            make_gop(
                list(range(21 * n, 21 * n + 21)),
                header,
                joined=n == 1,
                repeats=repeats[n],
                tube_frames=2 if n == 2 else None,
            )
            for n in range(3)
        ),
    )


def film(gops: int = 6) -> Stream:
    """25 frames a second, 5 frames a GOP, two sound tracks: AAC with the usual delay, and plain samples."""
    header = Header(64, 48, "tiny", DIGEST, 3, max_gop_frames=5, colour=Colour(1, 1, 1, False, 10))
    aac = [
        AudioPacket(0, 1024 * n, 1024 * n, 1024, True, bytes([n + 2]) * 9) for n in range(-2, 10 * gops - 2)
    ]
    pcm = [AudioPacket(1, 800 * n, 800 * n, 800, True, bytes([n]) * 5) for n in range(2 * gops)]
    return Stream(
        header=header,
        gops=tuple(make_gop(list(range(5 * n, 5 * n + 5)), header, joined=n % 2 == 1) for n in range(gops)),
        metadata=Metadata(exif=b"Exif\0\0", icc=b"profile", tags={"title": "Straße", "artist": "-"}),
        tracks=(AAC, PCM),
        packets=(*aac, *pcm),
    )


RATIOS = st.builds(Fraction, st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1))
TIMES = st.integers(-(2**60), 2**60)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    is_still = draw(st.booleans())
    byte = st.integers(0, 255)
    return Header(
        width=draw(st.integers(1, 4096)),
        height=draw(st.integers(1, 65535)),
        model_name=draw(st.text(min_size=1, max_size=30)),
        model_digest=draw(st.binary(min_size=16, max_size=16)),
        levels=draw(st.integers(1, 16)),
        quality_hundredths=draw(st.just(0) | st.integers(100, 1000)),
        still=is_still,
        max_gop_frames=1 if is_still else draw(st.integers(1, 1024)),
        tube_frames=draw(st.integers(1, 64)),
        time_base=draw(RATIOS),
        rotation=draw(st.sampled_from([0, 90, 180, 270])),
        colour=Colour(draw(byte), draw(byte), draw(byte), draw(st.booleans()), draw(st.integers(1, 32))),
        creator=draw(st.text(max_size=30)),
        tile_overlap=draw(st.integers(0, 65535)),
    )


@st.composite
def gops(draw: st.DrawFn, header: Header, after: int = -1) -> Gop:
    frames = draw(st.integers(1, min(header.max_gop_frames, 12)))
    step = draw(st.integers(1, 2**20))
    deltas = draw(st.lists(st.just(step) | st.integers(1, 2**40), min_size=frames - 1, max_size=frames - 1))
    pts = [after + 1 + draw(st.integers(0, 2**40))]
    for delta in deltas:
        pts.append(pts[-1] + delta)
    last = draw(st.just(step) | st.integers(0, 2**40))
    anything = st.lists(st.integers(0, 2**40), min_size=frames, max_size=frames)
    durations = draw(st.just([*deltas, last]) | st.just([0] * frames) | anything)
    joined = draw(st.booleans())
    tube_frames = draw(st.just(header.tube_frames) | st.integers(1, 64))
    blocks = block_count(frames, tube_frames)
    repeats = draw(st.frozensets(st.integers(1, blocks - 1))) if blocks > 1 else frozenset[int]()
    rows = 1 if joined else blocks - len(repeats)
    levels = draw(st.integers(1, header.levels))
    part_lists = st.lists(st.binary(max_size=5), min_size=rows * levels, max_size=rows * levels)
    parts = draw(part_lists)
    return Gop(
        pts=tuple(pts),
        durations=tuple(durations),
        mode=draw(st.sampled_from(CodingMode)),
        joined=joined,
        key_rate=draw(st.integers(0, 1000)),
        tube_rate=draw(st.integers(0, 1000)),
        levels_kept=levels,
        token_crcs=tuple(draw(st.lists(st.integers(0, 65535), min_size=levels, max_size=levels))),
        parts=tuple(tuple(parts[row * levels : (row + 1) * levels]) for row in range(rows)),
        repeats=repeats,
        tube_frames=tube_frames,
        smoothing=draw(st.integers(0, 32)),
        quarters=draw(st.booleans()),
    )


TRACKS = st.builds(
    AudioTrack,
    codec=st.text(max_size=12),
    sample_rate=st.integers(1, 2**31 - 1),
    channels=st.integers(1, 64),
    layout=st.text(max_size=12),
    frame_size=st.integers(0, 2**20),
    bit_rate=st.integers(0, 2**40),
    time_base=RATIOS,
    extradata=st.binary(max_size=20),
)
METADATA = st.builds(
    Metadata,
    exif=st.none() | st.binary(max_size=40),
    icc=st.none() | st.binary(max_size=40),
    tags=st.dictionaries(st.text(max_size=30), st.text(max_size=30), max_size=5),
)


@st.composite
def packets(draw: st.DrawFn, track: int) -> list[AudioPacket]:
    """Packets of one track: regular ones, and now and then one with times of its own."""
    made: list[AudioPacket] = []
    for size in draw(st.lists(st.integers(0, 9), max_size=8)):
        pts = made[-1].pts + made[-1].duration if made else 0
        dts, duration = pts, made[-1].duration if made else 0
        if draw(st.booleans()):
            pts, dts, duration = draw(TIMES), draw(TIMES), draw(st.integers(0, 2**40))
        made.append(AudioPacket(track, pts, dts, duration, draw(st.booleans()), bytes(size)))
    return made


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    header = draw(headers())
    made: list[Gop] = []
    for _ in range(1 if header.still else draw(st.integers(0, 4))):
        made.append(draw(gops(header, made[-1].pts[-1] if made else -1)))
    tracks = tuple(draw(st.lists(TRACKS, max_size=2)))
    sound = [packet for track in range(len(tracks)) for packet in draw(packets(track))]
    return Stream(header, tuple(made), draw(METADATA), tracks, tuple(sound))
