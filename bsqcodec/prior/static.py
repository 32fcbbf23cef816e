"""The static table: one frequency per kind of block, level and bit, at eleven rates. The baseline of the
prior.

    # H, W positions of a level · L bits per token

A level's run holds bit after bit; in a bit all positions row by row.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import ModelError
from bsqcodec.prior.coder import PriorContext, Shape, Tokens, check_shapes, check_tokens
from bsqcodec.prior.config import MAX_RATE, RATE_ROWS, PriorConfig
from bsqcodec.prior.range_coder import (
    TOTAL,
    LevelDecoder,
    LevelEncoder,
    RangeLevelDecoder,
    RangeLevelEncoder,
)


class StaticPrior:
    """The TokenCoder of the static table.

    tensors: as for Prior; only `static.KIND.LEVEL` (11 x L int32 counts of a one) are read.
    """

    def __init__(self, config: PriorConfig, tensors: dict[str, Tensor]) -> None:
        self.config = config
        self._tables = {}
        for kind in BlockKind:
            for index, level in enumerate(config.levels):
                name = f"static.{kind.label}.{index}"
                if name not in tensors or tuple(tensors[name].shape) != (RATE_ROWS, level.bits):
                    raise ModelError(f"prior: tensor {name} is missing or not {RATE_ROWS} x {level.bits}")
                table = tensors[name].cpu().numpy().astype(np.int64)
                if table.min() < 1 or table.max() >= TOTAL:
                    raise ModelError(
                        f"prior: tensor {name} holds {table.min()}..{table.max()}, expected 1..65535"
                    )
                self._tables[kind, index] = table

    def encoder(self) -> RangeLevelEncoder:
        """See TokenCoder."""
        return RangeLevelEncoder()

    def decoder(self, data: bytes) -> RangeLevelDecoder:
        """See TokenCoder."""
        return RangeLevelDecoder(data)

    def counts(self, kind: BlockKind, level: int, rate: int) -> np.ndarray:
        """L counts of a one: between two rows of the table, in integers, a half rounded up."""
        if not 0 <= rate <= MAX_RATE:
            raise ValueError(f"rate index {rate}, expected 0..{MAX_RATE}")
        span = MAX_RATE // (RATE_ROWS - 1)
        row = min(rate // span, RATE_ROWS - 2)
        part = rate - row * span
        table = self._tables[kind, level]
        mixed: np.ndarray = (table[row] * (span - part) + table[row + 1] * part + span // 2) // span
        return mixed

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
        check_tokens(self.config, kept)
        for level, (grid, encoder) in enumerate(zip(kept, encoders, strict=True)):
            bits = grid.reshape(-1, grid.shape[2]).T
            encoder.encode(bits.reshape(-1), self.counts(kind, level, rate).repeat(bits.shape[1]))

    def decode_block(
        self,
        kind: BlockKind,
        shapes: Sequence[Shape],
        context: PriorContext | None,
        rate: int,
        decoders: Sequence[LevelDecoder],
    ) -> Tokens:
        """See TokenCoder."""
        shapes = shapes[: len(decoders)]
        check_shapes(self.config, shapes)
        result = []
        for level, (shape, decoder) in enumerate(zip(shapes, decoders, strict=True)):
            bits = decoder.decode(self.counts(kind, level, rate).repeat(shape[0] * shape[1]))
            result.append(np.ascontiguousarray(bits.reshape(-1, shape[0] * shape[1]).T).reshape(*shape, -1))
        return result

    def cost_bits(
        self, kind: BlockKind, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
    ) -> list[float]:
        """See TokenCoder."""
        check_tokens(self.config, tokens)
        costs = []
        for level, grid in enumerate(tokens):
            share_L = self.counts(kind, level, rate) / TOTAL
            ones_L = grid.sum((0, 1))
            zeros_L = grid.shape[0] * grid.shape[1] - ones_L
            costs.append(float(-(ones_L * np.log2(share_L) + zeros_L * np.log2(1 - share_L)).sum()))
        return costs
