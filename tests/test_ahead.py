"""Stages side by side: order, errors where they belong, an early end, threads given back."""

import threading
from collections.abc import Generator, Iterator

import pytest
import torch

from bsqcodec.ahead import Behind, ahead


@pytest.fixture(autouse=True, params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


class Source:
    """Counts to `end`, then fails if it is to; knows where it ran and how far it got."""

    def __init__(self, end: int, error: Exception | None = None) -> None:
        self.end, self.error = end, error
        self.made = 0
        self.closed = False
        self.thread: threading.Thread | None = None

    def items(self) -> Generator[int, None, None]:
        self.thread = threading.current_thread()
        try:
            for number in range(self.end):
                self.made += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def test_all_items_in_order(threads: int) -> None:
    source = Source(50)
    with ahead(source.items()) as items:
        assert list(items) == list(range(50))
    assert source.closed
    assert (source.thread is threading.current_thread()) == (threads == 1)


def test_an_error_comes_in_its_place() -> None:
    source = Source(5, ValueError("the sixth is broken"))
    with ahead(source.items()) as items:
        assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="the sixth is broken"):
            next(items)
    assert source.closed


def test_an_early_end_stops_the_source() -> None:
    source = Source(10**9)
    with ahead(source.items()) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
    if source.thread is not threading.current_thread():
        assert source.thread is not None
        assert not source.thread.is_alive()
        assert source.closed
    assert source.made <= 3 + 2 + 2  # what waits, and one in hand at either end


def test_it_does_not_run_away() -> None:
    source = Source(100)
    with ahead(source.items()) as items:
        for item in items:
            assert source.made <= item + 1 + 2 + 1


def doubled(items: Iterator[int]) -> Generator[int, None, None]:
    for item in items:
        if item == 13:
            raise ValueError("thirteen")
        yield 2 * item


def test_stages_follow_each_other(threads: int) -> None:
    source, where = Source(12), set()

    def told(items: Iterator[int]) -> Generator[int, None, None]:
        where.add(threading.current_thread())
        yield from items

    with ahead(source.items(), doubled, told) as items:
        assert list(items) == list(range(0, 24, 2))
    assert (where == {threading.current_thread()}) == (threads == 1)
    assert where != {source.thread} or threads == 1


def test_an_error_of_a_stage_comes_in_its_place() -> None:
    source = Source(10**9)
    with ahead(source.items(), doubled) as items:
        assert [next(items) for _ in range(13)] == list(range(0, 26, 2))
        with pytest.raises(ValueError, match="thirteen"):
            next(items)
    assert source.made <= 14 + 2 + 1


def test_an_early_end_stops_all_stages(threads: int) -> None:
    source = Source(10**9)
    with ahead(source.items(), doubled) as items:
        assert next(items) == 0
    assert source.made <= 1 + 2 * (2 + 1) + 1
    if threads > 1:
        assert source.closed


def test_calls_are_made_in_turn(threads: int) -> None:
    behind, made, where = Behind(), [], set()

    def call(number: int) -> None:
        where.add(threading.current_thread())
        made.append(number)

    for number in range(50):
        behind(lambda number=number: call(number))  # type: ignore[misc]
    behind.wait()
    assert made == list(range(50))
    assert (where == {threading.current_thread()}) == (threads == 1)


def test_what_a_call_returns_is_there_when_asked_for() -> None:
    behind = Behind()
    results = [behind(lambda number=number: number**2) for number in range(8)]  # type: ignore[misc]
    assert [result.result() for result in results] == [number**2 for number in range(8)]


def test_what_a_call_raises_is_not_lost() -> None:
    def fail() -> None:
        raise ValueError("the first is broken")

    def hand_over() -> None:
        behind = Behind()
        behind(fail)
        behind.wait()

    with pytest.raises(ValueError, match="the first is broken"):
        hand_over()


def test_calls_that_wait_are_few(threads: int) -> None:
    """Who hands over more than that is made to wait: memory does not grow."""
    if threads == 1:
        return
    behind, gate, made = Behind(calls=2), threading.Event(), []
    for number in range(2):
        behind(lambda number=number: (gate.wait(5), made.append(number))[1])  # type: ignore[misc]
    threading.Timer(0.05, gate.set).start()
    behind(lambda: made.append(2))
    assert made[:1] == [0]
    behind.wait()
    assert made == [0, 1, 2]


def test_a_call_has_half_of_the_threads(threads: int) -> None:
    """The one that hands over keeps all of them: they sleep where there is nothing to do for them."""
    behind = Behind()
    assert behind(torch.get_num_threads).result() == max(1, threads // 2)
    assert torch.get_num_threads() == threads
