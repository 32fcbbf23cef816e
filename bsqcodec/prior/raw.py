"""Raw packing: the floor below which no coder may fall. Tokens as they lie in memory, first bit highest."""

from collections.abc import Sequence

import numpy as np

from bsqcodec.blocks import BlockKind
from bsqcodec.prior.coder import PriorContext, Shape, Tokens, check_shapes, check_tokens
from bsqcodec.prior.config import PriorConfig
from bsqcodec.prior.range_coder import LevelDecoder, LevelEncoder, RawLevelDecoder, RawLevelEncoder


class RawCoder:
    """The TokenCoder that codes nothing: one bit costs one bit."""

    def __init__(self, config: PriorConfig) -> None:
        self.config = config

    def encoder(self) -> RawLevelEncoder:
        """See TokenCoder."""
        return RawLevelEncoder()

    def decoder(self, data: bytes) -> RawLevelDecoder:
        """See TokenCoder."""
        return RawLevelDecoder(data)

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
        for grid, encoder in zip(kept, encoders, strict=True):
            encoder.encode(grid.reshape(-1), np.full(grid.size, 1 << 15))

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
        return [
            decoder.decode(np.full(rows * columns * level.bits, 1 << 15)).reshape(rows, columns, level.bits)
            for level, (rows, columns), decoder in zip(self.config.levels, shapes, decoders, strict=False)
        ]

    def cost_bits(
        self, kind: BlockKind, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
    ) -> list[float]:
        """See TokenCoder."""
        check_tokens(self.config, tokens)
        return [float(grid.size) for grid in tokens]
