"""Search for the vectors of a tube in the encoder: what they bring against what they cost.

# B batch · h, w cells · A anchors · T frames of a tube · C = 3 · H, W pixels · K choices

From pictures reduced eight times, where all vectors are tried, down to half pixels, where each is compared
with its surroundings and its neighbours' vectors, as x264 and others do. Judged by squared differences of
luma, and by how far a vector is off those around it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.tokenizer.config import CELL
from bsqcodec.tokenizer.motion import STEPS_PER_PIXEL, wrapped

COARSEST = 8
"""Reduction at which every vector is tried."""

REACH = 63
"""Pixels that a vector may be long along each axis."""

ERROR_WEIGHT = 20.0
"""What a squared difference of a pixel counts as in D (see `distortion`): more than its own share of 4, as
MS-SSIM falls with it."""

ROUNDS = 3
"""Comparisons with surroundings and neighbours at half pixels."""

_AT_ONCE = {"cpu": 1}
"""Choices compared in one go: on a CPU what one needs stays in the caches; elsewhere all of them."""

_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
_BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))


@torch.compiler.disable  # type: ignore[untyped-decorator]
@torch.no_grad()
def search(frames_BTCHW: Tensor, before_BCHW: Tensor, lagrangian_B: Tensor, anchors: int) -> Tensor:
    """Vectors of a tube, (B, h, w, A, 2), int64, see motion.py.

    frames_BTCHW: 0..1, sides multiples of 32. before_BCHW: the decoded frame before them. lagrangian_B:
    lambda.
    """
    with torch.autocast(frames_BTCHW.device.type, enabled=False):
        T = frames_BTCHW.shape[1]
        searched = min(anchors, T)
        cost = lagrangian_B.float() * searched / (T * ERROR_WEIGHT)  # of a bit, in squared differences
        before = _luma(before_BCHW.float())
        last = torch.zeros(1, device=before.device, dtype=torch.int64)
        line = last
        found = []
        for anchor in range(searched):
            frame = _luma(frames_BTCHW[:, (anchor + 1) * T // searched - 1].float())
            vectors = _Anchor(before, frame, cost[:, None, None]).search(line)
            line, last = 2 * vectors - last, vectors
            found.append(vectors)
        for _ in range(anchors - searched):
            found.append(wrapped(line))
            line, last = 2 * found[-1] - last, found[-1]
    return torch.stack(found, 3)


def _luma(x_BCHW: Tensor) -> Tensor:
    return 0.299 * x_BCHW[:, 0] + 0.587 * x_BCHW[:, 1] + 0.114 * x_BCHW[:, 2]


class _Anchor:
    """The search for one anchor. cost_B11: of a bit, in squared differences of a pixel."""

    def __init__(self, before_BHW: Tensor, frame_BHW: Tensor, cost_B11: Tensor) -> None:
        self._before, self._frame, self._cost = before_BHW, frame_BHW, cost_B11

    def search(self, line_Bhw2: Tensor) -> Tensor:
        """Vectors in half pixels, (B, h, w, 2). line: where they are expected, or one 0."""
        vectors = self._coarsest()
        reduction = COARSEST
        while reduction > 2:
            reduction //= 2
            before, frame = _reduced(self._before, reduction), _reduced(self._frame, reduction)
            errors = _Errors(before, frame, CELL // reduction, 1)
            vectors = 2 * vectors
            choices = torch.cat([_stepped(vectors, 1), torch.stack(_neighbours(vectors))])
            vectors = self._cheapest(errors, vectors, choices, None)
        vectors = vectors * reduction * STEPS_PER_PIXEL
        line = line_Bhw2.expand_as(vectors)
        errors = _Errors(_upsampled(self._before), self._frame, CELL, STEPS_PER_PIXEL)
        start = torch.stack([torch.zeros_like(vectors), line])
        start = torch.cat([_stepped(vectors, STEPS_PER_PIXEL), start])
        vectors = self._cheapest(errors, vectors, start, line)
        for _ in range(ROUNDS):
            beside = torch.stack(_neighbours(vectors - line)) + line
            choices = torch.cat([_stepped(vectors, 1), beside])
            vectors = self._cheapest(errors, vectors, choices, line)
        return vectors

    def _coarsest(self) -> Tensor:
        """The best of all vectors at the coarsest reduction, in its pixels."""
        before, frame = _reduced(self._before, COARSEST), _reduced(self._frame, COARSEST)
        B, H, W = frame.shape
        side, reach = CELL // COARSEST, REACH // COARSEST
        padded = F.pad(before[:, None], (reach,) * 4, mode="replicate")[:, 0]
        columns = torch.arange(-reach, reach + 1, device=frame.device)
        steps = COARSEST * STEPS_PER_PIXEL
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
        line: Tensor | None,
    ) -> Tensor:
        """For every cell the vector itself or the one of the choices (K, B, h, w, 2) that costs least. line:
        with it, what vectors cost counts too."""
        around = None if line is None else torch.stack(_neighbours(vectors - line))

        def total(choices: Tensor) -> Tensor:
            lost = errors(choices) * CELL**2
            if around is None or line is None:
                return lost
            return lost + self._cost * _bits(choices[:, None] - line - around).mean(1)

        best = total(vectors[None])[0]
        choices = choices.clamp(-errors.limit, errors.limit)
        for some in torch.split(choices, _AT_ONCE.get(choices.device.type, len(choices))):
            costs, which = total(some).min(0)
            better = costs < best
            best = torch.where(better, costs, best)
            found = some.gather(0, which[None, ..., None].expand(1, *which.shape, 2))[0]
            vectors = torch.where(better[..., None], found, vectors)
        return vectors


def _bits(off_Bhw2: Tensor) -> Tensor:
    """What a vector costs, about, that is so far off its guess."""
    far = off_Bhw2.abs().float()
    return (2 * torch.log2(1 + far) + 0.7 * (far > 0)).sum(-1)


class _Errors:
    """Mean squared differences of cells from where their vectors point.

    cell: pixels along its side. scale: steps of a vector in a pixel; `before` is so many times as large as
    the frame. limit: the longest vector along an axis, in steps.
    """

    def __init__(self, before_BHW: Tensor, frame_BHW: Tensor, cell: int, scale: int) -> None:
        _, H, W = frame_BHW.shape
        self._frame, self._cell = frame_BHW, cell
        self.limit = edge = REACH * scale * cell // CELL
        padded = F.pad(before_BHW[:, None], (edge,) * 4, mode="replicate")
        self._before, self._wide = padded.flatten(1), padded.shape[-1]
        rows = (scale * torch.arange(H, device=frame_BHW.device) + edge) * self._wide
        places = rows[:, None] + scale * torch.arange(W, device=frame_BHW.device) + edge
        self._places = places.view(H // cell, cell, W // cell, cell)

    def __call__(self, vectors_KBhw2: Tensor) -> Tensor:
        """(K, B, h, w); vectors no longer than `limit`."""
        steps = vectors_KBhw2[..., 0] * self._wide + vectors_KBhw2[..., 1]
        places = self._places + steps[:, :, :, None, :, None]
        before = self._before.expand(len(steps), -1, -1)
        there = before.gather(2, places.flatten(2)).view(-1, *self._frame.shape)
        return F.avg_pool2d((there - self._frame).square_(), self._cell)


def _reduced(x_BHW: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(x_BHW[:, None], factor)[:, 0]


def _upsampled(x_BHW: Tensor) -> Tensor:
    """Twice as large, bilinear: pixel (2y, 2x) is (y, x), and the border goes on."""
    _, H, W = x_BHW.shape
    padded = F.pad(x_BHW[:, None], (0, 1, 0, 1), mode="replicate")
    size = (2 * H + 1, 2 * W + 1)
    return F.interpolate(padded, size=size, mode="bilinear", align_corners=True)[:, 0, :-1, :-1].contiguous()


@lru_cache(maxsize=16)
def _ways(device: torch.device) -> Tensor:
    """One step in each of the eight directions, (8, 1, 1, 1, 2)."""
    return torch.tensor(_AROUND, device=device)[:, None, None, None]


def _stepped(vectors_Bhw2: Tensor, step: int) -> Tensor:
    """One step away in all eight directions, (8, B, h, w, 2)."""
    return vectors_Bhw2 + step * _ways(vectors_Bhw2.device)


def _neighbours(vectors: Tensor) -> list[Tensor]:
    """What the cells above, below, to the left and to the right of each have."""
    _, h, w, _ = vectors.shape
    padded = torch.cat([vectors[:, :1], vectors, vectors[:, -1:]], 1)
    padded = torch.cat([padded[:, :, :1], padded, padded[:, :, -1:]], 2)
    return [padded[:, 1 + row : 1 + row + h, 1 + column : 1 + column + w] for row, column in _BESIDE]
