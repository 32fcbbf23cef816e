"""The tokenizers at work: frames to tokens and back, with the memory of the GOP kept between blocks.

# B = 1 · T frames of a block · H, W pixels or token grid · L bits per token
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from operator import is_
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec import key_filter
from bsqcodec.bitstream import Limits
from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.distortion import SMALLEST_MS_SSIM, distortion, weights_for
from bsqcodec.errors import InputError
from bsqcodec.machine import fast_bf16, half_precision
from bsqcodec.model import AnyConfig, Weights
from bsqcodec.pixels import Pixels, to_pixels, to_tensor
from bsqcodec.rdo import Search
from bsqcodec.repeats import cell_errors, stands_still
from bsqcodec.tiles import TileTokenizer
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig
from bsqcodec.tokenizer.ladder import BlockOutput, Descent, Memory, log_lambdas

Tokens = list[npt.NDArray[np.uint8]]

VECTORS_SHARE = 0.78
"""What vectors take under the prior of what they take under the side prior, which sees less of those around
them; the other levels take as much under both (training/LOG.md)."""

MOST_TRIED_PIXELS = 1 << 22
"""Of frames in tubes that were tried: what was found of larger ones is not kept, it takes too much memory."""


class BlockTokenizer(Protocol):
    """Analysis and synthesis of the blocks of one clip, in order."""

    @property
    def most_frames(self) -> int:
        """In a GOP."""

    def forget(self) -> None:
        """A new GOP begins."""

    def analyse(
        self,
        kind: BlockKind,
        frames: Sequence[Pixels],
        rate: int,
        *,
        levels: int,
        effort: int = 0,
        keep_memory: bool = True,
        form: TubeForm | None = None,
    ) -> Tokens:
        """Tokens of the coarsest `levels` levels, each (H, W, L) uint8 {0, 1}.

        frames: H x W x 3 uint8, one for a key frame; as many for every tube of a GOP.
        rate: index 0..1000. effort: 0..9, see `rdo.Search`. keep_memory: False where no block follows in this
        GOP. form: of the GOP's tubes, if this is one.
        """

    def synthesise(
        self,
        kind: BlockKind,
        tokens: Sequence[npt.NDArray[np.uint8]],
        rate: int,
        height: int,
        width: int,
        form: TubeForm | None = None,
    ) -> list[Pixels]:
        """The frames of a block, H x W x 3 uint8 each. tokens: one array per level, finer ones may be
        missing. form: of the GOP's tubes, if this is one."""


def open_tokenizer(weights: Weights, device: torch.device, overlap: int = 0) -> BlockTokenizer:
    """The tokenizer of a model. overlap: of tiles, in pixels. InputError where the model cannot do so."""
    if isinstance(weights.card.tokenizer, BsqVitConfig):
        return TileTokenizer(weights, device, overlap)
    _refuse(overlap)
    return LadderTokenizer(weights, device)


def token_grids(config: AnyConfig, height: int, width: int, overlap: int) -> list[tuple[int, int]]:
    """Rows and columns of the tokens of every level for frames of height x width pixels."""
    if isinstance(config, BsqVitConfig):
        return [grid[:2] for grid in config.grids(height, width, overlap)]
    _refuse(overlap)
    return [grid[:2] for grid in config.grids(height, width)]


def _refuse(overlap: int) -> None:
    if overlap:
        raise InputError(f"an overlap of {overlap} pixels: this model codes frames whole, expected 0")


@dataclass(frozen=True)
class Judgement:
    """What a block came to: distortion (see `distortion`) of its last frame, which stands for all, and bits
    per pixel, about."""

    distortion: float
    bpp: float

    def cost(self, lagrangian: float) -> float:
        """J = D + lambda * R."""
        return self.distortion + lagrangian * self.bpp


class _State(NamedTuple):
    """What is left of a block: its memory and, where its frames are known, the errors of the last one."""

    memory: Memory | None
    errors: Tensor | None


class _Asked(NamedTuple):
    """How a tube was analysed."""

    form: TubeForm
    rate: int
    levels: int


class _Tried(NamedTuple):
    """A tube that was analysed to see what it costs: J, of all its frames together."""

    frames: Sequence[Pixels]
    asked: _Asked
    before: Memory
    out: BlockOutput
    cost: float


def _last_distortion(y_TCHW: Tensor, x_TCHW: Tensor) -> float:
    """Of the last frame, large ones at half their size: a quarter of the time."""
    y_1CHW, x_1CHW = y_TCHW[-1:], x_TCHW[-1:]
    if min(x_1CHW.shape[-2:]) >= 2 * SMALLEST_MS_SSIM:
        y_1CHW, x_1CHW = F.avg_pool2d(y_1CHW, 2), F.avg_pool2d(x_1CHW, 2)
    lost_1, _ = distortion(y_1CHW, x_1CHW, weights_for(*x_1CHW.shape[-2:]))
    return float(lost_1)


