"""The float twin of the integer prior: the same nets with gradients, with or without its roundings.

    # B batch · h, w cells of a level · N rows (B * h * w) · D width · L bits per token · C chunks · H hidden
    # · K nodes

Values are in the integer prior's units throughout. With `quantised` set, every rounding and table of the
integer prior is applied, so that the result equals it bit by bit (sums of integers are exact in float32), and
gradients pass straight through; without, only the clamps stay: the yardstick for what exactness costs.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.prior import order
from bsqcodec.prior.config import CHUNK, GROUPS, MAX_RATE, NODES, RATE_ROWS, LevelPriorConfig, PriorConfig
from bsqcodec.prior.head import HIDDEN_SCALE, LOGIT_LIMIT
from bsqcodec.prior.integer import (
    ACTIVATION_LIMIT,
    ACTIVATION_MEAN,
    MASK,
    NORM_FLOOR,
    NORM_SHIFT,
    RESIDUAL_LIMIT,
    SCORE_SCALE,
    SOFTMAX_SHIFT,
)
from bsqcodec.prior.windows import Tiling, relative_positions

# One unit of an integer in real terms: what initial weights of usual size are scaled by.
SIGN_UNIT = 1.0
ACTIVATION_UNIT = 1 / ACTIVATION_MEAN
RESIDUAL_UNIT = 1 / 128
HIDDEN_UNIT = 1 / 16
STATE_UNIT = HIDDEN_UNIT * HIDDEN_SCALE
LOGIT_UNIT = 1 / 64
EXP2_PEAK = 1023
EXP2_OCTAVE = 32
# Phases of a cell lie as a, b, c, d; this is the step in which each is coded.
STEP_OF_PHASE = [order.PHASES.index((phase // 2, phase % 2)) for phase in range(GROUPS)]


def exp2_table() -> Tensor:
    """256 weights of attention: 1023 * 2**(-i / 32), 0 at the end."""
    table = torch.tensor([round(EXP2_PEAK * 2 ** (-i / EXP2_OCTAVE)) for i in range(256)])
    table[255] = 0
    return table


def counts_table() -> Tensor:
    """Counts of a one for logits -767..767 in steps of 1/64, out of 65536."""
    logits = torch.arange(-LOGIT_LIMIT, LOGIT_LIMIT + 1, dtype=torch.float64) * LOGIT_UNIT
    return (65536 * torch.sigmoid(logits)).round().clamp(1, 65535).to(torch.int32)


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


def _clamp(x: Tensor) -> Tensor:
    """The residual's range is hardly ever reached: gradients pass."""
    return through(x.detach().clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT), x)


