"""Blocks through prior, static table and raw packing; the range coder's edges; models that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_samples import TINY, random_tensors, random_tokens, shapes_of

from bsqcodec.blocks import BlockKind
from bsqcodec.errors import FormatError, ModelError
from bsqcodec.prior import (
    Prior,
    PriorCoder,
    PriorConfig,
    PriorContext,
    RawCoder,
    StaticPrior,
    TokenCoder,
    order,
)
from bsqcodec.prior.model import Previous
from bsqcodec.prior.range_coder import RangeLevelDecoder, RangeLevelEncoder, RawLevelDecoder

TENSORS = random_tensors(TINY)
CODERS: dict[str, TokenCoder] = {
    "prior": PriorCoder(Prior(TINY, TENSORS)),
    "static": StaticPrior(TINY, TENSORS),
    "raw": RawCoder(TINY),
}


def encode(
    coder: TokenCoder,
    kind: BlockKind,
    tokens: list[np.ndarray],
    context: PriorContext | None,
    rate: int,
    levels: int = 4,
) -> list[bytes]:
    runs = [coder.encoder() for _ in range(levels)]
    coder.encode_block(kind, tokens, context, rate, runs)
    return [run.finish() for run in runs]


@pytest.mark.parametrize("name", CODERS)
@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    rate=st.integers(0, 1000),
    levels=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_any_grid_returns(name: str, rows: int, columns: int, rate: int, levels: int, seed: int) -> None:
    coder, tokens = CODERS[name], random_tokens(TINY, rows, columns, seed)
    parts = encode(coder, BlockKind.KEY, tokens, None, rate, levels)
    decoded = coder.decode_block(
        BlockKind.KEY, shapes_of(tokens), None, rate, [coder.decoder(part) for part in parts]
    )
    assert len(decoded) == levels
    for one, other in zip(decoded, tokens, strict=False):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CODERS)
def test_runs_can_span_a_gop(name: str) -> None:
    coder = CODERS[name]
    blocks = [random_tokens(TINY, 2, 3, seed) for seed in range(4)]
    runs = [coder.encoder() for _ in range(4)]
    context = None
    for number, tokens in enumerate(blocks):
        kind = BlockKind.TUBE if number else BlockKind.KEY
        coder.encode_block(kind, tokens, context, 500, runs)
        context = PriorContext(kind, tokens)
    decoders = [coder.decoder(run.finish()) for run in runs]
    context = None
    for number, tokens in enumerate(blocks):
        kind = BlockKind.TUBE if number else BlockKind.KEY
        decoded = coder.decode_block(kind, shapes_of(tokens), context, 500, decoders)
        assert all((a == b).all() for a, b in zip(decoded, tokens, strict=True))
        context = PriorContext(kind, decoded)


def test_finer_levels_are_not_needed() -> None:
    """A tube coded with four levels decodes with two, from a block before it that has two."""
    coder, before, tokens = CODERS["prior"], random_tokens(TINY, 3, 3, 1), random_tokens(TINY, 3, 3, 2)
    parts = encode(coder, BlockKind.TUBE, tokens, PriorContext(BlockKind.KEY, before), 250)
    decoders = [coder.decoder(part) for part in parts[:2]]
    decoded = coder.decode_block(
        BlockKind.TUBE, shapes_of(tokens)[:2], PriorContext(BlockKind.KEY, before[:2]), 250, decoders
    )
    assert all((a == b).all() for a, b in zip(decoded, tokens, strict=False))


@pytest.mark.parametrize("name", ["prior", "static"])
def test_cost_is_what_the_run_takes(name: str) -> None:
    coder, tokens = CODERS[name], random_tokens(TINY, 9, 7, 3)
    cost = coder.cost_bits(BlockKind.KEY, tokens, None, 123)
    for bits, part in zip(cost, encode(coder, BlockKind.KEY, tokens, None, 123), strict=True):
        assert bits * 0.999 - 8 <= 8 * len(part) <= bits * 1.002 + 16


def test_context_and_rate_change_the_counts() -> None:
    coder, tokens = CODERS["prior"], random_tokens(TINY, 4, 4, 4)
    before = random_tokens(TINY, 4, 4, 5)
    costs = [
        coder.cost_bits(BlockKind.TUBE, tokens, context, rate)
        for context, rate in [
            (PriorContext(BlockKind.KEY, before), 300),
            (PriorContext(BlockKind.TUBE, before), 300),
            (PriorContext(BlockKind.KEY, tokens), 300),
            (PriorContext(BlockKind.KEY, before), 305),
        ]
    ]
    for level in range(4):
        assert len({cost[level] for cost in costs}) == 4


def test_later_groups_and_finer_levels_do_not_leak() -> None:
    """Changing a bit changes no count of what is coded before it."""
    prior, tokens = Prior(TINY, TENSORS), random_tokens(TINY, 3, 3, 6)
    changed = [grid.copy() for grid in tokens]
    changed[2][4, 5, 3] ^= 1  # group c... of level 2: row even, column odd: the third group
    for level in range(4):
        pairs = zip(
            *(
                prior.level_counts(
                    BlockKind.KEY,
                    level,
                    [torch.from_numpy(g.astype(np.int8) * 2 - 1)[None] for g in grids],
                    None,
                    [400],
                )
                for grids in (tokens, changed)
            ),
            strict=True,
        )
        for group, ((_, one), (_, other)) in enumerate(pairs):
            earlier = level < 2 or (level == 2 and group < 2)
            own = level == 2 and group == 2
            assert earlier == one.equal(other) or own
            if own:
                assert one[:4].equal(other[:4])
                assert not one[4:].equal(other[4:])
                assert int((one != other).any(0).sum()) == 1


@pytest.mark.parametrize(("passes", "blind"), [(4, set()), (2, {(0, 1), (2, 3)})])
def test_groups_of_a_pass_do_not_know_each_other(passes: int, blind: set[tuple[int, int]]) -> None:
    prior = Prior(replace(TINY, tube_passes=passes), TENSORS)
    grids = random_tokens(TINY, 3, 3)
    previous = Previous(BlockKind.KEY, [order.signs(grid)[None] for grid in random_tokens(TINY, 3, 3, 1)])

    def counts() -> list[torch.Tensor]:
        tokens = [order.signs(grid)[None] for grid in grids]
        return [found for _, found in prior.level_counts(BlockKind.TUBE, 2, tokens, previous, [400])]

    before = counts()
    for group, (row, column) in enumerate(order.PHASES):
        grids[2][4 + row, 4 + column, 3] ^= 1
        after = counts()
        grids[2][4 + row, 4 + column, 3] ^= 1
        for later in range(group + 1, 4):
            assert before[later].equal(after[later]) == ((group, later) in blind)


@given(
    bits=st.lists(
        st.tuples(st.booleans(), st.sampled_from([1, 2, 100, 32768, 65434, 65534, 65535]), st.booleans()),
        max_size=300,
    )
)
@settings(max_examples=150, deadline=None)
def test_range_coder_run(bits: list[tuple[bool, int, bool]]) -> None:
    """Any bits against any counts (likely ones mostly), in calls of any length; the end of the run is
    short.
    """
    values = np.array([bit if odd else 2 * count > 65536 for bit, count, odd in bits], np.uint8)
    counts = np.array([count for _, count, _ in bits], np.int64)
    encoder = RangeLevelEncoder()
    half = len(bits) // 2
    encoder.encode(values[:half], counts[:half])
    encoder.encode(values[half:], counts[half:])
    data = encoder.finish()
    decoder = RangeLevelDecoder(data)
    third = len(bits) // 3
    decoded = np.concatenate([decoder.decode(counts[:third]), decoder.decode(counts[third:])])
    np.testing.assert_array_equal(decoded, values)
    chance = np.where(values > 0, counts, 65536 - counts) / 65536
    assert len(data) <= (-np.log2(chance).sum() * 1.001 + 0.02 * len(bits)) / 8 + 4
    assert not data.endswith(b"\0")


def test_damaged_runs_are_format_errors_or_other_tokens() -> None:
    coder, tokens = CODERS["prior"], random_tokens(TINY, 4, 4, 8)
    parts = encode(coder, BlockKind.KEY, tokens, None, 600)
    source = np.random.default_rng(0)
    outcomes = set()
    for _ in range(15):
        level = int(source.integers(4))
        damaged = list(parts)
        data = bytearray(parts[level])
        data[source.integers(len(data))] ^= 1 << int(source.integers(8))
        damaged[level] = bytes(data)
        decoders = [coder.decoder(part) for part in damaged]
        try:
            decoded = coder.decode_block(BlockKind.KEY, shapes_of(tokens), None, 600, decoders)
        except FormatError as error:
            outcomes.add(str(error).split(":")[0])
        else:
            outcomes.add("same" if all(map(np.array_equal, decoded, tokens)) else "other")
    assert any(outcome.startswith("level ") for outcome in outcomes)
    assert "same" not in outcomes


def test_empty_and_short_runs() -> None:
    assert RangeLevelEncoder().finish() == b""
    assert RangeLevelDecoder(b"").decode(np.full(10, 30000)).shape == (10,)
    with pytest.raises(FormatError, match="end after 16 bits, expected at least 17"):
        RawLevelDecoder(b"ab").decode(np.zeros(17, np.int64))


@pytest.mark.parametrize("count", [0, 65536, -5])
def test_impossible_counts_never_reach_the_coder(count: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1\.\.65535"):
        RangeLevelEncoder().encode(np.zeros(1, np.uint8), np.array([count]))
    with pytest.raises(ValueError, match=r"expected 1\.\.65535"):
        RangeLevelDecoder(b"abcd").decode(np.array([count]))


def test_tokens_that_do_not_fit_are_refused() -> None:
    coder, tokens = CODERS["prior"], random_tokens(TINY, 2, 2)
    with pytest.raises(ValueError, match=r"expected uint8 \(rows, columns, 8\)"):
        encode(coder, BlockKind.KEY, [*tokens[:2], tokens[0], tokens[3]], None, 0)
    with pytest.raises(ValueError, match="expected 4 x 4"):
        encode(coder, BlockKind.KEY, [tokens[0], tokens[1][:3], *tokens[2:]], None, 0)
    with pytest.raises(ModelError, match="a tube block needs"):
        encode(coder, BlockKind.TUBE, tokens, None, 0)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"key\.0\.own\.weight is missing"):
        Prior(TINY, {name: value for name, value in TENSORS.items() if name != "key.0.own.weight"})
    wrong = TENSORS | {"key.0.own.weight": TENSORS["key.0.own.weight"][:, :8]}
    with pytest.raises(ModelError, match=r"\(64, 8\), expected torch\.int8 \(64, 64\)"):
        Prior(TINY, wrong)
    with pytest.raises(ModelError, match=r"counts holds 0\.\.65535, expected 1\.\.65535"):
        Prior(TINY, TENSORS | {"counts": TENSORS["counts"] - (TENSORS["counts"] == 1).int()})


def test_configuration_round_trip_and_limits() -> None:
    assert PriorConfig.from_json(TINY.to_json()) == TINY
    values = TINY.to_json()
    with pytest.raises(ModelError, match="hidden is 1040, expected a multiple of 8 up to 1032"):
        PriorConfig.from_json({"levels": [{**values["levels"][0], "hidden": 1040}]})
    with pytest.raises(ModelError, match="stride 24 follows 32"):
        PriorConfig.preset(((32, 16), (24, 16)))
    with pytest.raises(ModelError, match="configuration not understood"):
        PriorConfig.from_json({"levels": [{"stride": 8, "bits": 8, "colour": 1}]})
