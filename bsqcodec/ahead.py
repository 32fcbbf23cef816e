"""A stage that works ahead in a thread of its own, while another uses what it has made."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Event, Thread
from typing import TypeVar

import torch

T = TypeVar("T")


class _Failure:
    """What went wrong in the thread, in place of an item; None: its end."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def ahead(source: Generator[T, None, None], items: int = 2) -> Iterator[Iterator[T]]:
    """The items of a source that works in a thread of its own, up to so many of them ahead.

    The CPU threads that torch may use are shared between the two; with one alone nothing runs beside. An
    error of the source is raised where its item would have come. The source is closed in the end, early or
    not.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        yield source
        return
    made: Queue[T | _Failure] = Queue(items)
    stopped = Event()

    def work() -> None:
        torch.set_num_threads(threads // 2)
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
    torch.set_num_threads(threads - threads // 2)
    worker.start()
    try:
        yield _used(made)
    finally:
        stopped.set()
        while worker.is_alive():
            if not made.empty():
                made.get()
            worker.join(0.005)
        torch.set_num_threads(threads)


def _used(made: Queue[T | _Failure]) -> Iterator[T]:
    while True:
        item = made.get()
        if isinstance(item, _Failure):
            if item.error is not None:
                raise item.error
            return
        yield item
