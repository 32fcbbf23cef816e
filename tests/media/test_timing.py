"""Times are strictly increasing and, where they were sound, untouched."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsqcodec.errors import InputError
from bsqcodec.media.timing import FrameClock, Selection

TICK = Fraction(1, 25)


def run(
    stated: list[int | None], durations: list[int] | None = None, usual: int = 1
) -> list[tuple[int, int, int]]:
    """(item, pts, duration) for items 0, 1, 2 ... with the stated times."""
    clock: FrameClock[int] = FrameClock(TICK, usual)
    out = []
    for number, pts in enumerate(stated):
        out += list(clock.push(number, pts, durations[number] if durations else 0))
    out += list(clock.flush())
    return [(timed.item, timed.pts, timed.duration) for timed in out]


def times(stated: list[int | None], usual: int = 1) -> list[int]:
    return [pts for _, pts, _ in run(stated, usual=usual)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 20), max_size=40), st.integers(-50, 50))
def test_increasing_times_stay_as_they_are(gaps: list[int], first: int) -> None:
    stated = [first]
    for gap in gaps:
        stated.append(stated[-1] + gap)
    clock: FrameClock[int] = FrameClock(TICK, 1)
    out = [timed for number, pts in enumerate(stated) for timed in clock.push(number, pts, 0)] + list(
        clock.flush()
    )
    assert [timed.pts for timed in out] == stated
    assert [timed.item for timed in out] == list(range(len(stated)))
    assert [timed.duration for timed in out[:-1]] == gaps
    assert clock.repairs == 0


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 30)), min_size=1, max_size=40))
def test_any_times_come_out_increasing_and_in_the_order_of_display(stated: list[int | None]) -> None:
    out = run(stated)
    assert [item for item, _, _ in out] == list(range(len(stated)))
    assert all(before[1] < after[1] for before, after in itertools.pairwise(out))
    assert all(before[1] + before[2] == after[1] for before, after in itertools.pairwise(out))


def test_swapped_times_are_sorted_back() -> None:
    # As AVI with packed B-frames states them.
    assert times([1, 2, 4, 3, 5, 7, 6, 8]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_equal_times_go_half_way_to_the_next() -> None:
    assert times([0, 10, 10, 20, 30]) == [0, 10, 15, 20, 30]


def test_missing_times_continue_at_the_usual_pace() -> None:
    assert times([0, 40, None, None, 160], usual=40) == [0, 40, 80, 120, 160]


def test_a_clock_that_starts_again_is_carried_on() -> None:
    first = [0, 40, 80, 120, 160]
    assert times(first + first, usual=40) == list(range(0, 400, 40))


def test_the_last_frame_keeps_its_own_duration_where_durations_can_be_believed() -> None:
    assert run([0, 10, 20], [10, 10, 4])[-1] == (2, 20, 4)
    assert run([0, 10, 20], [0, 0, 0])[-1] == (2, 20, 10)
    # Fields: the stream states half of what a frame lasts.
    assert run([0, 10, 20], [5, 5, 5])[-1] == (2, 20, 10)
    assert run([7], [3]) == [(0, 7, 3)]


@pytest.mark.parametrize(
    ("start", "duration", "count", "found"),
    [(Fraction(-1), None, None, "-1"), (None, Fraction(0), None, "0"), (None, None, 0, "0")],
)
def test_impossible_selections_name_the_number(
    start: Fraction | None, duration: Fraction | None, count: int | None, found: str
) -> None:
    with pytest.raises(InputError, match=f"is {found}"):
        Selection.of(start, duration, count)
