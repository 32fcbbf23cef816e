"""Sound that is carried, never re-encoded: tracks described so that a later run can put their packets into a
file.

ffmpeg's muxers want a stream with its codec parameters set, and PyAV sets those only by copying another
stream. So a track is turned back into a stream by writing a Matroska header for it, in memory, and opening
that.
"""

import io
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from bsqcodec.media.types import AudioPacket, AudioTrack

# Generic for type checkers only.
AnyPacket: TypeAlias = "Packet[Stream]"

# ffmpeg's codec name -> Matroska codec id, and for PCM the bits per sample.
_MATROSKA_CODECS: dict[str, tuple[str, int]] = {
    "aac": ("A_AAC", 0),
    "ac3": ("A_AC3", 0),
    "alac": ("A_ALAC", 0),
    "dts": ("A_DTS", 0),
    "eac3": ("A_EAC3", 0),
    "flac": ("A_FLAC", 0),
    "mp1": ("A_MPEG/L1", 0),
    "mp2": ("A_MPEG/L2", 0),
    "mp3": ("A_MPEG/L3", 0),
    "opus": ("A_OPUS", 0),
    "pcm_f32le": ("A_PCM/FLOAT/IEEE", 32),
    "pcm_f64le": ("A_PCM/FLOAT/IEEE", 64),
    "pcm_s16be": ("A_PCM/INT/BIG", 16),
    "pcm_s16le": ("A_PCM/INT/LIT", 16),
    "pcm_s24be": ("A_PCM/INT/BIG", 24),
    "pcm_s24le": ("A_PCM/INT/LIT", 24),
    "pcm_s32be": ("A_PCM/INT/BIG", 32),
    "pcm_s32le": ("A_PCM/INT/LIT", 32),
    "pcm_u8": ("A_PCM/INT/LIT", 8),
    "truehd": ("A_TRUEHD", 0),
    "vorbis": ("A_VORBIS", 0),
    "wavpack": ("A_WAVPACK4", 0),
}
# The rest goes by its WAVE format tag.
_WAVE_TAGS = {"amr_nb": 0x0057, "amr_wb": 0x0058, "pcm_alaw": 0x0006, "pcm_mulaw": 0x0007}

# Length of an AMR-NB frame with its header byte, by frame type (RFC 4867, table 1); 1 where there is no data.
AMR_NB_FRAME_BYTES = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)

CARRIED_CODECS = frozenset(_MATROSKA_CODECS) | frozenset(_WAVE_TAGS)


def track_of(stream: AudioStream) -> AudioTrack | None:
    """Describe a stream of an opened file. None where the codec is not one whose packets can be carried.

    The time base is one sample where the file's ticks are whole multiples of that (so that moving the zero
    loses nothing: MP3 in AVI ticks every 26 ms), else the file's.
    """
    context = stream.codec_context
    if context is None:
        return None
    codec = context.codec.canonical_name
    if codec not in CARRIED_CODECS or context.sample_rate <= 0 or context.channels <= 0:
        return None
    ticks = stream.time_base or Fraction(1, context.sample_rate)
    is_whole_samples = (ticks * context.sample_rate).denominator == 1
    return AudioTrack(
        codec=codec,
        sample_rate=context.sample_rate,
        channels=context.channels,
        layout=context.layout.name,
        frame_size=context.frame_size,
        bit_rate=context.bit_rate or 0,
        time_base=Fraction(1, context.sample_rate) if is_whole_samples else ticks,
        extradata=context.extradata or b"",
    )


class SoundGate:
    """Lets packets through as soon as the video's zero is known, with times that count from there.

    Packets wait here, undecoded, until the zero is known and while it is open how long the video is. With a
    cut at the start only packets that reach beyond the zero pass; without, also those that lie before
    (negative times).
    """

    def __init__(self, tracks: dict[int, tuple[AudioTrack, Fraction]], *, cut_start: bool) -> None:
        """tracks: by stream index in the file, each with the length of the file's tick in seconds."""
        self._tracks = tracks
        self._numbers = {index: number for number, index in enumerate(tracks)}
        self._cut_start = cut_start
        self._waiting: deque[tuple[int, Fraction, AnyPacket]] = deque()
        self._newest = {index: Fraction(-1) for index in tracks}
        self._zero: Fraction | None = None

    def open(self, zero: Fraction) -> None:
        """zero: the time of the first selected frame on the file's clock, in seconds."""
        self._zero = zero

    def push(self, packet: AnyPacket, floor: Fraction | None) -> None:
        """Take a packet. floor: the zero is known not to lie before it."""
        index = packet.stream_index
        _, tick = self._tracks[index]
        stated = packet.pts if packet.pts is not None else packet.dts
        time = self._newest[index] if stated is None else stated * tick
        end = time + (packet.duration or 0) * tick
        self._newest[index] = end
        earliest = self._zero if self._zero is not None else floor
        if not (self._cut_start and earliest is not None and end <= earliest):
            self._waiting.append((index, time, packet))

    def release(self, until: Fraction | None) -> Iterator[AudioPacket]:
        """The waiting packets that start before `until` (seconds on the file's clock; None for all)."""
        while self._zero is not None and self._waiting:
            index, time, packet = self._waiting[0]
            if until is not None and time >= until:
                return
            self._waiting.popleft()
            track, tick = self._tracks[index]
            if not (self._cut_start and time + (packet.duration or 0) * tick <= self._zero):
                yield _rebased(packet, self._numbers[index], track, time, tick, self._zero)

    def is_past(self, end: Fraction) -> bool:
        """Whether every track has been read beyond `end`."""
        return all(newest >= end for newest in self._newest.values())


