"""A codec that stores pixels as they are, leaves a trace of every encode, and fails or waits when told to."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bsqcodec.evaluation.codecs import Knob
from bsqcodec.evaluation.sources import Kind, Source, SourceInfo


@dataclass(frozen=True)
class StoringCodec:
    """Keeps the upper bits of every pixel. trace: folder that gets an empty file for every encode."""

    trace: Path
    name: str = "storing"
    fails_on: str = ""
    seconds: float = 0.0
    release: str = "1"

    @property
    def knob(self) -> Knob:
        return Knob("bits", (2.0, 4.0, 6.0, 8.0), 1, 8, whole=True, rising=True)

    @property
    def suffix(self) -> str:
        return ".npz"

    def describe(self) -> str:
        return "pixels, compressed"

    def version(self) -> str:
        return self.release

    def handles(self, kind: Kind) -> bool:
        return True

    def encode(self, source: Source, value: float, path: Path) -> None:
        (self.trace / f"{source.item.name}-{self.name}-{value:g}-{time.time_ns()}").touch()
        time.sleep(self.seconds)
        if source.item.name == self.fails_on and value == 4:
            raise ZeroDivisionError("no luck")
        shift = 8 - int(value)
        np.savez_compressed(path, np.stack([frame >> shift << shift for frame in source.rgb_frames()]))

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        yield from np.load(path)["arr_0"]

    def encodes(self) -> int:
        return len(list(self.trace.iterdir()))
