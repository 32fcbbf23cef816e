"""Stage `joint`: the tokenizer is trained with the rate of a prior's float twin in place of the side prior's.

# B batch · H, W pixels · L bits per token · l levels
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import DistortionWeights, distortion
from bsqcodec.machine import half_precision
from bsqcodec.prior.config import GROUPS
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import Ladder
from bsqtrain.image import draw_conditions
from bsqtrain.pictures import CropSampler
from bsqtrain.prior_twin import LOGIT_UNIT, LevelTwin, PriorTwin


@dataclass(frozen=True)
class JointRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    train_prior: the prior learns along; otherwise it stays as it is. side_rate: share of the rate term that
    the side prior keeps, since the encoder's search goes by it.
    """

    batch: int = 8
    crop: int = 256
    train_prior: bool = True
    side_rate: float = 0.1
    rate_warmup: float = 0.05
    full_levels: float = 0.85
    softness: float = 0.002
    rate_range: tuple[int, int] = (0, RATE_STEPS)
    widen: tuple[float, float] = (1.0, 1.0)
    distortion: DistortionWeights = field(default_factory=DistortionWeights)


class JointObjective(nn.Module):
    """Crops -> D + lambda * bpp of the prior, one random group of every level."""

    def __init__(self, ladder: Ladder, twin: PriorTwin, recipe: JointRecipe, device: torch.device) -> None:
        super().__init__()
        self.ladder, self.twin, self.recipe, self.device = ladder, twin, recipe, device

    def forward(
        self,
        x_BCHW: Tensor,
        log_lambda_B1: Tensor,
        keep: Tensor,
        warm: Tensor,
        rates_B: Tensor,
        groups_B: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """rates_B: the rate indices, of log_lambda_B1. groups_B: which group of positions counts."""
        with half_precision(self.device):
            out = self.ladder(
                BlockKind.KEY, log_lambda_B1, frames_BTCHW=x_BCHW[:, None], keep=keep, rated=True
            )
        y = out.frames_BTCHW[:, 0].float()
        lost_B, figures = distortion(y, x_BCHW, self.recipe.distortion)
        pixels = x_BCHW.shape[-1] * x_BCHW.shape[-2]
        weight_B = warm * log_lambda_B1.exp()[:, 0]
        # The prior learns all rates alike, the tokenizer by their weight.
        signs = [_weighted(2 * soft - 1, (1 - self.recipe.side_rate) * weight_B) for soft in out.soft_bits]
        bits_lB = torch.stack([self._rate(i, signs, rates_B, groups_B) for i in range(len(signs))])
        bpp_B = (bits_lB * keep[:, None]).sum(0) / pixels
        side_B = (torch.stack(out.rate_bits_B) * keep[:, None]).sum(0) / pixels
        rest = (lost_B + self.recipe.side_rate * weight_B * side_B).mean()
        rest = rest + self.recipe.softness * out.softness
        cost = (rest + ((1 - self.recipe.side_rate) * weight_B * bpp_B).mean()).detach()
        taught = rest + bpp_B.mean()
        loss = cost + (taught - taught.detach())
        return loss, {"bpp": bpp_B.mean(), "side_bpp": side_B.mean(), **figures}

    def _rate(self, index: int, signs: list[Tensor], rates_B: Tensor, groups_B: Tensor) -> Tensor:
        """Bits that a level costs, (B,), by one group of it; linear in the bits that are coded."""
        level: LevelTwin = self.twin.levels[index]  # type: ignore[assignment]
        logits_NL, target_NL = level.logits(signs, index, None, None, rates_B, groups_B)
        logits_NL = logits_NL * LOGIT_UNIT
        bits_NL = (F.softplus(logits_NL) - logits_NL * (target_NL + 1) / 2) * (target_NL != 0)
        return bits_NL.view(len(rates_B), -1).sum(1) * (GROUPS / math.log(2))


def _weighted(x_BHWL: Tensor, weight_B: Tensor) -> Tensor:
    """The same, but what flows back is multiplied by a weight for each sample."""
    scaled = x_BHWL * weight_B[:, None, None, None]
    return scaled + (x_BHWL - scaled).detach()


class JointTask:
    """Key frames and their prior."""

    def __init__(
        self,
        model: Ladder,
        twin: PriorTwin,
        sampler: CropSampler,
        recipe: JointRecipe,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        for part in (model.ends[BlockKind.TUBE.label], model.recall):
            part.requires_grad_(False)
        self.config = model.config.to_dict()
        self.twin = twin.to(device).requires_grad_(recipe.train_prior)
        self.helper: nn.Module | None = self.twin
        self.objective = JointObjective(model, self.twin, recipe, device)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Tensor, ...]:
        """See JointObjective."""
        source = random.Random(f"{self.seed} {step} {rank}")
        x = self.sampler.draw(self.recipe.batch, source)
        config = self.model.config
        log_lambda_B1, keep, warm = draw_conditions(config, self.recipe, source, progress)
        high, low = (math.log(end) for end in config.lambda_range)
        rates_B = ((high - log_lambda_B1[:, 0]) / (high - low) * RATE_STEPS).round().long()
        groups_B = torch.tensor([source.randrange(GROUPS) for _ in range(self.recipe.batch)])
        parts = (x, log_lambda_B1, keep, warm, rates_B, groups_B)
        return tuple(part.to(self.device, non_blocking=True) for part in parts)


def save_twin(path: Path, twin: PriorTwin) -> None:
    """Write a prior as the stage `prior` does, to go on from there."""
    part = path.with_name(path.name + ".part")
    state: dict[str, Any] = {
        "config": {"kind": twin.kind.label, "prior": twin.config.to_json()},
        "ema": {name: value.cpu() for name, value in twin.state_dict().items()},
    }
    torch.save(state, part)
    part.replace(path)
