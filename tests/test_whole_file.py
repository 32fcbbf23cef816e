"""Outputs are there whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from bsqcodec.errors import InputError
from bsqcodec.whole_file import whole_file


def test_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.bsq"
    with whole_file(target) as file:
        file.write(b"half")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [target]


def _write_half(path: Path, error: type[BaseException]) -> None:
    with whole_file(path, force=True) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_stays_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"before")
    for name in ("new", "old"):
        with pytest.raises(error):
            _write_half(tmp_path / name, error)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"before"


def test_what_is_there_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"before")
    with pytest.raises(InputError, match="a: exists already, --force overwrites it"), whole_file(target):
        pytest.fail("the block must not run")
    with whole_file(target, force=True) as file:
        file.write(b"after")
    assert target.read_bytes() == b"after"


def test_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"), whole_file(tmp_path, force=True):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="missing does not exist"), whole_file(tmp_path / "missing" / "a"):
        pytest.fail("the block must not run")


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"before")
    (tmp_path / "link").symlink_to("real")
    with whole_file(tmp_path / "link", force=True) as file:
        file.write(b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"after"
    with whole_file(Path("/dev/null")) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
