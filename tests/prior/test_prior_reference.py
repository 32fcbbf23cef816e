"""The decoder that follows PRIOR.md in plain integers reads what the prior writes."""

import numpy as np
import pytest
from plain_prior import decode_block
from prior_samples import TINY, random_tensors, random_tokens, shapes_of

from bsqcodec.blocks import BlockKind
from bsqcodec.prior import Prior, PriorCoder, PriorContext


@pytest.mark.parametrize(
    ("rows", "columns", "rate", "before"),
    [(1, 1, 0, None), (1, 3, 1000, None), (3, 2, 437, BlockKind.KEY), (2, 1, 901, BlockKind.TUBE)],
)
def test_plain_integers_decode_the_stream(
    rows: int, columns: int, rate: int, before: BlockKind | None
) -> None:
    tensors = random_tensors(TINY, seed=rows)
    tokens = random_tokens(TINY, rows, columns, seed=columns)
    coder = PriorCoder(Prior(TINY, tensors))
    earlier = random_tokens(TINY, rows, columns, seed=7)
    context = None if before is None else PriorContext(before, earlier)
    kind = BlockKind.KEY if before is None else BlockKind.TUBE
    runs = [coder.encoder() for _ in tokens]
    coder.encode_block(kind, tokens, context, rate, runs)
    parts = [run.finish() for run in runs]
    previous = None if before is None else (before.label, earlier)
    plain = decode_block(tensors, TINY, kind.label, shapes_of(tokens), rate, previous, parts)
    for one, other in zip(plain, tokens, strict=True):
        np.testing.assert_array_equal(one, other)
