"""The TRAK and AUDI chunks: descriptions of sound tracks, and their packets, copied as they were."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from bsqcodec.bitstream import cbor
from bsqcodec.bitstream.header import RATIONAL_MAX, decode_ratio
from bsqcodec.bitstream.limits import DEFAULT_LIMITS, Limits
from bsqcodec.bitstream.varint import VARINT_END, Cursor, encode_signed, encode_varint
from bsqcodec.errors import FormatError, InputError

_CODEC, _SAMPLE_RATE, _CHANNELS, _LAYOUT, _FRAME_SIZE, _BIT_RATE, _TIME_BASE, _EXTRADATA = range(8)
_KEYFRAME = 1
_TIMED = 2


@dataclass(frozen=True)
class AudioTrack:
    """One track of sound. codec: ffmpeg's name; frame_size: samples per packet, 0 where it varies."""

    codec: str
    sample_rate: int
    channels: int
    layout: str
    frame_size: int
    bit_rate: int
    time_base: Fraction
    extradata: bytes


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """One packet of track number `track`. Times in the track's time base, with the frames' zero."""

    track: int
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
    data: bytes


@dataclass(frozen=True)
class AudioTracks:
    """Event of the reader: the tracks that packets refer to by their number here."""

    tracks: tuple[AudioTrack, ...]


@dataclass(frozen=True)
class AudioPackets:
    """Event of the reader: packets of one track, in the order of the source."""

    packets: tuple[AudioPacket, ...]


class AudioTrackLike(Protocol):
    """Anything with the fields of an `AudioTrack`."""

    @property
    def codec(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def layout(self) -> str: ...
    @property
    def frame_size(self) -> int: ...
    @property
    def bit_rate(self) -> int: ...
    @property
    def time_base(self) -> Fraction: ...
    @property
    def extradata(self) -> bytes: ...


class AudioPacketLike(Protocol):
    """Anything with the fields of an `AudioPacket`."""

    @property
    def track(self) -> int: ...
    @property
    def pts(self) -> int: ...
    @property
    def dts(self) -> int: ...
    @property
    def duration(self) -> int: ...
    @property
    def is_keyframe(self) -> bool: ...
    @property
    def data(self) -> bytes: ...


def encode_tracks(tracks: Sequence[AudioTrackLike]) -> bytes:
    """Payload of the TRAK chunk: a CBOR array with one map per track, fields that are empty or 0 left out."""
    return cbor.encode([_track_map(track) for track in tracks])


def _track_map(track: AudioTrackLike) -> dict[int, object]:
    optional: dict[int, int | str | bytes] = {
        _LAYOUT: track.layout,
        _FRAME_SIZE: track.frame_size,
        _BIT_RATE: track.bit_rate,
        _EXTRADATA: track.extradata,
    }
    fields: dict[int, object] = {
        _CODEC: track.codec,
        _SAMPLE_RATE: track.sample_rate,
        _CHANNELS: track.channels,
        _TIME_BASE: [track.time_base.numerator, track.time_base.denominator],
    }
    fields.update({key: value for key, value in optional.items() if value})
    return fields


def decode_tracks(payload: memoryview, offset: int = 0, limits: Limits = DEFAULT_LIMITS) -> AudioTracks:
    """The tracks in a TRAK chunk's payload."""
    entries = cbor.decode(payload, offset, max_items=256)
    if not isinstance(entries, list) or not 1 <= len(entries) <= limits.tracks:
        raise FormatError(f"sound tracks are not an array of 1 to {limits.tracks} entries", offset)
    return AudioTracks(tuple(_decode_track(entry, offset) for entry in entries))


def _decode_track(entry: object, offset: int) -> AudioTrack:
    fields = cbor.Fields(entry, "sound track", offset)
    track = AudioTrack(
        codec=fields.text(_CODEC, "codec", None),
        sample_rate=fields.integer(_SAMPLE_RATE, "sample rate", None, 1, RATIONAL_MAX),
        channels=fields.integer(_CHANNELS, "channels", None, 1, 1024),
        layout=fields.text(_LAYOUT, "channel layout", ""),
        frame_size=fields.integer(_FRAME_SIZE, "samples per packet", 0, 0, RATIONAL_MAX),
        bit_rate=fields.integer(_BIT_RATE, "bit rate", 0, 0, VARINT_END - 1),
        time_base=decode_ratio(fields, _TIME_BASE, "time base", None),
        extradata=fields.binary(_EXTRADATA, "extradata", b""),
    )
    fields.finish()
    return track


def encode_packets(packets: Sequence[AudioPacketLike]) -> bytes:
    """Payload of an AUDI chunk: packets of one track. One that follows on the last costs its size alone."""
    tracks = {packet.track for packet in packets}
    if len(tracks) != 1:
        raise InputError(f"packets of {len(tracks)} tracks in one chunk, expected 1")
    payload = bytearray(encode_varint(tracks.pop()) + encode_varint(len(packets)))
    expected = duration = 0
    for packet in packets:
        timed = (packet.pts, packet.dts, packet.duration) != (expected, expected, duration)
        payload += encode_varint(len(packet.data) << 2 | _TIMED * timed | _KEYFRAME * packet.is_keyframe)
        if timed:
            payload += encode_signed(packet.pts - expected) + encode_signed(packet.dts - packet.pts)
            payload += encode_varint(packet.duration)
        expected, duration = packet.pts + packet.duration, packet.duration
    return bytes(payload) + b"".join(packet.data for packet in packets)


def decode_packets(
    payload: memoryview, track_count: int, offset: int = 0, limits: Limits = DEFAULT_LIMITS
) -> AudioPackets:
    """The packets in an AUDI chunk's payload. track_count: tracks that the TRAK chunk describes."""
    cursor = Cursor(payload, offset)
    track = cursor.varint("number of a sound track", 0, track_count - 1)
    count = cursor.varint("number of packets", 1, limits.packets_per_chunk)
    heads = []
    expected = duration = 0
    for _ in range(count):
        head = cursor.varint("size of a packet")
        pts = dts = expected
        if head & _TIMED:
            pts = expected + cursor.signed("time of a packet")
            dts = pts + cursor.signed("decoding time of a packet")
            duration = cursor.varint("duration of a packet")
        expected = pts + duration
        if max(abs(pts), abs(dts), abs(expected)) >= VARINT_END >> 1:
            raise cursor.fault("times of a packet go beyond 2^62")
        heads.append((pts, dts, duration, bool(head & _KEYFRAME), head >> 2))
    total = sum(head[-1] for head in heads)
    if total != cursor.remaining:
        raise cursor.fault(f"the packets take {total} bytes, but {cursor.remaining} are left in the chunk")
    return AudioPackets(
        tuple(
            AudioPacket(track, pts, dts, duration, is_keyframe, cursor.take(size, "a packet"))
            for pts, dts, duration, is_keyframe, size in heads
        )
    )
