"""Generating tokens in a few steps: guess all that is masked, keep what is surest, mask the rest again.

# B batch · N positions of a picture · G groups of bits per token · V values of a group
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bsqcodec.errors import InputError
from bsqcodec.generator.masked_lm import MASKED, MaskedLm


@dataclass(frozen=True)
class SamplingOptions:
    """How to generate. The defaults are the paper's.

    temperature: of the choice which guesses are kept; falls to 0 with the steps. guidance: alpha in
    uncond + (1 + alpha) (cond - uncond).
    """

    steps: int = 12
    temperature: float = 15.0
    guidance: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1 or self.temperature < 0 or not math.isfinite(self.temperature + self.guidance):
            raise InputError(
                f"{self.steps} steps, temperature {self.temperature:g}, guidance {self.guidance:g}: "
                "expected at least one step, a temperature from 0 on and a finite guidance"
            )


def masked_share(progress: float) -> float:
    """The share of the positions that is masked at a progress 0..1: a quarter of a cosine."""
    return math.cos(math.pi / 2 * progress)


@torch.inference_mode()
def generate(model: MaskedLm, label_B: Tensor, options: SamplingOptions, random: torch.Generator) -> Tensor:
    """Codes (B, N, G) of new pictures of the classes label_B (len(classes) = of any class).

    A generator in the same state gives the same pictures on the same machine.
    """
    B, N, G = len(label_B), model.config.positions, len(model.config.groups)
    codes_BNG = torch.full((B, N, G), MASKED, device=label_B.device)
    for step in range(1, options.steps + 1):
        hidden_BN = codes_BNG[..., 0] == MASKED
        guess_BNG, sure_BN = _guess(model, codes_BNG, label_B, options.guidance, random)
        codes_BNG = torch.where(hidden_BN[..., None], guess_BNG, codes_BNG)
        noise_BN = -(-torch.rand(B, N, generator=random, device=label_B.device).clamp_min(1e-20).log()).log()
        heat = options.temperature * (1 - step / options.steps)
        sure_BN = torch.where(hidden_BN, sure_BN + heat * noise_BN, math.inf)  # what is known stays
        masked = min(int(N * masked_share(step / options.steps)), int(hidden_BN[0].sum()) - 1)
        if masked > 0:
            again_BM = sure_BN.topk(masked, largest=False).indices
            codes_BNG.scatter_(1, again_BM[..., None].expand(-1, -1, G), MASKED)
    return codes_BNG


def _guess(
    model: MaskedLm, codes_BNG: Tensor, label_B: Tensor, guidance: float, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A guess for every position, (B, N, G), and the logarithm of its probability, (B, N)."""
    logits = model(codes_BNG, label_B)
    if guidance:
        free = model(codes_BNG, torch.full_like(label_B, model.no_class))
        logits = [u + (1 + guidance) * (c - u) for c, u in zip(logits, free, strict=True)]
    guesses = []
    sure_BN = torch.zeros(codes_BNG.shape[:2], device=codes_BNG.device)
    for logits_BNV in logits:
        chances_BNV = logits_BNV.float().softmax(-1)
        guess_BN = torch.multinomial(chances_BNV.flatten(0, 1), 1, generator=random).view(sure_BN.shape)
        sure_BN = sure_BN + chances_BNV.gather(-1, guess_BN[..., None])[..., 0].clamp_min(1e-20).log()
        guesses.append(guess_BN)
    return torch.stack(guesses, -1), sure_BN
