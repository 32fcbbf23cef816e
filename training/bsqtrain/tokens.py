"""The token cache: what a frozen tokenizer made of the training files, and random crops of it.

    # B batch · H, W positions of a level · L bits per token

A file holds clips; a clip is a key frame and the tubes that follow it (none for a picture). Flipping tokens
is not possible (they do not mean pictures that are flipped), cropping is: all levels at once, at multiples of
the coarsest stride.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.prior import PriorConfig

CPU = torch.device("cpu")
Levels = tuple[tuple[int, int], ...]  # (stride, bits) per level


@dataclass(frozen=True)
class Clip:
    """Tokens of one GOP.

    key_rate, tube_rate: rate indices 0..1000. blocks: per block and level H x W x ceil(L / 8) uint8, bits
    packed along the last axis, first bit highest; block 0 is the key frame.
    """

    key_rate: int
    tube_rate: int
    blocks: tuple[tuple[np.ndarray, ...], ...]

    @staticmethod
    def from_bits(key_rate: int, tube_rate: int, blocks: Sequence[Sequence[np.ndarray]]) -> "Clip":
        """blocks: per block and level H x W x L uint8 {0, 1}."""
        packed = tuple(tuple(np.packbits(level, axis=-1) for level in block) for block in blocks)
        return Clip(key_rate, tube_rate, packed)

    def rate(self, block: int) -> int:
        """The rate index that a block is coded with."""
        return self.tube_rate if block else self.key_rate

    @property
    def rows(self) -> int:
        """Rows of the coarsest level."""
        return int(self.blocks[0][0].shape[0])

    @property
    def columns(self) -> int:
        """Columns of the coarsest level."""
        return int(self.blocks[0][0].shape[1])


def save_clips(path: Path, levels: Levels, clips: Sequence[Clip]) -> None:
    """Write clips into one .npz file, which appears whole."""
    index = np.array(
        [(clip.key_rate, clip.tube_rate, len(clip.blocks), clip.rows, clip.columns) for clip in clips],
        dtype=np.int64,
    ).reshape(-1, 5)
    data = [level.reshape(-1) for clip in clips for block in clip.blocks for level in block]
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            np.savez(
                file,
                levels=np.array(levels, dtype=np.int64),
                index=index,
                data=np.concatenate(data) if data else np.zeros(0, np.uint8),
            )
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def load_clips(path: Path) -> tuple[Levels, list[Clip]]:
    """Read what `save_clips` wrote. Raises InputError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table, index, data = file["levels"], file["index"], file["data"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a token cache: {error}") from None
    levels = tuple((int(stride), int(bits)) for stride, bits in table)
    clips, start = [], 0
    for key_rate, tube_rate, count, rows, columns in index.tolist():
        blocks = []
        for _ in range(count):
            grids = []
            for stride, bits in levels:
                shape = (rows * levels[0][0] // stride, columns * levels[0][0] // stride, -(-bits // 8))
                size = int(np.prod(shape))
                if start + size > data.size:
                    raise InputError(
                        f"{path}: token cache holds {data.size} bytes, expected at least {start + size}"
                    )
                grids.append(data[start : start + size].reshape(shape))
                start += size
            blocks.append(tuple(grids))
        clips.append(Clip(key_rate, tube_rate, tuple(blocks)))
    return levels, clips


@dataclass(frozen=True)
class Batch:
    """tokens, previous: per level B x H x W x L int8 of -1 and +1. previous is None for key blocks."""

    tokens: list[Tensor]
    previous: list[Tensor] | None
    rates: list[int]


class TokenSampler:
    """Random crops of blocks of one kind (tubes: with the block before each).

    device: where the tokens stay, unpacked, and the crops are made.
    """

    def __init__(
        self, config: PriorConfig, clips: Sequence[Clip], kind: BlockKind, device: torch.device = CPU
    ) -> None:
        self.config = config
        self.kind = kind
        self._device = device
        self._clips = [clip for clip in clips if kind is BlockKind.KEY or len(clip.blocks) > 1]
        if not self._clips:
            raise InputError(f"the token cache has no {kind.label} blocks")
        self._unpacked: dict[tuple[int, int], list[Tensor]] = {}

    def largest_crop(self, wanted: int) -> int:
        """wanted, or the largest even side that half of the clips have."""
        sides = sorted(min(clip.rows, clip.columns) for clip in self._clips)
        return max(1, min(wanted, sides[len(sides) // 2] // 2 * 2))

    def draw_previous(self, source: random.Random) -> BlockKind | None:
        """The kind of block before the next batch's: one for all of it, as each has its own weights."""
        if self.kind is BlockKind.KEY:
            return None
        long = any(len(clip.blocks) > 2 for clip in self._clips)
        return BlockKind.TUBE if long and source.random() < 0.7 else BlockKind.KEY

    def batch(self, size: int, crop: int, before: BlockKind | None, source: random.Random) -> Batch:
        """size crops of crop x crop positions of the coarsest level; smaller clips are left out."""
        blocks = 3 if before is BlockKind.TUBE else 1
        candidates = [
            clip
            for clip in self._clips
            if min(clip.rows, clip.columns) >= crop and len(clip.blocks) >= blocks
        ]
        if not candidates:
            raise InputError(
                f"no clip of the token cache is {crop} positions wide and high and {blocks} blocks long"
            )
        crops: list[list[Tensor]] = []
        earlier: list[list[Tensor]] = []
        rates = []
        for _ in range(size):
            clip = source.choice(candidates)
            row, column = source.randint(0, clip.rows - crop), source.randint(0, clip.columns - crop)
            block = 0
            if before is not None:
                block = source.randint(2, len(clip.blocks) - 1) if before is BlockKind.TUBE else 1
                earlier.append(self._crop(self.before(clip, block), row, column, crop))
            crops.append(self._crop(self.signs(clip, block), row, column, crop))
            rates.append(clip.rate(block))
        stacked = [torch.stack(level) for level in zip(*crops, strict=True)]
        return Batch(
            stacked, [torch.stack(level) for level in zip(*earlier, strict=True)] if earlier else None, rates
        )

    def _crop(self, grids: Sequence[Tensor], row: int, column: int, crop: int) -> list[Tensor]:
        result = []
        for level, signs in zip(self.config.levels, grids, strict=True):
            ratio = self.config.levels[0].stride // level.stride
            part = signs[row * ratio : (row + crop) * ratio, column * ratio : (column + crop) * ratio]
            result.append(part)
        return result

    def before(self, clip: Clip, block: int) -> list[Tensor]:
        """What a tube's prior sees of the past: the tokens of the block before it."""
        return self.signs(clip, block - 1)

    def signs(self, clip: Clip, block: int) -> list[Tensor]:
        """The tokens of a block, per level H x W x L of -1 and +1, unpacked when first asked for."""
        key = (id(clip), block)
        if key not in self._unpacked:
            self._unpacked[key] = [
                torch.from_numpy(np.unpackbits(packed, axis=-1, count=level.bits).astype(np.int8) * 2 - 1)
                .to(torch.int8)
                .to(self._device)
                for level, packed in zip(self.config.levels, clip.blocks[block], strict=True)
            ]
        return self._unpacked[key]
