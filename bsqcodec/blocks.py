"""What is coded at once."""

from enum import IntEnum


class BlockKind(IntEnum):
    """A key frame (one frame), or a tube of several frames that continues the block before it."""

    KEY = 0
    TUBE = 1

    @property
    def label(self) -> str:
        """The name in tensors' names."""
        return self.name.lower()


class BlockRates:
    """What has a rate index for its key frame and one for its tubes."""

    key_rate: int
    tube_rate: int

    def rate(self, kind: BlockKind) -> int:
        """The rate index of a block."""
        return self.key_rate if kind is BlockKind.KEY else self.tube_rate
