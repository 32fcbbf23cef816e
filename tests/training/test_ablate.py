"""Ablations: arms that can be built, change what they say, and are run once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bsqtrain import ablate, ablate_image, ablate_past, ablate_prior, ablate_video
from bsqtrain.ablate_image import ARMS, TOKENIZER
from bsqtrain.ablate_past import PAST_ARMS, PastSampler, PastTwin
from bsqtrain.ablate_prior import PRIOR_ARMS, OrderedTwin, PriorArm
from bsqtrain.ablate_video import VIDEO_ARMS
from bsqtrain.measure_clips import SIDE
from bsqtrain.tokens import Clip, save_clips
from PIL import Image
from torch import Tensor

from bsqcodec.blocks import BlockKind, TubeForm
from bsqcodec.prior import PriorConfig
from bsqcodec.samples import picture
from bsqcodec.tokenizer import motion
from bsqcodec.tokenizer.ladder import Ladder, Memory
from bsqcodec.tokenizer.motion import to_bits

LEVELS = ((16, 8), (8, 10))


def altered(name: str) -> Ladder:
    torch.manual_seed(0)
    arm = ARMS[name]
    ladder = Ladder(replace(TOKENIZER, **arm.tokenizer))
    if arm.alter is not None:
        arm.alter(ladder, [picture()])
    return ladder


def twin(arm: PriorArm) -> OrderedTwin:
    torch.manual_seed(0)
    return OrderedTwin(PriorConfig.preset(LEVELS, "tiny"), arm).eval()


def token_cache(path: Path, clips: int) -> Path:
    source = np.random.default_rng(0)
    shapes = [(64 // stride, 64 // stride, bits) for stride, bits in LEVELS]
    blocks = [[[source.integers(0, 2, shape, dtype=np.uint8) for shape in shapes]] for _ in range(clips)]
    save_clips(path, LEVELS, [Clip.from_bits(500, 500, block) for block in blocks])
    return path


@torch.no_grad()
def test_every_arm_codes_a_picture() -> None:
    x_BTCHW = torch.rand(1, 1, 3, 64, 64)
    for name in ("base", *(name for name, arm in ARMS.items() if arm.tokenizer or arm.alter)):
        ladder = altered(name)
        out = ladder(BlockKind.KEY, torch.zeros(1, 1), frames_BTCHW=x_BTCHW, rated=True)
        assert out.frames_BTCHW.shape == x_BTCHW.shape
        assert len(out.rate_bits_B) == len(ladder.config.levels)


@torch.no_grad()
def test_plain_signs_have_any_length() -> None:
    x_BTCHW = torch.rand(1, 1, 3, 64, 64)
    for name, spherical in (("base", True), ("sign", False)):
        out = altered(name)(BlockKind.KEY, torch.zeros(1, 1), frames_BTCHW=x_BTCHW)
        lengths = out.points[0].norm(dim=-1)
        assert torch.allclose(lengths, torch.ones(()), atol=1e-5) == spherical
        assert torch.equal(out.bits[0], (out.points[0] >= 0).float())


@torch.no_grad()
def test_principal_components_give_the_pixels_back() -> None:
    x_BTCHW = torch.from_numpy(picture()[:128, :192]).permute(2, 0, 1)[None, None].float() / 255
    errors = []
    for name in ("base", "pca"):
        ends = altered(name).ends["key"]
        y_BTCHW = ends.pixels(ends.enter(ends.stem, x_BTCHW), None)
        errors.append(float((y_BTCHW - x_BTCHW).square().mean()))
    assert errors[1] < 0.002 < errors[0]


@pytest.mark.parametrize("name", ["groups-1", "groups-2", "prior", "groups-8"])
def test_what_positions_know_of_each_other(name: str) -> None:
    """Which bits of the fine level change the cost of others: the gradient of each position's cost."""
    net = twin(PRIOR_ARMS[name])
    for level in net.levels:
        torch.nn.init.normal_(level.own.inner.weight)
        torch.nn.init.normal_(level.node.weight)
    tokens = [torch.randint(0, 2, (1, 4, 4, 8)) * 2.0 - 1, torch.randint(0, 2, (1, 8, 8, 10)) * 2.0 - 1]

    def costs(changed: tuple[int, int] | None = None) -> Tensor:
        fine = tokens[1].clone()
        if changed is not None:
            fine[0][changed] *= -1
        grid = torch.zeros(8, 8)
        with torch.no_grad():
            for group, (top, left) in enumerate(((0, 0), (1, 1), (0, 1), (1, 0))):
                bits = net.level_bits(
                    1, [tokens[0], fine], None, None, torch.tensor([500]), torch.tensor([group])
                )
                grid[top::2, left::2] = bits.sum(-1).view(4, 4)
        return grid

    usual = costs()
    seen_by = {at: {tuple(p) for p in (costs(at) != usual).nonzero().tolist()} for at in ((2, 2), (3, 3))}
    rows, columns = np.mgrid[:8, :8]
    steps: dict[str, Callable[[int, int], int]] = {
        "groups-1": lambda y, x: 0,
        "groups-2": lambda y, x: (y + x) % 2,
        "prior": lambda y, x: {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}[y % 2, x % 2],
        "groups-8": lambda y, x: (
            2 * {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 3}[y % 2, x % 2] + (y // 2 + x // 2) % 2
        ),
    }
    order = steps[name]
    for at, seen in seen_by.items():
        later = {(y, x) for y, x in zip(rows.flat, columns.flat, strict=True) if order(y, x) > order(*at)}
        assert seen - {at} <= later
        assert bool(seen - {at}) == bool(later)


def test_eight_groups_count_every_bit_once() -> None:
    net = twin(PRIOR_ARMS["groups-8"])
    for level in net.levels:
        torch.nn.init.zeros_(level.node.weight)
    tokens = [torch.ones(2, 4, 4, 8), torch.ones(2, 8, 8, 10)]
    with torch.no_grad():
        for index, raw in ((0, 2 * 16 * 8), (1, 2 * 64 * 10)):
            parts = [
                net.level_bits(index, tokens, None, None, torch.tensor([0, 9]), torch.full((2,), group))
                for group in range(4)
            ]
            assert float(sum(part.sum() for part in parts)) == pytest.approx(raw)


@pytest.mark.parametrize("name", ["prior", "chunk-1", "chunk-none"])
def test_what_bits_of_a_token_know_of_each_other(name: str) -> None:
    arm = PRIOR_ARMS[name]
    with ablate_prior.chunks_of(arm.chunk), torch.no_grad():
        net = twin(arm)
        tokens = [torch.ones(1, 4, 4, 8), torch.ones(1, 8, 8, 10)]
        rate, group = torch.tensor([500]), torch.tensor([0])
        usual = net.level_bits(1, tokens, None, None, rate, group)[0]
        tokens[1][0, 0, 0, 2] = -1
        changed = (net.level_bits(1, tokens, None, None, rate, group)[0] != usual).tolist()
    assert changed[:3] == [False, False, True]
    assert any(changed[3:]) == (not arm.independent)


def tube_clip(vectors_hw2: np.ndarray, tubes: int = 3) -> Clip:
    """Random tokens of tubes of 1 frame whose vectors, in quarter pixels, are all these."""
    source = np.random.default_rng(1)
    vectors = torch.from_numpy(vectors_hw2)[None, :, :, None].repeat(1, 1, 1, 2, 1)
    shapes = [(64 // level.stride, 64 // level.stride, level.bits) for level in ablate_past.TOKENIZER.levels]
    blocks = [[source.integers(0, 2, shape, dtype=np.uint8) for shape in shapes] for _ in range(1 + tubes)]
    for block in blocks[1:]:
        block[1] = to_bits(vectors, 1)[0].to(torch.uint8).numpy()
    return Clip.from_bits(1000, 1000, blocks)


def test_tokens_of_the_past_are_moved() -> None:
    """A tube whose cells all come from 8 pixels further down sees, on the grid of stride 8, the row below."""
    clip = tube_clip(np.broadcast_to([32, 0], (4, 4, 2)).astype(np.int64))
    config = ablate_prior.small(tuple((level.stride, level.bits) for level in ablate_past.TOKENIZER.levels))
    seen = {name: PastSampler(config, [clip], PAST_ARMS[name]).before(clip, 3) for name in PAST_ARMS}
    for index, (last, moved) in enumerate(zip(seen["past"], seen["past-moved"], strict=True)):
        if index > 1:
            assert torch.equal(moved[:-1], last[1:])
            assert torch.equal(moved[-1], last[-1])
        else:
            assert torch.equal(moved, last)
    bits = seen["past"][4].shape[-1]
    assert torch.equal(seen["past-both"][4][..., bits:], seen["past-moved"][4])
    sampler = PastSampler(config, [clip], PAST_ARMS["past-two"])
    assert torch.equal(sampler.before(clip, 3)[4][..., bits:], sampler.signs(clip, 1)[4])
    assert not sampler.before(clip, 2)[4][..., bits:].any()


@torch.no_grad()
@pytest.mark.parametrize("name", PAST_ARMS)
def test_what_tubes_see_of_the_past(name: str) -> None:
    """Which blocks change what a tube costs."""
    config = ablate_prior.small(tuple((level.stride, level.bits) for level in ablate_past.TOKENIZER.levels))
    torch.manual_seed(0)
    twin = PastTwin(config, PAST_ARMS[name])
    for level in twin.levels:
        torch.nn.init.normal_(level.node.weight)
    clip = tube_clip(np.full((4, 4, 2), 3))

    def cost(changed: int | None) -> float:
        blocks = [
            tuple(~level if number == changed and index != 1 else level for index, level in enumerate(block))
            for number, block in enumerate(clip.blocks)
        ]
        other = replace(clip, blocks=tuple(blocks))
        sampler = PastSampler(config, [other], PAST_ARMS[name])
        return sum(ablate_past.held_bits(twin, sampler, [other], 3))

    seen = {number for number in (0, 1, 2) if cost(number) != cost(None)}
    assert seen == {"past-none": set(), "past-two": {1, 2}}.get(name, {2})


def test_arms_of_the_past_are_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [tube_clip(np.full((4, 4, 2), number)) for number in range(3)]
    levels = tuple((level.stride, level.bits) for level in ablate_past.TOKENIZER.levels)
    for name in ("some", "held"):
        save_clips(tmp_path / f"{name}.npz", levels, clips)
    given = ["past", "past-both", "--steps", "2", "--out", str(tmp_path / "out")]
    caches = ["--tokens", str(tmp_path / "some.npz"), "--held", str(tmp_path / "held.npz")]
    assert ablate.main([*given, *caches]) == 0
    assert "| past-both | as they are, and moved | 2 |" in capsys.readouterr().out
    other = ["--tokens", str(token_cache(tmp_path / "other.npz", 2)), *caches[2:]]
    assert ablate.main(["past-two", *given[2:], *other]) == 1
    assert "arms of the past are for tokens of the tokenizer base" in capsys.readouterr().err


def test_arms_are_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 10):
        Image.fromarray(picture()[: 256 + number]).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(ablate, "RECIPE", replace(ablate_image.RECIPE, batch=1))
    small = replace(TOKENIZER, width=(32, 32, 32), encoder_depth=(1, 1, 1), decoder_depth=(1, 1, 1))
    monkeypatch.setattr(ablate, "TOKENIZER", small)
    monkeypatch.setattr(ablate, "TIMED_STEPS", 2)
    pictured = ["base", "bits-16", "--data", str(tmp_path), "--steps", "2", "--out", str(tmp_path / "out")]
    assert ablate.main(pictured) == 0
    caches = [str(token_cache(tmp_path / f"{name}.npz", count)) for name, count in (("some", 9), ("held", 2))]
    coded = ["chunk-none", "--tokens", caches[0], "--held", caches[1], "--steps", "2"]
    assert ablate.main([*coded, "--out", str(tmp_path / "out")]) == 0
    results = tmp_path / "out" / "results.jsonl"
    first, printed = results.read_text(), capsys.readouterr().out
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["arm"] for row in rows] == ["base", "bits-16", "chunk-none"]
    assert rows[0]["steps"] == rows[2]["steps"] == 2
    assert [point["rate"] for point in rows[1]["points"]] == [100, 300, 500, 700, 900]
    # Bits that are random cost one each.
    assert rows[2]["level_share"] == pytest.approx([1, 1], abs=0.2)

    assert ablate.main(pictured) == 0  # nothing is run
    assert results.read_text() == first
    shown = capsys.readouterr().out
    assert "arm base" not in shown
    assert shown.strip()
    assert shown in printed
    assert "| base | base, seed 0 | " in shown


@pytest.fixture
def key_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a very small arm `base` could have left."""
    for module in (ablate_image, ablate_video):
        small = replace(
            module.TOKENIZER, width=(32, 32, 32), encoder_depth=(1, 1, 1), decoder_depth=(1, 1, 1)
        )
        monkeypatch.setattr(module, "TOKENIZER", small)
    torch.manual_seed(0)
    path = tmp_path / "start.pt"
    torch.save({"ema": Ladder(ablate_image.TOKENIZER).state_dict()}, path)
    return path


def moving_clip(frames: int) -> np.ndarray:
    side = SIDE + 4
    return np.stack([picture()[2 * t : 2 * t + side, 3 * t : 3 * t + side] for t in range(frames)])


@pytest.mark.parametrize(
    "name",
    [
        "tubes",
        "frames-8",
        "frames-4",
        "frames-1",
        "frame-by-frame",
        "memory-none",
        "memory-carried",
        "memory-two",
        "cache-4",
        "trained-4",
        "moving-all",
    ],
)
def test_arms_of_tubes_train(name: str, key_frames: Path) -> None:
    arm = VIDEO_ARMS[name]
    task = ablate_video.video_task(arm, key_frames, [moving_clip(25)], [picture()])
    loss, _ = task.objective(*task.batch(0, 0, 0.5))
    loss.backward()
    ends = task.model.ends["tube"]
    assert float(ends.get_parameter("stem.weight").grad.abs().sum()) > 0  # type: ignore[union-attr]
    x_BTCHW = task.batch(0, 0, 0.5)[0]
    trained = x_BTCHW.shape[1] - 1
    assert trained % arm.tube_frames == 0
    assert 1 <= trained // arm.tube_frames <= 1 + arm.recipe.get("tubes", 2)


def test_every_arm_of_tubes_is_a_change() -> None:
    for name, arm in VIDEO_ARMS.items():
        changed = replace(ablate_video.RECIPE, **arm.recipe) != ablate_video.RECIPE
        other = arm.tokenizer or arm.network is not Ladder or arm.alter is not None or arm.seed
        assert changed or other or name == "tubes", name


@torch.no_grad()
def test_frame_by_frame_begins_as_the_mean_of_its_frames(key_frames: Path) -> None:
    ladder = ablate_video.start(key_frames, VIDEO_ARMS["frame-by-frame"])
    one, other, moved = torch.rand(3, 1, 1, 3, 64, 64)
    rate = torch.zeros(1, 1)

    def at8(*frames: Tensor) -> Tensor:
        return ladder.features(BlockKind.TUBE, torch.cat(frames, 1), rate, torch.cat([moved, moved], 1))[8]

    assert torch.allclose(at8(one, other), (at8(one, one) + at8(other, other)) / 2, atol=1e-5)


@torch.no_grad()
def test_what_arms_of_tubes_see_of_the_past(key_frames: Path) -> None:
    """Which features of the memory change what is decoded."""
    x = torch.rand(1, 2, 3, 64, 64)

    def seen(name: str) -> set[int]:
        ladder = ablate_video.video_task(VIDEO_ARMS[name], key_frames, [moving_clip(21)], [picture()]).model
        for parameter in ladder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        grids = [(8, 8), (4, 4), (2, 2)]
        memory = Memory(*(torch.randn(1, *grid, 32) for grid in grids), frame=torch.rand(1, 3, 64, 64))

        def shown(part: int | None) -> Tensor:
            parts = [torch.randn_like(t) if i == part else t for i, t in enumerate(memory)]
            bits = ladder(BlockKind.TUBE, torch.zeros(1, 1), frames_BTCHW=x, memory=memory).bits
            out = ladder(
                BlockKind.TUBE, torch.zeros(1, 1), bits=bits, memory=Memory(*parts), form=TubeForm(2)
            )
            return out.frames_BTCHW

        usual = shown(None)
        return {stride for part, stride in enumerate((8, 16, 32)) if not torch.equal(shown(part), usual)}

    assert seen("tubes") == {8, 16, 32}
    assert seen("memory-carried") == {8, 16, 32}
    assert seen("memory-16") == {16}
    assert seen("memory-none") == set()


@torch.no_grad()
@pytest.mark.parametrize("name", ["memory-two", "cache-4"])
def test_arms_remember_several_blocks(name: str, key_frames: Path) -> None:
    """The last one first, moved by the vectors of each tube since, or where they were."""
    ladder = ablate_video.start(key_frames, VIDEO_ARMS[name])
    log_lambda, x = torch.zeros(1, 1), torch.rand(1, 7, 3, 64, 64)
    out = ladder(BlockKind.KEY, log_lambda, frames_BTCHW=x[:, :1])
    shown = [out.memory.at8]
    for start in (1, 3, 5):
        vectors = torch.tensor([16, 0]).expand(1, 4, 4, ladder.config.anchors, 2)
        frames, memory = x[:, start : start + 2], out.memory
        out = ladder(
            BlockKind.TUBE, log_lambda, frames_BTCHW=frames, memory=memory, vectors=vectors, levels=0
        )
        shown.append(out.memory.at8)
    width = ladder.config.width[0]
    own = [memory[..., :width] for memory in shown]
    moved = name == "memory-two"

    def as_remembered(x: Tensor, tubes: int) -> Tensor:
        for _ in range(tubes if moved else 0):
            x = motion.moved_features(x, torch.tensor([8.0, 0.0]).expand(1, 4, 4, 2), 8)
        return x

    last = shown[-1].split(width, -1)
    assert len(last) == (2 if moved else 4)
    for age, part in enumerate(last):
        assert torch.allclose(part, as_remembered(own[3 - age], age), atol=1e-4)


def test_arms_of_tubes_are_measured(
    tmp_path: Path, key_frames: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablate.Ablation, "clips", [moving_clip(21)])
    monkeypatch.setattr(ablate.Ablation, "shown", [picture()])
    judged = torch.from_numpy(moving_clip(5)[:, :SIDE, :SIDE].copy()).permute(0, 3, 1, 2).float() / 255
    monkeypatch.setattr(ablate.Ablation, "judged_clips", [judged])
    monkeypatch.setattr(ablate, "TIMED_STEPS", 2)
    given = ["tubes", "frames-4", "--steps", "1", "--out", str(tmp_path / "out")]
    assert ablate.main(given) == 1
    assert "tubes: an arm of tubes needs the checkpoint of an arm base: --start" in capsys.readouterr().err
    assert ablate.main([*given, "--start", str(key_frames)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [len(row["gops"][0]["block_ms_ssim_db"]) for row in rows] == [2, 1]
    assert "| tubes | tubes of 2 frames, seed 0 | 1 |" in capsys.readouterr().out


def test_an_arm_that_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate.main(["nonesuch", "--steps", "2", "--out", str(tmp_path)]) == 1
    assert "nonesuch: no such arm, expected one of base, " in capsys.readouterr().err
