"""Layers of the float twin: the integer prior's operators with gradients, with or without their roundings.

    # B batch · h, w cells of a level · D width

Values are in the integer prior's units throughout.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsqcodec.prior.config import LevelPriorConfig
from bsqcodec.prior.head import HIDDEN_SCALE
from bsqcodec.prior.integer import (
    ACTIVATION_LIMIT,
    ACTIVATION_MEAN,
    MASK,
    NORM_FLOOR,
    NORM_SHIFT,
    RESIDUAL_LIMIT,
    SCORE_SCALE,
    SOFTMAX_SHIFT,
    multiplier,
)
from bsqcodec.prior.windows import Tiling, relative_positions

# One unit of an integer in real terms: what initial weights of usual size are scaled by.
SIGN_UNIT = 1.0
ACTIVATION_UNIT = 1 / ACTIVATION_MEAN
RESIDUAL_UNIT = 1 / 128
HIDDEN_UNIT = 1 / 16
STATE_UNIT = HIDDEN_UNIT * HIDDEN_SCALE
EXP2_PEAK = 1023
EXP2_OCTAVE = 32
STEPS_PER_NAT = EXP2_OCTAVE / math.log(2)


def exp2_table() -> Tensor:
    """256 weights of attention: 1023 * 2**(-i / 32), 0 at the end."""
    table = torch.tensor([round(EXP2_PEAK * 2 ** (-i / EXP2_OCTAVE)) for i in range(256)])
    table[255] = 0
    return table


class _Through(torch.autograd.Function):
    """The exact value forward, the gradient of the smooth one backward."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, smooth: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def through(exact: Tensor, smooth: Tensor) -> Tensor:
    """exact, with the gradient of smooth."""
    result: Tensor = _Through.apply(exact.detach(), smooth)  # type: ignore[no-untyped-call]
    return result


def split_multiplier(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissa (15 bits) and exponent of positive factors, rounded."""
    fraction, exponent = torch.frexp(scale.double())
    mantissa = (fraction * (1 << 15)).round()
    over = mantissa == 1 << 15
    mantissa = torch.where(over, mantissa / 2, mantissa)
    return mantissa, exponent.to(torch.int64) - 15 + over.to(torch.int64)


class Rounding(nn.Module):
    """Base of all parts: whether roundings are applied."""

    quantised: bool = False

    def round(self, x: Tensor) -> Tensor:
        return through(x.round(), x) if self.quantised else x

    def floor(self, x: Tensor) -> Tensor:
        return through(x.floor(), x) if self.quantised else x


class Scaled(Rounding):
    """int8 weights with one multiplier per output: last dimension in, the others out."""

    def __init__(self, *shape: int, unit_in: float, unit_out: float, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) * gain / math.sqrt(shape[-1]))
        self.ratio = unit_in / unit_out

    def scale(self) -> Tensor:
        """What one step of the int8 weights stands for."""
        return self.weight.detach().abs().amax(-1).clamp_min(1e-6) / 127

    def parts(self) -> tuple[Tensor, Tensor]:
        """Weights in integers (or on their way there) and the multiplier per output."""
        scale = self.scale()
        weight = self.weight / scale[..., None]
        if not self.quantised:
            return weight, scale * self.ratio
        mantissa, exponent = split_multiplier(scale * self.ratio)
        return through(weight.round(), weight), torch.ldexp(mantissa, exponent).float()

    def forward(self, x: Tensor) -> Tensor:
        """Rounded, not clamped."""
        if not self.quantised:
            return F.linear(x, self.weight * self.ratio)
        weight, multiplier = self.parts()
        return self.round(F.linear(x, weight) * multiplier)

    def export(self, name: str) -> dict[str, Tensor]:
        mantissa, exponent = split_multiplier(self.scale() * self.ratio)
        weight = (self.weight / self.scale()[..., None]).round()
        return {
            f"{name}.weight": weight.to(torch.int8),
            f"{name}.mantissa": mantissa.to(torch.int16),
            f"{name}.exponent": exponent.to(torch.int8),
        }

    def restore(self, tensors: Mapping[str, Tensor], name: str) -> None:
        """The inverse of `export`, up to its roundings."""
        factor = multiplier(tensors[f"{name}.mantissa"], tensors[f"{name}.exponent"]) / self.ratio
        self.weight.copy_(tensors[f"{name}.weight"].float() * factor[..., None])


def bounded(x: Tensor) -> Tensor:
    """The residual's range is hardly ever reached: gradients pass."""
    return through(x.detach().clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT), x)


def limited(x: Tensor, low: int = -ACTIVATION_LIMIT) -> Tensor:
    """Clamped to the range of activations; the gradient of hardtanh is one operation, that of clamp is
    four.
    """
    return F.hardtanh(x, low, ACTIVATION_LIMIT)


class Normalise(Rounding):
    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        total = x.abs().sum(-1, keepdim=True).clamp_min(NORM_FLOOR * width)
        scale = ACTIVATION_MEAN * width / total
        if self.quantised:
            with torch.no_grad():
                exact = (ACTIVATION_MEAN * width * 2.0**NORM_SHIFT / total.double()).floor().float()
                exact *= 2.0**-NORM_SHIFT
            scale = through(exact, scale)
        return limited(self.round(x * scale))


@lru_cache(maxsize=64)
def _hidden_keys(tiling: Tiling, device: torch.device) -> Tensor | None:
    hidden = tiling.hidden_keys()
    return None if hidden is None else hidden.to(device)


