"""Every unusable input or output ends in one line: file, fault, expectation. ffmpeg stays silent."""

import io
import itertools
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bsqcodec.errors import InputError
from bsqcodec.media import open_reader, open_writer
from media.clips import frames, info, make_clip, write


def fault(path: Path, **options: Fraction) -> str:
    with pytest.raises(InputError) as caught, open_reader(path, **options) as reader:  # type: ignore[arg-type]
        list(reader.events())
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_unusable_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in fault(tmp_path / "missing.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in fault(tmp_path / "empty.mp4")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "expected a video or a picture" in fault(tmp_path / "noise.mp4")
    for name in ("letter.txt", "letter.mp4", "letter.ans"):
        (tmp_path / name).write_text("Dear reader,\n" * 100)
        assert "expected a video or a picture" in fault(tmp_path / name)
    with av.open(str(tmp_path / "song.wav"), "w") as output:
        output.add_stream("pcm_s16le", 8000)
        output.start_encoding()
    assert "holds no video (found: 1 audio)" in fault(tmp_path / "song.wav")
    clip = make_clip(tmp_path / "clip.mp4", encoder="libx264", pixel_format="yuv420p")
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[:1000])
    assert "cannot be read" in fault(tmp_path / "half.mp4")
    assert "no frame at or after 9 s; the last one looked at is at 0.36 s" in fault(clip, start=Fraction(9))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"content")
    (tmp_path / "a.mp4").chmod(0)
    assert "cannot be opened (Permission denied)" in fault(tmp_path / "a.mp4")


def test_an_empty_stream() -> None:
    with pytest.raises(InputError, match=r"input stream: is empty \(0 bytes\)"):
        open_reader(io.BytesIO())


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts"])
def test_a_file_that_is_cut_off_gives_what_it_has(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    is_ts = name == "a.ts"
    clip = make_clip(
        tmp_path / name,
        pts=range(100),
        encoder="mpeg2video" if is_ts else "mjpeg",
        pixel_format="yuv420p" if is_ts else "yuvj444p",
    )
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with open_reader(clip) as reader:
        count = len(list(reader.frames()))
        assert 30 <= count <= 70
        if not is_ts:
            assert any("cut off or damaged" in warning for warning in reader.warnings)
    assert capfd.readouterr() == ("", "")


def test_damage_in_the_midst_costs_only_what_it_hits(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "a.mkv", pts=range(60), encoder="libx264", pixel_format="yuv420p")
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    clip.write_bytes(data)
    with open_reader(clip) as reader:
        found = list(reader.frames())
    assert 20 <= len(found) <= 60
    assert all(before.pts < after.pts for before, after in itertools.pairwise(found))
    assert capfd.readouterr() == ("", "")


def test_names_that_look_like_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "clip.mkv")
    for name in ("http:clip.mkv", "a:b%03d.mkv", "-", "space and ümlaut.mkv"):
        (tmp_path / "clip.mkv").rename(name)
        with open_reader(Path(name)) as reader:
            assert len(list(reader.frames())) == 10
        Path(name).rename("clip.mkv")
    with open_writer(Path("pipe:1.mkv"), info()):
        pass
    assert Path("pipe:1.mkv").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.xyz", r"the ending '\.xyz' is no known output; expected .*\.mp4"),
        ("a", r"the ending '' is no known output"),
        ("missing/a.mp4", r"the folder .*missing does not exist"),
        ("missing/a/", r"the folder .*missing does not exist"),
        ("file/", r"is a file, the name of a folder was expected"),
    ],
)
def test_unusable_targets(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=expected) as caught:
        open_writer(f"{tmp_path}/{name}", info())
    assert re.match(re.escape(str(tmp_path)), str(caught.value))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_output_stream_needs_a_format() -> None:
    with pytest.raises(InputError, match="name its format: mp4"):
        open_writer(io.BytesIO(), info())
    with pytest.raises(InputError, match="cannot go to an output stream"):
        open_writer(io.BytesIO(), info(), format="folder")
    with pytest.raises(InputError, match="the format 'doc' is no known output"):
        open_writer(io.BytesIO(), info(), format="doc")


def test_a_reader_that_goes_away_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    for format in ("y4m", "mkv", "mp4"):
        with (
            pytest.raises(InputError, match=r"writing failed .*Broken pipe"),
        ):
            write(Broken(), frames(range(50)), info(), format=format)  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("format", ["mkv", "mp4", "gif", "y4m"])
def test_ctrl_c_while_a_stream_is_written_is_ctrl_c(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    class Interrupting(io.BytesIO):
        def write(self, data: object) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(Interrupting(), frames(range(50)), info(), format=format)
    assert capfd.readouterr() == ("", "")


class Interrupted(io.BytesIO):
    """A pipe at which the user presses Ctrl-C after some reads."""

    def __init__(self, data: bytes, reads: int) -> None:
        super().__init__(data)
        self._reads = reads

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        self._reads -= 1
        if self._reads < 0:
            raise KeyboardInterrupt
        return super().read(size)


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_ctrl_c_in_a_pipe_is_ctrl_c(tmp_path: Path, reads: int) -> None:
    data = make_clip(tmp_path / "a.mkv", pts=range(200), encoder="ffv1", pixel_format="bgr0").read_bytes()
    with pytest.raises(KeyboardInterrupt), open_reader(Interrupted(data, reads)) as reader:
        list(reader.events())
