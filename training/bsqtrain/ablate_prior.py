"""Arms of `ablate` that change the prior: the order of positions and the bits that know each other.

    # B batch · h, w cells · L bits per token · N rows (B * h * w)

Small float twins, without roundings, of key frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bsqcodec.prior.config
from bsqcodec.blocks import BlockKind
from bsqcodec.prior import PriorConfig, order
from bsqcodec.prior.config import CHUNK, GROUPS
from bsqtrain import prior_twin
from bsqtrain.engine import Budget, Schedule, Trainer
from bsqtrain.prior import PriorRecipe, PriorTask
from bsqtrain.prior_twin import STEP_OF_PHASE, LevelTwin, PriorTwin
from bsqtrain.tokens import Clip, Levels, TokenSampler

CPU = torch.device("cpu")
BATCH = 25  # held-out clips at once
RECIPE = PriorRecipe(batch=8, crop=4, coarse_crop=8, float_share=1.0)
SCHEDULE = Schedule(1.5e-3, muon_learning_rate=2e-3, warmup_steps=50, ema_decay=0.98)
SHAPE: dict[str, Any] = {"width": 64, "hidden": 128, "head_dim": 32, "head": 64}


@dataclass(frozen=True)
class PriorArm:
    """groups: steps in which a level's positions are coded. chunk: bits of one tree. independent: no bit of a
    token knows the others."""

    change: str
    groups: int = GROUPS
    chunk: int = CHUNK
    independent: bool = False
    seed: int = 0


PRIOR_ARMS = {
    "prior": PriorArm("prior, 4 groups, chunks of 4, seed 0"),
    "prior-1": PriorArm("the same, seed 1", seed=1),
    "groups-1": PriorArm("1 group", groups=1),
    "groups-2": PriorArm("2 groups, as a chessboard", groups=2),
    "groups-8": PriorArm("8 groups", groups=8),
    "chunk-1": PriorArm("chunks of 1 bit", chunk=1),
    "chunk-none": PriorArm("bits of a token independent", chunk=1, independent=True),
}


class Revealed(nn.Module):
    """The projection of the positions known, with more of them put in."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.more: Tensor | None = None

    def forward(self, known_BhwX: Tensor) -> Tensor:
        return self.inner(known_BhwX if self.more is None else known_BhwX + self.more)  # type: ignore[no-any-return]


