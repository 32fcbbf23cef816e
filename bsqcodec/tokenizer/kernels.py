"""Parts of motion.py and layers.py as loops that numba compiles, for tensors on a CPU.

# C = 3 · H, W pixels · h, w cells · A anchors · N rows · D channels
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bsqcodec.compiled import compiled

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Halves = npt.NDArray[np.uint16]

TAPS = 6
NEAR, MIDDLE, FAR = np.float32(20 / 32), np.float32(-5 / 32), np.float32(1 / 32)


@compiled
def half_pixels(x_HWC: Floats, beyond: int, averaged: int, planes: Floats) -> None:
    """See `motion.half_pixels`; averaged: pixels on each side along a border; planes: (4, H + 2 * beyond,
    (W + 2 * beyond) * C)."""
    H, W, C = x_HWC.shape
    tall, count = planes.shape[1], planes.shape[2]
    bordered = np.empty((tall + TAPS - 1, count + (TAPS - 1) * C), np.float32)
    across = np.empty((tall + TAPS - 1, count), np.float32)
    above, below = _averaged(x_HWC[0], averaged), _averaged(x_HWC[H - 1], averaged)
    before, after = _averaged(x_HWC[:, 0], averaged), _averaged(x_HWC[:, W - 1], averaged)
    for i in range(tall + TAPS - 1):
        down, to = i - beyond - 2, bordered[i]
        inside = 0 <= down < H
        row = x_HWC[down] if inside else above if down < 0 else below
        for j in range(W + 2 * beyond + TAPS - 1):
            along = j - beyond - 2
            for c in range(C):
                if inside and along < 0:
                    to[j * C + c] = before[down, c]
                elif inside and along >= W:
                    to[j * C + c] = after[down, c]
                else:
                    to[j * C + c] = row[min(max(along, 0), W - 1), c]
        _between(across[i], to, to[C:], to[2 * C :], to[3 * C :], to[4 * C :], to[5 * C :])
    for i in range(tall):
        here = bordered[i : i + TAPS, 2 * C : 2 * C + count]
        right = across[i : i + TAPS]
        for k in range(count):
            planes[0, i, k], planes[1, i, k] = here[2, k], right[2, k]
        _between(planes[2, i], here[0], here[1], here[2], here[3], here[4], here[5])
        _between(planes[3, i], right[0], right[1], right[2], right[3], right[4], right[5])


@compiled
def _averaged(line_NC: Floats, side: int) -> Any:
    """Over so many places on each side, those at the ends repeated."""
    N, C = line_NC.shape
    y_NC = np.empty((N, C), np.float32)
    for n in range(N):
        for c in range(C):
            total = np.float32(0)
            for k in range(n - side, n + side + 1):
                total += line_NC[min(max(k, 0), N - 1), c]
            y_NC[n, c] = total / np.float32(2 * side + 1)
    return y_NC


@compiled
def _between(y: Floats, a: Floats, b: Floats, c: Floats, d: Floats, e: Floats, f: Floats) -> None:
    for k in range(y.shape[0]):
        y[k] = NEAR * (c[k] + d[k]) + MIDDLE * (b[k] + e[k]) + FAR * (a[k] + f[k])


@compiled
def lay(planes: Floats, beyond: int, moves_hw2: Floats, channels: int, y: Floats) -> None:
    """Adds to y, (H, W * C), what `motion.compensate` makes of one frame: every cell is taken, with half a
    cell around it, from where its vector points, weighted and added. planes: of `half_pixels`. moves: in
    pixels."""
    h, w, _ = moves_hw2.shape
    H, W, C = y.shape[0], y.shape[1] // channels, channels
    tall, wide = planes.shape[1], planes.shape[2] // C
    cell_rows, cell_columns = H // h, W // w
    tent, share = np.empty(2 * cell_rows, np.float32), np.empty(2 * cell_columns * C, np.float32)
    for k in range(2 * cell_rows):
        tent[k] = np.float32(min(k, 2 * cell_rows - 1 - k) + 0.5) / np.float32(cell_rows)
    for k in range(2 * cell_columns * C):
        place = min(k // C, 2 * cell_columns - 1 - k // C)
        share[k] = np.float32(place + 0.5) / np.float32(cell_columns)
    shares = np.empty(2 * cell_columns * C, np.float32)
    clamped = np.empty(2 * cell_columns * C, np.float32)
    for r in range(-1, h + 1):
        top = cell_rows * r - cell_rows // 2
        for s in range(-1, w + 1):
            left = cell_columns * s - cell_columns // 2
            first, last = max(left, 0), min(left + 2 * cell_columns, W)
            move = moves_hw2[min(max(r, 0), h - 1), min(max(s, 0), w - 1)]
            down, right = np.floor(2 * move[0]), np.floor(2 * move[1])
            below, beside = 2 * move[0] - down, 2 * move[1] - right
            for sample in range(4):
                y_step, x_step = sample // 2, sample % 2
                weight = (below if y_step else 1 - below) * (beside if x_step else 1 - beside)
                if weight == 0:
                    continue
                rows, columns = int(down) + y_step, int(right) + x_step
                plane = planes[2 * (rows % 2) + columns % 2]
                row_step, start = rows // 2 + beyond, first + columns // 2 + beyond
                inside = start >= 0 and start + last - first <= wide
                for i in range(max(top, 0), min(top + 2 * cell_rows, H)):
                    source = plane[min(max(i + row_step, 0), tall - 1)]
                    part = np.float32(weight * tent[i - top])
                    for k in range((last - first) * C):
                        shares[k] = part * share[(first - left) * C + k]
                    if inside:
                        x = source[start * C : (start + last - first) * C]
                    else:
                        for j in range(last - first):
                            column = min(max(start + j, 0), wide - 1)
                            for c in range(C):
                                clamped[j * C + c] = source[column * C + c]
                        x = clamped[: (last - first) * C]
                    to = y[i, first * C : last * C]
                    for k in range(to.shape[0]):
                        to[k] += shares[k] * x[k]


@compiled
def undo(residuals_hwA: Integers, vectors_hwA: Integers) -> None:
    """One component of all vectors from their residuals (see motion.py)."""
    h, w, anchors = residuals_hwA.shape
    off = np.zeros((h, w, 1), np.int64)
    for a in range(anchors):
        for i in range(h):
            for j in range(w):
                line = 2 * vectors_hwA[i, j, a - 1] if a else 0
                if a > 1:
                    line -= vectors_hwA[i, j, a - 2]
                vector = (line + guess(off, i, j, 0) + residuals_hwA[i, j, a] + 128) % 256 - 128
                vectors_hwA[i, j, a] = vector
                off[i, j, 0] = vector - line


@compiled
def guess(off_hw2: Integers, i: int, j: int, component: int) -> Any:
    """The code's own of how far a cell's vector is off its line, by those coded before (see motion.py)."""
    left = off_hw2[i, j - 1, component] if j else 0
    if i == 0:
        return left
    above = off_hw2[i - 1, j, component]
    if j == 0 or j == off_hw2.shape[1] - 1:
        return above
    return max(min(left, above), min(max(left, above), off_hw2[i - 1, j + 1, component]))


@compiled
def rms_norm(x_ND: Floats, weight_D: Floats, epsilon: float, y_ND: Floats) -> None:
    """See `layers.RMSNorm`."""
    width = x_ND.shape[1]
    for i in range(x_ND.shape[0]):
        x, y = x_ND[i], y_ND[i]
        scale = _inverse(x, epsilon)
        for j in range(width):
            y[j] = x[j] * scale * weight_D[j]


@compiled
def rms_norm_bf16(x_ND: Halves, weight_D: Floats, epsilon: float, y_ND: Halves) -> None:
    """The same for bfloat16, whose bits are the upper half of float32's; rounded to nearest even."""
    width = x_ND.shape[1]
    bits = np.empty(width, np.uint32)
    numbers = bits.view(np.float32)
    upper, half, one = np.uint32(16), np.uint32(0x7FFF), np.uint32(1)
    for i in range(x_ND.shape[0]):
        x, y = x_ND[i], y_ND[i]
        for j in range(width):
            bits[j] = np.uint32(x[j]) << upper
        scale = _inverse(numbers, epsilon)
        for j in range(width):
            numbers[j] = numbers[j] * scale * weight_D[j]
        for j in range(width):
            y[j] = np.uint16((bits[j] + half + ((bits[j] >> upper) & one)) >> upper)


@compiled
def _inverse(x_D: Floats, epsilon: float) -> Any:
    """Of the root of the mean square."""
    total = np.float32(0)
    for j in range(x_D.shape[0]):
        total += x_D[j] * x_D[j]
    return np.float32(1 / np.sqrt(total / x_D.shape[0] + epsilon))
