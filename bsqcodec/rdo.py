"""Search for better bits in the encoder: J = D + lambda * R of the real decoder falls, or nothing changes.

# B = 1 · T frames of a block · C = 3 · H, W pixels or token grid · L bits per token

The encoder network guesses the bits in one pass. Here they are refined for the picture at hand, as SGA does
for other codecs (Yang, Bamler, Mandt, arXiv 2006.04240), without its noise: every bit becomes
sigmoid(theta / temperature), theta starts from the encoder's point on the sphere, and gradient descent on J
moves theta while the temperature falls until the bits are as good as hard. Coarse levels harden first, so
that the finer ones make up for what they became. R is the side prior's. The schedule was found on held-out
pictures (training/LOG.md). Vectors of tubes stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.distortion import distortion, weights_for
from bsqcodec.tokenizer import bsq
from bsqcodec.tokenizer.config import CELL
from bsqcodec.tokenizer.ladder import STRIDES, Ladder, Memory

FIRST_STEPS = 6
"""Gradient steps at effort 1; every further effort takes half as long again, about."""

LEARNING_RATE = 0.15
HOTTEST, COLDEST = 0.5, 0.03
"""Temperatures at the beginning of a search of 20 steps or more, and at the end."""

LEAD = 0.3
"""By this share of the search's pace a level hardens faster than the next finer one."""

RATE_FACTOR = 1.25
"""The rate counts this much more than under the side prior: the prior that codes the bits sees patterns that
the side prior does not, and pays for bits that break them. With it files keep their size."""

TILE, MARGIN = 768, 256
"""Pixels, multiples of the coarsest windows' side: larger frames are searched in squares of TILE, each with
MARGIN around it that is seen but not changed, so that memory does not grow with the frame."""

MOST_PIXELS = 1920 * 1088
"""Frames (times their number in a block) up to this size are searched whole."""


def steps_of(effort: int) -> int:
    """Gradient steps of an effort of 1..9."""
    return round(FIRST_STEPS * math.sqrt(2) ** (effort - 1))


@dataclass(frozen=True)
class _Window:
    """A part of a block on its own. vectors: of a tube. grid: rows and columns of every level's tokens;
    inner: those of them that the search may change, counted from the window's corner."""

    frames_BTCHW: Tensor
    memory: Memory | None
    vectors: Tensor | None
    grid: list[tuple[slice, slice]]
    inner: list[tuple[slice, slice]]

    def of(self, whole: Sequence[Tensor]) -> list[Tensor]:
        """Views of the window's part of one (B, H, W, L) tensor per level."""
        return [level[:, rows, columns] for level, (rows, columns) in zip(whole, self.grid, strict=True)]


