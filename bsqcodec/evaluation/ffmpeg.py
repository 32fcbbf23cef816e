"""The video codecs through an ffmpeg program in place of PyAV's libraries, and VMAF where it has that."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np

from bsqcodec.errors import DependencyError, InputError
from bsqcodec.evaluation.codecs import Knob
from bsqcodec.evaluation.sources import Kind, Source, SourceInfo
from bsqcodec.evaluation.video import VideoSettings, even
from bsqcodec.media.colour import BT709

QUIET = ("-hide_banner", "-loglevel", "error", "-nostdin", "-y")
LAST_LINES = 2


@dataclass(frozen=True)
class Ffmpeg:
    """An ffmpeg program; DependencyError where `path` is none."""

    path: Path

    def version(self) -> str:
        return _asked(self.path, "-version").splitlines()[0].partition(" Copyright")[0]

    def check_encoder(self, library: str) -> None:
        """DependencyError where this ffmpeg lacks the encoder."""
        if f" {library} " not in _asked(self.path, "-encoders"):
            raise DependencyError(f"{self.path}: this ffmpeg was built without {library}")

    def has_vmaf(self) -> bool:
        return " libvmaf " in _asked(self.path, "-filters")

    def run(self, *arguments: str) -> None:
        """InputError with ffmpeg's last words where it fails."""
        done = subprocess.run([self.path, *QUIET, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"ffmpeg: {_last_words(done.stderr)}")


@cache
def _asked(path: Path, question: str) -> str:
    try:
        done = subprocess.run(
            [path, "-hide_banner", question],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise DependencyError(f"{path}: not an ffmpeg that runs: {error}") from error
    return done.stdout


def _last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "; ".join(lines[-LAST_LINES:]) or "failed without a word"


@dataclass(frozen=True)
class FfmpegCodec:
    """A clip through an encoder of an ffmpeg program into an .mp4 file, at PyavCodec's settings."""

    settings: VideoSettings
    program: Ffmpeg

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
        return self.program.version()

    def handles(self, kind: Kind) -> bool:
        return kind is Kind.CLIP

    def encode(self, source: Source, value: float, path: Path) -> None:
        """DependencyError where the program lacks the encoder, InputError where it refuses the clip."""
        self.program.check_encoder(self.settings.library)
        info = source.info
        matrix = "bt709" if info.colour.matrix == BT709 else "smpte170m"
        command = [
            *("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{even(info.width)}x{even(info.height)}"),
            # the input's tags, which the encoder writes; given for the output they would ask for a conversion
            *("-colorspace", matrix, "-color_primaries", matrix, "-color_trc", matrix),
            *("-color_range", "pc" if info.colour.full_range else "tv"),
            *("-framerate", str(info.frame_rate), "-i", "-", "-c:v", self.settings.library),
            *(part for name, text in self.settings.options().items() for part in (f"-{name}", text)),
            *(
                "-crf",
                f"{value:g}",
                "-pix_fmt",
                "yuv420p",
                "-fps_mode",
                "passthrough",
                "-f",
                "mp4",
                str(path),
            ),
        ]
        frames = (planes(frame) for frame in source.yuv_frames())
        try:
            for _ in piped(self.program.path, command, feed=frames):
                pass
        except InputError as error:
            raise InputError(f"{source.item.path}: {self.name} cannot code it: {error}") from error

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        width, height = even(info.width), even(info.height)
        command = [*("-threads", str(self.settings.threads), "-i", str(path), "-fps_mode", "passthrough")]
        command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
        for chunk in piped(self.program.path, command, size=width * height * 3 // 2):
            rows = np.frombuffer(chunk, np.uint8).reshape(-1, width)
            frame = av.VideoFrame.from_ndarray(rows, format="yuv420p")
            yield info.colour.to_rgb(frame)[: info.height, : info.width]


def planes(frame: av.VideoFrame) -> bytes:
    """The bare bytes of an 8-bit 4:2:0 frame."""
    return frame.to_ndarray().tobytes()


def piped(
    program: Path, command: list[str], *, feed: Iterator[bytes] | None = None, size: int = 1
) -> Iterator[bytes]:
    """Run ffmpeg with `feed` as its input; yields its output in pieces of `size` bytes.

    InputError with its last words where it fails, or ends within a piece.
    """
    quiet = [flag for flag in QUIET if feed is None or flag != "-nostdin"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [program, *quiet, *command],
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        fault: list[BaseException] = []

        def write() -> None:
            assert process.stdin is not None and feed is not None  # noqa: PT018
            try:
                with process.stdin as sink:
                    for chunk in feed:
                        sink.write(chunk)
            except BrokenPipeError:
                pass  # it says why on stderr
            except BaseException as error:
                fault.append(error)
                process.kill()

        writer = threading.Thread(target=write) if feed is not None else None
        if writer is not None:
            writer.start()
        try:
            assert process.stdout is not None
            while chunk := process.stdout.read(size):
                if len(chunk) < size:
                    raise InputError(f"ffmpeg ended {size - len(chunk)} bytes before the end of a frame")
                yield chunk
        finally:
            if process.stdout is not None:
                process.stdout.close()
            if writer is not None:
                writer.join()
            code = process.wait()
        if fault:
            raise fault[0]
        if code:
            said.seek(0)
            raise InputError(f"ffmpeg: {_last_words(said.read())}")


class Vmaf:
    """VMAF of a clip, its frames given one by one; both sides wait on disk as bare 4:2:0 planes.

    Needs an ffmpeg with libvmaf; the model is that program's default (vmaf_v0.6.1).
    """

    def __init__(self, program: Ffmpeg, info: SourceInfo, folder: Path) -> None:
        self._program, self._info = program, info
        self._folder = folder
        self._reference = (folder / "reference.yuv").open("wb")
        self._decoded = (folder / "decoded.yuv").open("wb")

    def add(self, reference: np.ndarray, picture: np.ndarray) -> None:
        """Both H x W x 3 uint8 R'G'B'."""
        for pixels, sink in ((reference, self._reference), (picture, self._decoded)):
            sink.write(planes(self._info.colour.to_yuv420(pixels)))

    def score(self) -> float:
        """Mean over the frames, 0 to 100; the planes are removed."""
        self._reference.close()
        self._decoded.close()
        size = f"{even(self._info.width)}x{even(self._info.height)}"
        inputs = [
            part
            for name in ("decoded.yuv", "reference.yuv")
            for part in ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-i", str(self._folder / name))
        ]
        log = self._folder / "vmaf.json"
        self._program.run(*inputs, "-lavfi", f"libvmaf=log_fmt=json:log_path={log}", "-f", "null", "-")
        for name in ("decoded.yuv", "reference.yuv"):
            (self._folder / name).unlink()
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])
