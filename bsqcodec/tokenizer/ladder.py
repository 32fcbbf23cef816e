"""The BSQ ladder: a top-down hierarchy of BSQ levels, recurrent in time through the decoder's memory.

# B batch · T frames of a block · H, W pixels or token grid · D channels · L bits per token

A block is a key frame (T = 1) or a tube (T = tube_frames). The encoder makes features at strides 8, 16, 32.
The ladder starts at stride 32 from a learned vector (and, for tubes, from the memory) and goes down; at
each level the quantiser sees the encoder's feature and the ladder's state, so a level codes what the
coarser ones, and the past, left open. Encoder and decoder run the same ladder: with features it chooses the
bits, without it is given them.

A tube has places for tube_frames frames; one of fewer frames fills several with each, and a frame is the
mean of what comes out in its places. So one network has tubes of 4 frames where bits are scarce, and of 2 or
1 where each frame is to get more of them.

Tubes see the past as it has moved: the last frame and the features of the memory come moved by the vectors of
the motion level (motion.py), whose bits are searched, not quantised, and the ladder codes what that leaves
open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.tokenizer import bsq, motion
from bsqcodec.tokenizer.config import CELL, TokenizerConfig
from bsqcodec.tokenizer.layers import (
    Block,
    MemoryAttention,
    RMSNorm,
    depth_to_space,
    space_to_depth,
    stack,
)
from bsqcodec.tokenizer.motion_search import search

PATCH = 8
PATCH_NUMBERS = 3 * PATCH * PATCH
STRIDES = (8, 16, 32)


class Memory(NamedTuple):
    """What a block leaves to the next: its features at strides 8, 16, 32, each (B, H, W, D), and its last
    frame, (B, C, H, W), 0..1, float32."""

    at8: Tensor
    at16: Tensor
    at32: Tensor
    frame: Tensor

    def moved(self, stride: int, moves_Bhw2: Tensor) -> Tensor:
        """The features at a stride from where vectors in pixels point."""
        return motion.moved_features(self[STRIDES.index(stride)], moves_Bhw2, stride)


@dataclass
class BlockOutput:
    """What one pass down the ladder gives.

    frames_BTCHW: pixels around 0..1, not clamped. bits: one (B, H, W, L) tensor of {0, 1} per level kept.
    points: on the sphere, float32, alike: what chosen bits were rounded from; else the corners of the bits.
    soft_bits: the same up to rounding, with the gradient of soft bits.
    rate_bits_B: cross-entropy of the bits under the side prior, in bits, per level; empty unless asked for.
    softness: mean of p(1-p) of the soft bits, a penalty that keeps the soft rate honest.
    """

    frames_BTCHW: Tensor
    bits: list[Tensor]
    points: list[Tensor]
    soft_bits: list[Tensor]
    rate_bits_B: list[Tensor]
    softness: Tensor
    memory: Memory


@dataclass
class Descent:
    """A pass down the ladder that is under way, see `Ladder.forward`.

    memory: of the block before, None for key frames. form: of a tube; of a key frame it says nothing.
    vectors, moves: of a tube, and in the middle of it, in pixels. moved_BTCHW: what it looks like by its
    vectors, once that is worked out. past: the memory's features at the strides that it has come to, moved.
    kept: its own behind those.
    """

    kind: BlockKind
    memory: Memory | None
    form: TubeForm
    vectors: Tensor | None
    moves: Tensor | None
    moved_BTCHW: Tensor | None
    features: dict[int, Tensor] | None
    given: Sequence[Tensor]
    biases: dict[int, Tensor]
    keep: Tensor | None
    chosen_levels: int
    rated: bool
    state: Tensor
    out: BlockOutput
    past: dict[int, Tensor] = field(default_factory=dict)
    kept: dict[int, Tensor] = field(default_factory=dict)


def log_lambdas(
    config: TokenizerConfig, rates: Sequence[float], device: torch.device | None = None
) -> Tensor:
    """What a ladder is conditioned on, (B, 1), for one rate index a sample."""
    return torch.tensor([[config.lambda_of(rate)] for rate in rates], device=device).log()


class Conditioning(nn.Module):
    """log lambda -> one bias per channel at each stride."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.to_bias = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, width)) for width in widths
        )

    def forward(self, log_lambda_B1: Tensor) -> list[Tensor]:
        return [to_bias(log_lambda_B1 + 1.5)[:, None, None] for to_bias in self.to_bias]


