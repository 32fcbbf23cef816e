"""Random priors and tokens for the tests of this folder."""

import math

import numpy as np
import torch
from torch import Tensor

from bsqcodec.prior import PriorConfig, tensor_specs

TINY = PriorConfig.preset(((32, 16), (16, 16), (8, 8), (8, 6)), "tiny")
STEPS = {"own": 128, "coarse": 128, "after": 128, "out": 128, "down": 128, "start": 256, "node": 64}


def random_tensors(config: PriorConfig, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a prior whose values spread as a trained one's do, so that clamps are reached now and
    then.
    """
    source = torch.Generator().manual_seed(seed)
    specs = tensor_specs(config)

    def integers(low: int, high: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=source)

    result = {}
    for name, (dtype, shape) in specs.items():
        *path, last = name.split(".")
        if name == "exp2":
            value = torch.tensor([round(1023 * 2 ** (-i / 32)) for i in range(255)] + [0])
        elif name == "counts":
            chance = torch.sigmoid(torch.arange(-767, 768, dtype=torch.float64) / 64)
            value = (65536 * chance).round().clamp(1, 65535)
        elif path[0] == "static":
            value = integers(1, 65535, shape)
        elif last == "weight":
            value = (torch.randn(shape, generator=source) * 40).round().clamp(-127, 127)
        elif last == "mantissa":
            value = integers(1 << 14, (1 << 15) - 1, shape)
        elif last == "exponent":
            part = path[-2] if path[-1].isdigit() else path[-1]
            part = part.split("_")[0]
            inputs = 9 if part == "mix" else specs[name.replace("exponent", "weight")][1][-1]
            size = 40 * math.sqrt(inputs) * (1 if part in ("own", "coarse", "after") else 24)
            value = torch.full(shape, round(math.log2(STEPS.get(part, 24) / size / 24000)))
        else:
            reach = {"rate": 200, "step": 200, "position": 40, "embedding": 150}.get(last, 60)
            value = integers(-reach, reach, shape)
        result[name] = value.to(dtype)
    return result


def random_tokens(config: PriorConfig, rows: int, columns: int, seed: int = 0) -> list[np.ndarray]:
    """One grid of bits per level; rows, columns: of the coarsest."""
    source = np.random.default_rng(seed)
    grids = []
    for level in config.levels:
        ratio = config.levels[0].stride // level.stride
        grids.append(source.integers(0, 2, (rows * ratio, columns * ratio, level.bits), dtype=np.uint8))
    return grids


def shapes_of(tokens: list[np.ndarray]) -> list[tuple[int, int]]:
    """Rows and columns per level."""
    return [(grid.shape[0], grid.shape[1]) for grid in tokens]
