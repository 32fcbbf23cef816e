"""Motion of a tube: vectors for cells of 16x16 pixels, and the bits that they are coded as.

# B batch · h, w cells · A anchors · T frames of a tube · C = 3 · H, W pixels

A vector says where in the frame before the tube a cell of one of its frames comes from, rows then columns,
-128..127, in half pixels, or in quarters where the tube has one frame or its GOP says so. There is one for
each of A anchors, frames at equal distances of which the last is one; vectors of the frames between are
interpolated, with 0 for the frame before the tube. A tube of fewer frames than anchors has those of its
frames as its first, and the rest lies on the line; but a tube of one frame has A vectors in each cell for
that frame, for A rows of equal height: where each frame gets many bits, finer cells pay. Half way between
pixels the frame is what H.264's six taps make of it, and between those places it is bilinear. The bits of all
vectors of a cell are a token of the tube's motion level (`TokenizerConfig.motion_level`). Networks do not
choose them: the encoder searches them (motion_search.py).

Code of a cell: for every anchor and component the residual v - p as two's digits of base 16, -8..7, each a
sign bit and three bits of magnitude (sign alone: -8), high digit first; residuals are modulo 256. p is the
line through the two anchors before (the frame before the tube counts as one that has not moved) plus the
median of how far the cells to the left, above, and above to the right are off that line; in the first row
that of the left cell; in the first and in the last column that of the cell above stands in for what is not
there. In a tube of one frame all rows are one grid of A * h x w cells with one anchor.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bsqcodec.blocks import TubeForm
from bsqcodec.tokenizer.config import ANCHOR_BITS

BEYOND = 4
"""Pixels beyond a frame's border from which on all places between pixels are alike, as they are from there
on."""

AVERAGED = 8
"""Pixels on each side over which what is beyond a border is averaged along it: where new content comes in,
streaks of the border's own pixels would be seen until it is coded."""

_TAPS = 6


def wrapped(numbers: Tensor) -> Tensor:
    """Into -128..127, modulo 256."""
    return (numbers + 128) % 256 - 128


def in_rows(vectors_BhwA2: Tensor) -> Tensor:
    """The vectors of a tube of one frame row by row, (B, h * A, w, 2)."""
    return vectors_BhwA2.transpose(2, 3).flatten(1, 2)