class Rated(nn.Module):
    """A level's side prior, which says what its bits cost."""

    norm: RMSNorm
    side: nn.Linear

    def rate(self, state_BHWD: Tensor, bits_BHWL: Tensor) -> Tensor:
        """Bits that the level costs under the side prior, (B,); linear in bits_BHWL, which may be soft."""
        logits: Tensor = self.side(self.norm(state_BHWD)).float()
        return (F.softplus(logits) - logits * bits_BHWL).sum((1, 2, 3)) / math.log(2)


class Level(Rated):
    """One BSQ level on a grid of some width: quantiser, embedding of the bits, side prior."""

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        self.compare = nn.Linear(2 * width, width)
        self.project = nn.Linear(width, bits)
        self.embed = nn.Linear(bits, width)
        self.norm = RMSNorm(width)
        self.side = nn.Linear(width, bits)
        nn.init.zeros_(self.side.weight)

    def sphere(self, feature_BHWD: Tensor, state_BHWD: Tensor) -> Tensor:
        """The point on the unit sphere in R^L, float32."""
        hidden = F.gelu(self.compare(torch.cat([feature_BHWD, state_BHWD], -1)))
        return bsq.project(self.project(hidden))

    def add(self, state_BHWD: Tensor, corners_BHWL: Tensor) -> Tensor:
        """The state with the level's bits put in."""
        return state_BHWD + self.embed(corners_BHWL.to(state_BHWD.dtype))  # type: ignore[no-any-return]


class MotionLevel(Rated):
    """The level of a tube whose bits are vectors: embedding of the vectors, side prior of the bits."""

    UNIT = 16.0  # pixels

    def __init__(self, width: int, bits: int, anchors: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * anchors, width)
        nn.init.zeros_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)
        self.norm = RMSNorm(width)
        self.side = nn.Linear(width, bits)
        nn.init.zeros_(self.side.weight)

    def add(self, state_BHWD: Tensor, vectors_BhwA2: Tensor, form: TubeForm) -> Tensor:
        """The state with the vectors of a tube put in."""
        pixels = vectors_BhwA2 / (form.steps_per_pixel * self.UNIT)
        if form.frames == 1:  # where all rows move alike, as anchors on a line would
            pixels = pixels * torch.arange(1.0, 1 + pixels.shape[3], device=pixels.device)[:, None]
        pixels = pixels.flatten(3)
        return state_BHWD + self.embed(pixels.to(state_BHWD.dtype))  # type: ignore[no-any-return]


