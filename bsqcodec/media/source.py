"""Where bytes come from: a path or a file object, with the faults of both turned into one kind of error."""

import io
from pathlib import Path
from typing import BinaryIO

from bsqcodec.errors import InputError

# Enough for every signature that is looked at.
HEAD_LENGTH = 64


def name_of(source: Path | BinaryIO) -> str:
    """What a message calls the source."""
    if isinstance(source, Path):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else "input stream"


def check_path(path: Path) -> None:
    """Raise InputError unless the path is a file that has content and may be read."""
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror or error})") from None
    if is_empty:
        raise InputError(f"{path}: is empty (0 bytes); expected a video or a picture")


class StreamSource:
    """A file object for PyAV and Pillow: its first bytes can be looked at even where it cannot seek (a pipe).

    Exceptions that PyAV's callbacks would swallow (KeyboardInterrupt in the midst of a read) are kept in
    `interrupt`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = name_of(file)
        self.interrupt: BaseException | None = None
        self._can_seek = file.seekable()
        self._origin = file.tell() if self._can_seek else 0
        try:
            self._head = file.read(HEAD_LENGTH)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error})") from None
        if not self._head:
            raise InputError(f"{self.name}: is empty (0 bytes); expected a video or a picture")
        self.head = self._head
        if self._can_seek:
            self.rewind()

    def rewind(self) -> None:
        """Back to the first byte; only where it can seek."""
        self._file.seek(self._origin)
        self._head = b""

    def read(self, size: int = -1) -> bytes:
        try:
            if self._head:
                taken, self._head = (
                    (self._head + self._file.read(), b"")
                    if size < 0
                    else (self._head[:size], self._head[size:])
                )
                return taken
            return self._file.read(size)
        except Exception:
            raise
        except BaseException as interrupt:
            self.interrupt = interrupt
            raise OSError("interrupted") from interrupt

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._can_seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            offset += self._origin
        self._head = b""
        return self._file.seek(offset, whence) - self._origin

    def tell(self) -> int:
        return self._file.tell() - self._origin
