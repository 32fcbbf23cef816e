"""bsqc itself as a codec of an evaluation, through the Encoder and Decoder of `bsqc encode` and `decode`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bsqcodec.evaluation.codecs import Knob
from bsqcodec.evaluation.sources import Kind, Source, SourceInfo
from bsqcodec.version import VERSION

DEFAULT_MODEL = "base"
QUALITIES = (2.0, 4.0, 6.0, 8.0, 10.0)
NOT_THE_CODEC = ("evaluation", "metrics")
"""Parts of the package without which a stream would be the same."""


@dataclass(frozen=True)
class BsqCodec:
    """bsqc at one effort, number of levels (None: all), GOP and tube length (None: as `bsqc encode` has it),
    with a model by name or file.

    threads: of the CPU, in both directions; the bytes do not depend on it.
    """

    values: tuple[float, ...] = QUALITIES
    levels: int | None = None
    effort: int = 0
    model: str = DEFAULT_MODEL
    device: str = "auto"
    threads: int = 1
    gop: int | None = None
    tube_frames: int | None = None

    @property
    def name(self) -> str:
        parts = ["bsqc"]
        if self.levels is not None:
            parts.append(f"levels{self.levels}")
        if self.effort:
            parts.append(f"effort{self.effort}")
        if self.gop is not None:
            parts.append(f"gop{self.gop}")
        if self.tube_frames is not None:
            parts.append(f"tube{self.tube_frames}")
        if self.model != DEFAULT_MODEL:
            parts.append(Path(self.model).stem)
        return "-".join(parts)

    @property
    def knob(self) -> Knob:
        return Knob("q", self.values, 1, 10, whole=False, rising=True)

    @property
    def suffix(self) -> str:
        return ".bsq"

    def describe(self) -> str:
        levels = "all levels" if self.levels is None else f"{self.levels} levels"
        lengths = "".join(
            f", --{name} {value}"
            for name, value in (("gop", self.gop), ("tube-frames", self.tube_frames))
            if value is not None
        )
        return f"bsqc encode, {levels}, --effort {self.effort}{lengths}, --model {Path(self.model).stem}"

    def version(self) -> str:
        """The package's version, a digest of its sources, and the model's."""
        return f"bsqcodec {VERSION} ({_source_digest()}), model {_model_digest(self.model)}"

    def handles(self, kind: Kind) -> bool:
        return kind in Kind

    def encode(self, source: Source, value: float, path: Path) -> None:
        from bsqcodec.codec import SRGB, EncodeOptions, Encoder
        from bsqcodec.media.types import Frame

        options = EncodeOptions(
            q=value,
            levels=self.levels,
            effort=self.effort,
            model=self.model,
            device=self.device,
            threads=self.threads,
            gop=self.gop,
            tube_frames=self.tube_frames,
        )
        info = source.info
        still = source.item.kind is Kind.STILL
        with path.open("wb") as file:
            encoder = Encoder(
                file,
                info.width,
                info.height,
                time_base=1 / info.frame_rate,
                colour=SRGB,
                still=still,
                options=options,
            )
            for index, pixels in enumerate(source.rgb_frames()):
                encoder.add(Frame(pixels, index, 0 if still else 1))
            encoder.close()

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        from bsqcodec.codec import Decoder
        from bsqcodec.media.types import Frame

        with path.open("rb") as file:
            model_file = Path(self.model) if Path(self.model).suffix else None
            decoder = Decoder(file, device=self.device, threads=self.threads, model_file=model_file)
            for event in decoder.events():
                if isinstance(event, Frame):
                    yield event.pixels


@cache
def _source_digest() -> str:
    root = Path(__file__).parent.parent
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).parts[0] not in NOT_THE_CODEC:
            whole.update(file.read_bytes())
    return whole.hexdigest()[:12]


@cache
def _model_digest(model: str) -> str:
    from bsqcodec.model import load

    return load(model).digest.hex()