class OrderedTwin(PriorTwin):
    """A twin with another number of groups.

    Fewer than four: the four positions of a cell are still asked for one by one, but those of one group do
    not know each other. Eight: of each of the four, the cells of one colour of a chessboard come first.
    """

    def __init__(self, config: PriorConfig, arm: PriorArm) -> None:
        super().__init__(config, BlockKind.KEY)
        self.groups = arm.groups
        size = max(1, GROUPS // arm.groups)
        steps = torch.tensor(STEP_OF_PHASE)
        for level in self._twins():
            level.phase_known.copy_(steps[None] // size < torch.arange(GROUPS)[:, None] // size)
            level.own = Revealed(level.own)  # type: ignore[assignment]
            if arm.independent:
                level.embedding.requires_grad_(False).zero_()

    def _twins(self) -> list[LevelTwin]:
        return [level for level in self.levels if isinstance(level, LevelTwin)]

    def level_bits(
        self,
        index: int,
        tokens: list[Tensor],
        previous: list[Tensor] | None,
        before: BlockKind | None,
        rates_B: Tensor,
        groups_B: Tensor,
    ) -> Tensor:
        """See PriorTwin. In training one of the two halves of eight groups, drawn at random, counts twice."""
        level = self._twins()[index]
        assert isinstance(level.own, Revealed)

        def bits() -> Tensor:
            return super(OrderedTwin, self).level_bits(index, tokens, previous, before, rates_B, groups_B)

        if self.groups <= GROUPS:
            return bits()
        cells = order.gather_cells(tokens[index]).float()
        batch, rows, columns, _ = cells.shape
        first = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
        asked = F.one_hot(level.phase_of_step[groups_B], GROUPS)[:, None, None, :, None]
        shown = cells.view(batch, rows, columns, GROUPS, -1) * asked * first[:, :, None, None]
        first_N1 = first.flatten().repeat(batch)[:, None]
        total = torch.zeros(())
        second = bool(torch.rand(()) < 0.5)
        for half in (second,) if self.training else (False, True):
            level.own.more = shown.flatten(3) if half else None
            total = total + bits() * (first_N1 != half) * (2 if self.training else 1)
        level.own.more = None
        return total


@contextmanager
def chunks_of(size: int) -> Iterator[None]:
    """Twins built and run inside have chunks of so many bits."""
    settings = ((prior_twin, "CHUNK", size), (prior_twin, "NODES", (1 << size) - 1))
    changes = (*settings, (bsqcodec.prior.config, "CHUNK", size))
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


@torch.no_grad()
def held_bits(twin: OrderedTwin, clips: Sequence[Clip]) -> list[float]:
    """Bits of every level on the key frames of clips, which are of one size."""
    twin.eval()
    levels = twin.config.levels
    packed = [np.stack(level) for level in zip(*(clip.blocks[0] for clip in clips), strict=True)]
    tokens = [
        order.signs(np.unpackbits(part, axis=-1, count=level.bits))
        for part, level in zip(packed, levels, strict=True)
    ]
    return bits_by_level(twin, tokens, None, None, [clip.key_rate for clip in clips])


def bits_by_level(
    twin: PriorTwin,
    tokens: list[Tensor],
    previous: list[Tensor] | None,
    before: BlockKind | None,
    rates: Sequence[int],
) -> list[float]:
    """What the blocks of a batch cost, all groups; see `PriorTwin.level_bits`."""
    rates_B = torch.tensor(rates)
    asked = [torch.full_like(rates_B, group) for group in range(GROUPS)]

    def bits(index: int) -> float:
        costs = (twin.level_bits(index, tokens, previous, before, rates_B, groups_B) for groups_B in asked)
        return sum(float(cost.sum()) for cost in costs)

    return [bits(index) for index in range(len(tokens))]


def trained(twin: PriorTwin, sampler: TokenSampler, seed: int, budget: Budget, out: Path) -> Trainer:
    """The trainer after its run; the twin becomes its average."""
    task = PriorTask(twin, sampler, RECIPE, CPU, seed)
    trainer = Trainer(task, SCHEDULE, budget, out, compile=False)
    trainer.run()
    twin.load_state_dict(trainer.ema)
    return trainer


def train_and_measure(
    arm: PriorArm, levels: Levels, clips: Sequence[Clip], held: Sequence[Clip], budget: Budget, out: Path
) -> tuple[Trainer, tuple[float, ...], tuple[float, ...]]:
    """The trainer; of each level the bits per pixel, and per raw bit, of held-out key frames."""
    config = small(levels)
    with chunks_of(arm.chunk):
        torch.manual_seed(arm.seed)
        twin = OrderedTwin(config, arm)
        trainer = trained(twin, TokenSampler(config, clips, BlockKind.KEY), arm.seed, budget, out)
        found = [held_bits(twin, held[start : start + BATCH]) for start in range(0, len(held), BATCH)]
    pixels = sum(clip.rows * clip.columns * levels[0][0] ** 2 for clip in held)
    return trainer, *shares(levels, found, pixels)


def small(levels: Levels) -> PriorConfig:
    """The shape of all arms."""
    usual = PriorConfig.preset(levels)
    return replace(usual, levels=tuple(replace(level, **SHAPE) for level in usual.levels))


def shares(
    levels: Levels, found: Sequence[Sequence[float]], pixels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the bits of every level in several batches: those of each per pixel, and per raw bit."""
    bpp = tuple(sum(bits) / pixels for bits in zip(*found, strict=True))
    return bpp, tuple(each * stride**2 / bits for each, (stride, bits) in zip(bpp, levels, strict=True))
