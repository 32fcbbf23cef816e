"""The float twin, its training on made-up tokens, the token cache, and the export."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from bsqtrain.engine import Budget, Schedule
from bsqtrain.prior import (
    PriorRecipe,
    export_prior,
    load_twin,
    measure_prior,
    static_tables,
    train_prior,
)
from bsqtrain.prior_twin import PriorTwin, counts_table, exp2_table, split_multiplier
from bsqtrain.tokens import Clip, TokenSampler, load_clips, save_clips
from prior_samples import TINY, random_tensors, random_tokens

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import InputError
from bsqcodec.prior import Prior, PriorConfig, StaticPrior
from bsqcodec.prior.model import Previous
from bsqcodec.prior.order import signs

LEVELS = tuple((level.stride, level.bits) for level in TINY.levels)


def smooth_clips(count: int, rows: int, columns: int, blocks: int, seed: int) -> list[Clip]:
    """Bits that are thresholds of a few smooth random fields, seen through noise that grows with the rate."""
    source = np.random.default_rng(seed)
    mixtures = [
        np.random.default_rng(level).standard_normal((4, level_bits))
        for level, (_, level_bits) in enumerate(LEVELS)
    ]
    clips = []
    for _ in range(count):
        rate = int(source.integers(1001))
        coded = []
        fields = source.standard_normal((rows, columns, 4)).repeat(4, 0).repeat(4, 1)
        for _ in range(blocks):
            fields = fields * 0.95
            block = []
            for (stride, bits), mixture in zip(LEVELS, mixtures, strict=True):
                seen = fields[:: stride // 8, :: stride // 8] @ mixture
                noise = source.standard_normal((*seen.shape[:2], bits)) * rate / 1000
                block.append((seen + noise > 0.4).astype(np.uint8))
            coded.append(block)
        clips.append(Clip.from_bits(rate, rate, coded))
    return clips


def coarse(clips: list[Clip], levels: int) -> list[Clip]:
    """Without the finest levels."""
    return [
        Clip(clip.key_rate, clip.tube_rate, tuple(block[:levels] for block in clip.blocks)) for clip in clips
    ]


@pytest.mark.parametrize("before", [None, BlockKind.KEY, BlockKind.TUBE])
def test_twin_with_roundings_gives_the_integer_counts(before: BlockKind | None) -> None:
    torch.manual_seed(0)
    kind = BlockKind.KEY if before is None else BlockKind.TUBE
    twin = PriorTwin(TINY, kind)
    for parameter in twin.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    twin.quantise(True)
    prior = Prior(TINY, random_tensors(TINY) | twin.export())
    tokens = [signs(grid)[None] for grid in random_tokens(TINY, 5, 3)]
    earlier = [signs(grid)[None] for grid in random_tokens(TINY, 5, 3, 1)]
    previous = None if before is None else Previous(before, earlier)
    for level in range(4):
        groups = prior.level_counts(kind, level, tokens, previous, [333])
        for group, (bits, counts) in enumerate(groups):
            with torch.no_grad():
                logits, target = twin.levels[level].logits(
                    tokens, level, previous and earlier, before, torch.tensor([333]), torch.tensor([group])
                )
            there = target[:, 0] != 0
            assert counts_table()[(logits[there] + 767).long()].T.equal(counts)
            assert (target[there] > 0).T.equal(bits > 0)


def test_roundings_change_little_and_pass_gradients() -> None:
    torch.manual_seed(0)
    twin = PriorTwin(TINY, BlockKind.KEY)
    tokens = [signs(grid)[None] for grid in random_tokens(TINY, 4, 4)]
    rate, group = torch.tensor([500]), torch.tensor([3])
    plain = twin.level_bits(2, tokens, None, None, rate, group)
    twin.quantise(True)
    rounded = twin.level_bits(2, tokens, None, None, rate, group)
    assert 0 < float((plain - rounded).detach().abs().mean()) < 0.05 * float(plain.detach().mean())
    rounded.sum().backward()
    silent = [
        name for name, p in twin.levels[2].named_parameters() if p.grad is None or not p.grad.abs().sum()
    ]
    assert silent == []


@pytest.mark.parametrize("kind", BlockKind)
def test_a_net_goes_on_from_its_integers(kind: BlockKind) -> None:
    """Every integer comes back; multipliers, made anew from the largest weight, within a rounding."""
    torch.manual_seed(3)
    first, second = PriorTwin(TINY, kind), PriorTwin(TINY, kind)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    integers = first.export()
    second.restore(integers)
    again = second.export()
    for name, tensor in integers.items():
        if name.endswith(".mantissa"):
            exponents = name.replace("mantissa", "exponent")
            values = [torch.ldexp(t[name].float(), t[exponents].float()) for t in (integers, again)]
            torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=0)
        elif not name.endswith(".exponent"):
            assert torch.equal(tensor, again[name]), name


def test_multipliers_keep_fifteen_bits() -> None:
    scale = torch.cat([torch.logspace(-9, 0, 500), torch.tensor([1 - 2.0**-24, 0.5])])
    mantissa, exponent = split_multiplier(scale)
    assert int(mantissa.min()) >= 1 << 14
    assert int(mantissa.max()) < 1 << 15
    error = (torch.ldexp(mantissa, exponent).double() / scale.double() - 1).abs()
    assert float(error.max()) <= 2.0**-15


def test_tables() -> None:
    table = counts_table()
    assert table[767] == 32768
    assert (table + table.flip(0) == 65536).all()
    assert exp2_table()[[0, 32, 255]].tolist() == [1023, 512, 0]


def test_training_lowers_bits_and_roundings_cost_little(tmp_path: Path) -> None:
    """Trains key frames and tubes for a few steps, exports, and codes held-out blocks with what came out."""
    config = PriorConfig(TINY.levels[:2])
    training, held_out = coarse(smooth_clips(12, 4, 4, 3, 0), 2), coarse(smooth_clips(2, 5, 4, 3, 1), 2)
    recipe = PriorRecipe(batch=4, crop=4, coarse_crop=4, float_share=0.6)

    def train(kind: BlockKind, steps: int, key: Path | None) -> Path:
        return train_prior(
            config,
            training,
            kind,
            tmp_path / kind.label,
            Budget(steps=steps),
            recipe=recipe,
            schedule=Schedule(learning_rate=4e-3, warmup_steps=5, ema_decay=0.9),
            key=key,
            say=lambda line: None,
        )

    key = train(BlockKind.KEY, 30, None)
    tube = train(BlockKind.TUBE, 15, key)
    twins = load_twin(key, config, BlockKind.KEY), load_twin(tube, config, BlockKind.TUBE)
    tensors = export_prior(config, training, *twins)
    for twin in twins:
        report = measure_prior(config, tensors, twin, held_out)
        assert report.integer < 0.9 * report.static < report.raw
        assert abs(report.integer / report.twin - 1) < 0.02
    blind = export_prior(config, training, twins[0], None)
    assert not blind["tube.1.after_key.0.weight"].any()
    assert blind["tube.1.own.weight"].equal(blind["key.1.own.weight"])


def test_training_resumes_exactly(tmp_path: Path) -> None:
    clips = smooth_clips(3, 4, 4, 1, 0)
    recipe = PriorRecipe(batch=1, crop=2, coarse_crop=2)
    config = PriorConfig(TINY.levels[:1])
    short = coarse(clips, 1)

    def train(name: str, steps: int) -> dict[str, torch.Tensor]:
        path = train_prior(
            config,
            short,
            BlockKind.KEY,
            tmp_path / name,
            Budget(steps=steps),
            schedule=Schedule(learning_rate=1.5e-3, muon_learning_rate=2e-3),
            recipe=recipe,
            say=lambda line: None,
        )
        return load_twin(path, config, BlockKind.KEY).state_dict()

    train("half", 3)
    checkpoint = torch.load(tmp_path / "half" / "checkpoint.pt", weights_only=True)
    assert checkpoint["step"] == 3
    one, other = train("half", 6), train("whole", 6)
    assert torch.load(tmp_path / "half" / "checkpoint.pt", weights_only=True)["step"] == 6
    # The learning rate follows the budget, which was 3 steps at first: the first half differs, the length
    # does not.
    assert one.keys() == other.keys()
    again = train("whole", 6)
    assert all(again[name].equal(other[name]) for name in other)


def test_cache_round_trip_and_crops(tmp_path: Path) -> None:
    clips = smooth_clips(3, 4, 6, 3, 2)
    save_clips(tmp_path / "tokens.npz", LEVELS, clips)
    levels, loaded = load_clips(tmp_path / "tokens.npz")
    assert levels == LEVELS
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.npz"]
    for one, other in zip(clips, loaded, strict=True):
        assert (one.key_rate, one.tube_rate) == (other.key_rate, other.tube_rate)
        for before, after in zip(one.blocks, other.blocks, strict=True):
            assert all((a == b).all() for a, b in zip(before, after, strict=True))
    sampler = TokenSampler(TINY, loaded[:1], BlockKind.TUBE)
    batch = sampler.batch(2, 2, BlockKind.TUBE, random.Random(0))
    assert batch.previous is not None
    whole = [
        np.unpackbits(level, axis=-1, count=shape.bits) * 2.0 - 1
        for level, shape in zip(clips[0].blocks[2], TINY.levels, strict=True)
    ]
    places = [
        (i, j)
        for i in range(3)
        for j in range(5)
        if all(
            (level[i * (r := level.shape[0] // 4) :][: 2 * r, j * r :][:, : 2 * r] == crop[0].numpy()).all()
            for level, crop in zip(whole, batch.tokens, strict=True)
        )
    ]
    assert len(places) == 1
    with pytest.raises(InputError, match="5 positions wide"):
        sampler.batch(1, 5, BlockKind.KEY, random.Random(0))
    (tmp_path / "noise.npz").write_bytes(b"noise")
    with pytest.raises(InputError, match="not a token cache"):
        load_clips(tmp_path / "noise.npz")


def test_static_tables_are_frequencies_between_rates() -> None:
    ones, zeros = (
        tuple(np.packbits(np.full_like(grid, bit), axis=-1) for grid in random_tokens(TINY, 4, 4))
        for bit in (1, 0)
    )
    clips = [Clip(200, 200, (ones, zeros)), Clip(400, 400, (zeros, ones))]
    tables = static_tables(TINY, clips)
    table = StaticPrior(TINY, random_tensors(TINY) | tables)
    low, middle, high = (table.counts(BlockKind.KEY, 0, rate) for rate in (200, 300, 400))
    assert (low > 60000).all()
    assert (abs(middle - 32768) < 1000).all()
    assert (high < 5000).all()
    assert (table.counts(BlockKind.TUBE, 0, 200) < 5000).all()