class LadderTokenizer:
    """See BlockTokenizer. Holds the memory of the last block, and of the one before it for `take_back`.

    judging: whether `analyse` leaves in `judgement` what the block came to, where it keeps its memory.
    """

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._ladder = weights.ladder().to(device)
        self.config = self._ladder.config
        self._ladder.keep_in(torch.bfloat16)
        if not fast_bf16(device):  # the same numbers: what sets weights apart adds up from block to block
            self._ladder.float()
        self._device = device
        self._state = self._state_before = _State(None, None)
        self._begun: Memory | None = None  # coarse features of the block whose synthesis was begun last
        self.judging = False
        self.judgement = Judgement(0.0, 0.0)
        self._shown_TCHW: Tensor | None = None  # of the block that was analysed last
        self._tried: list[_Tried] = []  # in this GOP

    @property
    def most_frames(self) -> int:
        """In a GOP."""
        return Limits().frames_per_gop

    def shown(self) -> list[Pixels]:
        """The frames of the block that was analysed last, as they are decoded; none where it did not keep its
        memory."""
        return [] if self._shown_TCHW is None else to_pixels(self._shown_TCHW)

    def forget(self) -> None:
        """A new GOP begins."""
        self._state = self._state_before = _State(None, None)
        self._tried = []

    def drawn(self, frame: Pixels, others: Sequence[Pixels]) -> key_filter.Drawn:
        """What other frames say of one, for `filtered`."""
        frame_CHW, *others_CHW = self._padded([frame, *others])[0]
        return key_filter.drawn(frame_CHW, others_CHW)

    def filtered(self, frame: Pixels, others: key_filter.Drawn) -> Pixels:
        """A frame to begin a GOP with, see key_filter.py."""
        height, width, _ = frame.shape
        y_CHW = key_filter.filtered(self._padded([frame])[0, 0], others)
        return to_pixels(y_CHW[None, :, :height, :width])[0]

    def judge_alone(self, frames: Sequence[Pixels], rate: int, *, levels: int, effort: int) -> Judgement:
        """What a key frame would come to, whatever came before; nothing changes."""
        other = copy(self)
        other.forget()
        other.judging = True
        other.analyse(BlockKind.KEY, frames, rate, levels=levels, effort=effort)
        return other.judgement

    def take_back(self) -> None:
        """The block that was analysed last is not coded after all: all is as before it."""
        self._state = self._state_before

    def _log_lambda(self, rate: int) -> Tensor:
        return log_lambdas(self.config, [rate], self._device)

    def _padded(self, frames: Sequence[Pixels]) -> Tensor:
        """(1, T, C, H, W), sides as the coarsest grid needs them."""
        height, width, _ = frames[0].shape
        return to_tensor(frames, self._device, (self.config.padded(height), self.config.padded(width)))

    def analyse(
        self,
        kind: BlockKind,
        frames: Sequence[Pixels],
        rate: int,
        *,
        levels: int,
        effort: int = 0,
        keep_memory: bool = True,
        form: TubeForm | None = None,
    ) -> Tokens:
        """See BlockTokenizer."""
        x = self._padded(frames)
        height, width, _ = frames[0].shape
        form = form or TubeForm(len(frames))
        known = None if effort else self._known(frames, _Asked(form, rate, levels), self._state.memory)
        if known is not None:
            self._tried = [
                other for other in self._tried if other.asked == known.asked and other is not known
            ]
            out = known.out
        else:
            with torch.no_grad(), half_precision(self._device):
                out = self._ladder(
                    kind, self._log_lambda(rate), frames_BTCHW=x, memory=self._state.memory, form=form,
                    levels=levels, synthesise=keep_memory and not effort, rated=self.judging,
                )  # fmt: skip
        bits = out.bits
        if effort:
            search = Search(
                self._ladder, kind, x, self._state.memory, self._log_lambda(rate), (height, width), form
            )
            with torch.no_grad(), half_precision(self._device):
                bits = search.run(bits, out.points, effort)
            if keep_memory:
                with torch.no_grad(), half_precision(self._device):
                    out = self._ladder(
                        kind, self._log_lambda(rate), bits=bits, memory=self._state.memory, form=form,
                        rated=self.judging,
                    )  # fmt: skip
        self._state_before, self._state, self._shown_TCHW = self._state, _State(None, None), None
        if keep_memory:
            x_TCHW, y_TCHW = x[0, ..., :height, :width], out.frames_BTCHW[0, ..., :height, :width].float()
            self._state = _State(out.memory, cell_errors(y_TCHW[-1:].clamp(0, 1), x_TCHW[-1:]))
            self._shown_TCHW = y_TCHW
            if self.judging:
                bpp = self._bits(kind, out) / x_TCHW[:, 0].numel()
                self.judgement = Judgement(_last_distortion(y_TCHW, x_TCHW), bpp)
        return [b[0].to(torch.uint8).cpu().numpy() for b in bits]

    def _bits(self, kind: BlockKind, out: BlockOutput) -> float:
        """That a block will take, about."""
        vectors = self.config.motion_level if kind is BlockKind.TUBE else None
        shares = (VECTORS_SHARE if level == vectors else 1.0 for level in range(len(out.rate_bits_B)))
        return sum(share * float(bits_B) for share, bits_B in zip(shares, out.rate_bits_B, strict=True))

    def judge_repeat(self, frames: Sequence[Pixels]) -> Judgement | None:
        """What a tube would come to that shows the last frame again, None where something would be seen to
        stand still that moves (see `repeats.stands_still`); after a block that kept its memory."""
        memory, errors = self._state
        assert memory is not None
        assert errors is not None
        x_TCHW = to_tensor(frames, self._device)[0]
        y_TCHW = memory.frame[..., : x_TCHW.shape[-2], : x_TCHW.shape[-1]].expand_as(x_TCHW)
        if not stands_still(cell_errors(y_TCHW, x_TCHW), errors):
            return None
        return Judgement(_last_distortion(y_TCHW, x_TCHW), 0.0)

    def _known(self, frames: Sequence[Pixels], asked: _Asked, before: Memory | None) -> _Tried | None:
        """A tube of these frames after that memory, where it was tried."""
        for tried in self._tried:
            same = len(tried.frames) == len(frames) and all(map(is_, tried.frames, frames))
            if same and tried.asked == asked and tried.before is before:
                return tried
        return None

    @staticmethod
    def keeps_tried(frames: Sequence[Pixels]) -> bool:
        """Whether `cost_of_tubes` keeps what it finds of these frames."""
        pixels: int = frames[0].shape[0] * frames[0].shape[1]
        return len(frames) * pixels <= MOST_TRIED_PIXELS

    @torch.no_grad()
    def cost_of_tubes(self, frames: Sequence[Pixels], form: TubeForm, rate: int, levels: int) -> float:
        """J per frame of these frames in tubes of that form, all frames counted; after a block that kept
        its memory, which stays. Where that is kept, neither this nor `analyse` will work again on those of
        them that it comes to."""
        memory, total, asked = self._state.memory, 0.0, _Asked(form, rate, levels)
        for first in range(0, len(frames), form.frames):
            tube = frames[first : first + form.frames]
            tried = self._known(tube, asked, memory)
            if tried is None:
                assert memory is not None
                tried = self._try(tube, asked, memory)
                if self.keeps_tried(frames):
                    self._tried.append(tried)
            memory = tried.out.memory
            total += tried.cost
        return total / len(frames)

    def _try(self, frames: Sequence[Pixels], asked: _Asked, before: Memory) -> _Tried:
        height, width, _ = frames[0].shape
        x_1TCHW, lagrangian = self._padded(frames), self.config.lambda_of(asked.rate)
        with half_precision(self._device):
            out = self._ladder(
                BlockKind.TUBE, self._log_lambda(asked.rate), frames_BTCHW=x_1TCHW, memory=before,
                form=asked.form, levels=asked.levels, rated=True,
            )  # fmt: skip
        x_TCHW, y_TCHW = (part[0, ..., :height, :width] for part in (x_1TCHW, out.frames_BTCHW.float()))
        lost_T, _ = distortion(y_TCHW, x_TCHW, weights_for(height, width))
        cost = float(lost_T.sum()) + lagrangian * self._bits(BlockKind.TUBE, out) / (height * width)
        return _Tried(frames, asked, before, replace(out, points=[], soft_bits=[]), cost)

    def synthesise(
        self,
        kind: BlockKind,
        tokens: Sequence[npt.NDArray[np.uint8]],
        rate: int,
        height: int,
        width: int,
        form: TubeForm | None = None,
    ) -> list[Pixels]:
        """See BlockTokenizer."""
        return self.finish(self.begin(kind, tokens, rate, form), height, width)

    @torch.inference_mode()
    def begin(
        self,
        kind: BlockKind,
        tokens: Sequence[npt.NDArray[np.uint8]],
        rate: int,
        form: TubeForm | None = None,
    ) -> Descent:
        """The coarse half of `synthesise`: blocks in order, in any thread, ahead of their `finish`."""
        bits = [torch.from_numpy(level)[None].to(self._device) for level in tokens]
        with half_precision(self._device):
            descent = self._ladder.begin(
                kind, self._log_lambda(rate), bits=bits, memory=self._begun, form=form
            )
            for stride in (32, 16):
                self._ladder.descend(descent, stride)
        later = torch.empty(0)
        self._begun = Memory(later, descent.kept[16], descent.kept[32], later)
        return descent

    @torch.inference_mode()
    def finish(self, descent: Descent, height: int, width: int) -> list[Pixels]:
        """The frames of the block, after those of the block before."""
        if descent.kind is BlockKind.TUBE:
            descent.memory = self._state.memory
        with half_precision(self._device):
            self._ladder.descend(descent, 8)
            out = self._ladder.finish(descent)
        self._state = _State(out.memory, None)
        return to_pixels(out.frames_BTCHW[0, :, :, :height, :width])
