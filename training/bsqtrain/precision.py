"""Where training computes in bf16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

FAST_CPU = torch.cpu._is_avx512_bf16_supported()
"""Asked once: torch.compile does not look into the question, and would cut its graphs there."""


def fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are fast: on accelerators, on CPUs with AMX or AVX512-BF16."""
    return device.type == "cuda" or (device.type == "cpu" and FAST_CPU)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bf16 where it is fast, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16) if fast_bf16(device) else nullcontext()
