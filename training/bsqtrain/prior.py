"""Stage `prior`: the float twin on the tokens of a frozen tokenizer, roundings in the loop for the last part;
export.

    # B batch · H, W positions of a level · L bits per token

Key frames and tubes have separate nets and are trained one after the other; tubes start from the key frames'
net.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.machine import half_precision
from bsqcodec.prior import Prior, PriorCoder, PriorConfig, PriorContext, StaticPrior
from bsqcodec.prior.config import GROUPS, MAX_RATE, RATE_ROWS
from bsqtrain.engine import Budget, Schedule, Trainer, load_checkpoint
from bsqtrain.prior_twin import PriorTwin, counts_table, exp2_table
from bsqtrain.tokens import Clip, TokenSampler, load_clips


@dataclass(frozen=True)
class PriorRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    crop, coarse_crop: sides in positions of the coarsest level, for the levels at the finest stride and for
    the others (less where most clips are smaller). float_share: of the budget, before roundings are switched
    on.
    """

    batch: int = 8
    crop: int = 8
    coarse_crop: int = 16
    float_share: float = 0.7


class PriorObjective(nn.Module):
    """Crops -> bits per position of the coarsest level, one random group of each."""

    def __init__(self, twin: PriorTwin) -> None:
        super().__init__()
        self.twin = twin

    def forward(
        self,
        fine: list[Tensor],
        fine_before: list[Tensor] | None,
        coarse: list[Tensor],
        coarse_before: list[Tensor] | None,
        before: BlockKind | None,
        rates_B: Tensor,
        coarse_rates_B: Tensor,
        groups_B: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """fine, coarse: the crops for the levels at the finest stride and for the others; (loss, bits
        per pixel). With roundings in the loop float32 it must be: bf16 does not hold the integers.
        """
        levels = self.twin.config.levels
        total, figures = torch.zeros((), device=rates_B.device), {}
        for index, level in enumerate(levels):
            finest = level.stride == levels[-1].stride
            tokens, previous = (fine, fine_before) if finest else (coarse, coarse_before)
            with nullcontext() if self.twin.quantised else half_precision(rates_B.device):
                bits = self.twin.level_bits(
                    index, tokens, previous, before, rates_B if finest else coarse_rates_B, groups_B
                )
            area = tokens[0].shape[0] * tokens[0].shape[1] * tokens[0].shape[2] * levels[0].stride ** 2
            figures[f"bpp{index}"] = bits.sum() * (GROUPS / area)
            total = total + figures[f"bpp{index}"]
        # Per 1000 pixels: gradients of about one.
        return total * 10, {"bpp": total, **figures}


class PriorTask:
    """What the trainer needs to train one kind's net."""

    def __init__(
        self,
        twin: PriorTwin,
        sampler: TokenSampler,
        recipe: PriorRecipe,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.model: nn.Module = twin
        self.objective: nn.Module = PriorObjective(twin)
        self.helper: nn.Module | None = None
        self.twin, self.sampler, self.recipe, self.device, self.seed = twin, sampler, recipe, device, seed
        self.config: dict[str, Any] = {"kind": twin.kind.label, "prior": twin.config.to_json()}
        self._coarse_crop = sampler.largest_crop(recipe.coarse_crop)
        self._crop = sampler.largest_crop(recipe.crop)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """See Task; roundings are switched on when their time has come."""
        self.twin.quantise(progress >= self.recipe.float_share)
        source = random.Random(f"{self.seed} {step} {rank}")
        before = self.sampler.draw_previous(source)
        fine = self.sampler.batch(self.recipe.batch, self._crop, before, source)
        coarse = self.sampler.batch(self.recipe.batch, self._coarse_crop, before, source)
        groups = torch.tensor([source.randrange(GROUPS) for _ in range(self.recipe.batch)])
        return (
            self._placed(fine.tokens),
            self._placed(fine.previous),
            self._placed(coarse.tokens),
            self._placed(coarse.previous),
            before,
            torch.tensor(fine.rates).to(self.device, non_blocking=True),
            torch.tensor(coarse.rates).to(self.device, non_blocking=True),
            groups.to(self.device, non_blocking=True),
        )

    def _placed(self, levels: list[Tensor] | None) -> list[Tensor] | None:
        return None if levels is None else [level.to(self.device, non_blocking=True) for level in levels]


def train_prior(
    config: PriorConfig,
    clips: Sequence[Clip],
    kind: BlockKind,
    out: Path,
    budget: Budget,
    *,
    schedule: Schedule,
    recipe: PriorRecipe,
    key: Path | None = None,
    init: Mapping[str, Tensor] | None = None,
    device: torch.device | None = None,
    seed: int = 0,
    resume: bool = True,
    shards: Path | None = None,
    save_every: float = 300.0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train one kind's net within the budget; returns the checkpoint, in the folder `out`.

    key: checkpoint of a key frames' net to start from. init: integers of a prior of this shape, whose net of
    this kind to start from instead. resume: go on from the checkpoint in `out` where
    there is one. shards: a folder to write small checkpoints to as well, and to go on from.
    """
    torch.manual_seed(seed)
    device = device or torch.device("cpu")
    twin = PriorTwin(config, kind)
    if key is not None:
        twin.load_state_dict(key_weights(key, config), strict=False)
    if init is not None:
        twin.restore(init)
    sampler = TokenSampler(config, clips, kind, device)
    task = PriorTask(twin.to(device), sampler, recipe, device, seed)
    trainer = Trainer(task, schedule, budget, out, compile=False, shards=shards)
    checkpoint = out / "checkpoint.pt"
    if resume and (shards or checkpoint).exists():
        trainer.resume(shards or checkpoint)
    trainer.run(save_every=save_every, say=say)
    return checkpoint


def _weights(path: Path, config: PriorConfig, kind: BlockKind) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint. Raises InputError where it is another net's."""
    state = load_checkpoint(path)
    if state["config"] != {"kind": kind.label, "prior": config.to_json()}:
        raise InputError(
            f"{path}: holds a {state['config'].get('kind')} net of another shape, expected {kind.label}"
        )
    weights: dict[str, Tensor] = state["ema"]
    return weights


def key_weights(path: Path, config: PriorConfig) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint of key frames' net. Raises InputError where it is another."""
    return _weights(path, config, BlockKind.KEY)


def checkpoint_prior(path: Path) -> PriorConfig:
    """The shape of the prior in a checkpoint. Raises ModelError where it holds none."""
    return PriorConfig.from_json(load_checkpoint(path)["config"].get("prior"))


def load_twin(path: Path, config: PriorConfig, kind: BlockKind) -> PriorTwin:
    """The averaged net of a checkpoint, roundings on."""
    twin = PriorTwin(config, kind)
    twin.load_state_dict(_weights(path, config, kind))
    twin.quantise(True)
    return twin


def static_tables(config: PriorConfig, clips: Sequence[Clip]) -> dict[str, Tensor]:
    """Counts of a one per kind, level and bit at eleven rates: each clip counts for the two rates
    around its own.
    """
    tables = {}
    for kind in BlockKind:
        for index, level in enumerate(config.levels):
            ones = np.full((RATE_ROWS, level.bits), 0.5)
            seen = np.ones((RATE_ROWS, 1))
            for clip in clips:
                blocks = clip.blocks[:1] if kind is BlockKind.KEY else clip.blocks[1:]
                rate = clip.key_rate if kind is BlockKind.KEY else clip.tube_rate
                share = np.maximum(0, 1 - np.abs(np.arange(RATE_ROWS) - rate * (RATE_ROWS - 1) / MAX_RATE))[
                    :, None
                ]
                for block in blocks:
                    bits = np.unpackbits(block[index], axis=-1, count=level.bits).reshape(-1, level.bits)
                    ones += share * bits.sum(0)
                    seen += share * len(bits)
            # A rate that no clip has takes a little from all others.
            ones, seen = ones + 1e-3 * ones.sum(0), seen + 1e-3 * seen.sum(0)
            counts = np.clip(np.rint(65536 * ones / seen), 1, 65535).astype(np.int32)
            tables[f"static.{kind.label}.{index}"] = torch.from_numpy(counts)
    return tables


def export_prior(
    config: PriorConfig, clips: Sequence[Clip], key: PriorTwin, tube: PriorTwin | None
) -> dict[str, Tensor]:
    """All integer tensors of a prior.

    tube None: tubes are coded by the key frames' net, blind to the block before.
    """
    if tube is None:
        tube = PriorTwin(config, BlockKind.TUBE)
        tube.load_state_dict(key.state_dict(), strict=False)
        with torch.no_grad():
            for name, parameter in tube.named_parameters():
                if ".after." in name:
                    parameter.zero_()
    tensors = {"exp2": exp2_table().to(torch.int16), "counts": counts_table()}
    return tensors | static_tables(config, clips) | key.export() | tube.export()


@dataclass(frozen=True)
class PriorReport:
    """Bits on held-out clips, per kind; `twin` without roundings, `integer` as coded.

    blocks: how many were measured.
    """

    kind: BlockKind
    blocks: int
    raw: float
    static: float
    twin: float
    integer: float
    levels: tuple[float, ...]

    def __str__(self) -> str:
        parts = (
            f"{self.kind.label}: {self.blocks} blocks",
            f"static table {self.static / self.raw:.4f} of raw bits",
            f"prior {self.integer / self.raw:.4f} ({100 * (self.integer / self.static - 1):+.2f} %)",
            f"roundings cost {100 * (self.integer / self.twin - 1):+.3f} %",
            "per level " + " ".join(f"{level:.4f}" for level in self.levels),
        )
        return ", ".join(parts)


@torch.no_grad()
def measure_prior(
    config: PriorConfig, tensors: dict[str, Tensor], twin: PriorTwin, clips: Sequence[Clip], blocks: int = 100
) -> PriorReport:
    """Compare the integer prior with its twin, the static table and raw bits on up to `blocks` blocks
    of clips.
    """
    coder, static = PriorCoder(Prior(config, tensors)), StaticPrior(config, tensors)
    kind = twin.kind
    twin.quantise(False)
    totals = np.zeros(4)
    per_level = np.zeros((2, len(config.levels)))
    count = 0
    for clip in clips:
        for number in range(*((0, 1) if kind is BlockKind.KEY else (1, len(clip.blocks)))):
            if count >= blocks:
                break
            count += 1
            tokens = [
                np.unpackbits(level, axis=-1, count=shape.bits)
                for level, shape in zip(clip.blocks[number], config.levels, strict=True)
            ]
            context = None
            if number:
                before = [
                    np.unpackbits(level, axis=-1, count=shape.bits)
                    for level, shape in zip(clip.blocks[number - 1], config.levels, strict=True)
                ]
                context = PriorContext(BlockKind.TUBE if number > 1 else BlockKind.KEY, before)
            rate = clip.rate(number)
            coded = np.array(coder.cost_bits(kind, tokens, context, rate))
            raw = np.array([float(level.size) for level in tokens])
            per_level += (coded, raw)
            totals += (
                raw.sum(),
                sum(static.cost_bits(kind, tokens, context, rate)),
                _twin_bits(twin, tokens, context, rate),
                coded.sum(),
            )
    if not count:
        raise InputError(f"no held-out {kind.label} blocks to measure the prior on")
    twin.quantise(True)
    raw_bits, table, smooth, coded_bits = totals.tolist()
    levels = tuple((per_level[0] / per_level[1]).tolist())
    return PriorReport(kind, count, raw_bits, table, smooth, coded_bits, levels)


def _twin_bits(
    twin: PriorTwin, tokens: Sequence[np.ndarray], context: PriorContext | None, rate: int
) -> float:
    def signs(grids: Sequence[np.ndarray]) -> list[Tensor]:
        return [torch.from_numpy(grid.astype(np.int8) * np.int8(2) - np.int8(1))[None] for grid in grids]

    own = signs(tokens)
    before = signs(context.tokens) if context else None
    kind = context.kind if context else None
    return sum(
        float(twin.level_bits(index, own, before, kind, torch.tensor([rate]), torch.tensor([group])).sum())
        for index in range(len(tokens))
        for group in range(GROUPS)
    )


__all__ = [
    "PriorRecipe",
    "PriorReport",
    "export_prior",
    "load_clips",
    "load_twin",
    "measure_prior",
    "static_tables",
    "train_prior",
]
