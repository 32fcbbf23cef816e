"""Anchors for stills: JPEG, WebP, JPEG 2000 and AVIF as Pillow writes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from bsqcodec.errors import DependencyError, InputError
from bsqcodec.evaluation.codecs import Knob
from bsqcodec.evaluation.sources import Kind, Source, SourceInfo

QUALITY = Knob("quality", (2, 5, 10, 15, 20, 25, 35, 50, 65, 80, 90), 1, 100, whole=True, rising=True)


@dataclass(frozen=True)
class StillFormat:
    """One of Pillow's writers: its name there, the features it needs, its fixed options as (name, value)."""

    pillow_name: str
    feature: str
    library: str
    suffix: str
    knob: Knob
    options: tuple[tuple[str, str | int | bool], ...]
    note: str


FORMATS = {
    "jpeg": StillFormat(
        "JPEG", "jpg", "libjpeg_turbo", ".jpg", QUALITY, (("subsampling", "4:2:0"),), "baseline"
    ),
    "webp": StillFormat(
        "WEBP",
        "webp",
        "webp",
        ".webp",
        Knob("quality", (0, 1, 5, 10, 15, 20, 25, 35, 50, 70, 85), 0, 100, whole=True, rising=True),
        (("method", 4),),
        "lossy, 4:2:0",
    ),
    "jpeg2000": StillFormat(
        "JPEG2000",
        "jpg_2000",
        "jpg_2000",
        ".jp2",
        Knob("ratio", (480, 320, 240, 160, 120, 80, 60, 40, 27, 18), 1, 2400, whole=False, rising=False),
        (("irreversible", True), ("quality_mode", "rates"), ("mct", 1)),
        "9-7 wavelet, one layer",
    ),
    "avif": StillFormat(
        "AVIF",
        "avif",
        "avif",
        ".avif",
        Knob("quality", (1, 5, 10, 15, 20, 30, 40, 50, 60, 70), 0, 100, whole=True, rising=True),
        (("speed", 6), ("subsampling", "4:2:0"), ("max_threads", 1)),
        "8 bit",
    ),
}


@dataclass(frozen=True)
class PillowCodec:
    """A still picture through one of Pillow's formats."""

    name: str

    @property
    def knob(self) -> Knob:
        return FORMATS[self.name].knob

    @property
    def suffix(self) -> str:
        return FORMATS[self.name].suffix

    def describe(self) -> str:
        fixed = " ".join(f"{key}={value}" for key, value in FORMATS[self.name].options)
        return f"Pillow {FORMATS[self.name].pillow_name}, {FORMATS[self.name].note}, {fixed}"

    def version(self) -> str:
        library = FORMATS[self.name].library
        return f"Pillow {PIL.__version__}, {library} {features.version(library) or '(version unknown)'}"

    def handles(self, kind: Kind) -> bool:
        return kind is Kind.STILL

    def encode(self, source: Source, value: float, path: Path) -> None:
        """DependencyError where this Pillow lacks the format, InputError where it refuses the picture."""
        form = FORMATS[self.name]
        if not features.check(form.feature):
            raise DependencyError(f"this Pillow ({PIL.__version__}) was built without {form.pillow_name}")
        options: dict[str, object] = dict(form.options)
        if form.knob.name == "ratio":
            options["quality_layers"] = [value]
        else:
            options["quality"] = int(value)
        (pixels,) = source.rgb_frames()
        try:
            Image.fromarray(pixels).save(path, format=form.pillow_name, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"{source.item.path}: {self.name} cannot code it: {error}") from error

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        with Image.open(path) as picture:
            yield np.asarray(picture.convert("RGB"))
