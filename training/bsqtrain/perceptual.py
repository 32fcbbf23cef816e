"""Stage `perceptual`: what turns bits into pixels is trained to look real; key frames, or tubes.

# B batch · T frames of a clip, 1 for pictures · C = 3 · H, W pixels

Loss = D + LPIPS of every frame, where there is a backbone, + an adversarial term. The discriminator is
trained in the same step, on the pictures that the step has made anyway. It sees a clip as one, key frame and
all, so that frames which do not follow from each other give themselves away.
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
from bsqcodec.errors import InputError
from bsqcodec.machine import half_precision
from bsqcodec.metrics.lpips import Lpips
from bsqcodec.tokenizer.config import RATE_STEPS
from bsqcodec.tokenizer.ladder import Ends, Ladder, Level, Memory, log_lambdas
from bsqtrain.clips import ClipSampler, MixedSampler
from bsqtrain.discriminator import Discriminator, discriminator_loss, generator_loss, r1_penalty
from bsqtrain.pictures import CropSampler


@dataclass(frozen=True)
class PerceptualRecipe:
    """Numbers of the stage; the same names stand in the recipe file.

    frames: of a clip, a key frame and what whole tubes hold; 1: pictures. Clips train tubes alone: key frames
    stay as they are. moving_pictures: share of the clips that are pictures set in motion, where the data has
    pictures. lpips, adversarial, r1: weights of the terms. adversarial_warmup: share of the budget over which
    its term grows to its full weight. r1_every: steps between penalties, each of which then weighs as much as
    so many. channels: of the discriminator. keep_tokens: train only what comes after the last bits, so that
    tokens, and a prior trained on them, stay as they are (those of later tubes are chosen for what was shown
    before them, and so are of the same kind rather than the same); otherwise all of the decoder that key
    frames or tubes have to themselves, with the side prior's rate.
    """

    batch: int = 8
    crop: int = 256
    frames: int = 1
    moving_pictures: float = 0.3
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
    """Crops or clips -> loss of decoder and discriminator together; neither has a gradient in the other's
    terms."""

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
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, share: Tensor, penalised: bool, length: int = 1
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """share: of the adversarial term. penalised: whether this step has the penalty R1. length: of a tube,
        in frames."""
        y, loss, figures = self._decode(x_BTCHW, log_lambda_B1, length)
        shown = y.clamp(0, 1)
        if self.lpips is not None:
            first = 1 if self.recipe.frames > 1 else 0  # a clip's key frame is not trained
            with half_precision(self.device):
                lost = self.lpips.distance(x_BTCHW[:, first:].flatten(0, 1), shown[:, first:].flatten(0, 1))
            loss, figures["lpips"] = loss + self.recipe.lpips * lost.mean(), lost.mean()
        frozen = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        with half_precision(self.device):
            fooled = generator_loss(functional_call(self.discriminator, frozen, (shown,)).float())
            real, fake = self.discriminator(x_BTCHW).float(), self.discriminator(shown.detach()).float()
        loss = loss + share * self.recipe.adversarial * fooled + discriminator_loss(real, fake)
        if penalised:
            penalty = r1_penalty(self.discriminator, x_BTCHW)
            loss = loss + self.recipe.r1 / 2 * self.recipe.r1_every * penalty
        figures |= {"adversarial": fooled, "real_logit": real.mean(), "fake_logit": fake.mean()}
        return loss, figures

    def _decoded(
        self, x_BTCHW: Tensor, log_lambda_B1: Tensor, length: int
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Decoded frames, D of those trained (with the rate where it can change), figures."""
        if self.recipe.frames == 1:
            return self._block(BlockKind.KEY, x_BTCHW, log_lambda_B1, None)[:3]
        with torch.no_grad():
            key_log_lambda_B1 = self.ladder.config.key_log_lambda(log_lambda_B1)
            key, _, _, memory = self._block(BlockKind.KEY, x_BTCHW[:, :1], key_log_lambda_B1, None)
        tubes = torch.split(x_BTCHW[:, 1:], length, 1)
        shown, loss, figures = [key], torch.zeros((), device=self.device), dict[str, Tensor]()
        for frames_BTCHW in tubes:
            y, lost, parts, memory = self._block(BlockKind.TUBE, frames_BTCHW, log_lambda_B1, memory)
            shown.append(y)
            loss = loss + lost / len(tubes)
            figures = {name: figures.get(name, 0) + value / len(tubes) for name, value in parts.items()}
        return torch.cat(shown, 1), loss, figures

    def _block(
        self, kind: BlockKind, x_BTCHW: Tensor, log_lambda_B1: Tensor, memory: Memory | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Memory]:
        B, T, _, H, W = x_BTCHW.shape
        rated = not self.recipe.keep_tokens
        with half_precision(self.device):
            out = self.ladder(kind, log_lambda_B1, frames_BTCHW=x_BTCHW, memory=memory, rated=rated)
        y = out.frames_BTCHW.float()
        lost, figures = distortion(y.flatten(0, 1), x_BTCHW.flatten(0, 1), self.recipe.distortion)
        lost_B, figures["distortion"] = lost.view(B, T).mean(1), lost.mean()
        if rated:
            bpp_B = torch.stack(out.rate_bits_B).sum(0) / (T * H * W)
            lost_B, figures["bpp"] = lost_B + log_lambda_B1.exp()[:, 0] * bpp_B, bpp_B.mean()
        return y, lost_B.mean(), figures, out.memory


