"""Streams that are cut off or damaged: an error by default, the rest of the pictures with --keep-going."""

import json
from pathlib import Path

import pytest
from calling import Run

from bsqcodec.bitstream.summary import describe


@pytest.fixture
def damaged(clip_stream: Path, tmp_path: Path) -> Path:
    """The clip with one byte of its second GOP inverted."""
    data = bytearray(clip_stream.read_bytes())
    with clip_stream.open("rb") as file:
        second = describe(file).gops[1]
    data[second.offset + second.size // 2] ^= 0xFF
    path = tmp_path / "damaged.bsq"
    path.write_bytes(data)
    return path


@pytest.fixture
def cut_off(clip_stream: Path, tmp_path: Path) -> Path:
    """The clip without its last quarter."""
    data = clip_stream.read_bytes()
    path = tmp_path / "cut-off.bsq"
    path.write_bytes(data[: 3 * len(data) // 4])
    return path


def test_damage_is_an_error_with_its_place(run: Run, damaged: Path, model: Path, tmp_path: Path) -> None:
    line = run("decode", damaged, tmp_path / "out.mkv", "--model", model, code=1).stderr
    assert line.startswith(f"bsqc: error: {damaged}: damaged GOPS chunk")
    assert "at byte" in line
    assert "--keep-going" in line
    assert list(tmp_path.iterdir()) == [damaged]


def test_keep_going_survives_damage(run: Run, damaged: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("decode", damaged, f"{out}/", "--model", model, "--keep-going", "--json", code=3)
    assert len(list(out.iterdir())) == 4
    assert f"bsqc: warning: {damaged}: damaged GOPS chunk" in done.stderr
    assert [fault["offset"] > 0 for fault in json.loads(done.stdout)["damage"]] == [True]


def test_a_cut_off_file_decodes_up_to_the_cut(run: Run, cut_off: Path, model: Path, tmp_path: Path) -> None:
    assert "cut off" in run("decode", cut_off, f"{tmp_path / 'a'}/", "--model", model, code=1).stderr
    run("decode", cut_off, f"{tmp_path / 'b'}/", "--model", model, "--keep-going", code=3)
    assert not (tmp_path / "a").exists()
    assert 2 <= len(list((tmp_path / "b").iterdir())) < 6


def test_nothing_left_to_decode_is_an_error(run: Run, clip_stream: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "head.bsq"
    path.write_bytes(clip_stream.read_bytes()[:90])
    line = run("decode", path, tmp_path / "x.mkv", "--model", model, "--keep-going", code=1).stderr
    assert "no frame could be decoded" in line
    assert list(tmp_path.iterdir()) == [path]


def test_info_lists_damage(run: Run, damaged: Path, clip_stream: Path) -> None:
    done = run("info", damaged, "--json", code=3)
    values = json.loads(done.stdout)
    assert (values["frames"], values["complete"]) == (4, True)
    assert "damaged GOPS chunk" in values["damage"][0]["message"]
    assert "  damage    damaged GOPS chunk" in run("info", damaged, code=3).stdout
    assert json.loads(run("info", clip_stream, "--json").stdout)["damage"] == []
