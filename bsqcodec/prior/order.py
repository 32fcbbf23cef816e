"""The order of positions inside a level, and the moves between a level's grid and its net's cells.

A net works on cells of 2x2 positions of its level. The four positions of a cell are coded in four steps, one
group a step, in the lattice order a, d, b, c:

    a b
    c d

Group g of a level is the set of positions at PHASES[g] inside their cells, in row-major order.

    # B batch · H, W positions of a level · h, w cells of a level (half as many) · L bits per token
"""

import numpy as np
import torch
from torch import Tensor

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))


def cells(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells that cover a grid of positions."""
    return (height + 1) // 2, (width + 1) // 2


def group_slice(group: int) -> tuple[slice, slice]:
    """The rows and columns of a level that belong to a group."""
    dy, dx = PHASES[group]
    return slice(dy, None, 2), slice(dx, None, 2)


def group_shape(height: int, width: int, group: int) -> tuple[int, int]:
    """Rows and columns of positions in a group; either may be 0."""
    dy, dx = PHASES[group]
    return (height + 1 - dy) // 2, (width + 1 - dx) // 2


def signs(bits: np.ndarray) -> Tensor:
    """Bits {0, 1} of any shape as an int8 tensor of -1 and +1."""
    return torch.from_numpy(np.ascontiguousarray(bits).astype(np.int8) * np.int8(2) - np.int8(1))


def gather_cells(signs_BHWL: Tensor) -> Tensor:
    """B x h x w x 4L: the four positions of each cell side by side (a, b, c, d); 0 where the grid has
    none.
    """
    batch, height, width, bits = signs_BHWL.shape
    rows, columns = cells(height, width)
    if (2 * rows, 2 * columns) != (height, width):
        signs_BHWL = torch.nn.functional.pad(signs_BHWL, (0, 0, 0, 2 * columns - width, 0, 2 * rows - height))
    split = signs_BHWL.reshape(batch, rows, 2, columns, 2, bits)
    return split.permute(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, 4 * bits)


def spread_cells(values_BHWD: Tensor, factor: int, rows: int, columns: int) -> Tensor:
    """B x rows x columns x D from coarse positions with factor**2 * D channels: each covers factor x
    factor cells.
    """
    if factor == 1:
        return values_BHWD[:, :rows, :columns]
    batch, height, width, channels = values_BHWD.shape
    split = values_BHWD.view(batch, height, width, factor, factor, channels // factor**2)
    whole = split.permute(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, -1)
    return whole[:, :rows, :columns]