class Attention(Rounding):
    exp2: Tensor
    relative: Tensor

    def __init__(self, config: LevelPriorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.qkv = Scaled(3 * width, width, unit_in=ACTIVATION_UNIT, unit_out=ACTIVATION_UNIT)
        self.out = Scaled(width, width, unit_in=ACTIVATION_UNIT, unit_out=RESIDUAL_UNIT, gain=0.2)
        self.position = nn.Parameter(torch.zeros(config.heads, (2 * config.window - 1) ** 2))
        self.register_buffer("exp2", exp2_table().float(), persistent=False)
        self.register_buffer("relative", relative_positions(config.window), persistent=False)

    def position_steps(self) -> Tensor:
        return (self.position * STEPS_PER_NAT).clamp(-32767, 32767)

    def forward(self, x_BhwD: Tensor, shifted: bool) -> Tensor:
        batch, rows, columns, width = x_BhwD.shape
        tiling = Tiling(rows, columns, self.config.window, shifted)
        tiles = tiling.cut(x_BhwD)
        windows, size = tiles.shape[:2]
        qkv = limited(self.qkv(tiles))
        q, k, v = qkv.view(windows, size, 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.round(self.position_steps())[:, self.relative]
        scores = q @ k.transpose(-1, -2) * SCORE_SCALE + bias
        hidden = _hidden_keys(tiling, scores.device)
        if hidden is not None:
            scores = scores + hidden.repeat(batch, 1, 1)[:, None] * MASK
        steps = (scores.detach().amax(-1, keepdim=True) - scores).clamp_max(255)
        weights = EXP2_PEAK * torch.exp2(steps * (-1 / EXP2_OCTAVE)) * (steps < 255)
        if self.quantised:
            weights = through(self.exp2[steps.detach().to(torch.int64)], weights)
        total = weights.sum(-1, keepdim=True)
        share = 1 / total
        if self.quantised:
            exact = (2.0**SOFTMAX_SHIFT / total.detach().double()).floor().float() * 2.0**-SOFTMAX_SHIFT
            share = through(exact, share)
        mixed = self.round(weights @ v * share).transpose(1, 2).reshape(windows, size, width)
        y_BhwD: Tensor = self.out(tiling.join(mixed, batch))
        return y_BhwD

    def export(self, name: str) -> dict[str, Tensor]:
        return {
            **self.qkv.export(f"{name}.qkv"),
            **self.out.export(f"{name}.out"),
            f"{name}.position": self.position_steps().round().to(torch.int16),
        }

    def restore(self, tensors: Mapping[str, Tensor], name: str) -> None:
        """The inverse of `export`."""
        self.qkv.restore(tensors, f"{name}.qkv")
        self.out.restore(tensors, f"{name}.out")
        self.position.copy_(tensors[f"{name}.position"].float() / STEPS_PER_NAT)


class Block(Rounding):
    def __init__(self, config: LevelPriorConfig, letter: str) -> None:
        super().__init__()
        width = config.width
        self.letter = letter
        self.norm = Normalise()
        self.mix = Scaled(width, 9, unit_in=ACTIVATION_UNIT, unit_out=ACTIVATION_UNIT, gain=0.3)
        with torch.no_grad():
            self.mix.weight[:, 4] += 1
        self.attention = None if letter == "c" else Attention(config)
        self.up = Scaled(config.hidden, width, unit_in=ACTIVATION_UNIT, unit_out=HIDDEN_UNIT)
        self.down = Scaled(width, config.hidden, unit_in=HIDDEN_UNIT, unit_out=RESIDUAL_UNIT, gain=0.2)

    def convolve(self, x_BhwD: Tensor) -> Tensor:
        weight, multiplier = self.mix.parts()
        sums = F.conv2d(
            x_BhwD.permute(0, 3, 1, 2), weight.view(-1, 1, 3, 3), padding=1, groups=x_BhwD.shape[-1]
        )
        sums = sums.permute(0, 2, 3, 1)
        return limited(self.round(sums * multiplier))

    def hidden(self, y: Tensor) -> Tensor:
        if not self.quantised:
            return limited(F.linear(y, self.up.weight * self.up.ratio), 0)
        weight, multiplier = self.up.parts()
        return self.floor(limited(F.linear(y, weight) * multiplier, 0))

    def forward(self, x_BhwD: Tensor) -> Tensor:
        y = self.convolve(self.norm(x_BhwD))
        if self.attention is not None:
            x_BhwD = bounded(x_BhwD + self.attention(y, self.letter == "s"))
            y = self.norm(x_BhwD)
        return bounded(x_BhwD + self.down(self.hidden(y)))

    def export(self, name: str) -> dict[str, Tensor]:
        mix = self.mix.export(f"{name}.mix")
        mix[f"{name}.mix.weight"] = mix[f"{name}.mix.weight"].t().contiguous()
        attention = self.attention.export(name) if self.attention is not None else {}
        return mix | attention | self.up.export(f"{name}.up") | self.down.export(f"{name}.down")

    def restore(self, tensors: Mapping[str, Tensor], name: str) -> None:
        """The inverse of `export`."""
        mix = f"{name}.mix"
        turned = {**tensors, f"{mix}.weight": tensors[f"{mix}.weight"].t()}
        self.mix.restore(turned, mix)
        if self.attention is not None:
            self.attention.restore(tensors, name)
        self.up.restore(tensors, f"{name}.up")
        self.down.restore(tensors, f"{name}.down")
