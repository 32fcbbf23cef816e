"""What every codec of an evaluation offers, and the list of those there are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bsqcodec.evaluation.sources import Kind, Source, SourceInfo


@dataclass(frozen=True)
class Knob:
    """The one number that is turned for a curve.

    values: those of the curve, smallest file first; lowest, highest: all that the codec takes; whole:
    integers only; rising: a larger number makes a larger file.
    """

    name: str
    values: tuple[float, ...]
    lowest: float
    highest: float
    whole: bool
    rising: bool


class Codec(Protocol):
    """One codec at named settings; picklable, since trials run in other processes too."""

    @property
    def name(self) -> str:
        """Short and unique among the codecs of an evaluation: x264, x264-paper, bsqc."""
        ...

    @property
    def knob(self) -> Knob: ...

    @property
    def suffix(self) -> str:
        """Ending of the files it writes."""
        ...

    def describe(self) -> str:
        """All settings but the knob, as they are printed with every table."""
        ...

    def version(self) -> str:
        """Name and version of the software that codes."""
        ...

    def handles(self, kind: Kind) -> bool: ...

    def encode(self, source: Source, value: float, path: Path) -> None:
        """Write the whole of `source` at knob setting `value` to the new file `path`."""
        ...

    def decode(self, path: Path, info: SourceInfo) -> Iterator[np.ndarray]:
        """Yield the H x W x 3 uint8 R'G'B' frames of a file that encode() wrote."""
        ...
