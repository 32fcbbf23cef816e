"""Data sets onto this machine: fetched, checked, listed; what is there is not fetched again."""

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
from platformdirs import user_cache_path

from bsqcodec.errors import InputError
from bsqcodec.evaluation.archives import ZipMember, extract_7z, fetch_zip_member, zip_members
from bsqcodec.evaluation.datasets import DataSet, Member, Packing, fault_of, members_of
from bsqcodec.evaluation.download import PAUSE_SECONDS, Downloader
from bsqcodec.whole_file import whole_file

FOLDER_VARIABLE = "BSQC_DATA"
LOCK_FILE = "digests.lock"
HUB_LISTING = "api/datasets/uscmcl/MCL-JCV_Dataset/tree/main"
HUB_FILES = "datasets/uscmcl/MCL-JCV_Dataset/resolve/main/"

Update = Callable[[str, int, int | None], None]
"""Told the member's name, its bytes so far, and those in all where known."""


@dataclass(frozen=True)
class State:
    """What there is of a member: fault is None where it is right; frames: of a clip, as many as there are."""

    member: Member
    path: Path
    fault: str | None
    frames: int


def data_folder() -> Path:
    """Where data sets lie: BSQC_DATA, or the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("bsqcodec") / "data"


def states(data_set: DataSet, folder: Path) -> list[State]:
    """Every member's state in `folder`, its digest compared with the published one or the one first seen."""
    locked = _locked(folder)
    return [_state(member, folder / member.file, locked) for member in data_set.members]


def _state(member: Member, path: Path, locked: dict[str, str]) -> State:
    fault = fault_of(member, path)
    frames = 0
    if fault is None and member.raw is not None:
        frames = path.stat().st_size // member.raw.frame_bytes
        known = locked.get(_lock_name(member, frames))
        if known is not None and _sha256(path) != known:
            fault = f"its SHA-256 is not the one first seen ({LOCK_FILE})"
    return State(member, path, fault, frames)


class Fetcher:
    """Fetches members of one data set into a folder. host: in place of the set's; pause: between attempts."""

    def __init__(
        self,
        data_set: DataSet,
        folder: Path,
        *,
        host: str | None = None,
        pause: float = PAUSE_SECONDS,
        update: Update = lambda name, done, total: None,
    ) -> None:
        self._set = data_set if host is None else replace(data_set, host=host.rstrip("/") + "/")
        self._folder = folder
        self._pause = pause
        self._update = update
        self._listing: dict[str, ZipMember] | None = None

    def fetch(self, only: tuple[str, ...] = (), frames: int | None = None) -> list[Path]:
        """Fetch what is not there yet; the members' paths.

        frames: keep only so many of each clip. InputError where a server cannot be reached or a file is not
        what it should be; what was fetched before stays.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for member in members_of(self._set, only):
            path = self._folder / member.file
            wanted = member.frames if frames is None else min(frames, member.frames)
            state = _state(member, path, _locked(self._folder))
            if state.fault is not None or (member.raw is not None and state.frames < wanted):
                self._fetch_one(member, path, wanted)
            paths.append(path)
        return paths

    def _fetch_one(self, member: Member, path: Path, frames: int) -> None:
        if member.raw is None:
            self._fetch_plain(member, path)
            return
        limit = frames * member.raw.frame_bytes
        whole = path.with_name(path.name + ".new")
        try:
            if self._set.packing is Packing.SEVEN_ZIP:
                self._fetch_7z(member, whole, limit)
            else:
                self._fetch_zipped(member, whole, limit)
            if whole.stat().st_size != limit:
                raise InputError(f"{member.file}: {whole.stat().st_size} bytes came, {limit} were expected")
            self._lock(_lock_name(member, frames), _sha256(whole))
            whole.replace(path)
        finally:
            whole.unlink(missing_ok=True)

    def _fetch_plain(self, member: Member, path: Path) -> None:
        downloader = self._downloader(member)

        def resuming(url: str, target: str, pup: object) -> None:
            arrived = path.with_name(path.name + ".new")
            downloader.to_file(url, arrived)
            arrived.replace(target)

        pooch.get_logger().setLevel("WARNING")
        try:
            pooch.retrieve(
                self._set.host + member.remote,
                known_hash=f"sha256:{member.sha256}",
                fname=path.name,
                path=path.parent,
                downloader=resuming,
            )
        except ValueError as error:
            raise InputError(
                f"{self._set.host}{member.remote}: not the published file, its SHA-256 differs"
            ) from error

    def _fetch_7z(self, member: Member, target: Path, limit: int) -> None:
        archive = self._folder / member.remote
        if not archive.exists():
            self._downloader(member).to_file(self._set.host + member.remote, archive)
        try:
            self._lock(member.remote, _sha256(archive))
            size = extract_7z(archive, ".yuv", target, limit)
            if size != member.size:
                raise InputError(f"{archive}: its clip has {size} bytes, {member.size} were expected")
        except InputError:
            archive.unlink()  # of no more use; an interrupted one is
            raise
        archive.unlink()

    def _fetch_zipped(self, member: Member, target: Path, limit: int) -> None:
        downloader = self._downloader(member)
        if self._listing is None:
            self._listing = self._list_parts(downloader)
        found = [name for name in self._listing if fnmatch.fnmatch(name, f"*{member.remote}")]
        if len(found) != 1:
            raise InputError(f"{self._set.host}: {len(found)} files match {member.remote}, one was expected")
        remote = self._listing[found[0]]
        if remote.size != member.size:
            raise InputError(f"{found[0]}: {remote.size} bytes at the host, {member.size} were expected")
        fetch_zip_member(downloader, remote, target, limit)

    def _list_parts(self, downloader: Downloader) -> dict[str, ZipMember]:
        url = self._set.host + HUB_LISTING
        try:
            parts = [entry["path"] for entry in json.loads(downloader.text(url))]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{url}: not the listing of files that was expected") from error
        found: dict[str, ZipMember] = {}
        for part in sorted(part for part in parts if part.endswith(".zip")):
            found |= zip_members(downloader, self._set.host + HUB_FILES + part)
        return found

    def _downloader(self, member: Member) -> Downloader:
        return Downloader(
            pause=self._pause, update=lambda done, total: self._update(member.name, done, total)
        )

    def _lock(self, name: str, digest: str) -> None:
        """Remember a digest when first seen; InputError where another one was seen before."""
        locked = _locked(self._folder)
        known = locked.setdefault(name, digest)
        if known != digest:
            raise InputError(
                f"{name}: its SHA-256 {digest[:16]} is not {known[:16]}, which was first seen"
                f" (remove its line in {self._folder / LOCK_FILE} to accept it)"
            )
        with whole_file(self._folder / LOCK_FILE, force=True) as stream:
            stream.write((json.dumps(locked, indent=1, sort_keys=True) + "\n").encode())


def _lock_name(member: Member, frames: int) -> str:
    return member.file if frames == member.frames else f"{member.file} (first {frames} frames)"


def _locked(folder: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((folder / LOCK_FILE).read_text())
        return found
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{folder / LOCK_FILE}: not JSON: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
