"""The prior: one small transformer per kind of block and level, in exact integers.

    # B batch · H, W positions of a level · h, w cells of a level · N rows (B * h * w) · D width · L bits per
    # token

Kinds of block have separate nets. A level's net sees, on the level's grid of cells (2x2 positions): all
coarser levels of the block, the groups of this level that are known, for tubes the previous block's tokens of
this and all coarser levels, the rate index, and which groups come next. It never sees a finer level, so that
a stream without its finest levels decodes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import ModelError
from bsqcodec.prior import order
from bsqcodec.prior.config import GROUPS, MAX_RATE, RATE_ROWS, LevelPriorConfig, PriorConfig
from bsqcodec.prior.head import HIDDEN_SCALE, Head
from bsqcodec.prior.integer import (
    MASK,
    RESIDUAL_LIMIT,
    Carrier,
    Linear,
    Operators,
    float_type,
)
from bsqcodec.prior.tensors import Tensors
from bsqcodec.prior.windows import Tiling, relative_positions

STRIP = 192  # rows


@dataclass(frozen=True)
class Previous:
    """The block before a tube. tokens: one tensor per level, B x H x W x L of -1 and +1 (int8)."""

    kind: BlockKind
    tokens: Sequence[Tensor]


@dataclass(frozen=True)
class WindowState:
    """How an attention block cuts this grid, and the biases of each strip of tiles: (heads * tiles) x P
    x P.
    """

    tiling: Tiling
    biases: tuple[Tensor, ...]


@dataclass(frozen=True)
class LevelState:
    """What stays the same for all passes over a level: the context, and the windows of each block (None:
    no attention).
    """

    context_BhwD: Tensor
    windows: tuple[WindowState | None, ...]


def _strips(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of a few hundred rows of each at a time."""
    for start in range(0, rows[0].shape[0], STRIP):
        yield tuple(tensor[start : start + STRIP] for tensor in rows)