class Ends(nn.Module):
    """What key frames and tubes do not share: pixels in, levels, pixels out, and the blocks at stride 8."""

    def __init__(self, config: TokenizerConfig, kind: BlockKind) -> None:
        super().__init__()
        tube = kind is BlockKind.TUBE
        self.frames = frames = config.tube_frames if tube else 1
        self.lengths = config.tube_lengths
        d8, _, d32 = config.width
        self.start = nn.Parameter(torch.zeros(d32))
        shorter = len(config.tube_lengths) - 1  # added for tubes of fewer frames
        self.start_shorter = nn.Parameter(torch.zeros(shorter, d32)) if tube else None
        self.stem_shorter = nn.Parameter(torch.zeros(shorter, d8)) if tube else None
        pixels = frames * PATCH_NUMBERS
        self.stem = nn.Linear(2 * pixels if tube else pixels, d8)  # a tube's sees the moved frames too
        head, side = config.head_width, config.window
        e8, n8 = config.encoder_depth[0], config.decoder_depth[0]
        self.encode8 = nn.Sequential(*(Block(d8, head, side, attention=False, ratio=2) for _ in range(e8)))
        self.refine8 = nn.ModuleList(  # between two levels of that grid
            Block(d8, head, side, attention=False, ratio=2)
            for coarse, fine in pairwise(config.levels)
            if coarse.stride == fine.stride == PATCH
        )
        self.decode8 = nn.Sequential(
            *(Block(d8, head, side, attention=i == n8 - 1, ratio=2) for i in range(n8))
        )
        width = dict(zip(STRIDES, config.width, strict=True))
        self.levels = nn.ModuleList(
            MotionLevel(width[level.stride], level.bits, config.anchors)
            if tube and number == config.motion_level
            else Level(width[level.stride], level.bits)
            for number, level in enumerate(config.levels)
        )
        self.head = nn.Conv2d(d8, pixels, 3, padding=1)
        nn.init.uniform_(self.head.weight, -0.0173, 0.0173)  # of deviation .01
        self.see = nn.Linear(pixels, d8) if tube else None  # the moved frames, for the decoder
        if self.see is not None:
            nn.init.zeros_(self.see.weight)
            nn.init.zeros_(self.see.bias)

    def for_frames(self, bias: Tensor, shorter_ND: Tensor | None, frames: int) -> Tensor:
        """A bias, and what is added to it for tubes of fewer frames than there are places."""
        if shorter_ND is None or frames == self.frames:
            return bias
        return bias + shorter_ND[self.lengths.index(frames) - 1]

    def enter(self, layer: nn.Linear, *parts_BTCHW: Tensor) -> Tensor:
        """Frames through a layer over their patches, (B, H/8, W/8, D); the parts are its inputs in turn. As
        if each of T frames filled frames / T places: of the places' weights is taken the sum."""
        T = parts_BTCHW[0].shape[1]
        patches = torch.cat([_patches(part - 0.5) for part in parts_BTCHW], -1)
        weight = layer.weight
        if self.frames > T:
            weight = (
                weight.reshape(-1, len(parts_BTCHW), T, self.frames // T, PATCH_NUMBERS).sum(3).flatten(1)
            )
        D, numbers = weight.shape
        weight = weight.view(D, numbers // PATCH_NUMBERS, 3, PATCH * PATCH).transpose(2, 3).flatten(1)
        return F.linear(patches, weight, layer.bias)

    def pixels(self, state_BHWD: Tensor, moved_BTCHW: Tensor | None) -> Tensor:
        """(B, H/8, W/8, D) -> (B, T, 3, H, W): added to the T moved frames, where there are some. Each is the
        mean of its places: of their filters is taken the mean."""
        B, h, w, D = state_BHWD.shape
        T = self.frames if moved_BTCHW is None else moved_BTCHW.shape[1]
        weight, bias = self.head.weight, self.head.bias
        assert bias is not None
        if self.frames > T:
            places = (T, self.frames // T, PATCH_NUMBERS)
            weight = weight.reshape(*places, D, 3, 3).mean(1).flatten(0, 1)
            bias = bias.reshape(places).mean(1).flatten()
        weight = weight.view(T, 3, PATCH * PATCH, D, 3, 3).transpose(1, 2).flatten(0, 2)
        bias = bias.view(T, 3, PATCH * PATCH).transpose(1, 2).flatten()
        x = F.conv2d(state_BHWD.permute(0, 3, 1, 2), weight, bias, padding=1).float()
        x = x.permute(0, 2, 3, 1).reshape(B, h, w, T, PATCH, 3 * PATCH).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(B, T, h * PATCH, w * PATCH, 3).permute(0, 1, 4, 2, 3)
        return x + (0.5 if moved_BTCHW is None else moved_BTCHW)


def _patches(frames_BTCHW: Tensor) -> Tensor:
    """(B, T, 3, H, W) -> (B, H/8, W/8, T*64*3): as frames lie in memory, channels last."""
    B, T, C, H, W = frames_BTCHW.shape
    x = frames_BTCHW.permute(0, 1, 3, 4, 2).reshape(B, T, H // PATCH, PATCH, W // PATCH, PATCH * C)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, H // PATCH, W // PATCH, -1)


class Ladder(nn.Module):
    """The tokenizer: analysis, quantisation and synthesis of blocks of frames."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.search = search  # where the module is compiled, to be left out of its graphs
        d8, d16, d32 = config.width
        head, side = config.head_width, config.window
        self.ends = nn.ModuleDict(
            {kind.label: Ends(config, kind) for kind in (BlockKind.KEY, BlockKind.TUBE)}
        )
        self.encoder_rate, self.decoder_rate = Conditioning(config.width), Conditioning(config.width)
        _, e16, e32 = config.encoder_depth
        self.down16, self.encode16 = nn.Linear(4 * d8, d16), stack(d16, e16, head, side)
        self.down32, self.encode32 = nn.Linear(4 * d16, d32), stack(d32, e32, head, side)
        _, n16, n32 = config.decoder_depth
        self.decode32, self.up16 = stack(d32, n32, head, side), nn.Linear(d32, 4 * d16)
        self.decode16, self.up8 = stack(d16, n16, head, side), nn.Linear(d16, 4 * d8)
        self.recall = nn.ModuleDict(
            {str(s): MemoryAttention(d, head, side) for s, d in zip(STRIDES, config.width, strict=True)}
        )

    def keep_in(self, dtype: torch.dtype) -> None:
        """Store what autocast would turn into this type every time in it; not for training."""
        for name, module in self.named_modules():
            ends = name.startswith("ends.") and name.count(".") == 2  # of these weights sums are taken first
            if isinstance(module, (nn.Linear, nn.Conv2d)) and not ends:
                module.to(dtype)

    def vectors(
        self,
        bits: Sequence[Tensor],
        frames_BTCHW: Tensor | None,
        log_lambda_B1: Tensor,
        memory: Memory,
        form: TubeForm,
        levels: int | None = None,
    ) -> Tensor:
        """Vectors of a tube of this form, (B, h, w, A, 2): those that the bits say; where bits stop before
        the motion level and there are frames, and `levels` does not leave it out, the best for them; else
        0."""
        config = self.config
        number = config.motion_level
        if number is not None and number < len(bits):
            return motion.from_bits(bits[number], form.frames)
        if number is not None and frames_BTCHW is not None and (levels is None or number < levels):
            lagrangian_B = log_lambda_B1[:, 0].exp()
            return self.search(frames_BTCHW, memory.frame, lagrangian_B, config.anchors, form.quarters)
        B, H, W = self._coarsest(frames_BTCHW, bits)
        shape = (B, H * STRIDES[-1] // CELL, W * STRIDES[-1] // CELL, max(1, config.anchors), 2)
        return torch.zeros(shape, dtype=torch.int64, device=log_lambda_B1.device)

    def features(
        self,
        kind: BlockKind,
        frames_BTCHW: Tensor,
        log_lambda_B1: Tensor,
        moved_BTCHW: Tensor | None,
    ) -> dict[int, Tensor]:
        """Encoder features by stride. frames_BTCHW: R'G'B' in 0..1, sides multiples of 32; moved_BTCHW: what
        a tube's look like by its vectors."""
        c8, c16, c32 = self.encoder_rate(log_lambda_B1)
        ends: Ends = self.ends[kind.label]  # type: ignore[assignment]
        bias = ends.for_frames(c8, ends.stem_shorter, frames_BTCHW.shape[1])
        parts = [frames_BTCHW] if moved_BTCHW is None else [frames_BTCHW, moved_BTCHW]
        x8 = self.finest(ends, parts, bias)
        x16 = self.encode16(self.down16(space_to_depth(x8, 2)) + c16)
        x32 = self.encode32(self.down32(space_to_depth(x16, 2)) + c32)
        return {8: x8, 16: x16, 32: x32}

    def finest(self, ends: Ends, parts_BTCHW: Sequence[Tensor], bias: Tensor) -> Tensor:
        """Encoder features at stride 8. parts: the frames, and a tube's moved ones."""
        return ends.encode8(ends.enter(ends.stem, *parts_BTCHW) + bias)  # type: ignore[no-any-return]

    def forward(
        self,
        kind: BlockKind,
        log_lambda_B1: Tensor,
        *,
        frames_BTCHW: Tensor | None = None,
        bits: Sequence[Tensor] | None = None,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        form: TubeForm | None = None,
        keep: Tensor | None = None,
        levels: int | None = None,
        synthesise: bool = True,
        rated: bool = False,
    ) -> BlockOutput:
        """One pass down the ladder.

        Either frames_BTCHW is given (the ladder chooses the bits), or bits, one (B, H, W, L) tensor of {0,
        1} for each level that is present, coarse first (finer ones may be absent). With both, levels that
        bits has are taken from it and the finer ones are chosen. keep: (levels,), 1 or 0, drops levels in
        training.
        memory: of the block before; needed for tubes, not used for key frames. vectors: of a tube, where they
        are known; worked out otherwise (see `vectors`). form: of a tube; where not given it holds the frames
        that are given, or as many as it has places for. levels: choose the bits of the coarsest so many only.
        synthesise: False stops after the last level; frames and memory are then meaningless. rated: work out
        what the bits cost under the side prior.
        """
        descent = self.begin(
            kind, log_lambda_B1, frames_BTCHW=frames_BTCHW, bits=bits, memory=memory, vectors=vectors,
            form=form, keep=keep, levels=levels, rated=rated,
        )  # fmt: skip
        for stride in reversed(STRIDES):
            if self.descend(descent, stride, whole=synthesise):
                return descent.out
        return self.finish(descent)

    def begin(
        self,
        kind: BlockKind,
        log_lambda_B1: Tensor,
        *,
        frames_BTCHW: Tensor | None = None,
        bits: Sequence[Tensor] | None = None,
        memory: Memory | None = None,
        vectors: Tensor | None = None,
        form: TubeForm | None = None,
        keep: Tensor | None = None,
        levels: int | None = None,
        rated: bool = False,
    ) -> Descent:
        """What comes before the first level; see `forward`. With bits alone nothing of the memory is looked
        at, and `descend` looks at what it has at that stride and, at 8, at its frame: coarse strides can be
        gone down before the block before is finished."""
        given = list(bits) if bits is not None else []
        ends: Ends = self.ends[kind.label]  # type: ignore[assignment]
        moves = moved_BTCHW = None
        if form is None:
            form = TubeForm(ends.frames if frames_BTCHW is None else frames_BTCHW.shape[1])
        if kind is BlockKind.TUBE:
            assert memory is not None
            if vectors is None:
                vectors = self.vectors(given, frames_BTCHW, log_lambda_B1, memory, form, levels)
            moves = motion.in_frames(vectors, form)[:, (form.frames - 1) // 2]
            if frames_BTCHW is not None:
                moved_BTCHW = motion.compensate(memory.frame, vectors, form)
        features = None
        if frames_BTCHW is not None:
            features = self.features(kind, frames_BTCHW, log_lambda_B1, moved_BTCHW)
        biases = dict(zip(STRIDES, self.decoder_rate(log_lambda_B1), strict=True))
        start = ends.for_frames(ends.start + biases[32], ends.start_shorter, form.frames)
        state = start.expand(*self._coarsest(frames_BTCHW, given), -1)
        nothing = state.new_zeros((), dtype=torch.float32)
        return Descent(
            kind=kind, memory=memory if kind is BlockKind.TUBE else None, form=form, vectors=vectors,
            moves=moves, moved_BTCHW=moved_BTCHW, features=features, given=given, biases=biases, keep=keep,
            chosen_levels=len(self.config.levels) if levels is None else levels, rated=rated, state=state,
            out=BlockOutput(state, [], [], [], [], nothing, Memory(state, state, state, state)),
        )  # fmt: skip

    def descend(self, descent: Descent, stride: int, *, whole: bool = True) -> bool:
        """Go down a stride, 32 first; `out` of the pass collects. whole: False ends after the last level that
        is chosen, which is told."""
        ends: Ends = self.ends[descent.kind.label]  # type: ignore[assignment]
        up, blocks = {
            32: (None, self.decode32),
            16: (self.up16, self.decode16),
            8: (self.up8, ends.decode8),
        }[stride]
        state, features, out = descent.state, descent.features, descent.out
        if up is not None:
            state = depth_to_space(up(state), 2) + descent.biases[stride]
        if descent.memory is not None:
            assert descent.moves is not None
            past = descent.past[stride] = descent.memory.moved(stride, descent.moves)
            state = state + self.recall[str(stride)](state, past)
        if stride == PATCH and ends.see is not None:
            if descent.moved_BTCHW is None:
                assert descent.memory is not None
                assert descent.vectors is not None
                descent.moved_BTCHW = motion.compensate(descent.memory.frame, descent.vectors, descent.form)
            state = state + ends.enter(ends.see, descent.moved_BTCHW)
        numbers = [i for i, level in enumerate(self.config.levels) if level.stride == stride]
        for among, number in enumerate(numbers):
            if among and stride == PATCH:
                state = ends.refine8[among - 1](state)
            feature = features[stride] if features is not None and number < descent.chosen_levels else None
            bits_BHWL = descent.given[number] if number < len(descent.given) else None
            if feature is None and bits_BHWL is None:
                continue
            level = ends.levels[number]
            if isinstance(level, MotionLevel):
                added = self._motion_level(level, state, descent, bits_BHWL)
            else:
                assert isinstance(level, Level)
                added = self._level(level, state, feature, bits_BHWL, descent.rated, out)
            keep = descent.keep
            state = added if keep is None else torch.lerp(state, added, keep[number].to(state.dtype))
            if not whole and number + 1 == descent.chosen_levels:
                return True
        descent.state = descent.kept[stride] = blocks(state)
        return False

    def finish(self, descent: Descent) -> BlockOutput:
        """Pixels and memory, after the finest stride."""
        ends: Ends = self.ends[descent.kind.label]  # type: ignore[assignment]
        out = descent.out
        out.frames_BTCHW = ends.pixels(descent.state, descent.moved_BTCHW)
        out.memory = self.remembered(descent.kept, out.frames_BTCHW[:, -1].clamp(0, 1), descent.past)
        return out

    def remembered(
        self, kept: Mapping[int, Tensor], frame_BCHW: Tensor, past: Mapping[int, Tensor]
    ) -> Memory:
        """What a block leaves to the next. kept: its features by stride. past: what it had of those before,
        moved; empty for a key frame."""
        return Memory(kept[8], kept[16], kept[32], frame_BCHW)

    def _coarsest(self, frames_BTCHW: Tensor | None, given: Sequence[Tensor]) -> tuple[int, int, int]:
        """(B, H, W) of the grid at stride 32."""
        if frames_BTCHW is not None:
            B, _, _, H, W = frames_BTCHW.shape
            return B, H // STRIDES[-1], W // STRIDES[-1]
        B, H, W, _ = given[0].shape
        finer = STRIDES[-1] // self.config.levels[0].stride
        return B, H // finer, W // finer

    def _level(
        self,
        level: Level,
        state: Tensor,
        feature: Tensor | None,
        bits_BHWL: Tensor | None,
        rated: bool,
        out: BlockOutput,
    ) -> Tensor:
        """The state with one level put in; its bits are those given, or chosen from the feature. `out`
        collects.

        In the forward pass the rate is that of the hard bits; in the gradient a chosen bit is sigmoid(4
        sqrt(L) u), so that a bit not worth its rate becomes predictable.
        """
        if bits_BHWL is not None:
            chosen = soft = bits_BHWL.float()
            u = corners = bsq.corners(chosen)
        else:
            assert feature is not None
            u = level.sphere(feature, state)
            chosen = bsq.signs(u)
            corners = bsq.straight_through(u, chosen)
            sigmoid = torch.sigmoid(4 * math.sqrt(u.shape[-1]) * u)
            soft = sigmoid + (chosen - sigmoid).detach()
            out.softness = out.softness + (sigmoid * (1 - sigmoid)).mean()
        if rated:
            out.rate_bits_B.append(level.rate(state, soft))
        out.bits.append(chosen)
        out.points.append(u)
        out.soft_bits.append(soft)
        return level.add(state, corners)

    def _motion_level(
        self,
        level: MotionLevel,
        state: Tensor,
        descent: Descent,
        bits_BHWL: Tensor | None,
    ) -> Tensor:
        """As `_level`, for the vectors of a tube."""
        vectors, form, out = descent.vectors, descent.form, descent.out
        assert vectors is not None
        bits = motion.to_bits(vectors, form.frames) if bits_BHWL is None else bits_BHWL.float()
        if descent.rated:
            out.rate_bits_B.append(level.rate(state, bits))
        out.bits.append(bits)
        out.points.append(bsq.corners(bits))
        out.soft_bits.append(bits)
        return level.add(state, vectors, form)

    def inherit_tubes(self) -> None:
        """Start the tube's ends from the key frame's, for a first video stage on image weights: the stem sees
        how the mean of the frames differs from that of the moved frames, the head adds nothing to those, the
        rest is copied."""
        key: Ends = self.ends[BlockKind.KEY.label]  # type: ignore[assignment]
        tube: Ends = self.ends[BlockKind.TUBE.label]  # type: ignore[assignment]
        T = self.config.tube_frames
        fresh = Ends(self.config, BlockKind.TUBE).state_dict()
        new = ("head.", "see.", "start_shorter", "stem_shorter", f"levels.{self.config.motion_level}.")
        own = {name: fresh[name] for name in fresh if name.startswith(new)}
        own["head.weight"] = torch.zeros_like(own["head.weight"])
        own["head.bias"] = torch.zeros_like(own["head.bias"])
        stem = key.stem.weight.detach()
        stems = stem.repeat(1, T) / T
        own["stem.weight"] = torch.cat([stems, -stems], 1)
        copied = {name: value for name, value in key.state_dict().items() if not name.startswith(new)}
        tube.load_state_dict(copied | own)
