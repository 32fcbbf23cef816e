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
