"""Each integer operator against Python integers, extremes included."""

from fractions import Fraction

import numpy as np
import plain_prior as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.prior.integer import Carrier, Linear, Matrix, attend, convolve, multiplier, normalise
from bsqcodec.prior.windows import Tiling, relative_positions

CARRIERS = list(Carrier)
QUICK = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
reach = st.sampled_from([1, 3, 40, 127])


def integers(source: np.random.Generator, limit: int, *shape: int) -> np.ndarray:
    """Uniform, with a share of both extremes."""
    values = source.integers(-limit, limit + 1, shape)
    return np.where(source.random(shape) < 0.1, np.sign(values) * limit, values)


@given(
    value=st.integers(-(2**24) + 1, 2**24 - 1),
    mantissa=st.integers(1 << 14, (1 << 15) - 1),
    exponent=st.integers(-40, -10),
)
@settings(max_examples=300, deadline=None)
def test_rounding_of_one_product(value: int, mantissa: int, exponent: int) -> None:
    factor = multiplier(torch.tensor(mantissa, dtype=torch.int16), torch.tensor(exponent, dtype=torch.int8))
    assert Fraction(factor.item()) == Fraction(mantissa) * Fraction(2) ** exponent
    product = torch.tensor(float(value)) * factor
    mantissa_24, power = plain.scaled(value, mantissa, exponent)
    assert Fraction(product.item()) == Fraction(mantissa_24) * Fraction(2) ** power
    assert product.round().item() == plain.scaled_round(value, mantissa, exponent)
    assert product.floor().item() == plain.scaled_floor(value, mantissa, exponent)


@pytest.mark.parametrize("carrier", CARRIERS)
@given(
    seed=seeds,
    rows=st.integers(1, 40),
    inputs=st.sampled_from([8, 24, 128, 1032]),
    limit=reach,
    exponent=st.integers(-32, -16),
)
@QUICK
def test_linear(carrier: Carrier, seed: int, rows: int, inputs: int, limit: int, exponent: int) -> None:
    source = np.random.default_rng(seed)
    a, w = integers(source, limit, rows, inputs), integers(source, 127, 16, inputs)
    mantissa = source.integers(1 << 14, 1 << 15, 16)
    scale = multiplier(torch.from_numpy(mantissa), torch.full((16,), exponent))
    linear = Linear(Matrix(torch.from_numpy(w).to(torch.int8), carrier), scale)
    sums = a @ w.T
    values = torch.from_numpy(a).to(torch.int8)
    rounded, rectified = linear(values).numpy(), linear.rectified(values).numpy()
    for i, j in {(0, 0), (rows - 1, 15), (rows // 2, 7)}:
        part = int(sums[i, j]), int(mantissa[j]), exponent
        assert rounded[i, j] == plain.scaled_round(*part)
        assert rectified[i, j] == plain.clamp(plain.scaled_floor(*part), 0, 127)


@given(seed=seeds, width=st.sampled_from([8, 64, 512]), limit=st.sampled_from([0, 1, 5, 300, 32767]))
@QUICK
def test_normalise(seed: int, width: int, limit: int) -> None:
    x = integers(np.random.default_rng(seed), limit, 2, width)
    x[1] = limit
    y = normalise(torch.from_numpy(x).float())
    assert y.tolist() == [plain.normalise(row) for row in x.tolist()]


@given(seed=seeds, rows=st.integers(1, 6), columns=st.integers(1, 6), limit=reach)
@QUICK
def test_convolve(seed: int, rows: int, columns: int, limit: int) -> None:
    source = np.random.default_rng(seed)
    a, w = integers(source, limit, rows, columns, 8), integers(source, 127, 9, 8)
    mantissa = source.integers(1 << 14, 1 << 15, 8)
    scale = multiplier(torch.from_numpy(mantissa), torch.full((8,), -22))
    y = convolve(torch.from_numpy(a)[None].float(), torch.from_numpy(w).float(), scale)[0]
    padded = np.pad(a, ((1, 1), (1, 1), (0, 0)))
    for i in range(rows):
        for j in range(columns):
            sums = (padded[i : i + 3, j : j + 3] * w.reshape(3, 3, 8)).sum((0, 1))
            expected = [
                plain.clamp(plain.scaled_round(int(s), int(m), -22), -127, 127)
                for s, m in zip(sums, mantissa, strict=True)
            ]
            assert y[i, j].tolist() == expected


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@given(seed=seeds, limit=reach, bias_limit=st.sampled_from([0, 100, 32767]), hidden=st.booleans())
@QUICK
def test_attention(kind: torch.dtype, seed: int, limit: int, bias_limit: int, hidden: bool) -> None:
    source = np.random.default_rng(seed)
    size, dim, heads = 64, 64, 2
    qkv = integers(source, limit, 1, size, 3 * dim * heads)
    bias = (
        integers(source, bias_limit, heads, size, size) - (source.random((size, size)) < 0.5) * hidden * 32768
    )
    exp2 = [round(1023 * 2 ** (-i / 32)) for i in range(255)] + [0]
    y = attend(
        torch.from_numpy(qkv).float(), torch.from_numpy(bias).to(kind), torch.tensor(exp2).float(), dim
    )
    q, k, v = qkv[0].reshape(size, 3, heads, dim).transpose(1, 2, 0, 3)
    for head, row in ((0, 0), (1, 63)):
        scores = [int(s) for s in k[head] @ q[head, row] + 128 * bias[head, row]]
        weights = [exp2[min(255, (max(scores) - score) >> 7)] for score in scores]
        factor = (1 << 26) // sum(weights)
        expected = [plain.scaled_round(int(total), factor, -26) for total in np.array(weights) @ v[head]]
        assert y[0, row, head * dim : (head + 1) * dim].tolist() == expected
        assert max(map(abs, expected)) <= 127


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    size=st.sampled_from([2, 4, 8]),
    shifted=st.booleans(),
)
@QUICK
def test_windows_are_those_of_the_specification(rows: int, columns: int, size: int, shifted: bool) -> None:
    tiling = Tiling(rows, columns, size, shifted)
    number = torch.arange(1, rows * columns + 1).view(1, rows, columns, 1)
    tiles = tiling.cut(number)
    assert tiling.join(tiles, 1).equal(number)
    hidden, tiles = tiling.hidden_keys(), tiles[:, :, 0]
    offsets = relative_positions(size)
    shift = size // 2 if shifted else 0
    seen: dict[int, dict[int, int]] = {}
    for tile, place in torch.nonzero(tiles).tolist():
        visible = tiles[tile] > 0 if hidden is None else ~hidden[tile, place]
        seen[int(tiles[tile, place])] = dict(
            zip(tiles[tile][visible].tolist(), offsets[place][visible].tolist(), strict=True)
        )
    places = [(i, j) for i in range(rows) for j in range(columns)]
    for i, j in places:
        expected = {
            a * columns + b + 1: (i - a + size - 1) * (2 * size - 1) + j - b + size - 1
            for a, b in places
            if (a + shift) // size == (i + shift) // size and (b + shift) // size == (j + shift) // size
        }
        assert seen[i * columns + j + 1] == expected
