"""Checkpoints laid out like those of the paper's authors, with the foreign objects that they pickle."""

import argparse
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsqcodec.tokenizer.bsqvit import BsqVit
from bsqcodec.tokenizer.bsqvit_config import BsqVitConfig

CONFIG = BsqVitConfig(bits=6, image_size=32, width=64, heads=1, depth=2, zero_bit=0)


def network(config: BsqVitConfig = CONFIG, seed: int = 0) -> BsqVit:
    """Random weights, as they are before training."""
    torch.manual_seed(seed)
    return BsqVit(config).initialise().eval().requires_grad_(False)


class _Foreign(dict[str, Any]):
    """What OmegaConf's objects look like to pickle: a class of a module that is not here, and a state."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.content = dict(values)


def contents(model: BsqVit, average: BsqVit | None, *, prefix: str = "module.") -> dict[str, Any]:
    """All top-level keys of a published file."""

    def named(source: BsqVit, before: str) -> dict[str, Tensor]:
        state = {before + name: value for name, value in source.state_dict().items()}
        bits = source.config.bits
        state[before + "quantize.basis"] = 2 ** torch.arange(bits - 1, -1, -1)
        state[before + "quantize.group_basis"] = torch.ones(1, dtype=torch.int64)
        return state

    optimiser = {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {
        "iter": 1_000_000,
        "state_dict": named(model, prefix),
        "ema_state_dict": None if average is None else named(average, 2 * prefix),
        "optimizer_generator": optimiser,
        "optimizer_discriminator": optimiser,
        "state_dict_discriminator": {"module.b4.fc.weight": torch.ones(2, 2)},
        "scaler": {"scale": 1.0},
        "config": _Foreign({"model": {"target": "transcoder.models.bsqvit.VITBSQModel"}}),
        "args": argparse.Namespace(output_dir=Path("/runs"), lr=1e-4),
        "best_fid": np.float64(1.14),
    }


def save(path: Path, values: Mapping[str, Any]) -> Path:
    """torch.save, with the configuration under the name that OmegaConf's class has."""
    name = "omegaconf.dictconfig"
    module = types.ModuleType(name)
    module.DictConfig = _Foreign  # type: ignore[attr-defined]
    before = _Foreign.__module__, _Foreign.__qualname__, _Foreign.__name__
    _Foreign.__module__, _Foreign.__qualname__, _Foreign.__name__ = name, "DictConfig", "DictConfig"
    sys.modules |= {"omegaconf": types.ModuleType("omegaconf"), name: module}
    try:
        torch.save(dict(values), path)
    finally:
        del sys.modules[name], sys.modules["omegaconf"]
        _Foreign.__module__, _Foreign.__qualname__, _Foreign.__name__ = before
    return path
