"""The anchors on real data, against what others measured."""

from pathlib import Path

import pytest

from bsqcodec.evaluation.codecs import Codec
from bsqcodec.evaluation.evaluate import Selection, choose
from bsqcodec.evaluation.measures import Measure
from bsqcodec.evaluation.points import Point, compare
from bsqcodec.evaluation.runner import plan, run
from bsqcodec.evaluation.stills import PillowCodec
from bsqcodec.evaluation.video import PyavCodec, VideoSettings


def point(names: list[str], folder: Path | None, codec: Codec, value: float) -> Point:
    chosen = choose(names, folder, Selection())
    trials = [trial for trial in plan(chosen.items, [codec])[0] if trial.value == value]
    (curve,) = compare(run(trials).results, [], [codec]).curves
    return curve.points[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bpp", "decibels", "tolerance"),
    [
        # as many bytes, decoded better by today's libjpeg-turbo than by the published point's Pillow 7.1.2
        ("jpeg", 0.588, 29.78, 0.15),
        ("webp", 0.461, 30.94, 0.01),
    ],
)
def test_published_points_of_kodak(
    name: str, bpp: float, decibels: float, tolerance: float, data_dir: Path
) -> None:
    """Means over the 24 pictures, as CompressAI has them."""
    found = point(["kodak"], data_dir / "kodak", PillowCodec(name), 25)
    assert found.bpp == pytest.approx(bpp, abs=0.0006)
    assert found.figures[Measure.PSNR_RGB] == pytest.approx(decibels, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "crf", "bpp", "ms_ssim_db", "decibels"),
    [
        ("x264", 37, 0.0358, 10.50, 26.81),
        ("x265", 37, 0.0340, 11.21, 27.57),
        ("svt-av1", 55, 0.0440, 13.23, 29.94),
    ],
)
def test_anchors_of_the_test_clips(
    encoder: str, crf: float, bpp: float, ms_ssim_db: float, decibels: float, data_dir: Path
) -> None:
    """Means over the 5 clips, as measured apart from this code (x264 there with 3 threads)."""
    found = point([str(data_dir / "video-test")], None, PyavCodec(VideoSettings(encoder)), crf)
    assert found.bpp == pytest.approx(bpp, rel=0.04)
    assert found.figures[Measure.MS_SSIM_DB] == pytest.approx(ms_ssim_db, abs=0.15)
    assert found.figures[Measure.PSNR_RGB] == pytest.approx(decibels, abs=0.1)
