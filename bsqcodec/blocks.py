"""What is coded at once."""

from enum import IntEnum
from typing import NamedTuple


class BlockKind(IntEnum):
    """A key frame (one frame), or a tube of several frames that continues the block before it."""

    KEY = 0
    TUBE = 1

    @property
    def label(self) -> str:
        """The name in tensors' names."""
        return self.name.lower()


class TubeForm(NamedTuple):
    """How tubes are made. frames: that each holds. quarters: its vectors are in quarters of a pixel, where
    those of tubes of so many frames are in halves else."""

    frames: int
    quarters: bool = False

    @property
    def steps_per_pixel(self) -> int:
        """Of a vector: where each frame gets many bits, vectors may be finer."""
        return 4 if self.frames == 1 or self.quarters else 2


class BlockRates:
    """What has a rate index for its key frame and one for its tubes."""

    key_rate: int
    tube_rate: int

    def rate(self, kind: BlockKind) -> int:
        """The rate index of a block."""
        return self.key_rate if kind is BlockKind.KEY else self.tube_rate
