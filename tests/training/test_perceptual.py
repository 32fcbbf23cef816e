"""Adversarial losses against their formulas, and the stage `perceptual`: who learns from what."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from bsqtrain.clips import ClipSampler
from bsqtrain.discriminator import (
    Discriminator,
    EqualConvolution,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from bsqtrain.engine import Budget, Schedule, Trainer
from bsqtrain.perceptual import PerceptualRecipe, PerceptualTask, decoder_parts
from bsqtrain.pictures import CropSampler
from bsqtrain.recipe import read

from bsqcodec import machine
from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.metrics.lpips import ALEXNET, Lpips
from bsqcodec.samples import picture
from bsqcodec.tokenizer.config import PRESETS
from bsqcodec.tokenizer.ladder import Ladder

CPU = torch.device("cpu")


@pytest.fixture
def lpips(tmp_path: Path) -> Lpips:
    """AlexNet with random weights."""
    torch.manual_seed(0)
    backbone, inputs = {}, 3
    for one, width in zip(ALEXNET.convolutions, ALEXNET.channels, strict=True):
        side = {0: 11, 3: 5}.get(one.place, 3)
        backbone[f"features.{one.place}.weight"] = (
            torch.randn(width, inputs, side, side) / side / math.sqrt(inputs)
        )
        backbone[f"features.{one.place}.bias"] = torch.zeros(width)
        inputs = width
    heads = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) / n for i, n in enumerate(ALEXNET.channels)}
    torch.save(backbone, tmp_path / "alex.pth")
    torch.save(heads, tmp_path / "heads.pth")
    return Lpips(tmp_path / "alex.pth", tmp_path / "heads.pth")


def task(recipe: PerceptualRecipe, lpips: Lpips | None = None) -> PerceptualTask:
    torch.manual_seed(0)
    sampler = CropSampler([picture()[:200, 120:400]], recipe.crop)
    return PerceptualTask(Ladder(PRESETS["tiny"]), sampler, recipe, CPU, lpips)


def tokens(ladder: Ladder) -> list[torch.Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(picture()[:192, 120:312])).permute(2, 0, 1)[None, None] / 255
    with torch.no_grad():
        return ladder(BlockKind.KEY, torch.zeros(1, 1), frames_BTCHW=x).bits


SCHEDULE = Schedule(3e-3, warmup_steps=3, helper_learning_rate=2e-3, helper_betas=(0.0, 0.99))


def trained(one: PerceptualTask, steps: int, out: Path) -> list[dict[str, float]]:
    """The rows of the log."""
    trainer = Trainer(one, SCHEDULE, Budget(steps=steps), out, compile=False)
    trainer.run(log_every=2, say=lambda line: None)
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_losses_are_non_saturating() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])
    log_sigmoid = [math.log(1 / (1 + math.exp(-v))) for v in (2.0, -1.0, -0.5, 3.0, 0.5, -3.0)]
    expected = -(log_sigmoid[0] + log_sigmoid[1]) / 2 - (log_sigmoid[2] + log_sigmoid[3]) / 2
    assert float(discriminator_loss(real, fake)) == pytest.approx(expected, rel=1e-5)
    assert float(generator_loss(fake)) == pytest.approx(-(log_sigmoid[4] + log_sigmoid[5]) / 2, rel=1e-5)


def test_r1_of_a_linear_judge() -> None:
    weight = torch.randn(2, 3, 8, 8)
    penalty = r1_penalty(lambda x: (weight * (2 * x - 1)).flatten(1).sum(1), torch.rand(4, 2, 3, 8, 8))  # type: ignore[arg-type]
    assert float(penalty) == pytest.approx(float(weight.square().sum()), rel=1e-4)


def test_halving_blurs_first() -> None:
    """Against blurring and convolving everywhere and keeping every second place."""
    x = torch.randn(1, 2, 12, 12)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    blur = torch.outer(taps, taps).expand(2, 1, 4, 4)
    for side in (1, 3):
        layer = EqualConvolution(2, 5, side, down=True)
        margin = side // 2 + 1
        blurred = torch.nn.functional.conv2d(x, blur, padding=margin, groups=2)
        weight = layer.weight / math.sqrt(2 * side**2)
        expected = torch.nn.functional.conv2d(blurred, weight)[:, :, ::2, ::2]
        assert layer(x).shape == (1, 5, 6, 6)
        assert torch.allclose(layer(x), expected, atol=1e-5)


def test_discriminator_sides() -> None:
    for side in (64, 96, 112):
        assert Discriminator(side, 512)(torch.rand(3, 1, 3, side, side)).shape == (3,)
    with pytest.raises(InputError, match="crops of 100 pixels"):
        Discriminator(100, 512)


def test_a_discriminator_of_clips_sees_the_order_of_frames() -> None:
    torch.manual_seed(0)
    judge, x = Discriminator(64, 512, frames=5), torch.rand(2, 5, 3, 64, 64)
    logits = judge(x)
    assert logits.shape == (2,)
    assert not torch.allclose(judge(x.flip(1)), logits, rtol=1e-3)
    assert torch.allclose(judge(x.flip(0)), logits.flip(0), atol=1e-5)  # of clips it sees each on its own
    layer = EqualConvolution(3, 4, 3, frames=5).requires_grad_(False)
    assert float(layer(torch.randn(50, 3, 32, 32)).std()) == pytest.approx(1, abs=0.25)
    early = x.clone()
    early[:, 0] += 1  # reaches the frame after, and no further
    moved = (layer(early.flatten(0, 1)) - layer(x.flatten(0, 1))).view(2, 5, -1).abs().amax((0, 2))
    assert [bool(far > 1e-4) for far in moved] == [True, True, False, False, False]


def test_each_learns_from_its_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FAST_CPU", False)  # compared in float32
    one = task(PerceptualRecipe(batch=2, crop=192, channels=256, adversarial=0.5))
    x, log_lambda, _, _, _ = one.batch(0, 0, 0.0)
    loss, figures = one.objective(x, log_lambda, torch.tensor(1.0), False)
    loss.backward()
    head = one.model.ends["key"].head.weight
    found, judged = head.grad.clone(), one.helper.logit.weight.grad.clone()

    y = one.model(BlockKind.KEY, log_lambda, frames_BTCHW=x).frames_BTCHW
    shown = y.detach().clamp(0, 1)
    (expected,) = torch.autograd.grad(
        discriminator_loss(one.helper(x), one.helper(shown)), one.helper.logit.weight
    )
    assert torch.allclose(judged, expected, atol=1e-2 * float(expected.abs().max()))
    silent, _ = one.objective(x, log_lambda, torch.tensor(0.0), False)
    head.grad = None
    silent.backward()
    assert not torch.allclose(found, head.grad, rtol=1e-3)  # the adversary reaches the decoder
    assert all(p.grad is None for p in one.model.encode16.parameters())
    assert {"adversarial", "real_logit", "fake_logit", "distortion"} <= set(figures)


@pytest.mark.parametrize("keep_tokens", [True, False])
def test_stage(keep_tokens: bool, lpips: Lpips, tmp_path: Path) -> None:
    """Pictures come closer, the discriminator learns to tell, and tokens change only where they may."""
    recipe = PerceptualRecipe(batch=2, crop=192, channels=256, r1_every=4, keep_tokens=keep_tokens)
    one = task(recipe, lpips)
    before = tokens(one.model)
    rows = trained(one, 14, tmp_path)
    assert rows[-1]["distortion"] < 0.8 * rows[0]["distortion"]
    assert rows[-1]["lpips"] < rows[0]["lpips"]
    assert rows[-1]["real_logit"] > rows[-1]["fake_logit"]
    same = all(torch.equal(a, b) for a, b in zip(before, tokens(one.model), strict=True))
    assert same == keep_tokens
    assert ("bpp" in rows[0]) == (not keep_tokens)

    again = task(recipe, lpips)
    resumed = Trainer(again, SCHEDULE, Budget(steps=14), tmp_path, compile=False)
    resumed.resume(tmp_path / "checkpoint.pt")
    for name, value in one.helper.state_dict().items():
        assert torch.equal(value, again.helper.state_dict()[name])


@pytest.mark.parametrize("rate", [0, 900])
def test_stage_of_tubes(rate: int, lpips: Lpips, tmp_path: Path) -> None:
    """Tubes of every length come closer to clips; key frames and the first tube's tokens stay."""
    torch.manual_seed(0)
    crop = torch.from_numpy(picture()[:200, 120:420])
    clip = torch.stack([crop[:, 4 * t : 4 * t + 200] for t in range(5)]).numpy()
    ladder = Ladder(PRESETS["tiny"])
    recipe = PerceptualRecipe(batch=2, crop=192, frames=5, channels=256, r1_every=4, rate_range=(rate, rate))
    one = PerceptualTask(ladder, ClipSampler([clip], 192, 5), recipe, CPU, lpips)
    assert one.batch(0, 0, 0.0)[4] == ladder.config.tube_length(rate)
    x = torch.from_numpy(clip[None, :, :192, :192]).movedim(-1, 2) / 255
    log_lambda = torch.zeros(1, 1)

    def blocks() -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.no_grad():
            key = ladder(BlockKind.KEY, log_lambda, frames_BTCHW=x[:, :1])
            tube = ladder(BlockKind.TUBE, log_lambda, frames_BTCHW=x[:, 1:], memory=key.memory)
        return key.frames_BTCHW, tube.bits

    key, bits = blocks()
    rows = trained(one, 12, tmp_path)
    assert rows[-1]["distortion"] < 0.9 * rows[0]["distortion"]
    assert rows[-1]["lpips"] < rows[0]["lpips"]
    assert rows[-1]["real_logit"] > rows[-1]["fake_logit"]
    same_key, same_bits = blocks()
    assert torch.equal(key, same_key)
    assert all(torch.equal(a, b) for a, b in zip(bits, same_bits, strict=True))


def test_tubes_train_what_is_theirs() -> None:
    ladder = Ladder(PRESETS["tiny"])
    tubes = {id(p) for part in (ladder.ends["tube"], ladder.recall) for p in part.parameters()}
    key = {id(p) for part in decoder_parts(ladder, BlockKind.KEY, False) for p in part.parameters()}
    for keep_tokens in (True, False):
        found = decoder_parts(ladder, BlockKind.TUBE, keep_tokens)
        trained = {id(p) for part in found for p in part.parameters()}
        assert trained <= tubes - key
        assert ({id(p) for p in ladder.recall.parameters()} <= trained) == (not keep_tokens)
    with pytest.raises(InputError, match="frames = 4: expected 1"):
        PerceptualTask(ladder, None, PerceptualRecipe(frames=4), CPU)  # type: ignore[arg-type]


def test_recipes_that_ship() -> None:
    _, clips = read("perceptual-video", PerceptualRecipe)
    assert (clips.frames - 1) % PRESETS["base"].tube_frames == 0
    schedule, recipe = read("perceptual", PerceptualRecipe)
    assert schedule.helper_betas == (0.0, 0.99)
    assert recipe.keep_tokens
