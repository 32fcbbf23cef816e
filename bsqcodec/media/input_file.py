"""Opening a file with ffmpeg: which stream is the video, what else is in it, why it cannot be read."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from bsqcodec.errors import InputError
from bsqcodec.media.source import StreamSource

MAX_DECODER_THREADS = 4
# Beyond this a rate is a header's mistake.
MAX_FRAME_RATE = 1000
# Formats that ffmpeg believes to see in any text file.
TEXT_ART_FORMATS = {"adf", "bin", "idf", "tty", "xbin"}
# Tags that describe the old file rather than its content.
TECHNICAL_TAGS = {
    "compatible_brands",
    "duration",
    "encoder",
    "handler_name",
    "major_brand",
    "minor_version",
    "vendor_id",
}
# The shape of a pixel where it is not square, as "16:11"; carried among the tags, put back by the writer.
PIXEL_ASPECT_TAG = "pixel_aspect_ratio"

# What PyAV raises for a faulty file: its own errors, and the built-in ones behind I/O.
FFMPEG_FAULTS = (av.FFmpegError, OSError, ValueError)


@dataclass(frozen=True)
class InputFacts:
    """What a file says of its video; plain values, good after the file is closed.

    tick: the length of the stream's time base in seconds. frame_count and length (in seconds): None where not
    stated. is_picture: a picture format (OpenEXR, DPX) rather than a video of one frame. pixel_aspect: width
    by height.
    """

    tick: Fraction
    frame_rate: Fraction | None
    frame_count: int | None
    length: Fraction | None
    is_picture: bool
    pixel_aspect: Fraction
    tags: dict[str, str]

    @classmethod
    def of(cls, container: InputContainer, video: VideoStream) -> "InputFacts":
        rate = video.average_rate or video.guessed_rate
        kind = container.format.name
        # Matroska writes its keys in capitals.
        tags = {key.lower(): value for key, value in container.metadata.items()}
        return cls(
            tick=video.time_base or Fraction(1, 25),
            frame_rate=rate if rate and 0 < rate <= MAX_FRAME_RATE else None,
            frame_count=video.frames or None,
            length=Fraction(container.duration, av.time_base) if container.duration else None,
            is_picture=kind.endswith("_pipe") or kind.startswith("image2"),
            pixel_aspect=video.sample_aspect_ratio or Fraction(1),
            tags={key: value for key, value in tags.items() if key not in TECHNICAL_TAGS},
        )

    def carried_tags(self, *, is_turned: bool) -> dict[str, str]:
        """The tags, and the shape of the upright picture's pixels where it is not square."""
        aspect = 1 / self.pixel_aspect if is_turned else self.pixel_aspect
        shape = {} if aspect == 1 else {PIXEL_ASPECT_TAG: f"{aspect.numerator}:{aspect.denominator}"}
        return self.tags | shape


@dataclass(frozen=True)
class InputFile:
    """An opened file with its chosen video stream."""

    container: InputContainer
    video: VideoStream
    facts: InputFacts

    @property
    def tick(self) -> Fraction:
        return self.facts.tick


def source_name(source: Path | StreamSource) -> str:
    """What messages call the source."""
    return str(source) if isinstance(source, Path) else source.name


def open_input(source: Path | StreamSource, threads: int | None) -> InputFile:
    """Open from the start. threads: for decoding, None for up to 4. Raises InputError, one line."""
    # Without the protocol's name a file called "a:b" would be taken for an address.
    file = f"file:{source}" if isinstance(source, Path) else source
    with faults(source):
        container: InputContainer = av.open(file, "r", metadata_errors="replace")
    try:
        video = _choose_video(container, source_name(source))
    except BaseException:
        container.close()
        raise
    video.codec_context.thread_count = threads or min(MAX_DECODER_THREADS, os.cpu_count() or 1)
    video.codec_context.thread_type = "AUTO"
    return InputFile(container, video, InputFacts.of(container, video))


@contextmanager
def faults(source: Path | StreamSource) -> Iterator[None]:
    """Turn what ffmpeg raises on opening `source` into an InputError, and Ctrl-C in a pipe into itself."""
    try:
        yield
    except FFMPEG_FAULTS as error:
        if isinstance(source, StreamSource) and source.interrupt is not None:
            raise source.interrupt from None
        raise InputError(
            f"{source_name(source)}: cannot be read ({reason(error)}); expected a video or a picture"
        ) from None


def reason(error: Exception) -> str:
    """ffmpeg's own words for a fault, without its number and the file's name."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().replace("\n", " ") or type(error).__name__


def _choose_video(container: InputContainer, name: str) -> VideoStream:
    if container.format.name in TEXT_ART_FORMATS:
        raise InputError(f"{name}: is text; expected a video or a picture")
    moving = [stream for stream in container.streams.video if not _is_attached_picture(stream)]
    best = container.streams.best("video")
    if isinstance(best, VideoStream) and best in moving:
        chosen = best
    elif moving:
        chosen = moving[0]
    else:
        kinds = Counter(
            "attached picture" if _is_attached_picture(stream) else stream.type
            for stream in container.streams
        )
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
        raise InputError(f"{name}: holds no video (found: {found}); expected a video stream")
    if chosen.codec_context is None:
        raise InputError(
            f"{name}: its video is in a codec that ffmpeg {av.ffmpeg_version_info} cannot decode"
        )
    return chosen


def unused_streams(opened: InputFile, carried: set[int]) -> list[str]:
    """One line for each kind of stream that is left behind. carried: indices of the sound that is not."""
    lines = []
    others = [
        stream for stream in opened.container.streams if stream.index not in carried | {opened.video.index}
    ]
    for stream in others:
        if isinstance(stream, VideoStream) and not _is_attached_picture(stream):
            lines.append(
                f"video stream {stream.index}{_size(stream)} is left out: the better one is stream"
                f" {opened.video.index}{_size(opened.video)}"
            )
        elif stream.type == "audio":
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
            lines.append(f"sound of stream {stream.index} is left out: codec {codec} cannot be carried")
    kinds = Counter(
        "attached picture" if _is_attached_picture(stream) else f"{stream.type} stream"
        for stream in others
        if stream.type != "audio" and (stream.type != "video" or _is_attached_picture(stream))
    )
    lines += [f"{count} {kind}{'s' if count > 1 else ''} left out" for kind, count in kinds.items()]
    return lines


def _is_attached_picture(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _size(stream: VideoStream) -> str:
    context = stream.codec_context
    return f" ({context.width}x{context.height})" if context is not None else ""
