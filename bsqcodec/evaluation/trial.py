"""One trial: a picture or clip through one codec at one setting, by way of a file on disk."""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from bsqcodec.errors import InputError
from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.containers import payload_bytes
from bsqcodec.evaluation.ffmpeg import Ffmpeg, Vmaf
from bsqcodec.evaluation.measures import FrameScore, score_frame
from bsqcodec.evaluation.sources import Item, Kind, Source, digest
from bsqcodec.metrics.flicker import StepError
from bsqcodec.metrics.lpips import load_lpips

T = TypeVar("T")


@dataclass(frozen=True)
class Judges:
    """Measures that need what is not in the package. lpips: files of backbone and heads; vmaf: an ffmpeg."""

    lpips: tuple[Path, Path] | None = None
    vmaf: Ffmpeg | None = None

    def identity(self) -> str:
        """What their figures depend on, empty without any."""
        parts = [] if self.lpips is None else [f"lpips {load_lpips(*self.lpips).digest}"]
        return " ".join(parts + ([] if self.vmaf is None else [f"vmaf {self.vmaf.version()}"]))


@dataclass(frozen=True)
class Trial:
    """What is to be done. digest: of the item's bytes, version: of the codec; both checked where it runs."""

    item: Item
    digest: str
    codec: Codec
    version: str
    value: float
    judges: Judges = Judges()


@dataclass(frozen=True)
class Result:
    """What a trial gave. Seconds are those of the codec alone: encoding from frames in memory to the file,
    decoding from the file to R'G'B' frames in memory; reading the source and measuring are not counted."""

    item: str
    codec: str
    value: float
    width: int
    height: int
    file_bytes: int
    payload_bytes: int
    encode_seconds: float
    decode_seconds: float
    machine: str
    frames: tuple[FrameScore, ...]
    vmaf: float | None = None

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel of all frames."""
        return 8 * self.file_bytes / (self.width * self.height * len(self.frames))

    @property
    def payload_bpp(self) -> float:
        return 8 * self.payload_bytes / (self.width * self.height * len(self.frames))


def run_trial(trial: Trial) -> Result:
    """Encode, decode and measure. InputError where item or codec are not those that were asked for, where
    the item cannot be read, or where the decoded frames are not as many as the source's."""
    item, codec = trial.item, trial.codec
    if digest(item) != trial.digest:
        raise InputError(
            f"{item.path}: not the file that the evaluation was started with: its digest differs"
        )
    if codec.version() != trial.version:
        raise InputError(
            f"{codec.name}: this is {codec.version()}, the evaluation was started with {trial.version}"
        )
    source = _Timed(item)
    with tempfile.TemporaryDirectory(prefix="bsqc-trial-") as folder:
        coded = Path(folder) / f"coded{codec.suffix}"
        started = time.perf_counter()
        codec.encode(source, trial.value, coded)
        encode_seconds = time.perf_counter() - started - source.seconds
        decoded = _timed(codec.decode(coded, source.info))
        scores: list[FrameScore] = []
        references = Source(item).rgb_frames()
        lpips = None if trial.judges.lpips is None else load_lpips(*trial.judges.lpips)
        steps = StepError()
        vmaf = None
        if trial.judges.vmaf is not None and item.kind is Kind.CLIP:
            vmaf = Vmaf(trial.judges.vmaf, source.info, Path(folder))
        for picture, seconds in decoded:
            reference = next(references, None)
            if reference is None:
                raise InputError(
                    f"{item.path}: {codec.name} gave more frames than the source's {len(scores)}"
                )
            scores.append(score_frame(reference, picture, lpips, steps))
            if vmaf is not None:
                vmaf.add(reference, picture)
            decode_seconds = seconds
        if not scores or next(references, None) is not None:
            raise InputError(
                f"{item.path}: {codec.name} gave {len(scores)} frames, fewer than the source has"
            )
        return Result(
            item=item.name,
            codec=codec.name,
            value=trial.value,
            width=source.info.width,
            height=source.info.height,
            file_bytes=coded.stat().st_size,
            payload_bytes=payload_bytes(coded),
            encode_seconds=encode_seconds,
            decode_seconds=decode_seconds,
            machine=machine(),
            frames=tuple(scores),
            vmaf=None if vmaf is None else vmaf.score(),
        )


class _Timed(Source):
    """A source that adds up the time it takes to read, so that it can be taken off the codec's."""

    seconds = 0.0

    def rgb_frames(self) -> Iterator[np.ndarray]:
        for frame, self.seconds in _timed(super().rgb_frames()):
            yield frame

    def yuv_frames(self) -> Iterator[av.VideoFrame]:
        for frame, self.seconds in _timed(super().yuv_frames()):
            yield frame


def _timed(frames: Iterator[T]) -> Iterator[tuple[T, float]]:
    """Each frame with the seconds spent so far in making them; the consumer's own time is not counted."""
    spent = 0.0
    while True:
        started = time.perf_counter()
        frame = next(frames, None)
        spent += time.perf_counter() - started
        if frame is None:
            return
        yield frame, spent


@cache
def machine() -> str:
    """Processor and number of cores, for the tables of times."""
    model = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        lines = described.read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
