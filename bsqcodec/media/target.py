"""Outputs that appear whole: written under a temporary name beside the target, renamed at the end."""

import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from bsqcodec.errors import InputError
from bsqcodec.media.source import name_of
from bsqcodec.whole_file import check_target

# What a folder of ours may hold; a folder with anything else in it is never replaced.
OWN_FOLDER_CONTENT = re.compile(r"frame_\d+\.png")


class Target:
    """Where an output goes: a path, or a file object that the caller owns and that is written straight to.

    path: what to write while it is in the making; None for a file object. Raises InputError where the target
    exists and may not be replaced, or where nothing can be written there.
    """

    def __init__(self, target: Path | BinaryIO, *, force: bool, is_folder: bool = False) -> None:
        self.name = name_of(target)
        self.path: Path | None = None
        self._final: Path | None = None
        self._stream: BinaryIO | None = None
        self._force = force
        self._is_folder = is_folder
        self._opened: BinaryIO | None = None
        if not isinstance(target, Path):
            self._stream = target
            return
        # A link stays a link: what it points to is replaced.
        self._final = target.resolve()
        self._check_free()
        if self._final.exists() and not self._final.is_file() and not is_folder:
            # A device or a named pipe is written to, not replaced.
            self._final, self._opened = None, target.open("wb")
            return
        # Names have at most 255 bytes; the part of the temporary one must fit as well.
        self.path = self._final.with_name(f".{self._final.name[:50]}.{secrets.token_hex(4)}.part")
        try:
            if is_folder:
                self.path.mkdir()
            else:
                self.path.touch(exist_ok=False)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be written ({error.strerror or error})") from None

    def open(self) -> BinaryIO:
        """The file to write to, opened on the first call. Never closed by the caller."""
        if self._stream is not None:
            return self._stream
        if self._opened is None:
            assert self.path is not None
            self._opened = self.path.open("wb")
        return self._opened

    def commit(self) -> None:
        """Put the finished output in its place."""
        self._close()
        if self._stream is not None:
            self._stream.flush()
        if self._final is None or self.path is None:
            return
        self._check_free()
        try:
            if self._is_folder and self._final.exists():
                replaced = self.path.with_suffix(".old")
                self._final.rename(replaced)
                self.path.rename(self._final)
                shutil.rmtree(replaced)
            else:
                self.path.replace(self._final)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be put in its place ({error.strerror or error})") from None
        self.path = None

    def discard(self) -> None:
        """Remove what has been written. Does nothing after commit()."""
        with suppress(OSError):
            self._close()
        if self.path is None:
            return
        if self._is_folder:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)
        self.path = None

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _check_free(self) -> None:
        path = Path(self.name)
        if not self._is_folder:
            check_target(path, force=self._force)
            return
        if not path.parent.is_dir():
            raise InputError(f"{path}: the folder {path.parent} does not exist")
        if not path.exists():
            return
        if not path.is_dir():
            raise InputError(f"{path}: is a file, the name of a folder was expected")
        content = [entry.name for entry in path.iterdir()]
        if content and not self._force:
            raise InputError(
                f"{path}: exists already and holds {len(content)} files, --force overwrites them"
            )
        foreign = [name for name in content if not OWN_FOLDER_CONTENT.fullmatch(name)]
        if foreign:
            raise InputError(
                f"{path}: holds {len(foreign)} files that are no numbered frames ({foreign[0]});"
                " choose another folder"
            )


class StreamSink:
    """A file object for PyAV to write to; keeps what PyAV would swallow: Ctrl-C during a write."""

    def __init__(self, file: BinaryIO) -> None:
        self.interrupt: BaseException | None = None
        self._file = file
        self.seekable = file.seekable
        self.seek = file.seek
        self.tell = file.tell

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except Exception:
            raise
        except BaseException as interrupt:
            self.interrupt = interrupt
            raise OSError("interrupted") from interrupt