def _limit(x: Tensor, low: int = -ACTIVATION_LIMIT) -> Tensor:
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
        return _limit(self.round(x * scale))


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
        return (self.position * (EXP2_OCTAVE / math.log(2))).clamp(-32767, 32767)

    def forward(self, x_BhwD: Tensor, shifted: bool) -> Tensor:
        batch, rows, columns, width = x_BhwD.shape
        tiling = Tiling(rows, columns, self.config.window, shifted)
        tiles = tiling.cut(x_BhwD)
        windows, size = tiles.shape[:2]
        qkv = _limit(self.qkv(tiles))
        q, k, v = qkv.view(windows, size, 3, self.config.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.round(self.position_steps())[:, self.relative]
        scores = q @ k.transpose(-1, -2) * SCORE_SCALE + bias
        hidden = tiling.hidden_keys()
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
        return _limit(self.round(sums * multiplier))

    def hidden(self, y: Tensor) -> Tensor:
        if not self.quantised:
            return _limit(F.linear(y, self.up.weight * self.up.ratio), 0)
        weight, multiplier = self.up.parts()
        return self.floor(_limit(F.linear(y, weight) * multiplier, 0))

    def forward(self, x_BhwD: Tensor) -> Tensor:
        y = self.convolve(self.norm(x_BhwD))
        if self.attention is not None:
            x_BhwD = _clamp(x_BhwD + self.attention(y, self.letter == "s"))
            y = self.norm(x_BhwD)
        return _clamp(x_BhwD + self.down(self.hidden(y)))

    def export(self, name: str) -> dict[str, Tensor]:
        mix = self.mix.export(f"{name}.mix")
        mix[f"{name}.mix.weight"] = mix[f"{name}.mix.weight"].t().contiguous()
        attention = self.attention.export(name) if self.attention is not None else {}
        return mix | attention | self.up.export(f"{name}.up") | self.down.export(f"{name}.down")


class LevelTwin(Rounding):
    """One level of one kind of block."""

    phase_known: Tensor
    phase_of_step: Tensor

    def __init__(self, config: PriorConfig, kind: BlockKind, index: int) -> None:
        super().__init__()
        self.config = config.levels[index]
        level, width = self.config, self.config.width
        self.factors = [max(1, other.stride // (2 * level.stride)) for other in config.levels]
        self.same_stride = [other.stride == level.stride for other in config.levels]

        def seen(k: int) -> Scaled:
            inputs = config.levels[k].bits * (4 if self.same_stride[k] else 1)
            return Scaled(
                self.factors[k] ** 2 * width, inputs, unit_in=SIGN_UNIT, unit_out=RESIDUAL_UNIT, gain=0.5
            )

        self.rate = nn.Parameter(torch.zeros(RATE_ROWS, width))
        self.step = nn.Parameter(torch.randn(GROUPS, width) * 0.1)
        self.own = Scaled(width, 4 * level.bits, unit_in=SIGN_UNIT, unit_out=RESIDUAL_UNIT)
        self.coarse = nn.ModuleList(seen(k) for k in range(index))
        self.after = nn.ModuleDict()
        if kind is BlockKind.TUBE:
            for before in BlockKind:
                self.after[before.label] = nn.ModuleList(seen(k) for k in range(index + 1))
        self.blocks = nn.ModuleList(Block(level, letter) for letter in level.blocks)
        self.norm = Normalise()
        self.start = Scaled(GROUPS, level.head, width, unit_in=ACTIVATION_UNIT, unit_out=STATE_UNIT)
        self.start_bias = nn.Parameter(torch.zeros(GROUPS, level.head))
        self.embedding = nn.Parameter(torch.randn(level.chunks, 1 << CHUNK, level.head) * 0.3)
        self.node = Scaled(
            level.chunks, NODES, level.head, unit_in=HIDDEN_UNIT, unit_out=LOGIT_UNIT, gain=0.5
        )
        self.node_bias = nn.Parameter(torch.zeros(level.chunks, NODES))
        phase_known = torch.tensor([[step < group for step in STEP_OF_PHASE] for group in range(GROUPS)])
        self.register_buffer("phase_known", phase_known, persistent=False)
        self.register_buffer(
            "phase_of_step", torch.tensor([2 * dy + dx for dy, dx in order.PHASES]), persistent=False
        )

    def integer(self, value: Tensor, unit: float, limit: int = 32767) -> Tensor:
        """A parameter in integer units."""
        return self.round((value * (1 / unit)).clamp(-limit, limit))

    def rate_rows(self, rates_B: Tensor) -> Tensor:
        rows = self.integer(self.rate, RESIDUAL_UNIT)
        span = MAX_RATE // (RATE_ROWS - 1)
        row = (rates_B // span).clamp(max=RATE_ROWS - 2)
        part = (rates_B - row * span)[:, None]
        mixed = rows[row] * (span - part) + rows[row + 1] * part
        if not self.quantised:
            return mixed / span
        exact = torch.div(mixed.detach().to(torch.int64) + span // 2, span, rounding_mode="floor").float()
        return through(exact, mixed / span)

    def seen(self, linear: nn.Module, k: int, tokens: Tensor, rows: int, columns: int) -> Tensor:
        inputs = (order.gather_cells(tokens) if self.same_stride[k] else tokens).float()
        return order.spread_cells(_clamp(linear(inputs)), self.factors[k], rows, columns)

    def logits(
        self,
        tokens: list[Tensor],
        index: int,
        previous: list[Tensor] | None,
        before: BlockKind | None,
        rates_B: Tensor,
        groups_B: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits in steps of 1/64, N x L, and the signs they are for (0: no such position).

        groups_B: which group each batch entry is asked for. N: all cells of all entries.
        """
        own = order.gather_cells(tokens[index]).float()
        batch, rows, columns, _ = own.shape
        own = own.view(batch, rows, columns, GROUPS, -1)
        known = own * self.phase_known[groups_B][:, None, None, :, None]
        x = self.rate_rows(rates_B)[:, None, None]
        for k, linear in enumerate(self.coarse):
            x = x + self.seen(linear, k, tokens[k], rows, columns)
        if previous is not None and before is not None:
            for k, linear in enumerate(self.after[before.label]):  # type: ignore[arg-type]
                x = x + self.seen(linear, k, previous[k], rows, columns)
        step = self.integer(self.step, RESIDUAL_UNIT)[groups_B][:, None, None]
        x = _clamp(x + _clamp(self.own(known.flatten(3))) + step)
        for block in self.blocks:
            x = block(x)
        target = own[torch.arange(batch), :, :, self.phase_of_step[groups_B]].reshape(
            batch * rows * columns, -1
        )
        return self._head(self.norm(x).view(batch, rows * columns, -1), groups_B, target), target

    def _head(self, y_BPD: Tensor, groups_B: Tensor, target_NL: Tensor) -> Tensor:
        weight, multiplier = self.start.parts()
        state = self.round(torch.bmm(y_BPD, weight[groups_B].transpose(1, 2)) * multiplier[groups_B][:, None])
        state = _clamp(state) + self.integer(self.start_bias, STATE_UNIT)[groups_B][:, None]
        state = state.view(target_NL.shape[0], 1, -1)
        bits = F.pad((target_NL > 0).to(torch.int64), (0, -self.config.bits % CHUNK)).view(
            len(target_NL), -1, CHUNK
        )
        value = (bits * torch.tensor([8, 4, 2, 1])).sum(-1)
        table = self.integer(self.embedding, STATE_UNIT)
        chunks = table.shape[0]
        added = F.embedding(value + torch.arange(chunks) * (1 << CHUNK), table.flatten(0, 1))
        before = F.pad(added[:, :-1].cumsum(1), (0, 0, 1, 0))
        hidden = self.floor(_limit((state + before) * HIDDEN_SCALE, 0))
        node, node_multiplier = self.node.parts()
        all_nodes = torch.bmm(hidden.transpose(0, 1), node.transpose(1, 2)) * node_multiplier[:, None]
        all_nodes = self.round(all_nodes) + self.integer(self.node_bias, LOGIT_UNIT)[:, None]
        depth = torch.arange(CHUNK)
        index_NCX = (1 << depth) - 1 + (value[..., None] >> (CHUNK - depth))
        logits = all_nodes.transpose(0, 1).gather(2, index_NCX).flatten(1)[:, : self.config.bits]
        return logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)

    def export(self, name: str) -> dict[str, Tensor]:
        result = {
            f"{name}.rate": self.integer(self.rate, RESIDUAL_UNIT).round().to(torch.int16),
            f"{name}.step": self.integer(self.step, RESIDUAL_UNIT).round().to(torch.int16),
            f"{name}.start.bias": self.integer(self.start_bias, STATE_UNIT).round().to(torch.int16),
            f"{name}.embedding": self.integer(self.embedding, STATE_UNIT).round().to(torch.int16),
            f"{name}.node.bias": self.integer(self.node_bias, LOGIT_UNIT).round().to(torch.int16),
        }
        for part in ("own", "start", "node"):
            result |= getattr(self, part).export(f"{name}.{part}")
        for k, linear in enumerate(self.coarse):
            result |= linear.export(f"{name}.coarse.{k}")  # type: ignore[operator]
        for before, linears in self.after.items():
            for k, linear in enumerate(linears):  # type: ignore[arg-type]
                result |= linear.export(f"{name}.after_{before}.{k}")
        for i, block in enumerate(self.blocks):
            result |= block.export(f"{name}.block.{i}")  # type: ignore[operator]
        return result


class PriorTwin(nn.Module):
    """All levels of one kind of block."""

    def __init__(self, config: PriorConfig, kind: BlockKind) -> None:
        super().__init__()
        self.config = config
        self.kind = kind
        self.levels = nn.ModuleList(LevelTwin(config, kind, index) for index in range(len(config.levels)))

    def quantise(self, quantised: bool) -> None:
        """Switch all roundings on or off."""
        for module in self.modules():
            if isinstance(module, Rounding):
                module.quantised = quantised

    def level_bits(
        self,
        index: int,
        tokens: list[Tensor],
        previous: list[Tensor] | None,
        before: BlockKind | None,
        rates_B: Tensor,
        groups_B: Tensor,
    ) -> Tensor:
        """Bits that one group of each batch entry costs, N x L (0 where a cell has no such position)."""
        level: LevelTwin = self.levels[index]  # type: ignore[assignment]
        logits, target = level.logits(tokens, index, previous, before, rates_B, groups_B)
        bits: Tensor = F.softplus(-logits * target * LOGIT_UNIT) * (target != 0) * (1 / math.log(2))
        return bits

    @torch.no_grad()
    def export(self) -> dict[str, Tensor]:
        """The integer tensors of this kind of block, by the names of bsqcodec.prior.tensors."""
        tensors: dict[str, Tensor] = {}
        for index, level in enumerate(self.levels):
            tensors |= level.export(f"{self.kind.label}.{index}")  # type: ignore[operator]
        return tensors
