"""Files that appear whole: written beside their target, renamed at the end, removed after an error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bsqcodec.errors import InputError


def check_target(path: Path, *, force: bool) -> None:
    """Raise InputError where path cannot become a file: one is there (unless force), or no folder for it is.

    A device or a pipe is no file to lose, so it needs no force.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, a file was expected")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    if path.is_file() and not force:
        raise InputError(f"{path}: exists already, --force overwrites it")


@contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A seekable file for writing that becomes `path` when the block ends well, and vanishes otherwise.

    Raises InputError, before anything is written, where check_target does. Devices and pipes are written
    directly.
    """
    check_target(path, force=force)
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            yield device
        return
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with beside.open("xb") as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
