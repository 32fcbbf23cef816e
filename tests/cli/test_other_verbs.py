"""bsqc info, cut, compare and demo."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from bsqc.demo import side_by_side
from calling import Run
from PIL import Image

from bsqcodec.bitstream.summary import describe


def test_info_for_people(run: Run, clip_stream: Path) -> None:
    text = run("info", clip_stream).stdout
    size = clip_stream.stat().st_size
    assert text.startswith(f"{clip_stream}\n")
    assert "  frames    6 frames 96x64, 0.240 s, 25.00 frames/s\n" in text
    assert f"  size      {size:,} bytes, {8 * size / (6 * 96 * 64):.4f} bpp\n" in text
    assert "  model     tiny " in text
    assert ", q 5\n" in text
    assert "  levels    4 of 4: " in text


def test_info_for_programs(run: Run, clip_stream: Path) -> None:
    values = json.loads(run("info", clip_stream, "--json").stdout)
    assert (values["width"], values["height"], values["frames"]) == (96, 64, 6)
    assert values["bytes"] == sum(values["bytes_by_chunk"].values()) == clip_stream.stat().st_size
    assert [gop["frames"] for gop in values["gops"]] == [2, 2, 2]
    assert [gop["start"] for gop in values["gops"]] == pytest.approx([0, 0.08, 0.16])
    piped = json.loads(run("info", "-", "--json", stdin=clip_stream.read_bytes()).stdout)
    assert piped["gops"] == values["gops"]


def test_info_counts_repeats(run: Run, clip_stream: Path, model: Path, media: Path, tmp_path: Path) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    for number in range(7):
        (stills / f"{number}.png").write_bytes((media / "photo.png").read_bytes())
    run("encode", stills, tmp_path / "still.bsq", "--model", model, "--gop", 33, "--tube-frames", 2)
    assert "  tubes     3 of 2 frames, 3 repeats\n" in run("info", tmp_path / "still.bsq").stdout
    (gop,) = json.loads(run("info", tmp_path / "still.bsq", "--json").stdout)["gops"]
    assert (gop["tubes"], gop["tube_frames"], gop["repeats"]) == (3, 2, 3)
    assert "repeats" not in run("info", clip_stream).stdout


def test_info_tells_what_tokens_cost(run: Run, clip_stream: Path, model: Path, media: Path) -> None:
    """What an ideal coder needs is what the runs hold, but for the few bytes that each ends with."""
    values = json.loads(run("info", clip_stream, "--costs", "--model", model, "--json").stdout)
    costs = values["costs"]
    assert {kind: each["blocks"] for kind, each in costs.items()} == {"key": 3, "tube": 3}
    for level, size in enumerate(values["bytes_by_level"]):
        ideal = sum(each["bytes_by_level"][level] for each in costs.values())
        assert ideal - 1 < size < ideal + 6 * 8
    lines = run("info", "-", "--costs", "--model", model, stdin=clip_stream.read_bytes()).stdout.splitlines()
    (keys,) = (line for line in lines if line.startswith("  keys "))
    assert keys.startswith(f"  keys      3 coded, {sum(costs['key']['bytes_by_level']):,.0f} bytes: ")
    assert sum(line.startswith("  tubes     3 coded, ") for line in lines) == 1
    assert "costs" not in run("info", clip_stream).stdout
    assert "the stream needs the model tiny" in run("info", clip_stream, "--costs", code=1).stderr
    assert "--costs alone" in run("info", clip_stream, "--model", model, code=2).stderr


def test_info_refuses(run: Run, tmp_path: Path, media: Path) -> None:
    assert "no such file" in run("info", tmp_path / "missing", code=1).stderr
    assert "is a folder" in run("info", tmp_path, code=1).stderr
    assert "not a .bsq stream" in run("info", media / "photo.png", code=1).stderr


def test_cut(run: Run, clip_stream: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut.bsq"
    values = json.loads(run("cut", clip_stream, out, "--levels", 2, "--start", "0.09", "--json").stdout)
    with out.open("rb") as file:
        found = describe(file)
    assert found.damage == ()
    assert (values["frames"], values["gops"], values["bytes"]) == (4, 2, out.stat().st_size)
    assert {gop.levels_kept for gop in found.gops} == {2}
    assert out.stat().st_size < clip_stream.stat().st_size / 2
    piped = run("cut", "-", "-", "--levels", 2, "--start", "0.09", stdin=clip_stream.read_bytes())
    assert piped.stdout_bytes == out.read_bytes()


def test_a_cut_stream_decodes(run: Run, clip_stream: Path, model: Path, tmp_path: Path) -> None:
    run("cut", clip_stream, tmp_path / "cut.bsq", "--levels", 1)
    run("decode", tmp_path / "cut.bsq", f"{tmp_path / 'cut'}/", "--model", model)
    run("decode", clip_stream, f"{tmp_path / 'whole'}/", "--model", model, "--levels", 1)
    assert "PSNR     inf" in run("compare", tmp_path / "cut", tmp_path / "whole").stdout


def test_cut_refuses(run: Run, clip_stream: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.bsq"
    assert "nothing to cut" in run("cut", clip_stream, out, code=2).stderr
    run("cut", clip_stream, out, "--levels", 0, code=2)
    assert "the stream has 1 to 4" in run("cut", clip_stream, out, "--levels", 5, code=1).stderr
    assert "from 9 s on" in run("cut", clip_stream, out, "--start", 9, code=1).stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    """Two greys, 100 and 104, 30 x 20."""
    for level in (100, 104):
        Image.new("RGB", (30, 20), (level,) * 3).save(tmp_path / f"{level}.png")
    return tmp_path / "100.png", tmp_path / "104.png"


def test_compare_stills(run: Run, pictures: tuple[Path, Path]) -> None:
    values = json.loads(run("compare", *pictures, "--json").stdout)
    assert values["psnr"] == pytest.approx(20 * math.log10(255 / 4))
    assert values["psnr_of_mean_mse"] == values["psnr"]
    assert 0.99 < values["ssim"] < 1
    assert values["ms_ssim"] is values["ms_ssim_db"] is None
    text = run("compare", *pictures).stdout
    assert f"PSNR     {20 * math.log10(255 / 4):.3f} dB\n" in text
    assert "MS-SSIM  -\n" in text


def test_equal_pictures_have_no_finite_psnr(run: Run, pictures: tuple[Path, Path]) -> None:
    values = json.loads(run("compare", pictures[0], pictures[0], "--json").stdout)
    assert (values["psnr"], values["ssim"]) == (None, 1)


def test_compare_clips_frame_by_frame(run: Run, media: Path) -> None:
    values = json.loads(run("compare", media / "clip", media / "clip", "--json", "--per-frame").stdout)
    assert values["frames"] == len(values["per_frame"]) == 6
    rows = run("compare", media / "clip", media / "clip", "--per-frame").stdout.splitlines()
    assert [row.split()[0] for row in rows[:7]] == ["frame", "0", "1", "2", "3", "4", "5"]


def test_compare_names_both_sides_of_a_mismatch(run: Run, media: Path, pictures: tuple[Path, Path]) -> None:
    photo, clip = media / "photo.png", media / "clip"
    line = run("compare", photo, pictures[0], code=1).stderr
    assert line == f"bsqc: error: {photo} and {pictures[0]}: pictures differ in size: 100x70 and 30x20\n"
    first = clip / "000.png"
    assert "frame counts differ: 6 and 1" in run("compare", clip, first, code=1).stderr
    assert "frame counts differ: 1 and 6" in run("compare", first, clip, code=1).stderr
    assert "missing" in run("compare", photo, "missing.png", code=1).stderr


def test_side_by_side_keeps_every_pixel() -> None:
    pictures = [np.full((40, 60, 3), level, np.uint8) for level in (10, 120, 240)]
    sheet = side_by_side(pictures, ["one", "two", "three"])
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=2).sum() >= 40 * 60


@pytest.mark.slow
def test_demo(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.bsq").write_bytes(b"left by an earlier run")
    text = run("demo", tmp_path, "--model", model).stdout
    assert "picture, 512x512" in text
    assert "clip, 320x192, 33 frames" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == [
        "bsqc", "jpeg", "bsqc", "x264",
    ]  # fmt: skip
    with Image.open(tmp_path / "side-by-side.png") as sheet:
        assert sheet.width > 3 * 512
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        "picture.png", "picture.bsq", "picture.decoded.png", "picture-jpeg.jpg", "side-by-side.png",
        "clip", "clip.bsq", "clip.decoded.mp4", "clip-x264.mp4",
    }  # fmt: skip
