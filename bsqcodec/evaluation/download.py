"""Downloads that go on where they stopped: when a server breaks off, or after the program was ended."""

import time
from collections.abc import Callable
from pathlib import Path

import requests

from bsqcodec.errors import InputError

CHUNK = 1 << 18
ATTEMPTS = 5
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0
PARTIAL, UNSATISFIABLE, SERVER_FAULTS = 206, 416, 500  # HTTP

Update = Callable[[int, int | None], None]
"""Told the bytes there so far, and how many there are in all where that is known."""


def _silent(done: int, total: int | None) -> None:
    pass


class Downloader:
    """Fetches byte ranges over HTTP. pause: seconds before the first retry; later ones wait longer."""

    def __init__(self, *, pause: float = PAUSE_SECONDS, update: Update = _silent) -> None:
        self._session = requests.Session()
        self._pause = pause
        self._update = update

    def to_file(self, url: str, path: Path, *, first: int = 0, length: int | None = None) -> None:
        """Bytes first .. first + length of `url` (to its end where length is None) into `path`.

        They arrive in a file beside it whose name ends in .part; what is there of it is kept and gone on
        from, now and in a later call. InputError where the server cannot be reached, refuses, or keeps
        breaking off.
        """
        part = path.with_name(path.name + ".part")
        self._persist(url, lambda: self._go_on(url, part, first, length))
        part.replace(path)

    def read(self, url: str, first: int, length: int) -> bytes:
        """These bytes of `url`, whole; InputError as to_file."""
        found = b""

        def get() -> None:
            nonlocal found
            with self._get(url, first, first + length - 1) as answer:
                found = (
                    answer.content
                    if answer.status_code == PARTIAL
                    else answer.content[first : first + length]
                )

        self._persist(url, get)
        if len(found) != length:
            raise InputError(f"{url}: {len(found)} bytes at {first}, {length} were expected")
        return found

    def text(self, url: str) -> str:
        """The whole of a small answer."""
        found = ""

        def get() -> None:
            nonlocal found
            with self._get(url, 0, None) as answer:
                found = answer.text

        self._persist(url, get)
        return found

    def size(self, url: str) -> int:
        """Bytes of what is at `url`, without fetching it."""
        found = 0

        def get() -> None:
            nonlocal found
            answer = self._session.head(url, timeout=PATIENCE_SECONDS, allow_redirects=True)
            answer.raise_for_status()
            found = int(answer.headers["Content-Length"])

        self._persist(url, get)
        return found

    def _go_on(self, url: str, part: Path, first: int, length: int | None) -> None:
        have = part.stat().st_size if part.exists() else 0
        if length is not None and have >= length:
            with part.open("r+b") as file:
                file.truncate(length)
            return
        last = None if length is None else first + length - 1
        try:
            answer = self._get(url, first + have, last)
        except requests.HTTPError as error:
            if _status(error) == UNSATISFIABLE and have:  # it is whole, or of another file: its check tells
                return
            raise
        with answer:
            total = length
            whole = answer.headers.get("Content-Length")
            if answer.status_code != PARTIAL:  # a server without ranges starts from the beginning
                if first:
                    raise InputError(f"{url}: the server gives no parts of files, which this data set needs")
                have = 0
            if total is None and whole is not None:
                total = have + int(whole)
            answer.raw.enforce_content_length = (
                False  # what came before a break is kept; the count is checked below
            )
            with part.open("ab" if have else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    self._update(have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"broke off after {have} of {total} bytes")

    def _get(self, url: str, first: int, last: int | None) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        answer = self._session.get(url, headers=headers, stream=True, timeout=PATIENCE_SECONDS)
        try:
            answer.raise_for_status()
        except requests.HTTPError:
            answer.close()
            raise
        return answer

    def _persist(self, url: str, step: Callable[[], None]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                return step()
            except requests.HTTPError as error:
                if _status(error) < SERVER_FAULTS or attempt == ATTEMPTS - 1:
                    raise InputError(f"{url}: the server answers {_status(error)}") from error
            except requests.RequestException as error:
                if attempt == ATTEMPTS - 1:
                    raise InputError(_unreachable(url, error)) from error
            time.sleep(self._pause * 2**attempt)
        raise AssertionError("unreachable")


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _unreachable(url: str, error: Exception) -> str:
    advice = "offline? what has arrived is kept, run again to go on; or give your own copy with --path"
    return f"{url}: cannot be fetched after {ATTEMPTS} attempts ({type(error).__name__}); {advice}"
