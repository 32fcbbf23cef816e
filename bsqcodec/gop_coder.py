"""The tokens of a GOP as bytes and back: the smallest of prior, static table and raw bits, joined runs or
not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from bsqcodec.ahead import Behind
from bsqcodec.bitstream import CodingMode, Gop, token_crc
from bsqcodec.blocks import BlockKind, BlockRates
from bsqcodec.errors import FormatError, ModelError
from bsqcodec.model import Weights
from bsqcodec.prior.coder import PriorCoder, PriorContext, TokenCoder
from bsqcodec.prior.config import LevelPriorConfig, PriorConfig
from bsqcodec.prior.model import Prior
from bsqcodec.prior.range_coder import LevelDecoder, LevelEncoder
from bsqcodec.prior.raw import RawCoder
from bsqcodec.prior.static import StaticPrior
from bsqcodec.tokenizer.config import tube_fault

Tokens = list[npt.NDArray[np.uint8]]
Clock = Callable[[str], AbstractContextManager[None]]

JOINING_GAIN = 0.01
"""Runs are joined over the blocks of a GOP where that saves more than this share of its bytes."""


@dataclass
class GopTokens(BlockRates):
    """A GOP while it grows: the tokens of its coded blocks, the prior's runs that hold them already, and the
    numbers of the blocks that are repeats."""

    key_rate: int
    tube_rate: int
    blocks: list[tuple[BlockKind, Tokens]] = field(default_factory=list)
    separate: list[list[LevelEncoder]] = field(default_factory=list)  # a row per block
    joined: list[LevelEncoder] = field(default_factory=list)
    repeats: set[int] = field(default_factory=set)

    def repeat(self) -> None:
        """The next block shows the last frame again and has no tokens."""
        self.repeats.add(len(self.blocks) + len(self.repeats))

    def context(self, number: int) -> PriorContext | None:
        """What the coder of a coded block knows of the one before it."""
        return PriorContext(*self.blocks[number - 1]) if number else None


@dataclass(frozen=True)
class CodedGop:
    """The payload of a GOP, as `bitstream.Gop` wants it."""

    mode: CodingMode
    joined: bool
    token_crcs: tuple[int, ...]
    parts: tuple[tuple[bytes, ...], ...]

    @property
    def size(self) -> int:
        """Bytes of the parts and of their lengths."""
        return sum(
            len(part) + (1 if len(part) < 128 else 2 if len(part) < 16384 else 3)
            for row in self.parts
            for part in row
        )


class _Pair:
    """One level's bits into the block's own run and into the GOP's run at once, on the range coder's
    clock."""

    def __init__(self, own: LevelEncoder, joined: LevelEncoder, clock: Clock) -> None:
        self.own, self.joined, self.clock = own, joined, clock

    def encode(self, bits_N: npt.NDArray[np.uint8], counts_N: npt.NDArray[np.int64]) -> None:
        """See LevelEncoder."""
        with self.clock("range coder"):
            self.own.encode(bits_N, counts_N)
            self.joined.encode(bits_N, counts_N)

    def finish(self) -> bytes:
        """See LevelEncoder."""
        return self.own.finish()


class _Timed:
    """A LevelDecoder on the range coder's clock."""

    def __init__(self, run: LevelDecoder, clock: Clock) -> None:
        self.run, self.clock = run, clock

    def decode(self, counts_N: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """See LevelDecoder."""
        with self.clock("range coder"):
            return self.run.decode(counts_N)


class GopCoder:
    """Codes GOPs with one model's prior. behind: codes the blocks that are added, where this is not to be
    done at once. The clock's stage `prior` holds the range coder's time too."""

    def __init__(
        self, weights: Weights, device: torch.device, clock: Clock, behind: Behind | None = None
    ) -> None:
        self._clock = clock
        self._model, self._lengths = weights.card.name, weights.card.tokenizer.tube_lengths
        self._behind = behind or Behind(False)
        tokenizer = weights.card.tokenizer
        config = PriorConfig(tuple(LevelPriorConfig(level.stride, level.bits) for level in tokenizer.levels))
        self._coders: dict[CodingMode, TokenCoder] = {CodingMode.RAW: RawCoder(config)}
        if weights.card.prior is not None:
            config = PriorConfig.from_json(weights.card.prior)
            tensors = weights.part("prior")
            self._coders[CodingMode.STATIC] = StaticPrior(config, tensors)
            self._coders[CodingMode.PRIOR] = PriorCoder(Prior(config, tensors, device=device))

    def add(self, gop: GopTokens, kind: BlockKind, tokens: Tokens) -> None:
        """Take the tokens of the next block; the prior codes them, beside what the caller does."""
        gop.blocks.append((kind, tokens))
        coder = self._coders.get(CodingMode.PRIOR)
        if coder is None:
            return
        if not gop.joined:
            gop.joined = [coder.encoder() for _ in tokens]
        own = [coder.encoder() for _ in tokens]
        gop.separate.append(own)
        pairs = [_Pair(one, all_, self._clock) for one, all_ in zip(own, gop.joined, strict=True)]
        context = gop.context(len(gop.blocks) - 1)

        def code() -> None:
            with self._clock("prior"):
                coder.encode_block(kind, tokens, context, gop.rate(kind), pairs)

        self._behind(code)

    def finish(self, gop: GopTokens) -> CodedGop:
        """The smallest way to store the GOP; ways that cannot be smaller are not gone."""
        self._behind.wait()
        crcs = self.crcs(gop)
        best: CodedGop | None = None
        for mode in (CodingMode.PRIOR, CodingMode.STATIC, CodingMode.RAW):
            if mode in self._coders and (best is None or self._least_bytes(mode, gop) < best.size):
                coded = self.coded(mode, gop, crcs)
                best = coded if best is None or coded.size < best.size else best
        assert best is not None
        return best

    def _least_bytes(self, mode: CodingMode, gop: GopTokens) -> float:
        return sum(sum(costs) for _, costs in self.costs(mode, gop)) / 8

    def costs(self, mode: CodingMode, gop: GopTokens) -> Iterator[tuple[BlockKind, list[float]]]:
        """What an ideal coder would need, in bits, for every level of each coded block."""
        coder = self._coders[mode]
        for number, (kind, tokens) in enumerate(gop.blocks):
            yield kind, coder.cost_bits(kind, tokens, gop.context(number), gop.rate(kind))

    @staticmethod
    def crcs(gop: GopTokens) -> tuple[int, ...]:
        """The check of every level's tokens, see `bitstream.token_crc`."""
        return tuple(
            token_crc(np.packbits(tokens[level]).tobytes() for _, tokens in gop.blocks)
            for level in range(len(gop.blocks[0][1]))
        )

    def coded(self, mode: CodingMode, gop: GopTokens, crcs: tuple[int, ...]) -> CodedGop:
        """The GOP in one mode, its runs joined where that is worth it."""
        separate, joined = gop.separate, gop.joined
        if mode is not CodingMode.PRIOR:
            coder = self._coders[mode]
            joined = [coder.encoder() for _ in crcs]
            separate = [[coder.encoder() for _ in crcs] for _ in gop.blocks]
            for number, (kind, tokens) in enumerate(gop.blocks):
                for runs in (separate[number], joined):
                    coder.encode_block(kind, tokens, gop.context(number), gop.rate(kind), runs)
        apart = CodedGop(mode, False, crcs, tuple(tuple(run.finish() for run in row) for row in separate))
        if len(gop.blocks) == 1:
            return apart
        together = CodedGop(mode, True, crcs, (tuple(run.finish() for run in joined),))
        return together if together.size < (1 - JOINING_GAIN) * apart.size else apart

    def decode(
        self, gop: Gop, levels: int, shapes: Sequence[tuple[int, int]]
    ) -> Generator[tuple[BlockKind, Tokens], None, None]:
        """The tokens of the coded blocks of a GOP, in order; the coarsest `levels` of them. shapes: grid per
        level.

        Raises FormatError where its tubes cannot be this model's, where tokens are damaged, or, after the
        last block, are not those that were encoded.
        """
        if fault := tube_fault(self._lengths, gop.tube_frames, self._model):
            raise FormatError(fault)
        if gop.mode not in self._coders:
            raise ModelError(f"the stream is coded with a prior ({gop.mode.name}), the model has none")
        coder = self._coders[gop.mode]
        rows = [[_Timed(coder.decoder(part), self._clock) for part in row[:levels]] for row in gop.parts]
        packed: list[list[bytes]] = [[] for _ in range(levels)]
        before: PriorContext | None = None
        for number in range(gop.blocks - len(gop.repeats)):
            kind = BlockKind.TUBE if number else BlockKind.KEY
            with self._clock("prior"):
                tokens = coder.decode_block(
                    kind, shapes[:levels], before, gop.rate(kind), rows[0 if gop.joined else number]
                )
            before = PriorContext(kind, tokens)
            for level, grid in zip(packed, tokens, strict=True):
                level.append(np.packbits(grid).tobytes())
            yield kind, tokens
        for number, level in enumerate(packed):
            if token_crc(level) != gop.token_crcs[number]:
                raise FormatError(f"the tokens of level {number} are not those that were encoded")
