"""Checkpoints in small files: what a run needs to go on elsewhere, in pieces of at most 15 MiB.

Weights and their average are kept in float16, as exported weights are. The optimisers' moments are not kept:
a run that goes on from shards warms up again and rebuilds them. Where 60 MiB are not enough for both, the
average alone is kept, and the run goes on from it.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsqcodec.errors import InputError, ModelError

SHARD_BYTES = 15 << 20
MOST_BYTES = 60 << 20


def save_shards(folder: Path, state: dict[str, Any]) -> None:
    """Write a trainer's state as folder/0, 1, ... in place of what the folder held.

    state: as Trainer.save has it; `model` None: the average alone. ModelError where even that is too large.
    """
    kept = {name: state[name] for name in ("config", "step", "elapsed")}
    kept |= {name: _half(state[name]) for name in ("ema", "model", "helper")}
    data = _bytes(kept)
    if len(data) > MOST_BYTES:
        data = _bytes(kept | {"model": None})
    if len(data) > MOST_BYTES:
        raise ModelError(f"{folder}: {len(data)} bytes of weights, shards hold at most {MOST_BYTES}")
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    for number, start in enumerate(range(0, len(data), SHARD_BYTES)):
        (part / str(number)).write_bytes(data[start : start + SHARD_BYTES])
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_shards(folder: Path) -> dict[str, Any]:
    """What `save_shards` wrote, in float32; `model` is the average where that alone was kept, `optimisers` is
    None. InputError where a file is missing or damaged."""
    names = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    if not names or names != list(range(len(names))):
        raise InputError(f"{folder}: shards {names}, expected 0, 1, ... without a gap")
    data = b"".join((folder / str(number)).read_bytes() for number in names)
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        state |= {name: _single(state[name]) for name in ("ema", "model", "helper")}
    except Exception as error:
        raise InputError(f"{folder}: shards that do not fit together: {error}") from error
    return state | {"model": state["model"] or state["ema"], "optimisers": None}


def drop_weights(folder: Path) -> None:
    """Keep the average alone, once a stage has ended."""
    save_shards(folder, load_shards(folder) | {"model": None})


def has_shards(folder: Path) -> bool:
    """Whether there is anything to go on from."""
    return (folder / "0").is_file()


def _half(tensors: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    if tensors is None:
        return None
    return {
        name: value.cpu().half() if value.is_floating_point() else value.cpu()
        for name, value in tensors.items()
    }


def _single(tensors: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
    if tensors is None:
        return None
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _bytes(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
