"""Arms of `ablate` that change tubes: what they see of the past, how many frames they hold, what they are
trained on.

# B batch · H, W token grid · D channels
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bsqcodec.tokenizer.config import TokenizerConfig
from bsqcodec.tokenizer.ladder import STRIDES, Ends, Ladder, Memory
from bsqcodec.tokenizer.layers import MemoryAttention
from bsqtrain import ablate_image
from bsqtrain.clips import ClipSampler, MixedSampler, MovingPictures
from bsqtrain.engine import Schedule, load_checkpoint
from bsqtrain.video import VideoRecipe, VideoTask

TOKENIZER = replace(ablate_image.TOKENIZER, motion_level=1)
LENGTHS = {8: (1.0, 0.0, 0.0, 0.0), 4: (1.0, 0.0, 0.0), 2: (0.0, 1.0, 0.0), 1: (0.0, 0.0, 1.0)}
RECIPE = VideoRecipe(
    batch=2,
    tubes=2,
    lengths=LENGTHS[2],
    run_in=1,
    moving_pictures=0.3,
    rate_warmup=0.1,
    rate_range=(100, 700),
    steps=2.0,
)
SCHEDULE = Schedule(1e-3, muon_learning_rate=2e-3, warmup_steps=20, ema_decay=0.98)


@dataclass(frozen=True)
class VideoArm:
    """One change of the base: fields of its recipe or of its tokenizer, the network, or what is done to it
    once built."""

    change: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    network: type[Ladder] = Ladder
    alter: Callable[[Ladder], None] | None = None
    seed: int = 0

    @property
    def tube_frames(self) -> int:
        """That tubes hold."""
        lengths = self.recipe.get("lengths", RECIPE.lengths)
        return next(frames for frames, shares in LENGTHS.items() if shares == lengths)


class Nothing(nn.Module):
    """In place of a stride's memory."""

    def forward(self, x_BHWD: Tensor, memory_BHWD: Tensor) -> Tensor:
        return torch.zeros_like(x_BHWD)


class Carried(nn.Module):
    """The memory where it has moved to, without attention to what is around."""

    def __init__(self, whole: MemoryAttention) -> None:
        super().__init__()
        self.norm_memory, self.carry = whole.norm_memory, whole.carry

    def forward(self, x_BHWD: Tensor, memory_BHWD: Tensor) -> Tensor:
        return self.carry(self.norm_memory(memory_BHWD))  # type: ignore[no-any-return]


class FrameByFrame(Ladder):
    """Each of a tube's two frames has features of its own at stride 8; they are merged on the way to 16."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        d8 = config.width[0]
        self.merge = nn.Linear(2 * d8, d8, bias=False)
        with torch.no_grad():
            self.merge.weight.copy_(torch.eye(d8).repeat(1, 2) / 2)

    def finest(self, ends: Ends, parts_BTCHW: Sequence[Tensor], bias: Tensor) -> Tensor:
        """See Ladder."""
        if ends.frames == 1:
            return super().finest(ends, parts_BTCHW, bias)
        pairs = zip(*(torch.split(part, 1, 1) for part in parts_BTCHW), strict=True)
        return self.merge(  # type: ignore[no-any-return]
            torch.cat([super(FrameByFrame, self).finest(ends, pair, bias) for pair in pairs], -1)
        )


class Several(nn.Module):
    """Attention to the features of several blocks, each with weights of its own."""

    def __init__(self, blocks: Iterable[MemoryAttention]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BHWD: Tensor, memory_BHWD: Tensor) -> Tensor:
        """memory_BHWD: of all blocks side by side, the last one first."""
        parts = zip(self.blocks, memory_BHWD.chunk(len(self.blocks), -1), strict=True)
        return torch.stack([block(x_BHWD, part) for block, part in parts]).sum(0)


class TwoBlocks(Ladder):
    """The memory holds the features of the last two blocks, moved twice and once."""

    BLOCKS = 2

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        for stride, width in zip(STRIDES, config.width, strict=True):
            attentions = (
                MemoryAttention(width, config.head_width, config.window) for _ in range(self.BLOCKS)
            )
            self.recall[str(stride)] = Several(attentions)

    def remembered(
        self, kept: Mapping[int, Tensor], frame_BCHW: Tensor, past: Mapping[int, Tensor]
    ) -> Memory:
        """See Ladder."""

        def with_older(stride: int) -> Tensor:
            x = kept[stride]
            older_BHWD = past[stride] if stride in past else x.repeat(1, 1, 1, self.BLOCKS)
            return torch.cat([x, older_BHWD], -1)[..., : self.BLOCKS * x.shape[-1]]

        return Memory(with_older(8), with_older(16), with_older(32), frame_BCHW)


class Unmoved(Memory):
    """A memory whose features stay where they were."""

    def moved(self, stride: int, moves_Bhw2: Tensor) -> Tensor:
        """See Memory."""
        return self[STRIDES.index(stride)]


class Cache(TwoBlocks):
    """A block-causal cache: attention to the features of the last four blocks, as they were."""

    BLOCKS = 4

    def remembered(
        self, kept: Mapping[int, Tensor], frame_BCHW: Tensor, past: Mapping[int, Tensor]
    ) -> Memory:
        """See Ladder."""
        return Unmoved(*super().remembered(kept, frame_BCHW, past))


def memory_at(strides: Collection[int], ladder: Ladder) -> None:
    """The memory's features at these strides alone; the moved frames stay."""
    for stride in ladder.recall:
        if int(stride) not in strides:
            ladder.recall[stride] = Nothing()


