"""Each integer operator against Python integers, extremes included."""

from fractions import Fraction

import numpy as np
import plain_prior as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.prior.compiled_operators import CompiledOperators
from bsqcodec.prior.integer import Carrier, Linear, Matrix, Operators, multiplier
from bsqcodec.prior.windows import Tiling, relative_positions

CARRIERS = list(Carrier)
BOTH = pytest.mark.parametrize("operators", [Operators(), CompiledOperators()], ids=["torch", "compiled"])
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


@BOTH
@pytest.mark.parametrize("carrier", CARRIERS)
@given(
    seed=seeds,
    rows=st.integers(1, 40),
    inputs=st.sampled_from([8, 24, 128, 1032]),
    limit=reach,
    exponent=st.integers(-32, -16),
)
@QUICK
def test_linear(
    operators: Operators, carrier: Carrier, seed: int, rows: int, inputs: int, limit: int, exponent: int
) -> None:
    source = np.random.default_rng(seed)
    a, w = integers(source, limit, rows, inputs), integers(source, 127, 16, inputs)
    mantissa = source.integers(1 << 14, 1 << 15, 16)
    scale = multiplier(torch.from_numpy(mantissa), torch.full((16,), exponent))
    linear = Linear(Matrix(torch.from_numpy(w).to(torch.int8), carrier), scale, operators)
    sums = a @ w.T
    values = torch.from_numpy(a).to(torch.int8)
    before = torch.from_numpy(integers(source, 32767, rows, 16)).float()
    after = before.clone()
    linear.add(after, values)
    rounded, narrow, rectified = (
        found(values) for found in (linear.rounded, linear.activations, linear.rectified)
    )
    assert narrow.dtype == rectified.dtype == torch.int8
    for i, j in {(0, 0), (rows - 1, 15), (rows // 2, 7)}:
        part = int(sums[i, j]), int(mantissa[j]), exponent
        exact = plain.scaled_round(*part)
        assert rounded[i, j] == plain.clamp(exact, -32767, 32767)
        assert after[i, j] == plain.clamp(int(before[i, j]) + exact, -32767, 32767)
        assert narrow[i, j] == plain.clamp(exact, -127, 127)
        assert rectified[i, j] == plain.clamp(plain.scaled_floor(*part), 0, 127)


@BOTH
@given(seed=seeds, width=st.sampled_from([8, 64, 512]), limit=st.sampled_from([0, 1, 5, 300, 32767]))
@QUICK
def test_normalise(operators: Operators, seed: int, width: int, limit: int) -> None:
    x = integers(np.random.default_rng(seed), limit, 2, width)
    x[1] = limit
    y = operators.normalise(torch.from_numpy(x).float())
    assert y.dtype == torch.int8
    assert y.tolist() == [plain.normalise(row) for row in x.tolist()]


@BOTH
@given(seed=seeds, rows=st.integers(1, 6), columns=st.integers(1, 6), limit=reach)
@QUICK
def test_convolve(operators: Operators, seed: int, rows: int, columns: int, limit: int) -> None:
    source = np.random.default_rng(seed)
    a, w = integers(source, limit, rows, columns, 8), integers(source, 127, 9, 8)
    mantissa = source.integers(1 << 14, 1 << 15, 8)
    scale = multiplier(torch.from_numpy(mantissa), torch.full((8,), -22))
    y = operators.convolve(torch.from_numpy(a)[None].to(torch.int8), torch.from_numpy(w).float(), scale)[0]
    padded = np.pad(a, ((1, 1), (1, 1), (0, 0)))
    for i in range(rows):
        for j in range(columns):
            sums = (padded[i : i + 3, j : j + 3] * w.reshape(3, 3, 8)).sum((0, 1))
            expected = [
                plain.clamp(plain.scaled_round(int(s), int(m), -22), -127, 127)
                for s, m in zip(sums, mantissa, strict=True)
            ]
            assert y[i, j].tolist() == expected


@BOTH
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@given(seed=seeds, limit=reach, bias_limit=st.sampled_from([0, 100, 32767]), hidden=st.booleans())
@QUICK
def test_attention(
    operators: Operators, kind: torch.dtype, seed: int, limit: int, bias_limit: int, hidden: bool
) -> None:
    source = np.random.default_rng(seed)
    size, dim, heads = 64, 64, 2
    qkv = integers(source, limit, 1, size, 3 * dim * heads)
    bias = (
        integers(source, bias_limit, heads, size, size) - (source.random((size, size)) < 0.5) * hidden * 32768
    )
    exp2 = [round(1023 * 2 ** (-i / 32)) for i in range(255)] + [0]
    table = torch.tensor(exp2).float()
    y = operators.attend(torch.from_numpy(qkv).to(torch.int8), torch.from_numpy(bias).to(kind), table, dim)
    q, k, v = qkv[0].reshape(size, 3, heads, dim).transpose(1, 2, 0, 3)
    for head, row in ((0, 0), (1, 63)):
        scores = [int(s) for s in k[head] @ q[head, row] + 128 * bias[head, row]]
        weights = [exp2[min(255, (max(scores) - score) >> 7)] for score in scores]
        factor = (1 << 26) // sum(weights)
        expected = [plain.scaled_round(int(total), factor, -26) for total in np.array(weights) @ v[head]]
        assert y[0, row, head * dim : (head + 1) * dim].tolist() == expected
        assert max(map(abs, expected)) <= 127


@given(seed=seeds, rows=st.integers(1, 40))
@QUICK
def test_a_head_is_the_same_compiled(seed: int, rows: int) -> None:
    source = np.random.default_rng(seed)
    state = torch.from_numpy(integers(source, 3000, rows, 32)).float() / 16
    embedding = torch.from_numpy(integers(source, 300, 16, 32)).float() / 16
    value = torch.from_numpy(source.integers(0, 16, rows))
    sums = torch.from_numpy(integers(source, 1 << 20, rows, 16)).to(torch.int32)
    scale = multiplier(torch.from_numpy(source.integers(1 << 14, 1 << 15, 16)), torch.full((16,), -24))
    bias = torch.from_numpy(integers(source, 700, 16)).float() + 767
    table = torch.from_numpy(source.integers(1, 65536, 1535)).to(torch.int32)
    states = state.clone(), state.clone()
    found = []
    for operators, own in zip((Operators(), CompiledOperators()), states, strict=True):
        hidden = operators.absorb(own, embedding, value)
        counts = operators.counts(sums.clone(), scale, bias, table)
        found.append((own, hidden, counts, operators.along(counts, value, 3, 4)))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype
        assert one.equal(other)
    _, hidden, counts, along = found[0]
    i = int(source.integers(rows))
    row = states[0][i].tolist()
    assert row == (state[i] + embedding[value[i]]).tolist()
    assert hidden[i].tolist() == [int(plain.clamp(x, 0, 127)) for x in row]
    logit = plain.scaled_round(int(sums[i, 3]), int(scale[3] * 2**24), -24) + int(bias[3])
    assert counts[i, 3] == table[plain.clamp(logit, 0, 1534)]
    first = int(value[i])
    assert along[:, i].tolist() == counts[i, [0, 1 + (first >> 3), 3 + (first >> 2)]].tolist()


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
