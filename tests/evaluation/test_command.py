"""`bsqc rd-curve` and `bsqc data` as a user calls them."""

import csv
from pathlib import Path

import pytest
from bsqc.main import cli
from click.testing import CliRunner, Result
from PIL import Image

from .conftest import scene, write_clip


def bsqc(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_folder_of_pictures_from_end_to_end(thumbnails: Path, tmp_path: Path) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = ("rd-curve", thumbnails, "--codec", "jpeg", "--codec", "webp", "--out", out, "--cache", cache)
    first = bsqc(*command, "--pictures", 1)
    assert first.exit_code == 0, first.output
    assert "| jpeg | webp | PSNR-RGB |" in first.stdout
    assert "66 of 66 trials, 0 from the cache" in first.stderr
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"summary.md", "points.csv", "points.json", "report.html", "compressai/jpeg.json"} <= names
    assert {"rd_psnr_rgb.svg", "rd_psnr_rgb.png", "rd_ssim.svg", "rd_psnr_rgb_each.png"} <= names
    assert not any(name.endswith(".part") for name in names)
    assert len(list(csv.DictReader((out / "points.csv").read_text().splitlines()))) == 88
    second = bsqc(*command, "--no-plots", "--pictures", 0)
    assert "66 of 66 results from the cache" in second.stderr
    assert second.stdout == first.stdout


def test_too_small_for_ms_ssim_is_said(thumbnails: Path) -> None:
    done = bsqc("rd-curve", thumbnails, "--codec", "jpeg", "--no-cache")
    assert "MS-SSIM is not given: 3 of 3 have a side under 161 pixels" in done.stdout
    assert "nan" not in done.stdout.lower()


def test_a_broken_file_among_good_ones_is_left_out_and_said(thumbnails: Path, tmp_path: Path) -> None:
    for picture in thumbnails.iterdir():
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    done = bsqc("rd-curve", tmp_path, "--codec", "jpeg", "--no-cache")
    assert done.exit_code == 0
    assert "Means over 3 pictures" in done.stdout
    assert "- broken: in no mean, since it failed" in done.stdout
    assert "broken.png: not a picture that can be read" in done.stderr


def test_clips_with_paper_settings(tmp_path: Path) -> None:
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4", 64, 48, 3)
    done = bsqc("rd-curve", tmp_path, "--codec", "x264", "--settings", "paper", "--frames", 2, "--no-cache")
    assert done.exit_code == 0, done.output
    assert "settings paper: -preset medium -threads 1 -bf 0 -tune zerolatency" in done.stdout
    assert "Frames: 4 in all." in done.stdout
    assert "BT.709 matrix, limited range" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing-here"], "nothing-here: no such file or folder, and not the name of a data set"),
        (["kodak", "--path", "{empty}"], "kodim01.png: missing; `bsqc data fetch kodak` gets it"),
        (["kodak", "uvg"], "a data set is evaluated alone"),
        (["{empty}"], "no picture or clip in this folder"),
        (["{both}"], "pictures and clips are evaluated apart: ask for --kind still or --kind clip"),
        (["{pictures}", "--codec", "bpg"], "bpg: no such codec; there are bsqc, anchors, jpeg"),
        (["{pictures}", "--only", "p9"], "p9: not among the 3 found"),
        (["{pictures}", "--kind", "clip"], "no clip in it"),
        (["{pictures}", "--codec", "bsqc", "--model", "nobody"], "model nobody: no such file"),
        (["{pictures}", "--cluster", "nowhere:1", "--codec", "jpeg"], "no Dask scheduler answers there"),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str], complaint: str, thumbnails: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsqcodec.evaluation.runner.CLUSTER_PATIENCE", "1s")
    places = {"empty": tmp_path / "empty", "both": tmp_path / "both", "pictures": thumbnails}
    places["empty"].mkdir()
    places["both"].mkdir()
    Image.fromarray(scene(8, 8)).save(places["both"] / "a.png")
    write_clip(places["both"] / "b.mp4", 32, 32, 1)
    done = bsqc("rd-curve", *[argument.format(**places) for argument in arguments], "--no-cache")
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("bsqc: error: ")
    assert complaint in done.stderr


@pytest.mark.parametrize(
    "option", [["--size", "640"], ["--preset", "slow"], ["-q", "11"], ["--settings", "best"]]
)
def test_wrong_usage_is_told(option: list[str]) -> None:
    assert bsqc("rd-curve", "kodak", *option).exit_code == 2


def test_data_list_and_verify(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSQC_DATA", str(tmp_path))
    listed = bsqc("data", "list")
    assert "kodak: Kodak Lossless True Color Image Suite" in listed.stdout
    assert "CC BY-NC 3.0" in listed.stdout
    assert "0 of them here" in listed.stdout
    good = bsqc("data", "verify", "kodak", "--path", data_dir / "kodak")
    assert (good.exit_code, good.stdout.count(": ok")) == (0, 24)
    (tmp_path / "kodak").mkdir()
    (tmp_path / "kodak" / "kodim01.png").write_bytes(b"x" * 736501)
    bad = bsqc("data", "verify")
    assert bad.exit_code == 1
    assert "kodak kodim01: its SHA-256 is not that of the published file" in bad.stdout
    assert "24 files are missing or not as they should be" in bad.stderr


def test_data_fetch_shows_the_licence_first_and_says_when_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bsqcodec.evaluation.download.time.sleep", lambda seconds: None)
    done = bsqc("data", "fetch", "kodak", "--path", tmp_path, "--host", "http://127.0.0.1:9/")
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith("licence: released by Eastman Kodak") for line in lines[:-1])
    assert "offline?" in lines[-1]
    assert list(tmp_path.iterdir()) == []
