"""Anchors for clips: H.264 (x264), HEVC (x265) and AV1 (SVT-AV1), through the libraries that PyAV brings."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bsqcodec.errors import DependencyError, InputError
from bsqcodec.evaluation.codecs import Knob
from bsqcodec.evaluation.sources import Kind, Source, SourceInfo


class Settings(Enum):
    """Named settings of the video codecs.

    DEFAULT is what people use; PAPER is what BSQ-ViT and CompressAI's bench give (`-preset medium -bf 0
    -tune zerolatency -pix_fmt yuv420p`, CRF 17..47; frame rate stated, which their raw input lacked);
    LOW_DELAY is PAPER with a single intra frame.
    """

    DEFAULT = "default"
    PAPER = "paper"
    LOW_DELAY = "low-delay"


PAPER_CRF: tuple[float, ...] = (47.0, 42.0, 37.0, 32.0, 27.0, 22.0, 20.0, 17.0)
DEFAULT_CRF: tuple[float, ...] = (47.0, 42.0, 37.0, 32.0, 27.0, 22.0)
AV1_CRF: tuple[float, ...] = (63.0, 55.0, 45.0, 35.0, 25.0)
NO_MORE_KEY_FRAMES = "9999"


@dataclass(frozen=True)
class Encoder:
    """One of ffmpeg's encoders, with the preset that counts as its middle and the range of its CRF."""

    library: str
    preset: str
    highest_crf: float
    whole: bool


ENCODERS = {
    "x264": Encoder("libx264", "medium", 51, whole=False),
    "x265": Encoder("libx265", "medium", 51, whole=False),
    "svt-av1": Encoder("libsvtav1", "6", 63, whole=True),
}


@dataclass(frozen=True)
class VideoSettings:
    """What is asked of one encoder: named settings, preset (None: the middle one) and threads."""

    encoder: str
    settings: Settings = Settings.DEFAULT
    preset: str | None = None
    threads: int = 1

    @property
    def name(self) -> str:
        parts = [self.encoder]
        if self.settings is not Settings.DEFAULT:
            parts.append(self.settings.value)
        if self.preset is not None:
            parts.append(self.preset)
        return "-".join(parts)

    @property
    def library(self) -> str:
        return ENCODERS[self.encoder].library

    @property
    def knob(self) -> Knob:
        encoder = ENCODERS[self.encoder]
        values = DEFAULT_CRF if self.settings is Settings.DEFAULT else PAPER_CRF
        if self.encoder == "svt-av1":
            values = AV1_CRF
        return Knob("crf", values, 1, encoder.highest_crf, whole=encoder.whole, rising=False)

    def options(self) -> dict[str, str]:
        """ffmpeg's options but CRF, size, rate and pixel format."""
        chosen = {"preset": self.preset or ENCODERS[self.encoder].preset}
        if self.encoder == "svt-av1":
            chosen["svtav1-params"] = f"lp={self.threads}"
            if self.settings is not Settings.DEFAULT:
                chosen["svtav1-params"] += ":pred-struct=1"
        else:
            chosen["threads"] = str(self.threads)
            if self.settings is not Settings.DEFAULT:
                chosen |= {"bf": "0", "tune": "zerolatency"}
        if self.encoder == "x265":
            chosen["x265-params"] = f"pools={self.threads}:frame-threads=1:log-level=error"
            if self.settings is not Settings.DEFAULT:
                chosen["x265-params"] += ":bframes=0"
        if self.settings is Settings.LOW_DELAY:
            chosen["g"] = NO_MORE_KEY_FRAMES
        return chosen

    def describe(self) -> str:
        flags = " ".join(f"-{key} {value}" for key, value in self.options().items())
        return f"{self.library}, settings {self.settings.value}: {flags} -pix_fmt yuv420p, whole .mp4"


@dataclass(frozen=True)
class PyavCodec:
    """A clip through an encoder of PyAV's libraries into an .mp4 file."""

    settings: VideoSettings

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def knob(self) -> Knob:
        return self.settings.knob

    @property
    def suffix(self) -> str:
        return ".mp4"

    def describe(self) -> str:
        return self.settings.describe()

    def version(self) -> str:
        libavcodec = ".".join(str(part) for part in av.library_versions["libavcodec"])
        return f"PyAV {av.__version__}, libavcodec {libavcodec}"

    def handles(self, kind: Kind) -> bool:
        return kind is Kind.CLIP

    def encode(self, source: Source, value: float, path: Path) -> None:
        """Raises DependencyError where this PyAV lacks the encoder, InputError where it refuses the clip."""
        library = self.settings.library
        if library not in av.codecs_available:
            raise DependencyError(f"this PyAV ({av.__version__}) was built without {library}")
        os.environ.setdefault("SVT_LOG", "1")  # errors only; the library prints its settings otherwise
        try:
            with av.open(str(path), "w", format="mp4") as container:
                self._encode_into(container, source, value)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{source.item.path}: {self.name} cannot code it: {error}") from error

    def _encode_into(self, container: av.container.OutputContainer, source: Source, value: float) -> None:
        info = source.info
        options = self.settings.options() | {"crf": f"{value:g}"}
        threads = int(options.pop("threads", "1"))
        stream = container.add_stream(self.settings.library, rate=info.frame_rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = even(info.width), even(info.height)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = threads
        context.colorspace = context.color_primaries = context.color_trc = info.colour.matrix
        context.color_range = 2 if info.colour.full_range else 1
        for index, frame in enumerate(source.yuv_frames()):
            frame.pts, frame.time_base = index, Fraction(1) / info.frame_rate
            frame.pict_type = 0  # the source's own key frames are no hint
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self.settings.threads
            for frame in container.decode(stream):
                yield info.colour.to_rgb(frame)[: info.height, : info.width]


def even(side: int) -> int:
    """The side rounded up to what 4:2:0 needs."""
    return side + side % 2
