"""Cutting a grid of cells into attention windows: any grid size, optionally shifted by half a window, no
wrapping.

A cell at (row, column) belongs to the window (floor((row + s) / size), floor((column + s) / size)), s = size
/ 2 in shifted blocks and 0 in the others; it attends to the cells of its window. The code rolls the grid so
that the cut windows at opposite borders share a tile, and masks them apart.

    # B batch · h, w cells · D channels · M tiles · P cells of a tile (size**2)
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tiling:
    """How one grid is cut."""

    rows: int
    columns: int
    size: int
    shifted: bool

    @property
    def _padded(self) -> tuple[int, int]:
        return -(-self.rows // self.size) * self.size, -(-self.columns // self.size) * self.size

    @property
    def tiles(self) -> int:
        """Tiles of one grid."""
        height, width = self._padded
        return height * width // self.size**2

    def cut(self, x_BhwD: Tensor) -> Tensor:
        """(B * M) x P x D."""
        batch, rows, columns, channels = x_BhwD.shape
        height, width = self._padded
        if (height, width) != (rows, columns):
            x_BhwD = torch.nn.functional.pad(x_BhwD, (0, 0, 0, width - columns, 0, height - rows))
        if self.shifted:
            x_BhwD = torch.roll(x_BhwD, (self.size // 2, self.size // 2), (1, 2))
        split = x_BhwD.reshape(batch, height // self.size, self.size, width // self.size, self.size, channels)
        return split.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.size**2, channels)

    def join(self, x_MPD: Tensor, batch: int) -> Tensor:
        """B x h x w x D; the inverse of `cut`."""
        height, width = self._padded
        channels = x_MPD.shape[-1]
        split = x_MPD.view(batch, height // self.size, width // self.size, self.size, self.size, channels)
        whole = split.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        if self.shifted:
            whole = torch.roll(whole, (-(self.size // 2), -(self.size // 2)), (1, 2))
        return whole[:, : self.rows, : self.columns]

    def hidden_keys(self) -> Tensor | None:
        """M x P x P, True where a key is in another window or beyond the grid; None where nothing is
        hidden.
        """
        if not self.shifted and self._padded == (self.rows, self.columns):
            return None
        height, width = self._padded
        shift = self.size // 2 if self.shifted else 0
        row, column = torch.arange(height) + shift, torch.arange(width) + shift
        # The number of each cell's window; cells beyond the grid are nobody's keys.
        window = (row // self.size)[:, None] * (width // self.size + 1) + column // self.size
        outside = (torch.arange(height) >= self.rows)[:, None] | (torch.arange(width) >= self.columns)
        flat = torch.where(outside, -1, window)[None, :, :, None]
        own_MP = self.cut_full(flat)
        return (own_MP[:, :, None] != own_MP[:, None, :]) | (own_MP[:, None, :] < 0)

    def cut_full(self, padded_1HW1: Tensor) -> Tensor:
        """M x P of an already padded map."""
        height, width = self._padded
        return Tiling(height, width, self.size, self.shifted).cut(padded_1HW1)[:, :, 0]


def relative_positions(size: int) -> Tensor:
    """P x P indices into a table of (2 * size - 1)**2 offsets (query row - key row, then columns), row-
    major.
    """
    place = torch.arange(size)
    delta = place[:, None] - place[None, :] + size - 1
    index = delta[:, None, :, None] * (2 * size - 1) + delta[None, :, None, :]
    return index.reshape(size**2, size**2)