class PerceptualTask:
    """Key frames, or tubes where the recipe has more than one frame; the encoder stays as it is."""

    def __init__(
        self,
        model: Ladder,
        sampler: CropSampler | ClipSampler | MixedSampler,
        recipe: PerceptualRecipe,
        device: torch.device,
        lpips: Lpips | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.sampler, self.recipe, self.device, self.seed = model, sampler, recipe, device, seed
        if (recipe.frames - 1) % (longest := model.config.tube_frames):
            raise InputError(f"frames = {recipe.frames}: expected 1, or a key frame and tubes of {longest}")
        model.requires_grad_(False)
        kind = BlockKind.TUBE if recipe.frames > 1 else BlockKind.KEY
        for part in decoder_parts(model, kind, recipe.keep_tokens):
            part.requires_grad_(True)
        self.config = model.config.to_dict()
        discriminator = Discriminator(recipe.crop, recipe.channels, recipe.frames).to(device)
        self.helper: nn.Module | None = discriminator
        self.objective = PerceptualObjective(model, discriminator, recipe, device, lpips)

    def batch(self, step: int, rank: int, progress: float) -> tuple[Any, ...]:
        """A batch of crops or clips, log lambda, share of the adversarial term, whether R1 is due; frames of
        a tube, which at all rates of a batch are equal."""
        source = random.Random(f"{self.seed} {step} {rank}")
        config, recipe = self.model.config, self.recipe
        x = self.sampler.draw(recipe.batch, source)
        x = x[:, None] if recipe.frames == 1 else x
        rates = [source.uniform(*recipe.rate_range)]
        length = config.tube_length(int(rates[0]))
        while len(rates) < recipe.batch:
            rate = source.uniform(*recipe.rate_range)
            if recipe.frames == 1 or config.tube_length(int(rate)) == length:
                rates.append(rate)
        log_lambda_B1 = log_lambdas(config, rates)
        share = torch.tensor(min(1.0, progress / max(recipe.adversarial_warmup, 1e-9)))
        placed = [t.to(self.device, non_blocking=True) for t in (x, log_lambda_B1, share)]
        return (*placed, step % recipe.r1_every == 0, length)


def decoder_parts(ladder: Ladder, kind: BlockKind, keep_tokens: bool) -> list[nn.Module]:
    """What decoding a key frame runs, or what decoding a tube runs that key frames do not; with keep_tokens,
    what runs after the last level's bits."""
    ends: Ends = ladder.ends[kind.label]  # type: ignore[assignment]
    after: list[nn.Module] = [ends.decode8, ends.head]
    if keep_tokens:
        return after
    levels: list[Level] = list(ends.levels)  # type: ignore[arg-type]
    parts = [part for level in levels for part in (level.embed, level.norm, level.side)]
    own = [*after, ends.refine8, *parts]
    if ends.see is not None:
        return [*own, ends.see, ladder.recall]
    return [*own, ladder.decoder_rate, ladder.decode32, ladder.up16, ladder.decode16, ladder.up8]
