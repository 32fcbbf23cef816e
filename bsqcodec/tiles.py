"""The paper's tokenizer at work on frames of any size: square tiles, each coded on its own.

# B tiles at once · T = 1 frame · H, W pixels or token grid · S side of a tile · L bits per token

The tokens of all tiles lie side by side in one grid. Frames are padded by edge replication to whole tiles;
tiles may overlap, and are then blended. In a GOP each tile has a cache of keys and values of its frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.errors import FormatError, InputError
from bsqcodec.machine import half_precision
from bsqcodec.model import Weights
from bsqcodec.pixels import Pixels, to_pixels, to_tensor
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.bsqvit import Cache

Tokens = list[npt.NDArray[np.uint8]]

TILES_AT_ONCE = 4


class TileTokenizer:
    """Analysis and synthesis of the frames of one clip, in order; see synthesis.BlockTokenizer.

    overlap: pixels that neighbouring tiles share, up to half a tile.
    """

    def __init__(self, weights: Weights, device: torch.device, overlap: int = 0) -> None:
        network = weights.bsqvit()
        self.config = network.config
        if overlap > self.config.image_size // 2:
            raise InputError(
                f"an overlap of {overlap} pixels, expected at most half a tile, {self.config.image_size // 2}"
            )
        self._network = network.to(device)
        self._device, self._overlap = device, overlap
        self._analysed: list[Cache] = []
        self._synthesised: list[Cache] = []

    @property
    def most_frames(self) -> int:
        """In a GOP."""
        return self.config.frames

    def forget(self) -> None:
        """A new GOP begins."""
        self._analysed, self._synthesised = [], []

    @torch.inference_mode()
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
        """The one grid of tokens of a frame, (H, W, L) uint8 {0, 1}; see BlockTokenizer."""
        if effort:
            raise InputError(f"effort {effort}: a BSQ-ViT has no better bits to search for, expected 0")
        height, width, _ = frames[0].shape
        rows, columns = self.config.tiles(height, self._overlap), self.config.tiles(width, self._overlap)
        side, step = self.config.image_size, self.config.image_size - self._overlap
        x = to_tensor(frames, self._device, (side + (rows - 1) * step, side + (columns - 1) * step))[0]
        x_rCScS = x.unfold(-2, side, step).unfold(-2, side, step)
        tiles_nTCSS = x_rCScS.permute(2, 3, 0, 1, 4, 5).flatten(0, 1)
        found = []
        caches = self._caches(self._analysed, kind, keep_memory)
        for tiles, cache in zip(torch.split(tiles_nTCSS, TILES_AT_ONCE), caches, strict=False):
            with half_precision(self._device):
                u = self._network.sphere(tiles, cache)
            found.append(self._network.bits(u)[:, 0].to(torch.uint8).cpu())
        grid = torch.cat(found)
        grid = grid.reshape(rows, columns, *grid.shape[1:]).transpose(1, 2)
        return [grid.flatten(2, 3).flatten(0, 1).contiguous().numpy()]

    @torch.inference_mode()
    def synthesise(
        self,
        kind: BlockKind,
        tokens: Sequence[npt.NDArray[np.uint8]],
        rate: int,
        height: int,
        width: int,
        form: TubeForm | None = None,
    ) -> list[Pixels]:
        """The frame that a grid of tokens means, H x W x 3 uint8; see BlockTokenizer."""
        size, side, step = self.config.image_size, self.config.side, self.config.image_size - self._overlap
        bits = torch.from_numpy(tokens[0]).to(self._device)
        rows, columns = bits.shape[0] // side, bits.shape[1] // side
        tiles_nHWL = bits.reshape(rows, side, columns, side, -1).transpose(1, 2).flatten(0, 1)
        fade = _fade(size, self._overlap).to(self._device)
        weight_SS = fade[:, None] * fade
        y_CHW = torch.zeros(3, size + (rows - 1) * step, size + (columns - 1) * step, device=self._device)
        total_HW = torch.zeros(y_CHW.shape[1:], device=self._device)
        number = 0
        caches = self._caches(self._synthesised, kind, True)
        for tiles, cache in zip(torch.split(tiles_nHWL, TILES_AT_ONCE), caches, strict=False):
            with half_precision(self._device):
                pixels = self._network.pixels(bsq.corners(tiles)[:, None], cache)[:, 0]
            for tile in pixels:
                top, left = number // columns * step, number % columns * step
                y_CHW[:, top : top + size, left : left + size] += tile * weight_SS
                total_HW[top : top + size, left : left + size] += weight_SS
                number += 1
        return to_pixels((y_CHW / total_HW)[None, :, :height, :width])

    def _caches(self, caches: list[Cache], kind: BlockKind, keep: bool) -> Iterator[Cache | None]:
        """The cache of every few tiles, as long as they are asked for; None where no frame will follow."""
        if kind is BlockKind.KEY:
            caches.clear()
        if self.config.frames == 1 or (kind is BlockKind.KEY and not keep):
            while True:
                yield None
        if caches and caches[0].frames >= self.config.frames:
            raise FormatError(f"a GOP of more than {self.config.frames} frames, which the model cannot hold")
        yield from caches
        while True:
            caches.append(Cache())
            yield caches[-1]


def _fade(size: int, overlap: int) -> Tensor:
    """The share of a tile's rows in the blend, rising over the overlap; sums are scaled to 1 later."""
    near = torch.arange(1, size + 1)
    return torch.minimum(near, near.flip(0)).div(overlap + 1).clamp(max=1.0)
