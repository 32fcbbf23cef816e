"""A discriminator of StyleGAN2's type (Karras et al. 2020), and the losses that it and its opponent lower.

# B pictures or clips · T frames of a clip · N = B * T · C channels · H, W pixels

Of clips it sees several frames at once: one convolution of every block, and the last layer, reach over them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.errors import InputError

MOST_CHANNELS = 512
COARSEST = 4
"""The last grid has this many rows and columns, or up to twice as many less one."""
SLOPE = 0.2
GROUP = 4
"""Pictures or clips of a batch whose spread is judged together."""


class EqualConvolution(nn.Module):
    """A convolution whose weights have unit variance and are scaled in use, so that all learn equally fast.

    down: blur by (1, 3, 3, 1) and keep every second row and column. frames: of a clip, where the convolution
    reaches over three of them; 1: a picture at a time.
    """

    taps: Tensor

    def __init__(
        self, inputs: int, outputs: int, side: int, *, down: bool = False, bias: bool = True, frames: int = 1
    ) -> None:
        super().__init__()
        self.frames = frames
        inputs *= 1 if frames == 1 else 3
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding, self.down = 1 / math.sqrt(inputs * side**2), side // 2, down
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("taps", taps[:, None] * taps / 64, persistent=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.frames > 1:
            x_NCHW = _with_neighbours(x_NCHW, self.frames)
        if self.down:
            # Even sides stay whole: H rows become H/2 after the convolution's stride or the blur's.
            x_NCHW = F.conv2d(
                x_NCHW,
                self.taps.expand(x_NCHW.shape[1], 1, -1, -1),
                stride=2 if self.padding == 0 else 1,
                padding=1 if self.padding == 0 else 2,
                groups=x_NCHW.shape[1],
            )
            if self.padding:
                return F.conv2d(x_NCHW, self.weight * self.scale, self.bias, stride=2)
        return F.conv2d(x_NCHW, self.weight * self.scale, self.bias, padding=self.padding)


def _with_neighbours(x_NCHW: Tensor, frames: int) -> Tensor:
    """The channels of the frame before, of the frame, and of the one after; 0 beyond the clip's ends."""
    padded = F.pad(x_NCHW.reshape(-1, frames, *x_NCHW.shape[1:]), (0, 0, 0, 0, 0, 0, 1, 1))
    return torch.cat([padded[:, start : start + frames] for start in range(3)], 2).flatten(0, 1)


def active(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance of its input."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


class ResidualBlock(nn.Module):
    """Two convolutions, the first over frames too, the second to half the size, beside a linear way past
    them."""

    def __init__(self, inputs: int, outputs: int, frames: int) -> None:
        super().__init__()
        self.first = EqualConvolution(inputs, inputs, 3, frames=frames)
        self.second = EqualConvolution(inputs, outputs, 3, down=True)
        self.past = EqualConvolution(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y: Tensor = active(self.second(active(self.first(x_NCHW))))
        past: Tensor = self.past(x_NCHW)
        return (y + past) / math.sqrt(2)


class Discriminator(nn.Module):
    """How real a picture, or a clip of some frames, of side x side pixels looks: one logit.

    channels: of a grid of one pixel; a grid of n x n pixels has channels / n of them, at most 512. InputError
    where the side is not 4 to 7 times a power of two.
    """

    def __init__(self, side: int, channels: int = 32768, frames: int = 1) -> None:
        super().__init__()
        halvings = int(math.log2(side / COARSEST)) if side >= COARSEST else 0
        last = side >> halvings
        if last << halvings != side or last < COARSEST:
            raise InputError(f"crops of {side} pixels, the discriminator needs 4 to 7 times a power of two")
        widths = [min(MOST_CHANNELS, channels // (side >> level)) for level in range(halvings + 1)]
        self.side, self.frames = side, frames
        self.from_pixels = EqualConvolution(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(*pair, frames) for pair in pairwise(widths))
        self.mix = EqualConvolution(widths[-1] + 1, widths[-1], 3)
        self.hidden = EqualConvolution(frames * widths[-1], widths[-1], last)
        self.logit = EqualConvolution(widths[-1], 1, 1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """(B,) logits of R'G'B' in 0..1."""
        x = active(self.from_pixels(x_BTCHW.flatten(0, 1) * 2 - 1))
        for block in self.blocks:
            x = block(x)
        x = active(self.mix(torch.cat([x, _spread(x, self.frames)], 1)))
        # All frames and the whole grid in one step: a linear layer.
        x = x.reshape(-1, self.frames * x.shape[1], *x.shape[2:])
        x = active(F.conv2d(x, self.hidden.weight * self.hidden.scale, self.hidden.bias))
        logits: Tensor = self.logit(x).flatten()
        return logits


def _spread(x_NCHW: Tensor, frames: int) -> Tensor:
    """One more channel: the standard deviation over groups of the batch, averaged; a batch of equal pictures
    gives itself away."""
    N, _, H, W = x_NCHW.shape
    B = N // frames
    size = math.gcd(B, GROUP)
    grouped = x_NCHW.float().reshape(size, B // size, -1)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean(1)
    each = deviation.repeat(size).repeat_interleave(frames)
    return each[:, None, None, None].expand(N, 1, H, W).to(x_NCHW.dtype)


def generator_loss(logits_B: Tensor) -> Tensor:
    """Non-saturating: -log sigmoid of the logits of pictures that should look real; a scalar."""
    return F.softplus(-logits_B).mean()


def discriminator_loss(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """-log sigmoid(real) - log sigmoid(-fake); a scalar."""
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def r1_penalty(discriminator: Discriminator, real_BTCHW: Tensor) -> Tensor:
    """Mean squared length of the logit's gradient at what is real (Mescheder et al. 2018); a scalar.

    In units of pictures in -1..1, as the weights that others publish are meant.
    """
    real_BTCHW = real_BTCHW.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real_BTCHW).sum(), real_BTCHW, create_graph=True)
    return (gradient / 2).square().flatten(1).sum(1).mean()