def without_attention(ladder: Ladder) -> None:
    """No attention to the memory."""
    for stride, whole in ladder.recall.items():
        assert isinstance(whole, MemoryAttention)
        ladder.recall[stride] = Carried(whole)


VIDEO_ARMS = {
    "tubes": VideoArm("tubes of 2 frames, seed 0"),
    "tubes-seed-1": VideoArm("the same, seed 1", seed=1),
    "frames-4": VideoArm("tubes of 4 frames", {"lengths": LENGTHS[4]}),
    "frames-1": VideoArm("tubes of 1 frame", {"lengths": LENGTHS[1]}),
    "frames-8": VideoArm("tubes of 8 frames", {"lengths": LENGTHS[8]}, {"tube_frames": 8}),
    "frame-by-frame": VideoArm("features at stride 8 of each frame, then merged", network=FrameByFrame),
    "memory-none": VideoArm("no features of the past, moved frames alone", alter=partial(memory_at, ())),
    "memory-16": VideoArm("features of the past at stride 16 alone", alter=partial(memory_at, (16,))),
    "memory-carried": VideoArm("features moved, no attention to them", alter=without_attention),
    "memory-two": VideoArm("features of the last two blocks", network=TwoBlocks),
    "cache-4": VideoArm("features of the last four blocks, not moved", network=Cache),
    "trained-1": VideoArm("loss on 1 tube", {"tubes": 1}),
    "trained-4": VideoArm("loss on 1 to 4 tubes", {"tubes": 4}),
    "run-in-0": VideoArm("no tubes before those trained", {"run_in": 0}),
    "future": VideoArm("the last tube's D 2.5 times", {"future": 1.5}),
    "moving-none": VideoArm("real clips alone", {"moving_pictures": 0.0}),
    "moving-all": VideoArm("moving pictures alone", {"moving_pictures": 1.0}),
    "noise-none": VideoArm("no noise on the memory", {"memory_noise": 0.0}),
    "steps-none": VideoArm("no loss on steps", {"steps": 0.0}),
}


def start(path: Path, arm: VideoArm) -> Ladder:
    """The arm's small tokenizer. Key frames are those of an arm `base`, its checkpoint; tubes begin so."""
    ladder = arm.network(replace(TOKENIZER, **arm.tokenizer))
    usual = ladder.state_dict()
    ema = load_checkpoint(path)["ema"]
    trained = {k: v for k, v in ema.items() if k in usual and not k.startswith("ends.tube.")}
    ladder.load_state_dict(usual | trained)
    ladder.inherit_tubes()
    return ladder


def video_task(
    arm: VideoArm, path: Path, clips: Sequence[np.ndarray], pictures: Sequence[np.ndarray]
) -> VideoTask:
    """What trains an arm. path: see `start`."""
    torch.manual_seed(arm.seed)
    ladder = start(path, arm)
    if arm.alter is not None:
        arm.alter(ladder)
    recipe = replace(RECIPE, **arm.recipe)
    length = 1 + (recipe.run_in + recipe.tubes) * arm.tube_frames
    real = ClipSampler(clips, recipe.crop, length)
    moving = MovingPictures(pictures, recipe.crop, length)
    sampler = MixedSampler(real, moving, recipe.moving_pictures)
    return VideoTask(ladder, sampler, recipe, torch.device("cpu"), arm.seed)
