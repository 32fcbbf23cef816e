"""The video codecs and VMAF through an ffmpeg program, where there is one."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bsqcodec.errors import DependencyError, InputError
from bsqcodec.evaluation.ffmpeg import Ffmpeg, FfmpegCodec
from bsqcodec.evaluation.sources import find_items
from bsqcodec.evaluation.trial import Judges, run_trial
from bsqcodec.evaluation.video import ENCODERS, PyavCodec, Settings, VideoSettings

from .conftest import trial


@pytest.fixture(scope="module")
def program() -> Ffmpeg:
    """The ffmpeg of BSQC_TEST_FFMPEG, or the one on the path."""
    found = os.environ.get("BSQC_TEST_FFMPEG") or shutil.which("ffmpeg")
    if found is None:
        pytest.skip("no ffmpeg program here (Debian package ffmpeg, or BSQC_TEST_FFMPEG)")
    return Ffmpeg(Path(found))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gives_what_the_libraries_give(encoder: str, program: Ffmpeg, clip: Path) -> None:
    """Not the same bytes, since versions differ, but the same clip at about the same size and quality."""
    (item,) = find_items([clip])
    settings = VideoSettings(encoder, Settings.PAPER)
    ours = run_trial(trial(item, PyavCodec(settings), 35))
    theirs = run_trial(trial(item, FfmpegCodec(settings, program), 35))
    assert len(theirs.frames) == 6
    assert theirs.file_bytes == pytest.approx(ours.file_bytes, rel=0.25)
    assert theirs.frames[-1].psnr_yuv == pytest.approx(ours.frames[-1].psnr_yuv, abs=1.5)


def test_a_refusal_is_in_ffmpegs_words(program: Ffmpeg, clip: Path) -> None:
    (item,) = find_items([clip])
    codec = FfmpegCodec(VideoSettings("x264", preset="sluggish"), program)
    with pytest.raises(InputError, match=r"moving\.mp4: x264-sluggish cannot code it: ffmpeg: .*"):
        run_trial(trial(item, codec, 35))


def test_vmaf_falls_with_the_rate(program: Ffmpeg, clip: Path) -> None:
    if not program.has_vmaf():
        pytest.skip(f"{program.path} was built without libvmaf")
    (item,) = find_items([clip])
    whole = replace(item, size=(192, 128))
    trials = [trial(whole, PyavCodec(VideoSettings("x264")), crf, Judges(vmaf=program)) for crf in (15, 45)]
    good, bad = (run_trial(trial).vmaf for trial in trials)
    assert good is not None
    assert bad is not None
    assert 100 >= good > bad + 20 > 20


def test_what_is_no_ffmpeg_gets_a_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="not an ffmpeg that runs"):
        Ffmpeg(tmp_path / "nothing").version()


def test_a_missing_encoder_gets_a_clear_line(tmp_path: Path) -> None:
    poor = tmp_path / "ffmpeg"
    poor.write_text("#!/bin/sh\necho ' V..... mpeg4 MPEG-4'\n")
    poor.chmod(0o755)
    with pytest.raises(DependencyError, match="built without libx264"):
        Ffmpeg(poor).check_encoder("libx264")