def _rebased(
    packet: AnyPacket,
    number: int,
    track: AudioTrack,
    time: Fraction,
    tick: Fraction,
    zero: Fraction,
) -> AudioPacket:
    dts = time if packet.dts is None else packet.dts * tick
    return AudioPacket(
        track=number,
        pts=round((time - zero) / track.time_base),
        dts=round((dts - zero) / track.time_base),
        duration=round((packet.duration or 0) * tick / track.time_base),
        is_keyframe=packet.is_keyframe,
        data=bytes(packet),
    )


@dataclass(frozen=True)
class TrackTemplate:
    """A stream with the codec parameters of a track. The container must live as long as the stream."""

    container: InputContainer
    stream: AudioStream

    @classmethod
    def of(cls, track: AudioTrack) -> "TrackTemplate":
        container = av.open(io.BytesIO(_matroska_header(track)), "r", format="matroska")
        return cls(container, container.streams.audio[0])


def single_frames(packet: AudioPacket, codec: str) -> list[AudioPacket]:
    """The packet, or for AMR-NB the frames of 20 ms that it is made of: MP4's muxer wants them one by one."""
    if codec != "amr_nb":
        return [packet]
    starts, position = [], 0
    while position < len(packet.data):
        starts.append(position)
        position += AMR_NB_FRAME_BYTES[packet.data[position] >> 3 & 15]
    lasts = packet.duration // max(1, len(starts))
    return [
        replace(
            packet,
            pts=packet.pts + number * lasts,
            dts=packet.dts + number * lasts,
            duration=lasts,
            data=packet.data[start:end],
        )
        for number, (start, end) in enumerate(pairwise([*starts, len(packet.data)]))
    ]


def _matroska_header(track: AudioTrack) -> bytes:
    """EBML of a Matroska file that has the track and no packets (RFC 9559).

    A second track, of plain PCM, is there because ffmpeg refuses a file in which no stream is fully known,
    and it knows some codecs (MP3) only by their packets.
    """
    return _element(
        0x1A45DFA3, _element(0x4282, b"matroska") + _element(0x4287, b"\x04") + _element(0x4285, b"\x02")
    ) + _element(
        0x18538067,
        _element(0x1549A966, _element(0x2AD7B1, (1_000_000).to_bytes(4, "big")))
        + _element(0x1654AE6B, _track_entry(1, track) + _track_entry(2, _PLAIN_PCM))
        + _element(0x1F43B675, _element(0xE7, b"\x00")),
    )


_PLAIN_PCM = AudioTrack("pcm_s16le", 48000, 1, "mono", 0, 0, Fraction(1, 48000), b"")


def _track_entry(number: int, track: AudioTrack) -> bytes:
    codec_id, bit_depth = _MATROSKA_CODECS.get(track.codec, ("A_MS/ACM", 0))
    private = track.extradata
    if track.codec in _WAVE_TAGS:
        private = _wave_format(track)
    elif track.codec == "alac":
        # ffmpeg keeps the header of the MP4 box that the description came in.
        private = private[12:]
    elif track.codec == "flac":
        # Matroska wants the marker and the block header (last block, STREAMINFO) in front.
        private = b"fLaC\x80" + len(private).to_bytes(3, "big") + private
    sound = _element(0xB5, struct.pack(">d", float(track.sample_rate))) + _element(
        0x9F, bytes([track.channels])
    )
    if bit_depth:
        sound += _element(0x6264, bytes([bit_depth]))
    entry = (
        _element(0xD7, bytes([number]))
        + _element(0x73C5, bytes([number]))
        + _element(0x83, b"\x02")
        + _element(0x86, codec_id.encode())
        + _element(0xE1, sound)
    )
    if private:
        entry += _element(0x63A2, private)
    if track.codec == "opus" and len(track.extradata) >= 12:
        # OpusHead: samples of 48 kHz to skip at the start; Matroska wants them in ns, and its muxer to know
        # them.
        (pre_skip,) = struct.unpack_from("<H", track.extradata, 10)
        entry += _element(0x56AA, (pre_skip * 10**9 // 48000).to_bytes(5, "big"))
    return _element(0xAE, entry)


def _wave_format(track: AudioTrack) -> bytes:
    """WAVEFORMATEX. Both companded PCM codecs have one byte a sample; for AMR the alignment says nothing."""
    is_pcm = track.codec.startswith("pcm")
    alignment = track.channels if is_pcm else 1
    bytes_per_second = track.sample_rate * track.channels if is_pcm else track.bit_rate // 8
    return (
        struct.pack(
            "<HHIIHHH",
            _WAVE_TAGS[track.codec],
            track.channels,
            track.sample_rate,
            bytes_per_second,
            alignment,
            8 if is_pcm else 0,
            len(track.extradata),
        )
        + track.extradata
    )


def _element(identity: int, payload: bytes) -> bytes:
    """One EBML element; its length always written in 8 bytes."""
    size = (len(payload) | 1 << 56).to_bytes(8, "big")
    return identity.to_bytes((identity.bit_length() + 7) // 8, "big") + size + payload
