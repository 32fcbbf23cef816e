"""The steps of motion_search.py for one anchor of one clip, as loops that numba compiles, for CPUs.

# h, w cells · H, W pixels · P places in a pixel

Cells are asked in turn where the torch version asks all at once; what is compared is the same. `scale`, a
`_Scale` of motion_search.py, is told as numbers; `shares` are what the pixels of a cell, and around it, count
(`motion_search.shares`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bsqcodec.compiled import compiled
from bsqcodec.tokenizer.kernels import guess

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scale = tuple[int, int, int, int, int, int, int, int]

_FAR = np.arange(2048)
BITS = (2 * np.log2(1 + _FAR) + 0.7 * (_FAR > 0)).astype(np.float32)
"""What a component of a vector costs, about, that is so far off its guess."""

HALF = np.float32(0.5)
CHECKED = 8  # rows after which an error that is too large already is not worked out to its end
AROUND = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column])
BESIDE = np.array(((-1, 0), (1, 0), (0, -1), (0, 1)))
GUESSED = np.array(((0, 0), (0, 1), (1, 0), (1, -1)))
"""From a cell to those whose code its vector is part of: its own and those that are guessed by it."""


@compiled
def finer_planes(halves: Floats, steps: int, more: int, planes: Floats) -> None:
    """See `_Past.planes`: of halves, (4, H, W), planes for `steps` places in a pixel along each
    axis, 2 or 4, with `more` rows and columns before and, one more, behind; (steps**2, H', W')."""
    W = halves.shape[2]
    wide = planes.shape[2]
    for p in range(steps * steps):
        down, right = (p // steps) * 4 // steps, (p % steps) * 4 // steps  # in quarters
        for i in range(planes.shape[1]):
            y = planes[p, i]
            here = _half_row(halves, 2 * (i - more) + down // 2, right // 2)
            beside = _half_row(halves, 2 * (i - more) + down // 2, right // 2 + right % 2)
            below = _half_row(halves, 2 * (i - more) + down // 2 + down % 2, right // 2)
            both = _half_row(halves, 2 * (i - more) + down // 2 + down % 2, right // 2 + right % 2)
            on = int(right == 3)  # the place beside is in the next pixel
            for j in range(W - on):
                k = j + on
                y[more + j] = HALF * (HALF * (here[j] + below[j]) + HALF * (beside[k] + both[k]))
            for j in range(more):
                y[j] = y[more]
            for j in range(more + W - on, wide):
                y[j] = HALF * (here[W - 1] + below[W - 1])


@compiled
def _half_row(halves: Floats, down: int, right: int) -> Any:
    """The row of a place counted in half pixels, or the border's."""
    return halves[2 * (down % 2) + right % 2, min(max(down // 2, 0), halves.shape[1] - 1)]


@compiled
def coarsest(before_HW: Floats, frame_HW: Floats, side: int, reach: int, steps: int, cost: float) -> Integers:
    """See `_Anchor._coarsest`. side: of a cell. steps: of a vector in a pixel of these frames."""
    H, W = frame_HW.shape
    h, w = H // side, W // side
    padded = np.empty((H + 2 * reach, W + 2 * reach), np.float32)
    for i in range(H + 2 * reach):
        for j in range(W + 2 * reach):
            padded[i, j] = before_HW[min(max(i - reach, 0), H - 1), min(max(j - reach, 0), W - 1)]
    best = np.full((h, w), np.inf, np.float32)
    vectors = np.zeros((h, w, 2), np.int64)
    row, around = np.empty(W, np.float32), np.empty((h, w), np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            for i in range(h):
                row.fill(0)
                for own in range(side * i, side * (i + 1)):
                    there, here = padded[own + reach + down, reach + right :], frame_HW[own]
                    for k in range(W):
                        difference = there[k] - here[k]
                        row[k] += difference * difference
                for j in range(w):
                    around[i, j] = np.float32(0)
                    for k in range(side * max(j - 1, 0), side * min(j + 2, w)):
                        around[i, j] += row[k]
            bits = np.log2((1 + steps * abs(down)) * (1.0 + steps * abs(right)))
            for i in range(h):
                first, last = max(i - 1, 0), min(i + 2, h)
                for j in range(w):
                    # The cells around have a say: at this size a cell is too small to know on its own.
                    total = np.float32(0)
                    for k in range(first, last):
                        total += around[k, j]
                    count = (last - first) * (min(j + 2, w) - max(j - 1, 0))
                    found = np.float32(total * 256 / (count * side**2) + cost * bits)
                    if found < best[i, j]:
                        best[i, j] = found
                        vectors[i, j, 0], vectors[i, j, 1] = down, right
    return vectors


@compiled
def window(scale: Scale, shape: Any, i: int, j: int, down: int, right: int) -> Any:
    """What of a frame of this shape a cell counts in, and where its vector takes it from: number of the
    plane; first of the rows and the one after the last; where the cell's own begin; from a row to that of the
    plane; how many columns; the first of the frame's, of the cell's own, of the plane's. Columns are without
    a sign: indices that have one may count from an array's end, which is looked at for every number."""
    tall, wide, steps, _, _, above, beside, edge = scale
    top, left = tall * i - above, wide * j - beside
    first, last = max(left, 0), min(left + wide + 2 * beside, shape[1])
    return (
        (down % steps) * steps + right % steps,
        max(top, 0),
        min(top + tall + 2 * above, shape[0]),
        top,
        edge + down // steps,
        np.uint64(last - first),
        np.uint64(first),
        np.uint64(first - left),
        np.uint64(first + edge + right // steps),
    )


@compiled
def error(
    planes: Floats, frame: Floats, shares: Floats, scale: Scale, i: int, j: int, down: int, right: int,
    most: Any,
) -> Any:  # fmt: skip
    """See `_Errors`: of one cell and one vector; or anything above `most`, if it is more than that."""
    area = scale[3]
    number, start, end, top, line_step, count, own_column, share_column, column = window(
        scale, frame.shape, i, j, down, right
    )
    plane = planes[number]
    total = np.float32(0)
    for row in range(start, end):
        own_row, share_row, line = np.uint64(row), np.uint64(row - top), np.uint64(row + line_step)
        for k in range(count):
            difference = plane[line, column + k] - frame[own_row, own_column + k]
            total += shares[share_row, share_column + k] * (difference * difference)
        if row % CHECKED == 0 and total * area > most:
            break
    return total * area


@compiled
def refined(
    planes: Floats, frame: Floats, shares: Floats, scale: Scale, vectors: Integers, choices: Integers,
    around: Integers, line: Integers, cost: float, open_hw: Flags,
) -> Integers:  # fmt: skip
    """Of every open cell the vector or the one of its choices, (h, w, K, 2), that costs least. around: what
    the cells beside each are off their lines, (h, w, 4, 2), which its own is compared with."""
    h, w, count, _ = choices.shape
    found = np.empty_like(vectors)
    expected = np.empty((4, 2), np.int64)
    limit = scale[4]
    for i in range(h):
        for j in range(w):
            best = np.inf
            own_down, own_right = vectors[i, j, 0], vectors[i, j, 1]
            found[i, j, 0] = min(max(own_down, -limit), limit)
            found[i, j, 1] = min(max(own_right, -limit), limit)
            if not open_hw[i, j]:
                continue
            for beside in range(4):
                for part in range(2):
                    expected[beside, part] = line[i, j, part] + around[i, j, beside, part]
            for k in range(-1, count):
                down = own_down if k < 0 else choices[i, j, k, 0]
                right = own_right if k < 0 else choices[i, j, k, 1]
                down, right = min(max(down, -limit), limit), min(max(right, -limit), limit)
                if k >= 0 and down == own_down and right == own_right:
                    continue
                total = np.float32(0)
                if cost:
                    bits = np.float32(0)
                    for beside in range(4):
                        bits += BITS[abs(down - expected[beside, 0])] + BITS[abs(right - expected[beside, 1])]
                    total = cost * bits / 4
                total += error(planes, frame, shares, scale, i, j, down, right, best - total)
                if total < best:
                    best = total
                    found[i, j, 0], found[i, j, 1] = down, right
    return found


@compiled
def stepped(vectors: Integers, step: int, others: Integers) -> Integers:
    """Choices: one step away in all eight directions, and others, (h, w, K, 2)."""
    h, w, count, _ = others.shape
    choices = np.empty((h, w, 8 + count, 2), np.int64)
    for i in range(h):
        for j in range(w):
            for part in range(2):
                for way in range(8):
                    choices[i, j, way, part] = vectors[i, j, part] + step * AROUND[way, part]
                for k in range(count):
                    choices[i, j, 8 + k, part] = others[i, j, k, part]
    return choices


@compiled
def neighbours(vectors: Integers) -> Integers:
    """What the cells above, below, to the left and to the right of each have, (h, w, 4, 2); at a border its
    own."""
    h, w, _ = vectors.shape
    found = np.empty((h, w, 4, 2), np.int64)
    for i in range(h):
        for j in range(w):
            for k in range(4):
                row, column = i + BESIDE[k, 0], j + BESIDE[k, 1]
                for part in range(2):
                    found[i, j, k, part] = vectors[min(max(row, 0), h - 1), min(max(column, 0), w - 1), part]
    return found


@compiled
def touched(one: Integers, other: Integers) -> Flags:
    """The cells that differ and those beside them; to the others nothing new can be said."""
    h, w, _ = one.shape
    found = np.zeros((h, w), np.bool_)
    for i in range(h):
        for j in range(w):
            if one[i, j, 0] != other[i, j, 0] or one[i, j, 1] != other[i, j, 1]:
                found[i, j] = True
                for k in range(4):
                    row, column = i + BESIDE[k, 0], j + BESIDE[k, 1]
                    found[min(max(row, 0), h - 1), min(max(column, 0), w - 1)] = True
    return found


@compiled
def settle(
    planes: Floats, frame: Floats, shares: Floats, scale: Scale, vectors: Integers, line: Integers,
    cost: float, open_hw: Flags,
) -> None:  # fmt: skip
    """One comparison by the bits of the code, in place: vectors give way to what is around them, or to the
    code's own guess, where that costs less. cost: of a bit of the code."""
    h, w, _ = vectors.shape
    limit = scale[4]
    off = off_line(vectors, line)
    guesses = np.empty((5, 2), np.int64)
    # Of none of the cells in one of these sets does the code's cost depend on another of it.
    for start in range(6):
        for i in range(start // 3, h, 2):
            for j in range(start % 3, w, 3):
                if not open_hw[i, j]:
                    continue
                for k in range(4):
                    row, column = i + BESIDE[k, 0], j + BESIDE[k, 1]
                    for part in range(2):
                        guesses[k, part] = off[min(max(row, 0), h - 1), min(max(column, 0), w - 1), part]
                for part in range(2):
                    guesses[4, part] = guess(off, i, j, part)
                own_down, own_right = vectors[i, j, 0], vectors[i, j, 1]
                best_down, best_right, best = own_down, own_right, np.inf
                for k in range(-1, 5):
                    down = own_down if k < 0 else line[i, j, 0] + guesses[k, 0]
                    right = own_right if k < 0 else line[i, j, 1] + guesses[k, 1]
                    down, right = min(max(down, -limit), limit), min(max(right, -limit), limit)
                    if k >= 0 and down == own_down and right == own_right:
                        continue
                    off[i, j, 0], off[i, j, 1] = down - line[i, j, 0], right - line[i, j, 1]
                    spent_on_bits = cost * told(off, i, j)
                    most = best - spent_on_bits
                    total = error(planes, frame, shares, scale, i, j, down, right, most) + spent_on_bits
                    if total < best:
                        best_down, best_right, best = down, right, total
                vectors[i, j, 0], vectors[i, j, 1] = best_down, best_right
                off[i, j, 0], off[i, j, 1] = best_down - line[i, j, 0], best_right - line[i, j, 1]


@compiled
def settle_overlapped(
    planes: Floats, frame: Floats, scale: Scale, vectors: Integers, line: Integers, cost: float, rounds: int
) -> None:
    """Compares one step in all directions, what is around and the code's own guess by what they make of the
    frame itself, in place: by the mean of what the vectors of the nearest cells bring there. cost: of a bit
    of the code."""
    h, w, _ = vectors.shape
    tall, wide, limit = scale[0], scale[1], scale[4]
    rows, columns = np.empty((h, 2 * tall), np.float32), np.empty((w, 2 * wide), np.float32)
    for i in range(h):
        tents(rows[i], tall, i == 0, i == h - 1)
    for j in range(w):
        tents(columns[j], wide, j == 0, j == w - 1)
    left, off = frame.copy(), off_line(vectors, line)
    for i in range(h):
        for j in range(w):
            add(left, planes, scale, i, j, vectors[i, j, 0], vectors[i, j, 1], rows[i], columns[j], -1.0)
    choices = np.empty((13, 2), np.int64)
    open_hw = np.ones((h, w), np.bool_)
    for _ in range(rounds):
        changed = np.zeros((h, w), np.bool_)
        for i in range(h):
            for j in range(w):
                asked = False
                for row in range(max(i - 1, 0), min(i + 2, h)):
                    for column in range(max(j - 1, 0), min(j + 2, w)):
                        asked = asked or open_hw[row, column]
                if not asked:
                    continue
                own_down, own_right = vectors[i, j, 0], vectors[i, j, 1]
                for part in range(2):
                    for k in range(8):
                        choices[k, part] = vectors[i, j, part] + AROUND[k, part]
                    for k in range(4):
                        row, column = i + BESIDE[k, 0], j + BESIDE[k, 1]
                        beside = off[min(max(row, 0), h - 1), min(max(column, 0), w - 1), part]
                        choices[8 + k, part] = line[i, j, part] + beside
                    choices[12, part] = line[i, j, part] + guess(off, i, j, part)
                add(left, planes, scale, i, j, own_down, own_right, rows[i], columns[j], 1.0)
                best_down, best_right, best = own_down, own_right, np.inf
                for k in range(-1, 13):
                    down = own_down if k < 0 else choices[k, 0]
                    right = own_right if k < 0 else choices[k, 1]
                    down, right = min(max(down, -limit), limit), min(max(right, -limit), limit)
                    if k >= 0 and down == own_down and right == own_right:
                        continue
                    off[i, j, 0], off[i, j, 1] = down - line[i, j, 0], right - line[i, j, 1]
                    spent_on_bits = cost * told(off, i, j)
                    most = best - spent_on_bits
                    lost = rest(left, planes, scale, i, j, down, right, rows[i], columns[j], most)
                    if lost < most:
                        best_down, best_right, best = down, right, lost + spent_on_bits
                off[i, j, 0], off[i, j, 1] = best_down - line[i, j, 0], best_right - line[i, j, 1]
                add(left, planes, scale, i, j, best_down, best_right, rows[i], columns[j], -1.0)
                changed[i, j] = best_down != own_down or best_right != own_right
                vectors[i, j, 0], vectors[i, j, 1] = best_down, best_right
        open_hw = changed


@compiled
def tents(y: Floats, cell: int, first: bool, last: bool) -> None:
    """What a cell's vector counts along one axis, from half a cell before it on (see `motion.compensate`): in
    the outer half of one at a border there is no other."""
    for k in range(2 * cell):
        y[k] = np.float32((min(k, 2 * cell - 1 - k) + 0.5) / cell)
        if (first and k < cell) or (last and k >= cell):
            y[k] = np.float32(1)


@compiled
def add(
    y: Floats, planes: Floats, scale: Scale, i: int, j: int, down: int, right: int, rows: Floats,
    columns: Floats, sign: float,
) -> None:  # fmt: skip
    """Adds to a frame what a cell's vector brings there, or takes it away."""
    number, start, end, top, line_step, count, to, share, column = window(scale, y.shape, i, j, down, right)
    plane = planes[number]
    for row in range(start, end):
        weight, own, there = np.float32(sign) * rows[row - top], np.uint64(row), np.uint64(row + line_step)
        for k in range(count):
            y[own, to + k] += weight * columns[share + k] * plane[there, column + k]


@compiled
def rest(
    x: Floats, planes: Floats, scale: Scale, i: int, j: int, down: int, right: int, rows: Floats,
    columns: Floats, most: Any,
) -> Any:  # fmt: skip
    """Squared error of what is left of a frame beside what a cell's vector brings there; or anything above
    `most`, if it is more than that."""
    number, start, end, top, line_step, count, to, share, column = window(scale, x.shape, i, j, down, right)
    plane = planes[number]
    total = np.float32(0)
    for row in range(start, end):
        weight, own, there = rows[row - top], np.uint64(row), np.uint64(row + line_step)
        for k in range(count):
            difference = x[own, to + k] - weight * columns[share + k] * plane[there, column + k]
            total += difference * difference
        if row % CHECKED == 0 and total > most:
            break
    return total


@compiled
def spent(off: Integers, i: int, j: int) -> Any:
    """Bits of a cell's code, about; none outside the frame."""
    h, w, _ = off.shape
    total = np.float32(0)
    if 0 <= i < h and 0 <= j < w:
        for component in range(2):
            residual = (off[i, j, component] - guess(off, i, j, component) + 128) % 256 - 128
            total += BITS[abs(residual)]
    return total


@compiled
def told(off: Integers, i: int, j: int) -> Any:
    """Bits of the code that a cell's vector is part of."""
    total = np.float32(0)
    for place in range(4):
        total += spent(off, i + GUESSED[place, 0], j + GUESSED[place, 1])
    return total


@compiled
def off_line(vectors: Integers, line: Integers) -> Integers:
    """vectors - line, which as such takes numba seconds to compile."""
    off = np.empty_like(vectors)
    for i in range(off.shape[0]):
        for j in range(off.shape[1]):
            for part in range(2):
                off[i, j, part] = vectors[i, j, part] - line[i, j, part]
    return off
