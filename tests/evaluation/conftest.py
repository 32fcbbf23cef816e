"""Small pictures and clips made on the spot, and results of runs that never happened."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.measures import FrameScore
from bsqcodec.evaluation.sources import Item, digest
from bsqcodec.evaluation.trial import Judges, Result, Trial


def scene(height: int, width: int, shift: int = 0) -> np.ndarray:
    """A smooth picture with edges and some grain, moved to the left by `shift` pixels."""
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    columns = columns + shift
    picture = np.stack(
        [
            128 + 100 * np.sin(columns / 17),
            128 + 90 * np.cos(rows / 11 + columns / 29),
            60 + 120 * ((rows // 24 + columns // 32) % 2),
        ],
        axis=-1,
    )
    grain = np.random.default_rng(shift).normal(0, 3, picture.shape)
    return (picture + grain).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three pictures, one of them upright."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, (height, width) in enumerate(((176, 192), (176, 192), (192, 176))):
        Image.fromarray(scene(height, width, 40 * number)).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(scope="session")
def thumbnails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three pictures of 32x24, for what is not about pictures."""
    folder = tmp_path_factory.mktemp("thumbnails")
    for number in range(3):
        Image.fromarray(scene(24, 32, 40 * number)).save(folder / f"p{number}.png")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of 96x64 at 25 frames/s, tagged BT.709."""
    path = tmp_path_factory.mktemp("clip") / "moving.mp4"
    write_clip(path, 96, 64, 6)
    return path


def write_clip(path: Path, width: int, height: int, frames: int, *, tagged: bool = True) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "5", "threads": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = 1
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(height, width, 3 * index), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="itu709")))
        container.mux(stream.encode(None))


def trial(item: Item, codec: Codec, value: float, judges: Judges | None = None) -> Trial:
    return Trial(item, digest(item), codec, codec.version(), value, judges or Judges())


MakeResult = Callable[..., Result]


@pytest.fixture
def make_result() -> MakeResult:
    """A result of a 100 x 100 still with the figures given."""

    def make(
        item: str, codec: str, value: float, *, size: int, mse: float, ms_ssim: float | None = 0.9
    ) -> Result:
        score = FrameScore(mse=mse, psnr_yuv=30.0, ssim=0.8, ms_ssim=ms_ssim, ciede2000=2.0)
        return Result(item, codec, value, 100, 100, size, size - 10, 0.5, 0.25, "a machine", (score,))

    return make
