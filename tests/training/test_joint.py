"""Stage `joint`: the rate is the prior's own, its gradient that of the formulas, and both sides learn."""

import json
from pathlib import Path

import pytest
import torch
from bsqtrain.engine import Budget, Schedule, Trainer
from bsqtrain.joint import JointRecipe, JointTask, save_twin
from bsqtrain.pictures import CropSampler
from bsqtrain.prior import checkpoint_prior, key_weights
from bsqtrain.prior_twin import PriorTwin
from bsqtrain.recipe import read

from bsqcodec.blocks import BlockKind
from bsqcodec.prior.config import GROUPS, PriorConfig
from bsqcodec.samples import picture
from bsqcodec.tokenizer.config import PRESETS
from bsqcodec.tokenizer.ladder import Ladder

CPU = torch.device("cpu")


def task(recipe: JointRecipe) -> JointTask:
    torch.manual_seed(0)
    ladder = Ladder(PRESETS["tiny"])
    config = PriorConfig.preset(tuple((level.stride, level.bits) for level in ladder.config.levels), "tiny")
    sampler = CropSampler([picture()[:200, 120:400]], recipe.crop)
    return JointTask(ladder, PriorTwin(config, BlockKind.KEY), sampler, recipe, CPU)


def test_rate_is_what_the_prior_would_code(tmp_path: Path) -> None:
    one = task(JointRecipe(batch=1, crop=192, side_rate=0.0, rate_warmup=1e-9))
    x, log_lambda, keep, warm, rates, _ = one.batch(0, 0, 1.0)
    keep = torch.ones_like(keep)
    log_lambda_of_rate = torch.tensor([[one.model.config.lambda_of(int(rates))]]).log()
    assert torch.allclose(log_lambda, log_lambda_of_rate, atol=0.005)
    with torch.no_grad():
        found = torch.stack(
            [
                one.objective(x, log_lambda, keep, warm, rates, torch.tensor([g]))[1]["bpp"]
                for g in range(GROUPS)
            ]
        )
        out = one.model(BlockKind.KEY, log_lambda, frames_BTCHW=x[:, None])
        signs = [(2 * bits - 1).to(torch.int8) for bits in out.bits]
        coded = sum(
            float(one.twin.level_bits(level, signs, None, None, rates, torch.tensor([group])).sum())
            for level in range(len(signs))
            for group in range(GROUPS)
        )
    # Every group's rate stands for all four. (bf16 where the machine has it: a bit or two may differ.)
    assert float(found.mean()) == pytest.approx(coded / 192**2, rel=0.01)


def test_gradients_are_those_of_the_rate() -> None:
    """The prior's is that of its bits whatever lambda is; the tokenizer's grows with lambda."""
    one = task(JointRecipe(batch=2, crop=192, side_rate=0.0, softness=0.0))
    x, _, keep, _, rates, groups = one.batch(0, 0, 1.0)

    def gradients(weight: float) -> tuple[torch.Tensor, torch.Tensor, float]:
        one.model.zero_grad()
        one.twin.zero_grad()
        log_lambda = torch.zeros(2, 1)
        loss, figures = one.objective(x, log_lambda, keep, torch.tensor(weight), rates, groups)
        loss.backward()
        value = float(loss.detach()) - weight * float(figures["bpp"].detach())
        return one.model.down32.weight.grad.clone(), one.twin.levels[1].own.weight.grad.clone(), value

    (none, prior_none, d_none), (some, prior_some, d_some), (more, _, _) = map(gradients, (0.0, 0.5, 1.0))
    assert d_none == pytest.approx(d_some, rel=1e-4)  # the loss is D + lambda * bpp
    assert torch.allclose(prior_none, prior_some, rtol=1e-3, atol=1e-6 * float(prior_none.abs().max()))
    rate, twice = some - none, more - none
    assert float(rate.norm()) > 0
    assert float((twice - 2 * rate).norm()) < 0.05 * float(twice.norm())


@pytest.mark.parametrize("train_prior", [True, False])
def test_stage(train_prior: bool, tmp_path: Path) -> None:
    one = task(JointRecipe(batch=2, crop=192, train_prior=train_prior, full_levels=1.0))
    before = {name: value.clone() for name, value in one.twin.state_dict().items()}
    schedule = Schedule(3e-3, warmup_steps=3, helper_learning_rate=3e-3)
    trainer = Trainer(one, schedule, Budget(steps=12), tmp_path, compile=False)
    trainer.run(log_every=2, say=lambda line: None)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["mse"] < 0.8 * rows[0]["mse"]
    if train_prior:
        assert rows[-1]["bpp"] < rows[0]["bpp"]
    changed = any(not torch.equal(value, before[name]) for name, value in one.twin.state_dict().items())
    assert changed == train_prior

    save_twin(tmp_path / "prior.pt", one.twin)
    config = checkpoint_prior(tmp_path / "prior.pt")
    assert config == one.twin.config
    assert set(key_weights(tmp_path / "prior.pt", config)) == set(one.twin.state_dict())


def test_recipe_that_ships() -> None:
    assert read("joint", JointRecipe)[1].side_rate == 0.1
