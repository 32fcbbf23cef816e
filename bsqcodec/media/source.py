"""Where bytes come from: a path or a file object, with the faults of both turned into one kind of error."""

import io
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from bsqcodec.errors import InputError

# Enough for every signature that is looked at.
HEAD_LENGTH = 64
# Brands of ISO base media files that are pictures.
AVIF_BRANDS = frozenset((b"avif", b"avis"))
HEIF_BRANDS = frozenset((b"heic", b"heim", b"heis", b"heix", b"hevc", b"mif1", b"msf1"))
# The small boxes in front of an MP4's index or content lie within this.
LOOK_AHEAD_LIMIT = 1 << 20


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

    An MP4 whose index lies at its end is stored in a temporary file first, because no pipe can jump to it.
    Exceptions that PyAV's callbacks would swallow (Ctrl-C in the midst of a read) are kept in `interrupt`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.name = name_of(file)
        self.interrupt: BaseException | None = None
        self.is_stored = False
        self._file = file
        self._can_seek = file.seekable()
        self._origin = file.tell() if self._can_seek else 0
        self._ahead = b""
        try:
            self.head = self._look_ahead(HEAD_LENGTH)
            if not self._can_seek and self._index_is_last():
                self._store()
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error})") from None
        if not self.head:
            raise InputError(f"{self.name}: is empty (0 bytes); expected a video or a picture")
        if self._can_seek:
            self.rewind()

    def rewind(self) -> None:
        """Back to the first byte; only where it can seek."""
        self._ahead = b""
        self._file.seek(self._origin)

    def read(self, size: int = -1) -> bytes:
        try:
            if not self._ahead:
                return self._file.read(size)
            if size < 0:
                self._ahead += self._file.read()
                size = len(self._ahead)
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            return taken
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
        self._ahead = b""
        return (
            self._file.seek(offset + self._origin if whence == io.SEEK_SET else offset, whence) - self._origin
        )

    def tell(self) -> int:
        return self._file.tell() - self._origin

    def release(self) -> None:
        """Remove the temporary file, if there is one. The file object itself belongs to the caller."""
        if self.is_stored:
            self._file.close()

    def _look_ahead(self, size: int) -> bytes:
        """The first bytes without taking them."""
        while len(self._ahead) < size:
            more = self._file.read(size - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return self._ahead[:size]

    def _index_is_last(self) -> bool:
        """Whether this is an MP4 in which content (mdat) comes before the index (moov)."""
        if self.head[4:8] != b"ftyp" or self.head[8:12] in AVIF_BRANDS | HEIF_BRANDS:
            return False
        position = 0
        while position < LOOK_AHEAD_LIMIT:
            box = self._look_ahead(position + 16)[position:]
            if len(box) < 8 or box[4:8] in (b"moov", b"mdat"):
                return box[4:8] == b"mdat"
            length = int.from_bytes(box[:4], "big")
            if length < 8:
                return False
            position += length
        return False

    def _store(self) -> None:
        stored = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the source
        self.is_stored = True
        stored.write(self._ahead)
        shutil.copyfileobj(self._file, stored)
        self._file, self._can_seek, self._origin = stored, True, 0
