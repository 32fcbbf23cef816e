"""A model small enough for tests: random weights, everything switched on, prior and static table included."""

from pathlib import Path

import torch
from bsqtrain.prior_twin import PriorTwin, counts_table, exp2_table

from bsqcodec import model
from bsqcodec.blocks import BlockKind
from bsqcodec.prior.config import RATE_ROWS, PriorConfig
from bsqcodec.tokenizer.config import PRESETS
from bsqcodec.tokenizer.ladder import Ladder

QUALITY_TABLE = tuple(range(50, 1000, 100))


def make(path: Path, *, prior: bool = True, seed: int = 0) -> Path:
    """Write the weights file of the preset `tiny` with random weights."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    config = PRESETS["tiny"]
    ladder = Ladder(config)
    for parameter in ladder.parameters():
        torch.nn.init.normal_(parameter, std=0.08, generator=generator)
    integers: dict[str, torch.Tensor] | None = None
    prior_config = PriorConfig.preset(tuple((level.stride, level.bits) for level in config.levels), "tiny")
    if prior:
        integers = {"exp2": exp2_table().to(torch.int16), "counts": counts_table()}
        for kind in BlockKind:
            twin = PriorTwin(prior_config, kind)
            with torch.no_grad():
                for parameter in twin.parameters():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
            integers |= twin.export()
            for index, level in enumerate(config.levels):
                table = torch.randint(
                    8000, 57000, (RATE_ROWS, level.bits), generator=generator, dtype=torch.int32
                )
                integers[f"static.{kind.label}.{index}"] = table
    card = model.ModelCard("tiny", config, prior_config.to_json() if prior else None, QUALITY_TABLE)
    model.save(path, card, ladder, integers)
    return path
