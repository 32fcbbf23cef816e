"""The prior's integer operators as loops that numba compiles, for tensors on a CPU: one pass over the numbers
where torch needs five. Each gives exactly what its namesake in integer.py gives, or its part of that, and is
described there.

    # N rows · O outputs · D channels · M windows · P cells of a window · E head width · X heads times windows
    # · H hidden units · V values of a chunk · K nodes

Sums are of integers that float32 holds exactly, so that they may be taken in any order; single float32
products are rounded at once, so that nothing can be contracted with them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from bsqcodec.compiled import compiled

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
Integers = npt.NDArray[np.int32]

ZERO, ONE_OCTET, RESIDUAL = np.float32(0), np.float32(127), np.float32(32767)
STEP = np.float32(2.0**-20)
SHARE = np.float32(2.0**-26)
LAST = np.float32(255)


@compiled
def rounded(sums_NO: npt.NDArray[Any], multiplier_O: Floats, y_NO: Floats) -> None:
    for i in range(sums_NO.shape[0]):
        for j in range(sums_NO.shape[1]):
            y = np.rint(np.float32(sums_NO[i, j]) * multiplier_O[j])
            y_NO[i, j] = min(max(y, -RESIDUAL), RESIDUAL)


@compiled
def add(x_NO: Floats, sums_NO: npt.NDArray[Any], multiplier_O: Floats) -> None:
    for i in range(sums_NO.shape[0]):
        for j in range(sums_NO.shape[1]):
            x = x_NO[i, j] + np.rint(np.float32(sums_NO[i, j]) * multiplier_O[j])
            x_NO[i, j] = min(max(x, -RESIDUAL), RESIDUAL)


@compiled
def activations(sums_NO: npt.NDArray[Any], multiplier_O: Floats, y_NO: Bytes) -> None:
    for i in range(sums_NO.shape[0]):
        for j in range(sums_NO.shape[1]):
            y = np.rint(np.rint(np.float32(sums_NO[i, j])) * multiplier_O[j])
            y_NO[i, j] = np.int8(min(max(y, -ONE_OCTET), ONE_OCTET))


@compiled
def rectified(sums_NO: npt.NDArray[Any], multiplier_O: Floats, y_NO: Bytes) -> None:
    for i in range(sums_NO.shape[0]):
        for j in range(sums_NO.shape[1]):
            y = np.float32(sums_NO[i, j]) * multiplier_O[j]
            y_NO[i, j] = np.int8(min(max(y, ZERO), ONE_OCTET))


@compiled
def normalise(x_ND: Floats, mean: int, floor: int, shift: int, y_ND: Bytes) -> None:
    width = x_ND.shape[1]
    for i in range(x_ND.shape[0]):
        total = ZERO
        for j in range(width):
            total += abs(x_ND[i, j])
        factor = ((mean * width) << shift) // max(int(total), floor * width)
        scale = np.float32(factor) * STEP
        for j in range(width):
            y = np.rint(x_ND[i, j] * scale)
            y_ND[i, j] = np.int8(min(max(y, -ONE_OCTET), ONE_OCTET))


@compiled
def split_heads(qkv_MPC: Bytes, heads: int, y_3XPE: npt.NDArray[Any]) -> None:
    windows, size, channels = qkv_MPC.shape
    width = channels // (3 * heads)
    for part in range(3):
        for head in range(heads):
            first = (part * heads + head) * width
            for m in range(windows):
                for p in range(size):
                    y_E, x_E = y_3XPE[part, head * windows + m, p], qkv_MPC[m, p, first : first + width]
                    for e in range(width):
                        y_E[e] = x_E[e]


@compiled
def attention_weights(scores_XPP: npt.NDArray[Any], exp2_256: Floats, shift: int, scale_XP: Floats) -> None:
    """In place of the scores."""
    count, size, _ = scores_XPP.shape
    steps = np.empty(size, np.int32)
    for x in range(count):
        for p in range(size):
            row = scores_XPP[x, p]
            largest = row[0]
            for k in range(size):
                largest = max(largest, row[k])
            for k in range(size):
                steps[k] = np.int32(min(np.float32(largest - row[k]), LAST))
            total = ZERO
            for k in range(size):
                weight = exp2_256[steps[k]]
                row[k] = weight
                total += weight
            scale_XP[x, p] = np.float32((1 << shift) // int(total)) * SHARE


@compiled
def merge_heads(mixed_XPE: npt.NDArray[Any], scale_XP: Floats, y_MPD: Bytes) -> None:
    windows, size, _ = y_MPD.shape
    count, _, width = mixed_XPE.shape
    for m in range(windows):
        for p in range(size):
            for head in range(count // windows):
                x = head * windows + m
                scale, x_E = scale_XP[x, p], mixed_XPE[x, p]
                y_E = y_MPD[m, p, head * width : (head + 1) * width]
                for e in range(width):
                    y_E[e] = np.int8(np.rint(np.float32(x_E[e]) * scale))


@compiled
def absorb(state_NH: Floats, embedding_VH: Floats, value_N: npt.NDArray[np.int64], y_NH: Bytes) -> None:
    for i in range(state_NH.shape[0]):
        value = value_N[i]
        for j in range(state_NH.shape[1]):
            x = state_NH[i, j] + embedding_VH[value, j]
            state_NH[i, j] = x
            y_NH[i, j] = np.int8(min(max(x, ZERO), ONE_OCTET))


@compiled
def counts(
    sums_NK: npt.NDArray[Any], multiplier_K: Floats, bias_K: Floats, counts_T: Integers, y_NK: Integers
) -> None:
    largest = np.float32(counts_T.shape[0] - 1)
    for i in range(sums_NK.shape[0]):
        for k in range(sums_NK.shape[1]):
            logit = np.rint(np.float32(sums_NK[i, k]) * multiplier_K[k]) + bias_K[k]
            y_NK[i, k] = np.int32(min(max(logit, ZERO), largest))
        for k in range(sums_NK.shape[1]):
            y_NK[i, k] = counts_T[y_NK[i, k]]


@compiled
def along(counts_NK: Integers, value_N: npt.NDArray[np.int64], chunk: int, y_LN: Integers) -> None:
    for i in range(counts_NK.shape[0]):
        for bit in range(y_LN.shape[0]):
            y_LN[bit, i] = counts_NK[i, (1 << bit) - 1 + (value_N[i] >> (chunk - bit))]


@compiled
def at_nodes(counts_NK: Integers, node_N: npt.NDArray[np.int64], y_N: Integers) -> None:
    """Of every position the count at its node."""
    for i in range(counts_NK.shape[0]):
        y_N[i] = counts_NK[i, node_N[i]]


@compiled
def descend(node_N: npt.NDArray[np.int64], bit_N: npt.NDArray[np.uint8]) -> None:
    """From every node to the one that its bit leads to."""
    for i in range(node_N.shape[0]):
        node_N[i] = 2 * node_N[i] + 1 + bit_N[i]
