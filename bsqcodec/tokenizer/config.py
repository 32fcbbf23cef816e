"""Configuration of the ladder tokenizer and its presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bsqcodec.errors import ModelError

PIXEL_MULTIPLE = 32
"""Frames are padded by edge replication to a multiple of this many pixels: the coarsest stride."""

RATE_STEPS = 1000
"""The rate index runs from 0 (largest lambda, smallest file) to this."""


@dataclass(frozen=True)
class LevelConfig:
    """One BSQ level: a grid of tokens of `bits` bits, `stride` pixels apart."""

    stride: int
    bits: int


@dataclass(frozen=True)
class TokenizerConfig:
    """Every number that shapes a ladder. Widths and depths are given for strides 8, 16, 32."""

    levels: tuple[LevelConfig, ...]
    width: tuple[int, int, int]
    encoder_depth: tuple[int, int, int]
    decoder_depth: tuple[int, int, int]
    tube_frames: int = 4
    window: int = 8
    head_width: int = 32
    lambda_range: tuple[float, float] = (2.0, 0.01)

    def __post_init__(self) -> None:
        strides = [level.stride for level in self.levels]
        if not strides or sorted(strides, reverse=True) != strides or not set(strides) <= {8, 16, 32}:
            raise ModelError(f"levels must have strides among 32, 16, 8, coarse to fine; found {strides}")
        if any(width % self.head_width for width in self.width):
            raise ModelError(f"widths {self.width} must be multiples of the head width {self.head_width}")

    def lambda_of(self, rate: float) -> float:
        """Lambda (distortion per bpp) of a rate index 0..1000, log-linear between the two ends of the
        range."""
        high, low = self.lambda_range
        return math.exp(math.log(high) + rate / RATE_STEPS * (math.log(low) - math.log(high)))

    def padded(self, size: int) -> int:
        """`size` pixels rounded up to what the coarsest grid needs."""
        return -(-size // PIXEL_MULTIPLE) * PIXEL_MULTIPLE

    def grids(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shape (H, W, L) of the tokens of every level for frames of height x width pixels."""
        tall, wide = self.padded(height), self.padded(width)
        return [(tall // level.stride, wide // level.stride, level.bits) for level in self.levels]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TokenizerConfig:
        """The inverse of `to_dict`; ModelError where a field is missing, unknown or of a wrong kind."""
        try:
            values = dict(fields)
            levels = tuple(LevelConfig(**level) for level in values.pop("levels"))
            tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(levels=levels, **tuples)
        except (KeyError, TypeError) as error:
            raise ModelError(f"the tokenizer's configuration is not one of this version: {error}") from error


def _levels(*pairs: tuple[int, int]) -> tuple[LevelConfig, ...]:
    return tuple(LevelConfig(stride, bits) for stride, bits in pairs)


PRESETS: dict[str, TokenizerConfig] = {
    "base": TokenizerConfig(
        levels=_levels((32, 32), (16, 32), (8, 24), (8, 32)),
        width=(128, 256, 320),
        encoder_depth=(1, 3, 1),
        decoder_depth=(2, 3, 2),
    ),
    "tiny": TokenizerConfig(
        levels=_levels((32, 16), (16, 16), (8, 8), (8, 8)),
        width=(32, 64, 96),
        encoder_depth=(1, 1, 1),
        decoder_depth=(1, 1, 1),
    ),
}
