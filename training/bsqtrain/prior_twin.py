"""The float twin of the integer prior: the same nets with gradients, with or without its roundings.

    # B batch · h, w cells of a level · N rows (B * h * w) · P cells of a level (h * w) · D width
    # L bits per token · C chunks · H hidden · K nodes

With `quantised` set, every rounding and table of the integer prior is applied, so that the result equals it
bit by bit (sums of integers are exact in float32), and gradients pass straight through; without, only the
clamps stay: the yardstick for what exactness costs.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsqcodec.blocks import BlockKind
from bsqcodec.prior import order
from bsqcodec.prior.config import CHUNK, GROUPS, MAX_RATE, NODES, RATE_ROWS, PriorConfig
from bsqcodec.prior.head import HIDDEN_SCALE, LOGIT_LIMIT
from bsqtrain.prior_layers import (
    ACTIVATION_UNIT,
    HIDDEN_UNIT,
    RESIDUAL_UNIT,
    SIGN_UNIT,
    STATE_UNIT,
    Block,
    Normalise,
    Rounding,
    Scaled,
    bounded,
    exp2_table,
    limited,
    split_multiplier,
    through,
)

LOGIT_UNIT = 1 / 64
# Phases of a cell lie as a, b, c, d; this is the step in which each is coded.
STEP_OF_PHASE = [order.PHASES.index((phase // 2, phase % 2)) for phase in range(GROUPS)]


def counts_table() -> Tensor:
    """Counts of a one for logits -767..767 in steps of 1/64, out of 65536."""
    logits = torch.arange(-LOGIT_LIMIT, LOGIT_LIMIT + 1, dtype=torch.float64) * LOGIT_UNIT
    return (65536 * torch.sigmoid(logits)).round().clamp(1, 65535).to(torch.int32)


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
        self._pass_size = len(config.passes(kind)[0])
        firsts = [group - group % self._pass_size for group in range(GROUPS)]
        phase_known = torch.tensor([[step < first for step in STEP_OF_PHASE] for first in firsts])
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
        return order.spread_cells(bounded(linear(inputs)), self.factors[k], rows, columns)

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
        first_B = groups_B - groups_B % self._pass_size
        step = self.integer(self.step, RESIDUAL_UNIT)[first_B][:, None, None]
        x = bounded(x + bounded(self.own(known.flatten(3))) + step)
        for block in self.blocks:
            x = block(x)
        entries = torch.arange(batch, device=own.device)
        target = own[entries, :, :, self.phase_of_step[groups_B]].reshape(batch * rows * columns, -1)
        return self._head(self.norm(x).view(batch, rows * columns, -1), groups_B, target), target

    def _head(self, y_BPD: Tensor, groups_B: Tensor, target_NL: Tensor) -> Tensor:
        weight, multiplier = self.start.parts()
        state = self.round(torch.bmm(y_BPD, weight[groups_B].transpose(1, 2)) * multiplier[groups_B][:, None])
        state = bounded(state) + self.integer(self.start_bias, STATE_UNIT)[groups_B][:, None]
        state = state.view(target_NL.shape[0], 1, -1)
        bits = F.pad((target_NL > 0).to(torch.int64), (0, -self.config.bits % CHUNK)).view(
            len(target_NL), -1, CHUNK
        )
        depth = torch.arange(CHUNK, device=bits.device)
        value = (bits << (CHUNK - 1 - depth)).sum(-1)
        table = self.integer(self.embedding, STATE_UNIT)
        chunks = table.shape[0]
        offsets = torch.arange(chunks, device=value.device) * (1 << CHUNK)
        added = F.embedding(value + offsets, table.flatten(0, 1))
        before = F.pad(added[:, :-1].cumsum(1), (0, 0, 1, 0))
        hidden = self.floor(limited((state + before) * HIDDEN_SCALE, 0))
        node, node_multiplier = self.node.parts()
        all_nodes = torch.bmm(hidden.transpose(0, 1), node.transpose(1, 2)) * node_multiplier[:, None]
        all_nodes = self.round(all_nodes) + self.integer(self.node_bias, LOGIT_UNIT)[:, None]
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

    def restore(self, tensors: Mapping[str, Tensor], name: str) -> None:
        """The inverse of `export`."""
        for parameter, part, unit in (
            (self.rate, "rate", RESIDUAL_UNIT),
            (self.step, "step", RESIDUAL_UNIT),
            (self.start_bias, "start.bias", STATE_UNIT),
            (self.embedding, "embedding", STATE_UNIT),
            (self.node_bias, "node.bias", LOGIT_UNIT),
        ):
            parameter.copy_(tensors[f"{name}.{part}"].float() * unit)
        for part in ("own", "start", "node"):
            getattr(self, part).restore(tensors, f"{name}.{part}")
        for k, linear in enumerate(self.coarse):
            linear.restore(tensors, f"{name}.coarse.{k}")  # type: ignore[operator]
        for before, linears in self.after.items():
            for k, linear in enumerate(linears):  # type: ignore[arg-type]
                linear.restore(tensors, f"{name}.after_{before}.{k}")
        for i, block in enumerate(self.blocks):
            block.restore(tensors, f"{name}.block.{i}")  # type: ignore[operator]


class PriorTwin(nn.Module):
    """All levels of one kind of block."""

    def __init__(self, config: PriorConfig, kind: BlockKind) -> None:
        super().__init__()
        self.config = config
        self.kind = kind
        self.quantised = False
        self.levels = nn.ModuleList(LevelTwin(config, kind, index) for index in range(len(config.levels)))

    def quantise(self, quantised: bool) -> None:
        """Switch all roundings on or off."""
        self.quantised = quantised
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

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the net of this kind of block from the integers that `export` gave, to train on from."""
        for index, level in enumerate(self.levels):
            level.restore(tensors, f"{self.kind.label}.{index}")  # type: ignore[operator]


__all__ = ["LevelTwin", "PriorTwin", "counts_table", "exp2_table", "split_multiplier"]
