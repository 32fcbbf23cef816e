"""Finding pictures and clips, and reading them in one colour path."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bsqcodec.errors import InputError
from bsqcodec.evaluation.colour import ColourPath
from bsqcodec.evaluation.sources import Item, Kind, RawFormat, Source, digest, find_items, raw_format
from bsqcodec.media import open_reader
from bsqcodec.media.colour import BT709, SMPTE170M

from .conftest import scene, write_clip


def test_a_folder_gives_pictures_clips_and_folders_of_frames(tmp_path: Path) -> None:
    Image.fromarray(scene(8, 8)).save(tmp_path / "b.png")
    write_clip(tmp_path / "a.mp4", 32, 32, 2)
    frames = tmp_path / "walk"
    frames.mkdir()
    for number in range(3):
        Image.fromarray(scene(16, 16, number)).save(frames / f"{number:03d}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    found = find_items([tmp_path])
    assert [(item.name, item.kind) for item in found] == [
        ("a", Kind.CLIP),
        ("b", Kind.STILL),
        ("walk", Kind.CLIP),
    ]
    assert sum(1 for _ in Source(found[2]).rgb_frames()) == 3
    (alone,) = find_items([frames], folders_are_clips=True)
    assert alone.kind is Kind.CLIP


def test_equal_names_stay_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.fromarray(scene(8, 8)).save(tmp_path / folder / "same.png")
    found = find_items([tmp_path / "x", tmp_path / "y"])
    assert [item.name for item in found] == ["x/same.png", "y/same.png"]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: folder / "nothing", "no such file or folder, and not the name of a data set"),
        (lambda folder: folder, "no picture or clip in this folder"),
        (lambda folder: _written(folder / "a.doc", b"x"), r"neither picture nor clip by its ending '.doc'"),
        (lambda folder: _written(folder / "a.yuv", b"x"), "name must state its size and rate"),
        (lambda folder: _written(folder / "a_16x8_30fps_10bit.yuv", b"x"), "not 8-bit 4:2:0"),
    ],
)
def test_bad_input_gets_a_clear_line(tmp_path: Path, make: object, complaint: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=complaint):
        find_items([make(tmp_path)])


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data"), [("a.png", b"not a picture"), ("a.mp4", b"not a clip"), ("a.png", b"")]
)
def test_broken_files_get_a_clear_line(tmp_path: Path, name: str, data: bytes) -> None:
    path = _written(tmp_path / name, data)
    (item,) = find_items([path])
    with pytest.raises(InputError, match=f"{name}: not a (picture|clip) that can be read"):
        Source(item)


@pytest.mark.parametrize(
    ("name", "size", "rate"),
    [
        ("Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), Fraction(120)),
        ("videoSRC01_1920x1080_30.yuv", (1920, 1080), Fraction(30)),
        ("x_64x48_29.97.yuv", (64, 48), Fraction("29.97")),
    ],
)
def test_raw_names_state_size_and_rate(name: str, size: tuple[int, int], rate: Fraction) -> None:
    assert raw_format(Path(name)) == RawFormat(*size, rate)


def test_raw_planes_are_read_as_they_lie(tmp_path: Path) -> None:
    luma, blue, red = np.full(16 * 8, 81), np.full(8 * 4, 90), np.full(8 * 4, 240)
    frame = np.concatenate([luma, blue, red]).astype(np.uint8).tobytes()
    path = _written(tmp_path / "red_16x8_30.yuv", frame * 3)
    (item,) = find_items([path])
    source = Source(item)
    assert (source.info.width, source.info.height, source.info.frame_rate) == (16, 8, Fraction(30))
    frames = list(source.rgb_frames())
    assert len(frames) == 3
    assert np.abs(frames[0].astype(int) - (255, 0, 0)).max() <= 2, "BT.601 by its size: pure red"
    path.write_bytes(frame + b"x")
    with pytest.raises(InputError, match="193 bytes are no whole number of frames"):
        Source(item)


def test_reads_what_the_codec_itself_reads(clip: Path) -> None:
    """One colour path: the reference of all measures is what bsqc is given by its own reader."""
    (item,) = find_items([clip])
    with open_reader(clip) as reader:
        theirs = [frame.pixels for frame in reader.frames()]
    ours = list(Source(item).rgb_frames())
    assert len(ours) == len(theirs) == 6
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_tags_decide_the_matrix_and_size_where_there_are_none(tmp_path: Path, clip: Path) -> None:
    assert Source(find_items([clip])[0]).info.colour == ColourPath(BT709)
    untagged = tmp_path / "untagged.mp4"
    write_clip(untagged, 96, 64, 1, tagged=False)
    assert Source(find_items([untagged])[0]).info.colour == ColourPath(SMPTE170M)


@pytest.mark.parametrize("path", [ColourPath(BT709), ColourPath(BT709, True), ColourPath(SMPTE170M)])
def test_colour_goes_there_and_back(path: ColourPath) -> None:
    flat = np.full((16, 16, 3), (180, 90, 40), np.uint8)
    back = path.to_rgb(path.to_yuv420(flat))
    assert np.abs(back.astype(int) - flat).max() <= 2
    luma = path.to_yuv420(flat).to_ndarray()[0, 0]
    weights = (0.2126, 0.7152, 0.0722) if path.matrix == BT709 else (0.299, 0.587, 0.114)
    exact = sum(w * c for w, c in zip(weights, (180, 90, 40), strict=True))
    assert luma == pytest.approx(exact if path.full_range else 16 + exact * 219 / 255, abs=1)


def test_an_odd_side_is_made_even_for_the_video_codecs() -> None:
    frame = ColourPath().to_yuv420(scene(15, 17))
    assert (frame.width, frame.height) == (18, 16)


def test_frames_and_size_select(clip: Path) -> None:
    item = Item("moving", clip, Kind.CLIP, max_frames=2, size=(48, 32))
    frames = list(Source(item).rgb_frames())
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 2
    assert all(isinstance(frame, av.VideoFrame) and frame.width == 48 for frame in Source(item).yuv_frames())


def test_digest_follows_the_bytes(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.png", b"one")
    item = Item("a", path, Kind.STILL)
    before = digest(item)
    path.write_bytes(b"other")
    assert digest(item) != before