class _Block:
    """Residual block: `c` = 3x3 + MLP; `w`, `s` = 3x3 + attention in (shifted) windows, then MLP.

    Works in strips of a few hundred rows: all intermediate values of a strip stay in a core's cache.
    """

    def __init__(self, config: LevelPriorConfig, letter: str, tensors: Tensors) -> None:
        self.config = config
        self.letter = letter
        self.carrier = tensors.carrier
        self.operators = tensors.operators
        self.mix = tensors.plain("mix.weight").to(torch.float32)
        self.mix_multiplier = tensors.multiplier("mix")
        self.up = tensors.linear("up")
        self.down = tensors.linear("down")
        self.exp2 = tensors.shared("exp2").to(torch.float32)
        if letter != "c":
            self.qkv = tensors.linear("qkv")
            self.out = tensors.linear("out")
            self.position = tensors.plain("position")
        self._kept: tuple[tuple[int, int, int], WindowState] | None = None

    def windows(self, rows: int, columns: int, batch: int) -> WindowState | None:
        """Prepare for grids of this size; that of one size is kept."""
        if self.letter == "c":
            return None
        size = (rows, columns, batch)
        kept = self._kept
        if kept is None or kept[0] != size:
            kept = self._kept = size, self._prepared(*size)
        return kept[1]

    def _prepared(self, rows: int, columns: int, batch: int) -> WindowState:
        tiling = Tiling(rows, columns, self.config.window, self.letter == "s")
        size = tiling.size**2
        index = relative_positions(tiling.size).to(self.position.device)
        bias_A1PP = self.position.to(float_type(self.carrier))[:, index][:, None]
        strips = [STRIP // size] * (batch * tiling.tiles // (STRIP // size))
        strips += [rest] if (rest := batch * tiling.tiles - sum(strips)) else []
        hidden_MPP = tiling.hidden_keys()
        if hidden_MPP is None:
            # Strips of the same length share one bias.
            shared = {
                count: bias_A1PP.expand(-1, count, -1, -1).reshape(-1, size, size) for count in set(strips)
            }
            return WindowState(tiling, tuple(shared[count] for count in strips))
        mask_MPP = hidden_MPP.to(bias_A1PP).mul_(MASK).repeat(batch, 1, 1)
        ends = list(accumulate(strips))
        masks = [mask_MPP[end - count : end] for count, end in zip(strips, ends, strict=True)]
        return WindowState(tiling, tuple((bias_A1PP + mask).reshape(-1, size, size) for mask in masks))

    def __call__(self, x_BhwD: Tensor, state: WindowState | None) -> None:
        """Adds to x_BhwD in place."""
        x_ND = x_BhwD.view(-1, x_BhwD.shape[-1])
        normal = self.operators.normalise(x_ND).view(x_BhwD.shape)
        mixed = self.operators.convolve(normal, self.mix, self.mix_multiplier)
        if state is None:
            for x, y in _strips(x_ND, mixed.view(x_ND.shape)):
                self._feed_forward(x, y)
            return
        seen = state.tiling.join(self._attend(state.tiling.cut(mixed), state.biases), x_BhwD.shape[0])
        for x, y in _strips(x_ND, seen.reshape(x_ND.shape)):
            self.out.add(x, y)
            self._feed_forward(x, self.operators.normalise(x))

    def _attend(self, tiles_MPD: Tensor, biases: tuple[Tensor, ...]) -> Tensor:
        _, size, width = tiles_MPD.shape
        seen = torch.empty_like(tiles_MPD)
        start = 0
        for bias in biases:
            strip = slice(start, start + bias.shape[0] // self.config.heads)
            start = strip.stop
            qkv = self.qkv.activations(tiles_MPD[strip].view(-1, width)).view(-1, size, 3 * width)
            seen[strip] = self.operators.attend(qkv, bias, self.exp2, self.config.head_dim)
        return seen

    def _feed_forward(self, x_ND: Tensor, y_ND: Tensor) -> None:
        self.down.add(x_ND, self.up.rectified(y_ND))


class _LevelNet:
    """The net of one kind of block and one level."""

    def __init__(self, config: PriorConfig, kind: BlockKind, level: int, tensors: Tensors) -> None:
        self.config = config.levels[level]
        self.level = level
        self.operators = tensors.operators
        self.factors = [max(1, coarse.stride // (2 * self.config.stride)) for coarse in config.levels]
        self.same_stride = [coarse.stride == self.config.stride for coarse in config.levels]
        self.rate = tensors.plain("rate").to(torch.int64)
        self.step = tensors.plain("step").to(torch.float32)
        self.own = tensors.linear("own")
        self.coarse = [tensors.linear(f"coarse.{k}") for k in range(level)]
        self.previous = {}
        if kind is BlockKind.TUBE:
            for before in BlockKind:
                self.previous[before] = [
                    tensors.linear(f"after_{before.label}.{k}") for k in range(level + 1)
                ]
        self.blocks = [
            _Block(self.config, letter, tensors.below(f"block.{i}"))
            for i, letter in enumerate(self.config.blocks)
        ]
        self.start = [tensors.linear("start", group) for group in range(GROUPS)]
        self.start_bias = tensors.plain("start.bias").to(torch.float32)
        self.head = Head(
            bits=self.config.bits,
            embedding_CVH=tensors.plain("embedding"),
            weight_CKH=tensors.plain("node.weight"),
            multiplier_CK=tensors.multiplier("node"),
            bias_CK=tensors.plain("node.bias"),
            counts_T=tensors.shared("counts"),
            carrier=tensors.carrier,
            operators=tensors.operators,
        )

    def _seen(self, linear: Linear, k: int, tokens_BHWL: Tensor, rows: int, columns: int) -> Tensor:
        """The contribution of a level's tokens (coarser, or of the previous block) to the cells of this
        one.
        """
        inputs = order.gather_cells(tokens_BHWL) if self.same_stride[k] else tokens_BHWL
        batch, height, width, channels = inputs.shape
        values = linear.rounded(inputs.reshape(-1, channels)).view(batch, height, width, -1)
        return order.spread_cells(values, self.factors[k], rows, columns)

    def prepare(
        self,
        shape: tuple[int, int],
        coarse: Sequence[Tensor],
        previous: Previous | None,
        rates: Sequence[int],
    ) -> LevelState:
        rows, columns = order.cells(*shape)
        batch = len(rates)
        context = self._rate_rows(rates)[:, None, None].repeat(1, rows, columns, 1)
        for k, linear in enumerate(self.coarse):
            context += self._seen(linear, k, coarse[k], rows, columns)
        if previous is not None:
            for k, linear in enumerate(self.previous[previous.kind]):
                context += self._seen(linear, k, previous.tokens[k], rows, columns)
        return LevelState(context, tuple(block.windows(rows, columns, batch) for block in self.blocks))

    def _rate_rows(self, rates: Sequence[int]) -> Tensor:
        """B x D: between two rows of the table, in integers (rounded down after adding a half)."""
        rate = torch.tensor(list(rates), dtype=torch.int64, device=self.rate.device)
        span = MAX_RATE // (RATE_ROWS - 1)
        row = (rate // span).clamp(max=RATE_ROWS - 2)
        part = (rate - row * span)[:, None]
        mixed = self.rate[row] * (span - part) + self.rate[row + 1] * part
        return torch.div(mixed + span // 2, span, rounding_mode="floor").to(torch.float32)

    def start_states(self, state: LevelState, groups: range, known_BhwK: Tensor) -> list[Tensor]:
        """For each group of a pass B x h x w x hidden: the head's state for its positions, before any of
        their bits is known.
        """
        x = self.own.rounded(known_BhwK.reshape(-1, known_BhwK.shape[-1])).view_as(state.context_BhwD)
        x.add_(state.context_BhwD).add_(self.step[groups.start]).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        for block, windows in zip(self.blocks, state.windows, strict=True):
            block(x, windows)
        seen = self.operators.normalise(x.view(-1, x.shape[-1]))
        found = []
        for group in groups:
            rows = self.start[group].rounded(seen).add_(self.start_bias[group]).mul_(HIDDEN_SCALE)
            found.append(rows.view(*x.shape[:3], -1))
        return found


class Prior:
    """All nets, ready on a device.

    config: the shape. tensors: integers by name, without the file's `prior.` prefix (see tensors.py). Raises
    ModelError where one is missing or does not fit.
    """

    def __init__(
        self,
        config: PriorConfig,
        tensors: dict[str, Tensor],
        *,
        carrier: Carrier | None = None,
        operators: Operators | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        config.check()
        self.config = config
        self.device = torch.device(device)
        self.carrier = carrier or Carrier.pick(self.device)
        operators = operators or Operators.pick(self.device)
        source = Tensors.checked(config, tensors, self.carrier, operators, self.device)
        self._nets = {
            kind: [
                _LevelNet(config, kind, level, source.below(f"{kind.label}.{level}"))
                for level in range(len(config.levels))
            ]
            for kind in BlockKind
        }

    def net_head(self, kind: BlockKind, level: int) -> Head:
        """The head of a net, for coding chunk by chunk."""
        return self._nets[kind][level].head

    def prepare(
        self,
        kind: BlockKind,
        level: int,
        shape: tuple[int, int],
        coarse: Sequence[Tensor],
        previous: Previous | None,
        rates: Sequence[int],
    ) -> LevelState:
        """The context of a level.

        shape: the level's grid; coarse: tokens of all coarser levels (+-1, int8).
        """
        if (previous is None) != (kind is BlockKind.KEY):
            raise ModelError(
                f"prior: a {kind.label} block {'needs' if previous is None else 'has no'} previous block"
            )
        if not all(0 <= rate <= MAX_RATE for rate in rates):
            raise ModelError(f"prior: rate index {list(rates)}, expected 0..{MAX_RATE}")
        return self._nets[kind][level].prepare(shape, coarse, previous, rates)

    def start_states(
        self, kind: BlockKind, level: int, state: LevelState, groups: range, tokens_BHWL: Tensor
    ) -> list[Tensor]:
        """For each group of a pass N x hidden for its positions (batch by batch, row-major); the groups of
        this pass and of later ones are not read from tokens_BHWL.
        """
        _, height, width, _ = tokens_BHWL.shape
        known = tokens_BHWL.clone()
        for later in range(groups.start, GROUPS):
            rows, columns = order.group_slice(later)
            known[:, rows, columns] = 0
        found = []
        states = self._nets[kind][level].start_states(state, groups, order.gather_cells(known))
        for group, states_g in zip(groups, states, strict=True):
            rows_g, columns_g = order.group_shape(height, width, group)
            found.append(states_g[:, :rows_g, :columns_g].reshape(-1, states_g.shape[-1]))
        return found

    @torch.inference_mode()
    def level_counts(
        self,
        kind: BlockKind,
        level: int,
        tokens: Sequence[Tensor],
        previous: Previous | None,
        rates: Sequence[int],
    ) -> list[tuple[Tensor, Tensor]]:
        """For each group (bits L x N uint8, counts L x N int32) of a level whose tokens are known (encoder).

        tokens: this block's levels up to this one at least, each B x H x W x L of -1 and +1 (int8); N runs
        over the batch, then the group's positions row by row. rates: one index per batch entry.
        """
        own = tokens[level]
        state = self.prepare(kind, level, (own.shape[1], own.shape[2]), tokens[:level], previous, rates)
        head = self.net_head(kind, level)
        result = []
        for groups in self.config.passes(kind):
            states = self.start_states(kind, level, state, groups, own)
            for group, states_NH in zip(groups, states, strict=True):
                rows, columns = order.group_slice(group)
                bits_NL = (own[:, rows, columns].reshape(-1, own.shape[-1]) > 0).to(torch.uint8)
                if bits_NL.shape[0]:
                    result.append((bits_NL.t(), head.counts(states_NH, bits_NL)))
        return result
