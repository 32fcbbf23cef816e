"""Stage `video`: whole GOPs of one key frame and some tubes, the memory carried from block to block.

# B batch · T frames of a clip · C = 3 · H, W pixels
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import BlockOutput, Ladder, Memory, log_lambdas
from bsqtrain.clips import ClipSampler, MixedSampler
from bsqtrain.image import draw_conditions
from bsqtrain.pictures import CropSampler


@dataclass(frozen=True)
class VideoRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    tubes: most after the key frame; every batch has 1 to so many. lengths: shares of the batches by how many
    frames a tube holds, most first (see `TokenizerConfig.tube_lengths`); length_rates: rate_range of each,
    where they differ. run_in: at most so many tubes before those, coded but not trained, so that tubes also
    see what a memory is like that has been going on for long. future: how much more the distortion of the
    last tube counts, for those that would draw on it: without, tubes of short clips learn to save bits that
    the ones after them would live on. moving_pictures: share of the clips that
    are pictures set in motion, where the data has pictures. freeze_key: train only what key frames do not
    use, so that their tokens, and a prior trained on them, stay as they are. stills: crops of pictures beside
    every batch of clips, still_crop pixels along a side, of all rates, for key frames that are to stay good.
    memory_noise: relative, so that rounding errors do not grow. steps: weight of the squared error of the
    steps from frame to frame, against flicker.
    """

    batch: int = 2
    crop: int = 192
    tubes: int = 4
    lengths: tuple[float, ...] = (1.0,)
    length_rates: tuple[tuple[int, int], ...] = ()
    run_in: int = 0
    future: float = 0.0
    moving_pictures: float = 0.4
    freeze_key: bool = True
    stills: int = 0
    still_crop: int = 256
    memory_noise: float = 0.02
    steps: float = 0.0
    rate_warmup: float = 0.15
    full_levels: float = 0.9
    softness: float = 0.002
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    widen: tuple[float, float] = (1.0, 1.0)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class VideoObjective(nn.Module):
    """Clips -> loss, the mean over the blocks of D + lambda * bpp; lambda of key frames is lower, as it will
    be in the encoder. Stills count as much as clips."""

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
        self,
        x_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        frames: int,
        run_in: int,
        stills_BTCHW: Tensor | None = None,
        stills_log_lambda_B1: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """frames: of a tube. run_in: tubes that are not trained. stills_BTCHW: T = 1."""
        with torch.set_grad_enabled(not self.recipe.freeze_key and torch.is_grad_enabled()):
            key_log_lambda_B1 = self.ladder.config.key_log_lambda(log_lambda_B1)
            loss, figures, memory = self._key(x_BTCHW[:, :1], key_log_lambda_B1, keep, warm)
        blocks = x_BTCHW.unfold(1, 1 + frames, frames).movedim(-1, 2).unbind(1)  # with the frame before
        if self.recipe.freeze_key:
            loss = loss.detach()
        with torch.no_grad():
            for block in blocks[:run_in]:
                _, _, memory = self._tube(block, log_lambda_B1, keep, warm, memory)
        blocks = blocks[run_in:]
        for number, block in enumerate(blocks, 1):
            # D counts once more for the tubes to come, its rate does not.
            weight = 1 + self.recipe.future * (number == len(blocks))
            lost, parts, memory = self._tube(block, log_lambda_B1, keep, warm / weight, memory)
            loss = loss + weight * lost
            figures |= {name: figures.get(name, 0) + value / len(blocks) for name, value in parts.items()}
        loss = loss / (1 + len(blocks))
        if stills_BTCHW is not None and stills_log_lambda_B1 is not None:
            lost, parts, _ = self._key(stills_BTCHW, stills_log_lambda_B1, keep, torch.ones_like(warm))
            loss = loss + lost
            figures |= {"still_bpp": parts["key_bpp"], "still_loss": lost.detach()}
        return loss, figures

    def _key_block(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        loss, bpp, _, out = self._block(BlockKind.KEY, x_BTCHW, log_lambda_B1, keep, warm, None)
        return loss, {"key_bpp": bpp}, out.memory

    def _tube_block(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor, memory: Memory
    ) -> tuple[Tensor, dict[str, Tensor], Memory]:
        """x_BTCHW: of the tube, after the frame before it."""
        noisy = memory._replace(
            at8=self._disturbed(memory.at8),
            at16=self._disturbed(memory.at16),
            at32=self._disturbed(memory.at32),
        )
        x_tube = x_BTCHW[:, 1:]
        loss, bpp, figures, out = self._block(BlockKind.TUBE, x_tube, log_lambda_B1, keep, warm, noisy)
        shown = torch.cat([memory.frame[:, None], out.frames_BTCHW], 1)
        steps = (shown - x_BTCHW).diff(dim=1).square().mean()
        figures |= {"tube_bpp": bpp, "steps_mse": steps.detach()}
        return loss + self.recipe.steps * steps, figures, out.memory

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
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], BlockOutput]:
        B, T, _, H, W = x_BTCHW.shape
        with half_precision(self.device):
            out: BlockOutput = self.ladder(
                kind, log_lambda_B1, frames_BTCHW=x_BTCHW, memory=memory, keep=keep, rated=True
            )
        lost, figures = distortion(
            out.frames_BTCHW.flatten(0, 1), x_BTCHW.flatten(0, 1), self.recipe.distortion
        )
        bits_lB = torch.stack(out.rate_bits_B) * keep[:, None]
        bpp_B = bits_lB.sum(0) / (T * H * W)
        loss_B = lost.view(B, T).mean(1) + warm * log_lambda_B1.exp()[:, 0] * bpp_B
        return loss_B.mean() + self.recipe.softness * out.softness, bpp_B.mean(), figures, out


class VideoTask:
    """Key frames and tubes."""

    def __init__(
        self,
        model: Ladder,
        sampler: ClipSampler | MixedSampler,
        recipe: VideoRecipe,
        device: torch.device,
        seed: int = 0,
        stills: CropSampler | None = None,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        self.stills = stills
        if recipe.freeze_key:
            model.requires_grad_(False)
            for part in (model.ends[BlockKind.TUBE.label], model.recall):
                part.requires_grad_(True)
        self.config = model.config.to_dict()
        self.helper: nn.Module | None = None
        self.objective = VideoObjective(model, recipe, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """A batch of clips, log lambda, levels kept, share of the rate term, frames of a tube, tubes that are
        not trained; stills and their log lambda."""
        source = random.Random(f"{self.seed} {step} {rank}")
        recipe, config = self.recipe, self.model.config
        which = source.choices(range(len(recipe.lengths)), recipe.lengths)[0]
        frames = config.tube_lengths[which]
        run_in = source.randint(0, recipe.run_in)
        x = self.sampler.draw(recipe.batch, source, 1 + (run_in + source.randint(1, recipe.tubes)) * frames)
        rated = replace(recipe, rate_range=recipe.length_rates[which]) if recipe.length_rates else recipe
        parts: list[Any] = [x, *draw_conditions(config, rated, source, progress), frames, run_in]
        if self.stills is not None:
            count = recipe.stills
            rates = [source.uniform(0, RATE_STEPS) for _ in range(count)]
            parts.append(self.stills.draw(count, source)[:, None])
            parts.append(log_lambdas(config, rates))
        return tuple(
            part.to(self.device, non_blocking=True) if isinstance(part, Tensor) else part for part in parts
        )
