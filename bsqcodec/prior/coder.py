"""Coding the tokens of a block: the interface that prior, static table and raw packing share, and the prior's
own.

    # H, W positions of a level · L bits per token · N positions of a group

A level's run holds its groups in turn; in a group bit after bit, in a bit all positions of the group row by
row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import FormatError
from bsqcodec.prior import order
from bsqcodec.prior.config import CHUNK, PriorConfig
from bsqcodec.prior.model import Previous, Prior
from bsqcodec.prior.range_coder import (
    TOTAL,
    LevelDecoder,
    LevelEncoder,
    RangeLevelDecoder,
    RangeLevelEncoder,
)

Tokens = list[np.ndarray]  # one per level, H x W x L uint8 {0, 1}
Shape = tuple[int, int]


@dataclass(frozen=True)
class PriorContext:
    """What a tube's prior knows of the block before it: its kind and its tokens (as many levels as are
    coded).
    """

    kind: BlockKind
    tokens: Sequence[np.ndarray]


class TokenCoder(Protocol):
    """Codes the tokens of one block at a time, each level into its own run.

    The number of encoders or decoders is the number of levels: fewer than the model has drops the finest.
    context: None for key blocks, the block before for tubes. rate: 0..1000.
    """

    def encoder(self) -> LevelEncoder:
        """A new run."""

    def decoder(self, data: bytes) -> LevelDecoder:
        """The run that these bytes hold."""

    def encode_block(
        self,
        kind: BlockKind,
        tokens: Sequence[np.ndarray],
        context: PriorContext | None,
        rate: int,
        encoders: Sequence[LevelEncoder],
    ) -> None:
        """Append the tokens of a block (H x W x L uint8 {0, 1} per level) to its levels' runs."""

    def decode_block(
        self,
        kind: BlockKind,
        shapes: Sequence[Shape],
        context: PriorContext | None,
        rate: int,
        decoders: Sequence[LevelDecoder],
    ) -> Tokens:
        """The tokens of a block. shapes: rows and columns per level. Raises FormatError for damaged runs."""

    def cost_bits(
        self, kind: BlockKind, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
    ) -> list[float]:
        """What each level costs, in bits, without the few that end a run."""


def check_tokens(config: PriorConfig, tokens: Sequence[np.ndarray]) -> None:
    """Raise ValueError unless tokens fit the model: a caller's mistake."""
    for index, (level, grid) in enumerate(zip(config.levels, tokens, strict=False)):
        if grid.ndim != 3 or grid.shape[2] != level.bits or 0 in grid.shape or grid.dtype != np.uint8:
            raise ValueError(
                f"tokens of level {index} are {grid.dtype} {grid.shape}, "
                f"expected uint8 (rows, columns, {level.bits})"
            )
    check_shapes(config, [(grid.shape[0], grid.shape[1]) for grid in tokens])


def check_shapes(config: PriorConfig, shapes: Sequence[Shape]) -> None:
    """Raise ValueError unless all grids cover the same picture."""
    if not 0 < len(shapes) <= len(config.levels):
        raise ValueError(f"{len(shapes)} levels of tokens, expected 1 to {len(config.levels)}")
    first = config.levels[0]
    for index, (level, shape) in enumerate(zip(config.levels, shapes, strict=False)):
        ratio = first.stride // level.stride
        expected = (shapes[0][0] * ratio, shapes[0][1] * ratio)
        if tuple(shape) != expected or min(shape) < 1:
            raise ValueError(
                f"grid of level {index} is {shape[0]} x {shape[1]}, expected {expected[0]} x {expected[1]}"
            )


def ideal_bits(bits: np.ndarray, counts: np.ndarray) -> float:
    """Bits that an ideal coder needs for these counts."""
    chance = np.where(bits > 0, counts, TOTAL - counts)
    return float(bits.size * 16 - np.log2(chance.astype(np.float64)).sum())


