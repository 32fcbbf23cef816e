"""Search for the vectors of a tube in the encoder: what they bring against what they cost.

# B batch · h, w cells · A anchors · T frames of a tube · C = 3 · H, W pixels · K choices

From pictures reduced eight times, where all vectors are tried, down to half or quarter pixels, where each is
compared with its surroundings and its neighbours' vectors, as x264 and others do. Judged by squared
differences of luma, and by how far a vector is off those around it; then by what the code makes of it, and in
the end by what all vectors together make of the frame, as overlapped blocks are since Orchard and Sullivan
(IEEE Transactions on Image Processing 3(5), 1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.blocks import TubeForm
from bsqcodec.tokenizer.config import CELL
from bsqcodec.tokenizer.motion import (
    AVERAGED,
    BEYOND,
    from_rows,
    half_pixels,
    medians,
    quarter_pixels,
    wrapped,
)

COARSEST = 8
"""Reduction at which every vector is tried."""

REACH = 63
"""Pixels that a vector may be long along each axis, where its steps are half pixels; with quarters half as
many."""

ERROR_WEIGHT = 60.0
"""What a squared difference of a pixel counts as in D (see `distortion`): more than its own share of 4, as
MS-SSIM falls with it, and as tubes draw on each other."""

AROUND_SHARE = 0.4
"""How much of a cell's error is what its vector does to the pixels that it has a share in, half a cell around
it too (see `motion.compensate`); the rest is that of the cell alone."""

ROUNDS = 2
"""Comparisons with surroundings and neighbours at the finest steps."""

CODED_ROUNDS = 1
"""Comparisons by the bits of the code."""

CODED_SHARE = 0.9
"""What those count as, by J on held-out clips: the prior takes some of them back."""

OVERLAPPED_ROUNDS = 2
"""Comparisons by what all vectors together make of the frame, on CPUs: elsewhere the search ends before."""

OVERLAPPED_SHARE = 2.0
"""What bits of the code count as in those: errors that the vectors around mend are not counted there."""

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))


@torch.no_grad()
def search(
    frames_BTCHW: Tensor,
    before_BCHW: Tensor,
    lagrangian_B: Tensor,
    anchors: int,
    quarters: bool = False,
) -> Tensor:
    """Vectors of a tube, (B, h, w, A, 2), int64, see motion.py.

    frames_BTCHW: 0..1, sides multiples of 32. before_BCHW: the decoded frame before them. lagrangian_B:
    lambda. quarters: in steps of quarters of a pixel, also where tubes of more than one frame have halves.
    """
    with torch.autocast(frames_BTCHW.device.type, enabled=False):
        T = frames_BTCHW.shape[1]
        searched, rows = min(anchors, T), anchors if T == 1 else 1
        cost = lagrangian_B.float() * searched / (T * ERROR_WEIGHT)  # of a bit, in squared differences
        past = _Past(_luma(before_BCHW.float()), TubeForm(T, quarters).steps_per_pixel)
        last = torch.zeros(1, device=before_BCHW.device, dtype=torch.int64)
        line = last
        found = []
        for anchor in range(searched):
            frame = _luma(frames_BTCHW[:, (anchor + 1) * T // searched - 1].float())
            if frame.device.type == "cpu":
                vectors = _compiled_search(past, frame, cost, line, rows)
                vectors = _overlapped(past, frame, cost, line, vectors)
            else:
                vectors = _Anchor(past, frame, cost[:, None, None], rows).search(line)
            if T == 1:
                return from_rows(vectors, rows)
            line, last = 2 * vectors - last, vectors
            found.append(vectors)
        for _ in range(anchors - searched):
            found.append(wrapped(line))
            line, last = 2 * found[-1] - last, found[-1]
    return torch.stack(found, 3)


def _luma(x_BCHW: Tensor) -> Tensor:
    return 0.299 * x_BCHW[:, 0] + 0.587 * x_BCHW[:, 1] + 0.114 * x_BCHW[:, 2]


class _Past:
    """The frame before a tube, (B, H, W), as the search for every anchor wants it. steps: of a vector in a
    pixel."""

    def __init__(self, before_BHW: Tensor, steps: int) -> None:
        self._before, self.steps = before_BHW, steps
        self.reach = 2 * REACH // steps
        self.coarsest = _reduced(before_BHW, COARSEST)
        self._planes: dict[int, Tensor] = {}

    def planes(self, reduction: int, edge: int) -> Tensor:
        """The frame, reduced so, (B, P, H + 2 * edge + 1, W + 2 * edge + 1), which begins `edge` pixels
        beyond the border. P: a plane for every place between pixels, so that what a vector points at lies
        side by side in one of them."""
        if reduction not in self._planes:
            before = _reduced(self._before, reduction)
            if reduction == 1 and before.device.type == "cpu":
                self._planes[reduction] = self._compiled_planes(edge)
            else:
                planes, there = before[:, None], 0
                if reduction == 1:
                    planes = (half_pixels if self.steps == 2 else quarter_pixels)(planes)[:, 0]
                    there = BEYOND
                planes = F.pad(planes, (edge - there, edge + 1 - there) * 2, mode="replicate")
                self._planes[reduction] = planes.contiguous()
        return self._planes[reduction]

    def _compiled_planes(self, edge: int) -> Tensor:
        from bsqcodec.tokenizer import kernels, search_kernels  # where one trains numba may be missing

        B, H, W = self._before.shape
        halves = torch.empty(4, H + 2 * BEYOND, W + 2 * BEYOND)
        planes = torch.empty(B, self.steps**2, H + 2 * edge + 1, W + 2 * edge + 1)
        for frame, found in zip(self._before, planes, strict=True):
            kernels.half_pixels(frame[..., None].contiguous().numpy(), BEYOND, AVERAGED, halves.numpy())
            search_kernels.finer_planes(halves.numpy(), self.steps, edge - BEYOND, found.numpy())
        return planes


class _Scale(NamedTuple):
    """How a cell is compared at a reduction. tall, wide: its sides. steps: of a vector in a pixel. area:
    pixels that one stands for. limit: the longest vector along an axis, in steps. above, beside: pixels
    around a cell that count as well. edge: pixels that all this goes beyond the frame."""

    tall: int
    wide: int
    steps: int
    area: int
    limit: int
    above: int
    beside: int
    edge: int

    @staticmethod
    def of(past: _Past, reduction: int, rows: int = 1) -> _Scale:
        """rows: of vectors in a cell."""
        if reduction > 1:
            side, limit = CELL // reduction, past.reach // reduction
            return _Scale(side, side, 1, reduction**2, limit, 0, 0, limit)
        tall, limit = CELL // rows, past.reach * past.steps
        return _Scale(tall, CELL, past.steps, 1, limit, tall // 2, CELL // 2, CELL // 2 + past.reach)


class _Anchor:
    """The search for one anchor. cost_B11: of a bit, in squared differences of a pixel."""

    def __init__(self, past: _Past, frame_BHW: Tensor, cost_B11: Tensor, rows: int) -> None:
        self._past, self._frame, self._cost, self._rows = past, frame_BHW, cost_B11, rows

    def search(self, line_Bhw2: Tensor) -> Tensor:
        """Vectors, (B, h, w, 2). line: where they are expected, or one 0."""
        vectors = self._coarsest()
        reduction = COARSEST
        while reduction > 2:
            reduction //= 2
            errors = _Errors(self._past, self._frame, reduction)
            vectors = 2 * vectors
            choices = torch.cat([_stepped(vectors, 1), torch.stack(_neighbours(vectors))])
            vectors = self._cheapest(errors, vectors, choices)
        vectors = (vectors * reduction * self._past.steps).repeat_interleave(self._rows, 1)
        line = line_Bhw2.expand_as(vectors)
        errors = _Errors(self._past, self._frame, 1, self._rows)
        start = torch.stack([torch.zeros_like(vectors), line])
        start = torch.cat([_stepped(vectors, self._past.steps), start])
        vectors = self._cheapest(errors, vectors, start, _off_neighbours(vectors, line))
        open_Bhw = None
        for _ in range(ROUNDS):
            bits = _off_neighbours(vectors, line)
            beside = torch.stack(_neighbours(vectors - line)) + line
            choices = torch.cat([_stepped(vectors, 1), beside])
            found = self._cheapest(errors, vectors, choices, bits, open_Bhw)
            open_Bhw = _touched(_differ(found, vectors))
            vectors = found
        return self._settled(errors, vectors, line)

    def _settled(self, errors: _Errors, vectors: Tensor, line: Tensor) -> Tensor:
        """Vectors that give way to what is around them, or to the code's own guess, where that costs less."""
        open_Bhw = torch.ones_like(vectors[..., 0], dtype=torch.bool)
        for _ in range(CODED_ROUNDS):
            before = vectors
            for own_hw in _apart(*vectors.shape[1:3], vectors.device):
                own_Bhw = own_hw & open_Bhw
                off = vectors - line
                guesses = torch.stack([*_neighbours(off), medians(off[..., None, :])[..., 0, :]])
                bits = _coded(vectors, line, own_Bhw)
                vectors = self._cheapest(errors, vectors, line + guesses, bits, own_Bhw)
            open_Bhw = _touched(_differ(before, vectors))
        return vectors

    def _coarsest(self) -> Tensor:
        """The best of all vectors at the coarsest reduction, in its pixels."""
        before, frame = self._past.coarsest, _reduced(self._frame, COARSEST)
        B, H, W = frame.shape
        side, reach = CELL // COARSEST, self._past.reach // COARSEST
        padded = F.pad(before[:, None], (reach,) * 4, mode="replicate")[:, 0]
        columns = torch.arange(-reach, reach + 1, device=frame.device)
        steps = COARSEST * self._past.steps
        best = frame.new_full((B, H // side, W // side), math.inf)
        vectors = torch.zeros(*best.shape, 2, device=frame.device, dtype=torch.int64)
        for row in range(-reach, reach + 1):
            there = padded[:, reach + row : reach + row + H].unfold(2, W, 1)  # B, H, columns, W
            errors = (there - frame[:, :, None]).square().transpose(1, 2)
            errors = F.avg_pool2d(errors, side)
            # The cells around have a say: at this size a cell is too small to know on its own.
            errors = F.avg_pool2d(errors, 3, 1, 1, count_include_pad=False) * CELL**2
            bits = torch.log2((1 + steps * abs(row)) * (1.0 + steps * columns.abs()))[:, None, None]
            total, column = (errors + self._cost[:, None] * bits).min(1)
            better = total < best
            best = torch.where(better, total, best)
            found = torch.stack([torch.full_like(column, row), column - reach], -1)
            vectors = torch.where(better[..., None], found, vectors)
        return vectors

    def _cheapest(
        self,
        errors: _Errors,
        vectors: Tensor,
        choices: Tensor,
        bits: Callable[[Tensor], Tensor] | None = None,
        open_Bhw: Tensor | None = None,
    ) -> Tensor:
        """For every cell the vector itself or the one of the choices (K, B, h, w, 2) that costs least. bits:
        of each choice, (K, B, h, w). open: the cells that are asked at all."""
        choices = torch.cat([vectors[None], choices]).clamp(-errors.limit, errors.limit)
        asked = _differ(choices, vectors)
        if open_Bhw is not None:
            asked &= open_Bhw
        asked[0] = asked.any(0)
        places = asked.view(-1).nonzero()[:, 0]
        found = errors(choices.view(-1, 2).index_select(0, places), places % vectors[..., 0].numel())
        costs = found.new_full((asked.numel(),), math.inf).index_copy_(0, places, found).view(asked.shape)
        if bits is not None:
            costs += self._cost * bits(choices)
        return choices.gather(0, costs.argmin(0)[None, ..., None].expand(1, *vectors.shape))[0]


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Where vectors (..., 2) are not the same; faster than any() over two numbers."""
    differ = one != other
    return differ[..., 0] | differ[..., 1]


def _bits(off_Bhw2: Tensor) -> Tensor:
    """What a vector costs, about, that is so far off its guess."""
    far = off_Bhw2.abs().float()
    down, right = (2 * torch.log2(1 + far) + 0.7 * (far > 0)).unbind(-1)
    return down + right


def _off_neighbours(vectors_Bhw2: Tensor, line_Bhw2: Tensor) -> Callable[[Tensor], Tensor]:
    """Bits of choices by how far they are off each of the four cells beside."""
    around = torch.stack(_neighbours(vectors_Bhw2 - line_Bhw2))
    return lambda choices_KBhw2: _bits(choices_KBhw2[:, None] - line_Bhw2 - around).mean(1)


def _coded(vectors_Bhw2: Tensor, line_Bhw2: Tensor, own_Bhw: Tensor) -> Callable[[Tensor], Tensor]:
    """Bits of choices for the cells `own`, all else being as it is: of their residuals (see motion.py) and of
    those of the cells whose guesses they are part of: to the right, below, and below to the left."""

    def bits(choices_KBhw2: Tensor) -> Tensor:
        K, _, h, w, _ = choices_KBhw2.shape
        off = torch.where(own_Bhw[..., None], choices_KBhw2, vectors_Bhw2) - line_Bhw2
        off = off.flatten(0, 1)[..., None, :]
        spent = F.pad(_bits(wrapped(off - medians(off)))[..., 0], (1, 1, 0, 1))
        right, below, left = spent[:, :h, 2:], spent[:, 1:, 1:-1], spent[:, 1:, :w]
        return CODED_SHARE * (spent[:, :h, 1:-1] + right + below + left).view(K, -1, h, w)

    return bits


def _compiled_search(past: _Past, frame_BHW: Tensor, cost_B: Tensor, line_Bhw2: Tensor, rows: int) -> Tensor:
    """What `_Anchor.search` finds, clip by clip."""
    from bsqcodec.tokenizer import search_kernels as kernels

    B, H, W = frame_BHW.shape
    lines = line_Bhw2.expand(B, rows * H // CELL, W // CELL, 2).contiguous().numpy()
    reduced = {factor: _reduced(frame_BHW, factor).contiguous() for factor in (COARSEST, 4, 2, 1)}
    found = torch.empty(lines.shape, dtype=torch.int64)
    for clip, (cost, line) in enumerate(zip(cost_B.tolist(), lines, strict=True)):
        before, frame = past.coarsest[clip].numpy(), reduced[COARSEST][clip].numpy()
        reach, steps = past.reach // COARSEST, COARSEST * past.steps
        vectors = kernels.coarsest(before, frame, CELL // COARSEST, reach, steps, cost)
        everywhere = np.ones(vectors.shape[:2], np.bool_)
        for reduction in (4, 2):
            scale = _Scale.of(past, reduction)
            planes, frame = past.planes(reduction, scale.edge)[clip].numpy(), reduced[reduction][clip].numpy()
            at = (planes, frame, shares(scale).numpy(), scale)
            vectors = 2 * vectors
            around = kernels.neighbours(vectors)
            choices = kernels.stepped(vectors, 1, around)
            vectors = kernels.refined(*at, vectors, choices, around, line, 0.0, everywhere)
        vectors = np.repeat(2 * past.steps * vectors, rows, 0)
        everywhere = np.ones(vectors.shape[:2], np.bool_)
        scale = _Scale.of(past, 1, rows)
        planes, frame = past.planes(1, scale.edge)[clip].numpy(), reduced[1][clip].numpy()
        at = (planes, frame, shares(scale).numpy(), scale)
        start = np.stack([np.zeros_like(line), line], 2)
        choices = kernels.stepped(vectors, past.steps, start)
        around = kernels.neighbours(vectors - line)
        vectors = kernels.refined(*at, vectors, choices, around, line, cost, everywhere)
        asked = everywhere
        for _ in range(ROUNDS):
            around = kernels.neighbours(vectors - line)
            choices = kernels.stepped(vectors, 1, around + line[:, :, None])
            before, vectors = vectors, kernels.refined(*at, vectors, choices, around, line, cost, asked)
            asked = kernels.touched(before, vectors)
        asked = everywhere
        for _ in range(CODED_ROUNDS):
            before = vectors.copy()
            kernels.settle(*at, vectors, line, CODED_SHARE * cost, asked)
            asked = kernels.touched(before, vectors)
        found[clip] = torch.from_numpy(vectors)
    return found


def _overlapped(
    past: _Past, frame_BHW: Tensor, cost_B: Tensor, line_Bhw2: Tensor, vectors_Bhw2: Tensor
) -> Tensor:
    """The vectors, compared once more by what they all together make of the frame."""
    from bsqcodec.tokenizer import search_kernels as kernels

    found = vectors_Bhw2.clone()
    scale = _Scale.of(past, 1, found.shape[1] * CELL // frame_BHW.shape[1])
    planes = past.planes(1, scale.edge)
    for clip, cost in enumerate(cost_B.tolist()):
        line = line_Bhw2.expand_as(found)[clip].contiguous().numpy()
        kernels.settle_overlapped(
            planes[clip].numpy(), frame_BHW[clip].contiguous().numpy(), scale, found[clip].numpy(), line,
            OVERLAPPED_SHARE * cost, OVERLAPPED_ROUNDS,
        )  # fmt: skip
    return found


class _Errors:
    """Squared differences of cells from where their vectors point, both frames reduced so, as if they were
    not."""

    def __init__(self, past: _Past, frame_BHW: Tensor, reduction: int, rows: int = 1) -> None:
        frame, scale = _reduced(frame_BHW, reduction), _Scale.of(past, reduction, rows)
        _, H, W = frame.shape
        cell = (scale.tall, scale.wide)
        self._grid = (H // scale.tall, W // scale.wide)
        self._scale, self.limit = scale, scale.limit
        sides = (scale.tall + 2 * scale.above, scale.wide + 2 * scale.beside)
        edges = (scale.beside,) * 2 + (scale.above,) * 2
        self._frame = _boxes(F.pad(frame, edges), cell, sides).flatten(0, 2)
        inside = _boxes(F.pad(torch.ones_like(frame[:1]), edges), cell, sides)
        self._shares = (inside * shares(scale).to(frame.device)).flatten(0, 2)
        self._anywhere = _boxes(past.planes(reduction, scale.edge).flatten(0, 1), (1, 1), sides)

    def __call__(self, vectors_N2: Tensor, own_N: Tensor) -> Tensor:
        """(N,), for vectors no longer than `limit`. own: number of each one's cell, clip by clip, row by
        row."""
        tall, wide, steps, area, _, above, beside, edge = self._scale
        down, right = vectors_N2.unbind(-1)
        h, w = self._grid
        plane = steps**2 * (own_N // (h * w)) + (down % steps) * steps + right % steps
        top = tall * (own_N // w % h) + edge - above + down // steps
        left = wide * (own_N % w) + edge - beside + right // steps
        difference = self._anywhere[plane, top, left] - self._frame[own_N]
        return (difference.square() * self._shares[own_N % (h * w)]).sum((1, 2)).mul_(area)


def _boxes(x_BHW: Tensor, steps: tuple[int, int], sides: tuple[int, int]) -> Tensor:
    """A view of the boxes of such sides that begin at every so many pixels, (B, rows, columns, tall,
    wide)."""
    return x_BHW.unfold(1, sides[0], steps[0]).unfold(2, sides[1], steps[1])


@cache
def shares(scale: _Scale) -> Tensor:
    """What the error of each pixel of a cell and around it counts; as much as there are pixels in the
    cell."""
    inner = torch.ones(scale.tall, scale.wide)
    if not scale.above:
        return inner
    near = [(torch.arange(side) + 0.5) / side for side in (scale.tall, scale.wide)]
    rows, columns = (torch.cat([half, half.flip(0)]) for half in near)
    inner = F.pad(inner, (scale.beside,) * 2 + (scale.above,) * 2)
    return (1 - AROUND_SHARE) * inner + AROUND_SHARE * rows[:, None] * columns


def _reduced(x_BHW: Tensor, factor: int) -> Tensor:
    return x_BHW if factor == 1 else F.avg_pool2d(x_BHW[:, None], factor)[:, 0]


@lru_cache(maxsize=16)
def _ways(device: torch.device) -> Tensor:
    """One step in each of the eight directions, (8, 1, 1, 1, 2)."""
    return torch.tensor(_AROUND, device=device)[:, None, None, None]


def _stepped(vectors_Bhw2: Tensor, step: int) -> Tensor:
    """One step away in all eight directions, (8, B, h, w, 2)."""
    return vectors_Bhw2 + step * _ways(vectors_Bhw2.device)


@lru_cache(maxsize=4)
def _apart(height: int, width: int, device: torch.device) -> list[Tensor]:
    """Cells in six sets, (h, w) of bool: of none of a set does the code's cost depend on another of it."""
    rows, columns = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    return [(rows % 2 == row) & (columns % 3 == column) for row in range(2) for column in range(3)]


def _touched(changed_Bhw: Tensor) -> Tensor:
    """The cells that have changed and those beside them; to the others nothing new can be said."""
    changed = changed_Bhw[..., None]
    return torch.stack([changed, *_neighbours(changed)]).any(0)[..., 0]


def _neighbours(vectors: Tensor) -> list[Tensor]:
    """What the cells above, below, to the left and to the right of each have."""
    _, h, w, _ = vectors.shape
    padded = torch.cat([vectors[:, :1], vectors, vectors[:, -1:]], 1)
    padded = torch.cat([padded[:, :, :1], padded, padded[:, :, -1:]], 2)
    return [padded[:, 1 + row : 1 + row + h, 1 + column : 1 + column + w] for row, column in _BESIDE]
