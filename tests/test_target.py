"""The search of a quality: it must hit the target from below, with few encodes, on any growing curve."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsqcodec.errors import InputError
from bsqcodec.target import search_quality


def recorder(curve: Callable[[float], int]) -> tuple[Callable[[float], int], list[float]]:
    tried: list[float] = []

    def size_at(q: float) -> int:
        assert 1 <= q <= 10
        assert q not in tried, "the same quality was encoded twice"
        tried.append(q)
        return curve(q)

    return size_at, tried


@given(
    smallest=st.integers(200, 10**6), octaves=st.floats(0.5, 8), bend=st.floats(0.4, 2.5),
    share=st.floats(0, 1), first=st.floats(1, 10),
)  # fmt: skip
def test_hits_from_below(smallest: int, octaves: float, bend: float, share: float, first: float) -> None:
    def curve(q: float) -> int:
        return round(smallest * 2 ** (octaves * ((q - 1) / 9) ** bend))

    size_at, tried = recorder(curve)
    target = max(smallest, round(smallest * 2 ** (octaves * share)))
    found = search_quality(size_at, target, first=first)
    assert found.size == curve(found.q) <= target
    assert found.encodes == len(tried) <= 11
    next_up = round(found.q * 100 + 1) / 100
    reached = found.size >= 0.98 * target or found.q == 10 or curve(next_up) > target
    assert reached or found.encodes >= 10


def test_few_encodes_on_a_typical_curve() -> None:
    size_at, tried = recorder(lambda q: round(20_000 * 2 ** (0.44 * (q - 1))))
    found = search_quality(size_at, 100_000)
    assert 98_000 <= found.size <= 100_000
    assert len(tried) <= 3


def test_a_target_above_the_best_takes_the_best() -> None:
    size_at, _ = recorder(lambda q: round(1000 * q))
    assert search_quality(size_at, 10**9).q == 10


def test_a_target_below_the_smallest_is_an_error_with_both_sizes() -> None:
    size_at, tried = recorder(lambda q: round(1000 * q))
    with pytest.raises(InputError, match=r"^900 bytes cannot be reached: at q 1 the file has 1000$"):
        search_quality(size_at, 900)
    assert tried[-1] == 1


def test_a_curve_with_steps_ends_below_the_step() -> None:
    size_at, _ = recorder(lambda q: 1000 if q < 6.28 else 5000)
    found = search_quality(size_at, 3000, max_encodes=30)
    assert (found.q, found.size) == (6.27, 1000)


def test_a_curve_that_is_not_monotonic_still_ends_with_a_file_that_fits() -> None:
    size_at, _ = recorder(lambda q: round(10_000 * 2 ** (q / 3) * (1.3 + math.sin(40 * q) / 4)))
    found = search_quality(size_at, 40_000)
    assert found.size <= 40_000
