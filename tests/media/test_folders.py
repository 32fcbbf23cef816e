"""Folders of numbered pictures are videos."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.media import open_reader, open_writer
from bsqcodec.media.folders import natural_key
from media.clips import frames, info, picture


def fill(folder: Path, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(picture(number)).save(folder / name)
    return folder


def test_numbers_sort_as_numbers() -> None:
    names = ["frame10.png", "frame9.png", "Frame1.png", "frame09b.png", "a.png", "10.png", "9.png"]
    assert sorted(names, key=natural_key) == [
        *("9.png", "10.png", "a.png", "Frame1.png", "frame9.png", "frame09b.png", "frame10.png")
    ]


def test_a_folder_reads_as_25_frames_a_second(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", [f"{number}.png" for number in range(12)])
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture either")
    with open_reader(folder) as reader:
        found = list(reader.events())
        assert reader.info.frame_rate == 25
        assert reader.info.frame_count == 12
        assert not reader.info.is_still
        assert reader.warnings == ["1 files that are no pictures are left out"]
    assert [frame.pts * reader.info.time_base for frame in found] == [
        Fraction(number, 25) for number in range(12)
    ]
    assert all(np.array_equal(frame.pixels, picture(number)) for number, frame in enumerate(found))


@pytest.mark.parametrize(
    ("start", "duration", "count", "expected"),
    [
        (None, None, 2, [0, 1]),
        (Fraction(1, 25), Fraction(2, 25), None, [1, 2]),
        (Fraction(3, 50), None, None, [2, 3, 4, 5]),
        (Fraction(1, 5), None, 9, [5]),
    ],
)
def test_selections(
    tmp_path: Path, start: Fraction | None, duration: Fraction | None, count: int | None, expected: list[int]
) -> None:
    folder = fill(tmp_path / "in", [f"{number}.png" for number in range(6)])
    with open_reader(folder, start=start, duration=duration, max_frames=count) as reader:
        found = list(reader.frames())
        assert reader.info.frame_count == len(expected)
    assert [frame.pts for frame in found] == list(range(len(expected)))
    assert all(np.array_equal(frame.pixels, picture(n)) for n, frame in zip(expected, found, strict=True))
    with pytest.raises(InputError, match=r"no frame at or after 9 s; .* is at 0\.2 s"):
        open_reader(folder, start=Fraction(9))


def test_another_size_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", ["1.png", "2.png"])
    Image.new("RGB", (10, 20)).save(folder / "3.png")
    with (
        pytest.raises(InputError, match=r"3\.png: is 10x20, the first picture of the folder is 64x48"),
        open_reader(folder) as reader,
    ):
        list(reader.frames())


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", ["1.png"])
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    with pytest.raises(InputError, match=r"2\.png"), open_reader(folder) as reader:
        list(reader.frames())


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures in this folder of 0 files"):
        open_reader(tmp_path)


def test_pngs_come_back_exactly(tmp_path: Path) -> None:
    content = frames(range(12))
    with open_writer(f"{tmp_path}/out/", info()) as writer:
        for frame in content:
            writer.write(frame)
    assert writer.warnings == []
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir())[::11] == [
        "frame_000000.png",
        "frame_000011.png",
    ]
    with open_reader(tmp_path / "out") as reader:
        found = list(reader.frames())
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, content, strict=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_lost_times_are_said(tmp_path: Path) -> None:
    with open_writer(f"{tmp_path}/out/", info(time_base=Fraction(1, 600))) as writer:
        writer.write(frames([0])[0])
    assert writer.warnings == ["a folder of pictures does not keep the times of its frames"]


def test_only_our_own_frames_are_ever_replaced(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", ["frame_000000.png", "frame_000001.png", "frame_000002.png"])
    with pytest.raises(InputError, match="holds 3 files"):
        open_writer(f"{out}/", info())
    with open_writer(f"{out}/", info(), force=True) as writer:
        writer.write(frames([0])[0])
    assert [entry.name for entry in out.iterdir()] == ["frame_000000.png"]
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"no numbered frames \(thesis\.tex\)"):
        open_writer(f"{out}/", info(), force=True)
    assert (out / "thesis.tex").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with open_writer(tmp_path / "out", info()) as writer:
        writer.write(frames([0])[0])
    assert len(list((tmp_path / "out").iterdir())) == 1
