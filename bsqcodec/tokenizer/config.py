"""Configuration of the ladder tokenizer and its presets."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bsqcodec.errors import ModelError

if TYPE_CHECKING:  # configurations are read without torch
    from torch import Tensor

PIXEL_MULTIPLE = 32
"""Frames are padded by edge replication to a multiple of this many pixels: the coarsest stride."""

CELL = 16
"""Pixels along a side of a cell that has vectors of its own: the stride of the motion level."""

ANCHOR_BITS = 16
"""Bits of one vector."""

RATE_STEPS = 1000
"""The rate index runs from 0 (largest lambda, smallest file) to this."""

KEY_RATE_BONUS = 450
"""Rate index that a key frame has above the tubes that draw on it (lambda a tenth of theirs): found on GOPs
of 65 frames (training/LOG.md)."""

SHORTER_TUBES_FROM = (100, 470)
"""Rate indices from which a tube holds half as many frames as it has places for, and a quarter: where J of
held-out GOPs is lower so (training/LOG.md)."""

TRIED = ((0, 470), (0, 800), (400, 1000))
"""Rate indices between which tubes of all the frames they have places for, of half, and of a quarter may pay
for some clips (training/LOG.md)."""


@dataclass(frozen=True)
class LevelConfig:
    """One BSQ level: a grid of tokens of `bits` bits, `stride` pixels apart."""

    stride: int
    bits: int


@dataclass(frozen=True)
class TokenizerConfig:
    """Every number that shapes a ladder. Widths and depths are given for strides 8, 16, 32.

    tube_frames: places for frames in a tube. A tube may hold fewer frames, a divisor of this number, each of
    which then fills several places: more bits and channels for each.
    motion_level: the level of tubes whose bits are vectors (see motion.py): its stride is 16, its bits are 16
    for each anchor. None: tubes come without motion.
    """

    levels: tuple[LevelConfig, ...]
    width: tuple[int, int, int]
    encoder_depth: tuple[int, int, int]
    decoder_depth: tuple[int, int, int]
    tube_frames: int = 4
    window: int = 8
    head_width: int = 32
    lambda_range: tuple[float, float] = (2.0, 0.01)
    motion_level: int | None = None

    def __post_init__(self) -> None:
        strides = [level.stride for level in self.levels]
        if not strides or sorted(strides, reverse=True) != strides or not set(strides) <= {8, 16, 32}:
            raise ModelError(f"levels must have strides among 32, 16, 8, coarse to fine; found {strides}")
        if any(width % self.head_width for width in self.width):
            raise ModelError(f"widths {self.width} must be multiples of the head width {self.head_width}")
        if self.motion_level is not None:
            if not 0 <= self.motion_level < len(self.levels):
                count = len(self.levels)
                raise ModelError(f"motion level {self.motion_level}, expected one of {count} levels")
            level = self.levels[self.motion_level]
            if level.stride != CELL or level.bits % ANCHOR_BITS or self.tube_frames % self.anchors:
                raise ModelError(
                    f"a motion level of {level.bits} bits at stride {level.stride} for tubes of "
                    f"{self.tube_frames} frames, expected {ANCHOR_BITS} for each anchor at stride {CELL}"
                )

    @property
    def anchors(self) -> int:
        """Frames of a tube that vectors are coded for."""
        return 0 if self.motion_level is None else self.levels[self.motion_level].bits // ANCHOR_BITS

    @property
    def tube_lengths(self) -> tuple[int, ...]:
        """How many frames a tube can hold, most first."""
        return tuple(n for n in range(self.tube_frames, 0, -1) if self.tube_frames % n == 0)

    def tube_length(self, rate: int) -> int:
        """How many frames a tube holds at a rate index where nothing else is asked for."""
        halvings = sum(rate >= start for start in SHORTER_TUBES_FROM)
        return self.tube_lengths[min(halvings, len(self.tube_lengths) - 1)]

    def tube_choices(self, rate: int) -> tuple[int, ...]:
        """What an encoder chooses from, GOP by GOP, the usual length first: what moves little is better off
        with longer ones."""
        usual, lengths = self.tube_length(rate), zip(self.tube_lengths, TRIED, strict=False)
        return (usual, *(n for n, (low, high) in lengths if n != usual and low <= rate < high))

    def lambda_of(self, rate: float) -> float:
        """Lambda (distortion per bpp) of a rate index 0..1000, log-linear between the two ends of the
        range."""
        high, low = self.lambda_range
        return math.exp(math.log(high) + rate / RATE_STEPS * (math.log(low) - math.log(high)))

    def key_log_lambda(self, log_lambda: Tensor) -> Tensor:
        """log lambda of a key frame whose tubes have this one: KEY_RATE_BONUS up, if the range goes so
        far."""
        high, low = (math.log(end) for end in self.lambda_range)
        return (log_lambda - KEY_RATE_BONUS / RATE_STEPS * (high - low)).clamp(min=low)

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


def tube_fault(lengths: tuple[int, ...], frames: int, model: str) -> str | None:
    """What is wrong with tubes of so many frames for a model that has these lengths; None: nothing."""
    if frames in lengths:
        return None
    return f"tubes of {frames} frames: {model} has tubes of {', '.join(map(str, lengths))}"


def levels_of(*pairs: tuple[int, int]) -> tuple[LevelConfig, ...]:
    """Of (stride, bits), coarse to fine."""
    return tuple(LevelConfig(stride, bits) for stride, bits in pairs)


PRESETS: dict[str, TokenizerConfig] = {
    "base": TokenizerConfig(
        levels=levels_of((32, 32), (16, 32), (8, 24), (8, 32), (8, 32)),
        width=(192, 256, 288),
        encoder_depth=(3, 3, 1),
        decoder_depth=(3, 3, 2),
        motion_level=1,
    ),
    "tiny": TokenizerConfig(
        levels=levels_of((32, 16), (16, 16), (8, 8), (8, 8)),
        width=(32, 64, 96),
        encoder_depth=(1, 1, 1),
        decoder_depth=(1, 1, 1),
        motion_level=1,
    ),
}
