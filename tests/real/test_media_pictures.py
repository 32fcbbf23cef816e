"""Photographs of ../shared/data: exact through lossless files, whole clips of video-test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bsqcodec.media import Frame, open_reader, open_writer


@pytest.mark.parametrize("number", [1, pytest.param(4, id="upright")])
def test_kodak_is_read_and_written_exactly(data_dir: Path, tmp_path: Path, number: int) -> None:
    path = data_dir / "kodak" / f"kodim{number:02}.png"
    with open_reader(path) as reader:
        (frame,) = reader.frames()
        assert reader.info.is_still
    with Image.open(path) as image:
        assert np.array_equal(frame.pixels, np.asarray(image.convert("RGB")))
    with open_writer(tmp_path / "out.png", reader.info, metadata=reader.metadata) as writer:
        writer.write(frame)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(frame.pixels, np.asarray(image))


def test_photographs_in_avif(data_dir: Path) -> None:
    paths = sorted((data_dir / "pictures").glob("*.avif"))[:3]
    assert paths
    for path in paths:
        with open_reader(path) as reader:
            (frame,) = reader.frames()
        assert frame.pixels.shape == (reader.info.height, reader.info.width, 3)
        assert frame.pixels.std() > 5


def test_the_clips_of_video_test(data_dir: Path) -> None:
    paths = sorted((data_dir / "video-test").glob("*.mp4"))
    assert len(paths) == 5
    for path in paths:
        with open_reader(path) as reader:
            assert (reader.info.width, reader.info.height, reader.info.frame_rate) == (640, 360, 25)
            frames = [frame.pts * reader.info.time_base * 25 for frame in reader.frames()]
            assert isinstance(next(reader.events()), Frame)
        assert frames == list(range(reader.info.frame_count or 0))