def from_rows(vectors_Bhw2: Tensor, rows: int) -> Tensor:
    """The inverse of `in_rows`, for so many of them in a cell."""
    B, height, w, numbers = vectors_Bhw2.shape
    return vectors_Bhw2.reshape(B, height // rows, rows, w, numbers).transpose(2, 3)


def to_bits(vectors_BhwA2: Tensor, frames: int) -> Tensor:
    """The code of the vectors of a tube of so many frames, (B, h, w, 16 * A) of {0, 1}, float32. Vectors are
    int64."""
    if frames == 1:
        return from_rows(_to_bits(in_rows(vectors_BhwA2)[..., None, :]), vectors_BhwA2.shape[3]).flatten(3)
    return _to_bits(vectors_BhwA2)


def _to_bits(vectors_BhwA2: Tensor) -> Tensor:
    off_BhwA2 = vectors_BhwA2 - _lines(vectors_BhwA2)
    residual = wrapped(off_BhwA2 - medians(off_BhwA2))
    low = (residual + 8) % 16 - 8
    digits = torch.stack([(residual - low) // 16, low], -1)  # the high one reaches 8, which is -8 modulo 16
    digits = torch.where(digits < 0, 8 | (-digits & 7), digits)
    bits = digits[..., None] >> torch.arange(3, -1, -1, device=digits.device) & 1
    return bits.flatten(3).float()


def from_bits(bits_BhwL: Tensor, frames: int) -> Tensor:
    """The vectors (B, h, w, A, 2), int64; the inverse of `to_bits`. Any bits are some vectors."""
    if frames == 1:
        bits_BhwAl = bits_BhwL.reshape(*bits_BhwL.shape[:3], -1, ANCHOR_BITS)
        return from_rows(_from_bits(in_rows(bits_BhwAl))[..., 0, :], bits_BhwAl.shape[3])
    return _from_bits(bits_BhwL)


def _from_bits(bits_BhwL: Tensor) -> Tensor:
    from bsqcodec.tokenizer import kernels  # where one trains numba may be missing

    B, h, w, L = bits_BhwL.shape
    weights = torch.tensor([8, 4, 2, 1], device=bits_BhwL.device)
    codes = (bits_BhwL.long().view(B, h, w, L // ANCHOR_BITS, 2, 2, 4) * weights).sum(-1)
    digits = torch.where(codes > 8, -(codes & 7), torch.where(codes == 8, -8, codes))
    residuals = (16 * digits[..., 0] + digits[..., 1]).cpu()
    vectors = torch.zeros_like(residuals)
    for clip, component in product(range(B), range(2)):
        part = (slice(None), slice(None), slice(None), component)
        kernels.undo(residuals[clip].numpy()[part], vectors[clip].numpy()[part])
    return vectors.to(bits_BhwL.device)


def _lines(vectors_BhwA2: Tensor) -> Tensor:
    """Where the line through the two anchors before each would take it."""
    padded = F.pad(vectors_BhwA2, (0, 0, 2, 0))
    return 2 * padded[:, :, :, 1:-1] - padded[:, :, :, :-2]


def medians(x_BhwA2: Tensor) -> Tensor:
    """The guess at each cell from those coded before it."""
    first = F.pad(x_BhwA2[:, :1, :-1], (0, 0, 0, 0, 1, 0))
    above, left = x_BhwA2[:, :-1], x_BhwA2[:, 1:]
    left = torch.cat([above[:, :, :1], left[:, :, :-1]], 2)
    right = torch.cat([above[:, :, 1:], above[:, :, -1:]], 2)
    lower, upper = torch.minimum(left, above), torch.maximum(left, above)
    return torch.cat([first, torch.maximum(lower, torch.minimum(upper, right))], 1)


def in_frames(vectors_BhwA2: Tensor, form: TubeForm) -> Tensor:
    """Vectors of every frame, (B, frames, h, w, 2), in pixels, float32; of a single one (B, 1, h * A, w,
    2)."""
    frames, steps = form.frames, form.steps_per_pixel
    if frames == 1:
        return in_rows(vectors_BhwA2)[:, None].float() / steps
    anchors = F.pad(vectors_BhwA2, (0, 0, 1, 0)).float() / steps
    count = vectors_BhwA2.shape[3]
    step = min(1.0, count / frames)
    places = [(frame + 1) * step for frame in range(frames)]
    between = [(min(int(place), count - 1), place) for place in places]
    return torch.stack([torch.lerp(anchors[..., a, :], anchors[..., a + 1, :], p - a) for a, p in between], 1)


def half_pixels(x_BCHW: Tensor) -> Tensor:
    """A frame with the places half way between its pixels, (B, C, 4, H + 2 * BEYOND, W + 2 * BEYOND).

    Four planes: the pixels, those half a pixel to the right of each, below each, and both. H.264's filter
    (1, -5, 20, 20, -5, 1) / 32, along the rows, then along the columns (ITU-T H.264, 8.4.2.2.1), unrounded.
    """
    before, after = _TAPS // 2 - 1, _TAPS // 2
    x = _bordered(x_BCHW, BEYOND + before, BEYOND + after)
    across = x[..., before:-after], _half_way(x, -1)
    here, right = (y[..., before:-after, :] for y in across)
    below, both = (_half_way(y, -2) for y in across)
    return torch.stack([here, right, below, both], 2)


def _bordered(x_BCHW: Tensor, before: int, after: int) -> Tensor:
    """With so many pixels beyond each border, at its beginning and its end: those of the border, averaged; in
    the corners as above and below."""
    x = F.pad(x_BCHW, (before, after) * 2, mode="replicate")
    rows = slice(before, -after)
    for beyond, inside in ((slice(before), 0), (slice(-after, None), -1)):
        x[..., rows, beyond] = _averaged(x_BCHW[..., inside])[..., None]
        averaged = F.pad(_averaged(x_BCHW[..., inside, :]), (before, after), mode="replicate")
        x[..., beyond, :] = averaged[..., None, :]
    return x


def _averaged(line_BCN: Tensor) -> Tensor:
    padded = F.pad(line_BCN, (AVERAGED, AVERAGED), mode="replicate")
    return F.avg_pool1d(padded, 2 * AVERAGED + 1, 1)


def quarter_pixels(x_BCHW: Tensor) -> Tensor:
    """The same with the places between those, each the mean of the nearest two or four, as `compensate` has
    them: (B, C, 16, H + 2 * BEYOND, W + 2 * BEYOND), the four to the right first."""
    planes = half_pixels(x_BCHW)
    B, C, _, H, W = planes.shape
    x = planes.view(B, C, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, C, 2 * H, 2 * W)
    for dim in (2, 3):
        after = torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, x.shape[dim] - 1, 1)], dim)
        x = torch.stack([x, (x + after) / 2], dim + 1).flatten(dim, dim + 1)
    return x.view(B, C, H, 4, W, 4).permute(0, 1, 3, 5, 2, 4).reshape(B, C, 16, H, W)


def _half_way(x: Tensor, dim: int) -> Tensor:
    count = x.shape[dim] - _TAPS + 1
    a, b, c, d, e, f = (x.narrow(dim, tap, count) for tap in range(_TAPS))
    return (c + d).mul_(20 / 32).sub_(b + e, alpha=5 / 32).add_(a + f, alpha=1 / 32)


def compensate(frame_BCHW: Tensor, vectors_BhwA2: Tensor, form: TubeForm) -> Tensor:
    """The frame as the vectors move it, (B, T, C, H, W), float32.

    Overlapped blocks: every pixel is the mean of what the vectors of the four nearest cells bring there,
    weighted by how near their middles are. In float32 whatever autocast says: places need it.
    """
    device = frame_BCHW.device
    with torch.autocast(device.type, enabled=False):
        moves_BThw2 = in_frames(vectors_BhwA2, form)
        if device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _laid(frame_BCHW.float(), moves_BThw2)
        return _blended(frame_BCHW.float(), moves_BThw2)


def _blended(frame_BCHW: Tensor, moves_BThw2: Tensor) -> Tensor:
    """`compensate` pixel by pixel: with a gradient, and fast on accelerators."""
    B, C, H, W = frame_BCHW.shape
    device = frame_BCHW.device
    frames = moves_BThw2.shape[1]
    # Between the middles of cells, and half a cell beyond the frame, the nearest four are the same.
    moves = moves_BThw2.flatten(0, 1).flip(-1)
    N, h, w, _ = moves.shape
    tall, wide = H // h, W // w  # a cell
    above, beside = tall // 2, wide // 2
    cells = F.pad(moves.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
    grid = _grid(H, W, above, beside, device).view(h + 1, tall, w + 1, wide, 2)
    planes = half_pixels(frame_BCHW)
    bordered = planes.shape[-2:]
    finer = planes.view(B, C, 2, 2, *bordered).permute(0, 1, 4, 2, 5, 3).flatten(2, 3).flatten(3, 4)
    finer = finer.repeat_interleave(frames, 0)
    far, right_far = ((torch.arange(side, device=device) + 0.5) / side for side in (tall, wide))
    found = frame_BCHW.new_zeros(N, C, H, W)
    for down, rows in enumerate((1 - far, far)):
        for right, columns in enumerate((1 - right_far, right_far)):
            moved = cells[:, down : down + h + 1, None, right : right + w + 1, None]
            places = (grid + moved).view(N, H + tall, W + wide, 2)[:, above:-above, beside:-beside]
            share = (rows[:, None] * columns).repeat(h + 1, w + 1)[above:-above, beside:-beside]
            found = torch.addcmul(found, share, _sampled(finer, 2 * (places + BEYOND)))
    return found.view(B, frames, C, H, W)


def _laid(frame_BCHW: Tensor, moves_BThw2: Tensor) -> Tensor:
    """`compensate` cell by cell, for tensors on a CPU and without a gradient."""
    from bsqcodec.tokenizer import kernels

    B, C, H, W = frame_BCHW.shape
    T = moves_BThw2.shape[1]
    found = torch.zeros(B, T, H, W * C)
    for clip, frame in enumerate(frame_BCHW):
        planes = np.empty((4, H + 2 * BEYOND, (W + 2 * BEYOND) * C), np.float32)
        kernels.half_pixels(frame.permute(1, 2, 0).contiguous().numpy(), BEYOND, AVERAGED, planes)
        for number in range(T):
            moves_hw2 = moves_BThw2[clip, number].numpy()
            kernels.lay(planes, BEYOND, moves_hw2, C, found[clip, number].numpy())
    return found.view(B, T, H, W, C).permute(0, 1, 4, 2, 3)


def moved_features(x_BHWD: Tensor, moves_Bhw2: Tensor, stride: int) -> Tensor:
    """Features on a grid of some stride, each taken from where its cell's vector points. moves: pixels."""
    _, H, W, _ = x_BHWD.shape
    with torch.autocast(x_BHWD.device.type, enabled=False):
        moves = moves_Bhw2.permute(0, 3, 1, 2)
        coarser = moves.shape[-2] <= H and moves.shape[-1] <= W
        moves = F.interpolate(moves, size=(H, W), mode="nearest" if coarser else "area")
        found = _taken(x_BHWD.float().permute(0, 3, 1, 2), moves.permute(0, 2, 3, 1) / stride)
    return found.permute(0, 2, 3, 1).to(x_BHWD.dtype)


def _taken(x_BCHW: Tensor, moves_BHW2: Tensor) -> Tensor:
    """Every pixel from as far away as its vector says."""
    _, _, H, W = x_BCHW.shape
    return _sampled(x_BCHW, _grid(H, W, 0, 0, x_BCHW.device) + moves_BHW2.flip(-1))


@lru_cache(maxsize=4)  # of one size of video
def _grid(height: int, width: int, above: int, beside: int, device: torch.device) -> Tensor:
    """Places of the pixels, and of so many beyond each border: (H, W, 2), in pixels, x first."""
    sides = (height, above), (width, beside)
    y, x = (torch.arange(-more, size + more, device=device).float() for size, more in sides)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


@lru_cache(maxsize=16)
def _size(height: int, width: int, device: torch.device) -> Tensor:
    """In pixels, x first; kept, as it would be sent to an accelerator every time."""
    return torch.tensor([width, height], device=device)


def _sampled(x_BCHW: Tensor, places_BHW2: Tensor) -> Tensor:
    """Bilinear, at places in pixels, x first; the border goes on beyond the frame."""
    size = _size(x_BCHW.shape[2], x_BCHW.shape[3], x_BCHW.device)
    places = (2 * places_BHW2 + 1) / size - 1  # as `grid_sample` counts them: -1 to 1 between the borders
    return F.grid_sample(x_BCHW, places, mode="bilinear", padding_mode="border", align_corners=False)
