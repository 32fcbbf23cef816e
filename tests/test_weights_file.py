"""Weights files: what is stored of a ladder comes back as good as its precision allows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bsqcodec import model
from bsqcodec.model import ModelCard
from bsqcodec.tokenizer.config import PRESETS
from bsqcodec.tokenizer.ladder import Ladder


@pytest.mark.parametrize("large", [10_000, model.LARGE], ids=["int8", "float16"])
def test_a_ladder_comes_back(large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LARGE", large)
    torch.manual_seed(0)
    ladder = Ladder(replace(PRESETS["tiny"], width=(64, 96, 96)))
    for parameter in ladder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "some.safetensors"
    model.save(path, ModelCard("some", ladder.config, None, (0, 1000)), ladder, None)
    stored = model.read_file(path)[1]
    again = model.load(path).ladder()
    coarse = 0
    for name, value in ladder.state_dict().items():
        error = (again.state_dict()[name] - value).abs()
        if value.numel() >= large:
            coarse += 1
            assert stored[name].dtype == torch.int8
            step = value.abs().flatten(1).amax(1) / 127
            assert bool((error.flatten(1) <= 0.51 * step[:, None]).all())
        else:
            assert stored[name].dtype == torch.float16
            assert bool((error <= 1e-3 * value.abs() + 1e-7).all())
    assert (coarse > 3) == (large == 10_000)


def test_every_model_that_ships_is_below_30_mib() -> None:
    files = sorted(model.WEIGHTS.glob("*.safetensors"))
    assert files
    assert all(path.stat().st_size <= 30 << 20 for path in files)
