"""What a verb tells its user: progress, warnings and a closing line on stderr, a result where it belongs."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

SECONDS_BETWEEN_LINES = 5.0


class Update(Protocol):
    """Told the frames done so far, and their number in all where it is known."""

    def __call__(self, done: int, total: int | None) -> None: ...


def complain(message: str) -> None:
    """An error, as one line on stderr."""
    click.echo("bsqc: error: " + printable(message), err=True)


def printable(text: str) -> str:
    """One line without control characters: names and tags come from files that may wish a terminal ill."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


class Console:
    """stdout_taken: the stream itself goes to stdout, so a JSON result goes to stderr."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False, stdout_taken: bool = False) -> None:
        self.quiet = quiet
        self._as_json = as_json
        self._stdout_taken = stdout_taken

    def say(self, text: str) -> None:
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        self.say(f"bsqc: warning: {printable(text)}")

    def result(self, values: dict[str, Any]) -> None:
        """The JSON object, where one was asked for."""
        if self._as_json:
            click.echo(json.dumps(values, allow_nan=False), err=self._stdout_taken)

    @contextmanager
    def progress(self, title: str) -> Iterator[Update]:
        """A bar on a terminal, a line every few seconds elsewhere, nothing with --quiet."""
        if self.quiet:
            yield lambda done, total: None
        elif sys.stderr.isatty():
            with _bar(title) as update:
                yield update
        else:
            yield _Lines(title)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title = title
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES or not done:
            return
        self._last = now
        rate = done / (now - self._start)
        count = f"{done} frames" if total is None else f"{done} of {total} frames"
        left = "" if total is None else f", {max(0, total - done) / rate:.0f} s left"
        click.echo(f"{self._title}: {count}, {rate:.2f} frames/s{left}", err=True)


@contextmanager
def _bar(title: str) -> Iterator[Update]:
    from rich.console import Console as Terminal
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as progress:
        start = time.monotonic()
        task = progress.add_task(escape(title), total=None, rate="")

        def update(done: int, total: int | None) -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, total=total, rate=f"{rate:.2f} frames/s")

        yield update


def frames_text(frames: int, width: int, height: int) -> str:
    """ "1 frame 768x512"."""
    return f"{frames} frame{'' if frames == 1 else 's'} {width}x{height}"
