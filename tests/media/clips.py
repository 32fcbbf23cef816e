"""Small clips made on the spot: pictures that tell their number and which way is up, with odd properties."""

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from bsqcodec.media import Colour, Frame, VideoInfo, open_writer

Pixels = npt.NDArray[np.uint8]
PLAIN = Colour(primaries=2, transfer=2, matrix=6, full_range=False, bit_depth=8)


def picture(number: int, width: int = 64, height: int = 48) -> Pixels:
    """A smooth picture whose level tells its number, its top left corner red, its top right corner green."""
    y, x = np.mgrid[0:height, 0:width]
    grey = 40 + number * 12 % 160 + 20 * x / width + 10 * y / height
    pixels = np.repeat(grey[..., None], 3, axis=2)
    pixels[: height // 4, : width // 4] = (200, 30, 30)
    pixels[: height // 4, -(width // 4) :] = (30, 200, 30)
    return pixels.astype(np.uint8)


def info(
    width: int = 64,
    height: int = 48,
    *,
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction | None = Fraction(25),
    count: int | None = None,
    colour: Colour = PLAIN,
) -> VideoInfo:
    return VideoInfo(width, height, time_base, rate, count, colour, 0, False)


def frames(pts: Sequence[int], width: int = 64, height: int = 48, *, last: int = 1) -> list[Frame]:
    durations = [after - before for before, after in itertools.pairwise(pts)] + [last]
    return [
        Frame(picture(number, width, height), time, duration)
        for number, (time, duration) in enumerate(zip(pts, durations, strict=True))
    ]


def write(
    path: str | Path | BinaryIO, content: Iterable[Frame], about: VideoInfo, **options: object
) -> list[str]:
    """Write frames through the writer under test; returns its warnings."""
    with open_writer(path, about, **options) as writer:  # type: ignore[arg-type]
        for frame in content:
            writer.write(frame)
    return writer.warnings


def make_clip(
    path: Path,
    *,
    pts: Sequence[int] = range(10),
    time_base: Fraction = Fraction(1, 25),
    size: tuple[int, int] = (64, 48),
    encoder: str = "mjpeg",
    pixel_format: str = "yuvj444p",
    container: str | None = None,
    rotation: tuple[int, bool] | None = None,
    sound: Sequence[tuple[str, int]] = (),
    sound_start: int = 0,
    second_video: tuple[int, int] | None = None,
    cover: bytes | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Write a clip with ffmpeg alone, so that no code under test makes what it reads.

    pts: in the file in this order, whatever that is (with an intra codec). sound: (codec, sample rate) per
    track, half a second each. rotation: degrees clockwise and mirroring of the display matrix. cover: a JPEG
    to attach.
    """
    with av.open(str(path), "w", format=container) as output:
        output.metadata.update(tags or {})
        video = output.add_stream(encoder, 25, options=options or {})
        video.width, video.height = size
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            video.set_display_rotation(-rotation[0], hflip=rotation[1])
        extra = None
        if second_video is not None:
            extra = output.add_stream(encoder, 25)
            extra.width, extra.height = second_video
            extra.pix_fmt = pixel_format
        attached = None
        if cover is not None:
            attached = output.add_mux_stream("mjpeg", width=16, height=16)
            attached.disposition = Disposition.attached_pic
        tracks = []
        for codec, rate in sound:
            # ffmpeg calls its own Vorbis encoder experimental.
            stream = output.add_stream(codec, rate, options={"strict": "-2"} if codec == "vorbis" else {})
            stream.layout = "stereo"
            tracks.append(stream)
        if attached is not None:
            attached_packet = av.Packet(cover)
            attached_packet.stream = attached
            attached_packet.pts = attached_packet.dts = 0
            attached_packet.is_keyframe = True
            output.mux(attached_packet)
        for number, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, time_base
            for packet in video.encode(frame):
                # Encoders of pictures keep their order, so the wanted time can be put in afterwards.
                if encoder in ("mjpeg", "ffv1"):
                    packet.pts, packet.dts = time, number
                    packet.time_base = time_base
                output.mux(packet)
            if extra is not None and second_video is not None:
                small = av.VideoFrame.from_ndarray(picture(number, *second_video), "rgb24")
                small = small.reformat(format=pixel_format)
                small.pts, small.time_base = number, time_base
                output.mux(extra.encode(small))
        output.mux(video.encode(None))
        if extra is not None:
            output.mux(extra.encode(None))
        for track, (_, rate) in zip(tracks, sound, strict=True):
            tone = (np.sin(np.arange(rate // 2) / 20) * 8000).astype(np.int16)
            block = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], "s16", "stereo")
            block.sample_rate, block.pts, block.time_base = rate, sound_start, Fraction(1, rate)
            output.mux(track.encode(block))
            output.mux(track.encode(None))
    return path
