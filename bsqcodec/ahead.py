"""Stages side by side: some that work ahead in threads of their own, one that is handed work and left behind.

With one CPU thread for torch alone nothing runs beside. Stages that work ahead share its threads; what is
handed work and left behind has half as many as the rest, which keeps all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import Queue
from threading import Event, Thread
from typing import Any, TypeVar

import torch

T = TypeVar("T")

AHEAD = 2


class _Failure:
    """What went wrong in the thread, in place of an item; None: its end."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def ahead(
    source: Generator[Any, None, None], *stages: Callable[[Iterator[Any]], Generator[Any, None, None]]
) -> Iterator[Iterator[Any]]:
    """The items of a source, as each stage in turn makes them of the items before; source and stages work in
    threads of their own, ahead of what they are asked for by AHEAD items.

    An error of any is raised where its item would have come. All are closed in the end, early or not.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        for stage in stages:
            source = stage(source)
        yield source
        return
    share = max(1, threads // (2 + len(stages)))
    with ExitStack() as workers:
        items = workers.enter_context(_in_a_thread(source, share))
        for stage in stages:
            items = workers.enter_context(_in_a_thread(stage(items), share))
        torch.set_num_threads(max(1, threads - share * (1 + len(stages))))
        try:
            yield items
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _in_a_thread(source: Generator[T, None, None], threads: int) -> Iterator[Iterator[T]]:
    made: Queue[T | _Failure] = Queue(AHEAD)
    stopped = Event()

    def work() -> None:
        torch.set_num_threads(threads)
        try:
            for item in source:
                made.put(item)
                if stopped.is_set():
                    break
        except BaseException as error:  # raised where the items are used
            made.put(_Failure(error))
        else:
            made.put(_Failure(None))
        finally:
            source.close()

    worker = Thread(target=work, daemon=True)
    worker.start()
    try:
        yield _used(made)
    finally:
        stopped.set()
        while worker.is_alive():
            if not made.empty():
                made.get()
            worker.join(0.005)


def _used(made: Queue[T | _Failure]) -> Iterator[T]:
    while True:
        item = made.get()
        if isinstance(item, _Failure):
            if item.error is not None:
                raise item.error
            return
        yield item


class Behind:
    """Calls that are made in turn in a thread of their own, up to so many of them behind; at once where
    `beside` is false or torch may use one thread alone.

    An error of a call is raised by the next one that is handed over, by `wait`, or where its result is asked
    for.
    """

    def __init__(self, beside: bool = True, calls: int = 4) -> None:
        threads = torch.get_num_threads()
        self._calls = calls
        self._waiting: deque[Future[Any]] = deque()
        self._executor: ThreadPoolExecutor | None = None
        if beside and threads > 1:
            half = threads // 2
            self._executor = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(half,))

    def __call__(self, work: Callable[[], T]) -> Future[T]:
        """Hand over a call; what it returns is the future's result."""
        if self._executor is None:
            done: Future[T] = Future()
            done.set_result(work())
            return done
        while len(self._waiting) >= self._calls:
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(work))
        return self._waiting[-1]

    def wait(self) -> None:
        """Until all calls are made."""
        while self._waiting:
            self._waiting.popleft().result()
