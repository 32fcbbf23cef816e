"""Configuration of the paper's tokenizer, BSQ-ViT and BSQ-bcViT, and its presets (arXiv 2406.07548)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bsqcodec.errors import ModelError
from bsqcodec.tokenizer.config import LevelConfig

KIND = "bsqvit"
"""What a weights file calls this tokenizer, to tell it from a ladder."""


@dataclass(frozen=True)
class BsqVitConfig:
    """Every number that shapes a BSQ-ViT.

    bits: L of a token. image_size, patch: pixels of a side. depth: blocks of the encoder, and of the decoder.
    frames: most frames that attend to one another; 1 is the image model, more the block-causal video model.
    zero_bit: the bit of an exact 0: 1 in the paper, 0 in the public code. signed_pixels: the network's
    pixels run from -1 to 1 instead of 0 to 1.
    """

    bits: int = 18
    image_size: int = 256
    patch: int = 8
    width: int = 768
    heads: int = 12
    depth: int = 12
    frames: int = 1
    zero_bit: int = 1
    signed_pixels: bool = True

    def __post_init__(self) -> None:
        sizes = (self.bits, self.image_size, self.patch, self.width, self.heads, self.depth, self.frames)
        if any(type(size) is not int or size < 1 for size in sizes) or self.zero_bit not in (0, 1):
            raise ModelError(f"a BSQ-ViT of {self}: sizes are whole numbers from 1 on, zero_bit is 0 or 1")
        if self.image_size % self.patch or self.width % self.heads:
            raise ModelError(
                f"a BSQ-ViT of {self.image_size} pixels and width {self.width}: expected multiples of the "
                f"patch {self.patch} and of the number of heads {self.heads}"
            )

    @property
    def levels(self) -> tuple[LevelConfig, ...]:
        """The one grid of tokens, as a ladder of one level."""
        return (LevelConfig(self.patch, self.bits),)

    @property
    def tube_frames(self) -> int:
        """Frames of a block after the key frame: the video model codes frame by frame."""
        return 1

    @property
    def tube_lengths(self) -> tuple[int, ...]:
        """As a ladder's: one."""
        return (self.tube_frames,)

    def tube_length(self, rate: int) -> int:
        """As a ladder's: the same at all rates."""
        return self.tube_frames

    def tube_choices(self, rate: int) -> tuple[int, ...]:
        """As a ladder's: none."""
        return self.tube_lengths

    @property
    def side(self) -> int:
        """Tokens along a side of a tile."""
        return self.image_size // self.patch

    def tiles(self, size: int, overlap: int = 0) -> int:
        """Tiles that cover `size` pixels along one axis, neighbours sharing `overlap` pixels."""
        return 1 + max(0, math.ceil((size - self.image_size) / (self.image_size - overlap)))

    def grids(self, height: int, width: int, overlap: int = 0) -> list[tuple[int, int, int]]:
        """Shape (H, W, L) of the tokens of frames of height x width pixels: tiles side by side."""
        rows, columns = self.tiles(height, overlap), self.tiles(width, overlap)
        return [(rows * self.side, columns * self.side, self.bits)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"kind": KIND} | asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BsqVitConfig:
        """The inverse of `to_dict`; ModelError where a field is unknown or of a wrong kind."""
        try:
            return cls(**{name: value for name, value in fields.items() if name != "kind"})
        except TypeError as error:
            raise ModelError(f"the tokenizer's configuration is not one of this version: {error}") from error


BSQVIT_PRESETS: dict[str, BsqVitConfig] = {
    "bsqvit-18": BsqVitConfig(bits=18),
    "bsqvit-36": BsqVitConfig(bits=36),
    "bsqbcvit-18": BsqVitConfig(bits=18, image_size=128, frames=16),
    "bsqbcvit-36": BsqVitConfig(bits=36, image_size=128, frames=16),
    "bsqvit-small": BsqVitConfig(bits=18, image_size=64, width=192, heads=3, depth=4),
    "bsqvit-tiny": BsqVitConfig(bits=6, image_size=32, width=32, heads=2, depth=2),
}
"""The paper's models; `bsqvit-small` for demonstrations on a CPU, `bsqvit-tiny` for tests."""