class PriorCoder:
    """The TokenCoder of the autoregressive prior."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior

    def encoder(self) -> RangeLevelEncoder:
        """See TokenCoder."""
        return RangeLevelEncoder()

    def decoder(self, data: bytes) -> RangeLevelDecoder:
        """See TokenCoder."""
        return RangeLevelDecoder(data)

    def _signs(self, tokens: Sequence[np.ndarray]) -> list[Tensor]:
        return [order.signs(grid)[None].to(self.prior.device) for grid in tokens]

    def _previous(self, context: PriorContext | None, levels: int) -> Previous | None:
        if context is None:
            return None
        check_tokens(self.prior.config, context.tokens)
        if len(context.tokens) < levels:
            raise ValueError(f"the block before has {len(context.tokens)} levels, this one {levels}")
        return Previous(context.kind, self._signs(context.tokens))

    def _counts(
        self, kind: BlockKind, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
    ) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Per level and group: bits and counts, both L x N."""
        check_tokens(self.prior.config, tokens)
        previous = self._previous(context, len(tokens))
        signs = self._signs(tokens)
        return [
            [
                (bits.cpu().numpy(), counts.cpu().numpy())
                for bits, counts in self.prior.level_counts(kind, level, signs, previous, [rate])
            ]
            for level in range(len(tokens))
        ]

    def encode_block(
        self,
        kind: BlockKind,
        tokens: Sequence[np.ndarray],
        context: PriorContext | None,
        rate: int,
        encoders: Sequence[LevelEncoder],
    ) -> None:
        """See TokenCoder."""
        kept = tokens[: len(encoders)]
        for encoder, groups in zip(encoders, self._counts(kind, kept, context, rate), strict=True):
            for bits, counts in groups:
                encoder.encode(bits.reshape(-1), counts.reshape(-1))

    def cost_bits(
        self, kind: BlockKind, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
    ) -> list[float]:
        """See TokenCoder."""
        return [
            sum(ideal_bits(bits, counts) for bits, counts in groups)
            for groups in self._counts(kind, tokens, context, rate)
        ]

    @torch.inference_mode()
    def decode_block(
        self,
        kind: BlockKind,
        shapes: Sequence[Shape],
        context: PriorContext | None,
        rate: int,
        decoders: Sequence[LevelDecoder],
    ) -> Tokens:
        """See TokenCoder."""
        config = self.prior.config
        shapes = shapes[: len(decoders)]
        check_shapes(config, shapes)
        previous = self._previous(context, len(shapes))
        known: list[Tensor] = []
        for level, (shape, decoder) in enumerate(zip(shapes, decoders, strict=True)):
            try:
                known.append(self._decode_level(kind, level, shape, known, previous, rate, decoder))
            except FormatError as error:
                raise FormatError(f"level {level}: {error}") from None
        return [(grid[0] > 0).to(torch.uint8).cpu().numpy() for grid in known]

    def _decode_level(
        self,
        kind: BlockKind,
        level: int,
        shape: Shape,
        coarse: Sequence[Tensor],
        previous: Previous | None,
        rate: int,
        decoder: LevelDecoder,
    ) -> Tensor:
        prior = self.prior
        state = prior.prepare(kind, level, shape, coarse, previous, [rate])
        own = torch.zeros(1, *shape, prior.config.levels[level].bits, dtype=torch.int8, device=prior.device)
        for groups in prior.config.passes(kind):
            all_states = prior.start_states(kind, level, state, groups, own)
            for group, states in zip(groups, all_states, strict=True):
                rows, columns = order.group_shape(*shape, group)
                if rows * columns:
                    bits = self._decode_group(kind, level, states, decoder)
                    target = order.group_slice(group)
                    own[0, target[0], target[1]] = order.signs(bits).view(rows, columns, -1).to(prior.device)
        return own

    def _decode_group(
        self, kind: BlockKind, level: int, states_NH: Tensor, decoder: LevelDecoder
    ) -> np.ndarray:
        """N x L bits."""
        from bsqcodec.prior import kernels  # where one trains numba may be missing

        head = self.prior.net_head(kind, level)
        size = states_NH.shape[0]
        bits_LN = np.empty((head.bits, size), np.uint8)
        value_N = np.zeros(size, np.int64)
        count_N = np.empty(size, np.int32)
        for chunk in range(len(head.nodes)):
            before = torch.from_numpy(value_N).to(states_NH.device) if chunk else None
            counts_NK = head.node_counts(states_NH, chunk, before).cpu().numpy()
            width = head.chunk_bits(chunk)
            node_N = np.zeros(size, np.int64)
            for bit in range(width):
                new_N = bits_LN[CHUNK * chunk + bit]
                kernels.at_nodes(counts_NK, node_N, count_N)
                new_N[:] = decoder.decode(count_N)
                kernels.descend(node_N, new_N)
            value_N = node_N + 1 - (1 << width) << CHUNK - width
        return bits_LN.T
