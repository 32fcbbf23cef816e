"""Search for better bits in the encoder: J = D + lambda * R of the real decoder must fall with every step
kept.

# B = 1 · T frames of a block · C = 3 · H, W pixels or token grid · L bits per token

The gradient of J with respect to every bit predicts what flipping it would bring. The most promising flips,
at most one a token, are tried together; if J falls they stay, otherwise only half as many are tried. R is
the side prior's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.distortion import distortion, weights_for
from bsqcodec.tokenizer.ladder import Ladder, Memory

FIRST_SHARE = 0.04
"""Share of the tokens that the first try flips a bit of."""

TRIES_PER_EFFORT = 3


class Search:
    """The search for one block.

    frames_BTCHW: 0..1, padded. size: rows and columns that count. memory: as before the block.
    """

    def __init__(
        self,
        ladder: Ladder,
        kind: BlockKind,
        frames_BTCHW: Tensor,
        memory: Memory | None,
        log_lambda_B1: Tensor,
        size: tuple[int, int],
    ) -> None:
        self._ladder, self._kind, self._memory = ladder, kind, memory
        self._log_lambda, self._size = log_lambda_B1, size
        self._target = self._visible(frames_BTCHW)
        self._weights = weights_for(*size)

    def run(self, bits: list[Tensor], effort: int) -> list[Tensor]:
        """Bits at least as good as those given; the time grows linearly with effort."""
        best, share = bits, FIRST_SHARE
        cost, gains = self._cost(best)
        for _ in range(TRIES_PER_EFFORT * effort):
            tried = _flip(best, gains, share)
            tried_cost, tried_gains = self._cost(tried)
            if tried_cost < cost:
                best, cost, gains = tried, tried_cost, tried_gains
            else:
                share /= 2
        return best

    def _visible(self, frames_BTCHW: Tensor) -> Tensor:
        height, width = self._size
        return frames_BTCHW[..., :height, :width].flatten(0, 1).float()

    def _cost(self, bits: list[Tensor]) -> tuple[float, list[Tensor]]:
        """J, and for every bit how much flipping it should lower J, to first order."""
        leaves = [level.detach().float().requires_grad_() for level in bits]
        with torch.enable_grad():
            out = self._ladder(self._kind, self._log_lambda, bits=leaves, memory=self._memory, rated=True)
            y = self._visible(out.frames_BTCHW)
            lost_T, _ = distortion(y, self._target, self._weights)
            bpp = torch.stack(out.rate_bits_B).sum() / (y.shape[0] * y.shape[2] * y.shape[3])
            cost = lost_T.mean() + self._log_lambda.exp().squeeze() * bpp
            gradients = torch.autograd.grad(cost, leaves)
        gains = [(2 * b.detach() - 1) * g for b, g in zip(leaves, gradients, strict=True)]
        return float(cost.detach()), gains


def _flip(bits: list[Tensor], gains: list[Tensor], share: float) -> list[Tensor]:
    """Flip the best bit of the `share` most promising tokens over all levels, where anything is to be
    gained."""
    best = [level.max(-1) for level in gains]
    values = torch.cat([level.values.flatten() for level in best])
    count = max(1, round(share * values.numel()))
    threshold = max(float(values.topk(count).values[-1]), 0.0)
    flipped = []
    for level, (value, index) in zip(bits, best, strict=True):
        chosen = torch.zeros_like(level).scatter_(-1, index[..., None], 1.0)
        chosen = chosen * (value > threshold if threshold == 0.0 else value >= threshold)[..., None]
        flipped.append(torch.where(chosen > 0, 1 - level, level))
    return flipped
