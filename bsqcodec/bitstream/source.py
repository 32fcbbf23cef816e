"""Bytes of a file object from front to back: counted, read in slices, given back where a guess was wrong."""

from collections import deque
from typing import BinaryIO

_SLICE = 1 << 18


class Source:
    """Reads a file object, without seeking unless asked to. `offset` counts from where it stood at first.

    Memory grows with what was received, never with what a length field claims.
    """

    def __init__(self, fileobj: BinaryIO) -> None:
        self._file = fileobj
        self._seekable = fileobj.seekable()
        self._base = fileobj.tell() if self._seekable else 0
        self._back: deque[memoryview] = deque()
        self.offset = 0

    def read_into(self, buffer: bytearray, size: int) -> int:
        """Append up to `size` bytes to the buffer; fewer only at the end of the file. Returns how many."""
        count = 0
        while count < size:
            if self._back:
                held = self._back.popleft()
                piece: bytes | memoryview = held[: size - count]
                if len(piece) < len(held):
                    self._back.appendleft(held[len(piece) :])
            else:
                piece = self._file.read(min(size - count, _SLICE))
            if not piece:
                break
            buffer += piece
            count += len(piece)
        self.offset += count
        return count

    def unread(self, data: memoryview) -> None:
        """Give back the last bytes that were read; the next read returns them again."""
        self.offset -= len(data)
        if data:
            self._back.appendleft(data)

    def size(self) -> int | None:
        """Bytes up to the end of the file, None where it cannot seek. A `seek` must follow."""
        return self._file.seek(0, 2) - self._base if self._seekable else None

    def seek(self, offset: int) -> None:
        """Go on reading at an offset; only where `size` gave a number."""
        self._file.seek(self._base + offset)
        self._back.clear()
        self.offset = offset
