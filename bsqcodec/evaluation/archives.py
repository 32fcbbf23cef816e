"""One member out of large archives: out of .zip files without fetching the rest, and out of .7z files."""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import py7zr
from py7zr.io import Py7zIO, WriterFactory

from bsqcodec.errors import InputError
from bsqcodec.evaluation.download import Downloader

LOCAL_HEADER = 30
DIRECTORY_READ = 1 << 16
CHUNK = 1 << 20


@dataclass(frozen=True)
class ZipMember:
    """Where a member lies in a .zip at `url`."""

    url: str
    first: int
    compressed: int
    size: int
    crc: int
    stored: bool


class _Remote(io.RawIOBase):
    """A file at a server, as zipfile wants it: seekable, read in pieces."""

    def __init__(self, downloader: Downloader, url: str) -> None:
        self._downloader, self._url = downloader, url
        self._size = downloader.size(url)
        self._at = 0
        self._piece, self._piece_at = b"", 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._size, self._at + count)
        if not self._piece_at <= self._at <= end <= self._piece_at + len(self._piece):
            # the directory is read backwards from the end: a piece that ends there serves most of it
            start = max(0, min(self._at, end - DIRECTORY_READ))
            self._piece = self._downloader.read(self._url, start, end - start) if end > start else b""
            self._piece_at = start
        found = self._piece[self._at - self._piece_at : end - self._piece_at]
        self._at += len(found)
        return found


def zip_members(downloader: Downloader, url: str) -> dict[str, ZipMember]:
    """The members of a .zip at a server by name, from its directory alone; InputError where it has none."""
    try:
        with zipfile.ZipFile(_Remote(downloader, url)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except zipfile.BadZipFile as error:
        raise InputError(f"{url}: not a .zip file: {error}") from error
    return {
        info.filename: ZipMember(
            url,
            info.header_offset,
            info.compress_size,
            info.file_size,
            info.CRC,
            info.compress_type == zipfile.ZIP_STORED,
        )
        for info in infos
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    }


def fetch_zip_member(downloader: Downloader, member: ZipMember, target: Path, limit: int | None) -> None:
    """The member into the new file `target`, its first `limit` bytes only where that is given.

    InputError where the member's CRC is not right (a member of which only the start is fetched has no check).
    """
    header = downloader.read(member.url, member.first, LOCAL_HEADER)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = member.first + LOCAL_HEADER + names
    wanted = member.size if limit is None else min(limit, member.size)
    packed = target.with_name(target.name + ".packed")
    try:
        length = wanted if member.stored else member.compressed
        downloader.to_file(member.url, packed, first=start, length=length)
        crc, written = _unpack(packed, target, member.stored, wanted)
        if written != wanted or (wanted == member.size and crc != member.crc):
            raise InputError(f"{member.url}: the member for {target.name} is damaged: its CRC-32 differs")
    finally:
        packed.unlink(missing_ok=True)


def _unpack(packed: Path, target: Path, stored: bool, wanted: int) -> tuple[int, int]:
    inflate = None if stored else zlib.decompressobj(-zlib.MAX_WBITS)
    crc = written = 0
    with packed.open("rb") as source, target.open("wb") as sink:
        while written < wanted and (chunk := source.read(CHUNK)):
            try:
                data = chunk if inflate is None else inflate.decompress(chunk)
            except zlib.error as error:
                raise InputError(f"{target.name}: the archive's data are damaged: {error}") from error
            data = data[: wanted - written]
            crc = zlib.crc32(data, crc)
            written += sink.write(data)
    return crc, written


def extract_7z(archive: Path, ending: str, target: Path, limit: int | None) -> int:
    """The one member with this ending into the new file `target`; its first `limit` bytes, if given.

    Returns the member's whole size. InputError where there is no such member, or its CRC is not right.
    """
    sink = _Sink(target, limit)
    try:
        with py7zr.SevenZipFile(archive) as opened:
            names = [name for name in opened.getnames() if name.endswith(ending)]
            if len(names) != 1:
                raise InputError(f"{archive}: {len(names)} members end in {ending}, one was expected")
            opened.extract(targets=names, factory=_Factory(sink))
    except (py7zr.exceptions.ArchiveError, zlib.error, EOFError, OSError, ValueError) as error:
        raise InputError(f"{archive}: damaged: {type(error).__name__} {error}".rstrip()) from error
    finally:
        sink.close()
    return sink.total


class _Sink(Py7zIO):
    """A member on its way into a file, cut at `limit`."""

    def __init__(self, target: Path, limit: int | None) -> None:
        self._file = target.open("wb")
        self._limit = limit
        self.total = 0

    def write(self, data: bytes | bytearray) -> int:
        room = len(data) if self._limit is None else max(0, self._limit - self.total)
        self._file.write(data[:room])
        self.total += len(data)
        return len(data)

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        self._file.flush()

    def size(self) -> int:
        return self.total

    def close(self) -> None:
        self._file.close()


class _Factory(WriterFactory):
    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def create(self, filename: str) -> Py7zIO:
        return self._sink
