"""Stage `perceptual`: what turns bits into pixels is trained to look real; key frames.

# B batch · C = 3 · H, W pixels

Loss = D + LPIPS, where there is a backbone, + an adversarial term. The discriminator is trained in the same
step, on the pictures that the step has made anyway.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.metrics.lpips import Lpips
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import Ends, Ladder, Level, log_lambdas
from bsqtrain.discriminator import Discriminator, discriminator_loss, generator_loss, r1_penalty
from bsqtrain.pictures import CropSampler


@dataclass(frozen=True)
class PerceptualRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    lpips, adversarial, r1: weights of the terms. adversarial_warmup: share of the budget over which its term
    grows to its full weight. r1_every: steps between penalties, each of which then weighs as much as so many.
    channels: of the discriminator. keep_tokens: train only what comes after the last bits, so that tokens,
    and a prior trained on them, stay as they are; otherwise all of the decoder, with the side prior's rate.
    """

    batch: int = 8
    crop: int = 256
    lpips: float = 1.0
    adversarial: float = 0.02
    adversarial_warmup: float = 0.1
    r1: float = 10.0
    r1_every: int = 16
    channels: int = 4096
    keep_tokens: bool = True
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class PerceptualObjective(nn.Module):
    """Crops -> loss of decoder and discriminator together; neither has a gradient in the other's terms."""

    def __init__(
        self,
        ladder: Ladder,
        discriminator: Discriminator,
        recipe: PerceptualRecipe,
        device: torch.device,
        lpips: Lpips | None,
    ) -> None:
        super().__init__()
        self.ladder, self.discriminator, self.recipe = ladder, discriminator, recipe
        self.device, self.lpips = device, lpips
        self._decode = self._decoded

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """The tokenizer alone: a penalty on gradients has gradients of gradients."""
        self._decode = torch.compile(self._decoded, *args, **kwargs)

    def forward(
        self, x_BCHW: Tensor, log_lambda_B1: Tensor, share: Tensor, penalised: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """share: of the adversarial term. penalised: whether this step has the penalty R1."""
        y, loss, figures = self._decode(x_BCHW, log_lambda_B1)
        shown = y.clamp(0, 1)
        if self.lpips is not None:
            with half_precision(self.device):
                lost = self.lpips.distance(x_BCHW, shown).mean()
            loss, figures["lpips"] = loss + self.recipe.lpips * lost, lost
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        with half_precision(self.device):
            fooled = generator_loss(functional_call(self.discriminator, frozen, (shown,)).float())
            real, fake = self.discriminator(x_BCHW).float(), self.discriminator(shown.detach()).float()
        loss = loss + share * self.recipe.adversarial * fooled + discriminator_loss(real, fake)
        if penalised:
            penalty = r1_penalty(self.discriminator, x_BCHW)
            loss = loss + self.recipe.r1 / 2 * self.recipe.r1_every * penalty
        figures |= {"adversarial": fooled, "real_logit": real.mean(), "fake_logit": fake.mean()}
        return loss, figures

    def _decoded(self, x_BCHW: Tensor, log_lambda_B1: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Decoded pictures, D (with the rate where it can change), figures."""
        rated = not self.recipe.keep_tokens
        with half_precision(self.device):
            out = self.ladder(BlockKind.KEY, log_lambda_B1, frames_BTCHW=x_BCHW[:, None], rated=rated)
        y = out.frames_BTCHW[:, 0].float()
        lost_B, figures = distortion(y, x_BCHW, self.recipe.distortion)
        figures["distortion"] = lost_B.mean()
        if rated:
            bpp_B = torch.stack(out.rate_bits_B).sum(0) / (x_BCHW.shape[-1] * x_BCHW.shape[-2])
            lost_B, figures["bpp"] = lost_B + log_lambda_B1.exp()[:, 0] * bpp_B, bpp_B.mean()
        return y, lost_B.mean(), figures


class PerceptualTask:
    """Key frames; the encoder stays as it is."""

    def __init__(
        self,
        model: Ladder,
        sampler: CropSampler,
        recipe: PerceptualRecipe,
        device: torch.device,
        lpips: Lpips | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        model.requires_grad_(False)
        for part in decoder_parts(model, recipe.keep_tokens):
            part.requires_grad_(True)
        self.config = model.config.to_dict()
        discriminator = Discriminator(recipe.crop, recipe.channels).to(device)
        self.helper: nn.Module | None = discriminator
        self.objective = PerceptualObjective(model, discriminator, recipe, device, lpips)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """A batch of crops, log lambda, share of the adversarial term, whether R1 is due."""
        source = random.Random(f"{self.seed} {step} {rank}")
        x = self.sampler.draw(self.recipe.batch, source)
        rates = [source.uniform(*self.recipe.rate_range) for _ in range(self.recipe.batch)]
        log_lambda_B1 = log_lambdas(self.model.config, rates)
        share = torch.tensor(min(1.0, progress / max(self.recipe.adversarial_warmup, 1e-9)))
        placed = [t.to(self.device, non_blocking=True) for t in (x, log_lambda_B1, share)]
        return (*placed, step % self.recipe.r1_every == 0)


def decoder_parts(ladder: Ladder, keep_tokens: bool) -> list[nn.Module]:
    """What decoding a key frame runs; with keep_tokens, what it runs after the last level's bits."""
    ends: Ends = ladder.ends[BlockKind.KEY.label]  # type: ignore[assignment]
    after: list[nn.Module] = [ends.decode8, ends.head]
    if keep_tokens:
        return after
    shared = (ladder.decoder_rate, ladder.decode32, ladder.up16, ladder.decode16, ladder.up8, ends.refine8)
    levels: list[Level] = list(ends.levels)  # type: ignore[arg-type]
    return [*after, *shared, *(part for level in levels for part in (level.embed, level.norm, level.side))]
