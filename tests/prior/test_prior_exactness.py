"""Counts do not depend on carrier, threads, batch or device."""

from collections.abc import Iterator

import pytest
import torch
from prior_samples import TINY, random_tensors, random_tokens, shapes_of

from bsqcodec.blocks import BlockKind
from bsqcodec.prior import Carrier, LevelPriorConfig, Prior, PriorCoder, PriorConfig
from bsqcodec.prior.integer import Operators
from bsqcodec.prior.model import Previous
from bsqcodec.prior.order import signs

WIDE = PriorConfig((LevelPriorConfig(8, 12, blocks="cws"),))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def counts(
    prior: Prior,
    kind: BlockKind,
    batch: list[list[torch.Tensor]],
    before: list[torch.Tensor] | None,
    rates: list[int],
) -> list[torch.Tensor]:
    """Counts of all levels of blocks that are computed together; per level and group L x B x positions."""
    tokens = [torch.cat(level) for level in zip(*batch, strict=True)]
    previous = None if before is None else Previous(BlockKind.KEY, before)
    result = []
    for level in range(len(tokens)):
        for _, counts_LN in prior.level_counts(kind, level, tokens, previous, rates):
            result.append(counts_LN.view(counts_LN.shape[0], len(batch), -1).cpu())
    return result


def block(config: PriorConfig, rows: int, columns: int, seed: int, device: str = "cpu") -> list[torch.Tensor]:
    return [signs(grid)[None].to(device) for grid in random_tokens(config, rows, columns, seed)]


@pytest.mark.parametrize("carrier", [Carrier.FLOAT32, Carrier.FLOAT64])
@pytest.mark.parametrize(("config", "rows", "columns"), [(TINY, 3, 5), (WIDE, 37, 22)])
def test_carriers_agree(carrier: Carrier, config: PriorConfig, rows: int, columns: int) -> None:
    tensors, tokens = random_tensors(config), block(config, rows, columns, 1)
    exact = counts(Prior(config, tensors, carrier=Carrier.INT8), BlockKind.KEY, [tokens], None, [350])
    other = counts(Prior(config, tensors, carrier=carrier), BlockKind.KEY, [tokens], None, [350])
    assert all(a.equal(b) for a, b in zip(exact, other, strict=True))
    assert min(float(level.float().std()) for level in exact) > 1000


@pytest.mark.parametrize("carrier", list(Carrier))
def test_compiled_operators_change_nothing(carrier: Carrier) -> None:
    tensors, tokens = random_tensors(WIDE), block(WIDE, 37, 22, 1)
    prior = Prior(WIDE, tensors, carrier=carrier)
    plain = Prior(WIDE, tensors, carrier=carrier, operators=Operators())
    found = [counts(one, BlockKind.TUBE, [tokens], block(WIDE, 37, 22, 2), [350]) for one in (prior, plain)]
    assert all(a.equal(b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("carrier", list(Carrier))
def test_threads_do_not_matter(carrier: Carrier, two_threads: None) -> None:
    prior, tokens = Prior(WIDE, random_tensors(WIDE), carrier=carrier), block(WIDE, 40, 40, 2)
    two = counts(prior, BlockKind.KEY, [tokens], None, [500])
    torch.set_num_threads(1)
    one = counts(prior, BlockKind.KEY, [tokens], None, [500])
    assert all(a.equal(b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("carrier", list(Carrier))
def test_blocks_do_not_see_their_batch(carrier: Carrier) -> None:
    prior = Prior(TINY, random_tensors(TINY), carrier=carrier)
    batch = [block(TINY, 3, 4, seed) for seed in range(3)]
    before = [block(TINY, 3, 4, seed) for seed in range(5, 8)]
    rates = [0, 321, 1000]
    together = counts(
        prior, BlockKind.TUBE, batch, [torch.cat(level) for level in zip(*before, strict=True)], rates
    )
    for i in range(3):
        alone = counts(prior, BlockKind.TUBE, [batch[i]], before[i], [rates[i]])
        assert all(a[:, 0].equal(b[:, i]) for a, b in zip(alone, together, strict=True))


def test_what_is_kept_for_one_size_is_not_used_for_another() -> None:
    prior, sizes = Prior(WIDE, random_tensors(WIDE)), [(20, 20), (37, 22), (20, 20)]
    for rows, columns in sizes:
        tokens = block(WIDE, rows, columns, rows)
        fresh = counts(Prior(WIDE, random_tensors(WIDE)), BlockKind.KEY, [tokens], None, [350])
        again = counts(prior, BlockKind.KEY, [tokens], None, [350])
        assert all(a.equal(b) for a, b in zip(fresh, again, strict=True))


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_reduced_precision_of_products_is_not_used(precision: str) -> None:
    tensors, tokens = random_tensors(TINY), block(TINY, 2, 3, 4)
    exact = counts(Prior(TINY, tensors, carrier=Carrier.FLOAT32), BlockKind.KEY, [tokens], None, [10])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        other = counts(Prior(TINY, tensors, carrier=Carrier.FLOAT32), BlockKind.KEY, [tokens], None, [10])
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(a.equal(b) for a, b in zip(exact, other, strict=True))


@pytest.mark.parametrize("writer", list(Carrier))
def test_every_carrier_decodes_every_stream(writer: Carrier, two_threads: None) -> None:
    tensors, tokens = random_tensors(TINY), random_tokens(TINY, 3, 2, seed=3)
    coder = PriorCoder(Prior(TINY, tensors, carrier=writer))
    runs = [coder.encoder() for _ in tokens]
    coder.encode_block(BlockKind.KEY, tokens, None, 77, runs)
    parts = [run.finish() for run in runs]
    torch.set_num_threads(1)
    for carrier in Carrier:
        reader = PriorCoder(Prior(TINY, tensors, carrier=carrier))
        decoders = [reader.decoder(part) for part in parts]
        decoded = reader.decode_block(BlockKind.KEY, shapes_of(tokens), None, 77, decoders)
        assert all((a == b).all() for a, b in zip(decoded, tokens, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator here")
@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize(("config", "rows", "columns"), [(TINY, 3, 5), (WIDE, 37, 22)])
def test_accelerator_agrees(carrier: Carrier, config: PriorConfig, rows: int, columns: int) -> None:
    tensors = random_tensors(config)
    here = counts(Prior(config, tensors), BlockKind.KEY, [block(config, rows, columns, 5)], None, [640])
    there = counts(
        Prior(config, tensors, carrier=carrier, device="cuda"),
        BlockKind.KEY,
        [block(config, rows, columns, 5, "cuda")],
        None,
        [640],
    )
    assert all(a.equal(b) for a, b in zip(here, there, strict=True))
