"""Checkpoints in pieces: what comes back, what is refused, and a run that goes on from them."""

from pathlib import Path

import pytest
import torch
from bsqtrain import shards
from bsqtrain.engine import Budget, Trainer
from bsqtrain.stages import load_ladder
from test_engine import SCHEDULE, image_task

from bsqcodec.errors import InputError, ModelError


def state(size: int = 1000) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(size, generator=generator), "n": torch.arange(3)}
    ema = {"w": torch.randn(size, generator=generator), "n": torch.arange(3)}
    return {"config": {"a": 1}, "step": 7, "elapsed": 1.5, "ema": ema, "model": weights, "helper": None}


def test_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2000)
    saved = state()
    shards.save_shards(tmp_path / "s", saved)
    pieces = sorted((tmp_path / "s").iterdir())
    assert [p.name for p in pieces] == [str(number) for number in range(len(pieces))]
    assert len(pieces) > 2
    assert all(p.stat().st_size <= 2000 for p in pieces)
    found = shards.load_shards(tmp_path / "s")
    for name in ("model", "ema"):
        assert torch.equal(found[name]["w"], saved[name]["w"].half().float())  # type: ignore[index]
        assert torch.equal(found[name]["n"], torch.arange(3))
    assert (found["step"], found["elapsed"], found["config"], found["optimisers"]) == (7, 1.5, {"a": 1}, None)

    shards.drop_weights(tmp_path / "s")  # fewer pieces, none left over
    assert torch.equal(shards.load_shards(tmp_path / "s")["model"]["w"], found["ema"]["w"])
    assert 0 < len(list((tmp_path / "s").iterdir())) < len(pieces)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards.save_shards(tmp_path / "s", state())
    size = (tmp_path / "s" / "0").stat().st_size
    monkeypatch.setattr(shards, "MOST_BYTES", size - 1)
    shards.save_shards(tmp_path / "s", state())
    found = shards.load_shards(tmp_path / "s")
    assert torch.equal(found["model"]["w"], found["ema"]["w"])
    with pytest.raises(ModelError, match=f"shards hold at most {size - 1}"):
        shards.save_shards(tmp_path / "s", state(4000))


def test_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2000)
    shards.save_shards(tmp_path / "s", state())
    last = max((tmp_path / "s").iterdir())
    last.unlink()
    with pytest.raises(InputError, match="do not fit together"):
        shards.load_shards(tmp_path / "s")
    (tmp_path / "s" / "0").unlink()
    with pytest.raises(InputError, match=r"shards \[1.*\], expected 0, 1, \.\.\. without a gap"):
        shards.load_shards(tmp_path / "s")


def test_going_on(tmp_path: Path) -> None:
    first = Trainer(
        image_task(), SCHEDULE, Budget(steps=2), tmp_path / "a", compile=False, shards=tmp_path / "s"
    )
    first.run(say=lambda line: None)
    second = Trainer(image_task(), SCHEDULE, Budget(steps=4), tmp_path / "b", compile=False)
    second.resume(tmp_path / "s")
    assert (second.step, second.elapsed) == (2, first.elapsed)
    for name, value in first.task.model.state_dict().items():
        assert torch.allclose(value, second.task.model.state_dict()[name], rtol=1e-3, atol=1e-7), name
        assert torch.allclose(first.ema[name], second.ema[name], rtol=1e-3, atol=1e-7), name
    second.set_learning_rate(0.0)
    low = second.optimisers[0].param_groups[0]
    assert low["lr"] == pytest.approx(low["full_lr"] / SCHEDULE.warmup_steps)  # warms up again
    second.run(say=lambda line: None)
    assert second.step == 4

    ladder = load_ladder(tmp_path / "s", "base")
    assert torch.equal(
        ladder.state_dict()["up8.weight"], shards.load_shards(tmp_path / "s")["ema"]["up8.weight"]
    )
