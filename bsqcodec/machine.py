"""The machine that codes: its devices, its threads, the time that stages take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch

from bsqcodec.errors import InputError

FAST_CPU = torch.cpu._is_avx512_bf16_supported()
"""Asked once: torch.compile does not look into the question, and would cut its graphs there."""


class Clock:
    """Seconds per stage, of all threads together."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]


def pick_device(name: str) -> torch.device:
    """The torch device of a name; auto takes the first of cuda, mps, cpu. InputError where it is not
    there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in available:
        raise InputError(f"device {name}: not known, expected auto, cpu, cuda or mps")
    if not available[name]:
        raise InputError(f"device {name}: this machine, or this build of torch, has none; try --device cpu")
    return torch.device(name)


def fast_bf16(device: torch.device) -> bool:
    """Whether matrix products in bf16 are fast: on accelerators, on CPUs with AMX or AVX512-BF16."""
    return device.type == "cuda" or (device.type == "cpu" and FAST_CPU)


def half_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bf16 where that is fast, else in float32."""
    return torch.autocast(device.type, torch.bfloat16) if fast_bf16(device) else nullcontext()


def set_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads (None = leave it)."""
    if threads is not None:
        if threads < 1:
            raise InputError(f"{threads} threads are none, expected 1 or more")
        torch.set_num_threads(threads)
