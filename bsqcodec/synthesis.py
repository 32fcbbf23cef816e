"""The tokenizer at work: frames to tokens and back, with the memory of the GOP kept between blocks.

# B = 1 · T frames of a block · H, W pixels or token grid · L bits per token
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind
from bsqcodec.model import Weights, precision
from bsqcodec.rdo import Search
from bsqcodec.tokenizer.ladder import Memory

Pixels = npt.NDArray[np.uint8]
Tokens = list[npt.NDArray[np.uint8]]


class Tokenizer:
    """Analysis and synthesis of the blocks of one clip, in order. Holds one block's memory and nothing
    else."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self.config = weights.card.tokenizer
        self.tube_frames = self.config.tube_frames
        self._ladder = weights.ladder().to(device)
        self._device, self._dtype = device, precision(device)
        self._memory: Memory | None = None

    def forget(self) -> None:
        """A new GOP begins."""
        self._memory = None

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self._dtype is torch.bfloat16
        return torch.autocast(self._device.type, torch.bfloat16) if half else nullcontext()

    def _log_lambda(self, rate: int) -> Tensor:
        return torch.tensor([[self.config.lambda_of(rate)]], device=self._device).log()

    def analyse(
        self,
        kind: BlockKind,
        frames: Sequence[Pixels],
        rate: int,
        *,
        levels: int,
        effort: int = 0,
        keep_memory: bool = True,
    ) -> Tokens:
        """Tokens of the coarsest `levels` levels, each (H, W, L) uint8 {0, 1}.

        frames: H x W x 3 uint8, one for a key frame, tube_frames for a tube. rate: index 0..1000.
        effort: 0..9, see `rdo.Search`. keep_memory: False where no block follows in this GOP.
        """
        x = torch.from_numpy(np.stack(frames)).to(self._device).permute(0, 3, 1, 2)[None].float() / 255
        height, width = x.shape[-2:]
        x = pad(x, self.config.padded(height), self.config.padded(width))
        with torch.no_grad(), self._autocast():
            out = self._ladder(
                kind, self._log_lambda(rate), frames_BTCHW=x, memory=self._memory, levels=levels,
                synthesise=keep_memory and not effort,
            )  # fmt: skip
        bits = out.bits
        if effort:
            search = Search(self._ladder, kind, x, self._memory, self._log_lambda(rate), (height, width))
            with self._autocast():
                bits = search.run(bits, effort)
            if keep_memory:
                with torch.no_grad(), self._autocast():
                    out = self._ladder(kind, self._log_lambda(rate), bits=bits, memory=self._memory)
        self._memory = out.memory if keep_memory else None
        return [b[0].to(torch.uint8).cpu().numpy() for b in bits]

    @torch.inference_mode()
    def synthesise(
        self, kind: BlockKind, tokens: Sequence[npt.NDArray[np.uint8]], rate: int, height: int, width: int
    ) -> list[Pixels]:
        """The frames of a block, H x W x 3 uint8 each. tokens: one array per level, finer ones may be
        missing."""
        bits = [torch.from_numpy(level)[None].to(self._device) for level in tokens]
        with self._autocast():
            out = self._ladder(kind, self._log_lambda(rate), bits=bits, memory=self._memory)
        self._memory = out.memory
        y_THWC = out.frames_BTCHW[0, :, :, :height, :width].clamp(0, 1).mul(255).round().to(torch.uint8)
        return list(y_THWC.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def pad(x_BTCHW: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column until the frames are height x width."""
    rows = torch.arange(height, device=x_BTCHW.device).clamp(max=x_BTCHW.shape[-2] - 1)
    columns = torch.arange(width, device=x_BTCHW.device).clamp(max=x_BTCHW.shape[-1] - 1)
    return x_BTCHW[..., rows, :][..., columns]
