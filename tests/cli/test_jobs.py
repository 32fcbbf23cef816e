"""Which inputs become which outputs."""

from pathlib import Path

import click
import pytest
from bsqc.jobs import Job, plan

from bsqcodec.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a few files that have the names of media and of a stream."""
    for name in ("a.mp4", "b.png", "pictures/1.png", "pictures/2.JPG", "pictures/notes.txt", "old.bsq"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in ("pictures/deeper/3.webp", "v1.5/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "out_dir", "jobs"),
    [
        (["a.mp4", "out.bsq"], None, [Job("a.mp4", "out.bsq")]),
        (["a.mp4", "no-ending"], None, [Job("a.mp4", "no-ending")]),
        (["a.mp4"], None, [Job("a.mp4", "a.bsq")]),
        (["pictures/"], None, [Job("pictures/", "pictures.bsq")]),
        (["v1.5"], None, [Job("v1.5", "v1.5.bsq")]),
        (["-"], None, [Job("-", "-")]),
        (["-", "out.bsq"], None, [Job("-", "out.bsq")]),
        (["a.mp4", "b.png"], "new", [Job("a.mp4", "new/a.bsq"), Job("b.png", "new/b.bsq")]),
        (
            ["pictures", "b.png"],
            "new/er",
            [
                Job("pictures/1.png", "new/er/1.bsq"),
                Job("pictures/2.JPG", "new/er/2.bsq"),
                Job("pictures/deeper/3.webp", "new/er/deeper/3.bsq"),
                Job("b.png", "new/er/b.bsq"),
            ],
        ),
    ],
)
def test_plan(arguments: list[str], out_dir: str | None, jobs: list[Job]) -> None:
    assert plan(arguments, out_dir, force=False) == jobs


@pytest.mark.parametrize(
    ("arguments", "out_dir", "message"),
    [
        (["a.mp4", "b.png", "old.bsq"], None, "several inputs need --out-dir"),
        (["a.mp4", "b.png"], None, "b.png is named like a picture or a video"),
        (["a.mp4", "-"], "new", None),
        (["."], None, "name OUT, too"),
    ],
)
def test_wrong_usage(arguments: list[str], out_dir: str | None, message: str | None) -> None:
    with pytest.raises(click.UsageError, match=message):
        plan(arguments, out_dir, force=True)


@pytest.mark.parametrize(
    ("arguments", "out_dir", "message"),
    [
        (["missing.mp4", "x.bsq"], None, "^missing.mp4: no such file"),
        (["a.mp4", "old.bsq"], None, "^old.bsq: exists already, --force overwrites it"),
        (["a.mp4", "nowhere/x.bsq"], None, "the folder nowhere does not exist"),
        (["a.mp4", "pictures"], None, "^pictures: is a folder"),
        (["old.bsq"], None, "^old.bsq: is a .bsq stream"),
        (["a.mp4"], "b.png", "^b.png: is not a folder"),
        (["a.mp4", "pictures/../a.mp4"], "new", "both become new/a.bsq"),
        (["pictures/deeper", "pictures/deeper/3.webp"], "new", "both become new/3.bsq"),
    ],
)
def test_what_cannot_be_done(arguments: list[str], out_dir: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(arguments, out_dir, force=False)


def test_force_takes_what_is_there() -> None:
    assert plan(["a.mp4", "old.bsq"], None, force=True) == [Job("a.mp4", "old.bsq")]


def test_a_folder_without_media(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"^empty: holds no picture and no video"):
        plan(["empty"], "new", force=False)
    assert not (folder / "new").exists()
