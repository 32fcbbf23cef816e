"""Arms of `ablate` that change what a tube's prior sees of the past.

    # B batch · H, W positions of a level · h, w cells of vectors · L bits per token

Small float twins, without roundings, as those of `ablate_prior`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.errors import InputError
from bsqcodec.prior import PriorConfig
from bsqcodec.tokenizer import motion
from bsqcodec.tokenizer.config import PRESETS
from bsqtrain.ablate_prior import bits_by_level, shares, small, trained
from bsqtrain.engine import Budget, Trainer
from bsqtrain.prior_layers import RESIDUAL_UNIT, SIGN_UNIT, Scaled
from bsqtrain.prior_twin import LevelTwin, PriorTwin
from bsqtrain.tokens import Clip, Levels, TokenSampler

TOKENIZER = PRESETS["base"]


@dataclass(frozen=True)
class PastArm:
    """see: of the levels of the block before a tube, given a sampler, a clip and the tube's number, what the
    prior is to see. copies: how many tokens that is for one of a level."""

    change: str
    see: Callable[[PastSampler, Clip, int], list[Tensor]]
    copies: int = 1
    seed: int = 0


class PastSampler(TokenSampler):
    """Crops of tubes, and of what an arm sees of the past."""

    def __init__(self, config: PriorConfig, clips: Sequence[Clip], arm: PastArm) -> None:
        super().__init__(config, clips, BlockKind.TUBE)
        self._arm = arm
        self._seen: dict[tuple[int, int], list[Tensor]] = {}

    def before(self, clip: Clip, block: int) -> list[Tensor]:
        """See TokenSampler."""
        key = (id(clip), block)
        if key not in self._seen:
            self._seen[key] = self._arm.see(self, clip, block)
        return self._seen[key]


def last(sampler: PastSampler, clip: Clip, block: int) -> list[Tensor]:
    """The tokens of the block before, where they are."""
    return sampler.signs(clip, block - 1)


def nothing(sampler: PastSampler, clip: Clip, block: int) -> list[Tensor]:
    """Zeros in place of tokens: they add nothing."""
    return [torch.zeros_like(level) for level in last(sampler, clip, block)]


def moved(sampler: PastSampler, clip: Clip, block: int) -> list[Tensor]:
    """The tokens of the block before, those finer than the vectors from where these point."""
    before, number = last(sampler, clip, block), TOKENIZER.motion_level
    assert number is not None
    bits = (sampler.signs(clip, block)[number] > 0).long()
    # From the middle of one tube to that of the next is as far as a tube's last frame moves.
    length = TOKENIZER.tube_length(clip.tube_rate)
    moves_hw2 = motion.in_frames(motion.from_bits(bits[None], length), TubeForm(length))[0, -1]
    strides = [level.stride for level in sampler.config.levels]
    return [
        level if index <= number else _from_where(level, moves_hw2, strides[index])
        for index, level in enumerate(before)
    ]


def _from_where(signs_HWL: Tensor, moves_hw2: Tensor, stride: int) -> Tensor:
    """Every token from as many pixels away as its cell's move says, rounded; the border goes on."""
    whole = (moves_hw2 / stride).round() * stride
    found = motion.moved_features(signs_HWL[None].float(), whole[None], stride)[0]
    return found.round().to(signs_HWL.dtype)


def both(sampler: PastSampler, clip: Clip, block: int) -> list[Tensor]:
    """The tokens where they are, and moved."""
    return _joined(last(sampler, clip, block), moved(sampler, clip, block))


def two(sampler: PastSampler, clip: Clip, block: int) -> list[Tensor]:
    """The tokens of the two blocks before; zeros where the second would be the key frame or none."""
    near = last(sampler, clip, block)
    far = sampler.signs(clip, block - 2) if block > 2 else nothing(sampler, clip, block)
    return _joined(near, far)


def _joined(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat(pair, -1) for pair in zip(first, second, strict=True)]


PAST_ARMS = {
    "past": PastArm("tokens of the block before, seed 0", last),
    "past-1": PastArm("the same, seed 1", last, seed=1),
    "past-none": PastArm("nothing of the past", nothing),
    "past-moved": PastArm("the same, moved by the tube's vectors", moved),
    "past-both": PastArm("as they are, and moved", both, copies=2),
    "past-two": PastArm("tokens of the two blocks before", two, copies=2),
}


class PastTwin(PriorTwin):
    """A tube's twin that sees an arm's past."""

    def __init__(self, config: PriorConfig, arm: PastArm) -> None:
        super().__init__(config, BlockKind.TUBE)
        for level in self.levels if arm.copies > 1 else ():
            assert isinstance(level, LevelTwin)
            for label, seen in level.after.items():
                assert isinstance(seen, nn.ModuleList)
                level.after[label] = nn.ModuleList(_wider(usual, arm.copies) for usual in seen)


def _wider(usual: nn.Module, times: int) -> Scaled:
    """With so many times the inputs, from scratch."""
    assert isinstance(usual, Scaled)
    outputs, inputs = usual.weight.shape
    return Scaled(outputs, times * inputs, unit_in=SIGN_UNIT, unit_out=RESIDUAL_UNIT, gain=0.5)


@torch.no_grad()
def held_bits(twin: PastTwin, sampler: PastSampler, clips: Sequence[Clip], block: int) -> list[float]:
    """Bits of every level on the tubes of this number in clips, which are of one size."""
    twin.eval()
    before = BlockKind.TUBE if block > 1 else BlockKind.KEY
    grids = [sampler.signs(clip, block) for clip in clips]
    tokens = [torch.stack(level) for level in zip(*grids, strict=True)]
    grids = [sampler.before(clip, block) for clip in clips]
    past = [torch.stack(level) for level in zip(*grids, strict=True)]
    return bits_by_level(twin, tokens, past, before, [clip.tube_rate for clip in clips])


def train_and_measure(
    arm: PastArm, levels: Levels, clips: Sequence[Clip], held: Sequence[Clip], budget: Budget, out: Path
) -> tuple[Trainer, tuple[float, ...], tuple[float, ...]]:
    """The trainer; of each level the bits per pixel of a block, and per raw bit, of held-out tubes."""
    if levels != tuple((level.stride, level.bits) for level in TOKENIZER.levels):
        raise InputError(f"levels {levels}: arms of the past are for tokens of the tokenizer base")
    config = small(levels)
    torch.manual_seed(arm.seed)
    twin = PastTwin(config, arm)
    trainer = trained(twin, PastSampler(config, clips, arm), arm.seed, budget, out)
    sampler = PastSampler(config, held, arm)
    found, pixels = [], 0
    for block in range(1, max(len(clip.blocks) for clip in held)):
        some = [clip for clip in held if len(clip.blocks) > block]
        found.append(held_bits(twin, sampler, some, block))
        pixels += sum(clip.rows * clip.columns * levels[0][0] ** 2 for clip in some)
    return trainer, *shares(levels, found, pixels)
