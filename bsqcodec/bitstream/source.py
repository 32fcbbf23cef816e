"""Bytes of a file object from front to back: counted, read in slices, given back where a guess was wrong."""

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
        self._back = memoryview(b"")
        self._back_position = 0
        self.offset = 0

    def read_into(self, buffer: bytearray, size: int) -> int:
        """Append up to `size` bytes to the buffer; fewer only at the end of the file. Returns how many."""
        taken = self._back[self._back_position : self._back_position + size]
        buffer += taken
        self._back_position += len(taken)
        count = len(taken)
        while count < size:
            piece = self._file.read(min(size - count, _SLICE))
            if not piece:
                break
            self._back, self._back_position = memoryview(b""), 0
            buffer += piece
            count += len(piece)
        self.offset += count
        return count

    def unread(self, data: memoryview) -> None:
        """Give back the last bytes that were read; the next read returns them again."""
        self.offset -= len(data)
        if len(data) <= self._back_position:
            self._back_position -= len(data)
        else:
            self._back, self._back_position = data, 0

    def size(self) -> int | None:
        """Bytes up to the end of the file, None where the file object cannot seek. Ask, then `seek`."""
        return self._file.seek(0, 2) - self._base if self._seekable else None

    def seek(self, offset: int) -> None:
        """Go on reading at an offset; only where `size` gave a number."""
        self._file.seek(self._base + offset)
        self._back, self._back_position = memoryview(b""), 0
        self.offset = offset
