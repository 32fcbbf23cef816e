"""Stage `video`: whole GOPs of one key frame and some tubes, the memory carried from block to block.

# B batch · T frames of a clip · C = 3 · H, W pixels
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import Ladder, Memory
from bsqtrain.clips import ClipSampler, MixedSampler
from bsqtrain.image import draw_conditions


@dataclass(frozen=True)
class VideoRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    tubes: most after the key frame; every batch has 1 to so many. moving_pictures: share of the clips that
    are pictures set in motion, where the data has pictures. freeze_key: train only what key frames do not
    use, so that their tokens, and a prior trained on them, stay as they are. memory_noise: relative, so that
    rounding errors do not grow.
    """

    batch: int = 2
    crop: int = 192
    tubes: int = 4
    moving_pictures: float = 0.4
    freeze_key: bool = True
    memory_noise: float = 0.02
    rate_warmup: float = 0.15
    full_levels: float = 0.9
    softness: float = 0.002
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    widen: tuple[float, float] = (1.0, 1.0)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class VideoObjective(nn.Module):
    """Clips -> loss, the mean over the blocks of D + lambda * bpp; lambda of key frames is lower, as it will
    be in the encoder."""

    def __init__(self, ladder: Ladder, recipe: VideoRecipe, device: torch.device) -> None:
        super().__init__()
        self.ladder, self.recipe, self.device = ladder, recipe, device
        self._key, self._tube = self._key_block, self._tube_block

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """One graph a kind of block, used again for every tube; none for key frames that are not trained."""
        if not self.recipe.freeze_key:
            self._key = torch.compile(self._key_block, *args, **kwargs)
        self._tube = torch.compile(self._tube_block, *args, **kwargs)

    def forward(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        frames = self.ladder.config.tube_frames
        with torch.set_grad_enabled(not self.recipe.freeze_key and torch.is_grad_enabled()):
            key_log_lambda_B1 = self.ladder.config.key_log_lambda(log_lambda_B1)
            loss, figures, memory = self._key(x_BTCHW[:, :1], key_log_lambda_B1, keep, warm)
        blocks = torch.split(x_BTCHW[:, 1:], frames, 1)
        if self.recipe.freeze_key:
            loss = loss.detach()
        for x_tube in blocks:
            lost, parts, memory = self._tube(x_tube, log_lambda_B1, keep, warm, memory)
            loss = loss + lost
            figures |= {name: figures.get(name, 0) + value / len(blocks) for name, value in parts.items()}
        return loss / (1 + len(blocks)), figures

    def _key_block(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        loss, bpp, _, memory = self._block(BlockKind.KEY, x_BTCHW, log_lambda_B1, keep, warm, None)
        return loss, {"key_bpp": bpp}, memory

    def _tube_block(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor, memory: Memory
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        noisy = Memory(
            self._disturbed(memory.at8),
            self._disturbed(memory.at16),
            self._disturbed(memory.at32),
            memory.frame,
        )
        loss, bpp, figures, memory = self._block(BlockKind.TUBE, x_BTCHW, log_lambda_B1, keep, warm, noisy)
        return loss, {"tube_bpp": bpp, **figures}, memory

    def _disturbed(self, x: Tensor) -> Tensor:
        return x + self.recipe.memory_noise * x.detach().abs().mean() * torch.randn_like(x)

    def _block(
        self,
        kind: BlockKind,
        x_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        memory: Memory | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Memory]:
        B, T, _, H, W = x_BTCHW.shape
        with half_precision(self.device):
            out = self.ladder(kind, log_lambda_B1, frames_BTCHW=x_BTCHW, memory=memory, keep=keep, rated=True)
        lost, figures = distortion(
            out.frames_BTCHW.flatten(0, 1), x_BTCHW.flatten(0, 1), self.recipe.distortion
        )
        bits_lB = torch.stack(out.rate_bits_B) * keep[:, None]
        bpp_B = bits_lB.sum(0) / (T * H * W)
        loss_B = lost.view(B, T).mean(1) + warm * log_lambda_B1.exp()[:, 0] * bpp_B
        return loss_B.mean() + self.recipe.softness * out.softness, bpp_B.mean(), figures, out.memory


class VideoTask:
    """Key frames and tubes."""

    def __init__(
        self,
        model: Ladder,
        sampler: ClipSampler | MixedSampler,
        recipe: VideoRecipe,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        if recipe.freeze_key:
            model.requires_grad_(False)
            for part in (model.ends[BlockKind.TUBE.label], model.recall):
                part.requires_grad_(True)
        self.config = model.config.to_dict()
        self.helper: nn.Module | None = None
        self.objective = VideoObjective(model, recipe, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Tensor, ...]:
        """A batch of clips, log lambda, levels kept, share of the rate term."""
        source = random.Random(f"{self.seed} {step} {rank}")
        frames = 1 + source.randint(1, self.recipe.tubes) * self.model.config.tube_frames
        x = self.sampler.draw(self.recipe.batch, source, frames)
        conditions = draw_conditions(self.model.config, self.recipe, source, progress)
        return tuple(t.to(self.device, non_blocking=True) for t in (x, *conditions))
