"""Errors beside what hides them."""

import pytest
import torch
from bsqtrain.grain import GRAIN, relative_error


def test_grain_counts_where_the_source_is_flat() -> None:
    """In a flat area by what it is beside GRAIN; in texture, which hides it, hardly at all."""
    flat = torch.full((1, 3, 32, 32), 0.5)
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2 - 1
    assert float(relative_error(flat, flat)) == 0
    seen = float(relative_error(flat + GRAIN * board, flat))
    assert seen == pytest.approx(0.5, abs=1e-4)
    texture = flat + 0.2 * board
    hidden = float(relative_error(texture + GRAIN * board, texture))
    assert hidden == pytest.approx(GRAIN**2 / (2 * GRAIN**2 + 0.2**2), rel=0.05)
    assert hidden < seen / 100
