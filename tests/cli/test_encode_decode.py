"""bsqc encode and decode: files, folders, pipes, targets, refusals."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from calling import Run
from PIL import Image

from bsqcodec.bitstream.summary import describe
from bsqcodec.files import open_pixels


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def summary(path: Path):
    with path.open("rb") as file:
        return describe(file)


def test_a_still_there_and_back(run: Run, photo_stream: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "photo.png"
    done = run("decode", photo_stream, out, "--model", model)
    with Image.open(out) as decoded:
        assert decoded.size == (100, 70)
    assert done.stderr.startswith(f"{out}: 1 frame 100x70, {out.stat().st_size:,} bytes, ")
    assert done.stdout == ""
    assert names(tmp_path) == ["photo.png"]


def test_the_closing_line(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "photo.bsq"
    line = run("encode", media / "photo.png", out, "--model", model, "-q", "2.5").stderr
    size = out.stat().st_size
    assert line.startswith(f"{out}: 1 frame 100x70, {size:,} bytes, {8 * size / 7000:.4f} bpp, ")
    assert line.endswith(" frames/s\n")
    assert summary(out).header.quality_hundredths == 250


def test_json_is_one_object_on_stdout(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.bsq"
    arguments = ("encode", media / "clip", out, "--model", model, "--gop", 2, "--json", "--quiet")
    done = run(*arguments)
    values = json.loads(done.stdout)
    assert done.stderr == ""
    assert (values["frames"], values["gops"], values["q"]) == (6, 3, 5)
    assert values["bytes"] == sum(values["bytes_by_chunk"].values()) == out.stat().st_size
    assert values["bpp"] == 8 * values["bytes"] / (6 * 96 * 64)
    back = tmp_path / "clip.mkv"
    values = json.loads(run("decode", out, back, "--model", model, "--json").stdout)
    assert (values["frames"], values["width"], values["height"], values["damage"]) == (6, 96, 64, [])


def test_out_stands_beside_in_when_not_named(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes((media / "photo.png").read_bytes())
    run("encode", tmp_path / "photo.png", "--model", model)
    assert names(tmp_path) == ["photo.bsq", "photo.png"]


def test_several_inputs_and_folders(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "coded"
    done = run("encode", media / "photo.png", media / "clip", "--out-dir", out, "--model", model, "--json")
    assert names(out) == sorted(["photo.bsq", *(f"{number:03}.bsq" for number in range(6))])
    values = json.loads(done.stdout)
    assert len(values["files"]) == 7
    assert values["failed"] == []
    assert summary(out / "003.bsq").header.still


def test_one_bad_file_of_several_does_not_stop_the_others(
    run: Run, media: Path, model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    out = tmp_path / "coded"
    done = run(
        "encode", bad, media / "photo.png", "--out-dir", out, "--model", model, "--quiet", "--json", code=1
    )
    assert names(out) == ["photo.bsq"]
    assert done.stderr.startswith(f"bsqc: error: {bad}: ")
    assert done.stderr.count("\n") == 1
    assert [row["input"] for row in json.loads(done.stdout)["failed"]] == [str(bad)]


def test_parts_and_levels(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.bsq"
    common = ("encode", media / "clip", out, "--model", model, "--force")
    run(*common, "--frames", 4)
    assert summary(out).frame_count == 4
    run(*common, "--start", "0.08", "--duration", "0.12", "--levels", 2)
    assert (summary(out).frame_count, summary(out).header.levels) == (3, 2)


def test_stdin_and_stdout(run: Run, media: Path, model: Path, photo_stream: Path) -> None:
    photo = (media / "photo.png").read_bytes()
    done = run("encode", "-", "-", "--model", model, "--json", stdin=photo)
    assert done.stdout_bytes == photo_stream.read_bytes()
    assert json.loads(done.stderr.splitlines()[-1])["bytes"] == len(done.stdout_bytes)
    back = run("decode", "-", "-", "--model", model, stdin=done.stdout_bytes).stdout_bytes
    with Image.open(io.BytesIO(back)) as decoded:
        assert (decoded.format, decoded.size) == ("PNG", (100, 70))


def test_a_clip_to_stdout_is_y4m(run: Run, clip_stream: Path, model: Path) -> None:
    done = run("decode", clip_stream, "-", "--model", model)
    head, _, rest = done.stdout_bytes.partition(b"\n")
    assert head.startswith(b"YUV4MPEG2 W96 H64 F25:1 ")
    assert len(rest) == 6 * (len(b"FRAME\n") + 3 * 96 * 64)


def test_a_clip_to_a_folder(run: Run, clip_stream: Path, model: Path, tmp_path: Path) -> None:
    run("decode", clip_stream, f"{tmp_path / 'frames'}/", "--model", model)
    with open_pixels(tmp_path / "frames") as frames, open_pixels(clip_stream, model=model) as direct:
        pairs = list(zip(frames, direct, strict=True))
    assert len(pairs) == 6
    assert all(np.array_equal(left, right) for left, right in pairs)


def test_decoding_a_part(run: Run, clip_stream: Path, model: Path, tmp_path: Path) -> None:
    part = ("--start", "0.04", "--duration", "0.12")
    run("decode", clip_stream, f"{tmp_path / 'part'}/", "--model", model, *part)
    assert len(names(tmp_path / "part")) == 3


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [("--target-size", "9", "9 bytes"), ("--target-bpp", ".01", "0.0100 bits per pixel")],
)
def test_a_target_without_a_fit_is_said_with_the_file(
    run: Run, media: Path, model: Path, tmp_path: Path, option: str, value: str, shown: str
) -> None:
    arguments = ("encode", media / "photo.png", tmp_path / "x.bsq", "--model", model, option)
    line = run(*arguments, value, code=1).stderr.splitlines()[-1]  # slow encodes tell of themselves before
    begin = f"bsqc: error: {media / 'photo.png'}: {shown} cannot be reached: at q 1 the file has "
    assert line.startswith(begin)
    assert names(tmp_path) == []


def test_a_target_finds_the_highest_quality(run: Run, media: Path, model: Path, tmp_path: Path) -> None:
    """Untrained weights make files of about one size at every q: 10 it is, from standard input as well."""
    out = tmp_path / "photo.bsq"
    photo = (media / "photo.png").read_bytes()
    for source, stdin in ((media / "photo.png", None), ("-", photo)):
        arguments = ("encode", source, out, "--model", model, "--target-size", "1M", "--json", "--force")
        values = json.loads(run(*arguments, stdin=stdin).stdout)
        assert values["q"] == 10
        assert values["encodes"] > 1
        assert out.stat().st_size == values["bytes"]
        assert summary(out).header.quality_hundredths == 1000


@pytest.mark.parametrize(
    "options",
    [
        ("-q", "5", "--target-size", "1M"),
        ("--target-bpp", "1", "--target-size", "1M"),
        ("--frames", "3", "--duration", "1"),
        ("--effort", "10"),
        ("--gop", "0"),
    ],
)
def test_options_that_cannot_be(run: Run, media: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    run("encode", media / "clip", tmp_path / "x.bsq", *options, code=2)
    assert names(tmp_path) == []


def test_nothing_is_overwritten_without_force(
    run: Run, media: Path, model: Path, photo_stream: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.png"
    kept.write_bytes(b"precious")
    for arguments in (
        ("decode", photo_stream, kept),
        ("cut", photo_stream, kept, "--levels", 1),
    ):
        assert "exists already" in run(*arguments, code=1).stderr
    stream = kept.rename(tmp_path / "kept.bsq")
    assert "exists already" in run("encode", media / "photo.png", stream, code=1).stderr
    assert stream.read_bytes() == b"precious"
    run("encode", media / "photo.png", stream, "--model", model, "--force")
    assert stream.read_bytes() == photo_stream.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"no picture at all", ""), (b"\x89PNG\r\n\x1a\n" + bytes(40), "")],
)
def test_bad_inputs(run: Run, model: Path, tmp_path: Path, content: bytes, message: str) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    line = run("encode", bad, tmp_path / "x.bsq", "--model", model, code=1).stderr
    assert line.startswith("bsqc: error: ")
    assert line.count("\n") == 1
    assert str(bad) in line
    assert message in line
    assert names(tmp_path) == ["bad.png"]


def test_what_cannot_be_decoded(
    run: Run, photo_stream: Path, model: Path, media: Path, tmp_path: Path
) -> None:
    def error(*arguments: object) -> str:
        line = run("decode", *arguments, code=1).stderr
        assert line.count("\n") == 1
        return line

    missing, photo = tmp_path / "missing.bsq", media / "photo.png"
    assert f"{missing}: no such file" in error(missing, tmp_path / "x.png")
    assert f"{photo}: not a .bsq stream" in error(photo, tmp_path / "x.png")
    assert "needs the model tiny" in error(photo_stream, tmp_path / "x.png")
    assert "'.xyz' is no known output" in error(photo_stream, tmp_path / "x.xyz", "--model", model)
    assert "is the input itself" in error(photo_stream, photo_stream)
    assert names(tmp_path) == []


def test_other_weights_are_refused_by_name(run: Run, photo_stream: Path, tmp_path: Path) -> None:
    import tiny_model

    other = tiny_model.make(tmp_path / "other.safetensors", seed=1)
    line = run("decode", photo_stream, tmp_path / "x.png", "--model", other, code=1).stderr
    assert "needs the model tiny (digest " in line
    assert not (tmp_path / "x.png").exists()
