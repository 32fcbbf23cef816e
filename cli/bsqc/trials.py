"""Progress of an evaluation on stderr: one line, rewritten, on a terminal; a line now and then elsewhere."""

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bsqcodec.evaluation.runner import Progress

SECONDS_BETWEEN_LINES = 10.0


class TrialsProgress:
    """Told of every trial that ends."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        ended = progress.done == progress.total
        now = time.monotonic()
        if self._quiet or not (self._terminal or ended or now - self._last >= SECONDS_BETWEEN_LINES):
            return
        self._last = now
        text = f"{progress.done} of {progress.total} trials, {progress.cached} from the cache"
        if progress.failed:
            text += f", {progress.failed} failed"
        if progress.seconds_left is not None and not ended:
            text += f", {_clock(progress.seconds_left)} left"
        if self._terminal:
            click.echo(f"\r\033[K{text}", err=True, nl=ended)
        else:
            click.echo(text, err=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
