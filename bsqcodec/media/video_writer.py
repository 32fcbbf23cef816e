"""Writing of videos with PyAV: H.264 in MP4 and MOV, FFV1 in Matroska, VP9 in WebM, GIF; sound copied."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from bsqcodec.errors import InputError
from bsqcodec.media.audio import AnyPacket, TrackTemplate, single_frames
from bsqcodec.media.colour import (
    FULL_RANGE,
    LIMITED_RANGE,
    RGB,
    BgrConverter,
    PaletteConverter,
    PictureConverter,
    YcbcrConverter,
    ycbcr_colour,
)
from bsqcodec.media.input_file import FFMPEG_FAULTS, PIXEL_ASPECT_TAG, reason
from bsqcodec.media.interfaces import Writer
from bsqcodec.media.target import StreamSink, Target
from bsqcodec.media.types import AudioPacket, AudioTrack, Frame, Metadata, VideoInfo

DEFAULT_FRAME_RATE = Fraction(25)
MAX_ENCODER_THREADS = 4
# Names for tracks that only count their channels; MP4 wants to know where they are.
USUAL_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}
SMALLEST_FOR_SLICES = 16
MAX_TIMESCALE = (1 << 31) - 1


class Pixels(Enum):
    """What an encoder is fed with."""

    YCBCR = "ycbcr"
    RGB = "rgb"
    PALETTE = "palette"


@dataclass(frozen=True)
class VideoFormat:
    """How a file of some ending is made.

    muxers: ffmpeg's names, the first for everything, the others for sound that the first cannot hold. tick:
    the unit of time that the container rounds to, None where it takes any; shortest: how many of them a frame
    lasts at least.
    """

    muxers: tuple[str, ...]
    encoder: str
    pixels: Pixels
    options: dict[str, str]
    tick: Fraction | None = None
    shortest: int = 1
    muxer_options: dict[str, str] = field(default_factory=dict)
    pipe_options: dict[str, str] = field(default_factory=dict)


_MILLISECOND = Fraction(1, 1000)


def _h264(*muxers: str) -> VideoFormat:
    # Without B-frames decoding order is display order, so that MP4 keeps the duration of every frame; that
    # costs a tenth of the bits. Faster presets than superfast cost half as much again.
    return VideoFormat(
        muxers,
        "libx264",
        Pixels.YCBCR,
        {"crf": "12", "preset": "superfast", "bf": "0"},
        pipe_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    )


# AMR has no place in MP4 proper, only in its 3GP flavour, which the same players read.
VIDEO_OUTPUTS = {
    "mp4": _h264("mp4", "3gp"),
    "m4v": _h264("mp4", "3gp"),
    "3gp": _h264("3gp"),
    "mov": _h264("mov"),
    "mkv": VideoFormat(
        ("matroska",),
        "ffv1",
        Pixels.RGB,
        {"level": "3", "slices": "4", "coder": "rice", "context": "0", "g": "1"},
        _MILLISECOND,
    ),
    "webm": VideoFormat(
        ("webm",),
        "libvpx-vp9",
        Pixels.YCBCR,
        {"crf": "14", "b": "0", "deadline": "realtime", "cpu-used": "8"},
        _MILLISECOND,
    ),
    # Browsers slow down what is faster than 50 frames a second.
    "gif": VideoFormat(
        ("gif",), "gif", Pixels.PALETTE, {}, Fraction(1, 100), shortest=2, muxer_options={"loop": "0"}
    ),
}


class VideoWriter(Writer):
    """A video file with its sound. Colour tags, times and the shape of pixels are those of the source."""

    def __init__(
        self,
        target: Target,
        ending: str,
        info: VideoInfo,
        tracks: list[AudioTrack],
        metadata: Metadata,
        threads: int | None,
    ) -> None:
        self.warnings = []
        self._target = target
        self._info = info
        self._ending = ending
        self._format = VIDEO_OUTPUTS[ending]
        self._tracks = tracks
        self._sink: StreamSink | None = None
        self._sound: dict[int, AudioStream] = {}
        self._last_dts: dict[int, int] = {}
        self._last_pts: int | None = None
        self._last_written: int | None = None
        self._tick = self._format.tick or info.time_base
        self._converter: PictureConverter
        with self._faults():
            # Opened inputs that the streams of sound are copied from; they must outlive the muxer.
            self._templates = [TrackTemplate.of(track) for track in tracks]
            self._container = self._open_container()
            tags = dict(metadata.tags)
            aspect = tags.pop(PIXEL_ASPECT_TAG, None)
            self._container.metadata.update(tags)
            self._video = self._add_video(threads)
            if aspect is not None and re.fullmatch(r"[1-9]\d{0,5}:[1-9]\d{0,5}", aspect):
                self._set_pixel_aspect(aspect)
            self._add_sound()
            self._container.start_encoding()
        if (info.time_base / self._tick).denominator != 1 and not info.is_still:
            self.warnings.append(
                f"times are rounded to {float(self._tick * 1000):g} ms: .{ending} keeps no finer"
            )

    def write(self, frame: Frame) -> None:
        expected = (self._info.height, self._info.width, 3)
        if frame.pixels.shape != expected:
            raise InputError(
                f"{self._target.name}: a frame of shape {frame.pixels.shape} came; expected {expected}"
            )
        if self._last_pts is not None and frame.pts <= self._last_pts:
            raise InputError(
                f"{self._target.name}: a frame at {frame.pts} came after one at {self._last_pts}"
            )
        self._last_pts = frame.pts
        scale = self._info.time_base / self._tick
        pts = round(frame.pts * scale)
        if self._last_written is not None and pts - self._last_written < self._format.shortest:
            self._say("frames that come too fast for the format are left out")
            return
        self._last_written = pts
        with self._faults():
            picture = self._converter.convert(frame.pixels)
            picture.pts, picture.duration, picture.time_base = pts, round(frame.duration * scale), self._tick
            self._container.mux(self._video.encode(picture))

    def write_audio(self, packet: AudioPacket) -> None:
        stream = self._sound.get(packet.track)
        if stream is None:
            return
        track = self._tracks[packet.track]
        with self._faults():
            for single in single_frames(packet, track.codec):
                self._container.mux(self._timed_packet(single, track.time_base, stream))

    def _timed_packet(self, packet: AudioPacket, time_base: Fraction, stream: AudioStream) -> AnyPacket:
        tick = stream.time_base or time_base
        scale = time_base / tick
        copied: AnyPacket = Packet(packet.data)
        copied.stream = stream
        copied.time_base = tick
        # Muxers demand increasing times; rounding to the container's tick may have made two equal.
        dts = max(round(packet.dts * scale), self._last_dts.get(packet.track, -(1 << 62)) + 1)
        copied.dts = self._last_dts[packet.track] = dts
        copied.pts = max(round(packet.pts * scale), dts)
        copied.duration = round(packet.duration * scale)
        copied.is_keyframe = packet.is_keyframe
        return copied

    def close(self) -> None:
        with self._faults():
            self._container.mux(self._video.encode(None))
            self._container.close()
        self._target.commit()

    def _say(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def abort(self) -> None:
        with suppress(*FFMPEG_FAULTS):
            self._container.close()
        self._target.discard()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn what ffmpeg raises into an InputError, and leave nothing behind whatever is raised."""
        try:
            yield
        except (*FFMPEG_FAULTS, OverflowError) as error:
            # OverflowError: a number in a damaged header that does not fit into ffmpeg's fields.
            self._target.discard()
            if self._sink is not None and self._sink.interrupt is not None:
                raise self._sink.interrupt from None
            raise InputError(f"{self._target.name}: writing failed ({reason(error)})") from None
        except BaseException:
            self._target.discard()
            raise

    def _open_container(self) -> OutputContainer:
        # The first muxer that holds most of the tracks.
        muxer = max(self._format.muxers, key=lambda name: sum(_holds(name, each) for each in self._templates))
        options = dict(self._format.muxer_options)
        if self._format.encoder == "libx264" and self._tracks:
            # The unit in which MP4 says that sound begins later than the picture; its own would be 1 ms.
            options["movie_timescale"] = str(min(MAX_TIMESCALE, self._tracks[0].time_base.denominator))
        if self._target.path is not None:
            return av.open(f"file:{self._target.path}", "w", format=muxer, container_options=options)
        self._sink = StreamSink(self._target.open())
        if not self._sink.seekable():
            options |= self._format.pipe_options
        return av.open(self._sink, "w", format=muxer, container_options=options)

    def _add_video(self, threads: int | None) -> VideoStream:
        info = self._info
        rate = info.frame_rate or DEFAULT_FRAME_RATE
        options = dict(self._format.options)
        if "slices" in options and min(info.width, info.height) < SMALLEST_FOR_SLICES:
            options["slices"] = "1"
        stream: VideoStream = self._container.add_stream(  # type: ignore[assignment]
            self._format.encoder, rate.limit_denominator(1 << 16), options=options
        )
        context = stream.codec_context
        context.width, context.height = info.width, info.height
        context.time_base = self._tick
        context.thread_count = threads or min(MAX_ENCODER_THREADS, os.cpu_count() or 1)
        context.flags |= Flags.frame_duration
        context.color_primaries = info.colour.primaries
        context.color_trc = info.colour.transfer
        if self._format.pixels is Pixels.YCBCR:
            # 4:2:0 of H.264 needs even sizes; where they are odd every pixel keeps its own chroma.
            is_even = info.width % 2 == 0 and info.height % 2 == 0
            context.pix_fmt = "yuv420p" if is_even or self._format.encoder != "libx264" else "yuv444p"
            colour = ycbcr_colour(info.colour, info.width, info.height)
            context.colorspace = colour.matrix
            context.color_range = FULL_RANGE if colour.full_range else LIMITED_RANGE
            self._converter = YcbcrConverter(
                info.width, info.height, pixel_format=context.pix_fmt, colour=colour
            )
        elif self._format.pixels is Pixels.RGB:
            context.pix_fmt, context.colorspace, context.color_range = "bgr0", RGB, FULL_RANGE
            self._converter = BgrConverter()
        else:
            context.pix_fmt = "pal8"
            self._converter = PaletteConverter()
        return stream

    def _set_pixel_aspect(self, aspect: str) -> None:
        if self._format.encoder == "libx264":
            self._video.codec_context.sample_aspect_ratio = Fraction(aspect.replace(":", "/"))
        else:
            self._say(f"the shape of pixels ({aspect}) is not kept in .{self._ending}: it will look squeezed")

    def _add_sound(self) -> None:
        for number, (track, template) in enumerate(zip(self._tracks, self._templates, strict=True)):
            try:
                stream = self._container.add_stream_from_template(template.stream)
            except ValueError:
                able = (
                    ", ".join(f".{ending}" for ending in _endings_for(template)) or "no format written here"
                )
                self.warnings.append(
                    f"sound track {number} left out: .{self._ending} cannot hold {track.codec}; {able} can"
                )
                continue
            if track.bit_rate:
                stream.codec_context.bit_rate = track.bit_rate
            stream.codec_context.layout = USUAL_LAYOUTS.get(track.layout, track.layout)
            self._sound[number] = stream


def _endings_for(template: TrackTemplate) -> list[str]:
    return [
        ending
        for ending, other in VIDEO_OUTPUTS.items()
        if any(_holds(muxer, template) for muxer in other.muxers)
    ]


def _holds(muxer: str, template: TrackTemplate) -> bool:
    """Whether a container format has a place for a codec."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        try:
            container.add_stream_from_template(template.stream)
        except ValueError:
            return False
        return True
