"""Stage `image`: the ladder on crops of still pictures. Loss = D + lambda * bpp, lambda log-uniform per
sample."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.config import RATE_STEPS, TokenizerConfig
from bsqcodec.tokenizer.ladder import Ladder, log_lambdas
from bsqtrain.pictures import CropSampler


@dataclass(frozen=True)
class ImageRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    rate_range: rate indices drawn at first. widen: between these shares of the budget the range grows to the
    whole of 0..1000.
    """

    batch: int = 4
    crop: int = 256
    rate_warmup: float = 0.15
    full_levels: float = 0.85
    softness: float = 0.002
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    widen: tuple[float, float] = (1.0, 1.0)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class ConditionNumbers(Protocol):
    """What recipes of tokenizer stages have in common."""

    @property
    def batch(self) -> int: ...
    @property
    def rate_range(self) -> tuple[int, int]: ...
    @property
    def widen(self) -> tuple[float, float]: ...
    @property
    def rate_warmup(self) -> float: ...
    @property
    def full_levels(self) -> float: ...


def draw_conditions(
    config: TokenizerConfig, recipe: ConditionNumbers, source: random.Random, progress: float
) -> tuple[Tensor, Tensor, Tensor]:
    """log lambda of every sample (B, 1), levels kept (1 or 0 each), share of the rate term."""
    rates = [source.uniform(*_rates_at(recipe, progress)) for _ in range(recipe.batch)]
    log_lambda_B1 = log_lambdas(config, rates)
    levels = len(config.levels)
    kept = levels if source.random() < recipe.full_levels else source.randint(min(2, levels), levels)
    keep = torch.tensor([float(i < kept) for i in range(levels)])
    warm = torch.tensor(min(1.0, max(0.05, progress / recipe.rate_warmup)))
    return log_lambda_B1, keep, warm


def _rates_at(recipe: ConditionNumbers, progress: float) -> tuple[float, float]:
    """Range of the rate indices at a share of the budget."""
    start, end = recipe.widen
    grown = 0.0 if progress < start else min(1.0, (progress - start) / max(end - start, 1e-9))
    low, high = recipe.rate_range
    return low * (1 - grown), high + (RATE_STEPS - high) * grown


class ImageObjective(nn.Module):
    """Crops -> loss, with a random prefix of the levels kept."""

    def __init__(self, ladder: Ladder, recipe: ImageRecipe, device: torch.device) -> None:
        super().__init__()
        self.ladder, self.recipe, self.device = ladder, recipe, device

    def forward(
        self, x_BCHW: Tensor, log_lambda_B1: Tensor, keep: Tensor, warm: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        with half_precision(self.device):
            out = self.ladder(
                BlockKind.KEY, log_lambda_B1, frames_BTCHW=x_BCHW[:, None], keep=keep, rated=True
            )
        y = out.frames_BTCHW[:, 0].float()
        lost_B, figures = distortion(y, x_BCHW, self.recipe.distortion)
        bits_lB = torch.stack(out.rate_bits_B) * keep[:, None]
        bpp_B = bits_lB.sum(0) / (x_BCHW.shape[-1] * x_BCHW.shape[-2])
        loss = (
            lost_B + warm * log_lambda_B1.exp()[:, 0] * bpp_B
        ).mean() + self.recipe.softness * out.softness
        return loss, {"bpp": bpp_B.mean(), **figures}


class ImageTask:
    """Key frames alone."""

    def __init__(
        self, model: Ladder, sampler: CropSampler, recipe: ImageRecipe, device: torch.device, seed: int = 0
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        for part in (model.ends[BlockKind.TUBE.label], model.recall):
            part.requires_grad_(False)
        self.config = model.config.to_dict()
        self.helper: nn.Module | None = None
        self.objective = ImageObjective(model, recipe, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Tensor, ...]:
        """A batch of crops, log lambda, levels kept, share of the rate term."""
        source = random.Random(f"{self.seed} {step} {rank}")
        x = self.sampler.draw(self.recipe.batch, source)
        conditions = draw_conditions(self.model.config, self.recipe, source, progress)
        return tuple(t.to(self.device, non_blocking=True) for t in (x, *conditions))
