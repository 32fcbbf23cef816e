"""Opening what a command line names: a file, or "-" for stdin and stdout."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from bsqcodec.errors import FormatError, InputError
from bsqcodec.whole_file import whole_file

PIPE = "-"


@contextmanager
def open_input(name: str) -> Iterator[BinaryIO]:
    """A stream for reading. InputError where it is missing or no file; a FormatError inside gets its name."""
    path = Path(name)
    if name != PIPE and not path.exists():
        raise InputError(f"{name}: no such file")
    if name != PIPE and path.is_dir():
        raise InputError(f"{name}: is a folder, a file was expected")
    try:
        if name == PIPE:
            yield sys.stdin.buffer
        else:
            with path.open("rb") as file:
                yield file
    except FormatError as error:
        raise FormatError(f"{'stdin' if name == PIPE else name}: {error}") from error


@contextmanager
def open_source(name: str, *, seekable: bool) -> Iterator[Path | BinaryIO]:
    """What to encode: a path, or stdin, through a temporary file where it is to be read more than once."""
    if name != PIPE:
        yield Path(name)
        return
    stdin = sys.stdin.buffer
    if stdin.seekable() or not seekable:
        yield stdin
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stdin, copy)
        yield copy


@contextmanager
def open_output(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """A file that appears whole at the end, or stdout, which is not for terminals."""
    if name == PIPE:
        check_pipe()
        stdout = sys.stdout.buffer
        yield stdout
        stdout.flush()
    else:
        with whole_file(Path(name), force=force) as file:
            yield file


def check_pipe() -> None:
    """Raise click.UsageError where stdout is a terminal: bytes would only garble it."""
    if sys.stdout.buffer.isatty():
        raise click.UsageError("stdout is a terminal: send it to a file or a program, or name a file")