class Search:
    """The search for one block.

    frames_BTCHW: 0..1, padded. size: rows and columns that count. memory: as before the block. form: of a
    tube; of a key frame it says nothing.
    """

    def __init__(
        self,
        ladder: Ladder,
        kind: BlockKind,
        frames_BTCHW: Tensor,
        memory: Memory | None,
        log_lambda_B1: Tensor,
        size: tuple[int, int],
        form: TubeForm,
    ) -> None:
        self._ladder, self._kind, self._log_lambda = ladder, kind, log_lambda_B1
        self._frames, self._memory, self._size = frames_BTCHW, memory, size
        self._vectors: Tensor | None = None
        self._form = form
        self._motion = ladder.config.motion_level if kind is BlockKind.TUBE else None

    def run(self, bits: Sequence[Tensor], points: Sequence[Tensor], effort: int) -> list[Tensor]:
        """Bits at least as good as those given, which lie nearest to the points on the sphere.

        bits, points: one (B, H, W, L) tensor for each of the levels that are coded, coarse first.
        """
        best = [level.detach().float().clone() for level in bits]
        if self._kind is BlockKind.TUBE and self._memory is not None:
            self._vectors = self._ladder.vectors(best, None, self._log_lambda, self._memory, self._form)
        for window in self._windows(len(best)):
            before, near = window.of(best), window.of(points)
            after = self._refine(window, before, near, steps_of(effort))
            if self._cost(window, after) < self._cost(window, before):
                for level, found, (rows, columns) in zip(before, after, window.inner, strict=True):
                    level[:, rows, columns] = found[:, rows, columns]  # a view of `best`
        return best

    def _refine(self, window: _Window, before: list[Tensor], near: list[Tensor], steps: int) -> list[Tensor]:
        """The bits of a window after gradient descent; those outside its inner part as they were."""
        with torch.enable_grad():
            thetas = {
                number: self._theta(near[number][:, rows, columns])
                for number, (rows, columns) in enumerate(window.inner)
                if number != self._motion
            }
            adam = torch.optim.Adam(thetas.values(), betas=(0.8, 0.95))
            for step in range(steps):
                done = step / max(1, steps - 1)
                falling = 0.55 + 0.45 * math.cos(math.pi * step / steps)
                adam.param_groups[0]["lr"] = LEARNING_RATE * falling
                soft = {
                    number: torch.sigmoid(theta / _temperature(len(before) - 1 - number, done, steps))
                    for number, theta in thetas.items()
                }
                cost = self._cost(window, _put(before, soft, window))
                free = list(thetas.values())
                for theta, gradient in zip(free, torch.autograd.grad(cost, free), strict=True):
                    theta.grad = gradient
                adam.step()
        hard = {number: bsq.signs(theta.detach()) for number, theta in thetas.items()}
        return _put(before, hard, window)

    @staticmethod
    def _theta(points: Tensor) -> Tensor:
        return (4 * math.sqrt(points.shape[-1]) * points.detach().float()).requires_grad_()

    def _cost(self, window: _Window, bits: Sequence[Tensor]) -> Tensor:
        """J of a window, with the weighted rate."""
        out = self._ladder(
            self._kind, self._log_lambda, bits=bits, memory=window.memory, vectors=window.vectors,
            form=self._form, rated=True,
        )  # fmt: skip
        x_TCHW = window.frames_BTCHW.flatten(0, 1)
        T, _, H, W = x_TCHW.shape
        y_TCHW = out.frames_BTCHW[..., :H, :W].float().flatten(0, 1)
        lost_T, _ = distortion(y_TCHW, x_TCHW, weights_for(H, W))
        bpp = torch.stack(out.rate_bits_B).sum() / (T * H * W)
        return lost_T.mean() + RATE_FACTOR * self._log_lambda.exp().squeeze() * bpp

    def _windows(self, levels: int) -> Iterator[_Window]:
        """The block, whole or in overlapping parts."""
        strides = [level.stride for level in self._ladder.config.levels[:levels]]
        _, frames, _, tall, wide = self._frames.shape
        whole = frames * tall * wide <= MOST_PIXELS
        tile = (tall, wide) if whole else (TILE, TILE)
        for top in range(0, tall, tile[0]):
            for left in range(0, wide, tile[1]):
                yield self._window(strides, _Span.of(top, tile[0], tall), _Span.of(left, tile[1], wide))

    def _window(self, strides: list[int], rows: _Span, columns: _Span) -> _Window:
        height, width = self._size
        memory = self._memory
        if memory is not None:
            at8, at16, at32 = (
                part[:, rows.outer(stride), columns.outer(stride)]
                for part, stride in zip(memory[:3], STRIDES, strict=True)
            )
            memory = Memory(at8, at16, at32, memory.frame[..., rows.outer(1), columns.outer(1)])
        return _Window(
            self._frames[..., :height, :width][..., rows.outer(1), columns.outer(1)].float(),
            memory,
            None if self._vectors is None else self._vectors[:, rows.outer(CELL), columns.outer(CELL)],
            [(rows.outer(stride), columns.outer(stride)) for stride in strides],
            [(rows.inner(stride), columns.inner(stride)) for stride in strides],
        )


@dataclass(frozen=True)
class _Span:
    """Pixels `first` to `last` along one axis, of which those from `start` to `end` may change."""

    first: int
    start: int
    end: int
    last: int

    @staticmethod
    def of(start: int, length: int, total: int) -> _Span:
        end = min(start + length, total)
        return _Span(max(0, start - MARGIN), start, end, min(total, end + MARGIN))

    def outer(self, stride: int) -> slice:
        """On a grid of the whole axis."""
        return slice(self.first // stride, self.last // stride)

    def inner(self, stride: int) -> slice:
        """On a grid that begins at `first`."""
        return slice((self.start - self.first) // stride, (self.end - self.first) // stride)


def _temperature(finer: int, done: float, steps: int) -> float:
    """Of a level below which there are so many finer ones, at a share `done` of so many steps."""
    hottest = min(HOTTEST, steps / 40)
    return hottest + (COLDEST - hottest) * min(1.0, done * (1 + LEAD * finer))


def _put(bits: Sequence[Tensor], found: Mapping[int, Tensor], window: _Window) -> list[Tensor]:
    """The bits of a window with those of its inner part replaced in the levels found; gradients pass."""
    put = list(bits)
    for number, new in found.items():
        rows, columns = window.inner[number]
        if new.shape != put[number].shape:
            put[number] = put[number].clone()
            put[number][:, rows, columns] = new
        else:
            put[number] = new
    return put
