"""Fill a token cache: what a frozen tokenizer makes of random crops of files, at random rates."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.machine import half_precision
from bsqcodec.tokenizer.config import KEY_RATE_BONUS, RATE_STEPS
from bsqcodec.tokenizer.ladder import Ladder, Memory, log_lambdas
from bsqtrain.clips import ClipSampler
from bsqtrain.pictures import CropSampler
from bsqtrain.tokens import Clip


@dataclass(frozen=True)
class Tokeniser:
    """A frozen tokenizer on a device."""

    ladder: Ladder
    device: torch.device

    def clips(self, x_BTCHW: Tensor, rates: list[int]) -> list[Clip]:
        """Tokens of whole GOPs: a key frame, then tubes of one of the lengths that the rate leaves a choice
        of: which one, the rate's remainder says; a third of them with vectors in quarters of a pixel. One
        rate a sample: of a key frame alone, or of the tubes, where the key frame's is KEY_RATE_BONUS
        above."""
        found: dict[int, Clip] = {}
        choices = [self.ladder.config.tube_choices(rate) for rate in rates]
        forms = [
            TubeForm(some[rate % len(some)], quarters=rate // len(some) % 3 == 0)
            for some, rate in zip(choices, rates, strict=True)
        ]
        for form in set(forms):
            which = [i for i, each in enumerate(forms) if each == form]
            coded = self._clips(x_BTCHW[which], [rates[i] for i in which], form)
            found |= dict(zip(which, coded, strict=True))
        return [found[i] for i in range(len(rates))]

    @torch.no_grad()
    def _clips(self, x_BTCHW: Tensor, rates: list[int], form: TubeForm) -> list[Clip]:
        """Of samples whose tubes are of one form."""
        config = self.ladder.config
        x = x_BTCHW.to(self.device)
        blocks = [x[:, :1], *(torch.split(x[:, 1:], form.frames, 1) if x.shape[1] > 1 else ())]
        bonus = KEY_RATE_BONUS if len(blocks) > 1 else 0
        key_rates = [min(RATE_STEPS, rate + bonus) for rate in rates]
        key_log_lambda, log_lambda = (log_lambdas(config, each, self.device) for each in (key_rates, rates))
        memory: Memory | None = None
        coded: list[list[Tensor]] = []
        for number, block in enumerate(blocks):
            with half_precision(self.device):
                out = self.ladder(
                    BlockKind.TUBE if number else BlockKind.KEY,
                    log_lambda if number else key_log_lambda,
                    frames_BTCHW=block,
                    memory=memory,
                    form=form,
                    synthesise=len(blocks) > 1,
                )
            memory = out.memory
            coded.append([bits.to(torch.uint8).cpu() for bits in out.bits])
        return [
            Clip.from_bits(key_rate, rate, [[bits[number].numpy() for bits in block] for block in coded])
            for number, (key_rate, rate) in enumerate(zip(key_rates, rates, strict=True))
        ]


def sample(
    clips_of: Callable[[Tensor, list[int]], list[Clip]],
    sampler: CropSampler | ClipSampler,
    count: int,
    seed: int,
    batch: int = 4,
    say: Callable[[str], None] = print,
) -> list[Clip]:
    """count samples of a tokeniser (its method `clips`), rates uniform in 0..1000."""
    source = random.Random(seed)
    found: list[Clip] = []
    while len(found) < count:
        x = sampler.draw(min(batch, count - len(found)), source)
        rates = [source.randint(0, RATE_STEPS) for _ in range(len(x))]
        found += clips_of(x if x.ndim == 5 else x[:, None], rates)
        if len(found) // 200 != (len(found) - len(x)) // 200:
            say(f"{len(found)} of {count} samples")
    return found
